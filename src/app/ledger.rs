//! The core of the task that owns everything after an outcome: counts it, judges it, and shows it on the board.
//!
//! Pure but for the board that it writes: it is told `now`, waits for nothing and does no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::board::{Board, Cell, GroupCell, GroupView, Index, News, Run};
use crate::judge::Judge;
use crate::judge::group::Group;
use crate::metrics::{Identity, check_labels};
use crate::model::{
    Answer, Change, Check, CheckId, GroupChange, Headcount, Outcome, ProbePolicy, RunResult, Stamp,
    Status, Tally, Took, View, family,
};

/// How far an exporter's start time may wander without being a restart, in seconds: where it is computed from the time
/// of boot, it moves with the adjustments of the clock.
const START_TIME_TOLERANCE: f64 = 2.0;

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    pub id: CheckId,
    pub outcome: Outcome,
    /// Out of turn, to confirm or refute a change.
    pub early: bool,
}

/// What became another status. Changes of probes are only of those with `min_up`.
#[derive(Debug, Default)]
#[must_use = "changes are what notifies"]
pub struct Changes {
    pub checks: Vec<Change>,
    pub groups: Vec<GroupChange>,
}

/// What came of one outcome.
#[derive(Debug, Default)]
#[must_use = "changes are what notifies"]
pub struct Recorded {
    /// Whether the check still exists; otherwise the outcome was dropped.
    pub is_known: bool,
    pub changes: Changes,
    /// Ask again this soon.
    pub retry_in: Option<Duration>,
}

/// What came of a new list of checks.
#[derive(Debug, Default)]
#[must_use = "changes are what notifies"]
pub struct Applied {
    pub changes: Changes,
    pub added: usize,
    /// Checks that are gone, with their last status: what was open about them is to be closed.
    pub removed: Vec<(Arc<Check>, Status)>,
    /// Probes none of whose checks are left, likewise.
    pub removed_probes: Vec<(Arc<ProbePolicy>, Status)>,
}

/// The books of every check.
#[derive(Debug)]
pub struct Ledger {
    board: Arc<Board>,
    identity: Identity,
    entries: HashMap<CheckId, Entry>,
    probes: BTreeMap<Arc<str>, Probe>,
    restored: HashMap<CheckId, (Status, Stamp)>,
    blind: bool,
    /// References can tell whether we see: nothing gets worse before one of them was asked.
    guarded: bool,
    doubted: HashMap<CheckId, Doubt>,
    /// When sight last returned: a run that began before is one of a blind watchpost.
    sighted: Option<Stamp>,
}

/// A worse status that waits until a reference has answered.
#[derive(Debug)]
struct Doubt {
    since: Stamp,
    answer: Answer,
}

#[derive(Debug)]
struct Entry {
    check: Arc<Check>,
    cell: Arc<Cell>,
    judge: Judge,
    paused_by_hand: bool,
    exporter_started: Option<f64>,
}

#[derive(Debug)]
struct Probe {
    policy: Arc<ProbePolicy>,
    group: Group,
    headcount: Headcount,
    members: Arc<[CheckId]>,
    cell: Arc<GroupCell>,
}

impl Ledger {
    pub fn new(board: Arc<Board>, identity: Identity) -> Self {
        Self {
            board,
            identity,
            entries: HashMap::new(),
            probes: BTreeMap::new(),
            restored: HashMap::new(),
            blind: false,
            guarded: false,
            doubted: HashMap::new(),
            sighted: None,
        }
    }

    /// Says what was believed about a check before a restart. To be called before the check is applied.
    pub fn restore(&mut self, id: CheckId, status: Status, since: Stamp) {
        self.restored.insert(id, (status, since));
    }

    /// What was restored and belongs to no check: once every source of targets was read, these targets are gone.
    pub fn take_unclaimed(&mut self) -> Vec<(CheckId, Status)> {
        let mut gone: Vec<_> =
            self.restored.drain().map(|(id, (status, _))| (id, status)).collect();
        gone.sort_unstable_by_key(|(id, _)| *id);
        gone
    }

    pub fn check(&self, id: CheckId) -> Option<&Arc<Check>> {
        self.entries.get(&id).map(|entry| &entry.check)
    }

    /// Every check, as it is shown.
    pub fn views(&self) -> impl Iterator<Item = Arc<View>> {
        self.entries.values().map(|entry| entry.cell.load())
    }

    pub fn view(&self, id: CheckId) -> Option<Arc<View>> {
        self.entries.get(&id).map(|entry| entry.cell.load())
    }

