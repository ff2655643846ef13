//! What happens to dead man's switches beside beats: a book that cannot be written, a second process, rotated keys,
//! blindness, reloads, names that change, and what Alertmanagers say.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::notify_delivery::until;
use crate::support::fakes::{Fake, PagerDuty, Received, Reply};
use crate::support::watchpost::{PATIENCE, Watchpost, get, run};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("w.yml");
    std::fs::write(&path, text).unwrap();
    path
}

fn receivers(pagerduty: &PagerDuty) -> String {
    format!(
        "receivers:\n  - {{ name: oncall, resolve_after: 1s, pagerduty: {{ routing_key: k1, url: '{}' }} }}\n",
        pagerduty.url()
    )
}

fn switch(name: &str, more: &str) -> String {
    format!(
        "deadman:\n  - {{ name: {name}, interval: 1h, uuid: {UUID}, notify: [oncall]{more} }}\n"
    )
}

fn start(config: &Path, book: &Path) -> Watchpost {
    Watchpost::start_with(config, &[&format!("--storage.path={}", book.display())])
}

async fn ping(watchpost: &Watchpost) -> u16 {
    get(&watchpost.url(&format!("/ping/{UUID}"))).await.0
}

async fn switches(watchpost: &Watchpost) -> Value {
    serde_json::from_str(&get(&watchpost.url("/api/v1/deadman")).await.1).unwrap()
}

async fn reload(watchpost: &Watchpost) {
    let answer = reqwest::Client::new().post(watchpost.url("/-/reload")).send().await.unwrap();
    let code = answer.status();
    assert!(code.is_success(), "{}", answer.text().await.unwrap());
}

/// Asks until the switches please.
async fn until_switches(
    watchpost: &Watchpost,
    what: &str,
    pleases: impl Fn(&Value) -> bool,
) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let switches = switches(watchpost).await;
        if pleases(&switches) {
            return switches;
        }
        assert!(Instant::now() < end, "{what}: {switches:#}\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A time of the first switch, in seconds.
fn second_of(switches: &Value, key: &str) -> i64 {
    let at: jiff::Timestamp = switches[0][key].as_str().unwrap().parse().unwrap();
    at.as_second()
}

fn texts(pagerduty: &PagerDuty) -> String {
    let ledger = pagerduty.http.ledger();
    ledger.iter().map(|request| request.json().to_string()).collect::<Vec<_>>().join("\n")
}

/// A beat that was answered with 503 has not happened, neither now nor after a restart; people are told of the book.
#[tokio::test(flavor = "multi_thread")]
async fn a_beat_that_cannot_be_recorded_does_not_count() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "watchpost: {{ id: here, notify: [oncall] }}\n{}{}",
        receivers(&pagerduty),
        switch("backup", "")
    );
    let path = write(folder.path(), &text);
    // A file where the folder's folder should be: nobody can write there, not even root.
    let obstacle = folder.path().join("disk");
    std::fs::write(&obstacle, "").unwrap();
    let book = obstacle.join("book");
    let mut first = start(&path, &book);
    assert_eq!(ping(&first).await, 503);
    let result = ["deadman=\"backup\"", "result=\"not_recorded\""];
    first.until("watchpost_deadman_beats_total", &result, |v| v == 1.0).await;
    let armed = until_switches(&first, "armed", |all| !all[0]["deadline"].is_null()).await;
    assert_eq!(armed[0]["last_beat"], Value::Null);
    let pause = json!({ "deadman": "backup", "for": "1h", "reason": "x" });
    let asked = reqwest::Client::new().post(first.url("/api/v1/pause")).json(&pause);
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 503);
    assert_eq!(get(&first.url("/api/v1/pauses")).await.1, "[]");
    until("a page about the book", || pagerduty.open() == 1).await;
    assert!(texts(&pagerduty).contains("the book cannot be written"), "{}", texts(&pagerduty));

    std::fs::remove_file(&obstacle).unwrap();
    until("the end of it", || pagerduty.resolved() == 1).await;
    assert_eq!(switches(&first).await[0]["last_beat"], Value::Null);
    first.signal(Signal::TERM);
    first.wait();
    let second = start(&path, &book);
    let again = until_switches(&second, "armed", |all| !all[0]["deadline"].is_null()).await;
    assert_eq!(again[0]["last_beat"], Value::Null);
    // The arming of the first process was kept in memory and followed when the disk took it.
    let (before, after) = (second_of(&armed, "deadline"), second_of(&again, "deadline"));
    assert!((before - after).abs() <= 1, "{armed:#} {again:#}");
    assert_eq!(ping(&second).await, 200);
    until_switches(&second, "a beat", |all| !all[0]["last_beat"].is_null()).await;
}

