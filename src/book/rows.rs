//! What the book holds, row by row, as plain values.
//!
//! A row is kept as JSON beside its key and a checksum. A field that is added later has a serde default, so that an older
//! book stays readable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Moment;
use crate::model::{Secret, Status};

/// How much of a ping's body is kept.
pub const MAX_PING_BODY_BYTES: usize = 10_000;
/// How much of a user agent is kept.
const MAX_AGENT_BYTES: usize = 200;

/// What is known of one switch, or of one source of a watchdog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beats {
    /// The switch's name in the configuration.
    pub name: String,
    /// The source's name; empty for the switch itself.
    #[serde(default)]
    pub source: String,
    /// When it was first loaded from a configuration: silence counts from here until the first beat.
    pub armed: Moment,
    #[serde(default)]
    pub last_beat: Option<Moment>,
    #[serde(default)]
    pub last_start: Option<Started>,
    #[serde(default)]
    pub last_failure: Option<Moment>,
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// Pings by result, as metrics show them.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Whatever else the rules of beats keep.
    #[serde(default)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Beats {
    pub fn armed(name: impl Into<String>, source: impl Into<String>, at: Moment) -> Self {
        Self {
            name: name.into(),
            source: source.into(),
            armed: at,
            last_beat: None,
            last_start: None,
            last_failure: None,
            evidence: None,
            counters: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// A job that said that it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub at: Moment,
    pub rid: Option<String>,
}

/// The newest value that proved the loop to be closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The value as we issued it.
    pub value: f64,
    /// When we issued it, where that is known.
    #[serde(default)]
    pub issued: Option<Moment>,
    /// When it came back.
    pub arrived: Moment,
}

/// One request to a switch's URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    pub name: String,
    #[serde(default)]
    pub source: String,
    /// `success`, `start`, `fail`, `log`, `ignored`: a word of the rules of beats.
    pub kind: String,
    pub at: Moment,
    #[serde(default)]
    pub rid: Option<String>,
    /// The address it came from.
    #[serde(default)]
    pub from: Option<String>,
    #[serde(default)]
    pub agent: Option<String>,
    #[serde(default)]
    pub body: String,
}

impl Ping {
    pub(super) fn bounded(mut self) -> Self {
        cut(&mut self.body, MAX_PING_BODY_BYTES);
        if let Some(agent) = &mut self.agent {
            cut(agent, MAX_AGENT_BYTES);
        }
        self
    }
}

fn cut(text: &mut String, limit: usize) {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
}

/// A stretch of time in which something is not told, with an end and a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub id: String,
    /// The name of a probe or a switch, or a pattern of names; the reader of pauses knows which.
    pub what: String,
    pub until: jiff::Timestamp,
    pub reason: String,
    #[serde(default)]
    pub who: Option<String>,
    pub created: Moment,
}

/// The last status of something that notifies, so that a restart neither repeats nor forgets a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// A check's id, or whatever else names it for good.
    pub id: String,
    /// `up`, `degraded`, …
    pub status: String,
    pub since: Moment,
    /// Why, in words, when it was not up.
    #[serde(default)]
    pub text: Option<String>,
    /// The statuses before, newest last.
    #[serde(default)]
    pub history: Vec<(Moment, String)>,
}

impl StatusRow {
    pub fn status(&self) -> Option<Status> {
        Status::ALL.into_iter().find(|s| s.label() == self.status)
    }
}

/// The stretch from trouble to recovery, for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    pub id: String,
    /// The dedup key: the same for every receiver and in every region.
    pub key: String,
    pub receiver: String,
    /// `probe`, `deadman` or `watchpost`.
    pub kind: String,
    /// The probe's or switch's name.
    pub name: String,
    /// The target, where every target has an episode of its own.
    #[serde(default)]
    pub group: Option<String>,
    /// Everything that is or was in trouble in this episode.
    pub members: BTreeMap<String, Member>,
    pub state: EpisodeState,
    pub opened: Moment,
    #[serde(default)]
    pub last_notified: Option<Moment>,
    /// The worst status that was told.
    #[serde(default)]
    pub told: Option<String>,
    /// Members changed since the last notification.
    #[serde(default)]
    pub changed: bool,
    /// Since when nothing has been in trouble.
    #[serde(default)]
    pub quiet_since: Option<Moment>,
    #[serde(default)]
    pub resolved: Option<Moment>,
    /// How often trouble came back before the episode could end.
    #[serde(default)]
    pub flaps: u32,
    /// Notifications made so far.
    #[serde(default)]
    pub notifications: u32,
    /// Fingerprint of the routing key that opened it; see [`Route`].
    #[serde(default)]
    pub route: Option<String>,
    #[serde(default)]
    pub runbook: Option<String>,
    /// Tell again after this many seconds.
    #[serde(default)]
    pub repeat_seconds: Option<u64>,
    /// The receiver that could not deliver, when this one stands in for it.
    #[serde(default)]
    pub instead_of: Option<String>,
    /// Why it could not.
    #[serde(default)]
    pub instead_because: Option<String>,
    /// A second receiver has been told, because this one could not deliver.
    #[serde(default)]
    pub escalated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpisodeState {
    Open,
    Resolved,
}

/// One target or source in trouble, or recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `up` once it recovered, `removed` when it is gone.
    pub status: String,
    pub since: Moment,
    /// Why, in words.
    pub text: String,
    /// The last that was heard of it, in words.
    #[serde(default)]
    pub evidence: Option<String>,
}

