//! From the owner's changes to events of the notifier: which member of what has which status, and who is told.
//!
//! It runs in the owner's task: nothing here waits for a disk or a network. What is decided about an event, and when it
//! reaches anybody, is the notifier's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::deadmen::{self, PROBER};
use super::ledger::{Applied, Changes, Ledger};
use crate::board::GroupView;
use crate::book::{Book, Found, Table, Write as BookWrite};
use crate::model::{Change, Check, CheckId, Notify, ProbePolicy, Stamp, Status, Target, View};
use crate::notify::{Handle, NotifyEvent, Subject};
use crate::web::Beats;

/// How long the book may be unwritable before somebody is told.
const BOOK_PATIENCE: Duration = Duration::from_secs(10);
/// Members that the message about a whole probe names.
const MAX_NAMED: usize = 20;

/// How long after a start it is known whether this watchpost sees: longer than two looks at its references take.
const SIGHT_KNOWN_AFTER: Duration = Duration::from_secs(30);

/// How long the page about a damaged book stays open: nothing ends it by itself.
const DAMAGE_TOLD_FOR: Duration = Duration::from_secs(3_600);

/// Tells the notifier.
#[derive(Debug)]
pub(super) struct Pager {
    notifier: Handle,
    book: Book,
    own: Notify,
    beats: Option<Arc<Beats>>,
    /// Why, in words, a check had the status that was restored.
    reasons: HashMap<CheckId, String>,
    /// Since when the book has not been writable.
    unwritable: Option<Stamp>,
    told_of_book: bool,
    damage: Damage,
    /// Every source of targets was read once.
    settled: bool,
    inherited: Inherited,
    /// Checks that differ from another one of their probe in neither address nor host name.
    twins: HashSet<CheckId>,
}

/// What the process before us may have told of itself, and died before it told the end.
#[derive(Debug, Clone, Copy)]
struct Inherited {
    book: bool,
    sight: Sight,
}

/// Whether people may be told still that the process before us was blind.
#[derive(Debug, Clone, Copy)]
enum Sight {
    Unsure(Option<Stamp>),
    Said,
}

/// Whether people know of a book that was damaged when it was opened.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Unsaid,
    Said(Stamp),
    Over,
}

impl Pager {
    pub(super) fn new(
        notifier: Handle,
        book: Book,
        own: Notify,
        beats: Option<Arc<Beats>>,
    ) -> Self {
        Self {
            notifier,
            book,
            own,
            beats,
            reasons: HashMap::new(),
            unwritable: None,
            told_of_book: false,
            damage: Damage::Unsaid,
            settled: false,
            inherited: Inherited { book: true, sight: Sight::Unsure(None) },
            twins: HashSet::new(),
        }
    }

    /// Tells the ledger what was believed before a restart. To be called before checks are applied.
    pub(super) fn restore(&mut self, ledger: &mut Ledger, now: Stamp) {
        let now = self.book.moment(now);
        for row in self.book.statuses() {
            let (Some(id), Some(status)) = (CheckId::parse(&row.id), row.status()) else {
                continue;
            };
            ledger.restore(id, status, row.since.stamp(&now));
            self.reasons.extend(row.text.map(|text| (id, text)));
        }
    }

    pub(super) fn set_own(&mut self, own: Notify) {
        self.own = own;
    }

    /// Other checks are looked at from now on: what exists is told once more, and what is gone is closed.
    pub(super) fn applied(
        &mut self,
        ledger: &mut Ledger,
        applied: &Applied,
        unread: &BTreeSet<Arc<str>>,
    ) {
        let removed: BTreeSet<(Arc<str>, String)> = applied
            .removed
            .iter()
            .map(|(check, _)| (Arc::clone(&check.policy.name), self.member_of(check)))
            .collect();
        self.twins = twins(ledger);
        for view in ledger.views().filter(|view| notifies(&view.check)) {
            self.notifier.change(self.present(&view));
        }
        for group in ledger.groups().filter(|group| is_whole(group)) {
            self.notifier.change(self.of_group(ledger, &group));
        }
        let mut known = self.known(ledger);
        self.keep_unread(&mut known, &removed, unread);
        self.notifier.reconcile(known);
        let mut gone: Vec<String> =
            applied.removed.iter().map(|(check, _)| check.id.to_string()).collect();
        if unread.is_empty() && !self.settled {
            self.settled = true;
            self.reasons.clear();
            gone.extend(ledger.take_unclaimed().into_iter().map(|(id, _)| id.to_string()));
        }
        self.forget(gone);
    }

