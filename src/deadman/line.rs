//! One line of time on which everything that ever happened has a place, however the wall clock was set meanwhile.
//!
//! The line is the boot clock of this boot. What happened on it is placed exactly; what happened on an earlier boot is
//! placed by the wall clock, if that can be trusted.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Stamp;

/// How far the wall clock and the boot clock may drift apart between two ticks before it is a step.
const STEP: i64 = 2_000;
/// A tick that comes this much later than the last one: we were suspended, or starved.
const LATE_TICK: Duration = Duration::from_secs(20);

/// A place on the line: milliseconds of this boot, negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(pub i64);

impl At {
    /// Later than anything.
    pub const NEVER: Self = Self(i64::MAX);

    pub fn of(now: Stamp) -> Self {
        Self(millis(now.boot))
    }

    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }

    /// Zero when `earlier` lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When something happened, as it is kept: both clocks, and on which boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub wall_ms: i64,
    pub boot_ms: i64,
    pub boot_id: Arc<str>,
}

impl Mark {
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millisecond(self.wall_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// When something happened: by the wall clock of that moment, to be shown, and on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub wall: Timestamp,
    pub at: At,
}

/// What a tick found out about the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tick {
    /// Nobody looked for this long.
    pub gap: Option<Duration>,
    /// How far the wall clock jumped.
    pub step: Option<SignedDuration>,
}

#[derive(Debug, Clone)]
pub struct Line {
    boot_id: Arc<str>,
    /// Wall time minus boot time, with which earlier boots are placed.
    offset: i64,
    is_trusted: bool,
    started: Stamp,
    last: Stamp,
    steps: u64,
}

impl Line {
    /// `boot_id` names this boot; an empty one is never the same boot. `kept` are the marks that were kept.
    pub fn start<'a>(
        now: Stamp,
        boot_id: impl Into<Arc<str>>,
        kept: impl IntoIterator<Item = &'a Mark>,
    ) -> Self {
        Self::start_anchored(now, boot_id, kept, [])
    }

    /// [`start`](Self::start), where processes before us may have said how the clocks stood: their [`anchors`](Self::anchor).
    pub(super) fn start_anchored<'a>(
        now: Stamp,
        boot_id: impl Into<Arc<str>>,
        kept: impl IntoIterator<Item = &'a Mark>,
        anchors: impl IntoIterator<Item = &'a Mark>,
    ) -> Self {
        let boot_id: Arc<str> = boot_id.into();
        let anchors = anchors.into_iter().filter(|mark| is_same(&mark.boot_id, &boot_id));
        let anchor = anchors.min_by_key(|mark| mark.boot_ms);
        let mut same: Option<&Mark> = None;
        let mut widest: Option<i64> = None;
        let mut newest: Option<&Mark> = None;
        for mark in kept {
            if is_same(&mark.boot_id, &boot_id) {
                same = same.filter(|it| it.boot_ms >= mark.boot_ms).or(Some(mark));
                widest = widest.max(Some(mark.wall_ms.saturating_sub(mark.boot_ms)));
            } else {
                newest = newest.filter(|it| it.wall_ms >= mark.wall_ms).or(Some(mark));
            }
        }
        let here = now.wall.as_millisecond().saturating_sub(At::of(now).0);
        // What was kept on this boot knows best how the clocks stood; the wall clock may have been set since. The first
        // process on it decides for all, or a start would move what the clock must not.
        let mut offset =
            anchor.or(same).map_or(here, |mark| mark.wall_ms.saturating_sub(mark.boot_ms));
        let newest_at = newest.map(|mark| mark.wall_ms.saturating_sub(offset));
        let is_trusted = newest_at.is_none_or(|at| at <= At::of(now).0.saturating_add(STEP));
        if let (false, Some(newest)) = (is_trusted, newest) {
            // The clock says that the past has not happened yet. The time between is unknown: let it count as none, but
            // only once for each boot, or a crash loop would hold every deadline back. What the process before us took
            // for the time is in its [`Line::anchor`].
            let none = newest.wall_ms.saturating_sub(At::of(now).0);
            offset = widest.filter(|widest| *widest >= none).unwrap_or(none);
        }
        Self { boot_id, offset, is_trusted, started: now, last: now, steps: 0 }
    }

    /// Whether wall time and what was kept agree.
    pub const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    pub const fn started(&self) -> Stamp {
        self.started
    }

    /// Steps of the wall clock since start.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    pub fn mark(&self, now: Stamp) -> Mark {
        Mark {
            wall_ms: now.wall.as_millisecond(),
            boot_ms: At::of(now).0,
            boot_id: self.boot_id.clone(),
        }
    }

    /// The mark of a place before now that we only learn of now.
    pub(super) fn mark_at(&self, at: At, wall_ms: i64) -> Mark {
        Mark { wall_ms, boot_ms: at.0, boot_id: self.boot_id.clone() }
    }

    /// With which wall time earlier boots are placed, as a mark of now. To be kept where the clock is not trusted.
    pub(super) fn anchor(&self, now: Stamp) -> Mark {
        self.mark_at(At::of(now), At::of(now).0.saturating_add(self.offset))
    }

    /// Whether it happened on this boot.
    pub(super) fn is_here(&self, mark: &Mark) -> bool {
        is_same(&mark.boot_id, &self.boot_id)
    }

    pub fn place(&self, mark: &Mark) -> At {
        if self.is_here(mark) {
            return At(mark.boot_ms);
        }
        At(mark.wall_ms.saturating_sub(self.offset))
    }

    pub fn placed(&self, mark: &Mark) -> Placed {
        Placed { wall: mark.wall(), at: self.place(mark) }
    }

    /// Where a wall time before our start lies.
    pub(super) fn place_wall(&self, wall_ms: i64) -> At {
        At(wall_ms.saturating_sub(self.offset))
    }

    /// A place as people read it, by the wall clock as it stands now.
    pub fn stamp(&self, at: At, now: Stamp) -> Stamp {
        let ahead = at.0.saturating_sub(At::of(now).0);
        let wall = now.wall.checked_add(SignedDuration::from_millis(ahead));
        let limit = if ahead < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let boot = Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
        Stamp::new(wall.unwrap_or(limit), boot)
    }

    /// Compares the progress of both clocks since the last tick.
    pub fn tick(&mut self, now: Stamp) -> Tick {
        let boot = now.since(self.last);
        let wall = now.wall.duration_since(self.last.wall);
        let apart = wall.as_millis().saturating_sub(i128::from(millis(boot)));
        let step = i64::try_from(apart).unwrap_or(if apart < 0 { i64::MIN } else { i64::MAX });
        let is_step = step.unsigned_abs() > STEP.unsigned_abs();
        if is_step {
            self.steps += 1;
        }
        self.last = now;
        Tick {
            gap: (boot > LATE_TICK).then_some(boot),
            step: is_step.then(|| SignedDuration::from_millis(step)),
        }
    }
}

