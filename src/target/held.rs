//! What a source yielded last, and the rule that an empty list is not believed.

use std::path::Path;
use std::sync::Arc;

use crate::model::Target;

/// The targets of one file, or of one answer.
pub(super) type Part = (Arc<Path>, Arc<[Target]>);

/// The list in use of one source.
///
/// A source that yields nothing at all any more keeps its last list: a generator that broke, a mount that went away, an
/// empty checkout and a service without its database look like this, and to stop watching everything is the wrong answer
/// to each of them. Whoever means it removes the source or the probe.
#[derive(Debug, Default)]
pub(super) struct Held {
    parts: Vec<Part>,
    looked: bool,
    holding: bool,
}

impl Held {
    /// Takes what is found now. Whether the targets in use have changed.
    pub(super) fn take(&mut self, source: &str, parts: Vec<Part>) -> bool {
        let vanished = parts.is_empty() && !self.parts.is_empty();
        if vanished && !self.holding {
            let kept: usize = self.in_use();
            tracing::warn!(source, kept, "discovery yields no targets; its last good list is kept");
        }
        if self.holding && !vanished {
            tracing::info!(source, "discovery yields targets again");
        }
        let first = !std::mem::replace(&mut self.looked, true);
        if first && parts.is_empty() {
            // No trouble: a file whose lines are all comments waits for its first target. The metric and the page say 0.
            tracing::debug!(source, "discovery yields no targets yet");
        }
        self.holding = vanished;
        if vanished || same(&parts, &self.parts) {
            return false;
        }
        self.parts = parts;
        true
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What the source yields now: nothing while the last list is held.
    pub(super) fn yields(&self) -> usize {
        if self.holding { 0 } else { self.in_use() }
    }

    /// Why the list is not what the source says.
    pub(super) fn failure(&self) -> Option<String> {
        self.holding.then(|| "no targets any more; the last list is kept".to_owned())
    }

    fn in_use(&self) -> usize {
        self.parts.iter().map(|(_, targets)| targets.len()).sum()
    }
}

fn same(left: &[Part], right: &[Part]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(l, r)| l.0 == r.0 && (Arc::ptr_eq(&l.1, &r.1) || *l.1 == *r.1))
}
