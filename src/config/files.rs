//! From paths to trees: files, folders of files, and the environment filled in.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::secrets::{is_secret_key, sight};
use super::yaml::{self, Kind, Node, Problem, Problems, Source};
use super::{Environment, File};

/// The one section in which `${NAME}` is left alone: blackbox_exporter does not replace it there.
const FOREIGN_SECTION: &str = "modules";
/// Sections in which files are named as seen from the configuration. In [`FOREIGN_SECTION`] they are seen from the working
/// directory, as upstream.
pub(super) const OWN_SECTIONS: [&str; 5] =
    ["watchpost", "probes", "receivers", "deadman", "heartbeats"];
/// More names than this in one folder are a mistake, such as naming `/`.
const MAX_FILES: usize = 1000;

pub(super) fn read(
    paths: &[PathBuf],
    environment: &Environment<'_>,
    problems: &mut Problems,
) -> Vec<File> {
    let mut files = Vec::new();
    let expanded: Vec<PathBuf> = paths.iter().flat_map(|path| expand(path, problems)).collect();
    for path in expanded {
        if files.iter().any(|file: &File| file.path == path) {
            continue;
        }
        files.extend(read_one(path, environment, problems));
    }
    files
}

/// A value that changes with the names and the content of the files.
pub fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hash = DefaultHasher::new();
    for path in paths.iter().flat_map(|path| expand(path, &mut Problems::new())) {
        path.hash(&mut hash);
        std::fs::read(&path).ok().hash(&mut hash);
    }
    hash.finish()
}

/// A file is itself; a folder is the YAML files that lie directly in it, by name.
fn expand(path: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let listed = std::fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|e| e.path()));
        names.take(MAX_FILES + 1).collect::<Result<Vec<_>, _>>()
    });
    let mut found: Vec<PathBuf> = match listed {
        // Some of them would be read and others not.
        Ok(found) if found.len() > MAX_FILES => {
            problems.push(
                Problem::error(format!("more than {MAX_FILES} names in {}", path.display()))
                    .hint("name the files themselves, or a folder of nothing but configuration"),
            );
            return Vec::new();
        }
        Ok(found) => found.into_iter().filter(|path| is_yaml(path)).collect(),
        Err(error) => {
            problems.push(Problem::error(format!("cannot read {}: {error}", path.display())));
            return Vec::new();
        }
    };
    if found.is_empty() {
        problems.push(
            Problem::error(format!("no .yml or .yaml file in {}", path.display()))
                .hint("name a file, or a folder that has one"),
        );
    }
    found.sort();
    found
}

fn is_yaml(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let named = path.extension().is_some_and(|e| e == "yml" || e == "yaml");
    named && !hidden && path.is_file()
}

fn read_one(path: PathBuf, environment: &Environment<'_>, problems: &mut Problems) -> Option<File> {
    let source = match Source::read(&path) {
        Ok(source) => Arc::new(source.with_secret_keys(is_secret_key)),
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut root = yaml::parse(source, problems)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for (name, section) in root.sections() {
        if name != FOREIGN_SECTION {
            section.expand(environment.variable, problems);
        }
        if OWN_SECTIONS.contains(&name) {
            join_files(section, folder);
        }
    }
    Some(File { root, path })
}

/// Names of files under keys that end in `_file` are seen from `folder`.
fn join_files(node: &mut Node, folder: &Path) {
    match &mut node.kind {
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter_mut().for_each(|item| join_files(item, folder)),
        Kind::Mapping(entries) => {
            for entry in
                entries.iter_mut().filter(|entry| !matches!(entry.name(), "headers" | "labels"))
            {
                if entry.name().ends_with("_file") {
                    join_file(&mut entry.value, folder);
                } else {
                    join_files(&mut entry.value, folder);
                }
            }
        }
    }
}

fn join_file(node: &mut Node, folder: &Path) {
    let Kind::Scalar(scalar) = &mut node.kind else { return };
    if scalar.is_null() || Path::new(&*scalar.text).is_absolute() {
        return;
    }
    // A path that is not UTF-8 cannot come from a text, and a folder that is not is left alone.
    let Some(joined) = folder.join(&*scalar.text).to_str().map(Arc::from) else { return };
    let written = std::mem::replace(&mut scalar.text, joined);
    scalar.raw.get_or_insert(written);
}

/// All files as written, each under its name, with secrets masked.
pub(super) fn show(files: &[File]) -> String {
    let shown = files.iter().map(|file| {
        let text = yaml::dump(&file.root, &sight);
        format!("# {}\n{text}", file.path.display())
    });
    shown.collect::<Vec<_>>().join("\n")
}
