//! The task that owns everything after an outcome.
//!
//! It takes outcomes in batches, keeps the [`Ledger`], says changes once in the log and hands them on. It does no I/O:
//! whatever may wait has a bounded queue and a reader of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGaugeVec, Registry};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::deadmen::Judging;
use super::heartbeats::Issuer;
use super::ledger::{Changes, Finished, Ledger};
use super::pager::Pager;
use crate::clock;
use crate::model::{self, Change, Check, GroupChange, Stamp, Status, Unknown, family};
use crate::schedule::{self, Lanes};
use crate::web::Beats;

/// Outcomes that wait for the owner.
pub(super) const MAX_OUTCOMES: usize = 8192;
/// Outcomes that one pass takes.
const BATCH: usize = 512;
/// How long outcomes may gather after a pass: waking the owner for each costs more than what it does with one.
const GATHER: Duration = Duration::from_millis(10);
/// Between looks at what time brings about.
const TICK: Duration = Duration::from_secs(1);

/// What the owner can be told.
#[derive(Debug)]
pub(super) enum Order {
    /// Replaces the list of checks. Of the probes in `unread` it is not known whether these are all.
    Checks {
        checks: Vec<Arc<Check>>,
        /// Judged, and run by nobody.
        deadmen: Vec<Arc<Check>>,
        unread: BTreeSet<Arc<str>>,
    },
    Blind(bool),
    /// There are references, or none any more.
    Guarded(bool),
    /// A reference has answered that was asked then.
    Seen(Stamp),
    /// There are switches to judge from now on.
    Judge(Arc<Beats>),
    /// There are people to be told from now on.
    Tell(Box<Pager>),
    /// Who is told of what is wrong with ourselves.
    Own(model::Notify),
    /// Heartbeats wait for leases from now on.
    Issue(Box<Issuer>),
}

/// The last completed pass: evidence that results are still taken, judged and shown.
pub(super) type LastPass = watch::Receiver<Stamp>;

/// The owner, not yet running.
pub(super) struct Owner {
    ledger: Ledger,
    lanes: Arc<Lanes>,
    meters: Meters,
    pager: Option<Pager>,
    judging: Option<Judging>,
    issuer: Option<Box<Issuer>>,
    passed: watch::Sender<Stamp>,
    /// Asks the references.
    doubt: Arc<Notify>,
    /// This pass has brought something new.
    has_news: bool,
}

struct Meters {
    last_pass: Gauge,
    dropped: IntCounterVec,
    changes: IntCounterVec,
    checks: IntGaugeVec,
    blind: prometheus::IntGauge,
}

impl Meters {
    fn new(registry: &Registry) -> Self {
        let meters = Self {
            last_pass: family::OWNER_LAST_PASS.gauge(registry),
            dropped: family::OUTCOMES_DROPPED.counters(registry),
            changes: family::CHANGES.counters(registry),
            checks: family::CHECKS.int_gauges(registry),
            blind: family::BLIND.int_gauge(registry),
        };
        for status in Status::ALL {
            meters.changes.with_label_values(&[status.label()]);
            meters.checks.with_label_values(&[status.label()]);
        }
        meters.dropped.with_label_values(&["removed"]);
        meters
    }
}

impl Owner {
    pub(super) fn new(
        ledger: Ledger,
        lanes: Arc<Lanes>,
        doubt: Arc<Notify>,
        registry: &Registry,
    ) -> (Self, LastPass) {
        let (passed, last_pass) = watch::channel(clock::now());
        let meters = Meters::new(registry);
        let owner = Self {
            ledger,
            lanes,
            meters,
            pager: None,
            judging: None,
            issuer: None,
            passed,
            doubt,
            has_news: false,
        };
        (owner, last_pass)
    }

