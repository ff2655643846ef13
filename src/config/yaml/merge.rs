//! The entries of one mapping put together: `<<` resolved, duplicates refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::problem::{Problem, Problems, quoted};
use super::scalar::Style;
use super::tree::{Entry, Kind, Node};

/// Explicit keys win over merged ones, and the earlier of a list over the later.
pub(super) fn assemble(entries: Vec<Entry>, problems: &mut Problems) -> Vec<Entry> {
    let (merges, explicit): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_merge);
    let mut kept = without_duplicates(explicit, problems);
    let merges = without_duplicates(merges, problems);
    if merges.is_empty() {
        return kept;
    }
    let mut known: HashSet<Arc<str>> = kept.iter().map(text).collect();
    for merge in merges {
        for entry in merged(merge.value, problems) {
            if known.insert(text(&entry)) {
                kept.push(entry);
            }
        }
    }
    kept
}

fn is_merge(entry: &Entry) -> bool {
    entry.key.scalar().is_some_and(|key| {
        &*key.text == "<<"
            && match key.tag.as_deref() {
                None => key.style == Style::Plain,
                Some(tag) => tag == "merge",
            }
    })
}

fn text(entry: &Entry) -> Arc<str> {
    entry.key.scalar().map_or_else(|| "".into(), |key| key.text.clone())
}

fn without_duplicates(entries: Vec<Entry>, problems: &mut Problems) -> Vec<Entry> {
    let mut first: HashMap<Arc<str>, usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(index) = first.get(&text(&entry)) {
            let problem = Problem::error(format!("duplicate key {}", quoted(entry.name())))
                .at(entry.key.at())
                .related("first defined here", kept[*index].key.at());
            problems.push(problem);
            continue;
        }
        first.insert(text(&entry), kept.len());
        kept.push(entry);
    }
    kept
}

fn merged(value: Node, problems: &mut Problems) -> Vec<Entry> {
    match value.kind {
        Kind::Mapping(entries) => entries,
        Kind::Sequence(items) => {
            items.into_iter().flat_map(|item| merged_item(item, problems)).collect()
        }
        Kind::Scalar(_) => refuse(&value, problems),
    }
}

fn merged_item(item: Node, problems: &mut Problems) -> Vec<Entry> {
    match item.kind {
        Kind::Mapping(entries) => entries,
        _ => refuse(&item, problems),
    }
}

fn refuse(value: &Node, problems: &mut Problems) -> Vec<Entry> {
    let problem = Problem::error("only a mapping, or a list of mappings, can be merged")
        .at(value.at())
        .hint("write \"<<: *name\" where \"&name\" marks a mapping");
    problems.push(problem);
    Vec::new()
}
