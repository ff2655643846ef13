//! The world around one process: clocks, a disk that keeps what was written, jobs that beat, pagers that hear, and what
//! is true of each job whatever the process believes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pagers::Pagers;
use super::process::{Configuration, Killed, Process, spec};
use crate::book::{Book, EpisodeState, NoteKind, Outbox, Row, Write};
use crate::deadman::{BeatKind, SETTLE, Wanted};
use crate::model::Stamp;
use crate::notify::{Boundary, Subject, dedup_key};

/// Between two looks while nothing is due. A longer gap would count as a suspend.
pub(super) const LONGEST_STEP: u64 = 15;
/// When the wall clock is right, the world's second 0 is this one of the Unix epoch.
const WALL: i64 = 1_800_000_000;
/// The machine had been up for this long.
const UPTIME: u64 = 100;

/// Silence is told within this long where nothing was in the way.
const SHORT: u64 = SETTLE.as_secs() + LONGEST_STEP + 5;
/// … and within this long after what was in the way: a refusal is tried every quarter of an hour.
pub(super) const LONG: u64 = 16 * 60;
/// A receiver that asked for patience is left alone for this long at most.
const RETRY_AFTER: u64 = 300;
/// An event that was accepted and lost is told again with the hourly repeat.
const REPEAT: u64 = 3_600;

/// Something that beats, and its switch.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is true of a job by itself")]
pub(super) struct Job {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) interval: u64,
    pub(super) grace: u64,
    /// It beats by itself.
    pub(super) runs: bool,
    next: u64,
    pub(super) configured: bool,
    /// When its switch was first loaded, and whether that is on disk.
    armed: u64,
    is_armed_for_good: bool,
    /// The last beat that was sent while somebody listened, and the last one that was confirmed.
    sent: Option<u64>,
    confirmed: Option<u64>,
    /// A confirmed failure that nothing followed.
    failed: Option<u64>,
    may_have_failed: bool,
    started: Option<u64>,
    paused_until: u64,
}

impl Job {
    const fn limit(&self) -> u64 {
        self.interval + self.grace
    }

    /// Since when its switch must fail, if it must.
    fn bad_since(&self, at: u64) -> Option<u64> {
        let base = self.armed.max(self.sent.unwrap_or_default());
        let silent = Some(base + self.limit()).filter(|limit| *limit <= at);
        [silent, self.failed].into_iter().flatten().min().map(|since| since.max(self.paused_until))
    }

    /// Whether its switch has any right to fail.
    fn may_be_bad(&self, at: u64) -> bool {
        let base = self.armed.max(self.confirmed.unwrap_or_default());
        let overran = self.started.is_some_and(|started| at + 1 >= started + self.grace);
        at + 1 >= base + self.limit() || self.may_have_failed || overran
    }

    pub(super) fn key(&self) -> String {
        dedup_key(&Subject::deadman(&*self.name), None)
    }
}

/// What a kill leaves.
#[derive(Debug, Default)]
struct Disk {
    rows: Vec<Row>,
    is_full: bool,
}

pub(super) struct World {
    pub(super) at: u64,
    /// When each boot began.
    boots: Vec<u64>,
    /// How far the wall clock is off, in milliseconds.
    off: i64,
    was_set: bool,
    disk: Disk,
    pub(super) process: Option<Process>,
    pub(super) configuration: Configuration,
    pub(super) pagers: Pagers,
    pub(super) jobs: Vec<Job>,
    die_at: Option<Boundary>,
    /// Until when nobody could be told, something was not as it should be, and an event may have been lost.
    troubled: u64,
    disturbed: u64,
    lossy: u64,
    /// The wall clock lied over a reboot: ages are not known.
    is_clock_suspect: bool,
    /// Pages whose end cannot be known any more.
    orphans: Vec<String>,
    pub(super) violations: Vec<String>,
    pub(super) decided: Vec<Outbox>,
}

