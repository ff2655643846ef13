//! One family of a page: its header comes with its first sample, so that a family without samples leaves no trace.

use super::exposition::{self, Writer};
use crate::model::{Family, Kind};

pub(super) struct Section<'w> {
    writer: &'w mut Writer,
    family: &'static Family,
    kind: exposition::Kind,
    is_open: bool,
}

impl<'w> Section<'w> {
    pub(super) fn new(writer: &'w mut Writer, family: &'static Family) -> Self {
        Self::of_kind(writer, family, kind_of(family.kind))
    }

    pub(super) const fn of_kind(
        writer: &'w mut Writer,
        family: &'static Family,
        kind: exposition::Kind,
    ) -> Self {
        Self { writer, family, kind, is_open: false }
    }

    pub(super) fn sample(&mut self, labels: &[&str], value: f64) {
        self.suffixed("", labels, value);
    }

    pub(super) fn suffixed(&mut self, suffix: &str, labels: &[&str], value: f64) {
        if !self.is_open {
            self.writer.family(self.family.name, self.kind, self.family.help);
            self.is_open = true;
        }
        self.writer.sample(suffix, labels, value);
    }
}

/// A state set is written as gauges: OpenMetrics wants the label of the state to have the family's name, and everybody
/// knows ours as `status`.
pub(super) const fn kind_of(kind: Kind) -> exposition::Kind {
    match kind {
        Kind::Counter => exposition::Kind::Counter,
        Kind::Gauge | Kind::StateSet => exposition::Kind::Gauge,
        Kind::Histogram => exposition::Kind::Histogram,
        Kind::Summary => exposition::Kind::Summary,
        Kind::Info => exposition::Kind::Info,
    }
}
