//! Hours of beating on a clock that waits for nobody: services that fail, an owner that stands still.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::gate::{Lease, Sights, Standing};
use super::vendor::{Accept, ReadBack, Request};
use super::*;
use crate::model::{Stamp, Status};

static BEGIN: LazyLock<std::time::Instant> = LazyLock::new(|| Instant::now().into_std());

/// The paused clock of the test.
fn now() -> Stamp {
    let begin = *BEGIN;
    let boot = (Instant::now().into_std() + Duration::from_hours(1)).duration_since(begin);
    let wall = Timestamp::from_second(1_000_000).unwrap();
    Stamp::new(wall, Duration::ZERO).plus(boot)
}

/// A service without sockets.
#[derive(Default)]
struct Service {
    is_down: AtomicBool,
    /// Seconds for which it asks to be left alone while it is down; 0 for a service that does not answer at all.
    retry_after: AtomicU64,
    tries: Mutex<Vec<Duration>>,
    accepted: Mutex<Vec<Duration>>,
    paths: Mutex<Vec<String>>,
}

impl Wire for Service {
    fn attempt<'a>(
        &'a self,
        request: &'a Request,
        _: &'a Accept,
        _: Option<&'a Url>,
    ) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            let at = now().boot;
            self.tries.lock().unwrap().push(at);
            if !self.is_down.load(Ordering::Relaxed) {
                self.accepted.lock().unwrap().push(at);
                self.paths.lock().unwrap().push(request.url.path().to_owned());
                return Attempt::new(SendResult::Accepted, "");
            }
            let after = self.retry_after.load(Ordering::Relaxed);
            if after > 0 {
                let retry_after = Some(Duration::from_secs(after));
                return Attempt { retry_after, ..Attempt::new(SendResult::RateLimited, "429") };
            }
            sleep(Duration::from_secs(10)).await;
            Attempt::new(SendResult::Timeout, "")
        })
    }

    fn recorded<'a>(&'a self, _: &'a ReadBack) -> BoxFuture<'a, Result<Recorded, Untold>> {
        Box::pin(async { Err(Untold::Missing) })
    }
}

impl Service {
    fn accepted_between(&self, from: Duration, to: Duration) -> usize {
        self.accepted.lock().unwrap().iter().filter(|at| **at >= from && **at < to).count()
    }