/// Everything that the switches `backup` and `alerting` are shown by.
async fn shown(watchpost: &Watchpost) -> (Value, Value, String, String, String) {
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let status = json(get(&watchpost.url("/api/v1/status")).await.1);
    let (code, verb, errors) = run(&["deadman", "--address", &watchpost.address]);
    assert_eq!(code, 0, "{errors}");
    let page = get(&watchpost.url("/")).await.1;
    let metrics = get(&watchpost.url("/metrics")).await.1;
    (switches(watchpost).await, status, verb, page, metrics)
}

/// Nothing that could be taken for a success, whoever asks. `status` is that of each check.
async fn assert_not_well(watchpost: &Watchpost, status: &str) {
    let (switches, all, verb, page, metrics) = shown(watchpost).await;
    for switch in switches.as_array().unwrap() {
        assert_eq!(
            (&switch["status"], &switch["ok"]),
            (&json!(status), &Value::Null),
            "{switch:#}"
        );
        assert_eq!(switch["last_beat"], Value::Null, "{switch:#}");
        assert!(!switch["deadline"].is_null(), "armed: {switch:#}");
        for member in switch["members"].as_array().unwrap() {
            assert_eq!(
                (&member["ok"], &member["heard"]),
                (&Value::Null, &Value::Null),
                "{member:#}"
            );
        }
    }
    for check in all["checks"].as_array().unwrap() {
        assert_eq!(check["status"], status, "{check:#}");
        assert_eq!(check["last_success"], Value::Null, "{check:#}");
        assert_eq!(check["runs"]["pass"], 0, "{check:#}");
    }
    for probe in all["probes"].as_array().unwrap() {
        assert_eq!(probe["status"], status, "{probe:#}");
    }
    assert!(!verb.contains(": ok"), "{verb}");
    assert!(!page.contains("pill up") && !page.contains("class=\"up\""), "{page}");
    let own = |line: &&str| {
        line.contains("{job=\"backup\"")
            || line.contains("job=\"alerting\"")
            || line.contains("job=\"backup\"")
    };
    for line in metrics.lines().filter(own) {
        let name = line.split('{').next().unwrap();
        assert!(
            !["probe_success", "probe_last_success_timestamp_seconds"].contains(&name),
            "{line}"
        );
        let says_up = line.contains("status=\"up\"") || line.contains("result=\"pass\"");
        assert!(!says_up || line.ends_with(" 0"), "{line}");
        let is_status = name == "probe_status" && line.contains(&format!("status=\"{status}\""));
        assert!(!is_status || line.ends_with(" 1"), "{line}");
    }
    assert!(!metrics.contains("watchpost_deadman_last_beat_timestamp_seconds{"), "{metrics}");
}

