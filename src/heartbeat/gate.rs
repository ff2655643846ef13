//! Whether a heartbeat may be sent: the evidence of one completed pass, judged. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::spec::Spec;
use crate::model::{Stamp, Status};

/// How long a pass of the owner speaks for now. A loop that stalls loses its right to beat.
pub const LEASE_FOR: Duration = Duration::from_secs(30);
/// A notification that waits longer than this means that nobody can be told.
pub const OUTBOX_STUCK: Duration = Duration::from_secs(600);
/// A receiver's test may be late by this share of its interval.
const TEST_SLACK: u32 = 2;

/// The right to beat, issued by the owner after each pass that it completed, together with what it saw.
#[derive(Debug, Clone)]
pub struct Lease {
    issued: Stamp,
    sights: Arc<Sights>,
}

impl Lease {
    pub const fn issue(now: Stamp, sights: Arc<Sights>) -> Self {
        Self { issued: now, sights }
    }

    pub fn is_fresh(&self, now: Stamp) -> bool {
        now.since(self.issued) <= LEASE_FOR
    }

    pub const fn issued(&self) -> Stamp {
        self.issued
    }
}

/// What the owner saw in one pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sights {
    pub deadmen: BTreeMap<String, Standing>,
    /// Probes with `pipeline: true`, all targets of each taken together.
    pub probes: BTreeMap<String, Standing>,
    pub receivers: BTreeMap<String, ReceiverSight>,
    pub book: BookSight,
    /// No reference answers: we are the ones cut off.
    pub blind: bool,
}

/// What is believed about a deadman or a probe, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub status: Status,
    /// Members that work, and that said so: what is only assumed or remembered is none.
    pub proven: usize,
    /// How many it takes.
    pub wanted: usize,
    /// Which members do not work, and why.
    pub detail: String,
}

/// What is known about a way to a human.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReceiverSight {
    /// How long ago a delivery was confirmed, of a test or of the real thing. An age and no moment: it may be longer than
    /// the boot clock reaches back.
    pub delivered: Option<Duration>,
    pub test_interval: Option<Duration>,
    /// Why the last delivery failed, if it did.
    pub failing: Option<String>,
}

/// Whether what we decide can be kept and told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BookSight {
    /// Why nothing can be written, if so. `None` is good.
    pub broken: Option<String>,
    /// Age of the oldest notification that is not delivered.
    pub outbox_age: Option<Duration>,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// The label `gate`: `lease`, `book`, `references`, `deadman:alerting`.
    pub name: String,
    /// Why it is closed; `None` is open.
    pub closed: Option<Closed>,
}

/// Why a gate is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Closed {
    pub why: Why,
    /// For a person.
    pub detail: String,
}

/// Why a gate is closed: the label `reason`, a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No pass over the results is completed yet.
    NotYet,
    /// The last completed pass is too old.
    Stalled,
    /// What is decided cannot be kept.
    BookBroken,
    /// A notification has waited for too long.
    OutboxStuck,
    Blind,
    /// What is to be looked at does not exist.
    Missing,
    Paused,
    Down,
    Unknown,
    /// Nothing was heard of it yet, or not lately enough.
    NoEvidence,
    /// Some work, and not as many as are wanted.
    NotEnough,
    /// The last delivery failed.
    Undelivered,
    /// The last delivery is too long ago.
    Overdue,
}

impl Why {
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotYet => "not_yet",
            Self::Stalled => "stalled",
            Self::BookBroken => "book_broken",
            Self::OutboxStuck => "outbox_stuck",
            Self::Blind => "blind",
            Self::Missing => "missing",
            Self::Paused => "paused",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::NoEvidence => "no_evidence",
            Self::NotEnough => "not_enough",
            Self::Undelivered => "undelivered",
            Self::Overdue => "overdue",
        }
    }
}

