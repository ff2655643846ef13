//! Pages through the built binary: a target goes down and comes back, processes die, targets are removed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::notify_delivery::until;
use crate::support::fakes::{Incident, PagerDuty, Reply};
use crate::support::watchpost::{Watchpost, get, run};

/// A port of loopback on which somebody listens, or not.
struct Target {
    address: String,
    listener: Option<TcpListener>,
}

impl Target {
    fn up() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { address: listener.local_addr().unwrap().to_string(), listener: Some(listener) }
    }

    fn fall(&mut self) {
        self.listener = None;
    }

    fn rise(&mut self) {
        self.listener = Some(TcpListener::bind(&self.address).unwrap());
    }
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("w.yml");
    std::fs::write(&path, text).unwrap();
    path
}

fn config(pagerduty: &PagerDuty, targets: &[&Target], extra: &str) -> String {
    let addresses: Vec<&str> = targets.iter().map(|t| t.address.as_str()).collect();
    format!(
        "watchpost: {{ id: here }}\n\
         modules: {{ open: {{ prober: tcp }} }}\n\
         receivers:\n  - name: oncall\n    resolve_after: 1s\n    pagerduty: {{ routing_key: k1, url: '{}' }}\n\
         probes:\n  - name: ports\n    module: open\n    interval: 200ms\n    targets: {addresses:?}\n    \
         notify: {{ down: [oncall], runbook: 'https://runbooks.example/ports' }}\n{extra}",
        pagerduty.url()
    )
}

fn start(config: &Path, book: &Path) -> Watchpost {
    Watchpost::start_with(config, &[&format!("--storage.path={}", book.display())])
}