impl World {
    /// Jobs by interval and grace, beating, and a process that listens.
    pub(super) fn new(jobs: &[(u64, u64)]) -> Self {
        let jobs: Vec<Job> = jobs.iter().enumerate().map(|(i, times)| job(i, *times)).collect();
        let configuration = Configuration { specs: Vec::new(), routing_key: "key-0".into() };
        let mut world = Self {
            at: 0,
            boots: vec![0],
            off: 0,
            was_set: false,
            disk: Disk::default(),
            process: None,
            configuration,
            pagers: Pagers::new(),
            jobs,
            die_at: None,
            troubled: 0,
            disturbed: 0,
            lossy: 0,
            is_clock_suspect: false,
            orphans: Vec::new(),
            violations: Vec::new(),
            decided: Vec::new(),
        };
        world.configure();
        world.start();
        world
    }

    pub(super) fn now(&self) -> Stamp {
        let boot = Duration::from_secs(self.at - self.booted() + UPTIME);
        let wall = WALL * 1_000 + i64::try_from(self.at * 1_000).unwrap() + self.off;
        Stamp::new(Timestamp::from_millisecond(wall).unwrap(), boot)
    }

    fn booted(&self) -> u64 {
        *self.boots.last().unwrap()
    }

    fn configure(&mut self) {
        let configured = self.jobs.iter().filter(|job| job.configured);
        let specs = configured.map(|job| spec(&job.name, &job.uuid, job.interval, job.grace));
        self.configuration.specs = specs.collect();
        self.pagers.routing_key.clone_from(&self.configuration.routing_key);
    }

    // The process.

    pub(super) fn start(&mut self) {
        let now = self.now();
        self.start_with(|book, configuration| Process::start(book, configuration, now));
    }

    pub(super) fn start_with(&mut self, start: impl FnOnce(Book, &Configuration) -> Process) {
        if self.process.is_some() {
            return;
        }
        self.disturbed = self.disturbed.max(self.at);
        let boot_id: Arc<str> = format!("boot-{}", self.boots.len()).into();
        let book = Book::in_memory_on(boot_id);
        let rows = self.disk.rows.iter().cloned().map(|row| Write::Put(Box::new(row)));
        drop(book.write(rows.collect()));
        for job in self.jobs.iter_mut().filter(|job| job.configured && !job.is_armed_for_good) {
            job.armed = self.at;
        }
        let mut process = start(book, &self.configuration);
        process.die_at = self.die_at.take();
        self.process = Some(process);
        self.sync();
        self.turn();
    }

    /// Everything that was written is on the disk.
    pub(super) fn kill(&mut self) {
        self.copy_disk();
        self.bury();
    }

    /// Only what was on the disk when it was last looked at is there.
    fn bury(&mut self) {
        let Some(process) = self.process.take() else { return };
        if self.disk.is_full {
            // An end that was told meanwhile is in no book: what fails again is told with the hourly repeat.
            self.lossy = self.at;
            // What was told and is in no book: nobody will know that it is to be ended.
            let kept = self.disk.rows.iter().filter_map(|row| match row {
                Row::Episodes(episode) => Some(episode.id.clone()),
                _ => None,
            });
            let kept: Vec<String> = kept.collect();
            let lost = process.book.episodes().into_iter().filter(|e| !kept.contains(&e.id));
            self.orphans.extend(lost.map(|episode| episode.key));
        }
        self.disturbed = self.disturbed.max(self.at);
    }

    pub(super) fn kill_at(&mut self, boundary: Boundary) {
        match &mut self.process {
            Some(process) => {
                process.die_at = Some(boundary);
                self.copy_disk();
            }
            None => self.die_at = Some(boundary),
        }
    }

    /// It does not die any more.
    pub(super) fn spare(&mut self) {
        self.start();
        if let Some(process) = &mut self.process {
            process.die_at = None;
        }
    }

    /// The machine starts again, after a while, with the wall clock at the truth or where it says.
    pub(super) fn reboot(&mut self, down: u64, wall: Option<i64>) {
        self.kill();
        self.wait_without(down);
        self.boots.push(self.at);
        if self.was_set || wall.is_some() {
            self.is_clock_suspect = true;
            for job in &mut self.jobs {
                job.sent = job.sent.max(Some(self.at));
                job.failed = None;
                // Nobody knows how much of the pause went by.
                if job.paused_until > self.at - down {
                    job.paused_until += down;
                }
            }
        }
        self.off =
            wall.map_or(0, |wall| (wall - WALL) * 1_000 - i64::try_from(self.at * 1_000).unwrap());
        self.was_set |= wall.is_some();
        self.start();
    }

