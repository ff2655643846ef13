//! The only reader of the clocks.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::model::Stamp;

/// Now, on the wall clock and on the boot clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now() -> Stamp {
    Stamp::new(Timestamp::now(), boot())
}

/// Time since boot. It counts suspend, which `CLOCK_MONOTONIC` does not, and never jumps.
pub fn boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Names the boot that [`boot`] counts from. Empty where the kernel does not tell: then no two boots look the same.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_does_not_go_back() {
        let earlier = now();
        assert!(now().boot >= earlier.boot);
    }
}
