//! Heartbeats on their way: what the owner saw becomes a lease, each heartbeat has a task that may beat while the lease is
//! fresh and all of its evidence holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::deadmen::{Judging, PROBER};
use super::ledger::Ledger;
use crate::book::Book;
use crate::clock;
use crate::config::Config;
use crate::heartbeat::{
    BookSight, Connect, Lease, Meter, ReceiverSight, Sender, Setup, Sights, Spec, Standing, View,
    over_http,
};
use crate::model::{Stamp, Status};
use crate::net::Resolver;
use crate::notify::Receiver;
use crate::shutdown::Tasks;

/// Leases are issued this often, and at once when something has changed.
const LEASE_EVERY: Duration = Duration::from_secs(1);
/// A receiver that does not take a notification for this long does not work; it may be slow for less.
const PATIENCE: Duration = Duration::from_secs(60);
/// Members that a reason names.
const MAX_NAMED: usize = 5;

/// The subjects of conditions.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    deadmen: BTreeSet<String>,
    probes: BTreeSet<String>,
    /// With their `test_interval`.
    receivers: BTreeMap<String, Option<Duration>>,
}

impl Wanted {
    pub(super) fn of(config: &Config) -> Self {
        let mut wanted = Self::default();
        let conditions = config.heartbeats.iter().flat_map(|spec| &spec.when);
        for (kind, name) in conditions.filter_map(|condition| condition.subject()) {
            let name = name.to_owned();
            match kind {
                "deadman" => drop(wanted.deadmen.insert(name)),
                "probe" => drop(wanted.probes.insert(name)),
                _ => {
                    let interval = test_interval(&config.receivers, &name);
                    wanted.receivers.insert(name, interval);
                }
            }
        }
        wanted
    }
}

fn test_interval(receivers: &[Receiver], name: &str) -> Option<Duration> {
    receivers.iter().find(|receiver| receiver.name == name)?.test_interval
}

/// Issues leases, in the owner's task. It waits for no disk and no network.
#[derive(Debug)]
pub(super) struct Issuer {
    wanted: Wanted,
    book: Book,
    lease: watch::Sender<Option<Lease>>,
    issued: Option<Stamp>,
}

impl Issuer {
    /// A pass is completed; `changed` when it brought a change of status or of what is watched.
    pub(super) fn pass(
        &mut self,
        ledger: &Ledger,
        judging: Option<&Judging>,
        changed: bool,
        now: Stamp,
    ) {
        let is_due = self.issued.is_none_or(|issued| now.since(issued) >= LEASE_EVERY);
        if !is_due && !changed {
            return;
        }
        self.issued = Some(now);
        let sights = Arc::new(self.sights(ledger, judging, now));
        self.lease.send_replace(Some(Lease::issue(now, sights)));
    }

    fn sights(&self, ledger: &Ledger, judging: Option<&Judging>, now: Stamp) -> Sights {
        let proven =
            |name: &str, member: &str| judging.is_some_and(|j| j.is_proven(name, member, now));
        let deadmen = self.wanted.deadmen.iter().filter_map(|name| {
            let standing = standing(ledger, name, now, |target| proven(name, target))?;
            Some((name.clone(), standing))
        });
        let probes = self
            .wanted
            .probes
            .iter()
            .filter_map(|name| Some((name.clone(), standing(ledger, name, now, |_| true)?)));
        let (book, receivers) = self.ways_to_people(now);
        Sights {
            deadmen: deadmen.collect(),
            probes: probes.collect(),
            receivers,
            book,
            blind: ledger.is_blind(),
        }
    }

