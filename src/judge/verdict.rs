//! One check: from its answers to its status.

use std::time::Duration;

use crate::model::{Answer, Change, CheckId, RunResult, Stamp, Status, Thresholds, Unknown};

/// What is believed about one check, and the runs that may change it.
///
/// * It starts unknown. The first pass makes it up at once; to be down or degraded takes the failure threshold also then.
/// * So many failures in a row are down. So many runs in a row that failed *or* warned, not all of them failures, are
///   degraded. From there and from down, so many passes in a row are up; so many that at least worked are degraded.
///   A detour over unknown does not shorten the way back up.
/// * Answers that say nothing about the target neither continue nor break these rows. As many of them in a row as the
///   failure threshold make the status unknown; so does [`tick`](Self::tick), when there was no other answer for too
///   long. What was counted before is forgotten then.
/// * While this watchpost is blind, nothing gets worse. What would have is [`held`](Self::held) back, and forgotten when
///   sight returns, as are the failures that led there: if it is still true, runs that saw will say so.
/// * While it is in doubt whether it is blind, nothing gets worse either, until that is [confirmed](Self::confirm).
/// * Paused, it stays so whatever is answered; resumed, it starts anew.
#[derive(Debug, Clone)]
pub struct Judge {
    check: CheckId,
    status: Status,
    since: Stamp,
    /// What was last believed on evidence: where a recovery starts from.
    decided: Option<Status>,
    rows: Rows,
    last: Option<RunResult>,
    /// When the target last answered, in whatever way.
    heard: Stamp,
    blind: bool,
    doubtful: bool,
    held: Option<Status>,
}

/// Runs in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    failed: u32,
    /// Failed or warned.
    wrong: u32,
    passed: u32,
    /// Passed or warned.
    worked: u32,
    unknown: u32,
}

impl Judge {
    pub const fn new(check: CheckId, now: Stamp) -> Self {
        Self {
            check,
            status: Status::Unknown,
            since: now,
            decided: None,
            rows: Rows::NONE,
            last: None,
            heard: now,
            blind: false,
            doubtful: false,
            held: None,
        }
    }

    /// Goes on from what was believed before a restart.
    pub const fn restored(check: CheckId, status: Status, since: Stamp, now: Stamp) -> Self {
        let decided = match status {
            Status::Up | Status::Degraded | Status::Down => Some(status),
            Status::Unknown | Status::Paused => None,
        };
        Self { status, since, decided, ..Self::new(check, now) }
    }

    pub const fn status(&self) -> Status {
        self.status
    }

    pub const fn since(&self) -> Stamp {
        self.since
    }

    /// The worse status that would hold if this watchpost were known to see.
    pub const fn held(&self) -> Option<Status> {
        self.held
    }

    /// Whether the last answer speaks for another status, and too few have done so yet: worth asking again soon.
    ///
    /// Never because we could not ask: asking more often does not help whoever is out of descriptors or cut off.
    pub fn undecided(&self) -> bool {
        if self.status == Status::Paused || self.blind {
            return false;
        }
        match self.last {
            Some(RunResult::Pass) => self.status != Status::Up,
            Some(RunResult::Warn) => self.status != Status::Degraded,
            Some(RunResult::Fail) => self.status != Status::Down,
            Some(RunResult::Unknown) | None => false,
        }
    }

    pub fn observe(
        &mut self,
        answer: &Answer,
        now: Stamp,
        thresholds: &Thresholds,
    ) -> Option<Change> {
        if self.status == Status::Paused {
            return None;
        }
        let result = RunResult::from(answer);
        self.last = Some(result);
        self.rows.add(result);
        if result != RunResult::Unknown {
            self.heard = now;
        }
        let verdict = self.verdict(result, *thresholds);
        let unsure = self.blind || self.doubtful;
        self.held = verdict.filter(|to| unsure && self.is_worse(*to));
        let to = verdict.filter(|to| *to != self.status && self.held.is_none())?;
        Some(self.enter(to, now, Some(answer)))
    }

    /// Notices that there has been no answer for too long.
    pub fn tick(&mut self, now: Stamp, stale_after: Duration) -> Option<Change> {
        let decided = matches!(self.status, Status::Up | Status::Degraded | Status::Down);
        let stale = decided && now.since(self.heard) > stale_after;
        stale.then(|| self.enter(Status::Unknown, now, Some(&Answer::Unknown(Unknown::Stale))))
    }