    /// What became another status.
    pub(super) fn changed(&self, ledger: &Ledger, changes: &Changes) {
        let mut wholes: BTreeSet<Arc<str>> =
            changes.groups.iter().map(|change| Arc::clone(&change.probe)).collect();
        for change in &changes.checks {
            let Some(view) = ledger.view(change.check).filter(|view| notifies(&view.check)) else {
                continue;
            };
            if view.check.policy.min_up.is_some() {
                wholes.insert(Arc::clone(&view.check.policy.name));
            }
            self.notifier.change(self.of_change(change, &view));
        }
        if wholes.is_empty() {
            return;
        }
        // Also when only a member changed: who is missing is part of the news.
        let groups = ledger.groups().filter(|group| wholes.contains(&group.policy.name));
        for group in groups.filter(|group| is_whole(group)) {
            self.notifier.change(self.of_group(ledger, &group));
        }
    }

    /// One page about ourselves replaces those about everything that we cannot see.
    pub(super) fn set_blind(&mut self, blind: bool, now: Stamp) {
        self.inherited.sight = Sight::Said;
        let (to, text) = if blind {
            let note = "this watchpost is blind: none of its references answers, and no check is called down because of that";
            self.notifier.note(vec![note.to_owned()]);
            (Status::Down, note)
        } else {
            self.notifier.note(Vec::new());
            (Status::Up, "a reference answers again")
        };
        self.tell_own("blind", to, text.to_owned(), now);
    }

    /// What the book knew and does not know any more is told once: who was in trouble, and who was paused.
    fn look_at_damage(&mut self, now: Stamp) {
        let lost = match self.book.found() {
            Found::Corrupt { kept_as, why } => Some(format!(
                "the book was damaged and was begun anew, switches are armed afresh: {why}; the old one is {}",
                kept_as.display()
            )),
            Found::Existing { unreadable_rows: rows @ 1.. } => {
                Some(format!("the book is damaged: {rows} of its rows were lost"))
            }
            _ => None,
        };
        match (self.damage, lost) {
            (Damage::Unsaid, Some(text)) => {
                self.damage = Damage::Said(now);
                self.tell_own("damaged book", Status::Down, text, now);
            }
            (Damage::Said(since), _) if now.since(since) < DAMAGE_TOLD_FOR => {}
            (Damage::Over, _) => {}
            // Also what the process before us said.
            (Damage::Said(_) | Damage::Unsaid, _) => {
                self.damage = Damage::Over;
                self.tell_own("damaged book", Status::Up, "the book is whole".into(), now);
            }
        }
    }

    /// Ends what the process before us told of its blindness, unless we are blind too.
    fn look_at_sight(&mut self, now: Stamp) {
        let Sight::Unsure(since) = self.inherited.sight else { return };
        let since = since.unwrap_or(now);
        self.inherited.sight = Sight::Unsure(Some(since));
        if now.since(since) >= SIGHT_KNOWN_AFTER {
            self.inherited.sight = Sight::Said;
            self.tell_own("blind", Status::Up, "this watchpost sees".to_owned(), now);
        }
    }

