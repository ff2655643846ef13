//! The world around one process: clocks, a disk that keeps what was written, jobs that beat, pagers that hear, and what
//! is true of each job whatever the process believes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pagers::Pagers;
use super::process::{Configuration, Killed, Process, spec};
use crate::book::{Book, Episode, EpisodeState, NoteKind, Outbox, Row, Write};
use crate::deadman::{BeatKind, SETTLE, Wanted};
use crate::model::Stamp;
use crate::notify::{Boundary, Subject, dedup_key};

/// Between two looks while nothing is due. A longer gap would count as a suspend.
pub(super) const LONGEST_STEP: u64 = 19;
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
    /// The dedup key of its pages.
    key: String,
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
    longest_pause: u64,
    /// Nobody is told before then. Earlier than `paused_until` where the pause may be over or forgotten.
    silent_until: u64,
    gone: Gone,
    /// How often it took another name, and when it did last: people are told anew then.
    renames: u32,
    renamed: u64,
}

/// How far it is known that a switch was removed from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// It was not, or no process has seen it.
    No,
    /// A process has seen it and could not write it down: with that process it is forgotten.
    Seen,
    /// What was kept of it is deleted.
    ForGood,
}

impl Job {
    const fn limit(&self) -> u64 {
        self.interval + self.grace
    }

    /// Since when its switch must fail, if it must.
    fn bad_since(&self, at: u64) -> Option<u64> {
        let base = self.armed.max(self.sent.unwrap_or_default());
        let silent = Some(base + self.limit()).filter(|limit| *limit <= at);
        let since = [silent, self.failed].into_iter().flatten().min()?;
        Some(since.max(self.paused_until).max(self.renamed))
    }

    /// From when its silence counts.
    fn base(&self) -> u64 {
        self.armed.max(self.confirmed.unwrap_or_default())
    }

    /// Whether its switch has any right to fail.
    fn may_be_bad(&self, at: u64, doubt: Doubt) -> bool {
        let later = at + 1 + doubt.drift;
        let overran = self
            .started
            .is_some_and(|started| later >= started + self.grace || started < doubt.since);
        let is_silent = later >= self.base() + self.limit() || self.base() < doubt.since;
        is_silent || self.may_have_failed || overran
    }
}

/// What a kill leaves.
#[derive(Debug, Default)]
struct Disk {
    rows: Vec<Row>,
    is_full: bool,
    is_read_only: bool,
}

impl Disk {
    /// Nothing more can be written; what is there is read.
    const fn is_stuck(&self) -> bool {
        self.is_full || self.is_read_only
    }
}

/// How sure the times of earlier boots are: only the wall clock leads there.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    /// Of what happened before, nobody knows for how long ago it was.
    since: u64,
    /// How far the wall clock had drifted when it was last trusted, in seconds.
    drift: u64,
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
    lossy: Option<u64>,
    doubt: Doubt,
    /// How the clocks stand on this boot could be written down.
    is_anchored: bool,
    pub(super) violations: Vec<String>,
    pub(super) decided: Vec<Outbox>,
}

impl World {
    /// Jobs by interval and grace, beating, and a process that listens.
    pub(super) fn new(jobs: &[(u64, u64)]) -> Self {
        let jobs: Vec<Job> = jobs.iter().enumerate().map(|(i, times)| fresh(i, *times)).collect();
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
            lossy: None,
            doubt: Doubt::default(),
            is_anchored: true,
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
        if !self.is_anchored && self.was_set {
            // Each process on this boot has to begin anew: the one before could not say what it took for the time.
            self.doubt_ages();
        }
        self.see_removals();
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
        if self.disk.is_stuck() {
            // An end that was told meanwhile is in no book: what fails again is told with the hourly repeat.
            self.lossy = Some(self.at);
            self.orphan_what_is_lost(&process.book);
        }
        for job in self.jobs.iter_mut().filter(|job| job.gone == Gone::Seen) {
            job.gone = Gone::No;
        }
        self.disturbed = self.disturbed.max(self.at);
    }

    /// What was told and is in no book, or not with which key: nobody will know how it is to be ended.
    fn orphan_what_is_lost(&mut self, book: &Book) {
        let kept: BTreeMap<&str, Option<&str>> = self
            .disk
            .rows
            .iter()
            .filter_map(|row| match row {
                Row::Episodes(episode) => Some((&*episode.id, episode.route.as_deref())),
                _ => None,
            })
            .collect();
        let is_lost =
            |e: &Episode| kept.get(&*e.id).is_none_or(|route| *route != e.route.as_deref());
        let told = book.episodes().into_iter().filter(is_lost).map(|e| (e.receiver, e.key));
        // An end that nobody took yet, of an episode that may be forgotten already.
        let ends = book.outbox().into_iter().filter(|row| row.kind.ends());
        let lost: Vec<_> = told.chain(ends.map(|row| (row.receiver, row.key))).collect();
        for (slot, incident) in &mut self.pagers.open {
            let is_it =
                |(receiver, key): &(String, String)| slot.receiver == *receiver && slot.key == *key;
            incident.is_orphan |= lost.iter().any(is_it);
        }
    }