    /// Somebody sets the clock.
    pub(super) fn step(&mut self, seconds: i64) {
        self.off += seconds * 1_000;
        self.was_set = true;
    }

    /// The clock drifts.
    pub(super) fn slew(&mut self, milliseconds: i64) {
        self.off += milliseconds;
    }

    /// The machine sleeps; only the boot clock goes on.
    pub(super) fn suspend(&mut self, seconds: u64) {
        self.wait_without(seconds);
        self.disturbed = self.disturbed.max(self.at);
        self.turn();
    }

    /// Time passes, and nobody looks.
    pub(super) fn wait_without(&mut self, seconds: u64) {
        self.at += seconds;
        self.troubled = self.at;
        self.disturbed = self.disturbed.max(self.at);
        for job in &mut self.jobs {
            while job.next < self.at {
                job.next += job.interval;
            }
        }
    }

    fn copy_disk(&mut self) {
        if let Some(process) = self.process.as_ref().filter(|_| !self.disk.is_full) {
            self.disk.rows = rows(&process.book);
        }
    }

    /// What was written is on the disk from here on. It is looked at only where somebody is about to die.
    fn sync(&mut self) {
        if self.process.as_ref().is_some_and(|process| process.die_at.is_some()) {
            self.copy_disk();
        }
        if self.process.is_some() && !self.disk.is_full {
            for job in self.jobs.iter_mut().filter(|job| job.configured) {
                job.is_armed_for_good = true;
            }
        }
    }

    /// What the owner and the notifier do when they are woken.
    pub(super) fn turn(&mut self) {
        let now = self.now();
        if let Some(mut process) = self.process.take() {
            process.judge(now);
            let ended = self.pass(&mut process, now);
            self.process = Some(process);
            match ended {
                Ok(()) => self.sync(),
                Err(Killed) => self.bury(),
            }
        }
        self.check();
    }

    fn pass(&mut self, process: &mut Process, now: Stamp) -> Result<(), Killed> {
        let is_dying = process.die_at.is_some();
        let writes = process.decide(now);
        if !writes.is_empty() {
            process.dies_at(Boundary::Decided)?;
            self.check_decisions(&writes);
            drop(process.book.write(writes));
            if is_dying && !self.disk.is_full {
                self.disk.rows = rows(&process.book);
            }
            self.check_episodes(&process.book);
            process.dies_at(Boundary::Written)?;
        }
        let (disk, at) = (&mut self.disk, self.at);
        process.send(&mut self.pagers, at, now, |book, writes| {
            drop(book.write(writes));
            if is_dying && !disk.is_full {
                disk.rows = rows(book);
            }
        })
    }

    // What happens.

    /// Lets time pass, and everything happen that is due.
    pub(super) fn pass_time(&mut self, seconds: u64) {
        let end = self.at + seconds;
        while self.at < end && self.violations.is_empty() {
            self.at = self.next(end);
            self.beat_all();
            self.turn();
        }
    }

    fn next(&self, end: u64) -> u64 {
        let beats = self.jobs.iter().filter(|job| job.runs).map(|job| job.next);
        let due = self.process.as_ref().and_then(|process| {
            let next = process.beats.board().next(self.now())?;
            // A deadline between two seconds is seen at the later one.
            let seconds = next.boot.as_secs() + u64::from(next.boot.subsec_nanos() > 0);
            Some((seconds + self.booted()).saturating_sub(UPTIME))
        });
        let next = beats.chain(due).filter(|next| *next > self.at).min().unwrap_or(end);
        next.min(end).min(self.at + LONGEST_STEP)
    }

    fn beat_all(&mut self) {
        for index in 0..self.jobs.len() {
            let job = &mut self.jobs[index];
            if job.runs && job.next <= self.at {
                job.next = self.at + job.interval;
                self.beat(index, BeatKind::Success);
            }
        }
    }