/// What was never heard of is not up: at first, after a reload, a restart and a crash, whether it is late or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_waits_for_its_first_beat_is_nowhere_shown_as_well() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let text = |times: &str| {
        format!(
            "watchpost: {{ id: here }}\n{}deadman:\n  - {{ name: backup, {times}, uuid: {UUID}, notify: [oncall] }}\n",
            receivers(&pagerduty)
        )
    };
    let watchdog = "  - name: alerting\n    watchdog: { source_label: p, sources: [a, b, c], min_sources: 2, max_age: 10m }\n    \
                    notify: [oncall]\n";
    let long = format!("{}{watchdog}", text("interval: 1d"));
    let path = write(folder.path(), &long);
    let mut watchpost = start(&path, &book);
    until_switches(&watchpost, "armed", |all| !all[1]["deadline"].is_null()).await;
    assert_not_well(&watchpost, "unknown").await;
    let (switches, _, verb, page, _) = shown(&watchpost).await;
    assert_eq!(switches[1]["reason"], "waits for its first beat");
    assert_eq!(switches[0]["reason"], "nothing was heard yet of a, b, c");
    assert!(verb.contains("backup: waiting: waits for its first beat; last beat never"), "{verb}");
    assert!(page.contains("<span class=\"pill unknown\">waiting</span>"), "{page}");
    reload(&watchpost).await;
    assert_not_well(&watchpost, "unknown").await;
    for signal in [Signal::TERM, Signal::KILL] {
        watchpost.signal(signal);
        watchpost.wait();
        watchpost = start(&path, &book);
        until_switches(&watchpost, "armed", |all| !all[1]["deadline"].is_null()).await;
        assert_not_well(&watchpost, "unknown").await;
    }
    // Late is worse, and no success either.
    let late = text("interval: 5s, grace: 1h");
    write(folder.path(), &late);
    reload(&watchpost).await;
    until_switches(&watchpost, "late", |all| all[0]["status"] == "degraded").await;
    assert_not_well(&watchpost, "degraded").await;
    write(folder.path(), &long);
    reload(&watchpost).await;
    until_switches(&watchpost, "waiting", |all| all[1]["status"] == "unknown").await;
    assert_not_well(&watchpost, "unknown").await;
    assert_eq!(pagerduty.http.count(), 0);

    let before = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    assert_eq!(ping(&watchpost).await, 200);
    let well = until_switches(&watchpost, "a beat", |all| all[1]["ok"] == true).await;
    assert_eq!(well[1]["status"], "up");
    let name = ["job=\"backup\""];
    watchpost.until("probe_success", &name, |v| v == 1.0).await;
    let beaten = watchpost.metric("probe_last_success_timestamp_seconds", &name).await.unwrap();
    assert!(Duration::from_secs_f64(beaten).as_secs() >= before, "{beaten}");
    // The last success is the last beat, not the last look.
    watchpost.signal(Signal::KILL);
    watchpost.wait();
    let watchpost = start(&path, &book);
    let again = watchpost.until("probe_last_success_timestamp_seconds", &name, |_| true).await;
    assert!((again - beaten).abs() < 0.1, "{again} {beaten}");
}

