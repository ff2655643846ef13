//! A tree to a typed value, with every mistake in it rather than the first.
//!
//! serde gives up at the first failure. So the value that failed is set aside with its problem, and
//! the whole is read again without it, until it is read or nothing is left to set aside. What fails
//! only because something inside it was set aside is not reported.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;

use super::error::{Failure, Id, found, id};
use super::problem::{Problem, Problems};
use super::tree::{Kind, Node};
use super::value::Value;

/// Mistakes in one value after which the rest of it is not looked at.
const MAX_PASSES: usize = 200;

/// An entry of a mapping whose keys are names that people choose.
#[derive(Debug)]
pub struct Named<'a, T> {
    pub name: String,
    pub key: &'a Node,
    pub node: &'a Node,
    pub value: T,
}

/// Reads a `T`; `None` when any error was found, so that nothing half-read is used.
pub fn decode<T: DeserializeOwned>(node: &Node, problems: &mut Problems) -> Option<T> {
    let notes = RefCell::new(Notes::default());
    let value = passes(node, &notes);
    let notes = notes.into_inner();
    let clean = notes.problems.is_empty();
    problems.extend(notes.problems);
    value.filter(|_| clean)
}

/// Reads each entry of a mapping on its own; the ones that are right are returned, the others are
/// problems. Nothing there is an empty mapping.
pub fn decode_map<'a, T: DeserializeOwned>(
    node: &'a Node,
    problems: &mut Problems,
) -> Vec<Named<'a, T>> {
    if !matches!(node.kind, Kind::Mapping(_)) && !node.is_null() {
        problems.push(mismatch("a mapping", node));
    }
    let mut read = Vec::new();
    for entry in node.entries() {
        if let Some(value) = decode(&entry.value, problems) {
            let name = entry.name().to_owned();
            read.push(Named { name, key: &entry.key, node: &entry.value, value });
        }
    }
    read
}

/// Reads each element of a list on its own, as [`decode_map`] does.
pub fn decode_list<'a, T: DeserializeOwned>(
    node: &'a Node,
    problems: &mut Problems,
) -> Vec<(&'a Node, T)> {
    if !matches!(node.kind, Kind::Sequence(_)) && !node.is_null() {
        problems.push(mismatch("a list", node));
    }
    let items = node.items().iter();
    items.filter_map(|item| decode(item, problems).map(|value| (item, value))).collect()
}

fn mismatch(wanted: &str, node: &Node) -> Problem {
    Problem::error(format!("expected {wanted}, found {}", found(node))).at(node.at())
}

fn passes<T: DeserializeOwned>(node: &Node, notes: &RefCell<Notes>) -> Option<T> {
    for _ in 0..MAX_PASSES {
        let value = Value { node, notes };
        match T::deserialize(value).map_err(|failure| failure.through(node)) {
            Ok(value) => return Some(value),
            Err(failure) => {
                if !notes.borrow_mut().set_aside(failure) {
                    return None;
                }
            }
        }
    }
    let problem = Problem::error(format!("more than {MAX_PASSES} mistakes in here")).at(node.at());
    notes.borrow_mut().problems.push(problem);
    None
}

/// What the passes over one value have learnt.
#[derive(Debug, Default)]
pub(super) struct Notes {
    problems: Vec<Problem>,
    /// Left out from now on.
    aside: HashSet<Id>,
    /// Something in these was left out.
    holed: HashSet<Id>,
    /// Keys of a mapping that are not really missing.
    excused: HashSet<(Id, String)>,
    /// Keys of a mapping without a value, which count as absent unless they are needed.
    nulls: HashMap<(Id, String), Id>,
    /// Values that are read although they are null.
    needed: HashSet<Id>,
}

impl Notes {
    pub(super) fn is_aside(&self, node: &Node) -> bool {
        self.aside.contains(&id(node))
    }

    pub(super) fn excuse(&mut self, parent: &Node, key: &str) {
        self.excused.insert((id(parent), key.to_owned()));
    }

    /// Whether a key without a value is passed over; it is not once it turned out to be required.
    pub(super) fn passes_over_null(&mut self, parent: &Node, key: &str, value: &Node) -> bool {
        if self.needed.contains(&id(value)) {
            return false;
        }
        self.nulls.insert((id(parent), key.to_owned()), id(value));
        true
    }

    /// Leaves out an entry with a key that nobody knows; `meant` is the likely right one.
    pub(super) fn refuse_key(
        &mut self,
        parent: &Node,
        value: &Node,
        meant: Option<&str>,
        problem: Problem,
    ) {
        self.aside.insert(id(value));
        self.holed.insert(id(parent));
        if let Some(meant) = meant {
            self.excuse(parent, meant);
        }
        self.problems.push(problem);
    }

    /// False when nothing is left that another pass could leave out.
    fn set_aside(&mut self, failure: Failure) -> bool {
        let trail = failure.trail().to_vec();
        let Some(origin) = trail.first().copied() else {
            return false;
        };
        let missing = failure.missing().map(|field| (origin, field.to_owned()));
        if let Some(null) = missing.as_ref().and_then(|missing| self.nulls.remove(missing)) {
            self.needed.insert(null);
            return true;
        }
        let consequence = match &missing {
            Some(missing) => self.excused.contains(missing),
            None => self.holed.contains(&origin),
        };
        let reported = self.aside.contains(&origin);
        if !consequence && !reported {
            self.problems.extend(failure.into_problem());
        }
        // A value that cannot be left out, as the content of a variant, takes its parent with it.
        let Some(depth) = trail.iter().position(|id| !self.aside.contains(id)) else {
            return false;
        };
        self.aside.insert(trail[depth]);
        self.holed.extend(&trail[depth + 1..]);
        depth + 1 < trail.len()
    }
}
