//! The built binary and its surroundings: supervisor, logs, shards, discovery files, blindness.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::support::watchpost::{PATIENCE, Watchpost, get};

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

const MODULES: &str = "modules: { open: { prober: tcp, timeout: 1s } }\n";

#[tokio::test]
async fn the_supervisor_is_told_of_readiness_reload_life_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = write(folder.path(), "w.yml", MODULES);
    let variables = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let mut watchpost = Watchpost::start_in(&config, &[], &variables);
    let heard = |wanted: &str| {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        let mut all = String::new();
        while Instant::now() < end {
            let length = supervisor.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            all.push_str(&text);
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
        panic!("never heard {wanted}, but:\n{all}");
    };
    heard("READY=1");
    heard("WATCHDOG=1");
    watchpost.signal(Signal::HUP);
    heard("RELOADING=1");
    heard("READY=1");
    watchpost.signal(Signal::TERM);
    heard("STOPPING=1");
    assert_eq!(watchpost.wait().code(), Some(0));
}

#[tokio::test]
async fn a_log_in_json_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "{MODULES}probes: [{{ name: p, module: open, interval: 200ms, targets: ['127.0.0.1:1'] }}]\n"
    );
    let config = write(folder.path(), "w.yml", &config);
    let watchpost = Watchpost::start_with(&config, &["--log.format=json"]);
    watchpost.until("probe_status", &["status=\"down\""], |v| v == 1.0).await;
    let log = watchpost.log();
    let changed = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|event| event["message"] == "status changed")
        .unwrap();
    assert_eq!(changed["reason"], "connect_refused");
    assert_eq!(changed["target"], "127.0.0.1:1");
    assert_eq!(changed["to"], "down");
}

#[tokio::test]
async fn shards_share_the_checks_without_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let targets: Vec<String> = (1..=40).map(|n| format!("127.0.0.{n}:1")).collect();
    let config = format!(
        "{MODULES}probes: [{{ name: p, module: open, interval: 1s, targets: {targets:?} }}]\n"
    );
    let config = write(folder.path(), "w.yml", &config);
    let mut seen = Vec::new();
    for shard in ["--shard=1/3", "--shard=2/3", "--shard=3/3"] {
        let watchpost = Watchpost::start_with(&config, &[shard]);
        let (_, status) = get(&watchpost.url("/api/v1/status")).await;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let checks = status["checks"].as_array().unwrap();
        seen.extend(checks.iter().map(|check| check["target"].as_str().unwrap().to_owned()));
    }
    seen.sort();
    let mut expected = targets;
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn targets_come_and_go_with_their_file() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("targets")).unwrap();
    let list = folder.path().join("targets/a.yml");
    std::fs::write(&list, "- targets:\n    # - one:1\n").unwrap();
    let config = format!(
        "{MODULES}probes: [{{ name: p, module: open, interval: 300ms, file_sd_configs: [{{ files: ['targets/*.yml'] }}] }}]\n"
    );
    let watchpost = Watchpost::start(&write(folder.path(), "w.yml", &config));
    watchpost.until("watchpost_discovery_targets", &["probe=\"p\""], |v| v == 0.0).await;
    assert_eq!(watchpost.metric("probe_success", &[]).await, None);

    let text = format!("- targets: ['{open}']\n  labels: {{ team: a, job: theirs }}\n");
    std::fs::write(&list, text).unwrap();
    let labels =
        [format!("instance=\"{open}\""), "team=\"a\"".into(), "exported_job=\"theirs\"".into()];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    watchpost.until("probe_success", &labels, |v| v == 1.0).await;

    // Half a file keeps the last good list, and says so.
    std::fs::write(&list, "- targets: ['x").unwrap();
    watchpost.until("watchpost_discovery_failed", &["probe=\"p\""], |v| v == 1.0).await;
    assert!(watchpost.metric("probe_success", &labels).await.is_some());
    assert!(
        watchpost.metric("watchpost_discovery_file_mtime_seconds", &["a.yml"]).await.unwrap() > 1e9
    );

    std::fs::write(&list, "- targets: ['127.0.0.1:1']\n").unwrap();
    watchpost.until("probe_status", &["127.0.0.1:1\"", "status=\"down\""], |v| v == 1.0).await;
    assert_eq!(watchpost.metric("probe_success", &labels).await, None, "gone at once");
}

/// A port whose queue of connections is full: packets to it vanish.
fn blackhole() -> (Vec<Socket>, std::net::SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![listener];
    for _ in 0..8 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = socket.connect_timeout(&address.into(), Duration::from_millis(200));
        held.push(socket);
        if connected.is_err() {
            break;
        }
    }
    (held, address)
}

#[tokio::test]
async fn a_blind_watchpost_accuses_nobody() {
    let (held, reference) = blackhole();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "{MODULES}references: ['{reference}']\nprobes: [{{ name: p, module: open, interval: 300ms, targets: ['{target}'] }}]\n"
    );
    let watchpost = Watchpost::start(&write(folder.path(), "w.yml", &config));
    watchpost.until("probe_status", &["status=\"up\""], |v| v == 1.0).await;
    watchpost.until("watchpost_blind", &[], |v| v == 1.0).await;
    drop(listener);
    // Measured as it is, and not believed.
    watchpost.until("probe_success", &["job=\"p\""], |v| v == 0.0).await;
    let failed = watchpost.metric("probe_runs_total", &["result=\"fail\""]).await.unwrap();
    watchpost.until("probe_runs_total", &["result=\"fail\""], |v| v > failed + 3.0).await;
    assert_eq!(
        watchpost.metric("probe_status", &["job=\"p\"", "status=\"down\""]).await,
        Some(0.0)
    );
    assert!(get(&watchpost.url("/")).await.1.contains("is blind"));
    // The reference answers again: now it counts.
    drop(held);
    watchpost.until("watchpost_blind", &[], |v| v == 0.0).await;
    watchpost.until("probe_status", &["job=\"p\"", "status=\"down\""], |v| v == 1.0).await;
}

#[tokio::test]
async fn a_changed_file_is_taken_over_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let text = |port: u16| {
        format!(
            "{MODULES}probes: [{{ name: p, module: open, interval: 1s, targets: ['127.0.0.1:{port}'] }}]\n"
        )
    };
    let config = write(folder.path(), "w.yml", &text(1));
    let arguments = ["--config.enable-auto-reload", "--config.auto-reload-interval=1"];
    let watchpost = Watchpost::start_with(&config, &arguments);
    // A look or two, so that the change is one.
    watchpost.until("probe_status", &["127.0.0.1:1\"", "status=\"down\""], |v| v == 1.0).await;
    std::fs::write(&config, text(2)).unwrap();
    watchpost.until("probe_status", &["127.0.0.1:2\"", "status=\"down\""], |v| v == 1.0).await;
}
