//! The notifier without its task: whoever holds it says when it decides, what is sent, and what came of it.
//!
//! For histories on a virtual clock, which must be able to end a process between any two of these steps.

use std::sync::Arc;

use prometheus::Registry;
use tokio_util::task::TaskTracker;

use super::inbox::{Command, Inbox};
use super::meters::Meters;
use super::work::Worker;
use super::{Handle, Settings};
use crate::book::{Book, Moment, Outbox, Write};
use crate::model::Stamp;
use crate::notify::receivers::{Receiver, Sent};

pub(crate) struct ByHand {
    worker: Worker,
    handle: Handle,
    book: Book,
}

impl ByHand {
    /// The notifier as a process would start it at `now`.
    pub(crate) fn start(book: &Book, receivers: Vec<Arc<Receiver>>, now: Stamp) -> (Handle, Self) {
        let inbox = Arc::new(Inbox::default());
        let handle = Handle { inbox: Arc::clone(&inbox), book: book.clone() };
        let meters = Meters::new(&Registry::new());
        let settings = Settings { clock: Arc::new(move || now), ..Settings::default() };
        let tasks = TaskTracker::new();
        let worker = Worker::new(book.clone(), receivers, meters, inbox, tasks, settings);
        (handle.clone(), Self { worker, handle, book: book.clone() })
    }

    fn moment(&self, now: Stamp) -> Moment {
        self.book.moment(now)
    }

    /// Decides; nothing of it is written.
    pub(crate) fn decide(&mut self, now: Stamp) -> Vec<Write> {
        let now = self.moment(now);
        self.worker.decide(&now)
    }

    /// What is to be sent now.
    pub(crate) fn due(&mut self, now: Stamp) -> Vec<Outbox> {
        let now = self.moment(now);
        self.worker.due(&now)
    }

    /// What came of an attempt; nothing of it is written.
    pub(crate) fn learn(&mut self, sequence: u64, sent: &Sent, now: Stamp) -> Vec<Write> {
        let now = self.moment(now);
        self.worker.learn(sequence, sent, &now)
    }

    /// Other receivers from now on.
    pub(crate) fn reload(&self, receivers: Vec<Arc<Receiver>>) {
        self.handle.inbox.push(Command::Reload(receivers));
    }
}