/// What a notification says to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoteKind {
    /// The first of an episode.
    Trigger,
    /// Members or status changed.
    Update,
    /// Nothing changed: it is still open.
    Repeat,
    Resolve,
    /// A marked test.
    Test,
    /// The end of a marked test.
    TestResolve,
}

impl NoteKind {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Update => "update",
            Self::Repeat => "repeat",
            Self::Resolve => "resolve",
            Self::Test => "test",
            Self::TestResolve => "test_resolve",
        }
    }

    pub const fn ends(self) -> bool {
        matches!(self, Self::Resolve | Self::TestResolve)
    }

    pub const fn is_test(self) -> bool {
        matches!(self, Self::Test | Self::TestResolve)
    }
}

/// A notification that is not delivered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    pub id: String,
    /// The order in which notifications were decided.
    pub sequence: u64,
    /// The episode's id; none for a test.
    #[serde(default)]
    pub episode: Option<String>,
    /// The dedup key.
    pub key: String,
    pub receiver: String,
    pub kind: NoteKind,
    pub created: Moment,
    #[serde(default)]
    pub attempts: u32,
    pub next_attempt: Moment,
    /// What the last attempt ended with.
    #[serde(default)]
    pub last_error: Option<String>,
    /// The receiver refused it for good; tried again now and then all the same.
    #[serde(default)]
    pub refused: bool,
    /// The fallback has been told.
    #[serde(default)]
    pub escalated: bool,
    #[serde(default)]
    pub route: Option<String>,
    /// The message, as `notify` writes it.
    pub payload: serde_json::Value,
}

/// What is known of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverState {
    pub name: String,
    #[serde(default)]
    pub last_success: Option<Moment>,
    #[serde(default)]
    pub last_test: Option<Moment>,
    #[serde(default)]
    pub last_test_success: Option<Moment>,
}

/// A routing key with which an open episode was opened. Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub fingerprint: String,
    key: String,
}

impl Route {
    pub fn new(fingerprint: impl Into<String>, key: &Secret) -> Self {
        Self { fingerprint: fingerprint.into(), key: key.reveal().to_owned() }
    }

    pub fn key(&self) -> Secret {
        Secret::new(self.key.clone())
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

macro_rules! tables {
    ($($variant:ident($type:ty) = $table:literal, $field:ident, |$row:ident| $key:expr;)+) => {
        /// The kinds of rows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Table {
            $($variant,)+
        }

        impl Table {
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in the file.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $table,)+
                }
            }
        }

        /// A row of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Row {
            $($variant($type),)+
        }

        impl Row {
            pub(super) const fn table(&self) -> Table {
                match self {
                    $(Self::$variant(_) => Table::$variant,)+
                }
            }

            pub fn key(&self) -> String {
                match self {
                    $(Self::$variant($row) => $key,)+
                }
            }

            pub(super) fn to_json(&self) -> serde_json::Result<String> {
                match self {
                    $(Self::$variant(row) => serde_json::to_string(row),)+
                }
            }

            pub(super) fn from_json(table: Table, text: &str) -> serde_json::Result<Self> {
                Ok(match table {
                    $(Table::$variant => Self::$variant(serde_json::from_str(text)?),)+
                })
            }
        }

        $(impl From<$type> for Row {
            fn from(row: $type) -> Self {
                Self::$variant(row)
            }
        })+

        /// Every row but pings, by key.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(super) struct Rows {
            $(pub(super) $field: BTreeMap<String, $type>,)+
        }

        impl Rows {
            pub(super) fn put(&mut self, row: Row) {
                let key = row.key();
                match row {
                    $(Row::$variant(row) => { self.$field.insert(key, row); })+
                }
            }

            pub(super) fn delete(&mut self, table: Table, key: &str) {
                match table {
                    $(Table::$variant => { self.$field.remove(key); })+
                }
            }

            pub(super) fn has(&self, table: Table, key: &str) -> bool {
                match table {
                    $(Table::$variant => self.$field.contains_key(key),)+
                }
            }

            pub(super) fn all(&self) -> impl Iterator<Item = Row> {
                std::iter::empty()$(.chain(self.$field.values().cloned().map(Row::$variant)))+
            }
        }
    };
}

tables! {
    Beats(Beats) = "beats", beats, |row| format!("{}\u{1f}{}", row.name, row.source);
    Episodes(Episode) = "episodes", episodes, |row| row.id.clone();
    Outbox(Outbox) = "outbox", outbox, |row| row.id.clone();
    Pauses(Pause) = "pauses", pauses, |row| row.id.clone();
    Statuses(StatusRow) = "statuses", statuses, |row| row.id.clone();
    Receivers(ReceiverState) = "receivers", receivers, |row| row.name.clone();
    Routes(Route) = "routes", routes, |row| row.fingerprint.clone();
}

/// One change of the book.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Put(Box<Row>),
    Delete(Table, String),
    Ping(Ping),
    /// Forgets the pings of a switch.
    ForgetPings(String),
}

impl Write {
    /// Whether it is of pings, which are on disk only.
    pub(super) const fn is_history(&self) -> bool {
        matches!(self, Self::Ping(_) | Self::ForgetPings(_))
    }

    pub fn put(row: impl Into<Row>) -> Self {
        Self::Put(Box::new(row.into()))
    }
}