    pub(super) fn beat(&mut self, index: usize, kind: BeatKind) {
        let now = self.now();
        let Some(process) = &self.process else { return };
        let job = &mut self.jobs[index];
        process.beat(&job.uuid, kind, now);
        let is_confirmed = !self.disk.is_full;
        match kind {
            BeatKind::Start => job.started = Some(self.at),
            BeatKind::Success => {
                job.sent = Some(self.at);
                job.failed = None;
                if is_confirmed {
                    job.confirmed = Some(self.at);
                    job.may_have_failed = false;
                    job.started = None;
                }
            }
            _ => {
                job.sent = Some(self.at);
                job.may_have_failed = true;
                if is_confirmed {
                    job.confirmed = Some(self.at);
                    job.failed = Some(self.at);
                    job.started = None;
                }
            }
        }
        self.sync();
        self.turn();
    }

    pub(super) fn run_job(&mut self, index: usize, runs: bool) {
        self.jobs[index].runs = runs;
        self.jobs[index].next = self.at + 1;
    }

    pub(super) fn pause(&mut self, index: usize, seconds: u64) {
        let now = self.now();
        if self.disk.is_full {
            return;
        }
        let Some(process) = &self.process else { return };
        let job = &mut self.jobs[index];
        if !job.configured {
            return;
        }
        let lasts = Duration::from_secs(seconds);
        let wanted =
            Wanted { begins_in: Duration::ZERO, lasts, reason: "maintenance", by: "history" };
        if process.beats.board().pause(&job.name, wanted, now).is_ok() {
            process.keep_pauses();
            job.paused_until = job.paused_until.max(self.at + seconds);
        }
        self.sync();
        self.turn();
    }

    /// A new configuration, taken over at once or by the next process.
    pub(super) fn reload(&mut self) {
        let now = self.now();
        self.configure();
        if let Some(process) = &mut self.process {
            process.reload(&self.configuration, now);
            self.disturbed = self.disturbed.max(self.at);
            self.sync();
            self.turn();
        }
    }

    /// Seen by a process that can write it down; what a restart makes of it is a case of its own.
    pub(super) fn remove(&mut self, index: usize) {
        if self.process.is_none() || self.disk.is_full {
            return;
        }
        self.jobs[index].configured = false;
        self.jobs[index].may_have_failed |= self.disk.is_full;
        self.reload();
    }

    pub(super) fn add_again(&mut self, index: usize) {
        let at = self.at;
        let fresh = job(index, (self.jobs[index].interval, self.jobs[index].grace));
        let job = &mut self.jobs[index];
        if job.configured || self.process.is_none() || self.disk.is_full {
            return;
        }
        let (name, runs, next) = (std::mem::take(&mut job.name), job.runs, job.next);
        // While the disk is full, the old state cannot be deleted.
        let may_have_failed = self.disk.is_full || job.may_have_failed;
        *job = Job { name, runs, next, armed: at, may_have_failed, ..fresh };
        self.reload();
    }

    /// A new routing key. Not while a page is under way: whether it was heard with the old one is not known then.
    pub(super) fn rotate(&mut self, routing_key: String) {
        if self.process.as_ref().is_some_and(|process| process.book.outbox().is_empty()) {
            self.configuration.routing_key = routing_key;
            self.reload();
        }
    }

    pub(super) fn set_disk_full(&mut self, is_full: bool) {
        self.copy_disk();
        self.disk.is_full = is_full;
        self.pagers.forget_keys |= is_full;
        self.sync();
    }

    // What must hold.

    fn fail(&mut self, what: &str) {
        self.violations.push(format!("at {} s: {what}", self.at));
    }

    fn check(&mut self) {
        let at = self.at;
        if self.process.is_none() || !self.pagers.somebody_hears() {
            self.troubled = at;
        }
        if self.process.is_none() || self.disk.is_full {
            self.disturbed = self.disturbed.max(at);
        }
        if !self.pagers.all_good() {
            self.disturbed = at + RETRY_AFTER;
        }
        if self.pagers.loses() {
            self.lossy = at;
        }
        self.violations.append(&mut self.pagers.broken);
        if !self.violations.is_empty() {
            return;
        }
        let mut unheard = Vec::new();
        for job in self.jobs.iter().filter(|job| job.configured && job.paused_until <= at) {
            let Some(since) = job.bad_since(at) else { continue };
            let bound = if self.lossy > 0 && self.lossy + LONG + REPEAT > since {
                since.max(self.lossy).max(self.troubled) + REPEAT + LONG
            } else if self.disturbed + LONGEST_STEP < since && !self.is_clock_suspect {
                since + SHORT
            } else {
                since.max(self.troubled) + LONG
            };
            if at > bound && !self.pagers.is_open(&job.key()) {
                unheard.push(format!("{} fails since {since} s and nobody was told", job.name));
            }
        }
        for what in unheard {
            self.fail(&what);
        }
    }

