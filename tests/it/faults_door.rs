//! What comes to the doors for beats and is none: garbage, replays, brute force, slow clients.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::watchpost::{Watchpost, get, sample};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";
const POST_ONLY: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f12";
const KEY: &str = "an-opaque-key-0123456789";

fn config(folder: &Path) -> PathBuf {
    let path = folder.join("w.yml");
    let text = format!(
        "watchpost: {{ id: here }}\n\
         receivers:\n  - {{ name: oncall, webhook: {{ url: 'http://127.0.0.1:9/' }} }}\n\
         deadman:\n\
         \x20 - {{ name: backup, interval: 1h, uuid: {UUID}, key: {KEY}, notify: [oncall] }}\n\
         \x20 - {{ name: posted, interval: 1h, uuid: {POST_ONLY}, methods: [POST], notify: [oncall] }}\n\
         \x20 - name: alerting\n    watchdog: {{ source_label: prometheus, sources: [a, b], max_age: 5m }}\n    \
         key: {KEY}\n    notify: [oncall]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(folder: &Path) -> Watchpost {
    let storage = format!("--storage.path={}", folder.join("book").display());
    Watchpost::start_with(&config(folder), &[&storage])
}

fn alert(source: &str, clock: Option<f64>) -> Value {
    let clocks = clock.map_or_else(String::new, |clock| format!("here={clock:.3}"));
    json!({
        "status": "firing", "labels": { "alertname": "Watchdog", "prometheus": source },
        "annotations": { "clocks": clocks }, "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "f"
    })
}

fn resolved(source: &str, ended: &str) -> Value {
    let mut alert = alert(source, None);
    alert["status"] = json!("resolved");
    alert["endsAt"] = json!(ended);
    alert
}

fn webhook(alerts: &[Value], truncated: u64) -> Vec<u8> {
    json!({
        "version": "4", "groupKey": "g", "status": "firing", "receiver": "r",
        "truncatedAlerts": truncated, "groupLabels": {}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "", "alerts": alerts,
    })
    .to_string()
    .into_bytes()
}

async fn send(watchpost: &Watchpost, body: Vec<u8>, encoding: Option<&str>) -> (u16, String) {
    let url = watchpost.url("/alertmanager/alerting");
    let mut request = reqwest::Client::new().post(url).bearer_auth(KEY).body(body);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap().trim().to_owned())
}

async fn issued(watchpost: &Watchpost) -> f64 {
    // A value is given out once a second at most.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sample(&get(&watchpost.url("/metrics")).await.1, "watchpost_clock_seconds", &[]).unwrap()
}

async fn evidence(watchpost: &Watchpost, source: &str) -> Option<f64> {
    let labels = [&*format!("source=\"{source}\"")];
    watchpost.metric("watchpost_watchdog_evidence_timestamp_seconds", &labels).await
}

