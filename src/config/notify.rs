//! The key `notify`: who is told of which status.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::File;
use super::probes::Probe;
use super::receivers::Receivers;
use super::yaml::{self, Node, Problem, Problems};
use crate::deadman::Spec as Deadman;
use crate::model::{Notify, Period, Status};

/// `notify` of a probe, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(default)]
    down: Vec<String>,
    #[serde(default)]
    degraded: Vec<String>,
    #[serde(default)]
    unknown: Vec<String>,
    /// Tell again after this long while it lasts; default: the receiver's.
    repeat: Option<Period>,
    /// A link for whoever is told.
    runbook: Option<String>,
    /// What an episode is about: the probe (the default), or each target.
    group_by: Option<GroupBy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GroupBy {
    Probe,
    Target,
}

impl Spec {
    /// `node` is what the key `notify` holds.
    pub(super) fn read(
        self,
        node: &Node,
        judged_as_a_whole: bool,
        receivers: &Receivers,
        problems: &mut Problems,
    ) -> Notify {
        let by_target = self.group_by == Some(GroupBy::Target);
        if by_target && judged_as_a_whole {
            problems.push(
                Problem::error("group_by: target beside min_up")
                    .at(node.find("group_by").at())
                    .hint("with min_up the probe is judged as a whole and has one episode: drop one of the two"),
            );
        }
        if self.repeat.is_some_and(|repeat| repeat.get().is_zero()) {
            problems.push(
                Problem::error("repeat is zero")
                    .at(node.find("repeat").at())
                    .hint("give it a time, such as 4h"),
            );
        }
        let lists = [
            ("down", Status::Down, self.down),
            ("degraded", Status::Degraded, self.degraded),
            ("unknown", Status::Unknown, self.unknown),
        ];
        let mut told = BTreeMap::new();
        for (key, status, names) in lists {
            let at = |index: usize| node.find(&format!("{key}.{index}")).at();
            receivers.check(&names, at, problems);
            if !names.is_empty() {
                told.insert(status, names);
            }
        }
        Notify {
            receivers: told,
            by_target,
            repeat: self.repeat.map(Period::get),
            runbook: self.runbook,
        }
    }
}

/// Who is told of what is wrong with this watchpost itself: those that `watchpost: notify:` names, or else everybody whom
/// a probe or a switch tells that it is down.
pub(super) fn own(
    files: &[File],
    receivers: &Receivers,
    probes: &[Probe],
    deadman: &[Arc<Deadman>],
    problems: &mut Problems,
) -> Notify {
    let written = files.iter().find_map(|file| file.section("watchpost")?.get("notify"));
    let mut names: Vec<String> = if let Some(node) = written {
        // What is not a list of names has been said where the section was read.
        let names: Vec<String> = yaml::decode(node, &mut Problems::new()).unwrap_or_default();
        receivers.check(&names, |index| node.find(&index.to_string()).at(), problems);
        names
    } else {
        let told = probes.iter().filter_map(|p| p.policy.notify.receivers.get(&Status::Down));
        told.flatten().chain(deadman.iter().flat_map(|d| &d.notify.down)).cloned().collect()
    };
    names.sort_unstable();
    names.dedup();
    let statuses = [Status::Down, Status::Degraded];
    let told = statuses.into_iter().map(|status| (status, names.clone()));
    Notify {
        receivers: if names.is_empty() { BTreeMap::new() } else { told.collect() },
        ..Notify::default()
    }
}
