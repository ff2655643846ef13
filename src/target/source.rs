//! The files that one pattern names, as one source of targets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{State, WatchedFile};
use super::{Decoder, Pattern};
use crate::model::{Stamp, Target};

/// The most files that one pattern may name.
pub const MAX_FILES: usize = 1000;

/// The targets of one file.
pub(super) type Part = (Arc<Path>, Arc<[Target]>);

/// All files of one pattern.
///
/// A file that is deleted takes its targets along. A source that yields nothing at all any more keeps its last list:
/// a generator that broke, a mount that went away and an empty checkout look like this, and to stop watching everything
/// is the wrong answer to each of them. Whoever means it removes the source or the probe.
#[derive(Debug)]
pub(super) struct FileSource {
    pattern: Pattern,
    refresh: Duration,
    files: BTreeMap<PathBuf, WatchedFile>,
    parts: Vec<Part>,
    listing_failed: Option<String>,
    looked: bool,
    holding: bool,
}

impl FileSource {
    pub(super) const fn new(pattern: Pattern, refresh: Duration) -> Self {
        Self {
            pattern,
            refresh,
            files: BTreeMap::new(),
            parts: Vec::new(),
            listing_failed: None,
            looked: false,
            holding: false,
        }
    }

    pub(super) const fn set_refresh(&mut self, refresh: Duration) {
        self.refresh = refresh;
    }

    /// Looks at every file. Whether the targets in use may have changed.
    pub(super) fn look(&mut self, now: Stamp, decoder: &Decoder) -> bool {
        self.list();
        for file in self.files.values_mut() {
            file.look(now, self.refresh, decoder);
        }
        // A file whose name was found is looked at until it is known to be gone.
        self.files.retain(|_, file| !file.is_gone());
        let parts: Vec<Part> = self
            .files
            .values()
            .filter(|file| !file.targets().is_empty())
            .map(|file| (file.path().clone(), file.targets().clone()))
            .collect();
        self.take(parts)
    }

    fn list(&mut self) {
        match self.pattern.files() {
            Ok(paths) => {
                for path in paths {
                    let new = WatchedFile::new(&path);
                    self.files.entry(path).or_insert(new);
                }
                self.listing_failed = None;
            }
            Err(error) => {
                let error = error.to_string();
                if self.listing_failed.is_none() {
                    tracing::warn!(source = %self.pattern, %error, "discovery files cannot be listed");
                }
                self.listing_failed = Some(error);
            }
        }
    }

    fn take(&mut self, parts: Vec<Part>) -> bool {
        let vanished = parts.is_empty() && !self.parts.is_empty();
        if vanished && !self.holding {
            let kept: usize = self.targets_in_use();
            tracing::warn!(source = %self.pattern, kept, "discovery yields no targets; its last good list is kept");
        }
        if self.holding && !vanished {
            tracing::info!(source = %self.pattern, "discovery yields targets again");
        }
        let first = !std::mem::replace(&mut self.looked, true);
        if first && parts.is_empty() {
            // No trouble: a file whose lines are all comments waits for its first target. The metric and the page say 0.
            tracing::debug!(source = %self.pattern, "discovery yields no targets yet");
        }
        self.holding = vanished;
        if vanished || same(&parts, &self.parts) {
            return false;
        }
        self.parts = parts;
        true
    }

    /// What is in use.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn targets_in_use(&self) -> usize {
        self.parts.iter().map(|(_, targets)| targets.len()).sum()
    }

    /// What the files yield now: nothing when the last list is held.
    pub(super) fn yields(&self) -> usize {
        if self.holding { 0 } else { self.targets_in_use() }
    }

    /// Why the source is not as good as it should be.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures: Vec<String> = self.listing_failed.iter().cloned().collect();
        for (path, file) in &self.files {
            if let State::Bad(wrong) = file.state() {
                failures.push(format!("{}: {wrong}", path.display()));
            }
        }
        if failures.is_empty() && self.files.is_empty() {
            failures.push("no such file".to_owned());
        } else if failures.is_empty() && self.holding {
            failures.push("no targets any more; the last list is kept".to_owned());
        }
        failures
    }

    /// Files and when they were written, as unix time.
    pub(super) fn modified(&self) -> impl Iterator<Item = (&Path, f64)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_path(), file.modified()?)))
    }
}

fn same(left: &[Part], right: &[Part]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(l, r)| l.0 == r.0 && Arc::ptr_eq(&l.1, &r.1))
}