    pub fn pause(&mut self, now: Stamp) -> Option<Change> {
        (self.status != Status::Paused).then(|| self.enter(Status::Paused, now, None))
    }

    pub fn resume(&mut self, now: Stamp) -> Option<Change> {
        (self.status == Status::Paused).then(|| self.enter(Status::Unknown, now, None))
    }

    /// Nothing is known yet, whatever was believed: it starts anew.
    pub fn wait(&mut self, now: Stamp) -> Option<Change> {
        let believed = !matches!(self.status, Status::Unknown | Status::Paused);
        believed.then(|| self.enter(Status::Unknown, now, None))
    }

    /// Whether the runs that follow are those of a watchpost that is cut off.
    pub const fn set_blind(&mut self, blind: bool) {
        if self.blind && !blind {
            self.rows.failed = 0;
            self.rows.wrong = 0;
            self.held = None;
        }
        self.blind = blind;
    }

    /// Whether worse statuses wait until it is known that this watchpost sees.
    pub const fn set_doubtful(&mut self, doubtful: bool) {
        self.doubtful = doubtful;
    }

    /// What was held in doubt counts: this watchpost saw when `answer`, the last one, was given.
    pub fn confirm(&mut self, answer: &Answer, now: Stamp) -> Option<Change> {
        if self.blind {
            return None;
        }
        let to = self.held.take()?;
        Some(self.enter(to, now, Some(answer)))
    }

    /// The status that the rows speak for, where they say anything. `result` is the last of them.
    fn verdict(&self, result: RunResult, thresholds: Thresholds) -> Option<Status> {
        let rows = &self.rows;
        let failure = thresholds.failure.max(1);
        let success = thresholds.success.max(1);
        let recovered = rows.worked >= success && self.recovers();
        match result {
            RunResult::Unknown => (rows.unknown >= failure).then_some(Status::Unknown),
            RunResult::Fail if rows.failed >= failure => Some(Status::Down),
            RunResult::Fail | RunResult::Warn
                if rows.wrong >= failure && self.status != Status::Down =>
            {
                Some(Status::Degraded)
            }
            RunResult::Pass if rows.passed >= success || !self.recovers() => Some(Status::Up),
            RunResult::Pass | RunResult::Warn if recovered => Some(Status::Degraded),
            RunResult::Fail | RunResult::Warn | RunResult::Pass => None,
        }
    }

    const fn recovers(&self) -> bool {
        matches!(self.decided, Some(Status::Degraded | Status::Down))
    }

    const fn is_worse(&self, to: Status) -> bool {
        match to {
            Status::Down => !matches!(self.status, Status::Down),
            Status::Degraded => !matches!(self.status, Status::Down | Status::Degraded),
            Status::Up | Status::Unknown | Status::Paused => false,
        }
    }

    fn enter(&mut self, to: Status, now: Stamp, answer: Option<&Answer>) -> Change {
        let change = Change {
            check: self.check,
            from: self.status,
            to,
            at: now,
            held_since: self.since,
            fault: answer.and_then(Answer::fault).cloned(),
            unknown: match answer {
                Some(Answer::Unknown(unknown)) => Some(unknown.clone()),
                _ => None,
            },
        };
        self.status = to;
        self.since = now;
        match to {
            Status::Up | Status::Degraded | Status::Down => self.decided = Some(to),
            Status::Unknown | Status::Paused => self.forget(change.from),
        }
        change
    }

    fn forget(&mut self, from: Status) {
        self.rows = Rows::NONE;
        self.last = None;
        self.held = None;
        if from == Status::Paused || self.status == Status::Paused {
            self.decided = None;
        }
    }
}

impl Rows {
    const NONE: Self = Self { failed: 0, wrong: 0, passed: 0, worked: 0, unknown: 0 };

    const fn add(&mut self, result: RunResult) {
        if matches!(result, RunResult::Unknown) {
            self.unknown = self.unknown.saturating_add(1);
            return;
        }
        self.unknown = 0;
        let (failed, passed) =
            (matches!(result, RunResult::Fail), matches!(result, RunResult::Pass));
        self.failed = next(self.failed, failed);
        self.wrong = next(self.wrong, !passed);
        self.passed = next(self.passed, passed);
        self.worked = next(self.worked, !failed);
    }
}

const fn next(row: u32, goes_on: bool) -> u32 {
    if goes_on { row.saturating_add(1) } else { 0 }
}