    /// One probe as a whole.
    pub fn group(&self, probe: &str) -> Option<Arc<GroupView>> {
        self.probes.get(probe).map(|probe| probe.cell.load())
    }

    pub const fn is_blind(&self) -> bool {
        self.blind
    }

    /// Every probe as a whole, as it is shown.
    pub fn groups(&self) -> impl Iterator<Item = Arc<GroupView>> {
        self.probes.values().map(|probe| probe.cell.load())
    }

    /// How many checks have which status.
    pub fn headcount(&self) -> Headcount {
        self.entries.values().map(|entry| entry.judge.status()).collect()
    }

    /// Takes over a list of checks. Checks that stay keep their counters, status and history, and have their new labels
    /// and rules at once; of equal ids the first counts.
    pub fn apply(&mut self, checks: Vec<Arc<Check>>, now: Stamp) -> Applied {
        let mut seen = HashSet::with_capacity(checks.len());
        let checks: Vec<_> = checks.into_iter().filter(|check| seen.insert(check.id)).collect();
        let mut applied = Applied { removed: self.remove_others(&seen), ..Applied::default() };
        let labels = self.labels(&checks);
        for (check, labels) in checks.iter().zip(labels) {
            if let Some(entry) = self.entries.get_mut(&check.id) {
                applied.changes.checks.extend(entry.replace(check, labels, now));
            } else {
                let restored = self.restored.remove(&check.id);
                self.entries.insert(check.id, Entry::new(check, labels, restored, now));
                applied.added += 1;
            }
        }
        self.announce_checks(&applied.changes.checks);
        applied.removed_probes = self.remove_empty_probes(&checks);
        applied.changes.groups = self.regroup(&checks, now);
        applied
    }

    /// Counts and judges one outcome.
    pub fn record(&mut self, finished: Finished, now: Stamp) -> Recorded {
        let began = finished.outcome.started;
        let is_blind = self.blind || self.sighted.is_some_and(|at| began.boot < at.boot);
        self.record_as(is_blind, finished, Some(began), now)
    }

    /// The same of what others tell us: it was last well when that was last `heard`, not when it is judged.
    pub fn judge(
        &mut self,
        id: CheckId,
        outcome: Outcome,
        heard: Option<Stamp>,
        now: Stamp,
    ) -> Changes {
        let finished = Finished { id, outcome, early: false };
        self.record_as(self.blind, finished, heard, now).changes
    }

    /// The same of a time in which we were blind: nothing gets worse by it.
    pub fn hold(
        &mut self,
        id: CheckId,
        outcome: Outcome,
        heard: Option<Stamp>,
        now: Stamp,
    ) -> Changes {
        let finished = Finished { id, outcome, early: false };
        self.record_as(true, finished, heard, now).changes
    }

    /// Nothing is known of a check yet, whatever was believed before a restart.
    pub fn wait(&mut self, id: CheckId, now: Stamp) -> Changes {
        self.doubted.remove(&id);
        let change = self.entries.get_mut(&id).and_then(|entry| entry.wait(now));
        self.spread(change.into_iter().collect(), now)
    }

    fn record_as(
        &mut self,
        is_blind: bool,
        finished: Finished,
        well: Option<Stamp>,
        now: Stamp,
    ) -> Recorded {
        let id = finished.id;
        let Some(entry) = self.entries.get_mut(&id) else { return Recorded::default() };
        entry.judge.set_blind(is_blind);
        entry.judge.set_doubtful(self.guarded);
        let answer = self.guarded.then(|| finished.outcome.answer.clone());
        let change = entry.record(finished, well, self.board.last_scrape(), now);
        entry.judge.set_blind(self.blind);
        match answer.filter(|_| !is_blind && entry.judge.held().is_some()) {
            Some(answer) => {
                let since = self.doubted.get(&id).map_or(now, |doubt| doubt.since);
                self.doubted.insert(id, Doubt { since, answer });
            }
            None => drop(self.doubted.remove(&id)),
        }
        let retry_in = entry.retry_in();
        let changes = self.spread(change.into_iter().collect(), now);
        Recorded { is_known: true, changes, retry_in }
    }

    /// Notices what time brings about: results that are too old, targets whose pause is over.
    pub fn tick(&mut self, now: Stamp) -> Changes {
        let changes = self.entries.values_mut().filter_map(|entry| entry.tick(now)).collect();
        self.spread(changes, now)
    }

