//! All switches of this watchpost: which one a beat means, whose time has come, what is to be kept.

mod kept;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

pub use self::kept::{DeadmanState, Kept, KindState};
use self::kept::{Found, of_name, of_uuid};
pub use self::report::{Note, Report};
use super::issued::Clocks;
use super::key::Key;
use super::line::{At, Line, Mark};
use super::pause::{NoPause, Pause, Pauses, Planned, Wanted};
use super::ping::{Address, Beat, BeatResult, Door, Refused};
use super::spec::{PingId, Slug, Spec};
use super::switch::{Switch, Verdict};
use super::watchdog::{Posted, Receipt, Watchdog};
use crate::model::Stamp;

/// One configured switch, with its key if it has one.
#[derive(Debug, Clone)]
pub struct Configured {
    pub spec: Arc<Spec>,
    pub key: Option<Key>,
}

#[derive(Debug, Clone)]
enum Kind {
    Switch(Switch),
    Watchdog(Watchdog),
}

#[derive(Debug, Clone)]
struct Entry {
    spec: Arc<Spec>,
    key: Option<Key>,
    kind: Kind,
    /// Its place in the queue.
    queued: Option<At>,
    dirty: bool,
    anchor: Option<Mark>,
}

/// Which beat was taken by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub name: Arc<str>,
    pub result: BeatResult,
}

/// How long what happened to our clocks is told.
const NOTE_FOR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone)]
pub struct Switchboard {
    id: Arc<str>,
    line: Line,
    clocks: Clocks,
    pauses: Pauses,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<PingId, usize>,
    by_slug: HashMap<Slug, usize>,
    queue: BTreeSet<(At, usize)>,
    /// Those that may have changed: whatever changes one puts it in the queue anew.
    touched: BTreeSet<usize>,
    gap: Option<(At, Duration)>,
    step: Option<(At, SignedDuration)>,
}

impl Switchboard {
    /// `id` is this watchpost's name, `boot_id` that of the machine's boot. What was kept under a name that is no longer
    /// configured is dropped, unless a switch with the same uuid took a new name.
    pub fn new(
        id: impl Into<Arc<str>>,
        boot_id: impl Into<Arc<str>>,
        configured: Vec<Configured>,
        kept: Kept,
        now: Stamp,
    ) -> Self {
        let line = {
            let states = kept.states.values().flat_map(DeadmanState::marks);
            let anchors = kept.states.values().filter_map(|state| state.anchor.as_ref());
            Line::start_anchored(now, boot_id, states.chain(kept.pauses.marks()), anchors)
        };
        let mut board = Self {
            id: id.into(),
            clocks: Clocks::new(&line),
            line,
            pauses: kept.pauses,
            entries: Vec::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            by_slug: HashMap::new(),
            queue: BTreeSet::new(),
            touched: BTreeSet::new(),
            gap: None,
            step: None,
        };
        board.fill(configured, kept.states, now);
        board.wake(now);
        board
    }

    /// Takes over a new configuration. Deadlines count on from the same beats. Yields the names that are gone, whose
    /// episodes are to be closed and whose state and pauses are to be forgotten.
    pub fn reload(&mut self, configured: Vec<Configured>, now: Stamp) -> Vec<String> {
        let mut states = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for entry in std::mem::take(&mut self.entries) {
            states.insert(entry.spec.name.clone(), entry.state());
            keys.insert(entry.spec.name.clone(), (entry.spec.key_file.clone(), entry.key));
        }
        let configured = configured.into_iter().map(|it| keep_key(it, &mut keys)).collect();
        let before: Vec<String> = states.keys().cloned().collect();
        self.by_name.clear();
        self.by_id.clear();
        self.by_slug.clear();
        self.queue.clear();
        self.touched.clear();
        self.fill(configured, states, now);
        // What had changed and was not written yet is not known any more.
        for (index, entry) in self.entries.iter_mut().enumerate() {
            entry.dirty = true;
            self.touched.insert(index);
        }
        before.into_iter().filter(|name| !self.by_name.contains_key(name)).collect()
    }

