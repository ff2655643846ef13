//! Pauses and maintenance of probes and switches, through the built binary: with an end and a reason, over restarts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::notify_delivery::until;
use crate::support::fakes::PagerDuty;
use crate::support::watchpost::{Watchpost, get, run};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";

/// A probe of a port that nobody listens on, and a switch that nobody beats.
fn write(folder: &Path, pagerduty: &PagerDuty, watchpost: &str, probe: &str) -> PathBuf {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "watchpost: {{ id: here{watchpost} }}\n\
         receivers:\n  - {{ name: oncall, resolve_after: 1s, pagerduty: {{ routing_key: k1, url: '{}' }} }}\n\
         modules:\n  open: {{ prober: tcp, timeout: 1s }}\n\
         probes:\n  - {{ name: {probe}, module: open, interval: 1s, targets: ['{dead}'], notify: {{ down: [oncall] }} }}\n\
         deadman:\n  - {{ name: backup, interval: 5s, grace: 1s, uuid: {UUID}, notify: [oncall] }}\n",
        pagerduty.url()
    );
    let path = folder.join("w.yml");
    std::fs::write(&path, text).unwrap();
    path
}

fn start(config: &Path, book: &Path) -> Watchpost {
    Watchpost::start_with(config, &[&format!("--storage.path={}", book.display())])
}

