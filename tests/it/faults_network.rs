//! Ways that are not there yet, speak only IPv6, or show a certificate that has expired.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::notify_delivery::until;
use crate::support::certs::{Authority, Leaf};
use crate::support::fakes::{Fake, Reply};
use crate::support::peer::{Peer, Tls};
use crate::support::watchpost::{Watchpost, get};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";

fn write(folder: &Path, receivers: &str) -> PathBuf {
    let path = folder.join("w.yml");
    let text = format!(
        "watchpost: {{ id: here }}\nreceivers:\n{receivers}\
         deadman:\n  - {{ name: backup, interval: 1h, uuid: {UUID}, notify: [oncall] }}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(config: &Path, more: &[&str]) -> Watchpost {
    let storage = format!("--storage.path={}", config.parent().unwrap().join("book").display());
    let arguments: Vec<&str> = std::iter::once(&*storage).chain(more.iter().copied()).collect();
    Watchpost::start_with(config, &arguments)
}

/// A pager on a listener of the caller's choice, which counts what it takes.
fn serve(listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    drop(tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut part = [0; 4096];
                match stream.read(&mut part).await {
                    Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                    _ => break,
                }
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let body = json!({ "status": "success", "dedup_key": "x" }).to_string();
            let answer = format!(
                "HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.ok();
        }
    }));
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn f27_a_pager_that_speaks_only_ipv6_is_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: no IPv6 on loopback");
        return;
    };
    let url = format!("http://{}/v2/enqueue", listener.local_addr().unwrap());
    let count = serve(listener);
    let folder = tempfile::tempdir().unwrap();
    let receivers =
        format!("  - {{ name: oncall, pagerduty: {{ routing_key: k1, url: '{url}' }} }}\n");
    let watchpost = start(&write(folder.path(), &receivers), &[]);
    assert_eq!(get(&watchpost.url(&format!("/ping/{UUID}/fail"))).await.0, 200);
    until("a page", || count.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f27_a_pager_with_an_expired_certificate_is_told_of_through_the_fallback() {
    let authority = Authority::root("F27");
    let leaf = Leaf { days: (-10, -2), names: &["localhost", "127.0.0.1"], ..Leaf::default() };
    let peer = Peer::tls(Tls::new(authority.leaf(&leaf))).await;
    let hook = Fake::start(|_| Reply::text(200, "")).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let receivers = format!(
        "  - name: oncall\n    fallback: second\n    fallback_after: 1s\n    ca_file: {}\n    \
         pagerduty: {{ routing_key: k1, url: 'https://localhost:{}/v2/enqueue' }}\n  \
         - {{ name: second, webhook: {{ url: '{}' }} }}\n",
        folder.path().join("ca.pem").display(),
        peer.address.port(),
        hook.url
    );
    let watchpost = start(&write(folder.path(), &receivers), &[]);
    assert_eq!(get(&watchpost.url(&format!("/ping/{UUID}/fail"))).await.0, 200);
    until("the fallback", || hook.count() >= 1).await;
    let text = hook.ledger()[0].json()["text"].as_str().unwrap().to_lowercase();
    assert!(text.contains("oncall could not deliver"), "{text}");
    assert!(text.contains("expired"), "it says why: {text}");
}

/// Our own door: only on IPv6, and its certificate has expired. The peer that watches it says so.
#[tokio::test(flavor = "multi_thread")]
async fn f27_an_expired_certificate_of_our_own_is_seen_by_the_peer() {
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: no IPv6 on loopback");
        return;
    };
    let door = free.local_addr().unwrap();
    drop(free);
    let authority = Authority::root("F27");
    let leaf = Leaf { days: (-10, -2), names: &["localhost", "::1"], ..Leaf::default() };
    let shown = authority.leaf(&leaf);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (file("cert.pem", &shown.pem), file("key.pem", &shown.key_pem));
    let ca = file("ca.pem", &authority.pem());
    let web = file(
        "web.yml",
        &format!("tls_server_config: {{ cert_file: '{cert}', key_file: '{key}' }}\n"),
    );
    let receivers = "  - { name: oncall, webhook: { url: 'http://127.0.0.1:9/' } }\n";
    let config = write(folder.path(), receivers);
    let more = [format!("--web.config.file={web}"), format!("--beats.listen-address={door}")];
    let _ours = start(&config, &more.each_ref().map(String::as_str));

    let peer = tempfile::tempdir().unwrap();
    let text = format!(
        "modules:\n  door: {{ prober: http, timeout: 5s, http: {{ tls_config: {{ ca_file: '{ca}' }} }} }}\n\
         probes:\n  - {{ name: receiver, module: door, interval: 200ms, targets: ['https://{door}/ping/{UUID}/log'] }}\n"
    );
    let path = peer.path().join("w.yml");
    std::fs::write(&path, text).unwrap();
    let peer = Watchpost::start(&path);
    let expired = ["reason=\"cert_expired\""];
    peer.until("probe_failure_info", &expired, |v| v == 1.0).await;
}

/// The pager's port is dead at the start, as before the network is up, and comes to life later.
#[tokio::test(flavor = "multi_thread")]
async fn f28_a_pager_that_is_not_there_at_the_start_is_told_when_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let receivers = format!(
        "  - {{ name: oncall, pagerduty: {{ routing_key: k1, url: 'http://{address}/v2/enqueue' }} }}\n"
    );
    let watchpost = start(&write(folder.path(), &receivers), &[]);
    assert_eq!(get(&watchpost.url(&format!("/ping/{UUID}/fail"))).await.0, 200);
    let retried = ["oncall", "result=\"retry\""];
    watchpost.until("watchpost_deliveries_total", &retried, |v| v >= 1.0).await;
    let count = serve(TcpListener::bind(address).await.unwrap());
    let end = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < end, "{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
