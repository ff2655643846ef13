//! Pauses and maintenance: bounded, with a reason, and never a way to disarm.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::{At, Line, Mark};
use crate::model::Stamp;

/// The longest pause.
pub const MAX_PAUSE: Duration = Duration::from_secs(31 * 86_400);
/// Pauses that one name may have, the ones to come included.
pub const MAX_PAUSES: usize = 32;
const MAX_REASON_BYTES: usize = 500;

/// A stretch in which nobody is told. Its length is measured on the boot clock from when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub id: u64,
    pub made: Mark,
    /// How long after it was made it begins, in seconds.
    pub begins_in: u64,
    pub lasts: u64,
    pub reason: String,
    pub by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPause {
    #[error("a pause needs a reason of 1 to {MAX_REASON_BYTES} bytes")]
    Reason,
    #[error("a pause ends after it begins and lasts at most 31 days")]
    Length,
    #[error("there are {MAX_PAUSES} pauses already")]
    TooMany,
}

impl Pause {
    fn begins(&self, line: &Line) -> At {
        line.place(&self.made).plus(Duration::from_secs(self.begins_in))
    }

    pub fn ends(&self, line: &Line) -> At {
        self.begins(line).plus(Duration::from_secs(self.lasts))
    }

    fn is_over(&self, now: Stamp, line: &Line) -> bool {
        self.ends(line) <= At::of(now)
    }

    fn holds(&self, now: Stamp, line: &Line) -> bool {
        self.begins(line) <= At::of(now) && !self.is_over(now, line)
    }
}

/// Pauses by what they pause: the name of a deadman, or of a probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    next_id: u64,
    by_name: BTreeMap<String, Vec<Pause>>,
}

/// A pause as people read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    pub name: String,
    pub begins: jiff::Timestamp,
    pub until: jiff::Timestamp,
    /// It holds now.
    pub holds: bool,
    pub reason: String,
    pub by: String,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub begins_in: Duration,
    pub lasts: Duration,
    pub reason: &'a str,
    pub by: &'a str,
}

