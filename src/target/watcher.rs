//! Discovery on a thread of its own: files can be slow, and a network file system can hang.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{Discovery, Snapshot, Sources};
use crate::clock;

/// How often files are looked at. It costs one `stat` for a file.
pub const POLL: Duration = Duration::from_secs(1);
/// Reloads that wait for a look to end.
const MAX_REQUESTS: usize = 16;

/// Reading goes on until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    requests: SyncSender<Request>,
    snapshots: watch::Receiver<Snapshot>,
}

#[derive(Debug)]
struct Request {
    sources: Vec<Sources>,
    reply: oneshot::Sender<Snapshot>,
}

/// The thread ended, or is stuck in a file system and has too many requests waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("discovery does not answer; a file system may hang")]
pub struct Stuck;

impl Watcher {
    /// Starts the thread; `poll` is [`POLL`] outside of tests.
    pub fn start(discovery: Discovery, poll: Duration) -> io::Result<Self> {
        let (requests, received) = sync_channel(MAX_REQUESTS);
        let (publish, snapshots) = watch::channel(Snapshot::default());
        thread::Builder::new()
            .name("discovery".to_owned())
            .spawn(move || watch_files(discovery, poll, &received, &publish))?;
        Ok(Self { requests, snapshots })
    }

    /// Takes over a new configuration; gives all targets as they are now, which are published as well.
    ///
    /// It waits for files. Bound the wait where a hanging file system must not keep the process from starting.
    pub async fn configure(&self, sources: Vec<Sources>) -> Result<Snapshot, Stuck> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request { sources, reply }).map_err(|_| Stuck)?;
        answer.await.map_err(|_| Stuck)
    }

    /// The newest targets of all probes. It is closed when the thread has ended, which only a defect does.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.clone()
    }
}

fn watch_files(
    mut discovery: Discovery,
    poll: Duration,
    requests: &Receiver<Request>,
    publish: &watch::Sender<Snapshot>,
) {
    loop {
        match requests.recv_timeout(poll) {
            Ok(request) => {
                let snapshot = discovery.configure(request.sources, clock::now());
                publish.send_replace(snapshot.clone());
                // Whoever asked may have stopped waiting.
                request.reply.send(snapshot).ok();
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(snapshot) = discovery.refresh(clock::now()) {
                    publish.send_replace(snapshot);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
