//! Runs a module, given as it would be written, against a target.

use std::time::Duration;

use serde_json::Value;
use watchpost::clock;
use watchpost::model::{Family, Mistake, Mistakes, Outcome, Target};
use watchpost::net::Net;
use watchpost::probe::{self, Module, ModuleSpec};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Builds a module that must have no mistakes.
pub(crate) fn module(spec: Value) -> Module {
    let mut mistakes = Mistakes::default();
    let spec: ModuleSpec = serde_json::from_value(spec).unwrap();
    let module = spec.build("m", &mut mistakes);
    assert!(!mistakes.has_errors(), "{:?}", mistakes.into_vec());
    module.unwrap()
}

/// What is wrong with a module.
pub(crate) fn mistakes(spec: Value) -> Vec<Mistake> {
    let mut mistakes = Mistakes::default();
    let spec: ModuleSpec = serde_json::from_value(spec).unwrap();
    spec.build("m", &mut mistakes);
    mistakes.into_vec()
}

pub(crate) async fn probe(spec: Value, target: impl Into<String>) -> Outcome {
    run(&module(spec), &Target::plain(target)).await
}

/// With a name of the target's own.
pub(crate) async fn probe_as(spec: Value, target: impl Into<String>, hostname: &str) -> Outcome {
    let target = Target { hostname: Some(hostname.into()), ..Target::plain(target) };
    run(&module(spec), &target).await
}

pub(crate) async fn run(module: &Module, target: &Target) -> Outcome {
    let timeout = module.timeout.unwrap_or(TIMEOUT);
    probe::run(module, target, timeout, &Net::from_system(|_| None), clock::now()).await
}

/// The reason of an outcome; `pass` for a pass.
pub(crate) fn reason(outcome: &Outcome) -> &'static str {
    outcome.answer.reason().unwrap_or("pass")
}

/// The values of one label over all facts of a family.
pub(crate) fn labels(outcome: &Outcome, family: &'static Family, label: &str) -> Vec<String> {
    let facts = outcome.facts.iter().filter(|fact| fact.is(family));
    facts
        .flat_map(watchpost::model::Fact::label_pairs)
        .filter(|(name, _)| *name == label)
        .map(|(_, value)| value.to_owned())
        .collect()
}

pub(crate) fn has(outcome: &Outcome, family: &'static Family) -> bool {
    outcome.fact(family).is_some()
}