    /// No page without cause.
    fn check_decisions(&mut self, writes: &[Write]) {
        let mut stand_ins = Vec::new();
        let mut triggers = Vec::new();
        for write in writes {
            let Write::Put(row) = write else { continue };
            match &**row {
                Row::Episodes(episode) if episode.instead_of.is_some() => {
                    stand_ins.push(episode.id.clone());
                }
                Row::Outbox(row) if row.attempts == 0 && row.kind == NoteKind::Trigger => {
                    triggers.push(row.clone());
                }
                _ => {}
            }
        }
        for row in triggers {
            let is_stand_in = row.episode.as_ref().is_some_and(|id| stand_ins.contains(id));
            let job = self.jobs.iter().find(|job| job.key() == row.key);
            let is_just = job.is_none_or(|job| job.may_be_bad(self.at));
            if !is_stand_in && !is_just && !self.is_clock_suspect && !self.was_told(&row) {
                let name = job.map(|job| job.name.clone()).unwrap_or_default();
                self.fail(&format!("{name} is well and somebody is told"));
            }
            self.decided.push(row);
        }
    }

    /// A row that is written once more is no new decision.
    fn was_told(&self, row: &Outbox) -> bool {
        self.decided.iter().any(|known| known.id == row.id)
    }

    fn check_episodes(&mut self, book: &Book) {
        let mut open: BTreeMap<(String, String), usize> = BTreeMap::new();
        for episode in book.episodes().into_iter().filter(|e| e.state == EpisodeState::Open) {
            *open.entry((episode.receiver, episode.name)).or_default() += 1;
        }
        for ((receiver, name), count) in open {
            if count > 1 {
                self.fail(&format!("{count} episodes of {name} are open for {receiver}"));
            }
        }
    }

    /// After a long calm: whoever fails is told of, whoever is well is not, and nothing is under way.
    pub(super) fn check_calm(&mut self) {
        let mut wrong = Vec::new();
        let outbox = self.process.as_ref().map(|p| p.book.outbox()).unwrap_or_default();
        wrong.extend(outbox.iter().map(|row| {
            format!(
                "{} to {} is not delivered: {:?}",
                row.kind.label(),
                row.receiver,
                row.last_error
            )
        }));
        for (slot, (_, name)) in &self.pagers.open {
            let (receiver, key) = slot;
            let job = self.jobs.iter().find(|job| job.configured && job.key() == *key);
            let fails = job.is_some_and(|job| job.may_be_bad(self.at));
            let is_lost = self.pagers.lost_ends.contains(slot) || self.orphans.contains(key);
            if !fails && !is_lost {
                wrong.push(format!("{receiver} was never told that {name} is over"));
            }
        }
        for what in wrong {
            self.fail(&what);
        }
    }
}

fn job(index: usize, (interval, grace): (u64, u64)) -> Job {
    Job {
        uuid: format!("c5d1f1e0-8b67-4c5f-9d43-{index:012}"),
        name: format!("job-{index}"),
        interval,
        grace,
        runs: true,
        next: 1 + index as u64,
        configured: true,
        armed: 0,
        is_armed_for_good: false,
        sent: None,
        confirmed: None,
        failed: None,
        may_have_failed: false,
        started: None,
        paused_until: 0,
    }
}

/// Everything that the book holds.
fn rows(book: &Book) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(book.beats().into_iter().map(Row::Beats));
    rows.extend(book.episodes().into_iter().map(Row::Episodes));
    rows.extend(book.outbox().into_iter().map(Row::Outbox));
    rows.extend(book.pauses().into_iter().map(Row::Pauses));
    rows.extend(book.statuses().into_iter().map(Row::Statuses));
    rows.extend(book.receivers().into_iter().map(Row::Receivers));
    rows.extend(book.routes().into_iter().map(Row::Routes));
    rows
}
