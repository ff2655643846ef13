//! The thread that owns the file: takes what has queued up, commits it together, tells the callers.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::file::{self, File, Lock};
use super::memory::{Gone, Memory};
use super::rows::{Ping, Write};
use super::{BookError, Failpoint, Options, RIDE, WRITE_WAIT};
use crate::clock;

/// How many requests may wait for the disk.
const MAX_QUEUE: usize = 8192;
/// How many requests go into one commit.
const MAX_BATCH: usize = 1024;
/// How many deletions are remembered while the file has never been open.
const MAX_GONE: usize = 65_536;
/// How often a stalled disk is looked at again. Tests only.
const STALL_STEP: Duration = Duration::from_millis(5);

pub(super) enum Job {
    Write {
        writes: Vec<Write>,
        done: oneshot::Sender<Result<(), BookError>>,
    },
    /// Nobody waits for it.
    Ride {
        writes: Vec<Write>,
    },
    Pings {
        name: String,
        done: oneshot::Sender<Result<Vec<Ping>, BookError>>,
    },
}

impl Job {
    fn writes(&self) -> &[Write] {
        match self {
            Self::Write { writes, .. } | Self::Ride { writes } => writes,
            Self::Pings { .. } => &[],
        }
    }

    fn fail(self, error: &BookError) {
        // A caller that went away does not want to know.
        match self {
            Self::Write { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Ride { .. } => {}
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
#[expect(clippy::struct_excessive_bools, reason = "each is true by itself")]
struct Inner {
    memory: Memory,
    queue: VecDeque<Job>,
    disk: Disk,
    /// What is queued must not wait for more.
    is_pressing: bool,
    /// Since when the disk has been busy with one commit, on the boot clock.
    busy: Option<Duration>,
    stopping: bool,
    tried_at_end: bool,
    announced: bool,
    /// What was deleted while the file could not be opened: it may be in the file still.
    gone: Option<Gone>,
}

impl Inner {
    fn must_commit(&self) -> bool {
        !self.queue.is_empty() && (self.is_pressing || self.stopping)
    }
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
        let gone = (!is_good).then(Gone::new);
        Self::with(Inner { memory, disk, gone, ..Inner::default() })
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

    /// The last commit succeeded, and none has hung for so long that its callers were told that it is slow.
    pub(super) fn writable(&self) -> bool {
        let inner = self.lock();
        let is_slow = |since| clock::boot().saturating_sub(since) > WRITE_WAIT;
        inner.disk == Disk::Good && !inner.busy.is_some_and(is_slow)
    }

    fn set_busy(&self, is_busy: bool) {
        self.lock().busy = is_busy.then(clock::boot);
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
        for write in job.writes() {
            inner.memory.apply(write);
            inner.note_gone(write);
        }
        inner.is_pressing |= !matches!(job, Job::Ride { .. });
        match &inner.disk {
            Disk::Absent => return Err(BookError::MemoryOnly),
            Disk::Behind { why } => return Err(BookError::Disk(why.clone())),
            Disk::Good | Disk::Catching if inner.queue.len() >= MAX_QUEUE => {
                if !job.writes().is_empty() {
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
        let gone = inner.gone.take().unwrap_or_default();
        if let Some(late) = late {
            inner.memory.fill_from(&late, &gone);
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

impl Inner {
    fn note_gone(&mut self, write: &Write) {
        if let (Some(gone), Write::Delete(table, key)) = (&mut self.gone, write)
            && gone.len() < MAX_GONE
        {
            gone.insert((table.name(), key.clone()));
        }
    }
}

/// What the thread does next.
enum Turn {
    Commit(Vec<Job>),
    /// Nothing was written for a while: sees whether it could be.
    Prove,
    WriteDown(Box<Whole>),
    Stop,
}

/// The whole memory, to be written down.
struct Whole {
    memory: Memory,
    /// What was deleted from it before the file was ever open.
    gone: Gone,
    /// What is confirmed with it.
    covered: Vec<Job>,
}

/// Starts the thread; without one the book is in memory for good.
pub(super) fn start(
    dir: &Path,
    (file, lock): (Option<File>, Option<Lock>),
    shared: Arc<Shared>,
    options: Options,
) -> Option<JoinHandle<()>> {
    let is_read = file.is_some();
    let worker = Worker { dir: dir.to_owned(), file, lock, late: None, is_read, shared, options };
    let started = std::thread::Builder::new().name("book".into()).spawn(move || worker.run());
    started.inspect_err(|error| tracing::error!(%error, "the book has no thread")).ok()
}

struct Worker {
    dir: PathBuf,
    file: Option<File>,
    /// The lock outlives a file that is closed to be opened anew.
    lock: Option<Lock>,
    /// Memory has had all that the file holds: what it lacks now was deleted since.
    is_read: bool,
    /// What a file held that could not be read at the start, until it is written down with the rest.
    late: Option<Memory>,
    shared: Arc<Shared>,
    options: Options,
}

impl Worker {
    fn run(mut self) {
        loop {
            let turn = self.next();
            self.shared.set_busy(true);
            match turn {
                Turn::Commit(jobs) => self.commit(jobs),
                Turn::Prove => self.prove(),
                Turn::WriteDown(whole) => self.write_down(*whole),
                Turn::Stop => return,
            }
            self.shared.set_busy(false);
        }
    }

    /// Waits until there is something to do. A disk that failed is tried again after a while, and once more at the end.
    fn next(&self) -> Turn {
        let mut inner = self.shared.lock();
        loop {
            match &inner.disk {
                Disk::Good if inner.must_commit() => {
                    let count = inner.queue.len().min(MAX_BATCH);
                    return Turn::Commit(inner.queue.drain(..count).collect());
                }
                Disk::Good if !inner.queue.is_empty() => inner = self.wait_for_company(inner),
                Disk::Absent => return Turn::Stop,
                Disk::Good | Disk::Catching if inner.stopping => return Turn::Stop,
                Disk::Good | Disk::Catching => {
                    inner.is_pressing &= !inner.queue.is_empty();
                    let patience = self.options.prove_every;
                    let waited = self.shared.wake.wait_timeout(inner, patience);
                    let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                    inner = woken;
                    if waited.timed_out() && inner.queue.is_empty() && inner.disk == Disk::Good {
                        return Turn::Prove;
                    }
                }
                Disk::Behind { .. } if inner.stopping && inner.tried_at_end => return Turn::Stop,
                Disk::Behind { .. } => {
                    inner = self.wait_for_retry(inner);
                    inner.tried_at_end = inner.stopping;
                    inner.disk = Disk::Catching;
                    // Memory has them, and what was refused after them: committed later, they would undo what is newer.
                    let covered = inner.queue.drain(..).collect();
                    let gone = inner.gone.clone().unwrap_or_default();
                    let memory = inner.memory.clone();
                    return Turn::WriteDown(Box::new(Whole { memory, gone, covered }));
                }
            }
        }
    }

    /// Waits for something that cannot wait; whatever is queued then goes with it, or without.
    fn wait_for_company<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let is_alone =
            |inner: &mut Inner| !inner.is_pressing && !inner.stopping && inner.disk == Disk::Good;
        let waited = self.shared.wake.wait_timeout_while(inner, RIDE, is_alone);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.is_pressing = true;
        inner
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
        self.confirm(jobs);
    }

    fn confirm(&self, jobs: Vec<Job>) {
        for job in jobs {
            match job {
                Job::Write { done, .. } => drop(done.send(Ok(()))),
                Job::Ride { .. } => {}
                Job::Pings { name, done } => drop(done.send(self.pings(&name))),
            }
        }
    }

    fn prove(&mut self) {
        let proven =
            hold(&self.options.failpoint, &self.shared).and_then(|()| match &mut self.file {
                Some(file) => file.prove(),
                None => Err(BookError::Disk("it is not open".into())),
            });
        if let Err(error) = proven {
            self.shared.failed(&error);
        }
    }

    fn pings(&self, name: &str) -> Result<Vec<Ping>, BookError> {
        let Some(file) = &self.file else {
            return Err(BookError::Disk("it is not open".into()));
        };
        file.pings(name)
    }

    fn try_commit(&mut self, jobs: &[Job]) -> Result<(), BookError> {
        let writes = writes_of(jobs);
        if writes.is_empty() {
            return Ok(());
        }
        hold(&self.options.failpoint, &self.shared)?;
        self.bound();
        match &mut self.file {
            Some(file) => file.commit(&writes),
            None => Err(BookError::Disk("it is not open".into())),
        }
    }

    fn write_down(&mut self, mut whole: Whole) {
        match self.try_write_down(&mut whole) {
            Ok(late) => {
                self.shared.caught_up(late);
                self.confirm(whole.covered);
            }
            Err(error) => {
                // A handle that saw an I/O error is not to be trusted: the next try opens the file anew.
                if let Some(file) = self.file.take() {
                    self.lock = Some(file.close());
                }
                self.shared.failed(&error);
                for job in whole.covered {
                    job.fail(&error);
                }
            }
        }
    }

    /// Puts memory into the file; answers with what the file held that memory did not know of.
    fn try_write_down(&mut self, whole: &mut Whole) -> Result<Option<Memory>, BookError> {
        hold(&self.options.failpoint, &self.shared)?;
        if let Some(late) = self.reopened()? {
            self.late = Some(late);
        }
        if let Some(late) = &self.late {
            whole.memory.fill_from(late, &whole.gone);
        }
        self.bound();
        match &mut self.file {
            Some(file) => file.replace(&whole.memory, &writes_of(&whole.covered))?,
            None => return Err(BookError::Disk("it is not open".into())),
        }
        Ok(self.late.take())
    }

    fn bound(&self) {
        if let (Some(file), Some(pages)) = (&self.file, self.options.failpoint.pages()) {
            file.set_pages(pages);
        }
    }

    /// Opens the file unless it is open. What a file held that could not be read at the start is returned.
    fn reopened(&mut self) -> Result<Option<Memory>, BookError> {
        if self.file.is_some() {
            return Ok(None);
        }
        let opened = file::reopen(&self.dir, self.lock.take())?;
        let why = opened.why();
        self.lock = opened.lock;
        self.file = opened.file;
        if self.file.is_none() {
            return Err(BookError::Disk(why));
        }
        let is_news = !std::mem::replace(&mut self.is_read, true);
        Ok(is_news.then_some(opened.memory))
    }
}

fn writes_of(jobs: &[Job]) -> Vec<&Write> {
    jobs.iter().flat_map(Job::writes).collect()
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