    /// Tells of a book that has not been writable for a while, and of its recovery.
    pub(super) fn look_at_book(&mut self, now: Stamp) {
        self.look_at_sight(now);
        self.look_at_damage(now);
        if *self.book.found() == Found::NoFolder {
            return;
        }
        if self.book.writable() {
            self.unwritable = None;
            let inherited = std::mem::take(&mut self.inherited.book);
            if std::mem::take(&mut self.told_of_book) || inherited {
                self.tell_own("book", Status::Up, "the book can be written again".into(), now);
            }
            return;
        }
        let since = *self.unwritable.get_or_insert(now);
        if !self.told_of_book && now.since(since) >= BOOK_PATIENCE {
            self.told_of_book = true;
            let text = "the book cannot be written: a restart may repeat or forget pages, and beats are answered with 503";
            tracing::error!(text);
            self.tell_own("book", Status::Down, text.into(), since);
        }
    }

    fn tell_own(&self, what: &str, to: Status, text: String, at: Stamp) {
        self.notifier.change(NotifyEvent {
            subject: Subject::watchpost(what),
            member: what.to_owned(),
            to,
            at,
            text,
            evidence: None,
            notify: self.own.clone(),
            keep_as: None,
        });
    }

    /// A check as it stands now.
    fn present(&self, view: &View) -> NotifyEvent {
        let answer = view.last.as_deref().map(|outcome| outcome.answer.to_string());
        let text = answer.or_else(|| self.reasons.get(&view.check.id).cloned());
        NotifyEvent {
            subject: subject_of(&view.check.policy),
            member: self.member_of(&view.check),
            to: view.status,
            at: view.since,
            text: text.unwrap_or_else(|| view.status.label().to_owned()),
            evidence: self.evidence(view),
            notify: notify_of(&view.check),
            keep_as: Some(view.check.id.to_string()),
        }
    }

    fn of_change(&self, change: &Change, view: &View) -> NotifyEvent {
        let subject = subject_of(&view.check.policy);
        let member = self.member_of(&view.check);
        let event = NotifyEvent::of(change, subject, member, notify_of(&view.check));
        NotifyEvent { evidence: self.evidence(view), ..event }
    }

    /// The last good news, and what is known beside it.
    fn evidence(&self, view: &View) -> Option<String> {
        let policy = &view.check.policy;
        if policy.prober == PROBER {
            let beats = self.beats.as_ref()?;
            return deadmen::evidence(beats, &policy.name, &view.check.target.address);
        }
        let at = view.last_success?;
        Some(format!("last success {}", at.wall.strftime("%Y-%m-%d %H:%M:%S UTC")))
    }

    /// A probe as a whole has one member, which is named like it.
    fn of_group(&self, ledger: &Ledger, group: &GroupView) -> NotifyEvent {
        let policy = &group.policy;
        let is_deadman = policy.prober == PROBER;
        let what = if is_deadman { "sources" } else { "targets" };
        let (up, all) = (group.headcount.up, group.members.len());
        let missing = self.missing(ledger, group);
        let text = match policy.min_up {
            _ if all == 1 && !missing.is_empty() => missing,
            Some(min_up) if missing.is_empty() => {
                format!("{up} of {all} {what} up, at least {min_up} must be")
            }
            Some(min_up) => {
                format!("{up} of {all} {what} up, at least {min_up} must be: {missing}")
            }
            None => format!("{up} of {all} {what} up"),
        };
        let beats = self.beats.as_ref().filter(|_| is_deadman);
        NotifyEvent {
            subject: subject_of(policy),
            member: policy.name.to_string(),
            to: group.status,
            at: group.since,
            text,
            evidence: beats.and_then(|beats| deadmen::evidence_of_all(beats, &policy.name)),
            notify: policy.notify.clone(),
            keep_as: None,
        }
    }

    /// A target as a message names it. Where several share an address, because they differ in headers or credentials, each
    /// is named by its check too: one that recovers must not end what is told of another.
    fn member_of(&self, check: &Check) -> String {
        let Target { address, hostname, .. } = &check.target;
        let mut name = match hostname {
            Some(hostname) => format!("{address} ({hostname})"),
            None => address.clone(),
        };
        if self.twins.contains(&check.id) {
            write!(name, " #{}", check.id).expect("a String takes everything");
        }
        name
    }

