//! The section `receivers:`: ways to people.

use std::collections::BTreeMap;

use super::modules::place;
use super::yaml::{self, Node, Position, Problem, Problems};
use super::{Environment, File};
use crate::model::{Mistake, Mistakes};
use crate::net::Resolver;
use crate::notify::receivers::check_fallbacks;
use crate::notify::{Receiver, ReceiverSpec};

/// Receivers that can be used, and the names of those that cannot, so that whoever names one is not blamed as well.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    pub(super) ready: Vec<Receiver>,
    named: BTreeMap<String, Position>,
}

pub(super) fn read(
    files: &[File],
    environment: &Environment<'_>,
    problems: &mut Problems,
) -> Receivers {
    let mut receivers = Receivers::default();
    let mut places: Vec<&Node> = Vec::new();
    let mut fallbacks: Vec<(String, Option<String>)> = Vec::new();
    for section in files.iter().filter_map(|file| file.section("receivers")) {
        for item in section.items() {
            receivers.name(item, problems);
        }
        for (node, spec) in yaml::decode_list::<ReceiverSpec>(section, problems) {
            places.push(node);
            fallbacks.push((spec.name.clone(), spec.fallback.clone()));
            receivers.build(spec, node, &environment.names, problems);
        }
    }
    for name in receivers.named.keys() {
        if !fallbacks.iter().any(|(known, _)| known == name) {
            fallbacks.push((name.clone(), None));
        }
    }
    let mut mistakes = Mistakes::default();
    check_fallbacks(&fallbacks, &mut mistakes);
    for mistake in mistakes.into_vec() {
        let Some((index, key)) = mistake.key.split_once('.') else { continue };
        let Some(node) = index.parse().ok().and_then(|index: usize| places.get(index)) else {
            continue;
        };
        let key = key.to_owned();
        problems.push(place(Mistake { key, ..mistake }, node));
    }
    receivers
}

impl Receivers {
    /// Names each of `names` that is no receiver. `at` says where the one of an index stands.
    pub(super) fn check<'n>(
        &self,
        names: &[String],
        at: impl Fn(usize) -> &'n Position,
        problems: &mut Problems,
    ) {
        let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
        for (index, name) in names.iter().enumerate() {
            if self.named.contains_key(name) {
                continue;
            }
            let hint = match known.as_slice() {
                [] => "define it under receivers".to_owned(),
                known => yaml::did_you_mean(name, known, "receivers"),
            };
            problems.push(
                Problem::error(format!("there is no receiver {name:?}")).at(at(index)).hint(hint),
            );
        }
    }

    /// The receiver of this name, where it can be used.
    pub(super) fn get(&self, name: &str) -> Option<&Receiver> {
        self.ready.iter().find(|receiver| receiver.name == name)
    }

    fn name(&mut self, item: &Node, problems: &mut Problems) {
        let Some(node) = item.get("name") else { return };
        let Some(name) = node.text() else { return };
        if let Some(first) = self.named.get(name) {
            problems.push(
                Problem::error(format!("receiver {name:?} is defined twice"))
                    .at(node.at())
                    .related("first defined here", first)
                    .hint("rename or remove one of the two"),
            );
            return;
        }
        self.named.insert(name.to_owned(), node.at().clone());
    }

    fn build(
        &mut self,
        spec: ReceiverSpec,
        node: &Node,
        names: &Resolver,
        problems: &mut Problems,
    ) {
        let mut mistakes = Mistakes::default();
        let receiver = spec.build(names, &mut mistakes);
        let failed = mistakes.has_errors();
        for mistake in mistakes.into_vec() {
            problems.push(place(mistake, node));
        }
        self.ready.extend(receiver.filter(|_| !failed));
    }
}