impl Gate {
    pub const fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands for a reason among others")]
fn closed(why: Why, detail: impl Into<String>) -> Option<Closed> {
    Some(Closed { why, detail: detail.into() })
}

/// All gates of a heartbeat. It may be sent when each is open.
pub fn gates(spec: &Spec, lease: Option<&Lease>, now: Stamp) -> Vec<Gate> {
    let sights = lease.map(|lease| &*lease.sights);
    let implied = [
        ("lease", no_lease(lease, now)),
        ("book", sights.map_or_else(nothing_seen, |sights| no_book(&sights.book))),
        ("references", sights.map_or_else(nothing_seen, no_sight)),
    ];
    let mut all: Vec<Gate> =
        implied.into_iter().map(|(name, closed)| Gate { name: name.to_owned(), closed }).collect();
    for condition in &spec.when {
        let Some((kind, subject)) = condition.subject() else { continue };
        let closed = sights.map_or_else(nothing_seen, |sights| match kind {
            "deadman" => no_standing(sights.deadmen.get(subject)),
            "probe" => no_standing(sights.probes.get(subject)),
            _ => no_receiver(sights.receivers.get(subject)),
        });
        all.push(Gate { name: format!("{kind}:{subject}"), closed });
    }
    all
}

fn nothing_seen() -> Option<Closed> {
    closed(Why::NotYet, "nothing is known yet")
}

fn no_lease(lease: Option<&Lease>, now: Stamp) -> Option<Closed> {
    let Some(lease) = lease else {
        return closed(Why::NotYet, "no pass over the results is completed yet");
    };
    if lease.is_fresh(now) {
        return None;
    }
    let age = now.since(lease.issued).as_secs();
    closed(Why::Stalled, format!("the last completed pass over the results is {age} s old"))
}

fn no_sight(sights: &Sights) -> Option<Closed> {
    if !sights.blind {
        return None;
    }
    closed(Why::Blind, "no reference answers: this watchpost is cut off")
}

fn no_book(book: &BookSight) -> Option<Closed> {
    if let Some(broken) = &book.broken {
        return closed(Why::BookBroken, format!("nothing can be recorded: {broken}"));
    }
    let age = book.outbox_age.filter(|age| *age > OUTBOX_STUCK)?.as_secs();
    closed(Why::OutboxStuck, format!("a notification has waited {age} s for its delivery"))
}

/// Degraded is enough: one of three silent is reported, and the pipeline works.
fn no_standing(standing: Option<&Standing>) -> Option<Closed> {
    let Some(standing) = standing else { return closed(Why::Missing, "it has no targets") };
    let Standing { status, proven, wanted, detail } = standing;
    let why = match status {
        Status::Up | Status::Degraded if *proven > 0 && proven >= wanted => return None,
        Status::Up | Status::Degraded if *proven == 0 => Why::NoEvidence,
        Status::Up | Status::Degraded => Why::NotEnough,
        Status::Down => Why::Down,
        Status::Unknown => Why::Unknown,
        Status::Paused => Why::Paused,
    };
    let what = match why {
        Why::NoEvidence => "nothing shows that it works".to_owned(),
        Why::NotEnough => format!("{proven} work, {wanted} must"),
        _ => format!("it is {}", status.label()),
    };
    let colon = if detail.is_empty() { "" } else { ": " };
    closed(why, format!("{what}{colon}{detail}"))
}

fn no_receiver(sight: Option<&ReceiverSight>) -> Option<Closed> {
    let Some(sight) = sight else { return closed(Why::Missing, "it does not exist") };
    if let Some(failing) = &sight.failing {
        return closed(Why::Undelivered, format!("the last delivery failed: {failing}"));
    }
    let Some(interval) = sight.test_interval else {
        return closed(Why::Missing, "it has no test_interval, so nothing shows that it works");
    };
    let Some(age) = sight.delivered else {
        return closed(Why::NoEvidence, "nothing was delivered yet");
    };
    if age <= interval.saturating_add(interval / TEST_SLACK) {
        return None;
    }
    closed(Why::Overdue, format!("the last delivery was {} s ago", age.as_secs()))
}

/// What to do with a heartbeat at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All evidence holds and a beat is due.
    Beat,
    /// The gates were closed for so long that the service is told.
    SignalFailure,
    Nothing,
}

/// Decides over time. It has seen only what it was told.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    min_interval: Duration,
    fail_after: Option<Duration>,
    warm_up: Duration,
    /// 0 to 1, this instance's place within the interval.
    phase: f64,
    started: Stamp,
    has_opened: bool,
    closed_since: Option<Stamp>,
    is_failure_told: bool,
    next: Option<Stamp>,
    last_try: Option<Stamp>,
}

impl Pace {
    pub fn new(spec: &Spec, phase: f64, now: Stamp) -> Self {
        Self {
            interval: spec.interval.get(),
            min_interval: super::vendor::min_interval(spec).min(spec.interval.get()),
            fail_after: spec.fail_after.map(crate::model::Period::get),
            warm_up: spec.warm_up.get(),
            phase: phase.clamp(0.0, 1.0),
            started: now,
            has_opened: false,
            closed_since: None,
            is_failure_told: false,
            next: None,
            last_try: None,
        }
    }