fn is_same(one: &str, other: &str) -> bool {
    !one.is_empty() && one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(wall: i64, boot: u64) -> Stamp {
        Stamp::new(Timestamp::from_second(wall).unwrap(), Duration::from_secs(boot))
    }

    #[test]
    fn on_the_same_boot_the_wall_clock_does_not_matter() {
        let before = Line::start(stamp(10_000, 100), "a", []);
        let mark = before.mark(stamp(10_000, 100));
        let after = Line::start(stamp(0, 160), "a", [&mark]);
        assert_eq!(At::of(stamp(0, 160)).since(after.place(&mark)), Duration::from_mins(1));
        assert!(after.is_trusted());
    }

    #[test]
    fn across_boots_the_wall_clock_decides() {
        let before = Line::start(stamp(10_000, 5_000), "a", []);
        let mark = before.mark(stamp(10_000, 5_000));
        let after = Line::start(stamp(10_090, 20), "b", [&mark]);
        assert_eq!(At::of(stamp(10_090, 20)).since(after.place(&mark)), Duration::from_secs(90));
        assert!(after.is_trusted());
    }

    #[test]
    fn a_clock_before_the_newest_mark_is_not_trusted() {
        let before = Line::start(stamp(10_000, 5_000), "a", []);
        let old = before.mark(stamp(9_970, 4_970));
        let newest = before.mark(stamp(10_000, 5_000));
        let after = Line::start(stamp(0, 20), "b", [&old, &newest]);
        assert!(!after.is_trusted());
        // As if no time had passed in between: deadlines run on.
        assert_eq!(after.place(&newest), At(20_000));
        assert_eq!(after.place(&old), At(-10_000));
    }

    #[test]
    fn a_clock_that_is_not_trusted_loses_time_once_for_each_boot() {
        let before = Line::start(stamp(10_000, 5_000), "a", []);
        let kept = before.mark(stamp(10_000, 5_000));
        let first = Line::start(stamp(0, 20), "b", [&kept]);
        let anchor = first.anchor(stamp(0, 20));
        // A beat, marked with the wrong time; then the process starts again, a minute later.
        let beat = first.mark(stamp(30, 50));
        let second = Line::start(stamp(60, 80), "b", [&kept, &anchor, &beat]);
        assert!(!second.is_trusted());
        assert_eq!(second.place(&kept), At(20_000));
        assert_eq!(second.place(&beat), At(50_000));
    }

    #[test]
    fn a_step_set_before_a_restart_does_not_move_older_boots() {
        let first = Line::start(stamp(10_000, 5_000), "a", []);
        let old = first.mark(stamp(10_000, 5_000));
        let second = Line::start(stamp(10_100, 10), "b", [&old]);
        let newer = second.mark(stamp(10_100, 10));
        // The wall clock was set an hour ahead, then we restarted.
        let third = Line::start(stamp(13_720, 30), "b", [&old, &newer]);
        assert_eq!(At::of(stamp(13_720, 30)).since(third.place(&old)), Duration::from_mins(2));
    }

    #[test]
    fn the_first_process_of_a_boot_decides_how_the_clocks_stood() {
        let first = Line::start(stamp(10_000, 5_000), "a", []);
        let old = first.mark(stamp(10_000, 5_000));
        let second = Line::start(stamp(10_100, 10), "b", [&old]);
        let anchor = second.anchor(stamp(10_100, 10));
        // Set an hour ahead, then a beat of somebody else, then a restart.
        let beat = second.mark(stamp(13_720, 30));
        let third = Line::start_anchored(stamp(13_730, 40), "b", [&old, &beat, &anchor], [&anchor]);
        assert_eq!(At::of(stamp(13_730, 40)).since(third.place(&old)), Duration::from_secs(130));
        let other = Line::start_anchored(stamp(20_000, 5), "c", [&old, &beat, &anchor], [&anchor]);
        assert_eq!(At::of(stamp(20_000, 5)).since(other.place(&old)), Duration::from_secs(10_000));
    }

    #[test]
    fn steps_and_gaps_are_told_apart() {
        let mut line = Line::start(stamp(10_000, 100), "a", []);
        assert_eq!(line.tick(stamp(10_001, 101)), Tick::default());
        let tick = line.tick(stamp(13_602, 102));
        assert_eq!(tick.step, Some(SignedDuration::from_secs(3_600)));
        assert_eq!(tick.gap, None);
        let tick = line.tick(stamp(13_902, 402));
        assert_eq!((tick.step, tick.gap), (None, Some(Duration::from_mins(5))));
        assert_eq!(line.steps(), 1);
    }
}
