//! The last runs of `/probe`: recent ones, and failures that fell out of those.
//!
//! Both lists are shared out: when one is full, the oldest entry of whoever has the most goes, so that a target that is
//! asked often, or fails always, does not push out what is known of the others.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{Outcome, Overrides};
use crate::probe::Trace;

/// Entries that one list may have, whatever the flag says.
pub(in crate::web) const MAX_HISTORY: usize = 10_000;

/// One run, with what is needed to tell about it.
#[derive(Debug)]
pub(in crate::web) struct Entry {
    pub(in crate::web) id: i64,
    pub(in crate::web) asked: Asked,
    pub(in crate::web) outcome: Outcome,
    pub(in crate::web) trace: Trace,
    /// Stands for module and target: whose entry it is.
    owner: u64,
}

/// What was asked, and with which rules.
#[derive(Debug)]
pub(in crate::web) struct Asked {
    pub(in crate::web) module: Arc<str>,
    pub(in crate::web) prober: &'static str,
    pub(in crate::web) phases: &'static crate::model::Family,
    pub(in crate::web) target: Box<str>,
    pub(in crate::web) hostname: Option<Box<str>>,
    /// What this request set otherwise in the module.
    pub(in crate::web) overrides: Overrides,
    /// The module as written, secrets masked.
    pub(in crate::web) shown: Arc<str>,
}

#[derive(Debug)]
pub(in crate::web) struct History {
    limit: usize,
    hasher: RandomState,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    next: i64,
    recent: VecDeque<Arc<Entry>>,
    failed: VecDeque<Arc<Entry>>,
}

impl History {
    pub(in crate::web) fn new(limit: usize) -> Self {
        Self { limit: limit.min(MAX_HISTORY), hasher: RandomState::new(), lists: Mutex::default() }
    }

    /// Takes a run into the history; its number is returned.
    pub(in crate::web) fn add(&self, asked: Asked, outcome: Outcome, trace: Trace) -> Arc<Entry> {
        let owner = self.hasher.hash_one((&asked.module, &asked.target));
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Arc::new(Entry { id: lists.next, asked, outcome, trace, owner });
        lists.next += 1;
        lists.recent.push_back(Arc::clone(&entry));
        if lists.recent.len() > self.limit
            && let Some(old) = take_fairly(&mut lists.recent)
            && !old.outcome.answer.is_success()
        {
            lists.failed.push_back(old);
            if lists.failed.len() > self.limit {
                take_fairly(&mut lists.failed);
            }
        }
        entry
    }

    /// Every entry, the oldest first.
    pub(in crate::web) fn list(&self) -> Vec<Arc<Entry>> {
        let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.failed.iter().chain(&lists.recent).cloned().collect()
    }

    pub(in crate::web) fn by_id(&self, id: i64) -> Option<Arc<Entry>> {
        self.list().into_iter().find(|entry| entry.id == id)
    }

    /// The oldest run of a target.
    pub(in crate::web) fn by_target(
        &self,
        target: &str,
        module: Option<&str>,
    ) -> Option<Arc<Entry>> {
        self.list().into_iter().find(|entry| {
            *entry.asked.target == *target
                && module.is_none_or(|module| *entry.asked.module == *module)
        })
    }
}

/// Takes out the oldest entry of the target that has the most; of equals the oldest of all.
fn take_fairly(list: &mut VecDeque<Arc<Entry>>) -> Option<Arc<Entry>> {
    let mut owners: Vec<u64> = list.iter().map(|entry| entry.owner).collect();
    owners.sort_unstable();
    let shares = || owners.chunk_by(|a, b| a == b);
    let most = shares().map(<[u64]>::len).max()?;
    let full: Vec<u64> =
        shares().filter(|share| share.len() == most).map(|share| share[0]).collect();
    let victim = list.iter().position(|entry| full.binary_search(&entry.owner).is_ok())?;
    list.remove(victim)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Answer, Stamp, Unknown, family};

    fn add(history: &History, module: &str, target: &str, success: bool) -> i64 {
        let answer = if success { Answer::Pass } else { Unknown::Defect.into() };
        let outcome = Outcome {
            started: Stamp::new(jiff::Timestamp::UNIX_EPOCH, Duration::ZERO),
            took: Duration::ZERO,
            timeout: Duration::ZERO,
            phases: Vec::new(),
            phase: None,
            address: None,
            facts: Vec::new(),
            answer,
        };
        let asked = Asked {
            module: module.into(),
            prober: "tcp",
            phases: &family::PROBE_TCP_DURATION,
            target: target.into(),
            hostname: None,
            overrides: Overrides::new(),
            shown: "".into(),
        };
        history.add(asked, outcome, Trace::default()).id
    }

    fn targets(history: &History) -> Vec<String> {
        history.list().iter().map(|entry| entry.asked.target.to_string()).collect()
    }

    #[test]
    fn the_latest_are_kept() {
        let history = History::new(3);
        for target in ["a", "b", "c", "d"] {
            add(&history, "m", target, true);
        }
        assert_eq!(targets(&history), ["b", "c", "d"]);
        assert!(history.by_id(0).is_none());
        assert_eq!(&*history.by_id(3).unwrap().asked.target, "d");
    }

    #[test]
    fn failures_that_fall_out_are_preserved_up_to_the_limit() {
        let history = History::new(2);
        for target in ["f0", "f1", "f2", "f3", "f4"] {
            add(&history, "m", target, false);
        }
        add(&history, "m", "good", true);
        assert_eq!(targets(&history), ["f2", "f3", "f4", "good"]);
    }

    #[test]
    fn a_failing_target_does_not_push_out_the_others() {
        let history = History::new(3);
        for target in ["rare", "quiet"] {
            add(&history, "m", target, false);
        }
        for _ in 0..100 {
            add(&history, "m", "flapping", false);
        }
        let kept = targets(&history);
        assert!(kept.contains(&"rare".into()) && kept.contains(&"quiet".into()), "{kept:?}");
        assert!(kept.len() <= 6);
    }

    #[test]
    fn the_oldest_match_wins_also_by_module() {
        let history = History::new(10);
        add(&history, "one", "a", true);
        add(&history, "two", "a", true);
        assert_eq!(history.by_target("a", None).unwrap().id, 0);
        assert_eq!(history.by_target("a", Some("two")).unwrap().id, 1);
        assert!(history.by_target("a", Some("three")).is_none());
        assert!(history.by_target("A", None).is_none());
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let history = History::new(0);
        add(&history, "m", "a", false);
        assert!(history.list().is_empty());
    }
}
