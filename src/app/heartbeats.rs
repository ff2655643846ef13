//! Heartbeats on their way: what the owner saw becomes a lease, each heartbeat has a task that may beat while the lease is
//! fresh and all of its evidence holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::deadmen::Judging;
use super::ledger::Ledger;
use crate::book::Book;
use crate::clock;
use crate::config::Config;
use crate::heartbeat::{
    BookSight, Lease, Meter, ReceiverSight, Sender, Setup, Sights, Spec, Standing, View, over_http,
};
use crate::model::{Stamp, Status};
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
        let beaten = |name: &str, member: &str| judging.is_some_and(|j| j.is_beaten(name, member));
        let deadmen = self.wanted.deadmen.iter().filter_map(|name| {
            let standing = standing(ledger, name, now, |target| beaten(name, target))?;
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

/// A probe or a deadman as a whole. `is_heard` says of a target that works whether it was heard of at all.
fn standing(
    ledger: &Ledger,
    name: &str,
    now: Stamp,
    is_heard: impl Fn(&str) -> bool,
) -> Option<Standing> {
    let group = ledger.group(name)?;
    let (mut proven, mut active) = (0, 0);
    let mut others = Vec::new();
    for view in group.members.iter().filter_map(|id| ledger.view(*id)) {
        let target = &view.check.target.address;
        let status = view.status_at(now);
        active += usize::from(status != Status::Paused);
        match status {
            // What is only remembered from before a restart proves nothing.
            Status::Up | Status::Degraded if view.last.is_some() && is_heard(target) => proven += 1,
            Status::Up | Status::Degraded => others.push(format!("{target} was not heard of yet")),
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
    Some(Standing {
        status: group.status,
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
    pub(super) fn new(watchpost: &str, book: Book, registry: &Registry) -> Self {
        Self {
            running: HashMap::new(),
            watchpost: watchpost.into(),
            book,
            meter: Meter::new(registry),
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
            connect: over_http(),
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
