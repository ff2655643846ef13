//! The thread that owns the file: takes what has queued up, commits it together, tells the callers.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::file::{self, File, Lock};
use super::memory::Memory;
use super::rows::{Ping, Write};
use super::{BookError, Failpoint, Options};

/// How many requests may wait for the disk.
const MAX_QUEUE: usize = 8192;
/// How many requests go into one commit.
const MAX_BATCH: usize = 1024;
/// How often a stalled disk is looked at again. Tests only.
const STALL_STEP: Duration = Duration::from_millis(5);

pub(super) enum Job {
    Write { writes: Vec<Write>, done: oneshot::Sender<Result<(), BookError>> },
    Pings { name: String, done: oneshot::Sender<Result<Vec<Ping>, BookError>> },
}

impl Job {
    fn fail(self, error: &BookError) {
        // A caller that went away does not want to know.
        match self {
            Self::Write { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Pings { done, .. } => drop(done.send(Err(error.clone()))),
        }
    }
}

/// What callers and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
    errors: AtomicU64,
}

#[derive(Default)]
struct Inner {
    memory: Memory,
    queue: VecDeque<Job>,
    disk: Disk,
    stopping: bool,
    tried_at_end: bool,
    announced: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("disk", &self.disk).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Disk {
    /// There is none and there will be none.
    #[default]
    Absent,
    /// Memory has nothing that the file lacks, but for the queue.
    Good,
    /// Memory is ahead of the file and has to be written down whole.
    Behind { why: String },
    /// It is being written down; what comes meanwhile queues.
    Catching,
}

impl Shared {
    pub(super) fn new(memory: Memory, is_good: bool) -> Self {
        let disk =
            if is_good { Disk::Good } else { Disk::Behind { why: "it was not opened".into() } };
        Self::with(Inner { memory, disk, ..Inner::default() })
    }

    pub(super) fn without_disk() -> Self {
        Self::with(Inner::default())
    }

    fn with(inner: Inner) -> Self {
        Self { inner: Mutex::new(inner), wake: Condvar::new(), errors: AtomicU64::new(0) }
    }

    /// A panic while the lock is held cannot leave half a change: each is one insert.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        look(&self.lock().memory)
    }