    /// Whether there are references that can tell if we see.
    pub fn guard(&mut self, guarded: bool, now: Stamp) -> Changes {
        self.guarded = guarded;
        if guarded { Changes::default() } else { self.seen(now, now) }
    }

    /// Whether a worse status waits for a reference to answer.
    pub fn is_in_doubt(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// A reference has answered that was asked at `asked`: what was found before counts.
    pub fn seen(&mut self, asked: Stamp, now: Stamp) -> Changes {
        let sure = self.doubted.extract_if(|_, doubt| doubt.since.boot <= asked.boot);
        let entries = &mut self.entries;
        let changes = sure.filter_map(|(id, doubt)| entries.get_mut(&id)?.confirm(&doubt, now));
        let changes = changes.collect();
        self.spread(changes, now)
    }

    /// Holds back worse statuses, or no longer. Returns the checks that had one: worth asking soon, now that we see.
    pub fn set_blind(&mut self, blind: bool, now: Stamp) -> Vec<CheckId> {
        if self.blind == blind {
            return Vec::new();
        }
        self.blind = blind;
        self.board.set_blind(blind);
        if blind {
            for (id, _) in self.doubted.drain() {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.judge.set_blind(true);
                }
            }
            return Vec::new();
        }
        self.sighted = Some(now);
        self.entries.values_mut().filter_map(Entry::see_again).collect()
    }

    /// Pauses every check of a probe until it is resumed, or lets all of them go on.
    pub fn set_paused(&mut self, probe: &str, paused: bool, now: Stamp) -> Changes {
        let Some(probe) = self.probes.get(probe) else { return Changes::default() };
        let mut changes = Vec::new();
        for id in &*probe.members {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if entry.paused_by_hand != paused {
                entry.paused_by_hand = paused;
                changes.extend(entry.pause_or_resume(now));
                entry.show();
            }
        }
        self.spread(changes, now)
    }

