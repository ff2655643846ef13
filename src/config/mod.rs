//! Text to [`Config`], or *every* problem at once with file, line, column and what to do.
//!
//! Several files and folders are read; their lists are joined. Each section has a file here that takes its part of the
//! tree to checked values. What a key means belongs to the stage whose `Spec` type is decoded.

mod absent;
mod deadman;
mod files;
mod foreign;
mod groups;
mod heartbeats;
mod identity;
mod modules;
mod notify;
mod overrides;
mod probes;
mod receivers;
mod references;
mod secrets;
pub mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use files::fingerprint;
pub use foreign::read_foreign;
pub use groups::decode_groups;
pub use identity::{Identity, Trust};
pub use probes::Probe;
pub use references::Reference;
pub use yaml::{Problem, Problems};

use crate::deadman::Spec as DeadmanSpec;
use crate::deadman::failures::Herald;
use crate::heartbeat::Spec as HeartbeatSpec;
use crate::model::Notify;
use crate::net::Resolver;
use crate::notify::Receiver;
use crate::probe::{Catalogue, Module};
use yaml::Node;

/// Every top-level key.
const SECTIONS: [&str; 7] =
    ["watchpost", "modules", "references", "probes", "deadman", "heartbeats", "receivers"];

/// A configuration that can be run.
#[derive(Debug)]
pub struct Config {
    pub identity: Identity,
    pub modules: BTreeMap<Arc<str>, Arc<Module>>,
    /// What `/probe` may be asked for.
    pub catalogue: Catalogue,
    /// Who may ask what of whom.
    pub trust: Trust,
    pub probes: Vec<Probe>,
    pub references: Vec<Reference>,
    /// Who must call us.
    pub deadman: Vec<Arc<DeadmanSpec>>,
    /// Whom we call, while there is evidence.
    pub heartbeats: Vec<Arc<HeartbeatSpec>>,
    /// Ways to people. Whoever runs the configuration takes them out.
    pub receivers: Vec<Receiver>,
    /// Who is told of what is wrong with this watchpost itself.
    pub own: Notify,
    /// What is odd and does not keep it from running.
    pub warnings: Problems,
    /// The files that were read, to be watched.
    pub files: Vec<PathBuf>,
    /// The configuration as written, secrets masked.
    pub shown: String,
}

impl Config {
    /// Who tells when this watchpost does not beat.
    pub fn heralds(&self) -> Vec<Herald> {
        self.heartbeats.iter().map(|spec| heartbeats::herald(spec)).collect()
    }
}

/// Where values that a file does not hold come from.
pub struct Environment<'a> {
    /// A variable's value.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The host's name: the default identity.
    pub host_name: String,
    /// What receivers will ask for names. Reading a configuration asks for none.
    pub names: Resolver,
}

/// One file, taken apart.
#[derive(Debug)]
struct File {
    root: Node,
    path: PathBuf,
}

impl File {
    fn section(&self, name: &str) -> Option<&Node> {
        self.root.get(name)
    }

    /// Relative names in our own sections start here.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// The names in a section, also of entries that cannot be used: whoever refers to one of those is not blamed as well.
fn names<'f>(files: &'f [File], section: &str) -> Vec<&'f str> {
    let sections = files.iter().filter_map(|file| file.section(section));
    sections.flat_map(Node::items).filter_map(|item| item.get("name")?.text()).collect()
}

/// Reads files and folders.
pub fn load(paths: &[PathBuf], environment: &Environment<'_>) -> Result<Config, Problems> {
    let mut problems = Problems::new();
    let files = files::read(paths, environment, &mut problems);
    for file in &files {
        check_sections(file, &mut problems);
    }
    let (identity, trust) = identity::read(&files, environment, &mut problems);
    let modules = modules::read(&files, &mut problems);
    let references = references::read(&files, &mut problems);
    let receivers = receivers::read(&files, environment, &mut problems);
    let probes = probes::read(&files, &modules, &receivers, &mut problems);
    let deadman = deadman::read(&files, &receivers, &probes, &mut problems);
    let heartbeats = heartbeats::read(&files, &receivers, &probes, &mut problems);
    let own = notify::own(&files, &receivers, &probes, &deadman, &mut problems);
    if problems.is_fatal() {
        problems.sort();
        return Err(problems);
    }
    absent::warn(&files, &mut problems);
    problems.sort();
    Ok(Config {
        identity,
        modules: modules.ready,
        catalogue: modules.catalogue,
        trust,
        probes,
        references,
        deadman,
        heartbeats,
        receivers: receivers.ready,
        own,
        warnings: problems,
        shown: files::show(&files),
        files: files.into_iter().map(|file| file.path).collect(),
    })
}

fn check_sections(file: &File, problems: &mut Problems) {
    if file.root.entries().is_empty() && !file.root.is_null() && file.root.items().is_empty() {
        return;
    }
    for entry in file.root.entries() {
        if !SECTIONS.contains(&entry.name()) {
            problems.push(
                Problem::error(format!("unknown key {:?}", entry.name()))
                    .at(entry.key.at())
                    .hint(format!("a file may have {}", SECTIONS.join(", "))),
            );
        }
    }
    if !file.root.items().is_empty() || file.root.text().is_some_and(|t| !t.is_empty()) {
        problems.push(
            Problem::error("expected a mapping at the top of the file")
                .at(file.root.at())
                .hint(format!("a file may have {}", SECTIONS.join(", "))),
        );
    }
}