    /// Closed since start, and not for too long yet.
    pub fn is_warming_up(&self, now: Stamp) -> bool {
        !self.has_opened && now.since(self.started) < self.warm_up
    }

    /// Other rules from now on. What was sent and since when gates are closed stays.
    pub fn configure(&mut self, spec: &Spec) {
        self.interval = spec.interval.get();
        self.min_interval = super::vendor::min_interval(spec).min(self.interval);
        self.fail_after = spec.fail_after.map(crate::model::Period::get);
        self.warm_up = spec.warm_up.get();
        let latest = self.last_try.map(|last| last.plus(self.interval));
        self.next = match (self.next, latest) {
            (Some(next), Some(latest)) if latest.boot < next.boot => Some(latest),
            (next, _) => next,
        };
    }

    /// Another service knows nothing of what was sent.
    pub const fn begin_anew(&mut self) {
        self.next = None;
        self.last_try = None;
        self.is_failure_told = false;
    }

    pub fn step(&mut self, is_open: bool, now: Stamp) -> Step {
        if !is_open {
            return self.closed(now);
        }
        self.has_opened = true;
        self.closed_since = None;
        self.is_failure_told = false;
        let is_due = self.next.is_none_or(|next| now.boot >= next.boot);
        let is_too_soon = self.last_try.is_some_and(|last| now.since(last) < self.min_interval);
        if !is_due || is_too_soon {
            return Step::Nothing;
        }
        self.plan(now);
        Step::Beat
    }

    fn closed(&mut self, now: Stamp) -> Step {
        let since = *self.closed_since.get_or_insert(now);
        let Some(fail_after) = self.fail_after else { return Step::Nothing };
        let is_ripe = now.since(since) >= fail_after && !self.is_warming_up(now);
        if !is_ripe || self.is_failure_told {
            return Step::Nothing;
        }
        let is_too_soon = self.last_try.is_some_and(|last| now.since(last) < self.interval);
        if is_too_soon {
            return Step::Nothing;
        }
        self.last_try = Some(now);
        Step::SignalFailure
    }

    /// The service took the failure signal: once for each time that the gates close.
    pub const fn failure_told(&mut self) {
        self.is_failure_told = true;
    }

    /// The first beat goes out at once, the second at this instance's place between half and a whole interval later.
    fn plan(&mut self, now: Stamp) {
        let later = match self.next {
            None => self.interval.mul_f64(self.phase.mul_add(0.5, 0.5)),
            Some(_) => self.interval,
        };
        // Measured from when it was due, so that small delays do not add up; never in the past.
        let base = self.next.filter(|next| now.since(*next) < self.interval).unwrap_or(now);
        self.next = Some(base.plus(later));
        self.last_try = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(seconds: u64) -> Stamp {
        let wall = Timestamp::from_second(1_000_000 + i64::try_from(seconds).unwrap()).unwrap();
        Stamp::new(wall, Duration::from_secs(seconds))
    }

    fn spec() -> Spec {
        serde_json::from_str(
            r#"{"name":"x","interval":"1m","fail_after":"2m","warm_up":"5m",
                "when":[{"deadman":"alerting"},{"probe":"am"},{"receiver":"oncall"}],
                "http":{"url":"http://localhost/"}}"#,
        )
        .unwrap()
    }

    fn good() -> Sights {
        let up = Standing { status: Status::Up, proven: 1, wanted: 1, detail: String::new() };
        let receiver = ReceiverSight {
            delivered: Some(Duration::from_hours(1)),
            test_interval: Some(Duration::from_hours(24)),
            failing: None,
        };
        Sights {
            deadmen: [("alerting".to_owned(), up.clone())].into(),
            probes: [("am".to_owned(), up)].into(),
            receivers: [("oncall".to_owned(), receiver)].into(),
            ..Sights::default()
        }
    }

    fn closed(sights: Sights, issued: u64, now: u64) -> Vec<String> {
        let lease = Lease::issue(at(issued), Arc::new(sights));
        let all = gates(&spec(), Some(&lease), at(now));
        all.into_iter().filter(|gate| !gate.is_open()).map(|gate| gate.name).collect()
    }

