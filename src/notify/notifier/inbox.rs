//! What was told to the notifier and not looked at yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::TestResult;
use crate::notify::event::{NotifyEvent, Subject};
use crate::notify::receivers::Receiver;

/// How many commands may wait before a member's older news gives way to newer.
const MAX_WAITING: usize = 65_536;

#[derive(Debug)]
pub(super) enum Command {
    Change(Box<NotifyEvent>),
    Removed(Subject, Option<String>),
    Reconcile(BTreeMap<Subject, Vec<String>>),
    Reload(Vec<Arc<Receiver>>),
    Note(Vec<String>),
    Test(String, oneshot::Sender<TestResult>),
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<VecDeque<Command>>,
    news: Notify,
}

impl Inbox {
    /// Never waits and loses nothing. It is bounded by what exists: beyond [`MAX_WAITING`], a member is in it once.
    pub(super) fn push(&self, command: Command) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING
            && let Command::Change(event) = &command
        {
            let same = |c: &Command| matches!(c, Command::Change(e) if e.subject == event.subject && e.member == event.member);
            if let Some(older) = waiting.iter().position(same) {
                waiting.remove(older);
            }
        }
        waiting.push_back(command);
        drop(waiting);
        self.news.notify_one();
    }

    pub(super) fn take(&self, at_most: usize) -> Vec<Command> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(at_most);
        let taken = waiting.drain(..count).collect();
        if !waiting.is_empty() {
            self.news.notify_one();
        }
        taken
    }

    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}
