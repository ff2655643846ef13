//! The built binary: start, probe, scrape, reload, signals, exit codes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use crate::support::watchpost::{PATIENCE, Watchpost, get, run, run_in};

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn tcp_probe(interval: &str, targets: &[String]) -> String {
    format!(
        "modules: {{ open: {{ prober: tcp }} }}\nprobes:\n  - name: ports\n    module: open\n    interval: {interval}\n    targets: {targets:?}\n"
    )
}

#[tokio::test]
async fn results_are_on_the_page_in_metrics_and_in_the_api() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap().to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let config =
        write(folder.path(), "w.yml", &tcp_probe("200ms", &[open.clone(), closed.clone()]));
    let watchpost = Watchpost::start(&config);
    let up = format!("instance=\"{open}\"");
    let down = format!("instance=\"{closed}\"");
    watchpost.until("probe_success", &[&up], |v| v == 1.0).await;
    watchpost.until("probe_status", &[&down, "status=\"down\""], |v| v == 1.0).await;
    let info = ["reason=\"connect_refused\"", "phase=\"connect\"", &down];
    watchpost.until("probe_failure_info", &info, |v| v == 1.0).await;
    watchpost.until("probe_runs_total", &[&up, "result=\"pass\""], |v| v > 3.0).await;
    let (_, page) = get(&watchpost.url("/")).await;
    assert!(page.contains("connect_refused") && page.contains(&closed), "{page}");
    assert!(page.contains("No heartbeat"), "{page}");
    let (_, status) = get(&watchpost.url("/api/v1/status?status=down")).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["checks"].as_array().unwrap().len(), 1);
    assert_eq!(status["checks"][0]["reason"], "connect_refused");
    assert_eq!(status["checks"][0]["phase"], "connect");
    // A word that nobody knows is not answered with a list that says that all is well.
    for (query, wanted, said) in [
        (
            "status?status=nonsense",
            400,
            "expected one of `up`, `degraded`, `down`, `unknown`, `paused`",
        ),
        ("status?status=", 400, "expected one of"),
        ("status?state=down", 400, "expected `probe` or `status`"),
        ("status?probe=nonsense", 404, "there is no probe \"nonsense\""),
        ("changes?status=down", 400, "unknown field `status`"),
        ("pauses?probe=ports", 400, "unknown field `probe`"),
        ("deadman?name=x", 400, "unknown field `name`"),
        ("notifications?receiver=x", 400, "unknown field `receiver`"),
        ("status?probe=ports&status=down", 200, "connect_refused"),
    ] {
        let (code, text) = get(&watchpost.url(&format!("/api/v1/{query}"))).await;
        assert_eq!(code, wanted, "{query}: {text}");
        assert!(text.contains(said), "{query}: {text}");
    }
    let (_, changes) = get(&watchpost.url("/api/v1/changes")).await;
    assert!(changes.contains("\"to\":\"down\""), "{changes}");
    assert!(watchpost.log().contains("status changed"), "{}", watchpost.log());
    drop(listener);
    watchpost.until("probe_success", &[&up], |v| v == 0.0).await;
}

#[tokio::test]
async fn a_name_server_that_is_gone_accuses_no_target() {
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    gone.connect("127.0.0.1:9").unwrap();
    let server = gone.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "modules:\n  open: {{ prober: tcp, resolver: {{ servers: ['{server}'], use_hosts_file: false }} }}\n\
         probes:\n  - {{ name: ports, module: open, interval: 200ms, targets: ['a.test:1'] }}\n"
    );
    let watchpost = Watchpost::start(&write(folder.path(), "w.yml", &text));
    let runs = "probe_runs_total";
    watchpost.until(runs, &["result=\"unknown\""], |count| count > 3.0).await;
    assert_eq!(watchpost.metric(runs, &["result=\"fail\""]).await, Some(0.0));
    watchpost.until("probe_status", &["status=\"unknown\""], |on| on == 1.0).await;
    assert_eq!(watchpost.metric("probe_status", &["status=\"down\""]).await, Some(0.0));
    let why = ["reason=\"no_resolver\"", "phase=\"resolve\""];
    assert_eq!(watchpost.metric("probe_failure_info", &why).await, Some(1.0));
    let asked = get(&watchpost.url("/probe?module=open&target=a.test:1")).await;
    assert!(asked.1.contains("\nprobe_success 0\n") && asked.1.contains(why[0]), "{asked:?}");
}

