//! One dead man's switch that is beaten over HTTP.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cron::Schedule;
use super::line::{At, Line, Mark, Placed};
use super::ping::{Beat, BeatKind, BeatResult, RunId};
use super::silence::Silence;
use super::spec::Spec;
use crate::model::{Answer, Fault, Stamp};

/// How long an overdue switch waits for beats that queued up while we were away.
pub const SETTLE: Duration = Duration::from_secs(5);

/// What a switch remembers. Whoever has it and the configuration has the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchState {
    /// When it was first configured: its first deadline counts from here, over any number of restarts.
    pub armed: Mark,
    /// The last beat that moved the deadline.
    #[serde(default)]
    pub last: Option<Mark>,
    /// Who sent it.
    #[serde(default)]
    pub last_from: Option<IpAddr>,
    #[serde(default)]
    pub started: Option<Started>,
    #[serde(default)]
    pub failed: Option<Failed>,
    #[serde(default)]
    pub beats: u64,
    #[serde(default)]
    pub silence: Silence,
}

/// A run that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub mark: Mark,
    pub run: Option<RunId>,
}

/// A run that reported failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub mark: Mark,
    pub detail: String,
}

/// What a switch says at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub answer: Answer,
    /// When it will fail if nothing comes. `None`: it has failed, or it never will.
    pub deadline: Option<At>,
    /// When to ask again at the latest.
    pub next: Option<At>,
    /// How often it failed lately, when that is too often.
    pub flaps: Option<usize>,
    pub heard: Option<Heard>,
    /// Until when what was heard is evidence that all is well; `None` when it is none. No wait that we grant moves it.
    pub proves_until: Option<At>,
}

impl Verdict {
    /// Armed, and its first limit has not passed: there is nothing yet to judge it by.
    pub const fn waits(&self) -> bool {
        self.heard.is_none() && matches!(self.answer, Answer::Pass)
    }
}

/// The last that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub received: Placed,
    /// When the clock that came back had been issued; only a watchdog's evidence has one.
    pub issued: Option<Placed>,
    /// Who sent it.
    pub from: Option<IpAddr>,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC");
        match self.issued {
            None => write!(f, "last beat {}", clock(self.received.wall))?,
            Some(issued) => {
                let took = self.received.wall.duration_since(issued.wall).as_secs().max(0);
                write!(f, "last evidence {}, back after {took} s", clock(issued.wall))?;
            }
        }
        self.from.map_or(Ok(()), |from| write!(f, " from {from}"))
    }
}

#[derive(Debug, Clone)]
pub struct Switch {
    spec: Arc<Spec>,
    schedule: Schedule,
    state: SwitchState,
}

/// Where the limits of a switch lie.
struct Limits {
    due: Option<At>,
    silent: Option<At>,
    overrun: Option<At>,
}

impl Switch {
    /// `None` when the spec has no schedule, which [`Spec::check`] refuses.
    pub fn new(
        spec: Arc<Spec>,
        kept: Option<SwitchState>,
        now: Stamp,
        line: &Line,
    ) -> Option<Self> {
        let schedule = spec.schedule()?;
        let state = kept.unwrap_or_else(|| SwitchState::armed(line.mark(now)));
        Some(Self { spec, schedule, state })
    }

    pub const fn state(&self) -> &SwitchState {
        &self.state
    }

    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// Takes a beat. What moves a deadline is its arrival, never what it says about time.
    pub fn beat(&mut self, beat: &Beat<'_>, now: Stamp, line: &Line) -> BeatResult {
        if !self.spec.accepts(beat.method) {
            return BeatResult::Ignored;
        }
        match beat.kind {
            BeatKind::Log => return BeatResult::Log,
            BeatKind::Start => {
                self.state.started = Some(Started { mark: line.mark(now), run: beat.run });
                return BeatResult::Start;
            }
            BeatKind::Success | BeatKind::Fail | BeatKind::Exit(_) => {}
        }
        let is_failure = beat.is_failure();
        let limits = self.limits(line);
        let on_time = limits.silent.is_none_or(|silent| At::of(now) < silent);
        self.end_run(beat, is_failure);
        self.state.silence.beaten(on_time && !is_failure);
        self.state.last = Some(line.mark(now));
        self.state.last_from = beat.from;
        self.state.beats = self.state.beats.saturating_add(1);
        if is_failure {
            self.state.failed = Some(Failed { mark: line.mark(now), detail: beat.detail() });
            return BeatResult::Fail;
        }
        self.state.failed = None;
        BeatResult::Success
    }

