//! What the schedule says about itself.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::{Limits, Shard};
use crate::model::family;

/// Later than this, a run counts as late.
pub const LATE: Duration = Duration::from_secs(1);

/// Bounds of the lateness histogram, in seconds.
const LATENESS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Why a due time passed without a run: the label `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The check's last run is still going on.
    Running,
    /// The outcome of the check's last run waits for its reader.
    Undelivered,
    /// Too many runs go on at the target's host.
    HostLimit,
    /// Too many runs go on.
    InFlightLimit,
    /// The process or the machine stood still.
    Stalled,
}

impl Cause {
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Undelivered, Self::HostLimit, Self::InFlightLimit, Self::Stalled];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undelivered => "undelivered",
            Self::HostLimit => "host_limit",
            Self::InFlightLimit => "in_flight_limit",
            Self::Stalled => "stalled",
        }
    }
}

/// Due times that passed without a run, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skips([u64; Cause::ALL.len()]);

impl Skips {
    pub fn add(&mut self, cause: Cause, count: u64) {
        self.0[cause as usize] += count;
    }

    pub const fn of(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Handles of the schedule's own metrics; all lanes share them.
#[derive(Debug, Clone)]
pub struct Meters {
    lateness: Histogram,
    late: IntCounter,
    skipped: IntCounterVec,
    pub(super) in_flight: IntGauge,
    pub(super) waiting: IntGauge,
}

impl Meters {
    /// Registers the families; once for a process.
    pub fn new(registry: &Registry, limits: Limits, shard: Shard) -> Self {
        let bound = family::IN_FLIGHT_LIMIT.int_gauges(registry);
        let as_gauge = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
        bound.with_label_values(&["overall"]).set(as_gauge(limits.in_flight));
        bound.with_label_values(&["host"]).set(as_gauge(limits.per_host));
        family::SHARD_INFO
            .int_gauges(registry)
            .with_label_values(&[shard.index().to_string(), shard.of().to_string()])
            .set(1);
        let skipped = family::SCHEDULE_SKIPPED.counters(registry);
        for cause in Cause::ALL {
            skipped.with_label_values(&[cause.label()]);
        }
        Self {
            lateness: family::SCHEDULE_LATENESS.histogram(registry, &LATENESS),
            late: family::SCHEDULE_LATE.counter(registry),
            skipped,
            in_flight: family::IN_FLIGHT.int_gauge(registry),
            waiting: family::WAITING.int_gauge(registry),
        }
    }

    pub(super) fn began(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
        if late > LATE {
            self.late.inc();
        }
    }

    pub(super) fn skipped(&self, skips: Skips) {
        for cause in Cause::ALL {
            if skips.of(cause) > 0 {
                self.skipped.with_label_values(&[cause.label()]).inc_by(skips.of(cause));
            }
        }
    }
}