    fn ways_to_people(&self, now: Stamp) -> (BookSight, BTreeMap<String, ReceiverSight>) {
        let now = self.book.moment(now);
        let states = self.book.receivers();
        let mut sights: BTreeMap<String, ReceiverSight> = BTreeMap::new();
        for (name, interval) in &self.wanted.receivers {
            let state = states.iter().find(|state| state.name == *name);
            let delivered = state.and_then(|state| state.last_success.as_ref());
            let sight = ReceiverSight {
                delivered: delivered.and_then(|moment| moment.age(&now)),
                test_interval: *interval,
                failing: None,
            };
            sights.insert(name.clone(), sight);
        }
        let mut oldest: Option<Duration> = None;
        for row in self.book.outbox() {
            let age = row.created.age(&now).unwrap_or_default();
            // Somebody was told of those, or it is not bad news.
            if !row.escalated && !row.kind.ends() && !row.kind.is_test() {
                oldest = oldest.max(Some(age));
            }
            let Some(why) = row.last_error else { continue };
            let Some(sight) = sights.get_mut(&row.receiver) else { continue };
            let is_news = sight.delivered.is_none_or(|delivered| age < delivered);
            if is_news && (row.refused || age >= PATIENCE) {
                sight.failing = Some(why);
            }
        }
        let broken = (!self.book.writable()).then(|| "the book cannot be written".to_owned());
        (BookSight { broken, outbox_age: oldest }, sights)
    }
}

/// A probe or a deadman as a whole. `is_proven` says of a target that works whether there is evidence for that.
fn standing(
    ledger: &Ledger,
    name: &str,
    now: Stamp,
    is_proven: impl Fn(&str) -> bool,
) -> Option<Standing> {
    let group = ledger.group(name)?;
    let is_deadman = group.policy.prober == PROBER;
    let (mut proven, mut active, mut waiting) = (0, 0, 0);
    let mut others = Vec::new();
    for view in group.members.iter().filter_map(|id| ledger.view(*id)) {
        let target = &view.check.target.address;
        let status = view.status_at(now);
        active += usize::from(status != Status::Paused);
        match status {
            // What is only remembered from before a restart proves nothing, and neither does what would be worse if it were
            // not held back.
            Status::Up | Status::Degraded if view.last.is_none() => {
                others.push(format!("{target} was not heard of yet"));
            }
            Status::Up | Status::Degraded if view.held.is_none() && is_proven(target) => {
                proven += 1;
            }
            Status::Up | Status::Degraded => others.push(format!("{target} is not proven to work")),
            Status::Unknown if is_deadman && view.last.is_none() => {
                waiting += 1;
                others.push(format!("{target} was not heard of yet"));
            }
            status => {
                let answer = view.fresh(now).filter(|last| last.answer.reason().is_some());
                let why = answer.map(|last| format!(" ({})", last.answer)).unwrap_or_default();
                others.push(format!("{target} is {}{why}", status.label()));
            }
        }
    }
    let more = others.len().saturating_sub(MAX_NAMED);
    others.truncate(MAX_NAMED);
    if more > 0 {
        others.push(format!("{more} more"));
    }
    // Those that wait for their first beat count neither way: the others may be enough.
    let is_open = group.status == Status::Unknown && waiting > 0;
    let status =
        if is_open && waiting == group.headcount.unknown { Status::Degraded } else { group.status };
    Some(Standing {
        status,
        proven,
        wanted: group.policy.min_up.unwrap_or(active),
        detail: others.join(", "),
    })
}

/// The tasks of all heartbeats.
pub(super) struct Heartbeats {
    running: HashMap<String, Running>,
    watchpost: Arc<str>,
    book: Book,
    meter: Meter,
    connect: Connect,
    lease: watch::Sender<Option<Lease>>,
    stop: CancellationToken,
}

struct Running {
    specs: watch::Sender<Arc<Spec>>,
    view: watch::Receiver<View>,
    stop: CancellationToken,
}

impl Heartbeats {
    /// None is on its way yet.
    pub(super) fn new(watchpost: &str, book: Book, names: Resolver, registry: &Registry) -> Self {
        Self {
            running: HashMap::new(),
            watchpost: watchpost.into(),
            book,
            meter: Meter::new(registry),
            connect: over_http(names),
            lease: watch::Sender::new(None),
            stop: CancellationToken::new(),
        }
    }

    /// What the owner issues leases with.
    pub(super) fn issuer(&self, wanted: Wanted) -> Issuer {
        let (book, lease) = (self.book.clone(), self.lease.clone());
        Issuer { wanted, book, lease, issued: None }
    }

