//! The numbers of heartbeats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

use super::driver::SendResult;
use super::gate::{Gate, Why};
use super::spec::Spec;
use crate::model::{Stamp, family};

type Shown = HashMap<(String, String), Option<Why>>;

/// Made once; it is the only writer of its families.
#[derive(Debug, Clone)]
pub struct Meter {
    open: IntGaugeVec,
    gate_open: IntGaugeVec,
    gate_closed: IntGaugeVec,
    interval: GaugeVec,
    last_sent: GaugeVec,
    sends: IntCounterVec,
    recorded: GaugeVec,
    recorded_ok: IntGaugeVec,
    /// Gates of which there are series, by heartbeat and gate, with the reason that is shown.
    shown: Arc<Mutex<Shown>>,
}

impl Meter {
    pub fn new(registry: &Registry) -> Self {
        Self {
            open: family::HEARTBEAT_OPEN.int_gauges(registry),
            gate_open: family::HEARTBEAT_GATE_OPEN.int_gauges(registry),
            gate_closed: family::HEARTBEAT_GATE_CLOSED.int_gauges(registry),
            interval: family::HEARTBEAT_INTERVAL.gauges(registry),
            last_sent: family::HEARTBEAT_LAST_SENT.gauges(registry),
            sends: family::HEARTBEAT_SENDS.counters(registry),
            recorded: family::HEARTBEAT_RECORDED.gauges(registry),
            recorded_ok: family::HEARTBEAT_RECORDED_OK.int_gauges(registry),
            shown: Arc::default(),
        }
    }

    pub(super) fn announce(&self, spec: &Spec) {
        let name = spec.name.as_str();
        self.open.with_label_values(&[name]);
        self.interval.with_label_values(&[name]).set(spec.interval.get().as_secs_f64());
        for result in SendResult::ALL {
            self.sends.with_label_values(&[name, result.label()]);
        }
    }

    /// Shows the gates; those that the heartbeat has no longer are gone.
    pub(super) fn gates(&self, name: &str, gates: &[Gate]) {
        let open = gates.iter().all(Gate::is_open);
        self.open.with_label_values(&[name]).set(i64::from(open));
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = shown.extract_if(|(heartbeat, gate), _| {
            heartbeat == name && !gates.iter().any(|known| known.name == *gate)
        });
        for ((heartbeat, gate), why) in gone {
            self.forget_gate(&heartbeat, &gate, why);
        }
        for gate in gates {
            let labels = [name, gate.name.as_str()];
            self.gate_open.with_label_values(&labels).set(i64::from(gate.is_open()));
            let why = gate.closed.as_ref().map(|closed| closed.why);
            let before = shown.insert((name.to_owned(), gate.name.clone()), why).flatten();
            if before == why {
                continue;
            }
            if let Some(before) = before {
                drop(self.gate_closed.remove_label_values(&[name, &gate.name, before.label()]));
            }
            if let Some(why) = why {
                self.gate_closed.with_label_values(&[name, &gate.name, why.label()]).set(1);
            }
        }
    }

    pub(super) fn attempt(&self, name: &str, result: SendResult) {
        self.sends.with_label_values(&[name, result.label()]).inc();
    }

    pub(super) fn accepted(&self, name: &str, now: Stamp) {
        self.last_sent.with_label_values(&[name]).set(now.unix_seconds());
    }

    pub(super) fn proof(&self, name: &str, recorded: Option<Stamp>, ok: Option<bool>) {
        match recorded {
            Some(at) => self.recorded.with_label_values(&[name]).set(at.unix_seconds()),
            None => drop(self.recorded.remove_label_values(&[name])),
        }
        match ok {
            Some(ok) => self.recorded_ok.with_label_values(&[name]).set(i64::from(ok)),
            None => drop(self.recorded_ok.remove_label_values(&[name])),
        }
    }

    /// Beats go elsewhere: what the other service accepted and recorded is of no interest.
    pub(super) fn begin_anew(&self, name: &str) {
        drop(self.last_sent.remove_label_values(&[name]));
        self.proof(name, None, None);
    }

    /// A heartbeat is gone from the configuration, and so are its series.
    pub fn forget(&self, name: &str) {
        self.begin_anew(name);
        drop(self.open.remove_label_values(&[name]));
        drop(self.interval.remove_label_values(&[name]));
        for result in SendResult::ALL {
            drop(self.sends.remove_label_values(&[name, result.label()]));
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for ((heartbeat, gate), why) in shown.extract_if(|(known, _), _| known == name) {
            self.forget_gate(&heartbeat, &gate, why);
        }
    }

    fn forget_gate(&self, name: &str, gate: &str, why: Option<Why>) {
        drop(self.gate_open.remove_label_values(&[name, gate]));
        if let Some(why) = why {
            drop(self.gate_closed.remove_label_values(&[name, gate, why.label()]));
        }
    }
}
