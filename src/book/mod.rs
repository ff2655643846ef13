//! The durable store: last beats, episodes, outbox, pauses, last statuses.
//!
//! Whatever the book holds is in memory too. A write changes memory at once and is acknowledged when it is on disk:
//! one thread owns the file and commits whatever has queued up since its last commit together. When the disk is full,
//! read-only or broken, memory goes on alone, writes are answered with an error, and the whole memory is written down as
//! soon as the disk takes it again. No SQL and no file is known outside this folder, and no rule about beats or episodes
//! inside it.
//!
//! The file has mode 0600 in a folder of mode 0700. It holds the routing keys with which open episodes were opened
//! ([`Route`]), because a resolve must use the same key even after the key was rotated and watchpost restarted; a key
//! is deleted with the last episode that needs it.

mod file;
mod memory;
mod moment;
mod rows;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use memory::Memory;
pub use moment::Moment;
pub use rows::{
    Beats, Episode, EpisodeState, Evidence, MAX_PING_BODY_BYTES, Member, NoteKind, Outbox, Pause,
    Ping, ReceiverState, Route, Row, Started, StatusRow, Table, Write,
};
use thread::{Job, Shared};

use crate::clock;

/// How long a caller waits for the disk before it is told that the disk is slow.
const WRITE_WAIT: Duration = Duration::from_secs(5);
/// How long what need not be on disk at once waits for something that must.
const RIDE: Duration = Duration::from_secs(1);
/// How many pings of one switch are kept.
pub const MAX_PINGS: u32 = 20;

/// Why something is not on disk. Memory has it all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    #[error("the book in {dir} belongs to another process{}", pid.map(|p| format!(" ({p})")).unwrap_or_default())]
    Locked { dir: String, pid: Option<u32> },
    #[error("the book in {dir} has version {found}; this watchpost knows {known}: run a newer one")]
    Future { dir: String, found: i64, known: i64 },
    /// Full, read-only, or failing.
    #[error("the book cannot be written: {0}")]
    Disk(String),
    #[error("the disk did not confirm within {} s", WRITE_WAIT.as_secs())]
    Slow,
    #[error("more writes wait for the disk than are kept")]
    Busy,
    #[error("the book is in memory only")]
    MemoryOnly,
}

/// What was found when the book was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: this is a new book. Configured switches are armed from now on.
    Nothing,
    /// A book, with this many rows that could not be read and were dropped.
    Existing { unreadable_rows: usize },
    /// A book beyond repair, put aside under this name; started anew.
    Corrupt { kept_as: PathBuf, why: String },
    /// The disk cannot be written: what could be read was read, and memory goes on alone.
    Unwritable { why: String },
    /// No folder was configured.
    NoFolder,
}

/// How the book treats its disk.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often a disk that failed is tried again.
    pub retry_every: Duration,
    /// How long a disk to which nothing was written is believed to be good: then a page is written to see that it is.
    pub prove_every: Duration,
    /// Makes every commit fail or wait, as a broken disk does. For tests.
    pub failpoint: Arc<Failpoint>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retry_every: Duration::from_secs(5),
            prove_every: Duration::from_secs(10),
            failpoint: Arc::default(),
        }
    }
}

/// A disk that can be broken on demand.
#[derive(Debug, Default)]
pub struct Failpoint {
    full: AtomicBool,
    stalled: AtomicBool,
    /// 0: as SQLite would.
    pages: AtomicU32,
}

impl Failpoint {
    /// While set, commits fail as on a full disk.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// While set, commits wait.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// How many pages the file may have: SQLite itself says that it is full when it needs more. `None` is no bound.
    pub fn set_pages(&self, pages: Option<u32>) {
        self.pages.store(pages.unwrap_or(u32::MAX - 1), Ordering::SeqCst);
    }

    fn pages(&self) -> Option<u32> {
        Some(self.pages.load(Ordering::SeqCst)).filter(|pages| *pages > 0)
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }
}

/// The durable store. Cheap to clone; the file is closed when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Book {
    owner: Arc<Owner>,
}

/// Stops the thread when the last [`Book`] is dropped.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    found: Found,
    boot_id: Arc<str>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the book's thread panicked");
        }
    }
}

impl Book {
    /// Opens the book in `dir`, which is created when missing.
    ///
    /// Fails only when the book belongs to somebody else: another process, or a newer watchpost. Blocks for as long as
    /// reading takes.
    pub fn open(dir: &Path) -> Result<Self, BookError> {
        Self::open_with(dir, Options::default())
    }

    pub fn open_with(dir: &Path, options: Options) -> Result<Self, BookError> {
        let opened = file::open(dir)?;
        let boot_id: Arc<str> = clock::boot_id().into();
        let (found, memory) = (opened.found, opened.memory);
        let shared = Arc::new(Shared::new(memory, opened.file.is_some()));
        let disk = (opened.file, opened.lock);
        let thread = thread::start(dir, disk, Arc::clone(&shared), options);
        Ok(Self { owner: Arc::new(Owner { shared, found, boot_id, thread }) })
    }

