//! The places that the owner writes and readers read.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{History, Run};
use crate::model::{CheckId, Headcount, ProbePolicy, Stamp, Status, View};

/// One check's place on the board. It stays the same while the check exists.
#[derive(Debug)]
pub struct Cell {
    id: CheckId,
    view: ArcSwap<View>,
    history: History,
}

/// One probe's place on the board.
#[derive(Debug)]
pub struct GroupCell(ArcSwap<GroupView>);

/// A probe as a whole.
#[derive(Debug, Clone)]
pub struct GroupView {
    pub policy: Arc<ProbePolicy>,
    pub status: Status,
    pub since: Stamp,
    pub headcount: Headcount,
    /// The ids of its checks, in the order in which they were given.
    pub members: Arc<[CheckId]>,
}

impl Cell {
    pub fn new(view: View) -> Self {
        Self { id: view.check.id, view: ArcSwap::from_pointee(view), history: History::default() }
    }

    pub const fn id(&self) -> CheckId {
        self.id
    }

    pub fn load(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The last runs.
    pub const fn history(&self) -> &History {
        &self.history
    }

    pub fn store(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    pub fn add_run(&self, run: Run) {
        self.history.push(run);
    }
}

impl GroupCell {
    pub fn new(view: GroupView) -> Self {
        Self(ArcSwap::from_pointee(view))
    }

    pub fn load(&self) -> Arc<GroupView> {
        self.0.load_full()
    }

    pub fn store(&self, view: GroupView) {
        self.0.store(Arc::new(view));
    }
}

impl GroupView {
    /// The status as it may be shown beside members with these: those whose results are too old are not believed, and
    /// neither is what was made of them. See [`View::status_at`].
    pub fn status_among(&self, members: Headcount) -> Status {
        if members == self.headcount {
            return self.status;
        }
        members.status(self.policy.min_up, self.status)
    }

    /// Whether as many targets work as the probe asks for: `min_up`, or else all that are not paused. Those that could
    /// not be asked are not among them. A probe without any target that is asked proves nothing.
    pub fn has_enough(&self) -> bool {
        let active = self.headcount.active();
        let wanted = match self.policy.min_up {
            Some(min_up) => min_up,
            None => active,
        };
        active > 0 && self.headcount.working() >= wanted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Notify, Thresholds, family};

    #[test]
    fn a_group_is_not_better_than_the_members_it_is_shown_with() {
        let all_up = Headcount { up: 2, ..Headcount::default() };
        let policy = ProbePolicy {
            name: "p".into(),
            module: "m".into(),
            prober: "tcp",
            phases: &family::PROBE_TCP_DURATION,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            thresholds: Thresholds::default(),
            retry_interval: None,
            min_up: Some(2),
            pipeline: false,
            notify: Notify::default(),
            histogram: [].into(),
        };
        let view = GroupView {
            policy: Arc::new(policy),
            status: Status::Up,
            since: Stamp::new(jiff::Timestamp::UNIX_EPOCH, Duration::ZERO),
            headcount: all_up,
            members: [].into(),
        };
        assert_eq!(view.status_among(all_up), Status::Up);
        let stale = Headcount { unknown: 2, ..Headcount::default() };
        assert_eq!(view.status_among(stale), Status::Unknown);
        let half = Headcount { up: 1, unknown: 1, ..Headcount::default() };
        assert_eq!(view.status_among(half), Status::Unknown);
    }
}
