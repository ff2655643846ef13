//! The task that joins it: takes events, decides, writes, sends, confirms.

mod inbox;
mod meters;
mod work;

#[cfg(test)]
mod by_hand;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use inbox::{Command, Inbox};
use meters::Meters;
use work::Worker;

#[cfg(test)]
pub(crate) use by_hand::ByHand;

use super::event::{NotifyEvent, Subject};
use super::message::Identity;
use super::outbox::Backoff;
use super::receivers::Receiver;
use crate::book::{Book, Episode, EpisodeState, Moment, NoteKind, Outbox, ReceiverState};
use crate::clock;
use crate::model::Stamp;

/// How long a test may take before its caller is told that it is still under way.
const TEST_WAIT: Duration = Duration::from_secs(30);

/// How the notifier is set up.
#[derive(Clone)]
pub struct Settings {
    pub identity: Identity,
    pub backoff: Backoff,
    /// What is going on at shutdown may take this long.
    pub grace: Duration,
    /// Reads the clocks. Tests bring their own.
    pub clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
    /// Where to fall dead, as a `kill -9` would have it. Tests only.
    pub die_at: Option<Boundary>,
    /// Only with a notification of this kind; with anything when `None`.
    pub die_with: Option<NoteKind>,
    /// How: the task ends in any case.
    pub death: fn(),
}

/// The steps of a page between which a process can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Decided, not written.
    Decided,
    /// Written, not sent.
    Written,
    /// Sent, and the answer not looked at.
    Sent,
    /// Answered, and the confirmation not written.
    Answered,
    /// Confirmed in the book.
    Confirmed,
}

impl Boundary {
    pub const ALL: [Self; 5] =
        [Self::Decided, Self::Written, Self::Sent, Self::Answered, Self::Confirmed];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Written => "written",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Confirmed => "confirmed",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            backoff: Backoff::default(),
            grace: Duration::from_secs(5),
            clock: Arc::new(clock::now),
            die_at: None,
            die_with: None,
            death: || {},
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The stage. It lives in its task; everybody else has a [`Handle`].
#[derive(Debug)]
pub struct Notifier;

impl Notifier {
    /// Starts the task, which goes on with whatever the book says was not delivered.
    ///
    /// After the start, the present status of everything that notifies should be told once with [`Handle::change`], and
    /// [`Handle::reconcile`] called with what exists.
    pub fn start(
        book: Book,
        receivers: Vec<Receiver>,
        registry: &Registry,
        tasks: &TaskTracker,
        stop: CancellationToken,
        settings: Settings,
    ) -> Handle {
        let inbox = Arc::new(Inbox::default());
        let meters = Meters::new(registry);
        let handle = Handle { inbox: Arc::clone(&inbox), book: book.clone() };
        let receivers = receivers.into_iter().map(Arc::new).collect();
        let worker = Worker::new(book, receivers, meters, inbox, tasks.clone(), settings);
        tasks.spawn(worker.run(stop));
        handle
    }
}

/// Talks to the notifier. Cheap to clone; nothing here waits for a disk or a network, but for [`test`](Self::test).
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: Arc<Inbox>,
    book: Book,
}

impl Handle {
    /// Tells a member's status. Telling it again does nothing.
    pub fn change(&self, event: NotifyEvent) {
        self.inbox.push(Command::Change(Box::new(event)));
    }

    /// Something is not looked at any more; `None` for all of the subject.
    pub fn removed(&self, subject: Subject, member: Option<String>) {
        self.inbox.push(Command::Removed(subject, member));
    }

    /// Everything that exists: open episodes about anything else end as removed. Subjects of kind `watchpost` are left out
    /// of it.
    pub fn reconcile(&self, known: BTreeMap<Subject, Vec<String>>) {
        self.inbox.push(Command::Reconcile(known));
    }

    /// Other receivers from now on. What is not delivered is kept, and tried at once.
    pub fn reload(&self, receivers: Vec<Receiver>) {
        self.inbox.push(Command::Reload(receivers.into_iter().map(Arc::new).collect()));
    }

    /// What readers of a page should know about us, such as that this watchpost is cut off; none when all is well.
    pub fn note(&self, notes: Vec<String>) {
        self.inbox.push(Command::Note(notes));
    }

    /// Sends a marked test and its end, and says what came of them.
    pub async fn test(&self, receiver: &str) -> TestResult {
        let (done, result) = oneshot::channel();
        self.inbox.push(Command::Test(receiver.to_owned(), done));
        match tokio::time::timeout(TEST_WAIT, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => TestResult::Failed("watchpost is shutting down".into()),
            Err(_) => TestResult::Pending,
        }
    }

    /// When the receiver last confirmed a page, or a test with its end.
    pub fn evidence(&self, receiver: &str) -> Option<Moment> {
        let now = self.book.now();
        let state = self.book.receivers().into_iter().find(|r| r.name == receiver)?;
        let proofs = [state.last_success, state.last_test_success];
        proofs.into_iter().flatten().min_by_key(|m| m.age(&now).unwrap_or(Duration::MAX))
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut episodes = self.book.episodes();
        episodes.retain(|e| e.state == EpisodeState::Open);
        Snapshot { episodes, outbox: self.book.outbox(), receivers: self.book.receivers() }
    }
}

/// What is open and what is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub episodes: Vec<Episode>,
    pub outbox: Vec<Outbox>,
    pub receivers: Vec<ReceiverState>,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestResult {
    /// Both the test and its end were confirmed.
    Delivered,
    Failed(String),
    NoSuchReceiver,
    /// Neither confirmed nor refused so far.
    Pending,
}
