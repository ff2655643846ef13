//! Whether the service has recorded what it accepted. Pure.

use std::time::Duration;

use super::driver::{Recorded, Untold};
use crate::model::Stamp;

/// What the service has of what it accepted. Only progress counts: its clock is not ours.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    last: Option<Recorded>,
    /// When the first beat was accepted that is not seen in what the service says.
    waiting: Option<Stamp>,
    has_moved: bool,
    /// The service did not know the monitor before our first beat.
    made_on_the_fly: bool,
    problem: Option<String>,
}

impl Proof {
    /// What the service said before the first beat, so that the first one can be seen to move it.
    pub(super) fn before(&mut self, answer: Result<Recorded, Untold>) {
        match answer {
            Ok(recorded) => self.last = Some(recorded),
            Err(Untold::Missing) => {
                self.last = Some(Recorded { at: None, muted: None });
                self.made_on_the_fly = true;
            }
            Err(Untold::Failed(_)) => {}
        }
    }

    pub(super) fn accepted(&mut self, now: Stamp) {
        self.waiting.get_or_insert(now);
    }

    /// When the service says that it recorded the last beat, by its clock.
    pub(super) fn recorded(&self) -> Option<jiff::Timestamp> {
        self.last.as_ref().and_then(|last| last.at)
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether beats are recorded; `None` while nobody can know.
    pub(super) fn is_good(&self) -> Option<bool> {
        (self.has_moved || self.problem.is_some()).then_some(self.problem.is_none())
    }

    pub(super) fn judge(
        &mut self,
        answer: Result<Recorded, Untold>,
        max_lag: Duration,
        now: Stamp,
    ) {
        let is_late = self.waiting.is_some_and(|since| now.since(since) > max_lag);
        let recorded = match answer {
            Ok(recorded) => recorded,
            Err(Untold::Missing) => {
                self.problem = Some("the service does not know this monitor".to_owned());
                return;
            }
            Err(Untold::Failed(detail)) => {
                // That we cannot ask says nothing about the beat, until it lasts.
                if is_late {
                    self.problem = Some(format!("the service does not tell: {detail}"));
                }
                return;
            }
        };
        let moves = self.last.as_ref().is_some_and(|before| recorded.at > before.at);
        if moves {
            self.waiting = None;
            self.has_moved = true;
        }
        self.problem = if let Some(muted) = &recorded.muted {
            Some(format!("the service does not watch: {muted}"))
        } else if self.made_on_the_fly && moves {
            Some("the service did not know this monitor and made one of its own for our beats: is its name right?".to_owned())
        } else if moves {
            None
        } else if is_late {
            let last = recorded.at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            Some(format!("the service accepts beats and has recorded none since {last}"))
        } else {
            self.problem.take()
        };
        self.last = Some(recorded);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const LAG: Duration = Duration::from_mins(3);

    fn at(seconds: u64) -> Stamp {
        Stamp::new(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what a driver answers")]
    fn recorded(second: Option<i64>) -> Result<Recorded, Untold> {
        let at = second.map(|second| Timestamp::from_second(second).unwrap());
        Ok(Recorded { at, muted: None })
    }

    fn begun() -> Proof {
        let mut proof = Proof::default();
        proof.accepted(at(0));
        proof
    }

    #[test]
    fn only_progress_proves_a_beat_whatever_the_clock_there() {
        let mut proof = begun();
        // A clock that is years off.
        proof.judge(recorded(Some(5_000)), LAG, at(15));
        assert_eq!((proof.problem(), proof.is_good()), (None, None));
        proof.accepted(at(60));
        proof.judge(recorded(Some(5_060)), LAG, at(75));
        assert_eq!((proof.problem(), proof.is_good()), (None, Some(true)));
        proof.accepted(at(120));
        proof.judge(recorded(Some(5_060)), LAG, at(300));
        assert_eq!(proof.problem(), None, "within the lag");
        proof.judge(recorded(Some(5_060)), LAG, at(301));
        assert_eq!(proof.is_good(), Some(false));
        proof.judge(recorded(Some(5_320)), LAG, at(320));
        assert_eq!((proof.problem(), proof.is_good()), (None, Some(true)));
    }

    #[test]
    fn the_first_beat_is_proven_by_what_was_there_before() {
        let mut proof = Proof::default();
        proof.before(recorded(Some(5_000)));
        proof.accepted(at(0));
        proof.judge(recorded(Some(5_001)), LAG, at(15));
        assert_eq!(proof.is_good(), Some(true));
    }

    #[test]
    fn a_pause_of_ours_is_not_held_against_the_service() {
        let mut proof = begun();
        proof.judge(recorded(Some(5_000)), LAG, at(15));
        proof.accepted(at(60));
        proof.judge(recorded(Some(5_060)), LAG, at(75));
        // Gates were closed for an hour; the service is a little slow.
        proof.accepted(at(3_700));
        proof.judge(recorded(Some(5_060)), LAG, at(3_715));
        assert_eq!(proof.is_good(), Some(true));
    }

    #[test]
    fn a_switch_that_never_saw_a_beat_is_found_out() {
        let mut proof = begun();
        proof.judge(recorded(None), LAG, at(15));
        proof.judge(recorded(None), LAG, at(200));
        assert!(proof.problem().unwrap().contains("never"));
    }

    #[test]
    fn a_monitor_that_was_made_for_us_is_found_out() {
        let mut proof = Proof::default();
        proof.before(Err(Untold::Missing));
        proof.accepted(at(0));
        proof.judge(recorded(Some(5_000)), LAG, at(15));
        assert!(proof.problem().unwrap().contains("made one"), "{:?}", proof.problem());
        proof.judge(recorded(Some(5_060)), LAG, at(75));
        assert_eq!(proof.is_good(), Some(false));
    }

    #[test]
    fn a_paused_switch_and_a_silent_api_are_told_apart() {
        let mut proof = begun();
        let silent = || Err(Untold::Failed("status 401".into()));
        proof.judge(silent(), LAG, at(15));
        assert_eq!(proof.problem(), None);
        proof.judge(silent(), LAG, at(200));
        assert!(proof.problem().unwrap().contains("status 401"));
        let muted = Some("paused is true".to_owned());
        proof.judge(Ok(Recorded { at: None, muted }), LAG, at(201));
        assert!(proof.problem().unwrap().contains("paused"));
    }
}