    /// Takes over the heartbeats of a configuration. Those that stay keep their pace and what is known of them.
    pub(super) fn configure(&mut self, specs: &[Arc<Spec>], tasks: &Tasks) {
        let gone = self.running.extract_if(|name, _| !specs.iter().any(|s| s.name == *name));
        for (name, running) in gone {
            running.stop.cancel();
            self.meter.forget(&name);
            tracing::info!(heartbeat = name, "not sent any more");
        }
        for spec in specs {
            match self.running.get(&spec.name) {
                Some(running) => drop(running.specs.send_if_modified(|known| {
                    let differs = known != spec;
                    *known = Arc::clone(spec);
                    differs
                })),
                None => self.start(spec, tasks),
            }
        }
    }

    fn start(&mut self, spec: &Arc<Spec>, tasks: &Tasks) {
        let (specs, seen) = watch::channel(Arc::clone(spec));
        let setup = Setup {
            watchpost: Arc::clone(&self.watchpost),
            lease: self.lease.subscribe(),
            meter: self.meter.clone(),
            connect: Arc::clone(&self.connect),
            clock: clock::now,
        };
        let (sender, view) = Sender::new(seen, setup);
        let stop = self.stop.child_token();
        tasks.spawn(sender.run(stop.clone()));
        self.running.insert(spec.name.clone(), Running { specs, view, stop });
    }

    /// Where what is known of each can be seen.
    pub(super) fn views(&self) -> Vec<watch::Receiver<View>> {
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_unstable_by_key(|(name, _)| *name);
        running.into_iter().map(|(_, running)| running.view.clone()).collect()
    }

    /// No beat from here on.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::app::deadmen;
    use crate::board::Board;
    use crate::deadman::{
        Address, Beat, BeatKind, BeatMethod, Configured, Door, Kept, PingId, SETTLE, Switchboard,
    };
    use crate::metrics::Identity;
    use crate::web::Beats;

    const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";

    fn at(second: u64) -> Stamp {
        let wall = 1_800_000_000 + i64::try_from(second).unwrap();
        Stamp::new(Timestamp::from_second(wall).unwrap(), Duration::from_secs(1_000 + second))
    }

    /// A switch, judged as the owner does.
    struct Bench {
        beats: Arc<Beats>,
        judging: Judging,
        ledger: Ledger,
        name: String,
    }

    impl Bench {
        fn new(spec: serde_json::Value) -> Self {
            let spec: Arc<crate::deadman::Spec> = Arc::new(serde_json::from_value(spec).unwrap());
            let configured = vec![Configured { spec: Arc::clone(&spec), key: None }];
            let board = Switchboard::new("wp", "boot", configured, Kept::default(), at(0));
            let meter = crate::deadman::Meter::new(&Registry::new());
            let beats = Beats::new(board, Book::in_memory_on("boot"), meter);
            let identity = Identity { watchpost: "wp".into(), region: None };
            let mut ledger = Ledger::new(Board::new(), identity);
            drop(ledger.apply(deadmen::checks(&[Arc::clone(&spec)]), at(0)));
            let judging = Judging::new(Arc::clone(&beats));
            let mut bench = Self { beats, judging, ledger, name: spec.name.clone() };
            bench.look(0);
            bench
        }

        fn look(&mut self, second: u64) {
            drop(self.judging.all(&mut self.ledger, at(second)));
        }

        /// Looks so often that nothing counts as a suspend.
        fn pass(&mut self, from: u64, to: u64) {
            for second in (from..=to).step_by(10) {
                drop(self.judging.due(&mut self.ledger, at(second)));
            }
        }

        fn beat(&mut self, second: u64) {
            let address =
                Address { door: Door::Id(PingId::parse(UUID).unwrap()), kind: BeatKind::Success };
            let (kind, method) = (BeatKind::Success, BeatMethod::Post);
            let beat = Beat { kind, run: None, method, from: None, body: b"" };
            self.beats.board().ping(&address, &beat, at(second)).unwrap();
            drop(self.judging.due(&mut self.ledger, at(second)));
        }

