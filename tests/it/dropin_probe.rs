//! `/probe` and `/logs` of the built binary: statuses, order of checks, debug page, history, bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::support::peer::Peer;
use crate::support::watchpost::{PATIENCE, Watchpost, get, sample};

const MODULES: &str = "\
modules:
  http_2xx: { prober: http, timeout: 5s, http: { preferred_ip_protocol: ip4 } }
  hosted: { prober: http, http: { headers: { Host: a.example } } }
  secret: { prober: http, http: { bearer_token: hunter2 } }
  tcp: { prober: tcp, timeout: 5s }
  slow: { prober: http, timeout: 60s }
  follow: { prober: http }
  nothing:
";

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

struct Setup {
    watchpost: Watchpost,
    _folder: tempfile::TempDir,
}

fn start(extra: &str, arguments: &[&str]) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let config: PathBuf = folder.path().join("blackbox.yml");
    std::fs::write(&config, format!("{MODULES}{extra}")).unwrap();
    Setup { watchpost: Watchpost::start_with(&config, arguments), _folder: folder }
}

async fn ask(watchpost: &Watchpost, query: &str, header: Option<&str>) -> (u16, String) {
    let request = reqwest::Client::new().get(watchpost.url(&format!("/probe?{query}")));
    let request = match header {
        Some(value) => request.header("X-Prometheus-Scrape-Timeout-Seconds", value),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status != 200 {
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{query}");
    }
    (status, response.text().await.unwrap())
}

#[tokio::test]
async fn statuses_come_in_the_order_of_blackbox_exporter() {
    let peer = Peer::answering(PAGE).await;
    let target = format!("target=http://{}", peer.address);
    let setup = start("", &[]);
    let rows: [(String, Option<&str>, u16, &str); 14] = [
        ("module=absent".into(), Some("x"), 400, "Unknown module"),
        ("module=nothing".into(), Some("x"), 500, "not a number"),
        ("module=nothing".into(), None, 400, "Target parameter is missing"),
        ("module=nothing&target=a".into(), None, 400, "Unknown prober"),
        ("module=hosted&target=a&hostname=b.example".into(), None, 400, "conflicts"),
        (String::new(), None, 400, "Target parameter is missing"),
        ("target=".into(), None, 400, "Target parameter is missing"),
        (target.clone(), Some("1e400"), 500, "not a number"),
        (target.clone(), Some("1s"), 500, "not a number"),
        (target.clone(), None, 200, "probe_success 1\n"),
        (format!("module=&{target}"), Some("1"), 200, "probe_timeout_seconds 0.5\n"),
        (format!("module=slow&{target}"), Some("NaN"), 200, "probe_success 0\n"),
        (format!("module=hosted&{target}&hostname=a.example"), None, 200, "probe_success 1\n"),
        ("target=http://169.254.169.254/".into(), None, 403, "metadata"),
    ];
    for (query, header, status, text) in rows {
        let (code, body) = ask(&setup.watchpost, &query, header).await;
        assert_eq!(code, status, "{query}: {body}");
        assert!(body.contains(text) && body.ends_with('\n'), "{query}: {body}");
    }
    let unknown = setup.watchpost.metric("blackbox_module_unknown_total", &[]).await;
    assert_eq!(unknown, Some(1.0));
    let refused = ["cause=\"not_allowed\""];
    let refused = setup.watchpost.metric("watchpost_probe_requests_refused_total", &refused).await;
    assert_eq!(refused, Some(1.0));
    assert_eq!(setup.watchpost.metric("probe_success", &[]).await, None, "the board is left alone");
}

#[tokio::test]
async fn a_failure_names_its_reason_and_formats_are_negotiated() {
    let setup = start("", &[]);
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap().to_string()
    };
    let query = format!("module=tcp&target={closed}");
    let (code, page) = ask(&setup.watchpost, &query, None).await;
    assert_eq!(code, 200);
    let labels = ["reason=\"connect_refused\"", "phase=\"connect\""];
    assert_eq!(sample(&page, "probe_failure_info", &labels), Some(1.0), "{page}");
    assert_eq!(sample(&page, "probe_timeout_seconds", &[]), Some(5.0));
    let url = setup.watchpost.url(&format!("/probe?{query}"));
    let client = reqwest::Client::new();
    let plain = client.post(&url).send().await.unwrap();
    let kind = plain.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let open = client.get(&url).header("Accept", "application/openmetrics-text;version=1.0.0");
    let open = open.header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(open.headers()["content-encoding"], "gzip");
    assert!(open.headers()["content-type"].to_str().unwrap().contains("openmetrics"));
}

#[tokio::test]
async fn targets_are_decoded_as_often_as_they_were_encoded() {
    let peer = Peer::answering(PAGE).await;
    let port = peer.address.port();
    let setup = start("", &[]);
    for target in [
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1%253A{port}"),
        format!("http://127.0.0.1:{port}/x%3Ay"),
        format!("http%3A%2F%2F127.0.0.1%3A{port}%2Fa"),
        format!("http%253A%252F%252F127.0.0.1%253A{port}%252Fa"),
    ] {
        let (_, page) = ask(&setup.watchpost, &format!("target={target}"), None).await;
        assert_eq!(sample(&page, "probe_success", &[]), Some(1.0), "{target}: {page}");
    }
}

