//! Episodes: from trouble to recovery, one for each subject and receiver. Pure: told `now`, answers with decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::event::{NotifyEvent, Subject, SubjectKind};
use crate::book::{Episode, EpisodeState, Member, Moment, NoteKind};
use crate::model::Status;

/// How many members an episode remembers with all that is known of them. Beyond, recovered ones are forgotten, and of those in
/// trouble only the text: the episode must not end before they have recovered. They are as many as there are checks at most.
const MAX_MEMBERS: usize = 2_000;
/// For how long an episode that ended lends its flaps to the next one of its key.
const REMEMBER: Duration = Duration::from_secs(3_600);
/// Doublings of `resolve_after` by flapping.
const MAX_DOUBLINGS: u32 = 5;
/// The longest wait for stable recovery.
const MAX_RESOLVE_AFTER: Duration = Duration::from_secs(30 * 60);

/// How episodes of one receiver behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Tell again after this long while nothing changes. The probe's own `repeat` wins.
    pub repeat: Duration,
    /// Changes of members are told at most this often.
    pub update_after: Duration,
    /// How long everything must be well before an episode ends.
    pub resolve_after: Duration,
    /// How long the resolved form is told again; for receivers that forget.
    pub resolved_for: Option<Duration>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            repeat: Duration::from_secs(4 * 3_600),
            update_after: Duration::from_secs(5 * 60),
            resolve_after: Duration::from_secs(60),
            resolved_for: None,
        }
    }
}

impl Rule {
    /// Whether the receiver forgets what it is not told again.
    const fn is_continuous(&self) -> bool {
        self.resolved_for.is_some()
    }
}

/// What a status means to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Trouble,
    /// Neither better nor worse, as far as we can tell.
    Hold,
    Recovered,
    /// Not looked at any more: no waiting for stable recovery.
    Gone,
}

impl Verdict {
    /// `told`: the receiver is told of the status that was entered.
    ///
    /// A degraded service that its receiver does not want to hear of has recovered as far as that receiver goes, so that
    /// its next outage is a new page. Down is never taken for a recovery, and unknown says nothing.
    pub const fn of(to: Status, told: bool) -> Self {
        match to {
            Status::Up => Self::Recovered,
            Status::Paused => Self::Gone,
            Status::Down | Status::Degraded | Status::Unknown if told => Self::Trouble,
            Status::Degraded => Self::Recovered,
            Status::Down | Status::Unknown => Self::Hold,
        }
    }
}

/// What happened to an episode: it is to be stored, and told if there is a `note`.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub episode: Episode,
    pub note: Option<NoteKind>,
    /// The episode is over for good: forget it.
    pub forget: bool,
}

impl Decision {
    fn store(episode: &Episode) -> Self {
        Self { episode: episode.clone(), note: None, forget: false }
    }

    fn tell(episode: &mut Episode, note: NoteKind, now: &Moment) -> Self {
        episode.last_notified = Some(now.clone());
        episode.changed = false;
        episode.notifications = episode.notifications.saturating_add(1);
        episode.told = worst(episode).map(|s| s.label().to_owned());
        Self { episode: episode.clone(), note: Some(note), forget: false }
    }
}

