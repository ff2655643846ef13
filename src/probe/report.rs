//! What a run has learnt so far.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Answer, Fact, Family, Outcome, Stamp};
use crate::net::Stopwatch;

/// How a prober ends: `Ok` is a pass, `Err` carries any other answer, so that `?` leaves at the first fault.
pub type Verdict = Result<(), Answer>;

/// The most notes that one run keeps.
const MAX_NOTES: usize = 500;

/// What was noted on the way, for `/probe?debug=true` and `watchpost probe`.
#[derive(Debug, Default)]
pub struct Trace {
    notes: Option<Vec<(Duration, String)>>,
}

/// Collects phases, facts and notes of one run.
#[derive(Debug, Default)]
pub struct Report {
    pub watch: Stopwatch,
    /// The address that was asked.
    pub address: Option<IpAddr>,
    facts: Vec<Fact>,
    trace: Trace,
    began: Option<tokio::time::Instant>,
}

impl Report {
    /// A report that keeps notes.
    pub fn traced() -> Self {
        Self {
            trace: Trace { notes: Some(Vec::new()) },
            began: Some(tokio::time::Instant::now()),
            ..Self::default()
        }
    }

    /// Sets the value of a family without labels; a later value replaces an earlier one.
    pub fn set(&mut self, family: &'static Family, value: f64) {
        match self.facts.iter_mut().find(|f| f.is(family)) {
            Some(fact) => fact.value = value,
            None => self.facts.push(Fact::new(family, value)),
        }
    }

    pub fn set_flag(&mut self, family: &'static Family, on: bool) {
        self.set(family, f64::from(u8::from(on)));
    }

    /// The value of a family without labels, as far as it is known.
    pub fn fact(&self, family: &'static Family) -> Option<f64> {
        self.facts.iter().find(|fact| fact.is(family)).map(|fact| fact.value)
    }

    pub fn add(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Drops the facts of a family: what an earlier hop said no longer holds.
    pub fn forget(&mut self, family: &'static Family) {
        self.facts.retain(|fact| !fact.is(family));
    }

    /// Takes a note when somebody wants them. Never put a secret in one.
    pub fn note<D: Display>(&mut self, what: impl FnOnce() -> D) {
        let Some(notes) = &mut self.trace.notes else { return };
        if notes.len() < MAX_NOTES {
            let at = self.began.map_or(Duration::ZERO, |began| began.elapsed());
            notes.push((at, what().to_string()));
        }
    }

    /// Forgets what was measured, for another attempt. Notes stay.
    pub(super) fn start_over(&mut self) {
        self.watch = Stopwatch::default();
        self.address = None;
        self.facts.clear();
    }

    pub(super) fn into_outcome(
        self,
        started: Stamp,
        took: Duration,
        timeout: Duration,
        answer: Answer,
    ) -> (Outcome, Trace) {
        let phase = if answer == Answer::Pass { None } else { self.watch.last() };
        let mut facts = self.facts;
        facts.shrink_to_fit();
        let mut phases = self.watch.finish();
        phases.shrink_to_fit();
        let outcome =
            Outcome { started, took, timeout, phases, phase, address: self.address, facts, answer };
        (outcome, self.trace)
    }
}

impl Trace {
    /// Each note with the time since the run began.
    pub fn notes(&self) -> &[(Duration, String)] {
        self.notes.as_deref().unwrap_or_default()
    }
}
