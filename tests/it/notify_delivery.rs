//! The notifier with a book and vendors: one page for each episode, whatever the vendors do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchpost::book::{Book, Failpoint, Options};
use watchpost::clock;
use watchpost::model::{Notify, Stamp, Status};
use watchpost::notify::{
    Backoff, Boundary, Handle, Identity, Notifier, NotifyEvent, Receiver, Settings, Subject,
    TestResult,
};

use crate::notify_receivers::receiver;
use crate::support::fakes::{Fake, PagerDuty, Reply};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running notifier.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) registry: Registry,
    pub(crate) tasks: TaskTracker,
    pub(crate) ahead: Arc<Mutex<Duration>>,
    stop: CancellationToken,
}

/// Real waits, made short.
pub(crate) fn settings(ahead: &Arc<Mutex<Duration>>, die_at: Option<Boundary>) -> Settings {
    let ahead = Arc::clone(ahead);
    Settings {
        identity: Identity { id: "a".into(), region: None, url: None },
        backoff: Backoff {
            first: Duration::from_millis(50),
            longest: Duration::from_millis(200),
            longest_asked: Duration::from_secs(1),
            refused: Duration::from_millis(300),
        },
        grace: Duration::from_millis(200),
        clock: Arc::new(move || -> Stamp { clock::now().plus(*ahead.lock().unwrap()) }),
        die_at,
        ..Settings::default()
    }
}

pub(crate) fn start(book: Book, receivers: Vec<Receiver>, die_at: Option<Boundary>) -> Running {
    let ahead = Arc::default();
    let (registry, tasks, stop) = (Registry::new(), TaskTracker::new(), CancellationToken::new());
    let settings = settings(&ahead, die_at);
    let handle = Notifier::start(book, receivers, &registry, &tasks, stop.clone(), settings);
    tasks.close();
    Running { handle, registry, tasks, ahead, stop }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }

    /// Waits until everything was taken.
    pub(crate) async fn confirmed(&self) {
        until("a confirmation", || self.handle.snapshot().outbox.is_empty()).await;
    }

    /// Waits until nothing is in trouble, and then for as long as it takes to believe it.
    async fn recovered(&self) {
        let is_quiet = || self.handle.snapshot().episodes.iter().all(|e| e.quiet_since.is_some());
        until("the end is seen", is_quiet).await;
        self.pass(Duration::from_secs(120));
    }

    /// Lets time pass, as far as the notifier can tell.
    fn pass(&self, time: Duration) {
        *self.ahead.lock().unwrap() += time;
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name)?;
        let metric = family.get_metric().iter().find(|m| {
            let has =
                |n: &str, v: &str| m.get_label().iter().any(|l| l.name() == n && l.value() == v);
            labels.iter().all(|(n, v)| has(n, v))
        })?;
        Some(metric.get_gauge().get_value() + metric.get_counter().get_value())
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "{what} did not come to hold");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn event(name: &str, to: Status) -> NotifyEvent {
    NotifyEvent {
        subject: Subject::deadman(name),
        member: name.into(),
        to,
        at: clock::now(),
        text: "no beat since 03:00".into(),
        evidence: Some("last beat from 10.0.0.7".into()),
        notify: Notify {
            receivers: BTreeMap::from([(Status::Down, vec!["oncall".to_owned()])]),
            ..Notify::default()
        },
        keep_as: Some(format!("deadman-{name}")),
    }
}

pub(crate) fn oncall(pagerduty: &PagerDuty, key: &str) -> Receiver {
    receiver(json!({
        "name": "oncall", "timeout": "1s",
        "pagerduty": {"routing_key": key, "url": pagerduty.url()},
    }))
}