    fn longest_gap(&self) -> Duration {
        let accepted = self.accepted.lock().unwrap();
        accepted.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// An owner that issues leases, and heartbeats that need them.
struct World {
    lease: watch::Sender<Option<Lease>>,
    stands_still: Arc<AtomicBool>,
    status: Arc<Mutex<Status>>,
    registry: Registry,
    meter: Meter,
    tasks: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let registry = Registry::new();
        let meter = Meter::new(&registry);
        let lease = watch::Sender::new(None);
        let stands_still = Arc::new(AtomicBool::new(false));
        let status = Arc::new(Mutex::new(Status::Up));
        let mut tasks = JoinSet::new();
        let (issued, still, seen) = (lease.clone(), stands_still.clone(), status.clone());
        tasks.spawn(async move {
            loop {
                if !still.load(Ordering::Relaxed) {
                    let standing = Standing {
                        status: *seen.lock().unwrap(),
                        proven: 1,
                        wanted: 1,
                        detail: String::new(),
                    };
                    let sights = Sights {
                        deadmen: [("alerting".to_owned(), standing)].into(),
                        ..Sights::default()
                    };
                    issued.send_replace(Some(Lease::issue(now(), Arc::new(sights))));
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        Self { lease, stands_still, status, registry, meter, tasks }
    }

    fn start(
        &mut self,
        spec: Spec,
    ) -> (Arc<Service>, watch::Sender<Arc<Spec>>, watch::Receiver<View>) {
        let service = Arc::new(Service::default());
        let wire = service.clone();
        let setup = Setup {
            watchpost: "here".into(),
            lease: self.lease.subscribe(),
            meter: self.meter.clone(),
            connect: Arc::new(move |_| Ok(wire.clone())),
            clock: now,
        };
        let (specs, seen) = watch::channel(Arc::new(spec));
        let (sender, view) = Sender::new(seen, setup);
        self.tasks.spawn(sender.run(CancellationToken::new()));
        (service, specs, view)
    }

    fn value(&self, family: &str, labels: &[&str]) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|it| it.name() == family)?;
        let metric = family.get_metric().iter().find(|metric| {
            labels.iter().all(|label| metric.get_label().iter().any(|it| it.value() == *label))
        })?;
        Some(metric.get_gauge().get_value() + metric.get_counter().get_value())
    }
}

fn spec(name: &str) -> Spec {
    let text = format!(
        r#"{{"name":"{name}","interval":"1m","when":[{{"deadman":"alerting"}}],
            "http":{{"url":"http://localhost/{name}","fail_url":"http://localhost/failed"}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_for_an_hour_does_not_disturb_the_other() {
    let mut world = World::new();
    let (bad, _kept, seen) = world.start(spec("bad"));
    let (good, _kept_too, _) = world.start(spec("good"));
    sleep(10 * MINUTE).await;
    assert!(bad.accepted_between(Duration::ZERO, Duration::MAX) >= 9);
    for retry_after in [0, 1, 1_000_000] {
        bad.is_down.store(true, Ordering::Relaxed);
        bad.retry_after.store(retry_after, Ordering::Relaxed);
        let (from, before) = (now().boot, bad.tries.lock().unwrap().len());
        sleep(60 * MINUTE).await;
        let tries = bad.tries.lock().unwrap().len() - before;
        assert!((59..=6 * 61).contains(&tries), "{tries} tries in an hour");
        assert_eq!(bad.accepted_between(from, Duration::MAX), 0);
        // The evidence holds all the while: what is wrong is the delivery.
        assert!(seen.borrow().open);
        assert_eq!(
            world.value("watchpost_heartbeat_gate_open", &["bad", "deadman:alerting"]),
            Some(1.0)
        );
        bad.is_down.store(false, Ordering::Relaxed);
        let from = now().boot;
        sleep(2 * MINUTE).await;
        assert!(bad.accepted_between(from, Duration::MAX) >= 1);
    }
    assert!(good.longest_gap() <= MINUTE + Duration::from_secs(2), "{:?}", good.longest_gap());
    let failed = world.value("watchpost_heartbeat_sends_total", &["bad", "timeout"]);
    assert!(failed.is_some_and(|count| count > 59.0), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_stands_still_ends_the_beat_and_nothing_else_does() {
    let mut world = World::new();
    let (service, _kept, seen) = world.start(spec("a"));
    sleep(10 * MINUTE).await;
    world.stands_still.store(true, Ordering::Relaxed);
    sleep(LEASE_FOR + Duration::from_secs(2)).await;
    let from = now().boot;
    sleep(30 * MINUTE).await;
    assert_eq!(service.accepted_between(from, Duration::MAX), 0);
    assert!(!seen.borrow().open);
    assert_eq!(world.value("watchpost_heartbeat_gate_open", &["a", "lease"]), Some(0.0));
    let why = world.value("watchpost_heartbeat_gate_closed_info", &["a", "lease", "stalled"]);
    assert_eq!(why, Some(1.0));
    world.stands_still.store(false, Ordering::Relaxed);
    let from = now().boot;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(service.accepted_between(from, Duration::MAX), 1);
    assert_eq!(world.value("watchpost_heartbeat_gate_closed_info", &["a", "lease"]), None);
}

/// A beat whose first tries fail is not sent after all when the evidence is gone meanwhile.
#[tokio::test(start_paused = true)]
async fn evidence_that_goes_between_two_tries_stops_the_next_one() {
    let mut world = World::new();
    let (service, _kept, seen) = world.start(spec("a"));
    service.is_down.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(service.tries.lock().unwrap().len(), 1);
    *world.status.lock().unwrap() = Status::Down;
    sleep(Duration::from_secs(3)).await;
    // While the first try hangs, the gate is looked at all the same.
    assert!(!seen.borrow().open);
    service.is_down.store(false, Ordering::Relaxed);
    sleep(10 * MINUTE).await;
    assert_eq!(service.tries.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_signalled_once_and_after_its_time() {
    let mut world = World::new();
    let mut it = spec("a");
    it.fail_after = Some(crate::model::Period::from_secs(300));
    let (service, _kept, _) = world.start(it);
    sleep(10 * MINUTE).await;
    let beats = service.accepted_between(Duration::ZERO, Duration::MAX);
    *world.status.lock().unwrap() = Status::Down;
    sleep(4 * MINUTE).await;
    assert_eq!(service.accepted_between(Duration::ZERO, Duration::MAX), beats);
    sleep(30 * MINUTE).await;
    assert_eq!(service.accepted_between(Duration::ZERO, Duration::MAX), beats + 1);
    assert_eq!(service.paths.lock().unwrap().last().map(String::as_str), Some("/failed"));
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_pace_and_takes_gates_away() {
    let mut world = World::new();
    let (service, specs, seen) = world.start(spec("a"));
    sleep(10 * MINUTE).await;
    let accepted = seen.borrow().accepted;
    assert!(accepted.is_some());
    // The same over and over: no beat comes early, none is lost.
    for _ in 0..20 {
        let mut other = spec("a");
        other.when.push(Condition { deadman: None, probe: Some("x".into()), receiver: None });
        specs.send_replace(Arc::new(other));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(world.value("watchpost_heartbeat_gate_open", &["a", "probe:x"]), Some(0.0));
        specs.send_replace(Arc::new(spec("a")));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(world.value("watchpost_heartbeat_gate_open", &["a", "probe:x"]), None);
    }
    assert!(seen.borrow().accepted >= accepted);
    let gaps = service.longest_gap();
    assert!(gaps <= MINUTE + Duration::from_secs(5), "{gaps:?}");
    let count = service.accepted_between(Duration::ZERO, Duration::MAX);
    assert!(count <= 13, "{count} beats in 11 minutes");
    // Another place: it is told at once, and nothing is claimed of what it accepted.
    let mut elsewhere = spec("a");
    elsewhere.http.as_mut().unwrap().url =
        Some(crate::model::Secret::new("http://localhost/b".into()));
    specs.send_replace(Arc::new(elsewhere));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(service.paths.lock().unwrap().last().map(String::as_str), Some("/b"));
}
