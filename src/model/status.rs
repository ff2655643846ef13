//! What we believe about a check, and how that changes.

use serde::Serialize;

use super::{CheckId, Fault, Stamp, Unknown};

/// What we believe now, after thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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
