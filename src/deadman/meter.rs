//! Numbers about switches, made from what they report.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::alertmanager::{Finding, Replica};
use super::line::{At, Line};
use super::ping::{BeatResult, Refused};
use super::spec::Spec;
use super::switchboard::{DeadmanState, KindState, Report};
use crate::model::{Stamp, family};

/// Seconds that evidence takes round the loop.
const LOOP_BOUNDS: [f64; 10] = [5.0, 15.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0];

/// Made once; it is the only writer of its families.
#[derive(Debug, Clone)]
pub struct Meter {
    last_beat: GaugeVec,
    deadline: GaugeVec,
    beats: IntCounterVec,
    refused: IntCounterVec,
    paused_until: GaugeVec,
    evidence: GaugeVec,
    latency: HistogramVec,
    up: IntGaugeVec,
    findings: IntGaugeVec,
    probe_paused_until: GaugeVec,
}

impl Meter {
    pub fn new(registry: &Registry) -> Self {
        let meter = Self {
            refused: family::DEADMAN_REFUSED.counters(registry),
            probe_paused_until: family::PROBE_PAUSED_UNTIL.gauges(registry),
            last_beat: family::DEADMAN_LAST_BEAT.gauges(registry),
            deadline: family::DEADMAN_DEADLINE.gauges(registry),
            beats: family::DEADMAN_BEATS.counters(registry),
            paused_until: family::DEADMAN_PAUSED_UNTIL.gauges(registry),
            evidence: family::WATCHDOG_EVIDENCE.gauges(registry),
            latency: family::WATCHDOG_LOOP.histograms(registry, &LOOP_BOUNDS),
            up: family::ALERTMANAGER_UP.int_gauges(registry),
            findings: family::ALERTMANAGER_FINDING.int_gauges(registry),
        };
        for refused in [Refused::Malformed, Refused::NotFound] {
            meter.refused.with_label_values(&[refused.label()]);
        }
        meter
    }

    /// Somebody knocked who has no switch here. Not told apart further: what is unknown and what is forbidden look alike.
    pub fn refused(&self, refused: Refused) {
        self.refused.with_label_values(&[refused.label()]).inc();
    }

    /// A switch exists: its counters begin at zero.
    pub fn announce(&self, spec: &Arc<Spec>) {
        let is_watchdog = spec.watchdog.is_some();
        for result in BeatResult::ALL {
            let fits = if is_watchdog { result.is_of_watchdog() } else { result.is_of_switch() };
            if fits {
                self.beats.with_label_values(&[spec.name.as_str(), result.label()]);
            }
        }
        if is_watchdog {
            self.latency.with_label_values(&[spec.name.as_str()]);
        }
    }

    pub fn beat(&self, name: &str, result: BeatResult) {
        self.beats.with_label_values(&[name, result.label()]).inc();
    }

    /// Until when a probe is paused, while it is.
    pub fn probe_paused(&self, probe: &str, until: Option<Stamp>) {
        set(&self.probe_paused_until, probe, until);
    }

    pub fn latency(&self, name: &str, took: Duration) {
        self.latency.with_label_values(&[name]).observe(took.as_secs_f64());
    }

    pub fn report(&self, report: &Report, state: Option<&DeadmanState>, line: &Line, now: Stamp) {
        let name = &*report.name;
        set(&self.last_beat, name, report.last_beat);
        set(&self.deadline, name, report.deadline);
        let until = report.paused.as_ref().map(|pause| line.stamp(pause.ends(line), now));
        set(&self.paused_until, name, until);
        let Some(KindState::Watchdog(state)) = state.map(|state| &state.kind) else { return };
        for (source, state) in &state.sources {
            if let Some(evidence) = &state.evidence {
                let issued: At = line.place(&evidence.issued);
                let value = line.stamp(issued, now).unix_seconds();
                self.evidence.with_label_values(&[name, source.as_str()]).set(value);
            }
        }
    }

    pub fn replica(&self, name: &str, replica: &Replica) {
        let up = i64::from(replica.is_up());
        self.up.with_label_values(&[name, replica.url.as_str()]).set(up);
        for label in Finding::LABELS {
            let found = replica.findings.iter().filter(|it| it.label() == label).count();
            let found = i64::try_from(found).unwrap_or(i64::MAX);
            self.findings.with_label_values(&[name, replica.url.as_str(), label]).set(found);
        }
    }

    /// A switch is gone from the configuration, and so are its series.
    pub fn forget(&self, spec: &Spec) {
        let name = spec.name.as_str();
        // What never had a series has none to remove.
        drop(self.last_beat.remove_label_values(&[name]));
        drop(self.deadline.remove_label_values(&[name]));
        drop(self.paused_until.remove_label_values(&[name]));
        drop(self.latency.remove_label_values(&[name]));
        for result in BeatResult::ALL {
            drop(self.beats.remove_label_values(&[name, result.label()]));
        }
        let Some(rules) = &spec.watchdog else { return };
        for source in rules.source_names() {
            drop(self.evidence.remove_label_values(&[name, source.as_str()]));
        }
        for url in &rules.alertmanagers {
            drop(self.up.remove_label_values(&[name, url.as_str()]));
            for label in Finding::LABELS {
                drop(self.findings.remove_label_values(&[name, url.as_str(), label]));
            }
        }
    }
}

fn set(gauges: &GaugeVec, name: &str, at: Option<Stamp>) {
    match at {
        Some(at) => gauges.with_label_values(&[name]).set(at.unix_seconds()),
        None => drop(gauges.remove_label_values(&[name])),
    }
}