fn oncall_with_fallback(pagerduty: &PagerDuty, more: &serde_json::Value) -> Receiver {
    let mut spec = json!({
        "name": "oncall", "timeout": "1s", "fallback": "second",
        "pagerduty": {"routing_key": "k1", "url": pagerduty.url()},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    receiver(spec)
}

fn second(fake: &Fake) -> Receiver {
    receiver(json!({"name": "second", "webhook": {"url": &fake.url}}))
}

pub(crate) fn book(dir: &Path) -> Book {
    Book::open(dir).unwrap()
}

/// A book on a disk that can be broken.
fn breakable(dir: &Path) -> (Book, Arc<Failpoint>) {
    let failpoint = Arc::new(Failpoint::default());
    let retry_every = Duration::from_millis(50);
    let failpoint_too = Arc::clone(&failpoint);
    let options = Options { retry_every, failpoint: failpoint_too, ..Options::default() };
    (Book::open_with(dir, options).unwrap(), failpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_one_incident_from_beginning_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], None);
    running.handle.change(event("backup", Status::Down));
    running.handle.change(event("backup", Status::Down));
    until("an incident", || pagerduty.open() == 1).await;
    assert!(running.handle.evidence("oncall").is_none() || pagerduty.opened() == 1);
    running.confirmed().await;
    let proof = running.handle.evidence("oncall").unwrap();
    assert!(proof.age(&book_now(&proof)).is_some());
    running.handle.change(event("backup", Status::Up));
    running.recovered().await;
    until("its end", || pagerduty.resolved() == 1).await;
    until("nothing open", || running.handle.snapshot().episodes.is_empty()).await;
    let receiver = [("receiver", "oncall")];
    assert_eq!(running.metric("watchpost_episodes_open", &receiver), Some(0.0));
    until("the depth", || running.metric("watchpost_outbox_depth", &receiver) == Some(0.0)).await;
    let delivered = [("receiver", "oncall"), ("result", "delivered")];
    assert_eq!(running.metric("watchpost_deliveries_total", &delivered), Some(2.0));
    assert_eq!(running.metric("watchpost_book_writable", &[]), Some(1.0));
    assert_eq!(running.metric("watchpost_outbox_oldest_timestamp_seconds", &receiver), None);
    running.stop().await;
}

fn book_now(proof: &watchpost::book::Moment) -> watchpost::book::Moment {
    watchpost::book::Moment::new(clock::now(), proof.boot_id.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_day_of_the_pager_ends_in_one_incident() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    pagerduty.http.script([
        Reply::text(500, ""),
        Reply::Hang,
        Reply::Later(429, "1".into()),
        Reply::Later(429, "86400000".into()),
        Reply::Later(503, "Sun, 06 Nov 1994 08:49:37 GMT".into()),
        Reply::text(400, r#"{"status":"invalid event"}"#),
        Reply::text(200, "captive portal"),
    ]);
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], None);
    running.handle.change(event("backup", Status::Down));
    until("an incident", || pagerduty.open() == 1).await;
    assert_eq!(pagerduty.opened(), 1);
    assert_eq!(pagerduty.http.count(), 8);
    let refused = [("receiver", "oncall"), ("result", "refused")];
    assert_eq!(running.metric("watchpost_deliveries_total", &refused), Some(2.0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_and_dropped_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    pagerduty.set_drops(true);
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], None);
    running.handle.change(event("backup", Status::Down));
    until("a request", || pagerduty.http.count() == 1).await;
    running.confirmed().await;
    pagerduty.set_drops(false);
    running.pass(Duration::from_mins(61));
    until("an incident", || pagerduty.open() == 1).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_goes_to_the_fallback_at_once_and_both_hear_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["another"]).await;
    let hook = Fake::start(|_| Reply::text(200, "")).await;
    let receivers = vec![oncall_with_fallback(&pagerduty, &json!({})), second(&hook)];
    let running = start(book(dir.path()), receivers, None);
    running.handle.change(event("backup", Status::Down));
    until("the fallback", || hook.count() == 1).await;
    let told = hook.ledger()[0].json();
    assert_eq!(told["state"], "firing");
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("receiver oncall could not deliver this: status 400"), "{text}");
    // Somebody repairs the key.
    pagerduty.set_keys(&["k1"]);
    until("an incident", || pagerduty.open() == 1).await;
    running.handle.change(event("backup", Status::Up));
    running.recovered().await;
    until("both ends", || pagerduty.resolved() == 1 && hook.count() == 2).await;
    assert_eq!(hook.ledger()[1].json()["state"], "resolved");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pager_that_swallows_everything_delays_nobody_and_loses_to_its_fallback() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    pagerduty.http.script(std::iter::repeat_n(Reply::Hang, 500));
    let hook = Fake::start(|_| Reply::text(200, "")).await;
    let receivers =
        vec![oncall_with_fallback(&pagerduty, &json!({"fallback_after": "1m"})), second(&hook)];
    let running = start(book(dir.path()), receivers, None);
    for i in 0..50 {
        running.handle.change(event(&format!("job-{i}"), Status::Down));
    }
    // The other receiver works meanwhile.
    let mut other = event("other", Status::Down);
    other.notify.receivers.insert(Status::Down, vec!["second".into()]);
    running.handle.change(other);
    until("the other", || hook.count() == 1).await;
    assert!(pagerduty.http.count() <= 4, "bounded: {}", pagerduty.http.count());
    running.pass(Duration::from_mins(1));
    until("fifty at the fallback", || hook.count() == 51).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_uses_the_key_that_opened_across_rotation_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["old-key", "new-key"]).await;
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "old-key")], None);
    running.handle.change(event("backup", Status::Down));
    until("an incident", || pagerduty.open() == 1).await;
    running.confirmed().await;
    let shown = format!("{:?}", running.handle.snapshot());
    assert!(!shown.contains("old-key"), "no key is shown: {shown}");
    running.stop().await;

    let running = start(book(dir.path()), vec![oncall(&pagerduty, "new-key")], None);
    running.handle.change(event("backup", Status::Up));
    running.recovered().await;
    until("its end", || pagerduty.open() == 0).await;
    running.confirmed().await;
    running.stop().await;
    assert!(book(dir.path()).routes().is_empty(), "the key is forgotten with the episode");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_does_not_keep_a_page_back() {
    let dir = tempfile::tempdir().unwrap();
    let (book, failpoint) = breakable(dir.path());
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let running = start(book.clone(), vec![oncall(&pagerduty, "k1")], None);
    failpoint.set_full(true);
    running.handle.change(event("backup", Status::Down));
    until("an incident", || pagerduty.open() == 1).await;
    assert!(!book.writable());
    until("the gauge", || running.metric("watchpost_book_writable", &[]) == Some(0.0)).await;
    assert!(running.metric("watchpost_book_errors_total", &[]).unwrap() > 0.0);
    failpoint.set_full(false);
    until("a good disk", || book.writable()).await;
    running.stop().await;
    drop(book);
    let book = self::book(dir.path());
    assert_eq!(book.episodes().len(), 1, "what was decided meanwhile is on disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_disk_holds_a_page_back_for_seconds_only() {
    let dir = tempfile::tempdir().unwrap();
    let (book, failpoint) = breakable(dir.path());
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let running = start(book, vec![oncall(&pagerduty, "k1")], None);
    failpoint.set_stalled(true);
    running.handle.change(event("backup", Status::Down));
    until("an incident", || pagerduty.open() == 1).await;
    failpoint.set_stalled(false);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_whether_the_way_works() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], None);
    assert_eq!(running.handle.test("nobody").await, TestResult::NoSuchReceiver);
    assert_eq!(running.handle.test("oncall").await, TestResult::Delivered);
    assert_eq!((pagerduty.opened(), pagerduty.open()), (1, 0));
    let receiver = [("receiver", "oncall")];
    let name = "watchpost_receiver_last_test_success_timestamp_seconds";
    assert!(running.metric(name, &receiver).is_some());
    pagerduty.set_keys(&[]);
    let TestResult::Failed(why) = running.handle.test("oncall").await else { panic!("refused") };
    assert!(why.contains("routing_key"), "{why}");
    until("no leftovers", || running.handle.snapshot().outbox.is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_tests_tell_the_fallback_when_they_do_not_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let hook = Fake::start(|_| Reply::text(200, "")).await;
    let receivers =
        || vec![oncall_with_fallback(&pagerduty, &json!({"test_interval": "1d"})), second(&hook)];
    let running = start(book(dir.path()), receivers(), None);
    until("the first test", || pagerduty.resolved() == 1).await;
    running.confirmed().await;
    running.stop().await;
    // A restart is no reason for another one.
    let running = start(book(dir.path()), receivers(), None);
    assert!(running.handle.evidence("oncall").is_some());
    pagerduty.set_keys(&[]);
    running.pass(Duration::from_hours(25));
    until("the fallback", || hook.count() == 1).await;
    assert_eq!(pagerduty.opened(), 1);
    let told = hook.ledger()[0].json();
    assert!(told["headline"].as_str().unwrap().contains("receiver oncall"), "{told}");
    pagerduty.set_keys(&["k1"]);
    until("the test arrives", || pagerduty.resolved() == 2).await;
    running.recovered().await;
    until("its end", || hook.count() == 2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_outbox_and_tries_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["good"]).await;
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "bad")], None);
    running.handle.change(event("backup", Status::Down));
    until("a refusal", || running.handle.snapshot().outbox.iter().any(|o| o.refused)).await;
    running.handle.reload(vec![oncall(&pagerduty, "good")]);
    until("an incident", || pagerduty.open() == 1).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_from_the_configuration_ends_as_removed() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Fake::start(|_| Reply::text(200, "")).await;
    let receivers = || vec![receiver(json!({"name": "oncall", "webhook": {"url": &hook.url}}))];
    let running = start(book(dir.path()), receivers(), None);
    running.handle.change(event("backup", Status::Down));
    until("a message", || hook.count() == 1).await;
    running.stop().await;
    let running = start(book(dir.path()), receivers(), None);
    running.handle.reconcile(BTreeMap::from([(Subject::deadman("another"), vec![])]));
    until("the end", || hook.count() == 2).await;
    let headline = hook.ledger()[1].json()["headline"].as_str().unwrap().to_owned();
    assert!(headline.contains("was removed from the configuration"), "{headline}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_recoveries_keep_order_within_the_rate() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], None);
    for i in 0..90 {
        running.handle.change(event(&format!("job-{i}"), Status::Down));
        running.handle.change(event(&format!("job-{i}"), Status::Up));
    }
    until("all beginnings", || pagerduty.opened() == 90).await;
    running.pass(Duration::from_secs(59));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(pagerduty.http.count() <= 100, "{}", pagerduty.http.count());
    running.pass(Duration::from_mins(2));
    until("all ends", || pagerduty.resolved() == 90).await;
    running.stop().await;
}