/// A process that is ended when the test is.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A process whose book belongs to another one is not ready, answers beats so that they are sent again, and takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_sends_beats_away_until_it_owns_the_book() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &format!("{}{}", receivers(&pagerduty), switch("backup", "")));
    let book = folder.path().join("book");
    let mut first = start(&path, &book);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--web.listen-address={free}"))
        .arg(format!("--storage.path={}", book.display()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _second = Waiting(child);
    let code = |path: String| async move {
        let answer = reqwest::get(format!("http://{free}{path}")).await;
        answer.map(|answer| answer.status().as_u16()).unwrap_or_default()
    };
    let end = Instant::now() + PATIENCE;
    while code("/-/healthy".into()).await != 200 {
        assert!(Instant::now() < end, "the second does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(code("/-/ready".into()).await, 503);
    assert_eq!(code(format!("/ping/{UUID}")).await, 503);
    assert_eq!(code("/alertmanager/any".into()).await, 405);
    assert_eq!(ping(&first).await, 200);
    first.signal(Signal::KILL);
    first.wait();
    let end = Instant::now() + PATIENCE;
    while code(format!("/ping/{UUID}")).await != 200 {
        assert!(Instant::now() < end, "the second does not take over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(code("/-/ready".into()).await, 200);
}

/// A key that was rotated opens the door after a reload at once, and without one within a minute; the old one does not.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_again() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "the-first-key-0123456789\n").unwrap();
    let more = format!(", key_file: '{}'", key.display());
    let path =
        write(folder.path(), &format!("{}{}", receivers(&pagerduty), switch("backup", &more)));
    let watchpost = start(&path, &folder.path().join("book"));
    let by = |key: &str| watchpost.url(&format!("/ping/{key}/backup"));
    assert_eq!(get(&by("the-first-key-0123456789")).await.0, 200);
    std::fs::write(&key, "the-second-key-0123456789\n").unwrap();
    reload(&watchpost).await;
    assert_eq!(get(&by("the-second-key-0123456789")).await.0, 200);
    assert_eq!(get(&by("the-first-key-0123456789")).await.0, 404);
    let refused = ["reason=\"not_found\""];
    assert_eq!(watchpost.metric("watchpost_deadman_refused_total", &refused).await, Some(1.0));
    std::fs::write(&key, "the-third-key-0123456789\n").unwrap();
    let end = Instant::now() + Duration::from_secs(90);
    while get(&by("the-third-key-0123456789")).await.0 != 200 {
        assert!(Instant::now() < end, "{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(get(&by("the-second-key-0123456789")).await.0, 404);
    assert_eq!(switches(&watchpost).await[0]["last_from"], "127.0.0.1");
}

/// Silence that began while this watchpost was blind is told when it sees again.
#[tokio::test(flavor = "multi_thread")]
async fn blindness_holds_a_silence_back_and_no_longer() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let text = |reference: &str| {
        let switch = switch("backup", "").replace("1h", "10s, grace: 1s");
        format!("references: ['{reference}']\n{}{switch}", receivers(&pagerduty))
    };
    // Nobody can connect to everybody.
    let path = write(folder.path(), &text("255.255.255.255:9"));
    let watchpost = start(&path, &folder.path().join("book"));
    watchpost.until("watchpost_blind", &[], |v| v == 1.0).await;
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, body) = get(&watchpost.url("/api/v1/status")).await;
        let status: Value = serde_json::from_str(&body).unwrap();
        if status["checks"][0]["held"] == "down" {
            break;
        }
        assert!(Instant::now() < end, "{status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One page about ourselves, and none about what we cannot see.
    assert!(!texts(&pagerduty).contains("deadman backup"), "{}", texts(&pagerduty));
    let answers = TcpListener::bind("127.0.0.1:0").unwrap();
    write(folder.path(), &text(&answers.local_addr().unwrap().to_string()));
    reload(&watchpost).await;
    until("a page", || texts(&pagerduty).contains("deadman backup")).await;
}

/// Reloads add and remove switches; what is removed is closed, forgotten, and not there when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_comes_back_begins_anew() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let none = receivers(&pagerduty);
    let short = format!("{none}{}", switch("backup", "").replace("1h", "5s, grace: 1s"));
    let path = write(folder.path(), &none);
    let mut watchpost = start(&path, &book);
    assert_eq!(ping(&watchpost).await, 404);
    write(folder.path(), &short);
    reload(&watchpost).await;
    assert_eq!(ping(&watchpost).await, 200);
    until("a page", || pagerduty.open() == 1).await;
    write(folder.path(), &none);
    reload(&watchpost).await;
    until("the end of it", || pagerduty.resolved() == 1).await;
    assert_eq!(ping(&watchpost).await, 404);
    let page = get(&watchpost.url("/metrics")).await.1;
    assert!(!page.contains("deadman=\"backup\""), "{page}");

    // The same while nothing runs: a start without it forgets it.
    write(folder.path(), &format!("{none}{}", switch("backup", "")));
    reload(&watchpost).await;
    assert_eq!(ping(&watchpost).await, 200);
    until_switches(&watchpost, "a beat", |all| !all[0]["last_beat"].is_null()).await;
    for text in [none.clone(), format!("{none}{}", switch("backup", ""))] {
        watchpost.signal(Signal::TERM);
        watchpost.wait();
        write(folder.path(), &text);
        watchpost = start(&path, &book);
    }
    let anew = until_switches(&watchpost, "armed", |all| !all[0]["deadline"].is_null()).await;
    assert_eq!(anew[0]["last_beat"], Value::Null);
}

/// A new name under the same uuid goes on from the same beat, also when the process dies before the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_is_kept_at_once() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let named = |name: &str| format!("{}{}", receivers(&pagerduty), switch(name, ""));
    let path = write(folder.path(), &named("one"));
    let mut watchpost = start(&path, &book);
    assert_eq!(ping(&watchpost).await, 200);
    let first = until_switches(&watchpost, "a beat", |all| !all[0]["last_beat"].is_null()).await;
    write(folder.path(), &named("two"));
    reload(&watchpost).await;
    let renamed = |all: &Value| all[0]["name"] == "two" && all.as_array().unwrap().len() == 1;
    until_switches(&watchpost, "the new name", renamed).await;
    for (signal, name) in [(Signal::KILL, "two"), (Signal::TERM, "three"), (Signal::KILL, "three")]
    {
        // The new name is on disk a moment after it is shown.
        tokio::time::sleep(Duration::from_millis(500)).await;
        watchpost.signal(signal);
        watchpost.wait();
        write(folder.path(), &named(name));
        watchpost = start(&path, &book);
        let again = until_switches(&watchpost, name, |all| all[0]["name"] == name).await;
        let (before, after) = (second_of(&first, "last_beat"), second_of(&again, "last_beat"));
        assert!((before - after).abs() <= 1, "{name}: {first:#} {again:#}");
    }
}

/// The sender is the peer, unless the peer is a proxy that we were told to believe.
#[tokio::test(flavor = "multi_thread")]
async fn the_sender_of_a_beat_is_known() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let text = |trusted: &str| {
        format!(
            "watchpost: {{ id: here{trusted} }}\n{}{}",
            receivers(&pagerduty),
            switch("backup", "").replace("1h", "5s, grace: 1s")
        )
    };
    let path = write(folder.path(), &text(""));
    let watchpost = start(&path, &folder.path().join("book"));
    let beat = |from: &'static str| {
        let request = reqwest::Client::new().post(watchpost.url(&format!("/ping/{UUID}")));
        async move { request.header("x-forwarded-for", from).send().await.unwrap().status() }
    };
    assert!(beat("192.0.2.7").await.is_success());
    until_switches(&watchpost, "the peer", |all| all[0]["last_from"] == "127.0.0.1").await;
    write(folder.path(), &text(", trusted_proxies: [127.0.0.0/8]"));
    reload(&watchpost).await;
    assert!(beat("198.51.100.1, 192.0.2.7").await.is_success());
    until_switches(&watchpost, "the sender", |all| all[0]["last_from"] == "192.0.2.7").await;
    until("a page", || pagerduty.open() == 1).await;
    assert!(texts(&pagerduty).contains("from 192.0.2.7"), "{}", texts(&pagerduty));
    assert!(get(&watchpost.url("/")).await.1.contains("from 192.0.2.7"));
}

/// What a fake Alertmanager says; the tests of the closed loop ask a real one.
#[derive(Default)]
struct Said {
    silenced: bool,
    muted: bool,
    failures: u32,
    settling: bool,
}

async fn alertmanager(said: Arc<Mutex<Said>>) -> Fake {
    Fake::start(move |request: &Received| {
        let said = said.lock().unwrap();
        let path = request.path.split('?').next().unwrap_or_default();
        let text = match path {
            "/-/ready" => "OK".to_owned(),
            "/api/v2/status" => {
                let status = if said.settling { "settling" } else { "ready" };
                json!({ "cluster": { "status": status, "peers": [{}] }, "versionInfo": { "version": "0.27.0" } })
                    .to_string()
            }
            "/api/v2/alerts" => {
                let silenced: &[&str] = if said.silenced { &["abc"] } else { &[] };
                let muted: &[&str] = if said.muted { &["nights"] } else { &[] };
                json!([{
                    "labels": { "alertname": "Watchdog" }, "receivers": [{ "name": "watchpost" }],
                    "status": { "state": "active", "silencedBy": silenced, "inhibitedBy": [], "mutedBy": muted }
                }])
                .to_string()
            }
            "/api/v2/silence/abc" => json!({
                "createdBy": "alice", "comment": "silence --all", "endsAt": "2030-01-01T00:00:00.000Z"
            })
            .to_string(),
            "/metrics" => format!(
                "alertmanager_notifications_total{{integration=\"pagerduty\"}} {0}\n\
                 alertmanager_notifications_failed_total{{integration=\"pagerduty\",reason=\"clientError\"}} {0}\n",
                said.failures
            ),
            _ => return Reply::text(404, "no"),
        };
        Reply::text(200, &text)
    })
    .await
}

/// The page about a Watchdog that is silent says who silenced it, and so do the API, the status page and the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn what_alertmanager_says_is_in_the_page() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let said = Arc::new(Mutex::new(Said { silenced: true, muted: true, ..Said::default() }));
    let fake = alertmanager(Arc::clone(&said)).await;
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "{}deadman:\n  - name: alerting\n    key: an-opaque-key-0123456789\n    notify: [oncall]\n    watchdog:\n      \
         max_age: 15s\n      poll_interval: 5s\n      alertmanagers: ['{}', 'http://{dead}']\n",
        receivers(&pagerduty),
        fake.url
    );
    let watchpost = start(&write(folder.path(), &text), &folder.path().join("book"));
    until("a page", || pagerduty.open() == 1).await;
    let page = texts(&pagerduty);
    for part in [
        "silenced by alice until 2030-01-01",
        "silence --all",
        "muted by time interval nights",
        "does not answer",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let html = get(&watchpost.url("/")).await.1;
    assert!(html.contains("silenced by alice") && html.contains("does not answer"), "{html}");
    let (_, body) = get(&watchpost.url("/api/v1/status")).await;
    let status: Value = serde_json::from_str(&body).unwrap();
    let found = &status["deadman"][0]["alertmanagers"];
    assert_eq!(found[0]["up"], true, "{found:#}");
    assert_eq!(found[1]["up"], false, "{found:#}");
    assert!(found[0]["findings"].to_string().contains("silenced by alice"), "{found:#}");
    let url = format!("alertmanager=\"{}\"", fake.url);
    let finding = [url.as_str(), "finding=\"silenced\""];
    watchpost.until("watchpost_alertmanager_finding", &finding, |v| v == 1.0).await;

    // A failing integration has a name; a cluster that has not settled is said; a silence that ended is not said any more.
    *said.lock().unwrap() = Said { failures: 3, settling: true, ..Said::default() };
    let names = |all: &Value| {
        let found = all[0]["alertmanagers"][0]["findings"].to_string();
        found.contains("integration pagerduty fails")
            && found.contains("clientError")
            && found.contains("settling")
            && !found.contains("alice")
    };
    until_switches(&watchpost, "the integration", names).await;
    let (code, output, _) = run(&["deadman", "--address", &watchpost.address]);
    assert_eq!(code, 0);
    assert!(output.contains("integration pagerduty fails"), "{output}");
}