    pub(super) fn writable(&self) -> bool {
        self.lock().disk == Disk::Good
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Changes memory and queues the job for the disk.
    pub(super) fn submit(&self, job: Job) -> Result<(), BookError> {
        let mut inner = self.lock();
        if let Job::Write { writes, .. } = &job {
            for write in writes {
                inner.memory.apply(write);
            }
        }
        match &inner.disk {
            Disk::Absent => return Err(BookError::MemoryOnly),
            Disk::Behind { why } => return Err(BookError::Disk(why.clone())),
            Disk::Good | Disk::Catching if inner.queue.len() >= MAX_QUEUE => {
                if matches!(job, Job::Write { .. }) {
                    inner.disk = Disk::Behind { why: "too many writes wait for it".into() };
                }
                return Err(BookError::Busy);
            }
            Disk::Good | Disk::Catching => inner.queue.push_back(job),
        }
        drop(inner);
        self.wake.notify_all();
        Ok(())
    }

    /// The file has what memory had a moment ago, and what came since is queued.
    fn caught_up(&self, late: Option<Memory>) {
        let mut inner = self.lock();
        if let Some(late) = late {
            inner.memory.fill_from(&late);
        }
        // A full queue may have put it behind again.
        if inner.disk == Disk::Catching {
            inner.disk = Disk::Good;
        }
        inner.announced = false;
        drop(inner);
        tracing::info!("the book can be written again");
    }

    fn failed(&self, error: &BookError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let why = match error {
            BookError::Disk(why) => why.clone(),
            other => other.to_string(),
        };
        let mut inner = self.lock();
        if !std::mem::replace(&mut inner.announced, true) {
            tracing::error!(why, "the book cannot be written; going on from memory");
        }
        inner.disk = Disk::Behind { why };
        let queued = std::mem::take(&mut inner.queue);
        drop(inner);
        for job in queued {
            job.fail(error);
        }
    }
}

/// What the thread does next.
enum Turn {
    Commit(Vec<Job>),
    /// Writes the whole memory down.
    WriteDown(Box<Memory>),
    Stop,
}

/// Starts the thread; without one the book is in memory for good.
pub(super) fn start(
    dir: &Path,
    file: Option<File>,
    shared: Arc<Shared>,
    options: Options,
) -> Option<JoinHandle<()>> {
    let worker = Worker { dir: dir.to_owned(), file, lock: None, shared, options };
    let started = std::thread::Builder::new().name("book".into()).spawn(move || worker.run());
    started.inspect_err(|error| tracing::error!(%error, "the book has no thread")).ok()
}

struct Worker {
    dir: PathBuf,
    file: Option<File>,
    /// The lock outlives a file that is closed to be opened anew.
    lock: Option<Lock>,
    shared: Arc<Shared>,
    options: Options,
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.next() {
                Turn::Commit(jobs) => self.commit(jobs),
                Turn::WriteDown(memory) => self.write_down(*memory),
                Turn::Stop => return,
            }
        }
    }

    /// Waits until there is something to do. A disk that failed is tried again after a while, and once more at the end.
    fn next(&self) -> Turn {
        let mut inner = self.shared.lock();
        loop {
            match &inner.disk {
                Disk::Good if !inner.queue.is_empty() => {
                    let count = inner.queue.len().min(MAX_BATCH);
                    return Turn::Commit(inner.queue.drain(..count).collect());
                }
                Disk::Absent => return Turn::Stop,
                Disk::Good | Disk::Catching if inner.stopping => return Turn::Stop,
                Disk::Good | Disk::Catching => {
                    inner = self.shared.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
                Disk::Behind { .. } if inner.stopping && inner.tried_at_end => return Turn::Stop,
                Disk::Behind { .. } => {
                    inner = self.wait_for_retry(inner);
                    inner.tried_at_end = inner.stopping;
                    inner.disk = Disk::Catching;
                    return Turn::WriteDown(Box::new(inner.memory.clone()));
                }
            }
        }
    }

    fn wait_for_retry<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let patience = self.options.retry_every;
        let waited = self.shared.wake.wait_timeout_while(inner, patience, |i| !i.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let result = self.try_commit(&jobs);
        if let Err(error) = &result {
            // First: whoever hears of it looks whether the book can be written.
            self.shared.failed(error);
            for job in jobs {
                job.fail(error);
            }
            return;
        }
        for job in jobs {
            match job {
                Job::Write { done, .. } => drop(done.send(Ok(()))),
                Job::Pings { name, done } => drop(done.send(self.pings(&name))),
            }
        }
    }

    fn pings(&self, name: &str) -> Result<Vec<Ping>, BookError> {
        let Some(file) = &self.file else {
            return Err(BookError::Disk("it is not open".into()));
        };
        file.pings(name)
    }

    fn try_commit(&mut self, jobs: &[Job]) -> Result<(), BookError> {
        let writes = jobs.iter().filter_map(|job| match job {
            Job::Write { writes, .. } => Some(writes),
            Job::Pings { .. } => None,
        });
        let writes: Vec<&Write> = writes.flatten().collect();
        if writes.is_empty() {
            return Ok(());
        }
        hold(&self.options.failpoint, &self.shared)?;
        match &mut self.file {
            Some(file) => file.commit(&writes),
            None => Err(BookError::Disk("it is not open".into())),
        }
    }

    fn write_down(&mut self, memory: Memory) {
        match self.try_write_down(memory) {
            Ok(late) => self.shared.caught_up(late),
            Err(error) => {
                // A handle that saw an I/O error is not to be trusted: the next try opens the file anew.
                if let Some(file) = self.file.take() {
                    self.lock = Some(file.close());
                }
                self.shared.failed(&error);
            }
        }
    }

    /// Puts memory into the file; answers with what the file held that memory did not know of.
    fn try_write_down(&mut self, mut memory: Memory) -> Result<Option<Memory>, BookError> {
        hold(&self.options.failpoint, &self.shared)?;
        let late = self.reopened()?;
        if let Some(late) = &late {
            memory.fill_from(late);
        }
        match &mut self.file {
            Some(file) => file.replace(&memory)?,
            None => return Err(BookError::Disk("it is not open".into())),
        }
        Ok(late)
    }

    /// Opens the file unless it is open. What a file held that could not be read at the start is returned.
    fn reopened(&mut self) -> Result<Option<Memory>, BookError> {
        if self.file.is_some() {
            return Ok(None);
        }
        let was_open = self.lock.is_some();
        let opened = file::reopen(&self.dir, self.lock.take())?;
        match opened.file {
            Some(file) => {
                self.file = Some(file);
                Ok((!was_open).then_some(opened.memory))
            }
            None => Err(BookError::Disk(opened.why())),
        }
    }
}

/// Waits and fails as the failpoint says.
fn hold(failpoint: &Failpoint, shared: &Shared) -> Result<(), BookError> {
    while failpoint.is_stalled() && !shared.lock().stopping {
        std::thread::sleep(STALL_STEP);
    }
    if failpoint.is_full() {
        return Err(BookError::Disk("no space left (failpoint)".into()));
    }
    Ok(())
}
