//! The section `heartbeats:`: whom we call, and on what evidence.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::File;
use super::modules::place;
use super::probes::Probe;
use super::receivers::Receivers;
use super::yaml::{self, Node, Position, Problem, Problems};
use crate::deadman::failures::Herald;
use crate::heartbeat::Spec;
use crate::model::{Mistakes, Period};

pub(super) fn read(
    files: &[File],
    receivers: &Receivers,
    probes: &[Probe],
    problems: &mut Problems,
) -> Vec<Arc<Spec>> {
    let evidence = Evidence {
        deadmen: super::names(files, "deadman"),
        named_probes: super::names(files, "probes"),
        probes,
        receivers,
    };
    let mut specs = Vec::new();
    let mut names: BTreeMap<String, Position> = BTreeMap::new();
    for section in files.iter().filter_map(|file| file.section("heartbeats")) {
        for (node, spec) in yaml::decode_list::<Spec>(section, problems) {
            let at = node.find("name").at();
            if let Some(first) = names.get(&spec.name) {
                problems.push(
                    Problem::error(format!("heartbeat {:?} is defined twice", spec.name))
                        .at(at)
                        .related("first defined here", first)
                        .hint("rename or remove one of the two"),
                );
                continue;
            }
            names.insert(spec.name.clone(), at.clone());
            let mut mistakes = Mistakes::default();
            spec.check(&mut mistakes);
            problems.extend(mistakes.into_vec().into_iter().map(|mistake| place(mistake, node)));
            evidence.check(&spec, node, problems);
            specs.push(Arc::new(spec));
        }
    }
    specs
}

/// Who expects these beats.
pub(super) fn herald(spec: &Spec) -> Herald {
    Herald {
        heartbeat: spec.name.clone(),
        service: spec.service(),
        told_after: spec.told_after.map(Period::get),
        failed_after: spec.failed_after(),
        needs: spec.when.iter().filter_map(|condition| condition.deadman.clone()).collect(),
    }
}

/// What a condition may refer to.
struct Evidence<'a> {
    deadmen: Vec<&'a str>,
    named_probes: Vec<&'a str>,
    /// Those that can be used.
    probes: &'a [Probe],
    receivers: &'a Receivers,
}

impl Evidence<'_> {
    fn check(&self, spec: &Spec, node: &Node, problems: &mut Problems) {
        for (index, condition) in spec.when.iter().enumerate() {
            let Some((kind, name)) = condition.subject() else { continue };
            let at = node.find(&format!("when.{index}.{kind}")).at();
            match kind {
                "deadman" => known("deadman", name, &self.deadmen, "deadman", at, problems),
                "probe" => {
                    known("probe", name, &self.named_probes, "probes", at, problems);
                    self.check_probe(name, at, problems);
                }
                _ => {
                    self.receivers.check(&[name.to_owned()], |_| at, problems);
                    self.check_receiver(name, at, problems);
                }
            }
        }
    }

    fn check_probe(&self, name: &str, at: &Position, problems: &mut Problems) {
        let probe = self.probes.iter().find(|probe| &*probe.policy.name == name);
        if probe.is_some_and(|probe| !probe.policy.pipeline) {
            problems.push(
                Problem::error(format!("probe {name:?} is not part of the alerting pipeline"))
                    .at(at)
                    .hint("the outage of what customers use is what the pipeline has to report, so it must not stop a heartbeat; say pipeline: true if this probe asks a part of the pipeline"),
            );
        }
    }

    fn check_receiver(&self, name: &str, at: &Position, problems: &mut Problems) {
        if self.receivers.get(name).is_some_and(|receiver| receiver.test_interval.is_none()) {
            problems.push(
                Problem::error(format!("receiver {name:?} has no test_interval")).at(at).hint(
                    "its tests are the evidence that it works: give it a test_interval, such as 7d",
                ),
            );
        }
    }
}

fn known(
    what: &str,
    name: &str,
    known: &[&str],
    section: &str,
    at: &Position,
    problems: &mut Problems,
) {
    if known.contains(&name) {
        return;
    }
    let hint = match known {
        [] => format!("define it under {section}"),
        known => yaml::did_you_mean(name, known, section),
    };
    problems.push(Problem::error(format!("there is no {what} {name:?}")).at(at).hint(hint));
}