impl Pauses {
    pub fn add(
        &mut self,
        name: &str,
        wanted: Wanted<'_>,
        now: Stamp,
        line: &Line,
    ) -> Result<Pause, NoPause> {
        let reason = wanted.reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
            return Err(NoPause::Reason);
        }
        if wanted.lasts < Duration::from_secs(1) || wanted.lasts > MAX_PAUSE {
            return Err(NoPause::Length);
        }
        self.forget_over(now, line);
        let pauses = self.by_name.entry(name.to_owned()).or_default();
        if pauses.len() >= MAX_PAUSES {
            return Err(NoPause::TooMany);
        }
        self.next_id += 1;
        let pause = Pause {
            id: self.next_id,
            made: line.mark(now),
            begins_in: wanted.begins_in.as_secs(),
            lasts: wanted.lasts.as_secs(),
            reason: reason.to_owned(),
            by: wanted.by.chars().take(MAX_REASON_BYTES).collect(),
        };
        pauses.push(pause.clone());
        Ok(pause)
    }

    /// Ends all pauses of a name that hold now; those that have yet to begin stay. How many ended.
    pub fn resume(&mut self, name: &str, now: Stamp, line: &Line) -> usize {
        let Some(pauses) = self.by_name.get_mut(name) else { return 0 };
        let before = pauses.len();
        pauses.retain(|pause| !pause.holds(now, line));
        before - pauses.len()
    }

    /// The pause that lasts longest of those that hold now.
    pub fn active(&self, name: &str, now: Stamp, line: &Line) -> Option<&Pause> {
        let pauses = self.by_name.get(name)?.iter();
        pauses.filter(|pause| pause.holds(now, line)).max_by_key(|pause| pause.ends(line))
    }

    /// When a pause of this name begins or ends next.
    pub fn next(&self, name: &str, now: Stamp, line: &Line) -> Option<At> {
        let pauses = self.by_name.get(name)?.iter();
        let edges = pauses.flat_map(|pause| [pause.begins(line), pause.ends(line)]);
        edges.filter(|edge| *edge > At::of(now)).min()
    }

    /// Every pause that is not over.
    pub(super) fn planned(&self, now: Stamp, line: &Line) -> Vec<Planned> {
        let all =
            self.by_name.iter().flat_map(|(name, list)| list.iter().map(move |it| (name, it)));
        let open = all.filter(|(_, pause)| !pause.is_over(now, line));
        let mut planned: Vec<Planned> = open
            .map(|(name, pause)| Planned {
                name: name.clone(),
                begins: line.stamp(pause.begins(line), now).wall,
                until: line.stamp(pause.ends(line), now).wall,
                holds: pause.holds(now, line),
                reason: pause.reason.clone(),
                by: pause.by.clone(),
            })
            .collect();
        planned.sort_by(|one, two| (one.begins, &one.name).cmp(&(two.begins, &two.name)));
        planned
    }

    /// What is paused, or was and is not tidied up yet.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub fn of(&self, name: &str) -> &[Pause] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// What is gone from the configuration is not paused when it comes back.
    pub fn forget(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    fn forget_over(&mut self, now: Stamp, line: &Line) {
        for pauses in self.by_name.values_mut() {
            pauses.retain(|pause| !pause.is_over(now, line));
        }
        self.by_name.retain(|_, pauses| !pauses.is_empty());
    }

    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.by_name.values().flatten().map(|pause| &pause.made)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn stamp(seconds: u64) -> Stamp {
        let wall = Timestamp::from_second(1_000_000 + i64::try_from(seconds).unwrap()).unwrap();
        Stamp::new(wall, Duration::from_secs(seconds))
    }

    fn wanted(begins_in: u64, lasts: u64) -> Wanted<'static> {
        Wanted {
            begins_in: Duration::from_secs(begins_in),
            lasts: Duration::from_secs(lasts),
            reason: "disk swap",
            by: "ops",
        }
    }

    #[test]
    fn overlapping_pauses_end_with_the_last() {
        let line = Line::start(stamp(0), "a", []);
        let mut pauses = Pauses::default();
        pauses.add("x", wanted(0, 60), stamp(0), &line).unwrap();
        pauses.add("x", wanted(30, 60), stamp(0), &line).unwrap();
        assert!(pauses.active("x", stamp(59), &line).is_some());
        assert_eq!(pauses.next("x", stamp(0), &line), Some(At(30_000)));
        let last = pauses.active("x", stamp(89), &line).unwrap();
        assert_eq!(last.ends(&line), At(90_000));
        assert_eq!(pauses.active("x", stamp(90), &line), None);
        assert_eq!(pauses.active("y", stamp(10), &line), None);
    }

    #[test]
    fn a_jump_of_the_wall_clock_ends_nothing() {
        let line = Line::start(stamp(0), "a", []);
        let mut pauses = Pauses::default();
        pauses.add("x", wanted(0, 600), stamp(0), &line).unwrap();
        let jumped = Stamp::new(stamp(7_200).wall, Duration::from_secs(10));
        assert!(pauses.active("x", jumped, &line).is_some());
    }

    #[test]
    fn a_pause_is_bounded_and_has_a_reason() {
        let line = Line::start(stamp(0), "a", []);
        let mut pauses = Pauses::default();
        let mute = Wanted { reason: " ", ..wanted(0, 60) };
        assert_eq!(pauses.add("x", mute, stamp(0), &line), Err(NoPause::Reason));
        let eternal = wanted(0, 32 * 86_400);
        assert_eq!(pauses.add("x", eternal, stamp(0), &line), Err(NoPause::Length));
        for _ in 0..MAX_PAUSES {
            pauses.add("x", wanted(0, 60), stamp(0), &line).unwrap();
        }
        assert_eq!(pauses.add("x", wanted(0, 60), stamp(1), &line), Err(NoPause::TooMany));
        // Those that are over make room.
        assert!(pauses.add("x", wanted(0, 60), stamp(61), &line).is_ok());
    }

    #[test]
    fn resuming_ends_what_holds_and_keeps_what_comes() {
        let line = Line::start(stamp(0), "a", []);
        let mut pauses = Pauses::default();
        pauses.add("x", wanted(0, 60), stamp(0), &line).unwrap();
        pauses.add("x", wanted(100, 60), stamp(0), &line).unwrap();
        assert_eq!(pauses.resume("x", stamp(1), &line), 1);
        assert_eq!(pauses.of("x").len(), 1);
        assert!(pauses.active("x", stamp(110), &line).is_some());
    }
}