/// Double delivery, an older one after a newer one, an old body kept for later: none of them moves anything.
#[tokio::test(flavor = "multi_thread")]
async fn f9_doubles_latecomers_and_replays_are_told_apart_and_move_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    let (older, newer) = (issued(&watchpost).await, issued(&watchpost).await);
    assert!(older < newer);
    let body = |clock| webhook(&[alert("a", Some(clock))], 0);
    assert_eq!(send(&watchpost, body(newer), None).await, (200, "fresh".into()));
    let family = "watchpost_watchdog_evidence_timestamp_seconds";
    let proven = watchpost.until(family, &["source=\"a\""], |_| true).await;
    assert_eq!(send(&watchpost, body(newer), None).await, (200, "duplicate".into()));
    assert_eq!(send(&watchpost, body(older), None).await, (200, "replayed".into()));
    assert_eq!(send(&watchpost, body(newer - 86_400.0), None).await, (200, "foreign_clock".into()));
    assert_eq!(send(&watchpost, body(newer + 600.0), None).await, (200, "foreign_clock".into()));
    let after = evidence(&watchpost, "a").await.unwrap();
    assert!((after - proven).abs() < 0.1, "{proven} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_garbage_is_no_beat_and_has_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    let clock = issued(&watchpost).await;
    let gzip = {
        use std::io::Write as _;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&webhook(&[alert("a", Some(clock))], 0)).unwrap();
        packed.finish().unwrap()
    };
    let deep = format!("{{\"version\":\"4\",\"alerts\":{}", "[".repeat(50_000)).into_bytes();
    let mut foreign = alert("a", Some(clock));
    foreign["labels"]["alertname"] = json!("InstanceDown");
    let rows = [
        ("gzip", gzip, Some("gzip"), 400, "malformed"),
        ("invalid UTF-8", b"{\"version\":\"\xff\xfe\"}".to_vec(), None, 400, "malformed"),
        ("deep JSON", deep, None, 400, "foreign_payload"),
        ("nothing", Vec::new(), None, 400, "malformed"),
        (
            "custom payload",
            br#"{"text":"Watchdog is firing"}"#.to_vec(),
            None,
            400,
            "foreign_payload",
        ),
        ("version 3", br#"{"version":"3","alerts":[]}"#.to_vec(), None, 400, "foreign_payload"),
        ("wrong receiver", webhook(&[foreign.clone()], 0), None, 200, "foreign_alert"),
        (
            "resolved only",
            webhook(&[resolved("a", "2026-01-01T00:05:00Z")], 0),
            None,
            200,
            "resolved",
        ),
        ("nobody listed", webhook(&[alert("z", Some(clock))], 0), None, 200, "unknown_source"),
        ("not scraped", webhook(&[alert("a", None)], 0), None, 200, "not_scraped"),
    ];
    for (name, body, encoding, code, word) in rows {
        let (got, text) = send(&watchpost, body, encoding).await;
        assert_eq!(got, code, "{name}: {text}");
        let labels = [&*format!("result=\"{word}\""), "alerting"];
        let count = watchpost.metric("watchpost_deadman_beats_total", &labels).await;
        assert!(count.unwrap_or_default() >= 1.0, "{name}: {word} is counted, {text}");
        assert_eq!(evidence(&watchpost, "a").await, None, "{name} is no evidence");
    }
    let (code, _) = send(&watchpost, vec![b' '; 10 << 20], None).await;
    assert_eq!(code, 413, "10 MB");
    // What counts in a mixed or a cut group counts, and the rest is said.
    let mixed =
        webhook(&[foreign, resolved("b", "2026-01-01T00:06:00Z"), alert("a", Some(clock))], 7);
    let (code, text) = send(&watchpost, mixed, None).await;
    assert_eq!((code, text.as_str()), (200, "truncated foreign_alert resolved fresh"));
    watchpost
        .until("watchpost_watchdog_evidence_timestamp_seconds", &["source=\"a\""], |_| true)
        .await;
    assert_eq!(evidence(&watchpost, "b").await, None);
}

/// A body that comes drop by drop is given up, and holds nobody else up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_slow_client_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    let mut slow = Vec::new();
    for path in [format!("/ping/{UUID}"), "/alertmanager/alerting".to_owned()] {
        let mut stream = TcpStream::connect(&watchpost.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 1000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(get(&watchpost.url(&format!("/ping/{UUID}"))).await.0, 200);
    for mut stream in slow {
        let mut answer = vec![0; 12];
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut answer));
        read.await.unwrap().unwrap();
        assert_eq!(answer, b"HTTP/1.1 408");
    }
}

/// Whoever guesses is answered before a body is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn f26_a_guess_costs_no_body() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    let asked = std::time::Instant::now();
    let mut stream = TcpStream::connect(&watchpost.address).await.unwrap();
    let path = "/ping/c5d1f1e0-8b67-4c5f-9d43-000000000001";
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 404");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