    fn fill(
        &mut self,
        configured: Vec<Configured>,
        mut states: BTreeMap<String, DeadmanState>,
        now: Stamp,
    ) {
        // A uuid says more than a name: names may have been swapped.
        let by_uuid: Vec<Option<Found>> =
            configured.iter().map(|it| of_uuid(&mut states, &it.spec)).collect();
        let kept: Vec<Option<Found>> = configured
            .iter()
            .zip(by_uuid)
            .map(|(it, found)| found.or_else(|| of_name(&mut states, &it.spec)))
            .collect();
        for (it, state) in configured.into_iter().zip(kept) {
            self.add(it, state, now);
        }
    }

    fn add(&mut self, it: Configured, state: Option<Found>, now: Stamp) {
        let is_news = state.as_ref().is_none_or(|found| found.is_elsewhere);
        let state = state.map(|found| found.state);
        // How the clocks were taken to stand on this boot must be known for as long as it lasts: they may be set, and then we
        // may start again before anything else was marked.
        let known = state.as_ref().and_then(|state| state.anchor.clone());
        let known = known.filter(|mark| self.line.is_trusted() && self.line.is_here(mark));
        let is_older = |state: &DeadmanState| state.marks().iter().any(|m| !self.line.is_here(m));
        // Also for the sake of pauses, which have no anchor of their own.
        let is_older_here = state.as_ref().is_some_and(is_older)
            || self.pauses.marks().any(|mark| !self.line.is_here(mark));
        let is_needed = known.is_none() && (!self.line.is_trusted() || is_older_here);
        let anchor = if is_needed { Some(self.line.anchor(now)) } else { known };
        let Some(kind) = Kind::new(&it.spec, state, now, &self.line) else {
            return;
        };
        let index = self.entries.len();
        self.by_name.insert(it.spec.name.clone(), index);
        if let Some(id) = it.spec.uuid {
            self.by_id.insert(id, index);
        }
        if it.key.is_some()
            && let Some(slug) = slug_of(&it.spec)
        {
            self.by_slug.insert(slug, index);
        }
        // A switch that is new must be remembered as armed, or a crash loop would arm it for ever; one that was renamed must
        // be found under its new name.
        let dirty = is_news || is_needed;
        let entry = Entry { spec: it.spec, key: it.key, kind, queued: None, dirty, anchor };
        self.entries.push(entry);
        self.enqueue(index, At::of(now));
    }

    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// The handle that issues `watchpost_clock_seconds` at each scrape.
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.spec.name.as_str())
    }

    pub fn spec(&self, name: &str) -> Option<&Arc<Spec>> {
        Some(&self.entries.get(*self.by_name.get(name)?)?.spec)
    }

    /// A key as its file has it now; true when it is another one than before.
    pub fn set_key(&mut self, name: &str, key: Key) -> bool {
        let Some(index) = self.by_name.get(name).copied() else { return false };
        let entry = &mut self.entries[index];
        if entry.key.as_ref() == Some(&key) {
            return false;
        }
        entry.key = Some(key);
        if let Some(slug) = slug_of(&entry.spec) {
            self.by_slug.insert(slug, index);
        }
        true
    }

    /// Whether `presented` opens the door of a watchdog. One without a key is open.
    pub fn opens(&self, name: &str, presented: Option<&[u8]>) -> bool {
        let entry = self.by_name.get(name).and_then(|index| self.entries.get(*index));
        entry.is_some_and(|entry| match (&entry.key, presented) {
            (None, _) => !entry.spec.has_key(),
            (Some(key), Some(presented)) => key.matches(presented),
            (Some(_), None) => false,
        })
    }

    /// Whether anything is behind this address, before more of a request is read than its first line.
    pub fn is_known(&self, address: &Address<'_>) -> Result<(), Refused> {
        self.find(address).map(drop)
    }

    fn find(&self, address: &Address<'_>) -> Result<usize, Refused> {
        match &address.door {
            Door::Id(id) => self.by_id.get(id).copied().ok_or(Refused::NotFound),
            Door::Keyed { key, slug } => {
                let index = *self.by_slug.get(slug).ok_or(Refused::NotFound)?;
                let entry = &self.entries[index];
                let fits = entry.key.as_ref().is_some_and(|own| own.matches(key.as_bytes()));
                if fits { Ok(index) } else { Err(Refused::NotFound) }
            }
        }
    }

    /// What would come of a ping, and the state to keep before it is taken: nothing has changed yet.
    pub fn foretell_ping(
        &self,
        address: &Address<'_>,
        beat: &Beat<'_>,
        now: Stamp,
    ) -> Result<(Taken, DeadmanState), Refused> {
        let mut entry = self.entries[self.find(address)?].clone();
        let Kind::Switch(switch) = &mut entry.kind else { return Err(Refused::NotFound) };
        let result = switch.beat(beat, now, &self.line);
        switch.evaluate(now, &self.line);
        Ok((Taken { name: entry.spec.name.as_str().into(), result }, entry.state()))
    }

    /// What would come of a webhook, and the state to keep before it is taken: nothing has changed yet.
    pub fn foretell_webhook(
        &self,
        name: &str,
        posted: Posted<'_>,
        now: Stamp,
    ) -> Option<(Receipt, DeadmanState)> {
        let mut entry = self.entries.get(*self.by_name.get(name)?)?.clone();
        let Kind::Watchdog(watchdog) = &mut entry.kind else { return None };
        let mut receipt = watchdog.receive(posted, &self.id, &self.clocks, now, &self.line);
        receipt.changed |= watchdog.evaluate(now, &self.line).1;
        Some((receipt, entry.state()))
    }

    /// This state of a switch is in the book: there is nothing to write as long as it is what the switch remembers.
    pub fn confirm(&mut self, name: &str, kept: &DeadmanState) {
        if let Some(entry) = self.by_name.get(name).and_then(|index| self.entries.get_mut(*index))
            && entry.state() == *kept
        {
            entry.dirty = false;
        }
    }

    /// Takes a ping. What is unknown and what has the wrong key is refused alike.
    pub fn ping(
        &mut self,
        address: &Address<'_>,
        beat: &Beat<'_>,
        now: Stamp,
    ) -> Result<Taken, Refused> {
        let index = self.find(address)?;
        let entry = &mut self.entries[index];
        let Kind::Switch(switch) = &mut entry.kind else {
            return Err(Refused::NotFound);
        };
        let result = switch.beat(beat, now, &self.line);
        // Judged at once, so that what comes of it is written with the beat.
        let (_, changed) = switch.evaluate(now, &self.line);
        if changed || !matches!(result, BeatResult::Ignored | BeatResult::Log) {
            entry.dirty = true;
        }
        let name = entry.spec.name.as_str().into();
        self.enqueue(index, At::of(now));
        Ok(Taken { name, result })
    }

    /// Takes Alertmanager's webhook for a watchdog; `None` when there is none of this name. Ask [`Switchboard::opens`]
    /// first.
    pub fn alertmanager<'b>(
        &mut self,
        name: &str,
        posted: impl Into<Posted<'b>>,
        now: Stamp,
    ) -> Option<Receipt> {
        let index = *self.by_name.get(name)?;
        let entry = self.entries.get_mut(index)?;
        let Kind::Watchdog(watchdog) = &mut entry.kind else { return None };
        let mut receipt = watchdog.receive(posted, &self.id, &self.clocks, now, &self.line);
        receipt.changed |= watchdog.evaluate(now, &self.line).1;
        entry.dirty |= receipt.changed;
        self.enqueue(index, At::of(now));
        Some(receipt)
    }

    /// The receiver in Alertmanager by which a watchdog's evidence came last.
    pub fn via(&self, name: &str) -> Option<String> {
        let entry = self.entries.get(*self.by_name.get(name)?)?;
        let Kind::Watchdog(watchdog) = &entry.kind else { return None };
        watchdog.state().via.clone()
    }

    /// Compares the clocks and, when nobody looked for a while, grants what is overdue a moment. To be called every few
    /// seconds; before anything is judged it is done anyway.
    pub fn tick(&mut self, now: Stamp) -> super::line::Tick {
        let tick = self.line.tick(now);
        if let Some(step) = tick.step {
            self.step = Some((At::of(now), step));
        }
        if let Some(gap) = tick.gap {
            self.gap = Some((At::of(now), gap));
            self.wake(now);
        }
        tick
    }

    fn wake(&mut self, now: Stamp) {
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            let held = match &mut entry.kind {
                Kind::Switch(switch) => switch.wake(now, &self.line),
                Kind::Watchdog(watchdog) => watchdog.wake(now, &self.line),
            };
            if held {
                entry.dirty = true;
                self.enqueue(index, At::of(now));
            }
        }
    }

    /// What every switch says whose time has come, or that was beaten since the last call.
    pub fn due(&mut self, now: Stamp) -> Vec<Report> {
        self.tick(now);
        let at = At::of(now);
        let ready: Vec<usize> = self
            .queue
            .iter()
            .take_while(|(when, _)| *when <= at)
            .map(|(_, index)| *index)
            .collect();
        ready.into_iter().map(|index| self.report(index, now)).collect()
    }

    /// What one switch says now.
    pub fn evaluate(&mut self, name: &str, now: Stamp) -> Option<Report> {
        let index = *self.by_name.get(name)?;
        self.tick(now);
        Some(self.report(index, now))
    }

    /// When [`Switchboard::due`] has something to say next.
    pub fn next(&self, now: Stamp) -> Option<Stamp> {
        self.queue.first().map(|(at, _)| self.line.stamp(*at, now))
    }

    fn report(&mut self, index: usize, now: Stamp) -> Report {
        let entry = &mut self.entries[index];
        let name: Arc<str> = entry.spec.name.as_str().into();
        let paused = self.pauses.active(&name, now, &self.line).cloned();
        let mut around = Vec::new();
        let (members, answer, last, changed) = match &mut entry.kind {
            Kind::Switch(switch) => {
                let (verdict, changed) = switch.evaluate(now, &self.line);
                let answer = verdict.answer.clone();
                let last = switch.state().last.clone();
                (vec![(name.clone(), verdict)], answer, last, changed)
            }
            Kind::Watchdog(watchdog) => {
                let (verdicts, changed) = watchdog.evaluate(now, &self.line);
                let answer = watchdog.answer(&verdicts);
                let sources = watchdog.ended(&self.line);
                around.extend((!sources.is_empty()).then_some(Note::Ended { sources }));
                around.extend(watchdog.stranger(now).cloned().map(Note::Unlisted));
                let last = watchdog.last_evidence(&self.line).cloned();
                let members = verdicts.into_iter().map(|(name, it)| (name.into(), it)).collect();
                (members, answer, last, changed)
            }
        };
        entry.dirty |= changed;
        let next =
            members.iter().filter_map(|(_, verdict): &(Arc<str>, Verdict)| verdict.next).min();
        let pause = self.pauses.next(&name, now, &self.line);
        self.requeue(index, [next, pause].into_iter().flatten().min());
        let deadline = members.iter().filter_map(|(_, verdict)| verdict.deadline).min();
        let mut notes = self.notes(&members, now);
        notes.extend(around);
        Report {
            notes,
            deadline: deadline.map(|at| self.line.stamp(at, now)),
            last_beat: last.map(|mark| self.line.stamp(self.line.place(&mark), now)),
            name,
            members,
            answer,
            paused,
        }
    }

    fn notes(&self, members: &[(Arc<str>, Verdict)], now: Stamp) -> Vec<Note> {
        let at = At::of(now);
        let mut notes = Vec::new();
        if let Some((when, gap)) = self.gap
            && at.since(when) <= NOTE_FOR
        {
            let until = self.line.stamp(when, now).wall;
            notes.push(Note::Gap { seconds: gap.as_secs(), until });
        }
        if let Some((when, step)) = self.step
            && at.since(when) <= NOTE_FOR
        {
            notes.push(Note::ClockStepped { seconds: step.as_secs() });
        }
        if !self.line.is_trusted() {
            notes.push(Note::ClockUntrusted);
        }
        if let Some(times) = members.iter().filter_map(|(_, verdict)| verdict.flaps).max() {
            notes.push(Note::Flapping { times });
        }
        notes
    }

    fn enqueue(&mut self, index: usize, at: At) {
        self.requeue(index, Some(at));
    }

    fn requeue(&mut self, index: usize, at: Option<At>) {
        let entry = &mut self.entries[index];
        if entry.dirty {
            self.touched.insert(index);
        }
        if let Some(before) = entry.queued.take() {
            self.queue.remove(&(before, index));
        }
        if let Some(at) = at {
            self.queue.insert((at, index));
            entry.queued = Some(at);
        }
    }

    /// Pauses a switch, or whatever else has this name.
    pub fn pause(&mut self, name: &str, wanted: Wanted<'_>, now: Stamp) -> Result<Pause, NoPause> {
        let pause = self.pauses.add(name, wanted, now, &self.line)?;
        self.look_again(name, now);
        Ok(pause)
    }

    /// The pauses with one more, which is not in force yet.
    pub fn foretell_pause(
        &self,
        name: &str,
        wanted: Wanted<'_>,
        now: Stamp,
    ) -> Result<Pauses, NoPause> {
        let mut pauses = self.pauses.clone();
        pauses.add(name, wanted, now, &self.line)?;
        Ok(pauses)
    }

    pub fn resume(&mut self, name: &str, now: Stamp) -> usize {
        let ended = self.pauses.resume(name, now, &self.line);
        self.look_again(name, now);
        ended
    }

    /// The pauses without those of a name that hold now, and how many these are; they are in force still.
    pub fn foretell_resume(&self, name: &str, now: Stamp) -> (Pauses, usize) {
        let mut pauses = self.pauses.clone();
        let ended = pauses.resume(name, now, &self.line);
        (pauses, ended)
    }

    /// Forgets pauses of what there is no more. True when there was one.
    pub fn keep_pauses_of(&mut self, is_known: impl Fn(&str) -> bool) -> bool {
        let gone: Vec<String> =
            self.pauses.names().filter(|name| !is_known(name)).map(str::to_owned).collect();
        for name in &gone {
            self.pauses.forget(name);
        }
        !gone.is_empty()
    }

    /// Every pause that is not over, with what it pauses, when it begins and when it ends.
    pub fn planned(&self, now: Stamp) -> Vec<Planned> {
        self.pauses.planned(now, &self.line)
    }

    fn look_again(&mut self, name: &str, now: Stamp) {
        if let Some(index) = self.by_name.get(name).copied() {
            self.enqueue(index, At::of(now));
        }
    }

    /// Pauses of everything, probes included: they are kept as a whole.
    pub const fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// The pause that holds for a name, be it of a deadman or of a probe.
    pub fn paused(&self, name: &str, now: Stamp) -> Option<&Pause> {
        self.pauses.active(name, now, &self.line)
    }

    /// States that changed since the last call, to be kept.
    pub fn take_changed(&mut self) -> Vec<(String, DeadmanState)> {
        let mut changed = Vec::new();
        for index in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(index) else { continue };
            if std::mem::take(&mut entry.dirty) {
                changed.push((entry.spec.name.clone(), entry.state()));
            }
        }
        changed
    }

    /// The state of one switch, to be kept before a beat is confirmed.
    pub fn state(&self, name: &str) -> Option<DeadmanState> {
        self.by_name.get(name).and_then(|index| self.entries.get(*index)).map(Entry::state)
    }

    /// Everything that is to be kept.
    pub fn kept(&self) -> Kept {
        let states = self.entries.iter().map(|entry| (entry.spec.name.clone(), entry.state()));
        Kept { states: states.collect(), pauses: self.pauses.clone() }
    }
}