#[tokio::test]
async fn a_scrape_never_waits_for_a_probe() {
    // Accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let targets: Vec<String> = (0..300).map(|n| format!("http://{address}/{n}")).collect();
    let text = format!(
        "modules: {{ page: {{ prober: http, timeout: 20s }} }}\nprobes:\n  - name: hang\n    module: page\n    interval: 20s\n    targets: {targets:?}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let watchpost = Watchpost::start(&write(folder.path(), "w.yml", &text));
    watchpost.until("watchpost_runs_in_flight", &[], |v| v > 20.0).await;
    let began = Instant::now();
    let (code, _) = get(&watchpost.url("/metrics")).await;
    assert_eq!(code, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_reload_applies_the_difference_and_a_bad_file_changes_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let config =
        write(folder.path(), "w.yml", &tcp_probe("200ms", &[open.clone(), "127.0.0.1:1".into()]));
    let watchpost = Watchpost::start(&config);
    let kept = format!("instance=\"{open}\"");
    let before =
        watchpost.until("probe_runs_total", &[&kept, "result=\"pass\""], |v| v > 3.0).await;
    let client = reqwest::Client::new();
    let reload = || client.post(watchpost.url("/-/reload")).send();

    std::fs::write(&config, "modules: { open: { prober: tpc } }\n").unwrap();
    let refused = reload().await.unwrap();
    assert_eq!(refused.status(), 500);
    let text = refused.text().await.unwrap();
    assert!(text.contains("w.yml:1") && text.contains("tpc"), "{text}");
    assert_eq!(watchpost.metric("watchpost_config_last_reload_successful", &[]).await, Some(0.0));
    assert!(watchpost.metric("probe_success", &["127.0.0.1:1"]).await.is_some());

    write(folder.path(), "w.yml", &tcp_probe("200ms", &[open.clone(), "127.0.0.1:2".into()]));
    assert_eq!(reload().await.unwrap().status(), 200);
    watchpost.until("probe_status", &["127.0.0.1:2\"", "status=\"down\""], |v| v == 1.0).await;
    assert_eq!(
        watchpost.metric("probe_success", &["127.0.0.1:1\""]).await,
        None,
        "removed at once"
    );
    let after = watchpost.metric("probe_runs_total", &[&kept, "result=\"pass\""]).await.unwrap();
    assert!(after >= before, "counters are kept: {before} -> {after}");

    write(folder.path(), "w.yml", &tcp_probe("200ms", &[open, "127.0.0.1:3".into()]));
    watchpost.signal(Signal::HUP);
    watchpost.until("probe_status", &["127.0.0.1:3\"", "status=\"down\""], |v| v == 1.0).await;
    assert_eq!(client.get(watchpost.url("/-/reload")).send().await.unwrap().status(), 405);
}

/// A start may take long, as while another process has the book: what changes meanwhile is not missed.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_the_book_is_waited_for_is_read() {
    for (flag, signal) in
        [("--config.enable-auto-reload", None), ("--log.level=info", Some(Signal::HUP))]
    {
        let folder = tempfile::tempdir().unwrap();
        let storage = format!("--storage.path={}", folder.path().join("book").display());
        let config = write(folder.path(), "w.yml", &tcp_probe("1s", &["127.0.0.1:1".into()]));
        let mut first = Watchpost::start_with(&config, &[&storage]);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
        command.arg(format!("--config.file={}", config.display())).args([&storage, flag]);
        command.arg(format!("--web.listen-address={free}"));
        command.args(["--config.auto-reload-interval=1"]);
        let second = tokio::task::spawn_blocking(move || Watchpost::spawn(&mut command));
        let ready = format!("http://{free}/-/ready");
        let is_waiting = async || reqwest::get(&ready).await.is_ok_and(|a| a.status() == 503);
        let end = Instant::now() + PATIENCE;
        while !is_waiting().await {
            assert!(Instant::now() < end, "it does not wait for the book");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        write(folder.path(), "w.yml", &tcp_probe("1s", &["127.0.0.1:2".into()]));
        if let Some(signal) = signal {
            let id = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
                let path = entry.unwrap().path();
                let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
                let id = path.file_name()?.to_str()?.parse().ok()?;
                line.contains(&free.to_string()).then_some(id)
            });
            kill_process(Pid::from_raw(id.unwrap()).unwrap(), signal).unwrap();
        }
        first.signal(Signal::TERM);
        first.wait();
        let second = second.await.unwrap();
        second.until("probe_status", &["127.0.0.1:2\"", "status=\"down\""], |v| v == 1.0).await;
    }
}