/// Whoever connects and says nothing, or never ends what they say, does not keep a place.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_client_that_asks_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    // Whoever has asked may ask again at the next interval of ten seconds on the same connection.
    let mut kept = TcpStream::connect(&watchpost.address).await.unwrap();
    let ask = b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";
    kept.write_all(ask).await.unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.unwrap();
    let mut silent = Vec::new();
    for said in [
        "",
        "P",
        "PRI * HTTP/2",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n",
    ] {
        let mut stream = TcpStream::connect(&watchpost.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        silent.push((said, stream));
    }
    for (said, mut stream) in silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(40), stream.read_to_end(&mut rest));
        assert!(ended.await.is_ok(), "{said:?} keeps its place");
    }
    kept.write_all(ask).await.unwrap();
    let mut rest = Vec::new();
    while !rest.windows(answer.len()).any(|part| part == answer) {
        assert_ne!(kept.read_buf(&mut rest).await.unwrap(), 0, "it was closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f26_whoever_guesses_learns_nothing_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    let last_beat = "watchpost_deadman_last_beat_timestamp_seconds";
    let client = reqwest::Client::new();
    let mut answers = std::collections::BTreeSet::new();
    for guess in 0..300 {
        let paths = [
            format!("/ping/c5d1f1e0-8b67-4c5f-9d43-{guess:012}"),
            format!("/ping/a-guessed-key-{guess:010}/backup"),
            format!("/ping/{KEY}/no-such-switch-{guess}"),
            format!("/ping/{KEY}/alerting"),
        ];
        let answer = client.get(watchpost.url(&paths[guess % paths.len()])).send().await.unwrap();
        let mut headers = answer.headers().clone();
        headers.remove("date");
        let status = answer.status().as_u16();
        answers.insert(format!("{status} {headers:?} {}", answer.text().await.unwrap()));
    }
    assert_eq!(answers.len(), 1, "they all look alike: {answers:?}");
    assert!(answers.first().unwrap().starts_with("404 "));
    let refused = watchpost.metric("watchpost_deadman_refused_total", &["not_found"]).await;
    assert_eq!(refused, Some(300.0));
    for _ in 0..20 {
        let guess = client.post(watchpost.url("/alertmanager/alerting")).bearer_auth("guess");
        assert_eq!(guess.send().await.unwrap().status().as_u16(), 401);
    }
    let labels = ["alerting", "result=\"unauthorised\""];
    assert_eq!(watchpost.metric("watchpost_deadman_beats_total", &labels).await, Some(20.0));

    // A crawler, or the preview of a link in a chat.
    assert_eq!(get(&watchpost.url(&format!("/ping/{POST_ONLY}/fail"))).await.0, 200);
    assert_eq!(get(&watchpost.url("/alertmanager/alerting")).await.0, 405);
    let ignored = ["posted", "result=\"ignored\""];
    assert_eq!(watchpost.metric("watchpost_deadman_beats_total", &ignored).await, Some(1.0));
    assert_eq!(watchpost.metric(last_beat, &[]).await, None, "nothing has beaten");
    let labels = ["job=\"posted\"", "status=\"down\""];
    assert_eq!(watchpost.metric("probe_status", &labels).await, Some(0.0));
    assert_eq!(get(&watchpost.url(&format!("/ping/{KEY}/backup"))).await.0, 200);
    watchpost.until(last_beat, &["deadman=\"backup\""], |_| true).await;
}

/// No secret that somebody presents is compared byte by byte: it goes through [`Key::matches`], which compares digests
/// to their end.
#[test]
fn f26_keys_are_compared_in_constant_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/deadman");
    let text = std::fs::read_to_string(root.join("key.rs")).unwrap();
    let body = text.split("pub fn matches").nth(1).unwrap().split("\n    }\n").next().unwrap();
    for part in ["Sha256::digest(presented)", "fold(0_u8", "all | (a ^ b)", "black_box"] {
        assert!(body.contains(part), "{part} is gone from {body}");
    }
    assert!(!body.contains("self.0 =="), "{body}");
    let board = std::fs::read_to_string(root.join("switchboard.rs")).unwrap();
    assert_eq!(board.matches("matches(key.as_bytes())").count(), 1, "the door of pings");
    assert_eq!(board.matches("key.matches(presented)").count(), 1, "the door of watchdogs");
    assert!(!board.contains("reveal()"), "the switchboard never sees a key in the clear");
}

/// An answer is read only after all of the body was sent, as by a client that does not look up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_before_the_end_of_the_body_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path());
    let rows = [
        ("/alertmanager/alerting".to_owned(), " 401 "),
        ("/ping/nonsense".to_owned(), " 400 "),
        (format!("/ping/{UUID}"), " 413 "),
        ("/".to_owned(), " 405 "),
    ];
    for (path, code) in rows {
        let mut stream = TcpStream::connect(&watchpost.address).await.unwrap();
        let length = 10 << 20;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut answer = vec![0; 64];
        let taken = stream.read(&mut answer).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        let answer = String::from_utf8_lossy(&answer[..taken]).into_owned();
        assert!(answer.contains(code), "{path}: {answer}");
    }
}
