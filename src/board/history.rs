//! The last runs of one check, small and without a lock.
//!
//! Three rings: the last runs, the last that failed and the last that passed, so that neither kind pushes the other out.
//! A run is two words. Both carry a few bits of its turn, so that a reader who meets the writer in between sees that
//! they do not belong together and leaves that run out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Outcome, Reason, RunResult};

const RECENT: usize = 32;
const KEPT_APART: usize = 8;

/// One run, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When it began, to the millisecond.
    pub started: Timestamp,
    /// To the microsecond.
    pub took: Duration,
    pub result: RunResult,
    /// The fault's, when it failed or warned.
    pub reason: Option<Reason>,
    /// Out of turn, to confirm or refute a change.
    pub early: bool,
}

/// The last runs of one check.
#[derive(Debug, Default)]
pub struct History {
    recent: Ring<RECENT>,
    failed: Ring<KEPT_APART>,
    passed: Ring<KEPT_APART>,
}

impl History {
    /// For one writer.
    pub fn push(&self, run: Run) {
        self.recent.push(run);
        match run.result {
            RunResult::Pass | RunResult::Warn => self.passed.push(run),
            RunResult::Fail => self.failed.push(run),
            RunResult::Unknown => {}
        }
    }

    /// The last runs, the newest first.
    pub fn recent(&self) -> Vec<Run> {
        self.recent.newest_first()
    }

    pub fn failed(&self) -> Vec<Run> {
        self.failed.newest_first()
    }

    /// Those that passed, also with a warning.
    pub fn passed(&self) -> Vec<Run> {
        self.passed.newest_first()
    }
}

impl Run {
    pub fn of(outcome: &Outcome, early: bool) -> Self {
        Self {
            started: outcome.started.wall,
            took: outcome.took,
            result: RunResult::from(&outcome.answer),
            reason: outcome.answer.fault().map(crate::model::Fault::reason),
            early,
        }
    }
}

#[derive(Debug)]
struct Ring<const N: usize> {
    slots: [Slot; N],
    written: AtomicU64,
}

/// First word: turn 4 bits, early 2, result 2, reason 8 (0: none), start 48. Second: turn 16, duration 48. The turn says
/// how often the ring was gone round; it begins at 1, so that a slot that was never written belongs to none.
#[derive(Debug, Default)]
struct Slot([AtomicU64; 2]);

const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const FIRST_TURN_MASK: u64 = 0xf;
const SECOND_TURN_MASK: u64 = 0xffff;

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()), written: AtomicU64::new(0) }
    }
}

impl<const N: usize> Ring<N> {
    fn push(&self, run: Run) {
        let number = self.written.load(Ordering::Relaxed) + 1;
        let [first, second] = pack(run, Self::turn(number));
        let slot = self.slot(number);
        slot.0[0].store(first, Ordering::SeqCst);
        slot.0[1].store(second, Ordering::SeqCst);
        self.written.store(number, Ordering::Release);
    }

    fn newest_first(&self) -> Vec<Run> {
        let newest = self.written.load(Ordering::Acquire);
        let oldest = newest.saturating_sub(N as u64) + 1;
        (oldest..=newest).rev().filter_map(|number| self.read(number)).collect()
    }

    fn read(&self, number: u64) -> Option<Run> {
        let slot = self.slot(number);
        let words = [slot.0[0].load(Ordering::SeqCst), slot.0[1].load(Ordering::SeqCst)];
        unpack(words, Self::turn(number))
    }

    const fn turn(number: u64) -> u64 {
        number / N as u64 + 1
    }

    fn slot(&self, number: u64) -> &Slot {
        let at = usize::try_from(number % N as u64).expect("less than N");
        &self.slots[at]
    }
}

fn pack(run: Run, turn: u64) -> [u64; 2] {
    let started = u64::try_from(run.started.as_millisecond()).unwrap_or(0).min(TIME_MASK);
    let took = u64::try_from(run.took.as_micros()).unwrap_or(u64::MAX).min(TIME_MASK);
    let reason = run.reason.map_or(0, |reason| reason as u64 + 1);
    let first = (turn & FIRST_TURN_MASK) << 60
        | u64::from(run.early) << 58
        | (run.result as u64) << 56
        | reason << TIME_BITS
        | started;
    [first, (turn & SECOND_TURN_MASK) << TIME_BITS | took]
}

/// `None` when the words are not both of this turn.
fn unpack([first, second]: [u64; 2], turn: u64) -> Option<Run> {
    let belongs =
        first >> 60 == turn & FIRST_TURN_MASK && second >> TIME_BITS == turn & SECOND_TURN_MASK;
    if !belongs {
        return None;
    }
    let at = |shift: u32, mask: u64| usize::try_from(first >> shift & mask).expect("a few bits");
    let millis = i64::try_from(first & TIME_MASK).ok()?;
    Some(Run {
        started: Timestamp::from_millisecond(millis).ok()?,
        took: Duration::from_micros(second & TIME_MASK),
        result: RunResult::ALL[at(56, 0b11)],
        reason: at(TIME_BITS, 0xff).checked_sub(1).and_then(|at| Reason::ALL.get(at).copied()),
        early: at(58, 1) == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: i64) -> Run {
        Run {
            started: Timestamp::from_millisecond(1_800_000_000_000 + number).unwrap(),
            took: Duration::from_micros(u64::try_from(number).unwrap()),
            result: RunResult::Fail,
            reason: Reason::ALL.last().copied(),
            early: number % 2 == 1,
        }
    }

    #[test]
    fn runs_are_read_as_they_were_written() {
        let history = History::default();
        assert!(history.recent().is_empty());
        for number in 0..1_000 {
            history.push(run(number));
        }
        let expected: Vec<_> = (968..1_000).rev().map(run).collect();
        assert_eq!(history.recent(), expected);
        assert_eq!(history.failed(), expected[..8]);
        assert!(history.passed().is_empty());
    }

    #[test]
    fn words_of_two_runs_are_none() {
        let ([first, second], [new_first, new_second]) = (pack(run(1), 1), pack(run(2), 2));
        for turn in [1, 2] {
            assert_eq!(unpack([new_first, second], turn), None);
            assert_eq!(unpack([first, new_second], turn), None);
        }
        assert_eq!(unpack([new_first, new_second], 2), Some(run(2)));
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_runs() {
        let history = History::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|number| history.push(run(number))));
            for _ in 0..2_000 {
                for seen in history.recent() {
                    let number = seen.started.as_millisecond() - 1_800_000_000_000;
                    assert_eq!(seen, run(number));
                }
            }
        });
    }
}