async fn api(watchpost: &Watchpost) -> Value {
    let (code, body) = get(&watchpost.url("/api/v1/notifications")).await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn until_api(watchpost: &Watchpost, what: &str, pleases: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = api(watchpost).await;
        if pleases(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: {answer:#}\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_settled(answer: &Value) -> bool {
    answer["outbox"].as_array().unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_falls_is_one_page_and_its_return_is_the_end_of_it() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let mut target = Target::up();
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &config(&pagerduty, &[&target], ""));
    let watchpost = start(&path, &folder.path().join("book"));
    watchpost.until("probe_status", &["status=\"up\""], |v| v == 1.0).await;
    assert_eq!(pagerduty.http.count(), 0, "nothing is wrong yet");

    target.fall();
    until("an incident", || pagerduty.open() == 1).await;
    let trigger = pagerduty.http.ledger()[0].json();
    let summary = trigger["payload"]["summary"].as_str().unwrap();
    assert!(summary.contains("ports"), "{summary}");
    assert!(trigger.to_string().contains(&target.address), "{trigger:#}");
    assert!(trigger.to_string().contains("nothing listens on"), "{trigger:#}");
    assert!(trigger.to_string().contains("https://runbooks.example/ports"), "{trigger:#}");
    assert!(trigger.to_string().contains("last success"), "{trigger:#}");
    let open = until_api(&watchpost, "one episode, delivered", is_settled).await;
    assert_eq!(open["episodes"][0]["name"], "ports");
    assert_eq!(open["durable"], true);
    let (_, page) = get(&watchpost.url("/")).await;
    assert!(page.contains("<h2>Notifications</h2>") && page.contains("oncall"), "{page}");
    let (_, status) = get(&watchpost.url("/api/v1/status")).await;
    assert!(status.contains("\"notifications\":{\"durable\":true"), "{status}");
    let (code, output, errors) = run(&["notifications", "--address", &watchpost.address]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("probe ports: oncall is told since"), "{output}");
    assert!(output.contains(&target.address), "{output}");

    target.rise();
    until("the end", || pagerduty.resolved() == 1).await;
    let keys: Vec<String> = pagerduty
        .history()
        .into_iter()
        .map(|incident| match incident {
            Incident::Opened { key, .. } | Incident::Resolved { key, .. } => key,
        })
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

/// The process dies while the pager refuses to take anything; the next one goes on with the same episode.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_neither_loses_nor_repeats_a_page() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let mut target = Target::up();
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let path = write(folder.path(), &config(&pagerduty, &[&target], ""));
    let mut first = start(&path, &book);
    first.until("probe_status", &["status=\"up\""], |v| v == 1.0).await;
    pagerduty.http.script(std::iter::repeat_n(Reply::text(500, ""), 100_000));
    target.fall();
    until_api(&first, "an attempt", |a| a["outbox"][0]["attempts"].as_u64() >= Some(1)).await;
    first.signal(Signal::KILL);
    first.wait();
    assert_eq!(pagerduty.opened(), 0);
    pagerduty.http.script_ends();

    let mut second = start(&path, &book);
    until("an incident", || pagerduty.open() == 1).await;
    until_api(&second, "delivered", is_settled).await;
    second.signal(Signal::KILL);
    second.wait();

    // What was confirmed is not told again by the third.
    let third = start(&path, &book);
    third.until("probe_runs_total", &["result=\"fail\""], |v| v > 5.0).await;
    let open = api(&third).await;
    assert_eq!(open["episodes"].as_array().unwrap().len(), 1, "{open:#}");
    assert_eq!(open["episodes"][0]["notifications"], 1, "{open:#}");
    assert_eq!(pagerduty.opened(), 1);
    target.rise();
    until("the end", || pagerduty.open() == 0).await;
    assert_eq!((pagerduty.opened(), pagerduty.resolved()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_target_closes_its_page_as_removed() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let (up, mut down) = (Target::up(), Target::up());
    down.fall();
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &config(&pagerduty, &[&up, &down], ""));
    let watchpost = start(&path, &folder.path().join("book"));
    until("an incident", || pagerduty.open() == 1).await;
    until_api(&watchpost, "delivered", is_settled).await;
    write(folder.path(), &config(&pagerduty, &[&up], ""));
    watchpost.signal(Signal::HUP);
    until("the end", || pagerduty.resolved() == 1).await;
    let (code, body) = get(&watchpost.url("/api/v1/notifications")).await;
    assert_eq!(code, 200);
    assert!(body.contains("\"episodes\":[]"), "{body}");
}

/// Also when the target was removed while nothing ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_removed_between_two_processes_closes_its_page() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let (up, mut down) = (Target::up(), Target::up());
    down.fall();
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let path = write(folder.path(), &config(&pagerduty, &[&up, &down], ""));
    let mut first = start(&path, &book);
    until("an incident", || pagerduty.open() == 1).await;
    first.signal(Signal::TERM);
    first.wait();
    write(folder.path(), &config(&pagerduty, &[&up], ""));
    let _second = start(&path, &book);
    until("the end", || pagerduty.resolved() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_targets_up_are_no_page_and_too_few_name_the_missing() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let mut targets = [Target::up(), Target::up(), Target::up()];
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<&Target> = targets.iter().collect();
    let path =
        write(folder.path(), &config(&pagerduty, &all, "    min_up: 2\n    pipeline: true\n"));
    let watchpost = start(&path, &folder.path().join("book"));
    watchpost.until("watchpost_checks", &["status=\"up\""], |v| v == 3.0).await;
    targets[0].fall();
    watchpost.until("watchpost_checks", &["status=\"down\""], |v| v == 1.0).await;
    targets[1].fall();
    until("an incident", || pagerduty.open() == 1).await;
    assert_eq!(pagerduty.opened(), 1, "one of three is degraded, and nobody is told of that");
    let trigger = pagerduty.http.ledger()[0].json().to_string();
    assert!(trigger.contains("at least 2 must be"), "{trigger}");
    assert!(trigger.contains(&targets[0].address), "{trigger}");
    assert!(trigger.contains(&targets[1].address), "{trigger}");
    targets[0].rise();
    until("the end", || pagerduty.resolved() == 1).await;
}

/// One page about ourselves instead of one about everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_blind_watchpost_says_so_once() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let mut target = Target::up();
    let folder = tempfile::tempdir().unwrap();
    let text = config(&pagerduty, &[&target], "references: ['no-such-host.invalid:443']\n");
    let path = write(folder.path(), &text);
    let watchpost = start(&path, &folder.path().join("book"));
    watchpost.until("watchpost_blind", &[], |v| v == 1.0).await;
    until("an incident", || pagerduty.open() == 1).await;
    target.fall();
    watchpost.until("probe_success", &[], |v| v == 0.0).await;
    let open = until_api(&watchpost, "delivered", is_settled).await;
    assert_eq!(open["episodes"].as_array().unwrap().len(), 1, "{open:#}");
    assert_eq!(open["episodes"][0]["kind"], "watchpost");
    assert_eq!(open["episodes"][0]["name"], "blind");
    assert_eq!(pagerduty.opened(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_waits_for_the_book_and_takes_it_over() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let target = Target::up();
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let path = write(folder.path(), &config(&pagerduty, &[&target], ""));
    let mut first = start(&path, &book);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_watchpost"))
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--web.listen-address={port}"))
        .arg(format!("--storage.path={}", book.display()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ready = || async move {
        let answer = reqwest::get(format!("http://{port}/-/ready")).await;
        answer.ok().map(|answer| answer.status().as_u16())
    };
    let end = Instant::now() + Duration::from_secs(30);
    while ready().await.is_none() {
        assert!(Instant::now() < end, "it does not serve");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ready().await, Some(503));
    first.signal(Signal::TERM);
    first.wait();
    while ready().await != Some(200) {
        assert!(Instant::now() < end, "it does not take over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    second.kill().unwrap();
    second.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_tried_for_real() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &config(&pagerduty, &[], ""));
    let file = format!("--config.file={}", path.display());
    let test = |name: &'static str| {
        let file = file.clone();
        tokio::task::spawn_blocking(move || run(&["notify", "test", name, &file]))
    };
    let (code, output, errors) = test("oncall").await.unwrap();
    assert_eq!(code, 0, "{output}{errors}");
    assert_eq!((pagerduty.opened(), pagerduty.resolved()), (1, 1));
    pagerduty.set_keys(&["another"]);
    let (code, output, _) = test("oncall").await.unwrap();
    assert_eq!(code, 1);
    assert!(output.contains("failed") && output.contains("routing_key"), "{output}");
    let (code, _, errors) = test("onkall").await.unwrap();
    assert_eq!(code, 2);
    assert!(errors.contains("oncall"), "{errors}");
}
