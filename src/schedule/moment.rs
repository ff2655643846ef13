//! The schedule's own clock: told in wall time, moved by the monotonic clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Stamp;

/// How far the boot clock must run ahead of the monotonic clock to count as a suspend.
const SUSPEND: Duration = Duration::from_secs(1);

/// Nanoseconds since the Unix epoch, as they were when the schedule began and measured from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than anything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The next multiple of `grid`, so that what is due within one of its cells begins together.
    #[must_use]
    pub fn round_up(self, grid: Duration) -> Self {
        let grid = nanos(grid).max(1);
        Self(self.0.checked_next_multiple_of(grid).unwrap_or(u64::MAX))
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ties moments to the clocks. The wall clock is read once, so that its steps move nothing.
#[derive(Debug)]
pub struct Anchor {
    origin: Moment,
    instant: Instant,
    boot: Duration,
    /// Time that passed on the boot clock only: the monotonic clock stands still in a suspend.
    suspended: Duration,
}

impl Anchor {
    pub fn new(stamp: Stamp, instant: Instant) -> Self {
        let since_epoch = u64::try_from(stamp.wall.as_nanosecond()).unwrap_or_default();
        Self { origin: Moment(since_epoch), instant, boot: stamp.boot, suspended: Duration::ZERO }
    }

    /// Now, told by both clocks that cannot step.
    pub fn moment(&mut self, instant: Instant, boot: Duration) -> Moment {
        let awake = instant.saturating_duration_since(self.instant);
        let asleep = boot.saturating_sub(self.boot).saturating_sub(awake);
        if asleep > self.suspended + SUSPEND {
            self.suspended = asleep;
        }
        self.origin.plus(awake + self.suspended)
    }

    /// When `moment` will be, unless the machine is suspended before, and not more than `longest` after `now`.
    pub fn instant(&self, moment: Moment, now: Instant, longest: Duration) -> Instant {
        let ahead = moment.since(self.origin).saturating_sub(self.suspended);
        let latest = now + longest;
        self.instant.checked_add(ahead).map_or(latest, |at| at.min(latest))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn anchor(instant: Instant) -> Anchor {
        let wall = Timestamp::from_second(1_000_000).unwrap();
        Anchor::new(Stamp::new(wall, HOUR), instant)
    }

    #[tokio::test(start_paused = true)]
    async fn time_goes_on_from_the_wall_clock_s_first_reading() {
        let began = Instant::now();
        let mut anchor = anchor(began);
        let first = anchor.moment(began, HOUR);
        assert_eq!(first.nanos(), 1_000_000 * 1_000_000_000);
        let second = Duration::from_secs(1);
        assert_eq!(anchor.moment(began + second, HOUR + second).since(first), second);
        assert_eq!(anchor.instant(first.plus(second), began, HOUR), began + second);
        assert_eq!(anchor.instant(Moment::NEVER, began, HOUR), began + HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_is_time_that_passed() {
        let began = Instant::now();
        let mut anchor = anchor(began);
        let first = anchor.moment(began, HOUR);
        let second = Duration::from_secs(1);
        let woken = anchor.moment(began + second, HOUR + HOUR);
        assert_eq!(woken.since(first), HOUR);
        // Clocks that differ by less than a suspend do not make time go in jumps.
        let later = anchor.moment(began + second * 2, HOUR + HOUR + second + second / 2);
        assert_eq!(later.since(first), HOUR + second);
        assert_eq!(anchor.instant(later.plus(second), began, HOUR), began + second * 3);
    }

    #[test]
    fn a_grid_gathers() {
        let grid = Duration::from_nanos(4);
        assert_eq!(Moment(5).round_up(grid), Moment(8));
        assert_eq!(Moment(8).round_up(grid), Moment(8));
        assert_eq!(Moment::NEVER.round_up(grid), Moment::NEVER);
    }
}
