//! Dead man's switches through the built binary: beats over HTTP, silence, restarts, pauses, the verbs.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::notify_delivery::until;
use crate::support::fakes::{Fake, PagerDuty, Received, Reply};
use crate::support::watchpost::{PATIENCE, Watchpost, get, run, sample};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";
const KEY: &str = "an-opaque-key-0123456789";

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("w.yml");
    std::fs::write(&path, text).unwrap();
    path
}

fn config(pagerduty: &PagerDuty, interval: &str, grace: &str) -> String {
    format!(
        "watchpost: {{ id: here }}\n\
         receivers:\n  - name: oncall\n    resolve_after: 1s\n    pagerduty: {{ routing_key: k1, url: '{}' }}\n\
         deadman:\n  - name: nightly backup\n    interval: {interval}\n    grace: {grace}\n    uuid: {UUID}\n    \
         key: {KEY}\n    notify: [oncall]\n",
        pagerduty.url()
    )
}

fn start(config: &Path, book: &Path, more: &[&str]) -> Watchpost {
    let storage = format!("--storage.path={}", book.display());
    let arguments: Vec<&str> =
        std::iter::once(storage.as_str()).chain(more.iter().copied()).collect();
    Watchpost::start_with(config, &arguments)
}

async fn post(url: &str, body: &str) -> (u16, String) {
    let answer = reqwest::Client::new().post(url).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn switches(watchpost: &Watchpost) -> Value {
    serde_json::from_str(&get(&watchpost.url("/api/v1/deadman")).await.1).unwrap()
}

fn text(request: &Received) -> String {
    request.json().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_page_and_a_beat_is_the_end_of_it() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &config(&pagerduty, "5s", "1s"));
    let watchpost = start(&path, &folder.path().join("book"), &[]);
    let (code, body) = get(&watchpost.url(&format!("/ping/{UUID}"))).await;
    assert_eq!((code, body.as_str()), (200, "OK"));
    let up = ["job=\"nightly backup\"", "status=\"up\""];
    watchpost.until("probe_status", &up, |v| v == 1.0).await;
    assert_eq!(pagerduty.http.count(), 0);
    until("an incident", || pagerduty.open() == 1).await;
    let trigger = text(&pagerduty.http.ledger()[0]);
    assert!(trigger.contains("deadman nightly backup"), "{trigger}");
    let (code, output, errors) = run(&["deadman", "--address", &watchpost.address]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("nightly backup: FAILS"), "{output}");
    let by_key = watchpost.url(&format!("/ping/{KEY}/nightly-backup"));
    let (code, output, errors) = run(&["ping", &by_key]);
    assert_eq!(code, 0, "{output}{errors}");
    until("the end", || pagerduty.resolved() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_healthchecks() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &config(&pagerduty, "1h", "1h"));
    let watchpost = start(&path, &folder.path().join("book"), &[]);
    let answer = reqwest::get(watchpost.url(&format!("/ping/{UUID}/start"))).await.unwrap();
    assert_eq!(answer.headers()["ping-body-limit"], "10000");
    let rows = [
        (format!("/ping/{UUID}/log"), 200, "OK"),
        (format!("/ping/{UUID}/0"), 200, "OK"),
        (format!("/ping/{UUID}?rid={UUID}"), 200, "OK"),
        (format!("/ping/{UUID}?rid=7"), 400, "invalid uuid format"),
        (format!("/ping/{UUID}/256"), 400, "invalid url format"),
        ("/ping/nonsense".to_owned(), 400, "invalid url format"),
        ("/ping/c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f12".to_owned(), 404, "not found"),
        ("/ping/a-wrong-key-0123456789/nightly-backup".to_owned(), 404, "not found"),
    ];
    for (path, code, body) in rows {
        assert_eq!(get(&watchpost.url(&path)).await, (code, body.to_owned()), "{path}");
    }
    let long = "x".repeat(2 << 20);
    assert_eq!(post(&watchpost.url(&format!("/ping/{UUID}")), &long).await.0, 413);
    let put = reqwest::Client::new().put(watchpost.url(&format!("/ping/{UUID}"))).send().await;
    assert_eq!(put.unwrap().status().as_u16(), 405);

    // A job that fails says so at once, with its exit code and its last words.
    let url = watchpost.url(&format!("/ping/{UUID}"));
    let (code, output, _) = run(&["ping", &url, "--", "sh", "-c", "echo disk full; exit 3"]);
    assert_eq!((code, output.trim()), (3, "disk full"));
    until("an incident", || pagerduty.open() == 1).await;
    let trigger = text(&pagerduty.http.ledger()[0]);
    assert!(trigger.contains("exit status 3: disk full"), "{trigger}");
}

