//! A probe as a whole: are enough of its targets up?

use std::sync::Arc;

use crate::model::{Check, GroupChange, Headcount, ProbePolicy, Stamp, Status};

/// How many missing members a change names.
pub const MAX_NAMED: usize = 20;

/// The status of a probe as a whole.
#[derive(Debug, Clone)]
pub struct Group {
    probe: Arc<str>,
    status: Status,
    since: Stamp,
}

impl Group {
    pub const fn new(probe: Arc<str>, now: Stamp) -> Self {
        Self { probe, status: Status::Unknown, since: now }
    }

    pub const fn status(&self) -> Status {
        self.status
    }

    pub const fn since(&self) -> Stamp {
        self.since
    }

    /// Takes up what its members are now. `members` is asked only when the status changes.
    pub fn observe<I>(
        &mut self,
        headcount: Headcount,
        policy: &ProbePolicy,
        now: Stamp,
        members: impl FnOnce() -> I,
    ) -> Option<GroupChange>
    where
        I: IntoIterator<Item = (Arc<Check>, Status)>,
    {
        let to = headcount.status(policy.min_up, self.status);
        if to == self.status {
            return None;
        }
        let change = GroupChange {
            probe: self.probe.clone(),
            from: self.status,
            to,
            at: now,
            held_since: self.since,
            missing: missing(members()),
            headcount,
        };
        self.status = to;
        self.since = now;
        Some(change)
    }
}

fn missing(members: impl IntoIterator<Item = (Arc<Check>, Status)>) -> Vec<(Arc<Check>, Status)> {
    let mut missing: Vec<_> = members
        .into_iter()
        .filter(|(_, status)| !matches!(status, Status::Up | Status::Paused))
        .collect();
    missing.sort_by_key(|(_, status)| badness(*status));
    missing.truncate(MAX_NAMED);
    missing
}

const fn badness(status: Status) -> u8 {
    match status {
        Status::Down => 0,
        Status::Degraded => 1,
        Status::Unknown => 2,
        Status::Up | Status::Paused => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `U` up, `G` degraded, `D` down, `?` unknown, `P` paused.
    fn status(members: &str, min_up: Option<usize>, before: Status) -> Status {
        let statuses = members.chars().map(|member| match member {
            'U' => Status::Up,
            'G' => Status::Degraded,
            'D' => Status::Down,
            '?' => Status::Unknown,
            _ => Status::Paused,
        });
        statuses.collect::<Headcount>().status(min_up, before)
    }

    #[test]
    fn enough_members_decide() {
        let rows = [
            ("UUU", 2, Status::Up),
            ("UUD", 2, Status::Degraded),
            ("UUG", 2, Status::Degraded),
            ("UGD", 2, Status::Degraded),
            ("UDD", 2, Status::Down),
            ("DDD", 2, Status::Down),
            // Fewer targets than are asked for.
            ("U", 2, Status::Down),
            ("", 2, Status::Unknown),
            // Those that could not be asked count neither way.
            ("???", 2, Status::Unknown),
            ("UU?", 2, Status::Unknown),
            ("UG?", 2, Status::Degraded),
            ("UD?", 2, Status::Degraded),
            ("DD?", 2, Status::Down),
            ("D??", 2, Status::Degraded),
            // Paused ones are left out.
            ("UUP", 2, Status::Up),
            ("UDP", 2, Status::Down),
            ("UPP", 2, Status::Up),
            ("DPP", 2, Status::Down),
            ("PPP", 2, Status::Paused),
        ];
        for (members, min_up, expected) in rows {
            assert_eq!(status(members, Some(min_up), Status::Unknown), expected, "{members}");
        }
    }

    #[test]
    fn without_min_up_none_up_is_down() {
        assert_eq!(status("UDD", None, Status::Up), Status::Degraded);
        assert_eq!(status("DDD", None, Status::Up), Status::Down);
    }

    #[test]
    fn down_ends_only_on_evidence() {
        assert_eq!(status("UD?", Some(2), Status::Down), Status::Down);
        assert_eq!(status("U??", Some(2), Status::Down), Status::Unknown);
        assert_eq!(status("UUD", Some(2), Status::Down), Status::Degraded);
    }
}