/// A file that cannot be read for a moment does not close a door that it has opened before.
fn keep_key(
    it: Configured,
    keys: &mut BTreeMap<String, (Option<String>, Option<Key>)>,
) -> Configured {
    match keys.remove(&it.spec.name) {
        Some((file, key)) if it.key.is_none() && file.is_some() && file == it.spec.key_file => {
            Configured { key, ..it }
        }
        _ => it,
    }
}

/// The name below a key, of what is pinged.
fn slug_of(spec: &Spec) -> Option<Slug> {
    spec.watchdog.is_none().then(|| spec.slug()).flatten()
}

impl Kind {
    /// A state of the other kind is of a switch that was configured anew under an old name: it starts afresh.
    fn new(spec: &Arc<Spec>, state: Option<DeadmanState>, now: Stamp, line: &Line) -> Option<Self> {
        let kind = state.map(|state| state.kind);
        if spec.watchdog.is_some() {
            let kept = match kind {
                Some(KindState::Watchdog(state)) => Some(state),
                _ => None,
            };
            return Watchdog::new(spec.clone(), kept, now, line).map(Self::Watchdog);
        }
        let kept = match kind {
            Some(KindState::Switch(state)) => Some(state),
            _ => None,
        };
        Switch::new(spec.clone(), kept, now, line).map(Self::Switch)
    }
}

impl Entry {
    fn state(&self) -> DeadmanState {
        let kind = match &self.kind {
            Kind::Switch(switch) => KindState::Switch(switch.state().clone()),
            Kind::Watchdog(watchdog) => KindState::Watchdog(watchdog.state().clone()),
        };
        let anchor = self.anchor.clone();
        DeadmanState { uuid: self.spec.uuid.map(PingId::text), kind, anchor }
    }
}

#[cfg(test)]
mod tests;