    /// Tells the board of changes, and carries them to their probes.
    fn spread(&mut self, checks: Vec<Change>, now: Stamp) -> Changes {
        if checks.is_empty() {
            return Changes::default();
        }
        self.announce_checks(&checks);
        let mut touched: Vec<Arc<str>> = Vec::new();
        for change in &checks {
            let Some(entry) = self.entries.get(&change.check) else { continue };
            let name = &entry.check.policy.name;
            let Some(probe) = self.probes.get_mut(name) else { continue };
            probe.headcount.remove(change.from);
            probe.headcount.add(change.to);
            if touched.last() != Some(name) {
                touched.push(name.clone());
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let groups = touched.iter().filter_map(|name| self.judge_probe(name, now)).collect();
        Changes { checks, groups }
    }

    fn announce_checks(&self, changes: &[Change]) {
        for change in changes {
            if let Some(entry) = self.entries.get(&change.check) {
                let check = Arc::clone(&entry.check);
                self.board.announce(News::Check { check, change: change.clone() });
            }
        }
    }

    /// Judges a probe anew and shows it. The change, where it is one that counts.
    fn judge_probe(&mut self, name: &str, now: Stamp) -> Option<GroupChange> {
        let probe = self.probes.get_mut(name)?;
        let entries = &self.entries;
        let members = probe.members.clone();
        let change = probe.group.observe(probe.headcount, &probe.policy, now, || {
            members.iter().filter_map(|id| entries.get(id)).map(Entry::standing).collect::<Vec<_>>()
        });
        probe.show();
        let change = change.filter(|_| probe.policy.min_up.is_some())?;
        self.board.announce(News::Group(change.clone()));
        Some(change)
    }

    fn remove_others(&mut self, kept: &HashSet<CheckId>) -> Vec<(Arc<Check>, Status)> {
        let gone = self.entries.extract_if(|id, _| !kept.contains(id));
        let mut removed: Vec<_> = gone.map(|(_, entry)| entry.standing()).collect();
        removed.sort_unstable_by_key(|(check, _)| check.id);
        removed
    }

    fn remove_empty_probes(&mut self, checks: &[Arc<Check>]) -> Vec<(Arc<ProbePolicy>, Status)> {
        let kept: HashSet<&str> = checks.iter().map(|check| &*check.policy.name).collect();
        let mut gone = Vec::new();
        self.probes.retain(|name, probe| {
            let stays = kept.contains(&**name);
            if !stays {
                gone.push((probe.policy.clone(), probe.group.status()));
            }
            stays
        });
        gone
    }

    /// The rendered labels of each check. Those that would be the same (two host names at one address) have the check's
    /// id in them: Prometheus refuses a page with the same series twice.
    fn labels(&self, checks: &[Arc<Check>]) -> Vec<Arc<str>> {
        let plain: Vec<_> =
            checks.iter().map(|check| check_labels(check, &self.identity, None)).collect();
        let mut times: HashMap<&str, usize> = HashMap::with_capacity(plain.len());
        for labels in &plain {
            *times.entry(labels).or_default() += 1;
        }
        let labels = checks.iter().zip(&plain).map(|(check, labels)| match times.get(&**labels) {
            Some(2..) => check_labels(check, &self.identity, Some(&check.id.to_string())),
            _ => labels.clone(),
        });
        labels.collect()
    }

    /// Sorts the checks into their probes and shows the whole.
    fn regroup(&mut self, checks: &[Arc<Check>], now: Stamp) -> Vec<GroupChange> {
        let cells = self.entries.values().map(|entry| entry.cell.clone()).collect();
        let mut members: BTreeMap<Arc<str>, (Arc<ProbePolicy>, Vec<CheckId>)> = BTreeMap::new();
        for check in checks {
            let policy = &check.policy;
            let (_, ids) =
                members.entry(policy.name.clone()).or_insert_with(|| (policy.clone(), Vec::new()));
            ids.push(check.id);
        }
        let mut changes = Vec::new();
        for (name, (policy, ids)) in members {
            let headcount = ids.iter().filter_map(|id| self.entries.get(id));
            let headcount = headcount.map(|entry| entry.judge.status()).collect();
            let probe = self.probes.entry(name.clone()).or_insert_with(|| Probe::new(&policy, now));
            probe.replace(policy, headcount, ids.into(), now);
            changes.extend(self.judge_probe(&name, now));
        }
        let groups = self.probes.values().map(|probe| probe.cell.clone()).collect();
        self.board.publish(Index::new(cells, groups));
        changes
    }
}

impl Entry {
    fn new(
        check: &Arc<Check>,
        labels: Arc<str>,
        restored: Option<(Status, Stamp)>,
        now: Stamp,
    ) -> Self {
        let mut judge = match restored {
            // A pause that holds is said anew; one that ended while we were away must not hold for ever.
            None | Some((Status::Paused, _)) => Judge::new(check.id, now),
            Some((status, since)) => Judge::restored(check.id, status, since, now),
        };
        if is_disabled(check, now) {
            // It begins so: nothing has changed.
            drop(judge.pause(now));
        }
        let view = View {
            check: check.clone(),
            labels,
            status: judge.status(),
            since: judge.since(),
            held: None,
            seen: now,
            last: None,
            last_failure: None,
            last_success: None,
            tally: Tally::new(&check.policy.histogram),
        };
        Self {
            check: check.clone(),
            cell: Arc::new(Cell::new(view)),
            judge,
            paused_by_hand: false,
            exporter_started: None,
        }
    }

    fn standing(&self) -> (Arc<Check>, Status) {
        (self.check.clone(), self.judge.status())
    }

    /// Goes on under new labels and rules.
    fn replace(&mut self, check: &Arc<Check>, labels: Arc<str>, now: Stamp) -> Option<Change> {
        let mut view = View::clone(&self.cell.load());
        if view.check.policy.histogram != check.policy.histogram {
            view.tally.took = Took::new(&check.policy.histogram);
        }
        view.check = check.clone();
        view.labels = labels;
        self.check = check.clone();
        let change = self.pause_or_resume(now);
        self.publish(view);
        change
    }

    /// `well`: when it was last well, if the outcome says that it is.
    fn record(
        &mut self,
        finished: Finished,
        well: Option<Stamp>,
        scrape: u64,
        now: Stamp,
    ) -> Option<Change> {
        let Finished { outcome, early, .. } = finished;
        let change = self.judge.observe(&outcome.answer, now, &self.check.policy.thresholds);
        self.cell.add_run(Run::of(&outcome, early));
        let mut view = View::clone(&self.cell.load());
        self.count(&mut view.tally, &outcome, early, scrape);
        let outcome = Arc::new(outcome);
        match outcome.answer {
            Answer::Pass | Answer::Warn(_) => view.last_success = well,
            Answer::Fail(_) => view.last_failure = Some(outcome.clone()),
            Answer::Unknown(_) => {}
        }
        view.last = Some(outcome);
        view.seen = now;
        self.publish(view);
        change
    }

    /// As before its first run.
    fn wait(&mut self, now: Stamp) -> Option<Change> {
        let change = self.judge.wait(now);
        let view = View::clone(&self.cell.load());
        if change.is_some() || view.last.is_some() {
            self.publish(View { last: None, last_success: None, seen: now, ..view });
        }
        change
    }

    fn count(&mut self, tally: &mut Tally, outcome: &Outcome, early: bool, scrape: u64) {
        self.count_restart(tally, outcome);
        if early {
            tally.retries += 1;
            return;
        }
        tally.add_run(RunResult::from(&outcome.answer));
        tally.took.add(outcome.took, &self.check.policy.histogram);
        if let Answer::Fail(fault) = &outcome.answer {
            tally.add_failure(fault.reason(), scrape);
        }
    }

    fn count_restart(&mut self, tally: &mut Tally, outcome: &Outcome) {
        let Some(started) = outcome.fact(&family::PROBE_EXPORTER_START_TIME) else { return };
        let restarts = tally.restarts.get_or_insert(0);
        match self.exporter_started {
            Some(before) if (started - before).abs() <= START_TIME_TOLERANCE => return,
            Some(_) => *restarts += 1,
            None => {}
        }
        self.exporter_started = Some(started);
    }

    fn tick(&mut self, now: Stamp) -> Option<Change> {
        let resumed = if self.check.target.disabled.is_some() || self.paused_by_hand {
            self.pause_or_resume(now)
        } else {
            None
        };
        let change = resumed.or_else(|| self.judge.tick(now, self.check.stale_after()))?;
        self.show();
        Some(change)
    }

    fn pause_or_resume(&mut self, now: Stamp) -> Option<Change> {
        if self.paused_by_hand || is_disabled(&self.check, now) {
            self.judge.pause(now)
        } else {
            self.judge.resume(now)
        }
    }

    fn confirm(&mut self, doubt: &Doubt, now: Stamp) -> Option<Change> {
        let change = self.judge.confirm(&doubt.answer, now)?;
        self.show();
        Some(change)
    }

    fn see_again(&mut self) -> Option<CheckId> {
        let held = self.judge.held();
        self.judge.set_blind(false);
        held?;
        self.publish(View::clone(&self.cell.load()));
        Some(self.check.id)
    }

    /// Shows the judge's status beside what was there.
    fn show(&self) {
        self.publish(View::clone(&self.cell.load()));
    }

    fn publish(&self, view: View) {
        let (status, since) = (self.judge.status(), self.judge.since());
        self.cell.store(View { status, since, held: self.judge.held(), ..view });
    }

    fn retry_in(&self) -> Option<Duration> {
        let policy = &self.check.policy;
        policy.retry_interval.filter(|soon| self.judge.undecided() && *soon < policy.interval)
    }
}

impl Probe {
    fn new(policy: &Arc<ProbePolicy>, now: Stamp) -> Self {
        let group = Group::new(policy.name.clone(), now);
        let members: Arc<[CheckId]> = Arc::from([]);
        let cell = GroupCell::new(GroupView {
            policy: policy.clone(),
            status: group.status(),
            since: now,
            headcount: Headcount::default(),
            members: members.clone(),
        });
        let policy = policy.clone();
        Self { policy, group, headcount: Headcount::default(), members, cell: Arc::new(cell) }
    }

    /// Goes on with new members and rules. A probe that is to be judged as a whole from now on starts anew, so that what
    /// is wrong with it already is a change.
    fn replace(
        &mut self,
        policy: Arc<ProbePolicy>,
        headcount: Headcount,
        members: Arc<[CheckId]>,
        now: Stamp,
    ) {
        if self.policy.min_up.is_some() != policy.min_up.is_some() {
            self.group = Group::new(policy.name.clone(), now);
        }
        self.policy = policy;
        self.headcount = headcount;
        self.members = members;
    }

    fn show(&self) {
        self.cell.store(GroupView {
            policy: self.policy.clone(),
            status: self.group.status(),
            since: self.group.since(),
            headcount: self.headcount,
            members: self.members.clone(),
        });
    }
}

/// Whether the target is known and not asked. The last day of a pause ends at midnight, UTC.
fn is_disabled(check: &Check, now: Stamp) -> bool {
    let Some(disabled) = &check.target.disabled else { return false };
    let Some(until) = disabled.until else { return true };
    until.to_zoned(TimeZone::UTC).is_ok_and(|until| now.wall < until.timestamp())
}
