//! The files that one pattern names, as one source of targets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{State, WatchedFile};
use super::held::{Held, Part};
use super::{Decoder, Pattern};
use crate::model::Stamp;

/// The most files that one pattern may name.
pub const MAX_FILES: usize = 1000;

/// All files of one pattern.
///
/// A file that is deleted takes its targets along, unless it is the last one: see [`Held`].
#[derive(Debug)]
pub(super) struct FileSource {
    pattern: Pattern,
    refresh: Duration,
    files: BTreeMap<PathBuf, WatchedFile>,
    held: Held,
    listing_failed: Option<String>,
}

impl FileSource {
    pub(super) fn new(pattern: Pattern, refresh: Duration) -> Self {
        Self {
            pattern,
            refresh,
            files: BTreeMap::new(),
            held: Held::default(),
            listing_failed: None,
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
        self.held.take(self.pattern.as_str(), parts)
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

    pub(super) const fn held(&self) -> &Held {
        &self.held
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
        } else if failures.is_empty() {
            failures.extend(self.held.failure());
        }
        failures
    }

    /// Files and when they were written, as unix time.
    pub(super) fn modified(&self) -> impl Iterator<Item = (&Path, f64)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_path(), file.modified()?)))
    }
}
