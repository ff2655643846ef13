//! From the owner's changes to events of the notifier: which member of what has which status, and who is told.
//!
//! It runs in the owner's task: nothing here waits for a disk or a network. What is decided about an event, and when it
//! reaches anybody, is the notifier's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::deadmen::PROBER;
use super::ledger::{Applied, Changes, Ledger};
use crate::board::GroupView;
use crate::book::{Book, Found, Table, Write as BookWrite};
use crate::model::{
    Change, Check, CheckId, GroupChange, Notify, ProbePolicy, Stamp, Status, Target, View,
};
use crate::notify::{Handle, NotifyEvent, Subject};

/// How long the book may be unwritable before somebody is told.
const BOOK_PATIENCE: Duration = Duration::from_secs(10);

/// Tells the notifier.
#[derive(Debug)]
pub(super) struct Pager {
    notifier: Handle,
    book: Book,
    own: Notify,
    /// Why, in words, a check had the status that was restored.
    reasons: HashMap<CheckId, String>,
    /// Since when the book has not been writable.
    unwritable: Option<Stamp>,
    told_of_book: bool,
    /// Every source of targets was read once.
    settled: bool,
}

impl Pager {
    pub(super) fn new(notifier: Handle, book: Book, own: Notify) -> Self {
        Self {
            notifier,
            book,
            own,
            reasons: HashMap::new(),
            unwritable: None,
            told_of_book: false,
            settled: false,
        }
    }

    /// Tells the ledger what was believed before a restart. To be called before checks are applied.
    pub(super) fn restore(&mut self, ledger: &mut Ledger) {
        let now = self.book.now();
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
        for view in ledger.views().filter(|view| notifies(&view.check)) {
            self.notifier.change(self.present(&view));
        }
        for group in ledger.groups().filter(|group| is_whole(group)) {
            self.notifier.change(of_group(&group));
        }
        let mut known = Self::known(ledger);
        self.keep_unread(&mut known, applied, unread);
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
        for change in &changes.checks {
            if let Some(view) = ledger.view(change.check).filter(|view| notifies(&view.check)) {
                self.notifier.change(of_change(change, &view));
            }
        }
        for change in &changes.groups {
            let group = ledger.groups().find(|group| group.policy.name == change.probe);
            if let Some(group) = group.filter(|group| is_whole(group)) {
                self.notifier.change(of_group_change(change, &group));
            }
        }
    }

    /// One page about ourselves replaces those about everything that we cannot see.
    pub(super) fn set_blind(&self, blind: bool, now: Stamp) {
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

    /// Tells of a book that has not been writable for a while, and of its recovery.
    pub(super) fn look_at_book(&mut self, now: Stamp) {
        if *self.book.found() == Found::NoFolder {
            return;
        }
        if self.book.writable() {
            self.unwritable = None;
            if std::mem::take(&mut self.told_of_book) {
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
            member: member_of(&view.check.target),
            to: view.status,
            at: view.since,
            text: text.unwrap_or_else(|| view.status.label().to_owned()),
            evidence: evidence(view),
            notify: notify_of(&view.check),
            keep_as: Some(view.check.id.to_string()),
        }
    }

    /// Everything that notifies, with its members.
    fn known(ledger: &Ledger) -> BTreeMap<Subject, Vec<String>> {
        let mut known: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
        for view in ledger.views().filter(|view| notifies(&view.check)) {
            if view.check.policy.min_up.is_none() {
                let subject = subject_of(&view.check.policy);
                known.entry(subject).or_default().push(member_of(&view.check.target));
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
        applied: &Applied,
        unread: &BTreeSet<Arc<str>>,
    ) {
        if unread.is_empty() {
            return;
        }
        let removed: BTreeSet<(&str, String)> = applied
            .removed
            .iter()
            .map(|(check, _)| (&*check.policy.name, member_of(&check.target)))
            .collect();
        for episode in self.notifier.snapshot().episodes {
            if episode.kind != "probe" || !unread.contains(episode.name.as_str()) {
                continue;
            }
            let members = episode.members.into_keys();
            let kept = members.filter(|m| !removed.contains(&(episode.name.as_str(), m.clone())));
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

/// A target as a message names it.
fn member_of(target: &Target) -> String {
    match &target.hostname {
        Some(hostname) => format!("{} ({hostname})", target.address),
        None => target.address.clone(),
    }
}

/// The last good news.
fn evidence(view: &View) -> Option<String> {
    let at = view.last_success?;
    let what = if view.check.policy.prober == PROBER { "last good news" } else { "last success" };
    Some(format!("{what} {}", at.wall.strftime("%Y-%m-%d %H:%M:%S UTC")))
}

fn of_change(change: &Change, view: &View) -> NotifyEvent {
    let subject = subject_of(&view.check.policy);
    let member = member_of(&view.check.target);
    let event = NotifyEvent::of(change, subject, member, notify_of(&view.check));
    NotifyEvent { evidence: evidence(view), ..event }
}

/// A probe as a whole has one member, which is named like it.
fn of_group(group: &GroupView) -> NotifyEvent {
    let name = group.policy.name.to_string();
    let mut text = format!("{} of {} targets up", group.headcount.up, group.members.len());
    if let Some(min_up) = group.policy.min_up {
        write!(text, ", at least {min_up} must be").expect("a String takes everything");
    }
    NotifyEvent {
        subject: subject_of(&group.policy),
        member: name,
        to: group.status,
        at: group.since,
        text,
        evidence: None,
        notify: group.policy.notify.clone(),
        keep_as: None,
    }
}

fn of_group_change(change: &GroupChange, group: &GroupView) -> NotifyEvent {
    let mut event = of_group(group);
    for (index, (check, status)) in change.missing.iter().enumerate() {
        let before = if index == 0 { ": " } else { ", " };
        write!(event.text, "{before}{} is {}", member_of(&check.target), status.label())
            .expect("a String takes everything");
    }
    event.to = change.to;
    event.at = change.at;
    event
}
