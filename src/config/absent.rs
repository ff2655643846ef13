//! Files that a configuration names and that are not there: said at the start, and not when a page is to be sent.
//!
//! A warning and no error: a configuration is checked where its secrets are not, and a file may come later.

use std::fs::File as Opened;
use std::io::{self, Read as _};
use std::path::Path;

use super::File;
use super::files::OWN_SECTIONS;
use super::yaml::{Kind, Node, Problem, Problems};

pub(super) fn warn(files: &[File], problems: &mut Problems) {
    let sections = files.iter().flat_map(|file| OWN_SECTIONS.map(|name| file.section(name)));
    for section in sections.flatten() {
        look(section, problems);
    }
}

fn look(node: &Node, problems: &mut Problems) {
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| look(item, problems)),
        Kind::Mapping(entries) => {
            for entry in
                entries.iter().filter(|entry| !matches!(entry.name(), "headers" | "labels"))
            {
                match (entry.name().strip_suffix("_file"), &entry.value.kind) {
                    (Some(what), Kind::Scalar(path)) if !path.is_null() => {
                        let flaw = flaw(Path::new(&*path.text));
                        problems.extend(
                            flaw.map(|flaw| problem(what, &path.text, &flaw, &entry.value)),
                        );
                    }
                    _ => look(&entry.value, problems),
                }
            }
        }
    }
}

fn problem(what: &str, path: &str, flaw: &str, node: &Node) -> Problem {
    Problem::warning(format!("{what}_file: {path} {flaw}")).at(node.at()).hint(format!(
        "put the {what} into this file, or mount the Secret that holds it (in the chart: secrets); without it, what needs it fails"
    ))
}

/// What keeps a file from being used.
fn flaw(path: &Path) -> Option<String> {
    let mut first = [0];
    match Opened::open(path).and_then(|mut file| file.read(&mut first)) {
        Ok(0) => Some("is empty".to_owned()),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("does not exist".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}
