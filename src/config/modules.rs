//! The section `modules:`: blackbox_exporter's own, joined over all files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::File;
use super::yaml::{self, Named, Node, Position, Problem, Problems};
use crate::model::{Mistake, Mistakes};
use crate::probe::{Module, ModuleSpec};

/// Modules that can run, and the names of those that cannot, so that a probe that uses one is not blamed as well.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub(super) ready: BTreeMap<Arc<str>, Arc<Module>>,
    pub(super) named: BTreeMap<String, Position>,
}

pub(super) fn read(files: &[File], problems: &mut Problems) -> Modules {
    let mut modules = Modules::default();
    for section in files.iter().filter_map(|file| file.section("modules")) {
        for entry in section.entries() {
            modules.name(entry.name(), entry.key.at(), problems);
        }
        for Named { name, node, value, .. } in yaml::decode_map::<ModuleSpec>(section, problems) {
            if let Some(module) = build(&name, value, node, problems) {
                modules.ready.insert(Arc::clone(&module.name), Arc::new(module));
            }
        }
    }
    modules
}

impl Modules {
    fn name(&mut self, name: &str, at: &Position, problems: &mut Problems) {
        if let Some(first) = self.named.get(name) {
            problems.push(
                Problem::error(format!("module {name:?} is defined twice"))
                    .at(at)
                    .related("first defined here", first)
                    .hint("rename or remove one of the two"),
            );
            return;
        }
        self.named.insert(name.to_owned(), at.clone());
    }
}

fn build(name: &str, spec: ModuleSpec, node: &Node, problems: &mut Problems) -> Option<Module> {
    let mut mistakes = Mistakes::default();
    let module = spec.build(name, &mut mistakes);
    let failed = mistakes.has_errors();
    for mistake in mistakes.into_vec() {
        problems.push(place(mistake, node));
    }
    module.filter(|_| !failed)
}

/// Points at the key that a mistake names, or at the nearest thing around it.
pub(super) fn place(mistake: Mistake, node: &Node) -> Problem {
    let problem =
        if mistake.warning { Problem::warning(mistake.what) } else { Problem::error(mistake.what) };
    let problem = problem.at(node.find(&mistake.key).at());
    match mistake.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