/// What was answered with 200 is there after a `kill -9`, and a restart moves no deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_beats_and_deadlines() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let path = write(folder.path(), &config(&pagerduty, "1h", "1m"));
    let mut first = start(&path, &book, &[]);
    let name = ["deadman=\"nightly backup\""];
    let armed = first.until("watchpost_deadman_deadline_timestamp_seconds", &name, |_| true).await;
    assert_eq!(get(&first.url(&format!("/ping/{UUID}"))).await.0, 200);
    first.signal(Signal::KILL);
    first.wait();
    let second = start(&path, &book, &[]);
    let beaten =
        second.until("watchpost_deadman_last_beat_timestamp_seconds", &name, |_| true).await;
    let deadline = second.metric("watchpost_deadman_deadline_timestamp_seconds", &name).await;
    assert!((deadline.unwrap() - beaten - 3660.0).abs() < 1.0, "{beaten} {deadline:?}");
    assert!(deadline.unwrap() >= armed);
    let page = get(&second.url("/")).await.1;
    assert!(page.contains("nightly backup"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_over_a_restart_and_ends_when_asked() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let path = write(folder.path(), &config(&pagerduty, "5s", "1s"));
    let mut first = start(&path, &book, &[]);
    let url =
        |w: &Watchpost, verb: &str| w.url(&format!("/api/v1/deadman/nightly%20backup/{verb}"));
    let pause = json!({ "seconds": 3600, "reason": "new disks" }).to_string();
    assert_eq!(post(&url(&first, "pause"), &pause).await, (200, "OK\n".to_owned()));
    assert_eq!(post(&url(&first, "pause"), "{\"seconds\": 5}").await.0, 400);
    assert_eq!(post(&first.url("/api/v1/deadman/other/pause"), &pause).await.0, 404);
    first.signal(Signal::KILL);
    first.wait();
    let second = start(&path, &book, &[]);
    let paused = ["job=\"nightly backup\"", "status=\"paused\""];
    second.until("probe_status", &paused, |v| v == 1.0).await;
    assert_eq!(switches(&second).await[0]["paused"], "new disks");
    assert_eq!(post(&url(&second, "resume"), "").await.0, 200);
    until("an incident", || pagerduty.open() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_door_serves_beats_and_nothing_else() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &config(&pagerduty, "1h", "1h"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let door = format!("--beats.listen-address={free}");
    let _watchpost = start(&path, &folder.path().join("book"), &[&door]);
    let code = |path: String| async move { get(&format!("http://{free}{path}")).await.0 };
    assert_eq!(code(format!("/ping/{UUID}")).await, 200);
    for path in ["/", "/metrics", "/config", "/api/v1/status", "/api/v1/deadman", "/-/reload"] {
        assert_eq!(code(path.to_owned()).await, 404, "{path}");
    }
}

#[test]
fn a_switch_needs_a_folder_to_be_kept_in() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("deadman:\n  - {{ name: a, interval: 1h, uuid: {UUID} }}\n");
    let path = write(folder.path(), &text);
    let file = format!("--config.file={}", path.display());
    let (code, _, errors) = run(&["run", &file, "--web.listen-address=127.0.0.1:0"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("--storage.path"), "{errors}");
}

/// The loop by hand: the clock that a scrape got comes back in Alertmanager's webhook.
#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_a_clock_that_came_back() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(
        folder.path(),
        &format!(
            "watchpost: {{ id: here }}\n\
             receivers:\n  - {{ name: oncall, pagerduty: {{ routing_key: k1, url: '{}' }} }}\n\
             deadman:\n  - name: alerting\n    watchdog: {{ source_label: prometheus, sources: [a, b], min_sources: 1, max_age: 5m }}\n    \
             key: {KEY}\n    notify: [oncall]\n",
            pagerduty.url()
        ),
    );
    let watchpost = start(&path, &folder.path().join("book"), &[]);
    let (_, page) = get(&watchpost.url("/metrics")).await;
    let clock = sample(&page, "watchpost_clock_seconds", &[]).unwrap();
    let url = watchpost.url("/alertmanager/alerting");
    let webhook = |clock: f64| {
        json!({
            "version": "4", "groupKey": "g", "status": "firing", "receiver": "r", "truncatedAlerts": 0,
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "",
            "alerts": [{
                "status": "firing", "labels": { "alertname": "Watchdog", "prometheus": "a" },
                "annotations": { "clocks": format!("here={clock:.3}") },
                "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "f"
            }]
        })
    };
    let client = reqwest::Client::new();
    let send = |clock: f64, key: &'static str| {
        let request = client.post(&url).bearer_auth(key).json(&webhook(clock));
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    assert_eq!(send(clock, "wrong").await.0, 401);
    assert_eq!(send(clock - 10_000.0, KEY).await.1, "foreign_clock\n");
    assert_eq!(send(clock, KEY).await, (200, "fresh\n".to_owned()));
    assert_eq!(send(clock, KEY).await.1, "duplicate\n");
    watchpost.until("probe_status", &["instance=\"a\"", "status=\"up\""], |v| v == 1.0).await;
    let end = Instant::now() + Duration::from_secs(10);
    while switches(&watchpost).await[0]["last_beat"].is_null() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(post(&watchpost.url("/alertmanager/other"), "{}").await.0, 404);
}

/// What a job leaves running holds its output open; the job has ended all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_does_not_wait_for_what_it_left_running() {
    let vendor = Fake::start(|_| Reply::text(200, "OK")).await;
    let url = format!("{}/ping/x", vendor.url);
    let ping = Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .args(["ping", &url, "--", "sh", "-c", "echo done; sleep 300 & exit 4"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the end is told", || paths(&vendor).contains(&"/ping/x/4".to_owned())).await;
    assert_eq!(vendor.ledger()[1].body, b"done\n");
    // It passes output on for as long as there may be some; a signal ends that.
    kill_process(Pid::from_child(&ping), Signal::TERM).unwrap();
    assert_eq!(ended(ping).await, Some(4));
}

/// A stop is the command's to answer, and its end is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_stopped_says_so() {
    let vendor = Fake::start(|_| Reply::text(200, "OK")).await;
    let url = format!("{}/ping/x", vendor.url);
    let job = "trap 'echo tidied; exit 7' TERM; echo began; while :; do sleep 0.1; done";
    let mut ping = Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .args(["ping", &url, "--", "sh", "-c", job])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    ping.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    kill_process(Pid::from_child(&ping), Signal::TERM).unwrap();
    until("the end is told", || paths(&vendor).contains(&"/ping/x/7".to_owned())).await;
    assert_eq!(ended(ping).await, Some(7));
    let last = vendor.ledger();
    assert_eq!(last.last().unwrap().body, b"began\ntidied\n");
}

fn paths(vendor: &Fake) -> Vec<String> {
    let ledger = vendor.ledger();
    ledger.iter().map(|it| it.path.split('?').next().unwrap().to_owned()).collect()
}

async fn ended(mut child: Child) -> Option<i32> {
    let waiting = tokio::task::spawn_blocking(move || child.wait().unwrap());
    tokio::time::timeout(PATIENCE, waiting).await.expect("it ends").unwrap().code()
}
