//! Numbers about switches, made from what they report.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::alertmanager::{Finding, Replica};
use super::counts::Counts;
use super::line::Line;
use super::ping::{BeatResult, Refused};
use super::spec::Spec;
use super::switchboard::Report;
use crate::model::{Stamp, family};

/// Seconds that evidence takes round the loop.
const LOOP_BOUNDS: [f64; 10] = [5.0, 15.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0];

/// Made once; it is the only writer of its families.
#[derive(Debug, Clone)]
pub struct Meter {
    last_beat: GaugeVec,
    deadline: GaugeVec,
    beats: Counts,
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
            beats: Counts::new(registry),
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
        self.beats.announce(spec);
        if spec.watchdog.is_some() {
            self.latency.with_label_values(&[spec.name.as_str()]);
        }
    }

    pub fn beat(&self, name: &str, result: BeatResult) {
        self.beats.add(name, result);
    }

    /// Until when a probe is paused, while it is.
    pub fn probe_paused(&self, probe: &str, until: Option<Stamp>) {
        set(&self.probe_paused_until, probe, until);
    }

    pub fn latency(&self, name: &str, took: Duration) {
        self.latency.with_label_values(&[name]).observe(took.as_secs_f64());
    }

    pub fn report(&self, report: &Report, line: &Line, now: Stamp) {
        let name = &*report.name;
        set(&self.last_beat, name, report.last_beat);
        set(&self.deadline, name, report.deadline);
        let until = report.paused.as_ref().map(|pause| line.stamp(pause.ends(line), now));
        set(&self.paused_until, name, until);
        for (source, verdict) in &report.members {
            if let Some(issued) = verdict.heard.and_then(|heard| heard.issued) {
                let value = line.stamp(issued.at, now).unix_seconds();
                self.evidence.with_label_values(&[name, source]).set(value);
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

    /// Sources and Alertmanagers that a switch has no longer are gone, and so are their series.
    pub fn forget_parts(&self, before: &Spec, after: &Spec) {
        let Some(rules) = &before.watchdog else { return };
        let name = before.name.as_str();
        let (sources, urls) = after.watchdog.as_ref().map_or_else(Default::default, |rules| {
            (rules.source_names(), rules.alertmanagers.clone())
        });
        for source in rules.source_names().iter().filter(|it| !sources.contains(it)) {
            drop(self.evidence.remove_label_values(&[name, source.as_str()]));
        }
        for url in rules.alertmanagers.iter().filter(|it| !urls.contains(it)) {
            self.forget_replica(name, url);
        }
    }

    fn forget_replica(&self, name: &str, url: &str) {
        drop(self.up.remove_label_values(&[name, url]));
        for label in Finding::LABELS {
            drop(self.findings.remove_label_values(&[name, url, label]));
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
        self.beats.forget(name);
        let Some(rules) = &spec.watchdog else { return };
        for source in rules.source_names() {
            drop(self.evidence.remove_label_values(&[name, source.as_str()]));
        }
        for url in &rules.alertmanagers {
            self.forget_replica(name, url);
        }
    }
}

fn set(gauges: &GaugeVec, name: &str, at: Option<Stamp>) {
    match at {
        Some(at) => gauges.with_label_values(&[name]).set(at.unix_seconds()),
        None => drop(gauges.remove_label_values(&[name])),
    }
}