#[tokio::test]
async fn a_stop_is_orderly() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(folder.path(), "w.yml", &tcp_probe("1s", &["127.0.0.1:1".into()]));
    let mut watchpost = Watchpost::start(&config);
    assert_eq!(get(&watchpost.url("/-/healthy")).await, (200, "Healthy".into()));
    assert_eq!(get(&watchpost.url("/-/ready")).await.0, 200);
    assert_eq!(get(&watchpost.url("/nowhere")).await.0, 404);
    watchpost.signal(Signal::TERM);
    assert_eq!(watchpost.wait().code(), Some(0), "{}", watchpost.log());
    assert!(watchpost.log().contains("msg=stopped"), "{}", watchpost.log());
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let config = write(folder.path(), "w.yml", &tcp_probe("1s", &["127.0.0.1:1".into()]));
    let config = format!("--config.file={}", config.display());
    let (code, _, errors) = run(&[&config, &format!("--web.listen-address={address}")]);
    assert_eq!(code, 1);
    assert!(errors.contains(&address), "{errors}");
}

#[test]
fn check_config_says_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write(folder.path(), "bad.yml", "modules: { a: { prober: htpp } }\nprobs: []\n");
    let (code, _, errors) = run(&["check-config", bad.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(errors.contains("bad.yml:1:") && errors.contains("bad.yml:2:1"), "{errors}");
    assert!(errors.contains("2 errors"), "{errors}");
    let (code, output, _) = run(&["check-config", "probes"]);
    assert_eq!(code, 0);
    assert!(output.starts_with("configuration is good"), "{output}");
    let (code, output, _) = run(&["check-config", "tests/cases/config/good/reference.yml"]);
    assert_eq!(code, 0);
    let first = output.lines().next().unwrap();
    for section in ["probes", "reference", "receivers", "dead man's switches", "1 heartbeat"] {
        assert!(first.contains(section), "{section}: {first}");
    }
    // What it is to be run with changes whether it is run at all.
    let reference = "tests/cases/config/good/reference.yml";
    let refusal = "deadman and heartbeats need --storage.path";
    for (flags, refused) in [
        (&[][..], true),
        (&["--storage.path=/var/lib/watchpost"], false),
        (&["--shard=1/2"], true),
        (&["--shard=2/2"], false),
    ] {
        let (code, output, errors) = run(&[&["check-config", reference], flags].concat());
        assert_eq!((code, output.contains(refusal)), (0, refused), "{flags:?} {output}{errors}");
        let file = format!("--config.file={reference}");
        let (code, _, errors) = run(&[&["--config.check", &*file], flags].concat());
        assert_eq!((code, errors.contains(refusal)), (i32::from(refused), refused), "{flags:?}");
    }
    let (code, ..) = run(&["--config.check", "--config.file=/nonexistent.yml"]);
    assert_eq!(code, 1);
}

#[tokio::test]
async fn probe_explains_and_its_exit_code_tells() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let (code, output, _) = tokio::task::spawn_blocking({
        let open = open.clone();
        move || run(&["probe", &open])
    })
    .await
    .unwrap();
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("PASS") && output.contains("connect"), "{output}");
    drop(listener);
    let (code, output, _) = run(&["probe", &open, "--output", "json"]);
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(json["reason"], "connect_refused");
    let (code, output, _) = run(&["probe", &open, "--output=metrics"]);
    assert_eq!(code, 1);
    assert!(output.contains("\nprobe_success 0\n"), "{output}");
    assert_eq!(run(&["probe"]).0, 2);
}