fn last_beat(switches: &Value) -> &Value {
    &switches[0]["last_beat"]
}

/// Renamed, seen by a process or not, and killed: the deadline is the one of the last beat.
#[tokio::test(flavor = "multi_thread")]
async fn f15_a_rename_and_a_kill_move_no_deadline() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let named = |name: &str| {
        let text =
            format!("watchpost: {{ id: here }}\n{}{}", receivers(&pagerduty), switch(name, ""));
        write(folder.path(), &text)
    };
    let path = named("one");
    let mut first = start(&path, &book);
    assert_eq!(ping(&first).await, 200);
    let before = until_switches(&first, "a beat", |all| !last_beat(all).is_null()).await;
    // So much later that a deadline that began anew would be another one.
    tokio::time::sleep(Duration::from_secs(3)).await;
    named("two");
    reload(&first).await;
    until_switches(&first, "the new name", |all| all[0]["name"] == "two").await;
    first.signal(Signal::KILL);
    first.wait();
    let goes_on = |all: &Value, name: &str| {
        let is_it = all[0]["name"] == name && all.as_array().unwrap().len() == 1;
        is_it && !all[0]["deadline"].is_null()
    };
    let check = |after: &Value| {
        let apart = (second_of(&before, "deadline") - second_of(after, "deadline")).abs();
        assert!(apart <= 1, "{before:#} {after:#}");
        assert_eq!(second_of(&before, "last_beat"), second_of(after, "last_beat"));
    };
    let mut second = start(&path, &book);
    check(&until_switches(&second, "after a kill", |all| goes_on(all, "two")).await);
    second.signal(Signal::KILL);
    second.wait();
    named("three");
    let third = start(&path, &book);
    check(&until_switches(&third, "renamed while nobody ran", |all| goes_on(all, "three")).await);
    assert_eq!(pagerduty.opened(), 0, "{:?}", pagerduty.history());
}

