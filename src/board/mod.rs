//! What we know now and lately, as cheap snapshots.
//!
//! One writer, the owner of all results; any number of readers, who never wait for it nor it for them. Not for deciding
//! anything: what is here was decided by whoever wrote it.

mod cell;
mod history;
mod recent;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

pub use cell::{Cell, GroupCell, GroupView};
pub use history::{History, Run};
pub use recent::{News, Recent};

use crate::model::{CheckId, View};

/// What we know now and lately.
#[derive(Debug, Default)]
pub struct Board {
    index: ArcSwap<Index>,
    recent: Recent,
    blind: AtomicBool,
    scrapes: AtomicU64,
}

/// Every check there is, by probe and then by target, and every probe.
#[derive(Debug, Default)]
pub struct Index {
    cells: Vec<Arc<Cell>>,
    by_id: HashMap<CheckId, usize>,
    groups: Vec<Arc<GroupCell>>,
}

impl Board {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn snapshot(&self) -> Arc<Index> {
        self.index.load_full()
    }

    pub fn get(&self, id: CheckId) -> Option<Arc<Cell>> {
        self.index.load().get(id).cloned()
    }

    /// The last changes of status, the newest first.
    pub fn changes(&self) -> Vec<Arc<News>> {
        self.recent.newest_first()
    }

    /// Whether no reference answers, so that worse statuses are held back.
    pub fn is_blind(&self) -> bool {
        self.blind.load(Ordering::Relaxed)
    }

    /// Begins a scrape: to be called before the snapshot that it shows is taken. Returns its number.
    pub fn begin_scrape(&self) -> u64 {
        self.scrapes.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the last scrape that has begun.
    pub fn last_scrape(&self) -> u64 {
        self.scrapes.load(Ordering::Acquire)
    }

    /// Shows `index` from now on. Only for the owner, as is all that follows.
    pub fn publish(&self, index: Index) {
        self.index.store(Arc::new(index));
    }

    pub fn announce(&self, news: News) {
        self.recent.push(news);
    }

    pub fn set_blind(&self, blind: bool) {
        self.blind.store(blind, Ordering::Relaxed);
    }
}

impl Index {
    /// Puts cells in their order. Groups come in theirs.
    pub fn new(mut cells: Vec<Arc<Cell>>, groups: Vec<Arc<GroupCell>>) -> Self {
        cells.sort_by_cached_key(|cell| {
            let view = cell.load();
            (view.check.policy.name.clone(), view.check.target.address.clone(), cell.id())
        });
        let by_id = cells.iter().enumerate().map(|(at, cell)| (cell.id(), at)).collect();
        Self { cells, by_id, groups }
    }

    pub fn cells(&self) -> &[Arc<Cell>] {
        &self.cells
    }

    pub fn groups(&self) -> &[Arc<GroupCell>] {
        &self.groups
    }

    pub fn get(&self, id: CheckId) -> Option<&Arc<Cell>> {
        self.by_id.get(&id).and_then(|at| self.cells.get(*at))
    }

    pub fn group(&self, probe: &str) -> Option<Arc<GroupView>> {
        self.groups.iter().map(|group| group.load()).find(|view| &*view.policy.name == probe)
    }

    /// What every cell shows now.
    pub fn views(&self) -> Vec<Arc<View>> {
        self.cells.iter().map(|cell| cell.load()).collect()
    }
}
