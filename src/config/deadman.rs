//! The section `deadman:`: who must call us.

use std::sync::Arc;

use super::File;
use super::modules::place;
use super::probes::Probe;
use super::receivers::Receivers;
use super::yaml::{self, Node, Problem, Problems};
use crate::deadman::{Spec, check_all};
use crate::model::{Mistake, Mistakes};

pub(super) fn read(
    files: &[File],
    receivers: &Receivers,
    probes: &[Probe],
    problems: &mut Problems,
) -> Vec<Arc<Spec>> {
    let mut places: Vec<&Node> = Vec::new();
    let mut specs: Vec<Spec> = Vec::new();
    for section in files.iter().filter_map(|file| file.section("deadman")) {
        for (node, spec) in yaml::decode_list::<Spec>(section, problems) {
            let mut mistakes = Mistakes::default();
            spec.check(&mut mistakes);
            problems.extend(mistakes.into_vec().into_iter().map(|mistake| place(mistake, node)));
            check_receivers(&spec, node, receivers, problems);
            if probes.iter().any(|probe| *probe.policy.name == spec.name) {
                problems.push(
                    Problem::error(format!("deadman {:?} has the name of a probe", spec.name))
                        .at(node.find("name").at())
                        .hint("both become the label job: rename one of the two"),
                );
            }
            places.push(node);
            specs.push(spec);
        }
    }
    let mut mistakes = Mistakes::default();
    check_all(&specs, &mut mistakes);
    for mistake in mistakes.into_vec() {
        let Some((index, key)) = mistake.key.split_once('.') else { continue };
        let index: Option<usize> = index.parse().ok();
        let Some(node) = index.and_then(|index| places.get(index)) else { continue };
        let key = key.to_owned();
        problems.push(place(Mistake { key, ..mistake }, node));
    }
    specs.into_iter().map(Arc::new).collect()
}

/// `notify` is a list, or lists by status.
fn check_receivers(spec: &Spec, node: &Node, receivers: &Receivers, problems: &mut Problems) {
    let notify = node.find("notify");
    if notify.items().is_empty() {
        for (key, names) in [("down", &spec.notify.down), ("degraded", &spec.notify.degraded)] {
            let at = |index: usize| notify.find(&format!("{key}.{index}")).at();
            receivers.check(names, at, problems);
        }
        return;
    }
    receivers.check(&spec.notify.down, |index| notify.find(&index.to_string()).at(), problems);
}
