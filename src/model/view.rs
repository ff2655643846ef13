//! What is known about one check, as every reader sees it: page, API, metrics and gates.

use std::sync::Arc;
use std::time::Duration;

use super::{Check, Outcome, Reason, RunResult, Stamp, Status, Unknown};

/// One check as of its last run or change. A value: it never changes under a reader.
#[derive(Debug, Clone)]
pub struct View {
    pub check: Arc<Check>,
    /// The labels of every series of this check, as the exposition has them.
    pub labels: Arc<str>,
    /// After thresholds. Readers want [`View::status_at`], which does not believe a result that is too old.
    pub status: Status,
    pub since: Stamp,
    /// A worse status that is held back while this watchpost is blind.
    pub held: Option<Status>,
    /// When the last run ended, early ones included; when the check appeared, before the first.
    pub seen: Stamp,
    pub last: Option<Arc<Outcome>>,
    /// The last run that failed: kept when later ones pass.
    pub last_failure: Option<Arc<Outcome>>,
    /// When the last run that passed began; of what others tell us, when it was last well.
    pub last_success: Option<Stamp>,
    pub tally: Tally,
}

/// What was counted since the check appeared.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Scheduled runs, in the order of [`RunResult::ALL`].
    runs: [u64; 4],
    pub retries: u64,
    /// Scheduled runs that failed, in the order in which the reasons were first met.
    pub failures: Arc<[FailureCount]>,
    pub took: Took,
    /// Moves of the exporter's start time; `None` until one was seen.
    pub restarts: Option<u64>,
}

/// How often one reason was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCount {
    pub reason: Reason,
    pub count: u64,
    /// The number of the last scrape that had begun when the reason was first met. The scrape after it still shows 0,
    /// so that the first failure is an increase.
    pub born: u64,
}

/// Durations of scheduled runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Took {
    pub count: u64,
    pub sum: f64,
    /// Runs by upper bound, not added up; those above the last bound are only in `count`. Empty for a summary.
    pub buckets: Box<[u64]>,
}

impl View {
    /// Whether the last result is too old to be believed.
    pub fn is_stale(&self, now: Stamp) -> bool {
        now.since(self.seen) > self.check.stale_after()
    }

    /// The status as it may be shown `now`. It holds also when nobody is left to notice that results stopped.
    pub fn status_at(&self, now: Stamp) -> Status {
        match self.status {
            Status::Up | Status::Degraded | Status::Down if self.is_stale(now) => Status::Unknown,
            status => status,
        }
    }

    /// Since when [`View::status_at`] holds.
    pub fn since_at(&self, now: Stamp) -> Stamp {
        if self.status_at(now) == self.status {
            self.since
        } else {
            self.seen.plus(self.check.stale_after())
        }
    }

    /// The last result, unless it is too old to be shown.
    pub fn fresh(&self, now: Stamp) -> Option<&Outcome> {
        self.last.as_deref().filter(|_| !self.is_stale(now))
    }

    /// Whether the last result says that the target works; `None` also for one that was never well and does not fail yet,
    /// such as a dead man's switch that is late with its first beat.
    pub fn success(&self, now: Stamp) -> Option<bool> {
        let is_success = self.fresh(now)?.answer.is_success();
        (!is_success || self.last_success.is_some()).then_some(is_success)
    }

    /// When the last run began.
    pub fn last_run(&self) -> Option<Stamp> {
        self.last.as_ref().map(|outcome| outcome.started)
    }

    /// Why the last run did not pass, as a label.
    pub fn reason_at(&self, now: Stamp) -> Option<&'static str> {
        match self.fresh(now) {
            Some(outcome) => outcome.answer.reason(),
            None => self.last.as_ref().map(|_| Unknown::Stale.label()),
        }
    }
}

impl Tally {
    pub fn new(bounds: &[f64]) -> Self {
        Self {
            runs: [0; 4],
            retries: 0,
            failures: Arc::from([]),
            took: Took::new(bounds),
            restarts: None,
        }
    }

    pub const fn runs(&self, result: RunResult) -> u64 {
        self.runs[result as usize]
    }

    /// Every scheduled run.
    pub fn all_runs(&self) -> u64 {
        self.runs.iter().sum()
    }

    pub const fn add_run(&mut self, result: RunResult) {
        self.runs[result as usize] += 1;
    }

    /// Counts a failure; `scrape` is the number of the last scrape that has begun.
    pub fn add_failure(&mut self, reason: Reason, scrape: u64) {
        if let Some(at) = self.failures.iter().position(|known| known.reason == reason) {
            Arc::make_mut(&mut self.failures)[at].count += 1;
            return;
        }
        let first = FailureCount { reason, count: 1, born: scrape };
        self.failures = self.failures.iter().copied().chain([first]).collect();
    }
}

impl Took {
    pub fn new(bounds: &[f64]) -> Self {
        Self { count: 0, sum: 0.0, buckets: vec![0; bounds.len()].into() }
    }

    pub fn add(&mut self, took: Duration, bounds: &[f64]) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        let bucket = bounds.iter().position(|bound| seconds <= *bound);
        if let Some(slot) = bucket.and_then(|at| self.buckets.get_mut(at)) {
            *slot += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Labels, Notify, ProbePolicy, Target, Thresholds, family};

    fn stamp(seconds: u32) -> Stamp {
        let wall = Timestamp::from_second(seconds.into()).unwrap();
        Stamp::new(wall, Duration::from_secs(seconds.into()))
    }

    fn up_since(since: Stamp, seen: Stamp) -> View {
        let policy = ProbePolicy {
            name: "p".into(),
            module: "m".into(),
            prober: "tcp",
            phases: &family::PROBE_TCP_DURATION,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            thresholds: Thresholds::default(),
            retry_interval: None,
            min_up: None,
            pipeline: false,
            notify: Notify::default(),
            histogram: [].into(),
        };
        let check = Check::new(Arc::new(policy), Target::plain("a:1"), &Labels::default());
        View {
            check: Arc::new(check),
            labels: "".into(),
            status: Status::Up,
            since,
            held: None,
            seen,
            last: None,
            last_failure: None,
            last_success: None,
            tally: Tally::new(&[]),
        }
    }

    #[test]
    fn what_went_stale_is_unknown_since_then_and_not_since_it_was_up() {
        let view = up_since(stamp(100), stamp(1000));
        assert_eq!(
            (view.status_at(stamp(1070)), view.since_at(stamp(1070))),
            (Status::Up, stamp(100))
        );
        let late = stamp(2000);
        assert_eq!((view.status_at(late), view.since_at(late)), (Status::Unknown, stamp(1070)));
    }
}
