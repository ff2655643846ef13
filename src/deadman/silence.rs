//! What every expectation has in common: a limit that passes, a wait before we believe it, and how often it happened.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::{At, Line, Mark};
use super::switch::SETTLE;
use crate::model::Stamp;

/// Failures that are remembered.
const MAX_FLAPS: usize = 16;
/// So many failures within the window are flapping.
const FLAPPING: usize = 3;
/// So many beats on time end it.
const STEADY: u32 = 3;
const SHORTEST_WINDOW: Duration = Duration::from_secs(3_600);
const WINDOW_INTERVALS: u32 = 10;

/// What is kept about failing, beside the evidence itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Silence {
    /// The limit passed while nobody looked; somebody looked again here.
    held: Option<Mark>,
    /// Since when it has failed.
    down: Option<Mark>,
    /// When it failed lately.
    flaps: Vec<Mark>,
    /// Beats on time since it last failed.
    steady: u32,
}

impl Silence {
    pub const NONE: Self = Self { held: None, down: None, flaps: Vec::new(), steady: 0 };

    /// The limit may have passed while we were away, and beats may be waiting: look again a little later. It is granted
    /// once for each silence and kept, so that neither a crash loop nor a second suspend prolongs it.
    pub fn hold(&mut self, limit: At, now: Stamp, line: &Line) -> bool {
        let grants = self.down.is_none() && self.held.is_none() && limit <= At::of(now);
        if grants {
            self.held = Some(line.mark(now));
        }
        grants
    }

    /// `limit`, or the end of the wait.
    pub fn limit(&self, limit: At, line: &Line) -> At {
        self.held.as_ref().map_or(limit, |held| limit.max(line.place(held).plus(SETTLE)))
    }

    pub const fn is_down(&self) -> bool {
        self.down.is_some()
    }

    pub const fn down_since(&self) -> Option<&Mark> {
        self.down.as_ref()
    }

    /// A beat came that ends any wait. `on_time`: before its limit.
    pub fn beaten(&mut self, on_time: bool) {
        self.held = None;
        self.steady = if on_time { self.steady.saturating_add(1) } else { 0 };
    }

    /// Notes whether it fails now; true when that is new.
    pub fn set_down(&mut self, fails: bool, now: Stamp, line: &Line) -> bool {
        match (fails, self.down.is_some()) {
            (true, false) => {
                let mark = line.mark(now);
                if self.flaps.len() >= MAX_FLAPS {
                    self.flaps.remove(0);
                }
                self.flaps.push(mark.clone());
                self.down = Some(mark);
                self.steady = 0;
                true
            }
            (false, true) => {
                self.down = None;
                true
            }
            _ => false,
        }
    }

    /// How often it failed lately, when that is too often to believe in its recovery yet.
    pub fn flapping(&self, interval: Duration, now: Stamp, line: &Line) -> Option<usize> {
        let window = interval.saturating_mul(WINDOW_INTERVALS).max(SHORTEST_WINDOW);
        let lately =
            self.flaps.iter().filter(|mark| At::of(now).since(line.place(mark)) <= window).count();
        (lately >= FLAPPING && self.steady < STEADY).then_some(lately)
    }

    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.held.iter().chain(&self.down).chain(&self.flaps)
    }
}
