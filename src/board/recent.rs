//! The last changes of status, whatever they belong to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use crate::model::{Change, Check, GroupChange, Stamp, Status};

/// How many changes are kept.
const KEPT: usize = 1000;

/// A change, and what it happened to: the check may be gone when this is read.
#[derive(Debug, Clone)]
pub enum News {
    Check { check: Arc<Check>, change: Change },
    Group(GroupChange),
}

impl News {
    pub const fn at(&self) -> Stamp {
        match self {
            Self::Check { change, .. } => change.at,
            Self::Group(change) => change.at,
        }
    }

    pub fn probe(&self) -> &str {
        match self {
            Self::Check { check, .. } => &check.policy.name,
            Self::Group(change) => &change.probe,
        }
    }

    pub const fn statuses(&self) -> (Status, Status) {
        match self {
            Self::Check { change, .. } => (change.from, change.to),
            Self::Group(change) => (change.from, change.to),
        }
    }
}

/// A ring of slots: writing one costs the same however many are kept.
#[derive(Debug)]
pub struct Recent {
    slots: Box<[ArcSwapOption<Entry>]>,
    written: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    number: usize,
    news: Arc<News>,
}

impl Default for Recent {
    fn default() -> Self {
        let slots = std::iter::repeat_with(ArcSwapOption::empty).take(KEPT).collect();
        Self { slots, written: AtomicUsize::new(0) }
    }
}

impl Recent {
    /// For one writer.
    pub fn push(&self, news: News) {
        let number = self.written.load(Ordering::Relaxed);
        let entry = Entry { number, news: Arc::new(news) };
        self.slots[number % KEPT].store(Some(Arc::new(entry)));
        self.written.store(number + 1, Ordering::Release);
    }

    pub fn newest_first(&self) -> Vec<Arc<News>> {
        let mut entries: Vec<_> = self.slots.iter().filter_map(ArcSwapOption::load_full).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.number));
        entries.iter().map(|entry| Arc::clone(&entry.news)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::model::Headcount;

    #[test]
    fn the_newest_changes_are_kept() {
        let recent = Recent::default();
        for number in 0..1_500 {
            let at = Stamp::new(Timestamp::UNIX_EPOCH, Duration::from_secs(number));
            recent.push(News::Group(GroupChange {
                probe: "p".into(),
                from: Status::Up,
                to: Status::Down,
                at,
                held_since: at,
                missing: Vec::new(),
                headcount: Headcount::default(),
            }));
        }
        let seconds: Vec<_> =
            recent.newest_first().iter().map(|news| news.at().boot.as_secs()).collect();
        assert_eq!(seconds, (500..1_500).rev().collect::<Vec<_>>());
    }
}