#[test]
fn init_writes_what_can_be_run() {
    let folder = tempfile::tempdir().unwrap();
    let (code, output, errors) =
        run_in(folder.path(), &["init", "127.0.0.1:1", "http://127.0.0.1:1/x"]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("wrote watchpost.yml"), "{output}");
    let (code, output, errors) = run_in(folder.path(), &["check-config", "watchpost.yml"]);
    assert_eq!(code, 0, "{output}{errors}");
    let (code, _, errors) = run_in(folder.path(), &["init", "127.0.0.1:1"]);
    assert_eq!(code, 2, "an existing file is kept");
    assert!(errors.contains("--force"), "{errors}");
    let (code, _, errors) = run_in(folder.path(), &["init", "--output=-", "foo bar"]);
    assert!(code == 2 && errors.contains("\"foo bar\" is no URL"), "{errors}");
}

#[test]
fn who_starts_without_a_configuration_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = run_in(folder.path(), &["--web.listen-address=127.0.0.1:0"]);
    assert_eq!(code, 1);
    for wanted in ["watchpost.yml", "--config.file=PATH", "watchpost init"] {
        assert!(errors.contains(wanted), "{errors}");
    }
    let (code, _, errors) = run(&["deadman", "--address=127.0.0.1:1"]);
    assert!(code == 1 && errors.contains("refused"), "the cause is told: {errors}");
}

#[test]
fn a_missing_secret_is_named_with_its_remedy_before_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("w.yml");
    let text = "receivers:\n  - { name: oncall, pagerduty: { routing_key_file: pager/key } }\n\
                deadman:\n  - name: backup\n    interval: 1h\n    key_file: beats\n    notify: [oncall]\n\
                modules: { page: { prober: http } }\n\
                probes: [{ name: p, module: page, interval: 1s, targets: ['http://127.0.0.1:1/'], labels: { log_file: none } }]\n\
                watchpost: { api_key_file: api-key }\n";
    std::fs::write(&config, text).unwrap();
    std::fs::write(folder.path().join("beats"), "").unwrap();
    let check = || run(&["check-config", config.to_str().unwrap()]);
    let (code, _, said) = check();
    assert_eq!(code, 0, "a configuration is checked where its secrets are not: {said}");
    let key = folder.path().join("pager/key");
    for wanted in [
        format!("warning: routing_key_file: {} does not exist", key.display()),
        "w.yml:2:".to_owned(),
        "= help: put the routing_key into this file, or mount the Secret that holds it".to_owned(),
        format!("warning: key_file: {} is empty", folder.path().join("beats").display()),
        "w.yml:6:".to_owned(),
        format!(
            "warning: api_key_file: {} does not exist",
            folder.path().join("api-key").display()
        ),
    ] {
        assert!(said.contains(&wanted), "{wanted} is not in\n{said}");
    }
    assert!(!said.contains("log_file"), "{said}");
    // It is said at the start too, which goes on: the file may come.
    let book = format!("--storage.path={}", folder.path().join("book").display());
    let watchpost = Watchpost::start_with(&config, &[&book]);
    assert!(watchpost.log().contains("pager/key does not exist"), "{}", watchpost.log());
    drop(watchpost);
    std::fs::create_dir(folder.path().join("pager")).unwrap();
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::write(folder.path().join("beats"), "fedcba9876543210fedcba9876543210\n").unwrap();
    std::fs::write(folder.path().join("api-key"), "00112233445566778899aabbccddeeff\n").unwrap();
    let (code, _, said) = check();
    assert_eq!((code, said.as_str()), (0, ""));
}
