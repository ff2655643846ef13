//! When something happened, on both clocks.

use std::time::Duration;

use jiff::Timestamp;

/// A moment: wall time to show and to store, boot time to measure with.
///
/// Boot time counts suspend and never jumps; wall time is what people read. Age is always a difference of boot times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub wall: Timestamp,
    /// Time since the machine booted, suspend included.
    pub boot: Duration,
}

impl Stamp {
    pub const fn new(wall: Timestamp, boot: Duration) -> Self {
        Self { wall, boot }
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        self.boot.saturating_sub(earlier.boot)
    }

    /// This moment, `later` on.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        let wall = jiff::SignedDuration::try_from(later)
            .ok()
            .and_then(|d| self.wall.checked_add(d).ok())
            .unwrap_or(Timestamp::MAX);
        Self { wall, boot: self.boot.saturating_add(later) }
    }

    /// Unix time in seconds, as metrics carry it.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this century fit in 53 bits")]
    pub fn unix_seconds(self) -> f64 {
        self.wall.as_microsecond() as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_ignores_the_wall_clock() {
        let early = Stamp::new(Timestamp::from_second(1_000).unwrap(), Duration::from_secs(10));
        let late = Stamp::new(Timestamp::from_second(5).unwrap(), Duration::from_secs(70));
        assert_eq!(late.since(early), Duration::from_secs(60));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.plus(Duration::from_secs(1)).wall.as_second(), 1_001);
    }
}
