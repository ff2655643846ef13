//! The section `modules:`: blackbox_exporter's own, joined over all files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::File;
use super::overrides::recipe;
use super::secrets::sight;
use super::yaml::{self, Named, Node, Position, Problem, Problems};
use crate::model::{Mistake, Mistakes};
use crate::probe::{Allowed, Catalogue, Listed, Module, ModuleSpec};

/// Modules that can run, and the names of those that cannot, so that a probe that uses one is not blamed as well.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub(super) ready: BTreeMap<Arc<str>, Arc<Module>>,
    pub(super) named: BTreeMap<String, Position>,
    /// Those that can be asked for, also without a prober, as written.
    pub(super) catalogue: Catalogue,
}

pub(super) fn read(files: &[File], problems: &mut Problems) -> Modules {
    let mut modules = Modules::default();
    for section in files.iter().filter_map(|file| file.section("modules")) {
        for entry in section.entries() {
            modules.name(entry.name(), entry.key.at(), problems);
            if entry.value.is_null() {
                modules.name_only(entry.name(), entry.key.at(), problems);
            }
        }
        for Named { name, node, value, .. } in yaml::decode_map::<ModuleSpec>(section, problems) {
            if node.is_null() {
                continue;
            }
            if let Some(module) = build(&name, value, node, problems) {
                let (name, module) = (Arc::clone(&module.name), Arc::new(module));
                let listed = Listed { module: Some(Arc::clone(&module)), shown: shown(node) };
                modules.catalogue.insert(Arc::clone(&name), listed);
                modules.ready.insert(name, module);
            }
        }
    }
    modules
}

/// A module as written, secrets masked.
fn shown(node: &Node) -> Arc<str> {
    yaml::dump(node, &sight).into()
}

impl Modules {
    /// blackbox_exporter takes a module without a value for one without a prober, which can be named and not asked with.
    fn name_only(&mut self, name: &str, at: &Position, problems: &mut Problems) {
        problems.push(
            Problem::warning(format!("module {name:?} is empty: no run can succeed"))
                .at(at)
                .hint("give it a prober"),
        );
        self.catalogue.insert(name.into(), Listed { module: None, shown: "{}\n".into() });
    }

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
    let allow = spec.allow_overrides.clone().unwrap_or_default();
    let mut module = spec.build(name, &mut mistakes);
    let failed = mistakes.has_errors();
    for mistake in mistakes.into_vec() {
        problems.push(place(mistake, node));
    }
    if let Some(module) = module.as_mut().filter(|_| !allow.is_empty()) {
        // Mistakes in the list have been told above.
        let allowed = Allowed::read(&allow, module.prober.kind(), &mut Mistakes::default());
        module.recipe = Some(recipe(name, node, allowed));
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