    /// A failure ends any run; a success that names another run leaves the newest one open.
    fn end_run(&mut self, beat: &Beat<'_>, is_failure: bool) {
        let ends = self
            .state
            .started
            .as_ref()
            .is_some_and(|started| is_failure || beat.run.is_none() || beat.run == started.run);
        if ends {
            self.state.started = None;
        }
    }

    fn limits(&self, line: &Line) -> Limits {
        let base = self.state.last.as_ref().unwrap_or(&self.state.armed);
        let due = self.schedule.until_due(base.wall()).map(|later| line.place(base).plus(later));
        let silent = due.map(|due| due.plus(self.spec.grace()));
        let overrun = self
            .state
            .started
            .as_ref()
            .map(|started| line.place(&started.mark).plus(self.spec.max_runtime()));
        Limits { due, silent, overrun }
    }

    /// We were away: give what queued up meanwhile a moment to come in.
    pub fn wake(&mut self, now: Stamp, line: &Line) -> bool {
        let limits = self.limits(line);
        let first = [limits.silent, limits.overrun].into_iter().flatten().min();
        first.is_some_and(|limit| self.state.silence.hold(limit, now, line))
    }

    /// What it says now; notes when it begins or ceases to fail. True when there is something new to keep.
    pub fn evaluate(&mut self, now: Stamp, line: &Line) -> (Verdict, bool) {
        let verdict = self.judge(now, line);
        let fails = matches!(verdict.answer, Answer::Fail(_));
        let changed = self.state.silence.set_down(fails, now, line);
        (verdict, changed)
    }

    fn judge(&self, now: Stamp, line: &Line) -> Verdict {
        let at = At::of(now);
        let limits = self.limits(line);
        let silence = &self.state.silence;
        let silent = limits.silent.map(|limit| silence.limit(limit, line));
        let overrun = limits.overrun.map(|limit| silence.limit(limit, line));
        let is_past = |limit: Option<At>| limit.is_some_and(|limit| limit <= at);
        let flaps = silence.flapping(self.interval(line), now, line);
        let failed = self
            .state
            .failed
            .as_ref()
            .map(|failed| Fault::ReportedFailure { detail: failed.detail.as_str().into() });
        let answer = if let Some(fault) = failed {
            Answer::Fail(fault)
        } else if let (true, Some(fault)) = (is_past(overrun), self.overran()) {
            Answer::Fail(fault)
        } else if is_past(silent) {
            Answer::Fail(self.silent(line))
        } else if is_past(limits.due) {
            Answer::Warn(self.silent(line))
        } else if let Some(count) = flaps {
            let detail = format!("flapping: failed {count} times lately, not steady yet");
            Answer::Warn(Fault::ReportedFailure { detail: detail.into() })
        } else {
            Answer::Pass
        };
        let deadline = match answer {
            Answer::Fail(_) => None,
            _ => [silent, overrun].into_iter().flatten().min(),
        };
        let next = [limits.due, silent, overrun].into_iter().flatten().filter(|it| *it > at).min();
        let from = self.state.last_from;
        let heard = self.state.last.as_ref();
        let heard = heard.map(|mark| Heard { received: line.placed(mark), issued: None, from });
        let is_proof = heard.is_some() && self.state.failed.is_none();
        let first = [limits.silent, limits.overrun].into_iter().flatten().min();
        let proves_until = is_proof.then_some(first.unwrap_or(At::NEVER));
        Verdict { answer, deadline, next, flaps, heard, proves_until }
    }

    fn interval(&self, line: &Line) -> Duration {
        let limits = self.limits(line);
        let base = self.state.last.as_ref().unwrap_or(&self.state.armed);
        limits.due.map_or(Duration::ZERO, |due| due.since(line.place(base)))
    }

    fn silent(&self, line: &Line) -> Fault {
        let since = self.state.last.as_ref().map(Mark::wall);
        Fault::Silent { since, allowed: self.interval(line).saturating_add(self.spec.grace()) }
    }

    fn overran(&self) -> Option<Fault> {
        let started = self.state.started.as_ref()?;
        Some(Fault::Overrun { started: started.mark.wall(), allowed: self.spec.max_runtime() })
    }
}

impl SwitchState {
    pub const fn armed(mark: Mark) -> Self {
        Self {
            armed: mark,
            last: None,
            last_from: None,
            started: None,
            failed: None,
            beats: 0,
            silence: Silence::NONE,
        }
    }

    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        [&self.armed]
            .into_iter()
            .chain(&self.last)
            .chain(self.started.iter().map(|it| &it.mark))
            .chain(self.failed.iter().map(|it| &it.mark))
            .chain(self.silence.marks())
    }
}
