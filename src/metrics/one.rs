//! One outcome by itself, as blackbox_exporter answers `/probe`: no labels of a check, families and labels by name.

use super::exposition::{Writer, rendered_labels};
use super::page::Section;
use crate::model::{Fact, Family, Outcome, family};

struct Sample {
    family: &'static Family,
    labels: Box<str>,
    value: f64,
}

/// Writes one outcome; `phases` is the family of its prober's phases.
pub fn render_outcome(outcome: &Outcome, phases: &'static Family, writer: &mut Writer) {
    let mut samples = samples(outcome, phases);
    samples.sort_by(|a, b| (a.family.name, &a.labels).cmp(&(b.family.name, &b.labels)));
    for family in samples.chunk_by(|a, b| a.family.name == b.family.name) {
        let mut section = Section::new(writer, family[0].family);
        for sample in family {
            section.sample(&[&sample.labels], sample.value);
        }
    }
}

fn samples(outcome: &Outcome, phases: &'static Family) -> Vec<Sample> {
    let plain = |family, value| Sample { family, labels: Box::default(), value };
    let success = f64::from(u8::from(outcome.answer.is_success()));
    let mut samples = vec![
        plain(&family::PROBE_SUCCESS, success),
        plain(&family::PROBE_DURATION, outcome.took.as_secs_f64()),
        plain(&family::PROBE_TIMEOUT, outcome.timeout.as_secs_f64()),
    ];
    if let Some(reason) = outcome.answer.reason() {
        let phase = outcome.phase.map(|phase| ("phase", phase.label()));
        let labels = rendered_labels(phase.into_iter().chain([("reason", reason)]));
        samples.push(Sample { family: &family::PROBE_FAILURE_INFO, labels, value: 1.0 });
    }
    samples.extend(outcome.phases.iter().map(|(phase, took)| Sample {
        family: phases,
        labels: rendered_labels([("phase", phase.label())]),
        value: took.as_secs_f64(),
    }));
    samples.extend(outcome.facts.iter().map(|fact| Sample {
        family: fact.family,
        labels: sorted_labels(fact),
        value: fact.value,
    }));
    samples
}

fn sorted_labels(fact: &Fact) -> Box<str> {
    let mut pairs = fact.label_pairs();
    pairs.sort_unstable();
    rendered_labels(pairs)
}