async fn post(watchpost: &Watchpost, path: &str, body: &Value) -> (u16, String) {
    let request = reqwest::Client::new().post(watchpost.url(path)).json(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn pause(watchpost: &Watchpost, kind: &str, name: &str, seconds: u64) {
    let body = json!({ kind: name, "seconds": seconds, "reason": "new disks" });
    let (code, text) = post(watchpost, "/api/v1/pause", &body).await;
    assert_eq!(code, 200, "{text}");
}

/// A process in which the probe and the switch are paused, and what a second one needs.
struct Paused {
    pagerduty: PagerDuty,
    path: PathBuf,
    book: PathBuf,
    process: Watchpost,
    _folder: tempfile::TempDir,
}

async fn both_paused(seconds: u64) -> Paused {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &pagerduty, "", "disks");
    let book = folder.path().join("book");
    let process = start(&path, &book);
    for (kind, name) in [("probe", "disks"), ("deadman", "backup")] {
        pause(&process, kind, name, seconds).await;
        is_paused(&process, name).await;
    }
    Paused { pagerduty, path, book, process, _folder: folder }
}

async fn is_paused(watchpost: &Watchpost, name: &str) {
    let job = format!("job=\"{name}\"");
    watchpost.until("probe_status", &[&job, "status=\"paused\""], |v| v == 1.0).await;
}

/// How many pages there were about a probe or a switch.
fn pages(pagerduty: &PagerDuty, name: &str) -> usize {
    let triggers = pagerduty.http.ledger().into_iter().map(|request| request.json().to_string());
    triggers.filter(|text| text.contains("\"trigger\"") && text.contains(name)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_what_is_paused_and_everybody_when_it_is_over() {
    let Paused { pagerduty, path, book, process: mut first, _folder } = both_paused(3_600).await;
    let until = ["probe=\"disks\""];
    let end = first.until("watchpost_probe_paused_until_timestamp_seconds", &until, |_| true).await;
    #[expect(clippy::cast_precision_loss, reason = "a time of this century")]
    let now = Timestamp::now().as_second() as f64;
    assert!((end - now - 3_600.0).abs() < 60.0, "{end}");
    let page = get(&first.url("/")).await.1;
    assert!(page.contains("<h2>Pauses</h2>") && page.contains("new disks"), "{page}");
    let status: Value = serde_json::from_str(&get(&first.url("/api/v1/status")).await.1).unwrap();
    assert_eq!(status["pauses"][0]["reason"], "new disks");
    assert_eq!(status["checks"][0]["status"], "paused");
    first.signal(Signal::KILL);
    first.wait();

    // Over a restart, and long after both would have failed.
    let opened = pages(&pagerduty, "disks");
    let second = start(&path, &book);
    for name in ["disks", "backup"] {
        is_paused(&second, name).await;
    }
    let runs = ["job=\"disks\"", "result=\"fail\""];
    second.until("probe_runs_total", &runs, |v| v >= 3.0).await;
    assert_eq!(pages(&pagerduty, "disks"), opened);
    for (kind, name) in [("probe", "disks"), ("deadman", "backup")] {
        let (code, output, errors) = run(&["resume", kind, name, "--address", &second.address]);
        assert_eq!(code, 0, "{errors}");
        assert!(output.contains("1 pause ended"), "{output}");
    }
    until_pages(&pagerduty, "disks", opened + 1).await;
    until_pages(&pagerduty, "backup", 1).await;
}

async fn until_pages(pagerduty: &PagerDuty, name: &str, count: usize) {
    until("a page", || pages(pagerduty, name) >= count).await;
    assert_eq!(pages(pagerduty, name), count);
}

/// Overlapping windows hold until the last one ends; whatever fell silent meanwhile is told at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn silence_within_overlapping_windows_is_told_at_the_end_of_the_last() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &pagerduty, "", "disks");
    let watchpost = start(&path, &folder.path().join("book"));
    pause(&watchpost, "deadman", "backup", 4).await;
    let body =
        json!({ "deadman": "backup", "begins_in_seconds": 2, "for": "10s", "reason": "second" });
    assert_eq!(post(&watchpost, "/api/v1/pause", &body).await.0, 200);
    let (_, list, _) = run(&["pauses", "--address", &watchpost.address]);
    assert_eq!(list.matches("backup: paused").count(), 2, "{list}");
    let asked = std::time::Instant::now();
    is_paused(&watchpost, "backup").await;
    until_pages(&pagerduty, "backup", 1).await;
    // The silence began after 6 s, within both.
    assert!(asked.elapsed() > Duration::from_secs(9), "{:?}", asked.elapsed());
}

/// What was paused when the process ended, and is no more when the next one starts, is watched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_ends_while_nothing_runs_does_not_stay() {
    let Paused { pagerduty, path, book, process: mut first, _folder } = both_paused(8).await;
    let ended = std::time::Instant::now() + Duration::from_secs(9);
    first.signal(Signal::TERM);
    first.wait();
    let opened = pages(&pagerduty, "disks");
    tokio::time::sleep_until(ended.into()).await;
    let _second = start(&path, &book);
    until_pages(&pagerduty, "disks", opened + 1).await;
    until_pages(&pagerduty, "backup", 1).await;
}

/// What begins later begins after a restart too.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_begins_after_a_restart() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &pagerduty, "", "disks");
    let book = folder.path().join("book");
    let mut first = start(&path, &book);
    let begins = Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let (code, output, errors) = run(&[
        "pause",
        "probe",
        "disks",
        "--for",
        "1h",
        "--begins",
        &begins.to_string(),
        "--reason",
        "new disks",
        "--by",
        "alice",
        "--address",
        &first.address,
    ]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("disks: paused from 2") && output.contains("by alice"), "{output}");
    first.signal(Signal::KILL);
    first.wait();
    let second = start(&path, &book);
    is_paused(&second, "disks").await;
    assert!(Timestamp::now() >= begins - jiff::SignedDuration::from_secs(1));
    // The page that was opened before is over, and says why.
    until("the end of it", || {
        let sent = pagerduty.http.ledger();
        sent.iter().any(|request| {
            let text = request.json().to_string();
            text.contains("\"resolve\"")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_needs_an_end_a_reason_and_something_to_pause() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &pagerduty, "", "disks");
    let watchpost = start(&path, &folder.path().join("book"));
    let rows = [
        (json!({ "probe": "disks", "seconds": 60 }), 400),
        (json!({ "probe": "disks", "seconds": 60, "reason": " " }), 400),
        (json!({ "probe": "disks", "reason": "x" }), 400),
        (json!({ "probe": "disks", "reason": "x", "seconds": 60, "for": "1m" }), 400),
        (json!({ "probe": "disks", "reason": "x", "until": "2020-01-01T00:00:00Z" }), 400),
        (json!({ "probe": "disks", "reason": "x", "for": "32d" }), 400),
        (json!({ "probe": "disks", "deadman": "backup", "reason": "x", "for": "1m" }), 400),
        (json!({ "reason": "x", "for": "1m" }), 400),
        (json!({ "probe": "backup", "reason": "x", "for": "1m" }), 404),
        (json!({ "deadman": "oncall", "reason": "x", "for": "1m" }), 404),
        (json!({ "probe": "disks", "reason": "x", "for": "1m", "bogus": 1 }), 400),
    ];
    for (body, code) in rows {
        let (found, text) = post(&watchpost, "/api/v1/pause", &body).await;
        assert_eq!(found, code, "{body}: {text}");
    }
    for path in ["/api/v1/pause", "/api/v1/resume"] {
        assert_eq!(get(&watchpost.url(path)).await.0, 405, "{path}");
    }
    let good = json!({ "probe": "disks", "reason": "x", "for": "1m" });
    let foreign = reqwest::Client::new().post(watchpost.url("/api/v1/pause")).json(&good);
    let foreign = foreign.header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(foreign.status().as_u16(), 403);
    let own = reqwest::Client::new().post(watchpost.url("/api/v1/pause")).json(&good);
    let own = own.header("origin", format!("http://{}", watchpost.address)).send().await.unwrap();
    assert_eq!(own.status().as_u16(), 200);
}

/// With a key, nobody pauses without it; and the door of beats does not know of pauses at all.
#[tokio::test(flavor = "multi_thread")]
async fn pausing_takes_the_key_where_there_is_one() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a-key-for-those-who-pause\n").unwrap();
    let more = format!(", api_key_file: '{}'", key.display());
    let path = write(folder.path(), &pagerduty, &more, "disks");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let watchpost = Watchpost::start_with(
        &path,
        &[
            &format!("--storage.path={}", folder.path().join("book").display()),
            &format!("--beats.listen-address={free}"),
        ],
    );
    let body = json!({ "probe": "disks", "seconds": 60, "reason": "x" });
    assert_eq!(post(&watchpost, "/api/v1/pause", &body).await.0, 401);
    let resume = json!({ "probe": "disks" });
    assert_eq!(post(&watchpost, "/api/v1/resume", &resume).await.0, 401);
    assert_eq!(post(&watchpost, "/api/v1/deadman/backup/resume", &resume).await.0, 401);
    let arguments = [
        "pause",
        "probe",
        "disks",
        "--for",
        "1m",
        "--reason",
        "x",
        "--address",
        &watchpost.address,
    ];
    assert_eq!(run(&arguments).0, 1);
    let with_key = [&arguments[..], &["--key-file", key.to_str().unwrap()]].concat();
    let (code, _, errors) = run(&with_key);
    assert_eq!(code, 0, "{errors}");
    for path in ["/api/v1/pause", "/api/v1/resume", "/api/v1/pauses"] {
        let url = format!("http://{free}{path}");
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 404, "{path}");
    }
    // A key that is gone locks the door rather than opening it.
    std::fs::remove_file(&key).unwrap();
    assert_eq!(post(&watchpost, "/api/v1/pause", &body).await.0, 401);
    assert_eq!(run(&["pause", "probe", "disks", "--reason", "x"]).0, 2);
}

/// `Authorization` is taken by the user of the door: the key has a header of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_and_the_users_of_the_door_do_not_exclude_each_other() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "a-key-for-those-who-pause\n").unwrap();
    // The name of the file is seen from the configuration.
    let path = write(folder.path(), &pagerduty, ", api_key_file: key", "disks");
    let web = folder.path().join("web.yml");
    let users = format!("basic_auth_users: {{ ali: '{}' }}\n", bcrypt::hash("sesame", 4).unwrap());
    std::fs::write(&web, users).unwrap();
    let watchpost = Watchpost::start_with(
        &path,
        &[
            &format!("--storage.path={}", folder.path().join("book").display()),
            &format!("--web.config.file={}", web.display()),
        ],
    );
    let pause = |user: &str, key: &str| {
        let address = format!("http://{user}@{}", watchpost.address);
        let key = folder.path().join(key).display().to_string();
        let what = ["pause", "probe", "disks", "--for", "1m", "--reason", "x"];
        run(&[&what[..], &["--address", &address, "--key-file", &key]].concat())
    };
    let (code, _, errors) = pause("ali:sesame", "key");
    assert_eq!(code, 0, "{errors}");
    std::fs::write(folder.path().join("other"), "another-key").unwrap();
    let (code, _, errors) = pause("ali:sesame", "other");
    assert!(code == 1 && errors.contains("missing or wrong"), "{errors}");
    let (code, _, errors) = pause("ali:baba", "key");
    assert!(code == 1 && errors.contains("401") && !errors.contains("baba"), "{errors}");
}

/// A probe that is removed and comes back later is not paused any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_not_paused() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let path = write(folder.path(), &pagerduty, "", "disks");
    let watchpost = start(&path, &book);
    pause(&watchpost, "probe", "disks", 3_600).await;
    is_paused(&watchpost, "disks").await;
    write(folder.path(), &pagerduty, "", "other");
    assert_eq!(post(&watchpost, "/-/reload", &json!({})).await.0, 200);
    assert_eq!(get(&watchpost.url("/api/v1/pauses")).await.1, "[]");
    write(folder.path(), &pagerduty, "", "disks");
    assert_eq!(post(&watchpost, "/-/reload", &json!({})).await.0, 200);
    let down = ["job=\"disks\"", "status=\"down\""];
    watchpost.until("probe_status", &down, |v| v == 1.0).await;
}