/// Removed from the configuration while no process runs, and added again later: what was known of it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn f15_removed_between_two_processes_and_added_again_begins_anew() {
    const OTHER: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f12";
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let with = |first: &str| {
        let text = format!(
            "watchpost: {{ id: here }}\n{}deadman:\n{first}  - {{ name: other, interval: 1h, uuid: {OTHER}, notify: [oncall] }}\n",
            receivers(&pagerduty)
        );
        write(folder.path(), &text)
    };
    let backup = format!("  - {{ name: backup, interval: 1h, uuid: {UUID}, notify: [oncall] }}\n");
    let path = with(&backup);
    let mut first = start(&path, &book);
    assert_eq!(get(&first.url(&format!("/ping/{UUID}/fail"))).await.0, 200);
    until("a page", || pagerduty.open() == 1).await;
    first.signal(Signal::KILL);
    first.wait();

    with("");
    let mut second = start(&path, &book);
    until("its end, as removed", || pagerduty.open() == 0).await;
    // Whatever was to be forgotten was written before this.
    assert_eq!(get(&second.url(&format!("/ping/{OTHER}"))).await.0, 200);
    assert_eq!(ping(&second).await, 404);
    second.signal(Signal::KILL);
    second.wait();

    with(&backup);
    let third = start(&path, &book);
    let is_there = |all: &Value| all[0]["name"] == "backup" && !all[0]["deadline"].is_null();
    let anew = until_switches(&third, "it is back", is_there).await;
    assert_eq!(*last_beat(&anew), Value::Null);
    assert_eq!(pagerduty.opened(), 1, "its old failure is not told: {:?}", pagerduty.history());
    assert_eq!(ping(&third).await, 200);
}
