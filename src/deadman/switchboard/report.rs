//! What a switch says, and what a person should know beside it.

use std::sync::Arc;

use serde::Serialize;

use crate::deadman::pause::Pause;
use crate::deadman::switch::{Heard, Verdict};
use crate::deadman::watchdog::Stranger;
use crate::model::{Answer, Outcome, Stamp, Status};

/// What one switch says.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub name: Arc<str>,
    /// Its checks by target: the switch itself under its own name, or each source of a watchdog.
    pub members: Vec<(Arc<str>, Verdict)>,
    /// All of them taken together.
    pub answer: Answer,
    /// The pause that holds, during which nobody is told.
    pub paused: Option<Pause>,
    /// What a person should know beside the answer.
    pub notes: Vec<Note>,
    /// When it fails if nothing comes.
    pub deadline: Option<Stamp>,
    pub last_beat: Option<Stamp>,
}

impl Report {
    /// Members that wait for their first beat: of those nothing is known yet, good or bad.
    pub fn waiting(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.iter().filter(|(_, verdict)| verdict.waits()).map(|(target, _)| target)
    }

    /// What each of the others says, as the value that everything else is derived from, and with what was last heard.
    pub fn outcomes(
        &self,
        now: Stamp,
    ) -> impl Iterator<Item = (&Arc<str>, Outcome, Option<Heard>)> {
        let judged = self.members.iter().filter(|(_, verdict)| !verdict.waits());
        judged.map(move |(target, verdict)| {
            (target, Outcome::judged(verdict.answer.clone(), now), verdict.heard)
        })
    }

    /// All of them taken together, as a status. A late switch that was never beaten works no more than it fails.
    pub fn status(&self) -> Status {
        match &self.answer {
            _ if self.paused.is_some() => Status::Paused,
            Answer::Fail(_) => Status::Down,
            Answer::Warn(_) => Status::Degraded,
            Answer::Pass if self.waiting().next().is_none() => Status::Up,
            Answer::Pass | Answer::Unknown(_) => Status::Unknown,
        }
    }
}

/// What a person should know beside the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// This watchpost did not look for this long, until the moment given.
    Gap { seconds: u64, until: jiff::Timestamp },
    /// The wall clock was set, this many seconds ahead or back.
    ClockStepped { seconds: i64 },
    /// At start, the wall clock was before what had been recorded: ages from before are unknown.
    ClockUntrusted,
    /// It failed this often lately.
    Flapping { times: usize },
    /// Alertmanager said `resolved` of these sources, and has not heard of them since.
    Ended { sources: Vec<String> },
    /// A Watchdog came that is nobody's.
    Unlisted(Stranger),
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gap { seconds, until } => {
                write!(f, "this watchpost itself was suspended or stalled for {seconds} s, until {until}")
            }
            Self::ClockStepped { seconds } => {
                write!(f, "this watchpost's wall clock was set by {seconds:+} s lately")
            }
            Self::ClockUntrusted => f.write_str(
                "this watchpost started with a wall clock before its own records: ages are uncertain",
            ),
            Self::Flapping { times } => write!(f, "it failed {times} times lately"),
            Self::Ended { sources } => write!(
                f,
                "Alertmanager said that the Watchdog of {} is over: Prometheus does not send it any more, or not to here",
                sources.join(", ")
            ),
            Self::Unlisted(Stranger { label, value: Some(value) }) => {
                write!(f, "a Watchdog with {label}={value:?} comes, which sources: does not list")
            }
            Self::Unlisted(Stranger { label, value: None }) => write!(
                f,
                "a Watchdog without the label {label} comes, and nobody knows whose: look at alert_relabel_configs and the rule"
            ),
        }
    }
}
