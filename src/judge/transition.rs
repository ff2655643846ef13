//! What a change means for the episode that it belongs to.

use crate::model::Status;

/// What is to be done about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opens an episode, or gives the open one this severity.
    Open(Severity),
    /// Leaves an episode as it is: we cannot say that it is over.
    Hold,
    /// Ends the episode, where one is open.
    Resolve,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Degraded: it works, and somebody should look.
    Warning,
    /// Down.
    Critical,
}

impl Severity {
    /// The status whose receivers are told.
    pub const fn status(self) -> Status {
        match self {
            Self::Warning => Status::Degraded,
            Self::Critical => Status::Down,
        }
    }
}

/// Rows: the old status; columns: the new one; both in the order of [`Status::ALL`].
///
/// Unknown neither opens nor ends anything: what we could not ask is no news about the target, and no recovery. Going
/// up from unknown resolves, because the episode may date from before. To pause is to say "I know": it ends the episode.
const STEPS: [[Step; 5]; 5] = {
    const NOTHING: Step = Step::Nothing;
    const HOLD: Step = Step::Hold;
    const RESOLVE: Step = Step::Resolve;
    const WARNING: Step = Step::Open(Severity::Warning);
    const CRITICAL: Step = Step::Open(Severity::Critical);
    [
        // to: up, degraded, down, unknown, paused
        [NOTHING, WARNING, CRITICAL, NOTHING, NOTHING], // from up
        [RESOLVE, NOTHING, CRITICAL, HOLD, RESOLVE],    // from degraded
        [RESOLVE, WARNING, NOTHING, HOLD, RESOLVE],     // from down
        [RESOLVE, WARNING, CRITICAL, NOTHING, RESOLVE], // from unknown
        [NOTHING, WARNING, CRITICAL, NOTHING, NOTHING], // from paused
    ]
};

/// What a change between two statuses means.
pub const fn step(from: Status, to: Status) -> Step {
    STEPS[from as usize][to as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_statuses_has_its_step() {
        let table = "
            up       up       nothing
            up       degraded open_warning
            up       down     open_critical
            up       unknown  nothing
            up       paused   nothing
            degraded up       resolve
            degraded degraded nothing
            degraded down     open_critical
            degraded unknown  hold
            degraded paused   resolve
            down     up       resolve
            down     degraded open_warning
            down     down     nothing
            down     unknown  hold
            down     paused   resolve
            unknown  up       resolve
            unknown  degraded open_warning
            unknown  down     open_critical
            unknown  unknown  nothing
            unknown  paused   resolve
            paused   up       nothing
            paused   degraded open_warning
            paused   down     open_critical
            paused   unknown  nothing
            paused   paused   nothing";
        let mut rows = table.trim().lines();
        for from in Status::ALL {
            for to in Status::ALL {
                let words: Vec<_> = rows.next().unwrap().split_whitespace().collect();
                assert_eq!(words, [from.label(), to.label(), spelled(step(from, to))]);
            }
        }
        assert_eq!(rows.next(), None);
    }

    fn spelled(step: Step) -> &'static str {
        match step {
            Step::Open(Severity::Warning) => "open_warning",
            Step::Open(Severity::Critical) => "open_critical",
            Step::Hold => "hold",
            Step::Resolve => "resolve",
            Step::Nothing => "nothing",
        }
    }
}