        /// Evidence from a Prometheus.
        fn hear(&mut self, source: &str, second: u64) {
            let clock = self.beats.board().clocks().issue(at(second));
            let body = json!({ "version": "4", "receiver": "r", "alerts": [{
                "status": "firing", "labels": { "alertname": "Watchdog", "p": source },
                "annotations": { "clocks": format!("wp={clock:.3} ") },
            }] });
            let body = body.to_string();
            let receipt = self.beats.board().alertmanager("alerting", body.as_bytes(), at(second));
            assert!(receipt.unwrap().changed);
            drop(self.judging.due(&mut self.ledger, at(second)));
        }

        fn standing(&self, second: u64) -> Standing {
            let now = at(second);
            let proven = |member: &str| self.judging.is_proven(&self.name, member, now);
            standing(&self.ledger, &self.name, now, proven).unwrap()
        }

        fn proven(&self, second: u64) -> (Status, usize) {
            let standing = self.standing(second);
            (standing.status, standing.proven)
        }
    }

    fn switch() -> Bench {
        Bench::new(json!({ "name": "backup", "uuid": UUID, "interval": "60s", "grace": "20s" }))
    }

    #[test]
    fn a_switch_proves_something_from_its_first_beat_until_its_limit() {
        let mut bench = switch();
        assert_eq!(bench.proven(0), (Status::Degraded, 0));
        assert!(bench.standing(0).detail.contains("was not heard of yet"));
        bench.look(70);
        assert_eq!(bench.proven(70), (Status::Degraded, 0), "late, and never beaten");
        bench.beat(75);
        assert_eq!(bench.proven(75), (Status::Up, 1));
        bench.pass(75, 154);
        assert_eq!(bench.proven(154), (Status::Degraded, 1), "late");
        // Nobody has judged it since.
        assert_eq!(bench.proven(155), (Status::Degraded, 0));
        bench.look(155);
        assert_eq!(bench.proven(155), (Status::Down, 0));
        bench.beat(160);
        assert_eq!(bench.proven(160), (Status::Up, 1));
    }

    #[test]
    fn silence_that_is_borne_with_after_blindness_is_no_evidence() {
        let mut bench = switch();
        bench.beat(10);
        drop(bench.ledger.set_blind(true, at(20)));
        bench.look(100);
        assert_eq!(bench.proven(100), (Status::Up, 0), "held while blind");
        drop(bench.ledger.set_blind(false, at(200)));
        bench.judging.see_again(at(200));
        bench.look(200);
        // It has until its next beat is due before anybody is told …
        assert_eq!(bench.proven(210), (Status::Up, 0), "… and sends no heartbeat meanwhile");
        bench.beat(220);
        assert_eq!(bench.proven(221), (Status::Up, 1));
    }

    #[test]
    fn the_wait_for_beats_that_queued_up_during_a_suspend_is_no_evidence() {
        let mut bench = switch();
        bench.beat(10);
        drop(bench.judging.due(&mut bench.ledger, at(1_000)));
        let (status, proven) = bench.proven(1_000);
        assert_ne!(status, Status::Down, "it is given time");
        assert_eq!(proven, 0);
        drop(bench.judging.due(&mut bench.ledger, at(1_000 + SETTLE.as_secs())));
        assert_eq!(bench.proven(1_005), (Status::Down, 0));
    }

    #[test]
    fn a_source_that_waits_counts_neither_way() {
        let mut bench = Bench::new(json!({ "name": "alerting", "watchdog": {
            "source_label": "p", "sources": ["a", "b", "c"], "min_sources": 2, "max_age": "60s",
        }}));
        bench.hear("a", 5);
        assert_eq!((bench.standing(5).proven, bench.standing(5).wanted), (1, 2));
        bench.hear("b", 6);
        // As many as are wanted: a third one that is new does not stop the heartbeat.
        assert_eq!((bench.proven(6), bench.standing(6).wanted), ((Status::Degraded, 2), 2));
        assert_eq!(bench.ledger.group("alerting").unwrap().status, Status::Unknown);
        bench.hear("c", 7);
        assert_eq!(bench.proven(7), (Status::Up, 3));
    }
}