#[tokio::test]
async fn the_debug_page_has_three_parts_and_no_secret() {
    let peer = Peer::answering(PAGE).await;
    let setup = start("", &[]);
    let query = format!("module=secret&debug=true&target=http://{}", peer.address);
    let (code, page) = ask(&setup.watchpost, &query, None).await;
    assert_eq!(code, 200);
    let parts: Vec<&str> = page.split("\n\n\n\n").collect();
    assert_eq!(parts.len(), 3, "{page}");
    assert!(parts[0].starts_with("Logs for the probe:\ntime="), "{page}");
    assert!(parts[1].starts_with("Metrics that would have been returned:\n# HELP"), "{page}");
    assert!(parts[2].starts_with("Module configuration:\n"), "{page}");
    assert!(page.contains("<secret>") && !page.contains("hunter2"), "{page}");
    let query = format!("module=tcp&debug=true&hostname=mx.example&target={}", peer.address);
    let (_, page) = ask(&setup.watchpost, &query, None).await;
    assert!(page.contains("server_name: \"mx.example\""), "{page}");

    let quiet = start("", &["--log.prober=error"]);
    let (_, page) = ask(&quiet.watchpost, &query, None).await;
    assert!(page.starts_with("Logs for the probe:\n\n\n\nMetrics"), "{page}");
}

#[tokio::test]
async fn the_history_is_shown_and_looked_up() {
    let peer = Peer::answering(PAGE).await;
    let setup = start("", &["--history.limit=2"]);
    let target = peer.address.to_string();
    ask(&setup.watchpost, "module=tcp&target=<b>evil</b>:1x", None).await;
    for _ in 0..4 {
        ask(&setup.watchpost, &format!("module=tcp&target={target}"), None).await;
    }
    let url = |query: &str| setup.watchpost.url(&format!("/logs{query}"));
    let matrix = [
        (String::new(), 400),
        ("?id=x".to_owned(), 400),
        ("?id=-1".to_owned(), 400),
        ("?module=tcp".to_owned(), 400),
        ("?id=0&module=tcp".to_owned(), 400),
        (format!("?id=0&target={target}"), 400),
        (format!("?id=x&target={target}"), 200),
        (format!("?target={target}"), 200),
        (format!("?target={target}&module=tcp"), 200),
        (format!("?target={target}&module=http_2xx"), 404),
        ("?target=absent".to_owned(), 404),
        ("?id=99".to_owned(), 404),
        ("?id=1".to_owned(), 404),
        ("?id=4".to_owned(), 200),
        ("?id=0".to_owned(), 200),
    ];
    for (query, status) in matrix {
        assert_eq!(get(&url(&query)).await.0, status, "{query}");
    }
    assert!(get(&url("?id=0")).await.1.contains("Module configuration:"));
    let page = get(&setup.watchpost.url("/")).await.1;
    assert!(page.contains("logs?id=0") && page.contains("logs?id=4"), "{page}");
    assert!(page.contains("&lt;b&gt;evil") && !page.contains("<b>evil"), "{page}");
}

#[tokio::test]
async fn only_what_is_allowed_is_asked_also_after_a_redirect() {
    let inner = Peer::answering(PAGE).await;
    let to = inner.address;
    let redirecting = Peer::new(move |mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut asked = [0; 4096];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        let text = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{to}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.ok();
    })
    .await;
    let allowed = redirecting.address;
    let extra = format!("watchpost: {{ probe_allow: ['{allowed}'] }}\n");
    let setup = start(&extra, &[]);
    let (code, text) = ask(&setup.watchpost, &format!("target={to}"), None).await;
    assert_eq!(code, 403, "{text}");
    let query = format!("module=follow&target=http://{allowed}/");
    let (code, page) = ask(&setup.watchpost, &query, None).await;
    assert_eq!(code, 200);
    let labels = ["reason=\"not_allowed\""];
    assert_eq!(sample(&page, "probe_failure_info", &labels), Some(1.0), "{page}");
    assert_eq!(inner.accepted(), 0, "it was never asked");
}

#[tokio::test]
async fn a_run_ends_when_whoever_asked_goes_away() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = start("", &[]);
    let url = setup
        .watchpost
        .url(&format!("/probe?module=slow&target=http://{}/", silent.local_addr().unwrap()));
    let client = reqwest::Client::new();
    let asking = client.get(url).timeout(Duration::from_secs(1)).send();
    assert!(asking.await.unwrap_err().is_timeout());
    let began = Instant::now();
    setup.watchpost.until("watchpost_probe_requests_in_flight", &[], |v| v == 0.0).await;
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn ten_thousand_requests_to_a_hanging_target_are_bounded() {
    const REQUESTS: usize = 10_000;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = start("", &["--probe.max-in-flight=50"]);
    let url = setup
        .watchpost
        .url(&format!("/probe?module=slow&target=http://{}/", silent.local_addr().unwrap()));
    // A header says 4: the fifty that run end by themselves.
    let client = reqwest::Client::new();
    let doors = Arc::new(tokio::sync::Semaphore::new(300));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        let (client, url, doors) = (client.clone(), url.clone(), Arc::clone(&doors));
        asking.spawn(async move {
            let _door = doors.acquire_owned().await.unwrap();
            let request = client.get(url).header("X-Prometheus-Scrape-Timeout-Seconds", "4");
            let response = request.timeout(PATIENCE).send().await.unwrap();
            let retry = response.headers().contains_key("retry-after");
            (response.status().as_u16(), retry)
        });
    }
    setup.watchpost.until("watchpost_probe_requests_in_flight", &[], |v| v == 50.0).await;
    let began = Instant::now();
    assert_eq!(get(&setup.watchpost.url("/metrics")).await.0, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let (mut run, mut refused) = (0, 0);
    while let Some(answer) = asking.join_next().await {
        match answer.unwrap() {
            (200, _) => run += 1,
            (503, true) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(run + refused, REQUESTS);
    assert!(run >= 50 && refused > 0, "{run} {refused}");
    assert_eq!(setup.watchpost.metric("watchpost_probe_requests_in_flight", &[]).await, Some(0.0));
}
