//! Which checks are due, told the time. Pure: it starts nothing and reads no clock.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::gate::{Gate, HostKey, Limit};
use super::phase::{FIRST_RUN_WITHIN, Phase, Spread};
use super::{Cause, Limits, Moment, Shard, Skips};
use crate::model::{Check, CheckId};

/// A due time that is found later than this was missed, because process or machine stood still.
pub const STALL: Duration = Duration::from_secs(1);
/// A retry is never sooner than this.
pub const SHORTEST_RETRY: Duration = Duration::from_millis(10);

/// A place in the plan. It stays with a run until [`Plan::delivered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId(u32);

/// A run that begins now.
#[derive(Debug)]
pub struct Start {
    pub slot: SlotId,
    pub check: Arc<Check>,
    pub early: bool,
    /// How long ago it was due.
    pub late: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Due since then, and held back.
    Waiting {
        since: Moment,
        limit: Limit,
        early: bool,
    },
    Running,
    /// Ended; its outcome has not been taken yet.
    Delivering,
}

#[derive(Debug)]
struct Slot {
    check: Arc<Check>,
    host: HostKey,
    phase: Phase,
    due: Moment,
    /// When it is asked again before it is due; [`Moment::NEVER`] when it is not.
    early: Moment,
    state: State,
    /// The last [`Plan::apply`] that named the check.
    applied: u32,
    /// No longer wanted; the slot is freed when its run is over.
    gone: bool,
    paused: bool,
    /// Was put off after a stall: must not be put off again.
    put_off: bool,
}

impl Slot {
    fn may_run(&self, wall: Timestamp) -> bool {
        let disabled = self.check.target.disabled.as_ref();
        !self.gone && !self.paused && !disabled.is_some_and(|d| d.holds_at(wall))
    }
}

/// Due times of all checks, and the limits that hold runs back.
#[derive(Debug)]
pub struct Plan {
    spread: Spread,
    shard: Shard,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<CheckId, u32>,
    /// Due and early times. One that no longer is its slot's is passed over when it comes up.
    queue: BinaryHeap<Reverse<(Moment, u32)>>,
    gate: Gate,
    waiting: usize,
    paused: HashSet<CheckId>,
    skips: Skips,
    applied: u32,
}

impl Plan {
    pub fn new(watchpost_id: &str, shard: Shard, limits: Limits) -> Self {
        Self {
            spread: Spread::of(watchpost_id),
            shard,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            queue: BinaryHeap::new(),
            gate: Gate::new(limits),
            waiting: 0,
            paused: HashSet::new(),
            skips: Skips::default(),
            applied: 0,
        }
    }

    /// Replaces the list. What is kept keeps its phase; of two equal ids the first counts.
    pub fn apply(&mut self, checks: Vec<Arc<Check>>, now: Moment) {
        self.applied = self.applied.wrapping_add(1);
        for check in checks {
            if !self.shard.runs(&check) {
                continue;
            }
            match self.by_id.entry(check.id) {
                Entry::Occupied(known) => {
                    let index = *known.get();
                    self.replace(index, check, now);
                }
                Entry::Vacant(_) => self.add(check, now),
            }
        }
        self.remove_unnamed();
        self.tidy();
    }

    fn replace(&mut self, index: u32, check: Arc<Check>, now: Moment) {
        let slot = &mut self.slots[index as usize];
        let again = slot.gone;
        if slot.applied == self.applied && !again {
            return;
        }
        let interval = check.policy.interval;
        let moved = slot.check.policy.interval != interval;
        slot.check = check;
        slot.applied = self.applied;
        slot.gone = false;
        if again {
            let first = self.soon(index, now);
            self.set_due(index, first);
        } else if moved {
            let slot = &mut self.slots[index as usize];
            slot.phase = self.spread.phase(slot.check.id, interval);
            let next = slot.phase.after(now);
            self.set_due(index, next);
        }
    }