    #[test]
    fn each_gate_closes_by_itself() {
        type Spoil = fn(&mut Sights);
        let rows: [(&str, Spoil); 12] = [
            // Armed, and never beaten.
            ("deadman:alerting", |s| s.deadmen.get_mut("alerting").unwrap().proven = 0),
            ("probe:am", |s| s.probes.get_mut("am").unwrap().wanted = 2),
            ("deadman:alerting", |s| s.deadmen.get_mut("alerting").unwrap().status = Status::Down),
            ("deadman:alerting", |s| {
                s.deadmen.get_mut("alerting").unwrap().status = Status::Paused;
            }),
            ("deadman:alerting", |s| s.deadmen.clear()),
            ("probe:am", |s| s.probes.get_mut("am").unwrap().status = Status::Unknown),
            ("receiver:oncall", |s| s.receivers.get_mut("oncall").unwrap().delivered = None),
            ("receiver:oncall", |s| s.receivers.get_mut("oncall").unwrap().test_interval = None),
            ("receiver:oncall", |s| {
                s.receivers.get_mut("oncall").unwrap().failing = Some("status 400".into());
            }),
            ("book", |s| s.book.broken = Some("disk full".into())),
            ("book", |s| s.book.outbox_age = Some(Duration::from_mins(11))),
            ("references", |s| s.blind = true),
        ];
        assert_eq!(closed(good(), 0, 1), Vec::<String>::new());
        for (name, spoil) in rows {
            let mut sights = good();
            spoil(&mut sights);
            assert_eq!(closed(sights, 0, 1), [name]);
        }
    }

    #[test]
    fn degraded_is_enough() {
        let mut sights = good();
        sights.deadmen.get_mut("alerting").unwrap().status = Status::Degraded;
        assert_eq!(closed(sights, 0, 1), Vec::<String>::new());
    }

    #[test]
    fn a_stalled_owner_loses_its_lease() {
        assert_eq!(closed(good(), 0, 31), ["lease"]);
        assert!(gates(&spec(), None, at(0)).iter().all(|gate| !gate.is_open()));
    }

    #[test]
    fn a_receiver_that_was_not_tried_for_long_is_no_evidence() {
        let mut sights = good();
        sights.receivers.get_mut("oncall").unwrap().delivered = Some(Duration::from_hours(36));
        assert_eq!(closed(sights.clone(), 0, 1), Vec::<String>::new());
        sights.receivers.get_mut("oncall").unwrap().delivered = Some(Duration::from_hours(37));
        assert_eq!(closed(sights, 0, 1), ["receiver:oncall"]);
    }

    #[test]
    fn nothing_is_sent_while_a_gate_is_closed() {
        let mut pace = Pace::new(&spec(), 0.5, at(0));
        for second in 0..290 {
            assert_eq!(pace.step(false, at(second)), Step::Nothing, "{second}");
        }
        assert_eq!(pace.step(true, at(290)), Step::Beat);
        assert_eq!(pace.step(true, at(291)), Step::Nothing);
    }

    #[test]
    fn the_first_beat_is_at_once_and_the_others_keep_their_pace() {
        let mut pace = Pace::new(&spec(), 0.5, at(0));
        let sent: Vec<u64> =
            (0..300).filter(|second| pace.step(true, at(*second)) == Step::Beat).collect();
        assert_eq!(sent, [0, 45, 105, 165, 225, 285]);
    }

    #[test]
    fn failure_is_told_once_for_each_closing() {
        let mut pace = Pace::new(&spec(), 0.0, at(0));
        assert_eq!(pace.step(true, at(0)), Step::Beat);
        let mut told = Vec::new();
        for second in 1..1_000 {
            if pace.step(false, at(second)) == Step::SignalFailure {
                told.push(second);
                pace.failure_told();
            }
        }
        assert_eq!(told, [121]);
        pace.step(true, at(1_000));
        assert_eq!(pace.step(false, at(1_001)), Step::Nothing);
        assert_eq!(pace.step(false, at(1_121)), Step::SignalFailure);
        // It was not taken, so it is tried again, an interval later.
        assert_eq!(pace.step(false, at(1_122)), Step::Nothing);
        assert_eq!(pace.step(false, at(1_181)), Step::SignalFailure);
    }

    #[test]
    fn warming_up_has_an_end() {
        let mut pace = Pace::new(&spec(), 0.0, at(0));
        assert_eq!(pace.step(false, at(0)), Step::Nothing);
        assert_eq!(pace.step(false, at(299)), Step::Nothing);
        assert!(pace.is_warming_up(at(299)));
        assert_eq!(pace.step(false, at(300)), Step::SignalFailure);
    }
}
