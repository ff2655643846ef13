//! When something happened, as the book keeps it: readable after a restart and after a reboot.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Stamp;

/// Both clocks, and which boot the second one counts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub wall: Timestamp,
    pub boot: Duration,
    pub boot_id: Arc<str>,
}

impl Moment {
    pub const fn new(stamp: Stamp, boot_id: Arc<str>) -> Self {
        Self { wall: stamp.wall, boot: stamp.boot, boot_id }
    }

    /// How long ago this was: by the boot clock within one boot, by the wall clock across boots.
    ///
    /// `None` when the clocks do not say: this moment lies ahead of `now`, so one of the two was wrong.
    pub fn age(&self, now: &Self) -> Option<Duration> {
        if !self.boot_id.is_empty() && self.boot_id == now.boot_id {
            return now.boot.checked_sub(self.boot);
        }
        let between: SignedDuration = now.wall.duration_since(self.wall);
        Duration::try_from(between).ok()
    }

    /// This moment on the clocks of the present boot; `now` when its age is not known.
    ///
    /// The boot clock cannot go below zero: what happened before this boot may look younger than it is. Use
    /// [`age`](Self::age) where that matters.
    pub fn stamp(&self, now: &Self) -> Stamp {
        let age = self.age(now).unwrap_or_default();
        Stamp::new(self.wall.min(now.wall), now.boot.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: i64, boot: u64, id: &str) -> Moment {
        let stamp = Stamp::new(Timestamp::from_second(wall).unwrap(), Duration::from_secs(boot));
        Moment::new(stamp, id.into())
    }

    #[test]
    fn one_boot_is_measured_on_the_boot_clock() {
        let then = moment(1_000, 10, "a");
        assert_eq!(then.age(&moment(5, 70, "a")), Some(Duration::from_mins(1)));
    }

    #[test]
    fn another_boot_is_measured_on_the_wall_clock() {
        let then = moment(1_000, 5_000, "a");
        assert_eq!(then.age(&moment(1_060, 3, "b")), Some(Duration::from_mins(1)));
        assert_eq!(then.age(&moment(999, 3, "b")), None);
    }

    #[test]
    fn a_moment_is_read_back() {
        let then = moment(1_000, 5_000, "a");
        let text = serde_json::to_string(&then).unwrap();
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), then);
    }
}