    /// Nobody knows how long ago what happened before was: it counts as just now.
    fn doubt_ages(&mut self) {
        self.doubt.since = self.at;
        for job in &mut self.jobs {
            job.sent = job.sent.max(Some(self.at));
            job.silent_until = 0;
        }
    }

    fn see_removals(&mut self) {
        let can_write = !self.disk.is_stuck();
        for job in self.jobs.iter_mut().filter(|job| !job.configured && job.gone != Gone::ForGood) {
            job.gone = if can_write { Gone::ForGood } else { Gone::Seen };
        }
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
        self.is_anchored = false;
        if self.was_set || wall.is_some() {
            self.prolong_pauses();
        } else {
            self.doubt.drift += self.off.unsigned_abs().div_ceil(1_000);
        }
        self.off =
            wall.map_or(0, |wall| (wall - WALL) * 1_000 - i64::try_from(self.at * 1_000).unwrap());
        self.was_set |= wall.is_some();
        self.start();
    }

    /// Time counts as none from the newest mark on. That is the pause itself, at worst: then it begins once more.
    fn prolong_pauses(&mut self) {
        let bases = self.jobs.iter().filter(|job| job.configured).map(Job::base);
        let newest = bases.max().unwrap_or_default();
        for job in self.jobs.iter_mut().filter(|job| job.longest_pause > 0) {
            if self.was_set || job.paused_until > newest {
                job.paused_until = job.paused_until.max(self.at + job.longest_pause);
            }
        }
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
        if let Some(process) = self.process.as_ref().filter(|_| !self.disk.is_stuck()) {
            self.disk.rows = rows(&process.book);
        }
    }

    /// What was written is on the disk from here on. It is looked at only where somebody is about to die.
    fn sync(&mut self) {
        if self.process.as_ref().is_some_and(|process| process.die_at.is_some()) {
            self.copy_disk();
        }
        if self.process.is_none() || self.disk.is_stuck() {
            return;
        }
        self.is_anchored = true;
        for job in &mut self.jobs {
            job.is_armed_for_good |= job.configured;
        }
        self.see_removals();
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
            if is_dying && !self.disk.is_stuck() {
                self.disk.rows = rows(&process.book);
            }
            self.check_episodes(&process.book);
            process.dies_at(Boundary::Written)?;
        }
        let (disk, at) = (&mut self.disk, self.at);
        process.send(&mut self.pagers, at, now, |book, writes| {
            drop(book.write(writes));
            if is_dying && !disk.is_stuck() {
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
                self.send(index, BeatKind::Success);
            }
        }
    }

    pub(super) fn beat(&mut self, index: usize, kind: BeatKind) {
        self.send(index, kind);
        self.turn();
    }

    /// A beat that is judged with the next turn.
    fn send(&mut self, index: usize, kind: BeatKind) {
        let now = self.now();
        let Some(process) = &self.process else { return };
        // Answered with 503: it does not count.
        if self.disk.is_stuck() {
            return;
        }
        let job = &mut self.jobs[index];
        if !job.configured {
            return;
        }
        process.beat(&job.uuid, kind, now);
        if kind == BeatKind::Start {
            job.started = Some(self.at);
        } else {
            job.sent = Some(self.at);
            job.confirmed = Some(self.at);
            job.started = None;
            job.may_have_failed = kind != BeatKind::Success;
            job.failed = job.may_have_failed.then_some(self.at);
        }
        self.sync();
    }

    pub(super) fn run_job(&mut self, index: usize, runs: bool) {
        self.jobs[index].runs = runs;
        self.jobs[index].next = self.at + 1;
    }