    /// A book without a disk: it forgets everything with the process and is never [`writable`](Self::writable).
    pub fn in_memory() -> Self {
        Self::in_memory_on(clock::boot_id())
    }

    /// [`in_memory`](Self::in_memory), on the boot of that id.
    pub(crate) fn in_memory_on(boot_id: impl Into<Arc<str>>) -> Self {
        let shared = Arc::new(Shared::without_disk());
        let boot_id = boot_id.into();
        Self { owner: Arc::new(Owner { shared, found: Found::NoFolder, boot_id, thread: None }) }
    }

    pub fn found(&self) -> &Found {
        &self.owner.found
    }

    /// Whether the last thing written is on disk.
    pub fn writable(&self) -> bool {
        self.owner.shared.writable()
    }

    /// Commits that failed, and reads and openings that did.
    pub fn errors(&self) -> u64 {
        self.owner.shared.errors()
    }

    /// This moment, as the book keeps it.
    pub fn now(&self) -> Moment {
        self.moment(clock::now())
    }

    /// `stamp`, which must be of this boot, as the book keeps it.
    pub fn moment(&self, stamp: crate::model::Stamp) -> Moment {
        Moment::new(stamp, Arc::clone(&self.owner.boot_id))
    }

    /// Writes all of `writes` or none of them. `Ok` means that they are on disk; on `Err` they are in memory and follow
    /// when the disk takes them.
    ///
    /// Memory is changed before this returns its future, in the order of the calls.
    pub fn write(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<(), BookError>> + Send + use<> {
        let (done, confirmed) = oneshot::channel();
        let queued = self.owner.shared.submit(Job::Write { writes, done });
        async move {
            queued?;
            match tokio::time::timeout(WRITE_WAIT, confirmed).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(BookError::Disk("the book was closed".into())),
                Err(_) => Err(BookError::Slow),
            }
        }
    }

    /// Writes what a restart can do without: it rides with the next commit, and waits no longer than [`RIDE`] for one.
    pub fn write_later(&self, writes: Vec<Write>) {
        // A disk that fails is told to whoever waits for it.
        drop(self.owner.shared.submit(Job::Ride { writes }));
    }

    /// Records a beat: the switch's row and, where given, the ping itself.
    pub fn record(
        &self,
        beats: Beats,
        ping: Option<Ping>,
    ) -> impl Future<Output = Result<(), BookError>> + Send + use<> {
        let mut writes = vec![Write::put(beats)];
        writes.extend(ping.map(|p| Write::Ping(p.bounded())));
        self.write(writes)
    }

    /// Every switch and source that was ever armed.
    pub fn beats(&self) -> Vec<Beats> {
        self.read(|m| m.beats.values().cloned().collect())
    }

    /// The same, one by one and without copies. `look` is to be quick: writers wait for it.
    pub fn each_beats(&self, look: impl FnMut(&Beats)) {
        self.read(|m| m.beats.values().for_each(look));
    }

    /// Forgets a switch that is no longer configured, with its sources and pings.
    pub fn forget_beats(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<(), BookError>> + Send + use<> {
        let rows = self.read(|m| {
            let of_name = m.beats.iter().filter(|(_, b)| b.name == name);
            of_name.map(|(key, _)| Write::Delete(Table::Beats, key.clone())).collect::<Vec<_>>()
        });
        let writes = rows.into_iter().chain([Write::ForgetPings(name.to_owned())]).collect();
        self.write(writes)
    }

    /// The last pings of a switch, newest first. They are on disk only: empty while it fails.
    pub async fn pings(&self, name: &str) -> Result<Vec<Ping>, BookError> {
        let (done, answer) = oneshot::channel();
        self.owner.shared.submit(Job::Pings { name: name.to_owned(), done })?;
        match tokio::time::timeout(WRITE_WAIT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(BookError::Disk("the book was closed".into())),
            Err(_) => Err(BookError::Slow),
        }
    }

    pub fn pauses(&self) -> Vec<Pause> {
        self.read(|m| m.pauses.values().cloned().collect())
    }

    pub fn statuses(&self) -> Vec<StatusRow> {
        self.read(|m| m.statuses.values().cloned().collect())
    }

    pub fn status(&self, id: &str) -> Option<StatusRow> {
        self.read(|m| m.statuses.get(id).cloned())
    }

    pub fn episodes(&self) -> Vec<Episode> {
        self.read(|m| m.episodes.values().cloned().collect())
    }

    /// Notifications that are not delivered yet, oldest first.
    pub fn outbox(&self) -> Vec<Outbox> {
        let mut rows: Vec<_> = self.read(|m| m.outbox.values().cloned().collect());
        rows.sort_by_key(|row| row.sequence);
        rows
    }

    pub fn receivers(&self) -> Vec<ReceiverState> {
        self.read(|m| m.receivers.values().cloned().collect())
    }

    pub fn route(&self, fingerprint: &str) -> Option<Route> {
        self.read(|m| m.routes.get(fingerprint).cloned())
    }

    pub fn routes(&self) -> Vec<Route> {
        self.read(|m| m.routes.values().cloned().collect())
    }

    fn read<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        self.owner.shared.read(look)
    }
}

#[cfg(test)]
mod tests;