/// The dedup key of what is about `subject`: the same in every region and for every receiver.
pub fn dedup_key(subject: &Subject, group: Option<&str>) -> String {
    let mut hash = Sha256::new();
    for part in [subject.kind.label(), &subject.name, group.unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    digest.iter().fold(String::from("watchpost-"), |text, byte| format!("{text}{byte:02x}"))
}

/// All episodes, by receiver and dedup key. One that ended stays for [`REMEMBER`].
#[derive(Debug, Clone, Default)]
pub struct Episodes {
    all: BTreeMap<(String, String), Episode>,
    /// Episodes that a newer one of their key took the place of, to be forgotten.
    replaced: Vec<Episode>,
    made: u64,
    /// The watchpost that these are of.
    owner: String,
}

impl Episodes {
    /// Episodes as the book has them. What lies ahead of `now`, because the wall clock was wrong then or is now, counts
    /// as just now: waits begin anew instead of lasting until the clock has caught up.
    pub fn restore(episodes: Vec<Episode>, now: &Moment) -> Self {
        let made = episodes.len() as u64;
        let mut all = BTreeMap::new();
        let mut replaced = Vec::new();
        for mut episode in episodes {
            begin_waits_anew(&mut episode, now);
            let slot = (episode.receiver.clone(), episode.key.clone());
            let goes_on = all.get(&slot).is_none_or(|other| outlives(&episode, other));
            replaced.extend(if goes_on { all.insert(slot, episode) } else { Some(episode) });
        }
        Self { all, replaced, made, owner: String::new() }
    }

    pub fn open(&self) -> impl Iterator<Item = &Episode> {
        self.all.values().filter(|e| e.state == EpisodeState::Open)
    }

    pub fn by_id(&self, id: &str) -> Option<&Episode> {
        self.all.values().find(|e| e.id == id)
    }

    /// An open episode in trouble as it is now, which counts as told from here on.
    pub fn refresh(&mut self, id: &str) -> Option<Episode> {
        let episode = self.all.values_mut().find(|e| e.id == id)?;
        let worst = worst(episode)?;
        episode.changed = false;
        episode.told = Some(worst.label().to_owned());
        Some(episode.clone())
    }

    /// Notes with which key an episode was opened.
    pub fn pin_route(&mut self, id: &str, fingerprint: &str) -> Option<Decision> {
        let episode = self.all.values_mut().find(|e| e.id == id)?;
        if episode.route.as_deref() == Some(fingerprint) {
            return None;
        }
        episode.route = Some(fingerprint.to_owned());
        Some(Decision::store(episode))
    }

    /// Episodes about ourselves are those of this watchpost.
    #[must_use]
    pub fn of_watchpost(self, id: &str) -> Self {
        Self { owner: id.to_owned(), ..self }
    }

    /// A member's status.
    pub fn apply(
        &mut self,
        event: &NotifyEvent,
        rules: &BTreeMap<String, Rule>,
        now: &Moment,
    ) -> Vec<Decision> {
        // Two regions that are blind are two things, and one's recovery must not end the other's.
        let group = match event.subject.kind {
            SubjectKind::Watchpost => Some(self.owner.as_str()),
            _ => event.notify.by_target.then_some(event.member.as_str()),
        };
        let key = dedup_key(&event.subject, group);
        let mut decisions = self.leave_others(event, &key, rules, now);
        for receiver in self.concerned(event, &key) {
            let rule = rules.get(&receiver).cloned().unwrap_or_default();
            let verdict = Verdict::of(event.to, self.is_told(event, &receiver, &key));
            let slot = (receiver, key.clone());
            let leaving = match verdict {
                Verdict::Trouble => {
                    decisions.extend(self.trouble(slot, event, &rule, now));
                    continue;
                }
                Verdict::Hold => continue,
                Verdict::Recovered => Leaving::Well(event),
                Verdict::Gone => Leaving::Paused(event),
            };
            decisions.extend(self.recover(&slot, &event.member, leaving, &rule, now));
        }
        decisions
    }

    /// What is told under `key` from now on is not in trouble under another key any more: it was grouped otherwise, or by
    /// a watchpost of another name, and nothing would ever be told under that key again.
    fn leave_others(
        &mut self,
        event: &NotifyEvent,
        key: &str,
        rules: &BTreeMap<String, Rule>,
        now: &Moment,
    ) -> Vec<Decision> {
        // A member of what is told as a whole has no key of its own.
        if event.notify.receivers.is_empty() {
            return Vec::new();
        }
        let (kind, name) = (event.subject.kind.label(), &event.subject.name);
        let others = self.open().filter(|e| e.key != key && e.kind == kind && e.name == *name);
        let slots: Vec<_> = others
            .filter(|e| e.members.contains_key(&event.member))
            .map(|e| (e.receiver.clone(), e.key.clone()))
            .collect();
        let mut decisions = Vec::new();
        for slot in slots {
            let rule = rules.get(&slot.0).cloned().unwrap_or_default();
            decisions.extend(self.recover(&slot, &event.member, Leaving::Removed, &rule, now));
        }
        decisions
    }

    /// A member that is not looked at any more, because it was removed from the configuration or from discovery. `None`
    /// removes the whole subject.
    pub fn remove(
        &mut self,
        subject: &Subject,
        member: Option<&str>,
        rules: &BTreeMap<String, Rule>,
        now: &Moment,
    ) -> Vec<Decision> {
        let slots: Vec<_> = self
            .all
            .iter()
            .filter(|(_, e)| e.state == EpisodeState::Open)
            .filter(|(_, e)| e.kind == subject.kind.label() && e.name == subject.name)
            .map(|(slot, e)| (slot.clone(), e.members.keys().cloned().collect::<Vec<_>>()))
            .collect();
        let mut decisions = Vec::new();
        for (slot, names) in slots {
            let rule = rules.get(&slot.0).cloned().unwrap_or_default();
            for name in names.iter().filter(|n| member.is_none_or(|m| m == n.as_str())) {
                decisions.extend(self.recover(&slot, name, Leaving::Removed, &rule, now));
            }
        }
        decisions
    }

    /// Tells of `id` to `fallback` too, because its receiver cannot deliver.
    pub fn escalate(
        &mut self,
        id: &str,
        fallback: &str,
        because: &str,
        now: &Moment,
    ) -> Vec<Decision> {
        let Some(slot) = self.all.iter().find(|(_, e)| e.id == id).map(|(slot, _)| slot.clone())
        else {
            return Vec::new();
        };
        let mut decisions = Vec::new();
        let id = self.next_id(now);
        let Some(origin) = self.all.get_mut(&slot) else { return Vec::new() };
        origin.escalated = true;
        decisions.push(Decision::store(origin));
        let origin = origin.clone();
        let stand_in_slot = (fallback.to_owned(), slot.1);
        let is_open = self.all.get(&stand_in_slot).is_some_and(|e| e.state == EpisodeState::Open);
        if is_open {
            return decisions;
        }
        let mut stand_in = Episode {
            id,
            receiver: fallback.to_owned(),
            state: EpisodeState::Open,
            last_notified: None,
            notifications: 0,
            route: None,
            escalated: false,
            instead_of: Some(origin.receiver.clone()),
            instead_because: Some(because.to_owned()),
            ..origin
        };
        decisions.push(Decision::tell(&mut stand_in, NoteKind::Trigger, now));
        let ended = self.all.insert(stand_in_slot, stand_in);
        self.replaced.extend(ended);
        decisions
    }

    /// What is due by time alone: ends, updates, repeats.
    pub fn tick(&mut self, rules: &BTreeMap<String, Rule>, now: &Moment) -> Vec<Decision> {
        let replaced = std::mem::take(&mut self.replaced);
        let mut decisions: Vec<_> =
            replaced.iter().map(|e| Decision { forget: true, ..Decision::store(e) }).collect();
        let mut forgotten = Vec::new();
        for (slot, episode) in &mut self.all {
            let rule = rules.get(&slot.0).cloned().unwrap_or_default();
            let Some(decision) = due(episode, &rule, now) else { continue };
            if decision.forget {
                forgotten.push(slot.clone());
            }
            decisions.push(decision);
        }
        for slot in forgotten {
            self.all.remove(&slot);
        }
        decisions
    }

    /// Receivers that are told of this status, or that have an open episode about it.
    fn concerned(&self, event: &NotifyEvent, key: &str) -> BTreeSet<String> {
        let told = event.notify.receivers.values().flatten().cloned();
        let open = self.open().filter(|e| e.key == key).map(|e| e.receiver.clone());
        told.chain(open).collect()
    }

    /// A stand-in is told of whatever the one it stands in for is told of.
    fn is_told(&self, event: &NotifyEvent, receiver: &str, key: &str) -> bool {
        let mut name = receiver.to_owned();
        let mut seen = BTreeSet::new();
        while seen.insert(name.clone()) {
            if event.is_told(&name) {
                return true;
            }
            let episode = self.all.get(&(name, key.to_owned()));
            let Some(origin) = episode
                .filter(|e| e.state == EpisodeState::Open)
                .and_then(|e| e.instead_of.clone())
            else {
                return false;
            };
            name = origin;
        }
        false
    }

    /// An id that no other episode has: a clock that begins at 1970 with every boot says the same time again.
    fn next_id(&mut self, now: &Moment) -> String {
        loop {
            self.made += 1;
            let id = episode_id(now, self.made);
            if self.all.values().chain(&self.replaced).all(|other| other.id != id) {
                return id;
            }
        }
    }

    fn trouble(
        &mut self,
        slot: (String, String),
        event: &NotifyEvent,
        rule: &Rule,
        now: &Moment,
    ) -> Option<Decision> {
        let member = Member {
            status: event.to.label().to_owned(),
            since: Moment::new(event.at, now.boot_id.clone()),
            text: event.text.clone(),
            evidence: event.evidence.clone(),
        };
        if let Some(episode) = self.all.get_mut(&slot)
            && episode.state == EpisodeState::Open
        {
            return worsen(episode, &event.member, member, event, rule, now);
        }
        let id = self.next_id(now);
        let flaps = self.all.get(&slot).map_or(0, |ended| ended.flaps.saturating_add(1));
        let mut episode = Episode {
            id,
            key: slot.1.clone(),
            receiver: slot.0.clone(),
            kind: event.subject.kind.label().to_owned(),
            name: event.subject.name.clone(),
            group: event.notify.by_target.then(|| event.member.clone()),
            members: BTreeMap::from([(event.member.clone(), member)]),
            state: EpisodeState::Open,
            opened: now.clone(),
            last_notified: None,
            told: None,
            changed: false,
            quiet_since: None,
            resolved: None,
            flaps,
            notifications: 0,
            route: None,
            runbook: event.notify.runbook.clone(),
            repeat_seconds: event.notify.repeat.map(|r| r.as_secs()),
            instead_of: None,
            instead_because: None,
            escalated: false,
        };
        let decision = Decision::tell(&mut episode, NoteKind::Trigger, now);
        let ended = self.all.insert(slot, episode);
        self.replaced.extend(ended);
        Some(decision)
    }

    fn recover(
        &mut self,
        slot: &(String, String),
        member: &str,
        leaving: Leaving<'_>,
        rule: &Rule,
        now: &Moment,
    ) -> Option<Decision> {
        let episode = self.all.get_mut(slot).filter(|e| e.state == EpisodeState::Open)?;
        let known = episode.members.get_mut(member)?;
        if !in_trouble(known) {
            return None;
        }
        leaving.mark(known, now);
        episode.changed = true;
        if worst(episode).is_some() {
            let tell = rule.is_continuous();
            return Some(if tell {
                Decision::tell(episode, NoteKind::Update, now)
            } else {
                Decision::store(episode)
            });
        }
        episode.quiet_since = Some(now.clone());
        // Nobody will see a removed thing fail again: there is nothing to wait for.
        if !matches!(leaving, Leaving::Well(_)) && everything_left(episode) {
            return Some(end(episode, now));
        }
        Some(Decision::store(episode))
    }
}

/// How a member stops being in trouble.
#[derive(Clone, Copy)]
enum Leaving<'a> {
    Well(&'a NotifyEvent),
    Paused(&'a NotifyEvent),
    Removed,
}

impl Leaving<'_> {
    fn mark(&self, member: &mut Member, now: &Moment) {
        let (status, since) = match self {
            Self::Well(event) => (event.to.label(), Moment::new(event.at, now.boot_id.clone())),
            Self::Paused(event) => {
                member.text.clone_from(&event.text);
                ("paused", Moment::new(event.at, now.boot_id.clone()))
            }
            Self::Removed => ("removed", now.clone()),
        };
        // Degraded that is not told counts as well here.
        status_of_recovered(status).clone_into(&mut member.status);
        member.since = since;
    }
}

fn status_of_recovered(status: &str) -> &str {
    match status {
        "paused" | "removed" => status,
        _ => "up",
    }
}

fn everything_left(episode: &Episode) -> bool {
    let mut ended = episode.members.values().map(|m| m.status.as_str());
    ended.all(|s| matches!(s, "paused" | "removed"))
}

/// New trouble in an open episode.
fn worsen(
    episode: &mut Episode,
    name: &str,
    member: Member,
    event: &NotifyEvent,
    rule: &Rule,
    now: &Moment,
) -> Option<Decision> {
    episode.runbook.clone_from(&event.notify.runbook);
    episode.repeat_seconds = event.notify.repeat.map(|r| r.as_secs());
    let before = episode.members.get(name);
    if before.is_some_and(|m| m.status == member.status && m.text == member.text) {
        return None;
    }
    let is_news = before.is_none_or(|m| m.status != member.status);
    // Trouble that goes on keeps its beginning, whatever its words are now.
    let since = before.filter(|m| in_trouble(m)).map(|m| m.since.clone());
    let member = Member { since: since.unwrap_or_else(|| member.since.clone()), ..member };
    let member = make_room(&mut episode.members, name, member);
    episode.members.insert(name.to_owned(), member);
    if episode.quiet_since.take().is_some() {
        episode.flaps = episode.flaps.saturating_add(1);
    }
    episode.changed |= is_news;
    let told = episode.told.as_deref().and_then(parse_status);
    let is_worse = worst(episode).map(rank) > told.map(rank);
    if is_news && (is_worse || rule.is_continuous()) {
        return Some(Decision::tell(episode, NoteKind::Update, now));
    }
    Some(Decision::store(episode))
}

fn make_room(members: &mut BTreeMap<String, Member>, name: &str, member: Member) -> Member {
    if members.len() < MAX_MEMBERS || members.contains_key(name) {
        return member;
    }
    let recovered = members.iter().find(|(_, m)| !in_trouble(m)).map(|(n, _)| n.clone());
    match recovered {
        Some(recovered) => {
            members.remove(&recovered);
            member
        }
        None => Member { text: String::new(), evidence: None, ..member },
    }
}

/// What time alone does to an episode.
fn due(episode: &mut Episode, rule: &Rule, now: &Moment) -> Option<Decision> {
    // The clock may have been set back since the start; of an earlier boot, only it knows the age.
    begin_waits_anew(episode, now);
    let age = |then: &Option<Moment>| then.as_ref().map(|m| m.age(now).unwrap_or_default());
    let told_ago = age(&episode.last_notified).unwrap_or(Duration::MAX);
    if episode.state == EpisodeState::Resolved {
        let ended_ago = age(&episode.resolved).unwrap_or(Duration::MAX);
        if rule.resolved_for.is_some_and(|f| ended_ago < f) && told_ago >= rule.repeat {
            return Some(Decision::tell(episode, NoteKind::Resolve, now));
        }
        if ended_ago >= REMEMBER {
            return Some(Decision { forget: true, ..Decision::store(episode) });
        }
        return None;
    }
    if let Some(quiet) = age(&episode.quiet_since) {
        if quiet >= resolve_after(episode, rule) {
            return Some(end(episode, now));
        }
        if !rule.is_continuous() {
            return None;
        }
    }
    let repeat = match episode.repeat_seconds {
        Some(seconds) if !rule.is_continuous() => Duration::from_secs(seconds),
        _ => rule.repeat,
    };
    if told_ago >= repeat {
        return Some(Decision::tell(episode, NoteKind::Repeat, now));
    }
    if episode.changed && told_ago >= rule.update_after {
        return Some(Decision::tell(episode, NoteKind::Update, now));
    }
    None
}

/// Flapping makes us wait longer for the end, so that it costs few pages.
fn resolve_after(episode: &Episode, rule: &Rule) -> Duration {
    let factor = 1 << episode.flaps.min(MAX_DOUBLINGS);
    rule.resolve_after.saturating_mul(factor).min(MAX_RESOLVE_AFTER.max(rule.resolve_after))
}

fn end(episode: &mut Episode, now: &Moment) -> Decision {
    episode.state = EpisodeState::Resolved;
    episode.resolved = Some(now.clone());
    Decision::tell(episode, NoteKind::Resolve, now)
}

pub(super) fn in_trouble(member: &Member) -> bool {
    matches!(member.status.as_str(), "down" | "degraded" | "unknown")
}

/// The worst status of any member in trouble.
pub(super) fn worst(episode: &Episode) -> Option<Status> {
    let troubles = episode.members.values().filter(|m| in_trouble(m));
    troubles.filter_map(|m| parse_status(&m.status)).max_by_key(|s| rank(*s))
}

fn parse_status(label: &str) -> Option<Status> {
    Status::ALL.into_iter().find(|s| s.label() == label)
}

const fn rank(status: Status) -> u8 {
    match status {
        Status::Up | Status::Paused => 0,
        Status::Degraded => 1,
        Status::Unknown => 2,
        Status::Down => 3,
    }
}

/// What lies ahead of `now`, because the wall clock was wrong then or is now, counts as just now.
fn begin_waits_anew(episode: &mut Episode, now: &Moment) {
    let moments = [&mut episode.last_notified, &mut episode.quiet_since, &mut episode.resolved];
    for moment in moments.into_iter().flatten().filter(|m| m.age(now).is_none()) {
        *moment = now.clone();
    }
}

/// Which of two episodes of one key goes on: the one that is open; of equals the one that was opened last. The wall clock
/// may have been set in between, so within one boot it is not asked.
fn outlives(one: &Episode, other: &Episode) -> bool {
    let is_open = |episode: &Episode| episode.state == EpisodeState::Open;
    if is_open(one) != is_open(other) {
        return is_open(one);
    }
    let (one, other) = (&one.opened, &other.opened);
    if !one.boot_id.is_empty() && one.boot_id == other.boot_id {
        return one.boot > other.boot;
    }
    one.wall > other.wall
}

fn episode_id(now: &Moment, serial: u64) -> String {
    format!("e{:x}-{serial:x}", now.wall.as_microsecond())
}

#[cfg(test)]
mod tests;
