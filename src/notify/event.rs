//! What comes in: the status of one member of something that notifies.

use crate::model::{Change, Notify, Stamp, Status};

/// What a notification is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    pub kind: SubjectKind,
    /// The probe's or switch's name.
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    Probe,
    Deadman,
    /// Ourselves: blindness, a receiver that cannot deliver, a damaged book.
    Watchpost,
}

impl SubjectKind {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Deadman => "deadman",
            Self::Watchpost => "watchpost",
        }
    }
}

impl Subject {
    pub fn probe(name: impl Into<String>) -> Self {
        Self { kind: SubjectKind::Probe, name: name.into() }
    }

    pub fn deadman(name: impl Into<String>) -> Self {
        Self { kind: SubjectKind::Deadman, name: name.into() }
    }

    pub fn watchpost(name: impl Into<String>) -> Self {
        Self { kind: SubjectKind::Watchpost, name: name.into() }
    }
}

/// A member's status. Telling the same status twice does nothing, so the present state may be told again at any time, and
/// should be after a start.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifyEvent {
    pub subject: Subject,
    /// The target, the source, or the switch itself.
    pub member: String,
    pub to: Status,
    /// When the status was entered.
    pub at: Stamp,
    /// Why, in words.
    pub text: String,
    /// The last that was heard of the member, in words: "last beat 03:00:12 UTC from 10.0.0.7".
    pub evidence: Option<String>,
    /// Who is told of which status.
    pub notify: Notify,
    /// Under which id the status is kept in the book, in one transaction with what is decided; not kept when `None`.
    pub keep_as: Option<String>,
}

impl NotifyEvent {
    /// The event of a check's change.
    pub fn of(change: &Change, subject: Subject, member: String, notify: Notify) -> Self {
        let why = match (&change.fault, &change.unknown) {
            (Some(fault), _) => fault.to_string(),
            (None, Some(unknown)) => unknown.to_string(),
            (None, None) => change.to.label().to_owned(),
        };
        Self {
            subject,
            member,
            to: change.to,
            at: change.at,
            text: why,
            evidence: None,
            notify,
            keep_as: Some(change.check.to_string()),
        }
    }

    /// Whether `receiver` is told of the status that was entered.
    pub fn is_told(&self, receiver: &str) -> bool {
        let told = self.notify.receivers.get(&self.to);
        told.is_some_and(|names| names.iter().any(|name| name == receiver))
    }
}