    /// Which members are not up, and why: the worst first.
    fn missing(&self, ledger: &Ledger, group: &GroupView) -> String {
        let views = group.members.iter().filter_map(|id| ledger.view(*id));
        let mut missing: Vec<Arc<View>> =
            views.filter(|view| !matches!(view.status, Status::Up | Status::Paused)).collect();
        missing.sort_by_key(|view| view.status != Status::Down);
        let mut text = String::new();
        for (index, view) in missing.iter().take(MAX_NAMED).enumerate() {
            let before = if index == 0 { "" } else { "; " };
            let answer = view.last.as_deref().filter(|outcome| outcome.answer.reason().is_some());
            let why = answer.map(|outcome| format!(" ({})", outcome.answer)).unwrap_or_default();
            let (name, status) = (self.member_of(&view.check), view.status.label());
            write!(text, "{before}{name} is {status}{why}").expect("a String takes everything");
        }
        text
    }

    /// Everything that notifies, with its members.
    fn known(&self, ledger: &Ledger) -> BTreeMap<Subject, Vec<String>> {
        let mut known: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
        for view in ledger.views().filter(|view| notifies(&view.check)) {
            if view.check.policy.min_up.is_none() {
                let subject = subject_of(&view.check.policy);
                known.entry(subject).or_default().push(self.member_of(&view.check));
            }
        }
        for group in ledger.groups().filter(|group| is_whole(group)) {
            known.insert(subject_of(&group.policy), vec![group.policy.name.to_string()]);
        }
        known
    }

    /// Targets that may only not have been read yet are not gone, unless they were there a moment ago.
    fn keep_unread(
        &self,
        known: &mut BTreeMap<Subject, Vec<String>>,
        removed: &BTreeSet<(Arc<str>, String)>,
        unread: &BTreeSet<Arc<str>>,
    ) {
        if unread.is_empty() {
            return;
        }
        for episode in self.notifier.snapshot().episodes {
            if episode.kind != "probe" || !unread.contains(episode.name.as_str()) {
                continue;
            }
            let members = episode.members.into_keys();
            let name: Arc<str> = episode.name.as_str().into();
            let kept = members.filter(|m| !removed.contains(&(Arc::clone(&name), m.clone())));
            known.entry(Subject::probe(episode.name.as_str())).or_default().extend(kept);
        }
    }

    /// A target that comes back later begins anew.
    fn forget(&self, ids: Vec<String>) {
        let rows: Vec<BookWrite> =
            ids.into_iter().map(|id| BookWrite::Delete(Table::Statuses, id)).collect();
        if !rows.is_empty() {
            // Not waited for: a row that stays is read and dropped by the next start.
            drop(self.book.write(rows));
        }
    }
}

/// Whether anybody is told of this check, alone or with its probe.
fn notifies(check: &Check) -> bool {
    !check.policy.notify.receivers.is_empty()
}

/// Whether the probe is judged and told of as a whole.
fn is_whole(group: &GroupView) -> bool {
    group.policy.min_up.is_some() && !group.policy.notify.receivers.is_empty()
}

/// Nobody is told of the members of a probe that is judged as a whole; their status is kept all the same.
fn notify_of(check: &Check) -> Notify {
    if check.policy.min_up.is_some() { Notify::default() } else { check.policy.notify.clone() }
}

/// A probe, or a dead man's switch.
fn subject_of(policy: &ProbePolicy) -> Subject {
    if policy.prober == PROBER {
        Subject::deadman(&*policy.name)
    } else {
        Subject::probe(&*policy.name)
    }
}

/// Checks of a probe that have address and host name in common.
fn twins(ledger: &Ledger) -> HashSet<CheckId> {
    let mut first: HashMap<(Arc<str>, String, Option<String>), CheckId> = HashMap::new();
    let mut twins = HashSet::new();
    for view in ledger.views() {
        let Check { id, policy, target, .. } = &*view.check;
        let key = (Arc::clone(&policy.name), target.address.clone(), target.hostname.clone());
        if let Some(other) = first.insert(key, *id) {
            twins.extend([other, *id]);
        }
    }
    twins
}

#[cfg(test)]
mod tests;