    /// Runs until the schedule has ended and every outcome is taken, or `stop`.
    pub(super) async fn run(
        mut self,
        mut finished: mpsc::Receiver<schedule::Finished>,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gathering: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(order) = orders.recv() => self.obey(order).await,
                () = sleep_until(gathering.unwrap_or_else(Instant::now)), if gathering.is_some() => {
                    gathering = None;
                    continue;
                }
                // Before the outcomes, which may never run out: what time brings about must not wait for them.
                _ = tick.tick() => self.tick(),
                taken = finished.recv_many(&mut batch, BATCH), if gathering.is_none() => {
                    if taken == 0 {
                        break;
                    }
                    // What fills a batch has gathered already.
                    gathering = (taken < BATCH).then(|| Instant::now() + GATHER);
                    for outcome in batch.drain(..) {
                        self.record(outcome);
                    }
                }
                () = woken(self.judging.as_ref()) => self.judge(),
            }
            self.complete();
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Checks { checks, deadmen, unread } => {
                let all = checks.iter().chain(&deadmen).cloned().collect();
                let applied = self.ledger.apply(all, clock::now());
                self.log(&applied.changes);
                // A paused probe is paused before anybody is told how its checks stand.
                self.hold();
                if let Some(pager) = &mut self.pager {
                    pager.applied(&mut self.ledger, &applied, &unread);
                }
                tracing::info!(
                    checks = checks.len(),
                    added = applied.added,
                    removed = applied.removed.len(),
                    "checks applied"
                );
                self.judge_all();
                self.lanes.apply(checks).await;
            }
            Order::Blind(blind) => {
                self.meters.blind.set(i64::from(blind));
                if let Some(pager) = &mut self.pager {
                    pager.set_blind(blind, clock::now());
                }
                for id in self.ledger.set_blind(blind, clock::now()) {
                    self.lanes.retry(id, Duration::ZERO);
                }
                if !blind {
                    if let Some(judging) = &mut self.judging {
                        judging.see_again(clock::now());
                    }
                    self.judge_all();
                }
            }
            Order::Guarded(guarded) => {
                let changes = self.ledger.guard(guarded, clock::now());
                self.tell(&changes);
            }
            Order::Seen(asked) => {
                let changes = self.ledger.seen(asked, clock::now());
                self.tell(&changes);
            }
            Order::Judge(beats) => self.judging = Some(Judging::new(beats)),
            Order::Tell(mut pager) => {
                pager.restore(&mut self.ledger, clock::now());
                self.pager = Some(*pager);
            }
            Order::Own(notify) => {
                if let Some(pager) = &mut self.pager {
                    pager.set_own(notify);
                }
            }
            Order::Issue(issuer) => self.issuer = Some(issuer),
        }
        self.has_news = true;
        self.count();
    }

    fn record(&mut self, finished: schedule::Finished) {
        let schedule::Finished { id, outcome, early } = finished;
        let recorded = self.ledger.record(Finished { id, outcome, early }, clock::now());
        if !recorded.is_known {
            self.meters.dropped.with_label_values(&["removed"]).inc();
        }
        self.tell(&recorded.changes);
        if let Some(after) = recorded.retry_in {
            self.lanes.retry(id, after);
        }
    }

    /// Switches whose time has come.
    fn judge(&mut self) {
        let Some(judging) = &mut self.judging else { return };
        let now = clock::now();
        let mut all = judging.due(&mut self.ledger, now);
        all.extend(judging.settled(&mut self.ledger, now));
        for changes in all {
            self.tell(&changes);
        }
    }

    fn hold(&mut self) {
        let Some(judging) = &mut self.judging else { return };
        for changes in judging.hold(&mut self.ledger, clock::now()) {
            self.tell(&changes);
        }
    }

    fn judge_all(&mut self) {
        let Some(judging) = &mut self.judging else { return };
        for changes in judging.all(&mut self.ledger, clock::now()) {
            self.tell(&changes);
        }
    }

    fn tick(&mut self) {
        self.judge();
        let now = clock::now();
        let changes = self.ledger.tick(now);
        self.tell(&changes);
        if let Some(pager) = &mut self.pager {
            pager.look_at_book(now);
        }
        self.count();
    }

    fn count(&self) {
        let count = self.ledger.headcount();
        for status in Status::ALL {
            let number = i64::try_from(count.of(status)).unwrap_or(i64::MAX);
            self.meters.checks.with_label_values(&[status.label()]).set(number);
        }
    }

    fn tell(&mut self, changes: &Changes) {
        self.has_news |= !changes.checks.is_empty() || !changes.groups.is_empty();
        self.log(changes);
        if let Some(pager) = &self.pager {
            pager.changed(&self.ledger, changes);
        }
    }

    /// A change is said once in the log.
    fn log(&self, changes: &Changes) {
        for change in &changes.checks {
            self.meters.changes.with_label_values(&[change.to.label()]).inc();
            self.log_change(change);
        }
        for change in &changes.groups {
            log_group(change);
        }
    }

    fn log_change(&self, change: &Change) {
        // The first status after a start is no news unless it is a bad one.
        if change.from == Status::Unknown && change.to == Status::Up {
            return;
        }
        let Some(check) = self.ledger.check(change.check) else { return };
        let reason = change.fault.as_ref().map(|f| f.reason().label());
        let reason = reason.or(change.unknown.as_ref().map(Unknown::label)).unwrap_or_default();
        let detail = change.fault.as_ref().map(ToString::to_string);
        let detail =
            detail.or(change.unknown.as_ref().map(ToString::to_string)).unwrap_or_default();
        tracing::info!(
            probe = &*check.policy.name,
            target = check.target.address,
            from = change.from.label(),
            to = change.to.label(),
            reason,
            detail,
            "status changed"
        );
    }

    fn complete(&mut self) {
        if self.ledger.is_in_doubt() {
            self.doubt.notify_one();
        }
        let now = clock::now();
        self.meters.last_pass.set(now.unix_seconds());
        self.passed.send_replace(now);
        let has_news = std::mem::take(&mut self.has_news);
        if let Some(issuer) = &mut self.issuer {
            issuer.pass(&self.ledger, self.judging.as_ref(), has_news, now);
        }
    }
}

/// Waits until a switch was beaten; for ever where there is none.
async fn woken(judging: Option<&Judging>) {
    match judging {
        Some(judging) => judging.woken().await,
        None => std::future::pending().await,
    }
}

fn log_group(change: &GroupChange) {
    let missing: Vec<&str> =
        change.missing.iter().map(|(check, _)| check.target.address.as_str()).collect();
    tracing::info!(
        probe = &*change.probe,
        from = change.from.label(),
        to = change.to.label(),
        missing = missing.join(" "),
        "status of the probe changed"
    );
}
