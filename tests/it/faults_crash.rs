//! `kill -9` of the built binary at every step between a decision and its confirmation, and what a restart makes of it.
//!
//! Debug builds fall dead where `WATCHPOST_DIE_AT` says. A death while a request is under way needs no such help: the
//! pager kills whoever calls.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::notify_delivery::until;
use crate::support::fakes::{Fake, PagerDuty, Received, Reply};
use crate::support::watchpost::{Watchpost, get};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";
const BOUNDARIES: [&str; 5] = ["decided", "written", "sent", "answered", "confirmed"];

pub(crate) fn config(folder: &Path, pager: &str, switch: &str) -> PathBuf {
    let path = folder.join("w.yml");
    let text = format!(
        "watchpost: {{ id: here }}\n\
         receivers:\n  - name: oncall\n    resolve_after: 1s\n    timeout: 2s\n    \
         pagerduty: {{ routing_key: k1, url: '{pager}' }}\n\
         deadman:\n  - name: backup\n    {switch}\n    uuid: {UUID}\n    notify: [oncall]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn start(config: &Path, die_at: Option<&str>) -> Watchpost {
    let storage = format!("--storage.path={}", config.parent().unwrap().join("book").display());
    let variables: Vec<(&str, &str)> =
        die_at.map(|at| ("WATCHPOST_DIE_AT", at)).into_iter().collect();
    Watchpost::start_in(config, &[&storage], &variables)
}

/// A ping; whoever answers it may die of it.
pub(crate) async fn ping(watchpost: &Watchpost, action: &str) -> Option<u16> {
    let answer = reqwest::get(watchpost.url(&format!("/ping/{UUID}{action}"))).await;
    answer.ok().map(|answer| answer.status().as_u16())
}

pub(crate) async fn notifications(watchpost: &Watchpost) -> Value {
    serde_json::from_str(&get(&watchpost.url("/api/v1/notifications")).await.1).unwrap()
}

async fn until_settled(watchpost: &Watchpost, episodes: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let state = notifications(watchpost).await;
        let count = |name: &str| state[name].as_array().unwrap().len();
        if count("outbox") == 0 && count("episodes") == episodes {
            return;
        }
        assert!(Instant::now() < end, "{state:#}\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A page from its beginning to its end, with one death on the way.
async fn survives(at: String) {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), &pagerduty.url(), "interval: 1h");
    let mut first = start(&path, Some(&at));
    ping(&first, "/fail").await;
    if at.ends_with("resolve") {
        until("an incident", || pagerduty.open() == 1).await;
        ping(&first, "").await;
    }
    let ended = tokio::task::spawn_blocking(move || first.wait()).await.unwrap();
    assert!(!ended.success(), "{at}: it was killed");

    let second = start(&path, None);
    if at.ends_with("trigger") {
        until(&format!("{at}: an incident"), || pagerduty.open() == 1).await;
        until_settled(&second, 1).await;
        ping(&second, "").await;
    }
    until(&format!("{at}: its end"), || pagerduty.open() == 0).await;
    until_settled(&second, 0).await;
    assert_eq!(pagerduty.opened(), 1, "{at}: one incident, {:?}", pagerduty.history());
    assert_eq!(pagerduty.resolved(), 1, "{at}: {:?}", pagerduty.history());
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_no_death_on_the_way_of_a_page_loses_it() {
    for boundary in BOUNDARIES {
        survives(format!("{boundary}:trigger")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_no_death_on_the_way_of_an_end_loses_it() {
    for boundary in BOUNDARIES {
        survives(format!("{boundary}:resolve")).await;
    }
}

/// A pager that kills whoever calls: when the request is there, or a moment after its answer.
struct Killer {
    pager: Fake,
    /// Whom to kill; 0 for nobody.
    victim: Arc<AtomicI32>,
    /// Events that were taken.
    taken: Arc<Mutex<Vec<Value>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Deed {
    /// The event is lost with the answer.
    Before,
    /// The event is taken, the answer is not given.
    Instead,
    /// The answer is on its way.
    With,
}

impl Killer {
    async fn start(deed: Deed) -> Self {
        let victim = Arc::new(AtomicI32::new(0));
        let taken: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (whom, events) = (Arc::clone(&victim), Arc::clone(&taken));
        let answer = move |request: &Received| {
            let event = request.json();
            let accepted = Reply::Text(
                202,
                format!(r#"{{"status":"success","dedup_key":{}}}"#, event["dedup_key"]),
            );
            let victim = whom.swap(0, Ordering::SeqCst);
            if victim == 0 || deed != Deed::Before {
                events.lock().unwrap().push(event);
            }
            let Some(pid) = Pid::from_raw(victim) else { return accepted };
            if deed == Deed::With {
                std::thread::spawn(move || kill_process(pid, Signal::KILL));
                return accepted;
            }
            kill_process(pid, Signal::KILL).unwrap();
            Reply::Hang
        };
        Self { pager: Fake::start(answer).await, victim, taken }
    }

    fn count(&self, action: &str) -> usize {
        self.taken.lock().unwrap().iter().filter(|e| e["event_action"] == action).count()
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            self.taken.lock().unwrap().iter().map(|e| e["dedup_key"].to_string()).collect();
        keys.dedup();
        keys
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_a_death_while_the_request_is_under_way_is_one_incident() {
    for deed in [Deed::Before, Deed::Instead, Deed::With] {
        let killer = Killer::start(deed).await;
        let folder = tempfile::tempdir().unwrap();
        let path =
            config(folder.path(), &format!("{}/v2/enqueue", killer.pager.url), "interval: 1h");
        for action in ["trigger", "resolve"] {
            let mut doomed = start(&path, None);
            killer.victim.store(doomed.pid(), Ordering::SeqCst);
            ping(&doomed, if action == "trigger" { "/fail" } else { "" }).await;
            let ended = tokio::task::spawn_blocking(move || doomed.wait()).await.unwrap();
            assert!(!ended.success(), "it was killed");
            let second = start(&path, None);
            until(action, || killer.count(action) > 0).await;
            until_settled(&second, usize::from(action == "trigger")).await;
        }
        assert_eq!(killer.keys().len(), 1, "one dedup key");
        assert!(killer.count("trigger") <= 2 && killer.count("resolve") <= 2, "no storm");
    }
}

/// Three processes in a row die of their first attempt; the fourth delivers.
#[tokio::test(flavor = "multi_thread")]
async fn f3_a_crash_loop_of_the_process_still_pages() {
    let killer = Killer::start(Deed::Before).await;
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), &format!("{}/v2/enqueue", killer.pager.url), "interval: 1h");
    let mut doomed = start(&path, None);
    killer.victim.store(doomed.pid(), Ordering::SeqCst);
    ping(&doomed, "/fail").await;
    doomed = tokio::task::spawn_blocking(move || {
        doomed.wait();
        doomed
    })
    .await
    .unwrap();
    drop(doomed);
    for _ in 0..2 {
        // Known before it is ready: what is in the outbox is tried at once.
        let started = start_doomed(&path, &killer.victim);
        tokio::task::spawn_blocking(move || started.wait_with_output().unwrap()).await.unwrap();
    }
    let last = start(&path, None);
    until("a page", || killer.count("trigger") == 1).await;
    until_settled(&last, 1).await;
}

fn start_doomed(config: &Path, victim: &AtomicI32) -> std::process::Child {
    let storage = format!("--storage.path={}", config.parent().unwrap().join("book").display());
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .arg(format!("--config.file={}", config.display()))
        .args(["--web.listen-address=127.0.0.1:0", &storage])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    victim.store(i32::try_from(child.id()).unwrap(), Ordering::SeqCst);
    child
}

/// Silence counts from the last beat, whoever was alive meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_kill_in_the_middle_of_silence_moves_no_deadline() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), &pagerduty.url(), "interval: 8s\n    grace: 1s");
    let mut first = start(&path, None);
    assert_eq!(ping(&first, "").await, Some(200));
    let beaten = Instant::now();
    first.signal(Signal::KILL);
    first.wait();
    let second = start(&path, None);
    until("an incident", || pagerduty.open() == 1).await;
    let took = beaten.elapsed().as_secs_f64();
    // An overdue deadline is looked at again after 5 s; on a slow machine the start may come that late.
    assert!((8.5..20.0).contains(&took), "{took} s after the last beat\n{}", second.log());
    assert_eq!(pagerduty.opened(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_start_after_the_deadline_pages_at_once() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), &pagerduty.url(), "interval: 5s\n    grace: 0s");
    let mut first = start(&path, None);
    assert_eq!(ping(&first, "").await, Some(200));
    first.signal(Signal::KILL);
    first.wait();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let second = start(&path, None);
    let began = Instant::now();
    until("an incident", || pagerduty.open() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}\n{}", began.elapsed(), second.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_f14_neither_reload_nor_restart_moves_a_first_deadline() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), &pagerduty.url(), "interval: 20s\n    grace: 1s");
    let deadline = |watchpost: &Watchpost| {
        let page = get_owned(watchpost.url("/metrics"));
        async move {
            let page = page.await;
            let name = "watchpost_deadman_deadline_timestamp_seconds";
            crate::support::watchpost::sample(&page, name, &["backup"])
        }
    };
    let name = ["deadman=\"backup\""];
    let mut first = start(&path, None);
    let family = "watchpost_deadman_deadline_timestamp_seconds";
    let armed = first.until(family, &name, |_| true).await;
    first.signal(Signal::HUP);
    first.until("watchpost_config_last_reload_successful", &[], |v| v == 1.0).await;
    let reloaded = deadline(&first).await.unwrap();
    assert!((reloaded - armed).abs() < 0.1, "{armed} {reloaded}");
    first.signal(Signal::KILL);
    first.wait();
    let second = start(&path, None);
    let restarted = second.until(family, &name, |_| true).await;
    assert!((restarted - armed).abs() < 0.1, "{armed} {restarted}");
    // The file says another limit now: it counts from the same moment.
    config(folder.path(), &pagerduty.url(), "interval: 10s\n    grace: 1s");
    second.signal(Signal::HUP);
    second.until(family, &name, |deadline| (deadline - armed + 10.0).abs() < 0.1).await;
    until("an incident", || pagerduty.open() == 1).await;
}

async fn get_owned(url: String) -> String {
    get(&url).await.1
}