    fn add(&mut self, check: Arc<Check>, now: Moment) {
        let id = check.id;
        let slot = Slot {
            host: HostKey::of(&check.target.address),
            phase: self.spread.phase(id, check.policy.interval),
            due: Moment::NEVER,
            early: Moment::NEVER,
            state: State::Idle,
            applied: self.applied,
            gone: false,
            paused: self.paused.contains(&id),
            put_off: false,
            check,
        };
        let index = if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("fewer checks than a u32 counts")
        };
        self.by_id.insert(id, index);
        let first = self.soon(index, now);
        self.set_due(index, first);
    }

    fn remove_unnamed(&mut self) {
        let unnamed: Vec<u32> = self
            .by_id
            .values()
            .copied()
            .filter(|i| self.slots[*i as usize].applied != self.applied)
            .collect();
        for index in unnamed {
            let slot = &mut self.slots[index as usize];
            slot.gone = true;
            slot.due = Moment::NEVER;
            slot.early = Moment::NEVER;
            if slot.state == State::Idle {
                self.release(index);
            }
        }
    }

    /// Frees the place of a check that is gone and has no run.
    fn release(&mut self, index: u32) {
        let id = self.slots[index as usize].check.id;
        self.by_id.remove(&id);
        self.free.push(index);
    }

    /// Drops due times that no longer hold, when there are many.
    fn tidy(&mut self) {
        if self.queue.len() <= 4 * self.by_id.len() + 64 {
            return;
        }
        let slots = &self.slots;
        self.queue.retain(|Reverse((at, index))| {
            let slot = &slots[*index as usize];
            slot.due == *at || slot.early == *at
        });
    }

    /// Replaces the set of checks that are not run. One that is taken out of it is asked soon.
    pub fn pause(&mut self, paused: HashSet<CheckId>, now: Moment) {
        self.paused = paused;
        for index in self.by_id.values().copied().collect::<Vec<_>>() {
            let slot = &mut self.slots[index as usize];
            let before = slot.paused;
            slot.paused = self.paused.contains(&slot.check.id);
            if before && !slot.paused && !slot.gone {
                let soon = self.soon(index, now);
                self.set_due(index, soon);
            }
        }
    }

    /// Asks a check again `after` this long, unless it runs anyway by then.
    pub fn retry(&mut self, id: CheckId, after: Duration, now: Moment) {
        let Some(&index) = self.by_id.get(&id) else { return };
        let at = now.plus(after.max(SHORTEST_RETRY));
        let slot = &mut self.slots[index as usize];
        let busy = matches!(slot.state, State::Running | State::Waiting { .. });
        if slot.gone || slot.paused || busy || slot.due <= at {
            return;
        }
        slot.early = at;
        self.queue.push(Reverse((at, index)));
        self.tidy();
    }

    /// A moment before which nothing is due.
    pub fn next(&self) -> Option<Moment> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Adds to `starts` what begins now: what waited first, then what is due.
    pub fn due(&mut self, now: Moment, wall: Timestamp, starts: &mut Vec<Start>) {
        self.admit(now, wall, starts);
        while let Some(&Reverse((at, index))) = self.queue.peek() {
            if at > now {
                break;
            }
            self.queue.pop();
            let slot = &self.slots[index as usize];
            if slot.due == at {
                self.come_due(index, now, wall, starts);
            } else if slot.early == at {
                self.come_early(index, now, wall, starts);
            }
        }
        self.admit(now, wall, starts);
    }

    fn come_due(&mut self, index: u32, now: Moment, wall: Timestamp, starts: &mut Vec<Start>) {
        let slot = &mut self.slots[index as usize];
        let due = slot.due;
        let passed = slot.phase.between(due, now);
        let next = slot.phase.after(now);
        let newest = slot.phase.newest(due, now);
        if slot.may_run(wall) {
            match &mut slot.state {
                State::Running => self.skips.add(Cause::Running, 1 + passed),
                State::Delivering => self.skips.add(Cause::Undelivered, 1 + passed),
                State::Waiting { since, limit, early } => {
                    // It keeps its place in the line, or it would never get to the front.
                    self.skips.add(Cause::from(*limit), passed + u64::from(!*early));
                    *since = newest;
                    *early = false;
                }
                State::Idle if now.since(due) > STALL && !slot.put_off => {
                    self.skips.add(Cause::Stalled, 1 + passed);
                    slot.put_off = true;
                    let soon = self.soon(index, now);
                    return self.set_due(index, soon);
                }
                State::Idle => {
                    self.skips.add(Cause::Stalled, passed);
                    self.begin(index, newest, false, now, starts);
                }
            }
        }
        self.set_due(index, next);
    }

    fn come_early(&mut self, index: u32, now: Moment, wall: Timestamp, starts: &mut Vec<Start>) {
        let slot = &mut self.slots[index as usize];
        let at = slot.early;
        slot.early = Moment::NEVER;
        if slot.state == State::Idle && slot.may_run(wall) {
            self.begin(index, at, true, now, starts);
        }
    }

    fn begin(
        &mut self,
        index: u32,
        due: Moment,
        early: bool,
        now: Moment,
        starts: &mut Vec<Start>,
    ) {
        let slot = &mut self.slots[index as usize];
        slot.early = Moment::NEVER;
        slot.put_off = false;
        match self.gate.enter(index, slot.host) {
            Ok(()) => starts.push(slot.start(index, due, early, now)),
            Err(limit) => {
                slot.state = State::Waiting { since: due, limit, early };
                self.waiting += 1;
            }
        }
    }

    /// Lets through what waited, as far as the limits allow.
    fn admit(&mut self, now: Moment, wall: Timestamp, starts: &mut Vec<Start>) {
        while let Some(index) = self.gate.admit() {
            self.waiting -= 1;
            let slot = &mut self.slots[index as usize];
            let State::Waiting { since, early, .. } = slot.state else {
                unreachable!("only a slot that waits is in line")
            };
            if slot.may_run(wall) {
                starts.push(slot.start(index, since, early, now));
                continue;
            }
            slot.state = State::Idle;
            let (host, gone) = (slot.host, slot.gone);
            if gone {
                self.release(index);
            }
            self.leave(host);
        }
    }

    fn leave(&mut self, host: HostKey) {
        let Some(next) = self.gate.leave(host) else { return };
        if let State::Waiting { limit, .. } = &mut self.slots[next as usize].state {
            *limit = Limit::Overall;
        }
    }

    /// A run is over. Gives the check's id, or nothing when nobody wants its outcome any more.
    ///
    /// The check is not run again before [`delivered`](Self::delivered): so at most one outcome for each check waits.
    pub fn ended(&mut self, slot: SlotId) -> Option<CheckId> {
        let host = self.slots[slot.0 as usize].host;
        self.leave(host);
        self.slots[slot.0 as usize].state = State::Delivering;
        self.wanted(slot)
    }

    /// The check of a slot, unless it was removed meanwhile.
    pub fn wanted(&self, slot: SlotId) -> Option<CheckId> {
        let slot = &self.slots[slot.0 as usize];
        (!slot.gone).then_some(slot.check.id)
    }

    /// The outcome of a run was taken, or thrown away.
    pub fn delivered(&mut self, slot: SlotId) {
        let index = slot.0;
        let slot = &mut self.slots[index as usize];
        slot.state = State::Idle;
        if slot.gone {
            self.release(index);
        }
    }

    /// Due times that passed without a run since this was last asked.
    pub fn take_skips(&mut self) -> Skips {
        std::mem::take(&mut self.skips)
    }

    /// Checks that are due and held back by a limit.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Checks of this shard.
    pub fn len(&self) -> usize {
        self.by_id.values().filter(|i| !self.slots[**i as usize].gone).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A run out of turn: within [`FIRST_RUN_WITHIN`], spread by hash, or at the check's own time if that comes first.
    fn soon(&self, index: u32, now: Moment) -> Moment {
        let slot = &self.slots[index as usize];
        let own = slot.phase.after(now);
        if own.since(now) <= FIRST_RUN_WITHIN {
            return own;
        }
        now.plus(self.spread.delay(slot.check.id, slot.check.policy.interval))
    }

    fn set_due(&mut self, index: u32, due: Moment) {
        self.slots[index as usize].due = due;
        self.queue.push(Reverse((due, index)));
    }
}

impl Slot {
    fn start(&mut self, index: u32, due: Moment, early: bool, now: Moment) -> Start {
        self.state = State::Running;
        Start { slot: SlotId(index), check: self.check.clone(), early, late: now.since(due) }
    }
}

impl From<Limit> for Cause {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Host => Self::HostLimit,
            Limit::Overall => Self::InFlightLimit,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
