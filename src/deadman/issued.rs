//! The clock that we give to Prometheus, and what we remember of having given it.
//!
//! What comes back is evidence only if it is a value that we issued; its age is counted from when we did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::line::{At, Line};
use crate::model::Stamp;

/// Values that are remembered. One a second at most, so more than an hour.
const MAX_VALUES: usize = 4_096;
/// Scrapes that follow each other faster than this get the same value.
const COALESCE: Duration = Duration::from_secs(1);
/// After a restart, values of the process before us are taken on the word of the wall clock for this long.
const INHERITED: Duration = Duration::from_secs(3_600);

/// A handle on the values that were issued; cheap to clone, never held across I/O.
#[derive(Debug, Clone)]
pub struct Clocks(Arc<Mutex<Issued>>);

#[derive(Debug)]
struct Issued {
    values: VecDeque<Value>,
    line: Line,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    millis: i64,
    at: At,
}

impl Clocks {
    pub fn new(line: &Line) -> Self {
        Self(Arc::new(Mutex::new(Issued { values: VecDeque::new(), line: line.clone() })))
    }

    /// The value of `watchpost_clock_seconds` for a scrape that happens now.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit in 53 bits")]
    pub fn issue(&self, now: Stamp) -> f64 {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued.issue(now) as f64 / 1e3
    }

    /// When we issued `millis`; `None` if we did not, or no longer know.
    pub(super) fn find(&self, millis: i64, now: Stamp) -> Option<At> {
        let issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued.find(millis, now)
    }
}

impl Issued {
    fn issue(&mut self, now: Stamp) -> i64 {
        let at = At::of(now);
        if let Some(last) = self.values.back()
            && at.since(last.at) < COALESCE
        {
            return last.millis;
        }
        let mut millis = now.wall.as_millisecond();
        // The wall clock may have been set back to where it was: no value is issued twice.
        while self.values.iter().any(|value| value.millis == millis) {
            millis += 1;
        }
        if self.values.len() >= MAX_VALUES {
            self.values.pop_front();
        }
        self.values.push_back(Value { millis, at });
        millis
    }

    fn find(&self, millis: i64, now: Stamp) -> Option<At> {
        let ours = self.values.iter().rev().find(|value| value.millis == millis);
        ours.map(|value| value.at).or_else(|| self.inherited(millis, now))
    }

    /// A value that the process before us may have issued: from shortly before our start, by a clock that we trust.
    fn inherited(&self, millis: i64, now: Stamp) -> Option<At> {
        let started = self.line.started();
        let at = self.line.place_wall(millis);
        let is_recent = at < At::of(started) && At::of(started).since(at) <= INHERITED;
        let is_early = now.since(started) <= INHERITED;
        (self.line.is_trusted() && is_recent && is_early).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn stamp(wall: i64, boot: u64) -> Stamp {
        Stamp::new(Timestamp::from_second(wall).unwrap(), Duration::from_secs(boot))
    }

    #[test]
    fn only_what_was_issued_is_found() {
        let start = stamp(1_000_000, 100);
        let clocks = Clocks::new(&Line::start(start, "a", []));
        let value = clocks.issue(stamp(1_000_010, 110));
        assert!((value - 1_000_010.0).abs() < 1e-9);
        let now = stamp(1_000_060, 160);
        assert_eq!(clocks.find(1_000_010_000, now), Some(At(110_000)));
        assert_eq!(clocks.find(1_000_011_000, now), None);
        assert_eq!(clocks.find(1_000_000_500, now), None);
    }

    #[test]
    fn values_of_the_process_before_are_taken_for_a_while() {
        let start = stamp(1_000_000, 7_200);
        let clocks = Clocks::new(&Line::start(start, "a", []));
        assert_eq!(clocks.find(999_990_000, stamp(1_000_030, 7_230)), Some(At(7_190_000)));
        assert_eq!(clocks.find(990_000_000, stamp(1_000_030, 7_230)), None);
        assert_eq!(clocks.find(999_990_000, stamp(1_009_000, 16_200)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_issues_nothing_twice() {
        let clocks = Clocks::new(&Line::start(stamp(1_000, 10), "a", []));
        let first = clocks.issue(stamp(2_000, 20));
        let second = clocks.issue(stamp(2_000, 3_620));
        assert!((second - first - 0.001).abs() < 1e-6);
        assert_eq!(clocks.find(2_000_001, stamp(2_000, 3_620)), Some(At(3_620_000)));
    }

    #[test]
    fn many_scrapers_do_not_push_values_out() {
        let clocks = Clocks::new(&Line::start(stamp(1_000, 10), "a", []));
        let first = clocks.issue(stamp(1_010, 20));
        for _ in 0..10_000 {
            let again = clocks.issue(stamp(1_010, 20));
            assert!((again - first).abs() < f64::EPSILON);
        }
    }
}