    pub(super) fn pause(&mut self, index: usize, seconds: u64) {
        let now = self.now();
        if self.disk.is_stuck() {
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
            job.longest_pause = job.longest_pause.max(seconds);
            job.silent_until = job.silent_until.max(self.at + seconds);
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

    /// Taken out of the configuration, whether or not a process sees it and can write it down.
    pub(super) fn remove(&mut self, index: usize) {
        if !self.jobs[index].configured {
            return;
        }
        self.jobs[index].configured = false;
        self.reload();
        if self.process.is_some() {
            self.see_removals();
        }
    }

    /// Put back. Where nobody has seen that it was gone it goes on; else it begins anew.
    pub(super) fn add_again(&mut self, index: usize) {
        let at = self.at;
        let job = &mut self.jobs[index];
        if job.configured {
            return;
        }
        job.configured = true;
        if job.gone != Gone::No {
            let fresh = fresh(index, (job.interval, job.grace));
            // What could not be deleted comes back with the next process: it was silent for longer, or is paused.
            let may_come_back = job.gone == Gone::Seen;
            let paused = (job.paused_until, job.longest_pause);
            let (paused_until, longest_pause) = if may_come_back { paused } else { (0, 0) };
            let (name, key) = (std::mem::take(&mut job.name), std::mem::take(&mut job.key));
            let (runs, next, renames) = (job.runs, job.next, job.renames);
            let may_have_failed = may_come_back;
            *job = Job {
                name,
                key,
                runs,
                next,
                renames,
                armed: at,
                may_have_failed,
                paused_until,
                longest_pause,
                ..fresh
            };
        }
        self.reload();
    }

    /// Another name under the same uuid. A pause belongs to a name, and names do not come back.
    pub(super) fn rename(&mut self, index: usize) {
        let job = &mut self.jobs[index];
        if !job.configured {
            return;
        }
        job.renames += 1;
        job.renamed = self.at;
        job.name = format!("job-{index}-{}", job.renames);
        job.key = key_of(&job.name);
        job.paused_until = job.paused_until.min(self.at);
        job.longest_pause = 0;
        job.silent_until = 0;
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
        self.sync();
    }

    pub(super) fn set_disk_read_only(&mut self, is_read_only: bool) {
        self.copy_disk();
        self.disk.is_read_only = is_read_only;
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
        if self.process.is_none() || self.disk.is_stuck() {
            self.disturbed = self.disturbed.max(at);
        }
        if !self.pagers.all_good() {
            self.disturbed = at + RETRY_AFTER;
        }
        if self.pagers.loses() {
            self.lossy = Some(at);
        }
        if !self.violations.is_empty() {
            return;
        }
        let mut unheard = Vec::new();
        for job in self.jobs.iter().filter(|job| job.configured && job.paused_until <= at) {
            let Some(since) = job.bad_since(at) else { continue };
            let lossy = self.lossy.filter(|lossy| lossy + LONG + REPEAT > since);
            let bound = if let Some(lossy) = lossy {
                since.max(lossy).max(self.troubled) + REPEAT + LONG
            } else if self.disturbed + LONGEST_STEP < since && job.base() >= self.doubt.since {
                since + SHORT + self.doubt.drift
            } else {
                since.max(self.troubled) + LONG
            };
            if at > bound && !self.pagers.is_open(&job.key) {
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
            if !is_stand_in && !self.was_told(&row) {
                self.check_cause(&row);
            }
            self.decided.push(row);
        }
    }

    fn check_cause(&mut self, row: &Outbox) {
        let name = row.payload.get("name").and_then(|name| name.as_str()).unwrap_or_default();
        let Some(job) = self.jobs.iter().find(|job| job.configured && job.key == row.key) else {
            if name.starts_with("job-") {
                self.fail(&format!("{name} is not configured and somebody is told"));
            }
            return;
        };
        let is_paused = self.at + 1 + self.doubt.drift < job.silent_until;
        if !job.may_be_bad(self.at, self.doubt) {
            self.fail(&format!("{name} is well and somebody is told"));
        } else if is_paused {
            self.fail(&format!("{name} is paused and somebody is told"));
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

    /// Whether nothing is left that a longer calm would end.
    pub(super) fn is_settled(&self) -> bool {
        let is_idle = self.process.as_ref().is_some_and(|p| p.book.outbox().is_empty());
        let fails =
            |job: &Job| job.configured && job.bad_since(self.at).is_some_and(|s| s <= self.at);
        let are_told = self.jobs.iter().filter(|job| fails(job));
        let mut are_told = are_told.map(|job| self.pagers.is_open(&job.key));
        let paused = self.jobs.iter().any(|job| job.paused_until > self.at);
        is_idle && !paused && are_told.all(|is_told| is_told) && self.still_open().is_empty()
    }

    /// Incidents that should have ended.
    fn still_open(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (slot, incident) in &self.pagers.open {
            let job = self.jobs.iter().find(|job| job.configured && job.key == slot.key);
            let fails = job.is_some_and(|job| job.may_be_bad(self.at, self.doubt));
            if !fails && !incident.is_orphan {
                let (receiver, name) = (&slot.receiver, &incident.name);
                wrong.push(format!("{receiver} was never told that {name} is over"));
            }
        }
        wrong
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
        wrong.extend(self.still_open());
        for what in wrong {
            self.fail(&what);
        }
    }
}

fn key_of(name: &str) -> String {
    dedup_key(&Subject::deadman(name), None)
}

fn fresh(index: usize, (interval, grace): (u64, u64)) -> Job {
    let name = format!("job-{index}");
    Job {
        uuid: format!("c5d1f1e0-8b67-4c5f-9d43-{index:012}"),
        key: key_of(&name),
        name,
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
        longest_pause: 0,
        silent_until: 0,
        gone: Gone::No,
        renames: 0,
        renamed: 0,
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
