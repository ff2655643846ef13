//! What we believe about a check, and how that changes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Check, CheckId, Fault, Stamp, Unknown};

/// What we believe now, after thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Up,
    Degraded,
    Down,
    Unknown,
    Paused,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Up, Self::Degraded, Self::Down, Self::Unknown, Self::Paused];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Paused => "paused",
        }
    }
}

/// How one run counts: the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunResult {
    Pass,
    Warn,
    Fail,
    Unknown,
}

impl RunResult {
    pub const ALL: [Self; 4] = [Self::Pass, Self::Warn, Self::Fail, Self::Unknown];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

impl From<&super::Answer> for RunResult {
    fn from(answer: &super::Answer) -> Self {
        match answer {
            super::Answer::Pass => Self::Pass,
            super::Answer::Warn(_) => Self::Warn,
            super::Answer::Fail(_) => Self::Fail,
            super::Answer::Unknown(_) => Self::Unknown,
        }
    }
}

/// A status became another: the only thing that notifies.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub check: CheckId,
    pub from: Status,
    pub to: Status,
    pub at: Stamp,
    /// Since when the status that ended had held.
    pub held_since: Stamp,
    pub fault: Option<Fault>,
    pub unknown: Option<Unknown>,
}

/// The status of a probe as a whole became another: `min_up` of its targets are up no longer, or again.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupChange {
    pub probe: Arc<str>,
    pub from: Status,
    pub to: Status,
    pub at: Stamp,
    pub held_since: Stamp,
    /// The members that are not up, the worst first; no more than are worth naming.
    pub missing: Vec<(Arc<Check>, Status)>,
    pub headcount: Headcount,
}

/// How many have which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Headcount {
    pub up: usize,
    pub degraded: usize,
    pub down: usize,
    pub unknown: usize,
    pub paused: usize,
}

impl Headcount {
    pub const fn of(&self, status: Status) -> usize {
        match status {
            Status::Up => self.up,
            Status::Degraded => self.degraded,
            Status::Down => self.down,
            Status::Unknown => self.unknown,
            Status::Paused => self.paused,
        }
    }

    /// Members that are asked at all.
    pub const fn active(&self) -> usize {
        self.working() + self.down + self.unknown
    }

    /// Members that do their work: up, or degraded.
    pub const fn working(&self) -> usize {
        self.up + self.degraded
    }

    /// What all of them together are: fewer than `min_up` up is down, all up is up, between is degraded; without `min_up`,
    /// none up is down.
    ///
    /// Members that could not be asked count neither way: the answer is what holds whether they are up or not. Where that
    /// leaves two answers, trouble that is known is not hidden (degraded, or still down), and nothing is up on a guess.
    /// Paused members are left out; while there are some, no more is asked for than the others can give.
    pub fn status(&self, min_up: Option<usize>, before: Status) -> Status {
        let active = self.active();
        if active == 0 {
            return if self.paused > 0 { Status::Paused } else { Status::Unknown };
        }
        let wanted = match min_up.unwrap_or(1) {
            wanted if self.paused > 0 => wanted.min(active),
            wanted => wanted,
        };
        let certain = |up: usize| {
            if up + self.degraded < wanted {
                Status::Down
            } else if up == active {
                Status::Up
            } else {
                Status::Degraded
            }
        };
        match (certain(self.up + self.unknown), certain(self.up)) {
            (best, worst) if best == worst => best,
            (Status::Up, _) => Status::Unknown,
            _ if before == Status::Down => Status::Down,
            _ => Status::Degraded,
        }
    }

    pub const fn add(&mut self, status: Status) {
        *self.slot(status) += 1;
    }

    pub const fn remove(&mut self, status: Status) {
        let slot = self.slot(status);
        *slot = slot.saturating_sub(1);
    }

    const fn slot(&mut self, status: Status) -> &mut usize {
        match status {
            Status::Up => &mut self.up,
            Status::Degraded => &mut self.degraded,
            Status::Down => &mut self.down,
            Status::Unknown => &mut self.unknown,
            Status::Paused => &mut self.paused,
        }
    }
}

impl FromIterator<Status> for Headcount {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        statuses.into_iter().fold(Self::default(), |mut count, status| {
            count.add(status);
            count
        })
    }
}
