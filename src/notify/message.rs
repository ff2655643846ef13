//! The text for a person woken at 3 a.m.: what, who exactly, since when, why, what else is silent, what to do.
//!
//! A message is made once, when it is decided, and kept in the outbox. Receivers render it in their own form, within their
//! own limits.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::episode::{in_trouble, worst};
use crate::book::{Episode, NoteKind};
use crate::model::Status;

/// How many members a message lists.
pub(super) const MAX_LISTED: usize = 20;
/// How many other subjects in trouble a message lists.
const MAX_ALSO: usize = 10;
/// How long a member's reason may be, in characters.
const MAX_REASON_CHARS: usize = 1_000;
/// How long what is known beside it may be.
const MAX_EVIDENCE_CHARS: usize = 2_000;

/// Who is speaking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub id: String,
    pub region: Option<String>,
    /// Where this watchpost's page is for people.
    pub url: Option<String>,
}

/// A notification's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub kind: NoteKind,
    /// `probe`, `deadman` or `watchpost`.
    pub subject: String,
    pub name: String,
    pub group: Option<String>,
    /// The worst status of any member; `up` when it is over.
    pub status: String,
    pub opened: Timestamp,
    pub at: Timestamp,
    /// Members in trouble, at most [`MAX_LISTED`] of them; those that were when it is over.
    pub members: Vec<Line>,
    pub in_trouble: usize,
    pub recovered: usize,
    pub flaps: u32,
    /// What else is in trouble, by name.
    pub also: Vec<String>,
    pub also_more: usize,
    /// What the reader should know about us: blindness, a book that cannot be written, a receiver that failed.
    pub notes: Vec<String>,
    pub runbook: Option<String>,
    pub watchpost: String,
    pub region: Option<String>,
    pub url: Option<String>,
    pub episode: Option<String>,
    /// Which notification of its episode this is, from 1.
    pub number: u32,
}

/// One member of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    pub status: String,
    pub since: Timestamp,
    pub text: String,
    pub evidence: Option<String>,
}

/// How loud a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Error,
    Critical,
}

impl Severity {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl Message {
    /// The message of an episode.
    pub fn of(
        kind: NoteKind,
        episode: &Episode,
        others: &[String],
        notes: &[String],
        identity: &Identity,
        at: Timestamp,
    ) -> Self {
        let over = kind.ends();
        let status = if over { Status::Up } else { worst(episode).unwrap_or(Status::Up) };
        let wanted = |m: &&crate::book::Member| over || in_trouble(m);
        let mut members: Vec<_> = episode.members.iter().filter(|(_, m)| wanted(m)).collect();
        members.sort_by_key(|(name, m)| (m.status != "down", m.since.wall, (*name).clone()));
        let in_trouble_count = episode.members.values().filter(|m| in_trouble(m)).count();
        let instead = episode.instead_of.as_ref().map(|receiver| {
            let why = episode.instead_because.as_deref().unwrap_or("reason unknown");
            format!("receiver {receiver} could not deliver this: {why}")
        });
        Self {
            kind,
            subject: episode.kind.clone(),
            name: episode.name.clone(),
            group: episode.group.clone(),
            status: status.label().to_owned(),
            opened: episode.opened.wall,
            at,
            members: members.iter().take(MAX_LISTED).map(|(n, m)| Line::of(n, m)).collect(),
            in_trouble: in_trouble_count,
            recovered: episode.members.len() - in_trouble_count,
            flaps: episode.flaps,
            also: others.iter().take(MAX_ALSO).cloned().collect(),
            also_more: others.len().saturating_sub(MAX_ALSO),
            notes: instead.into_iter().chain(notes.iter().cloned()).collect(),
            runbook: episode.runbook.clone(),
            watchpost: identity.id.clone(),
            region: identity.region.clone(),
            url: identity.url.clone(),
            episode: Some(episode.id.clone()),
            number: episode.notifications,
        }
    }

    /// A marked test, or its end.
    pub fn test(kind: NoteKind, receiver: &str, identity: &Identity, at: Timestamp) -> Self {
        Self {
            kind,
            subject: "watchpost".into(),
            name: format!("test of receiver {receiver}"),
            group: None,
            status: Status::Up.label().into(),
            opened: at,
            at,
            members: Vec::new(),
            in_trouble: 0,
            recovered: 0,
            flaps: 0,
            also: Vec::new(),
            also_more: 0,
            notes: vec![
                "This is a test of the way to you. Nothing is wrong; nothing needs doing.".into(),
            ],
            runbook: None,
            watchpost: identity.id.clone(),
            region: identity.region.clone(),
            url: identity.url.clone(),
            episode: None,
            number: 1,
        }
    }

    pub fn severity(&self) -> Severity {
        match self.status.as_str() {
            "down" => Severity::Critical,
            "unknown" => Severity::Error,
            "degraded" => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// Whether this says that something is over.
    pub const fn is_over(&self) -> bool {
        self.kind.ends()
    }

    /// One line: what, who, why.
    pub fn headline(&self) -> String {
        let what = match &self.group {
            Some(group) => format!("{} {} {group}", self.subject, self.name),
            None if self.subject == "watchpost" => self.name.clone(),
            None => format!("{} {}", self.subject, self.name),
        };
        match self.kind {
            NoteKind::Test => return format!("[TEST] {what} from watchpost {}", self.watchpost),
            NoteKind::TestResolve => return format!("[TEST] over: {what}"),
            NoteKind::Resolve => {
                let took =
                    human(self.opened.duration_until(self.at).try_into().unwrap_or_default());
                return format!("[RESOLVED] {what} {} after {took}", self.ending());
            }
            NoteKind::Trigger | NoteKind::Update | NoteKind::Repeat => {}
        }
        let status = self.status.to_uppercase();
        let first = self.members.first();
        let why = first.map_or(String::new(), |m| format!(": {}", m.text));
        let who = match (self.in_trouble, first) {
            (0 | 1, Some(m)) if m.name != self.name && self.group.is_none() => {
                format!(" ({})", m.name)
            }
            (0 | 1, _) => String::new(),
            (n, Some(m)) => format!(" ({} and {} more)", m.name, n - 1),
            (n, None) => format!(" ({n})"),
        };
        format!("[{status}] {what}{who}{why}")
    }

    /// How an episode ended: everything that was removed did not recover.
    fn ending(&self) -> &'static str {
        let every = |status: &str| {
            !self.members.is_empty() && self.members.iter().all(|m| m.status == status)
        };
        if every("removed") {
            "was removed from the configuration"
        } else if every("paused") {
            "was paused"
        } else {
            "recovered"
        }
    }

    /// The whole text, plain, at most `limit` bytes.
    pub fn text(&self, limit: usize) -> String {
        let mut text = String::new();
        self.put_members(&mut text);
        self.put_context(&mut text);
        cut(&text, limit)
    }

    fn put_members(&self, text: &mut String) {
        for line in &self.members {
            let ago = human(line.since.duration_until(self.at).try_into().unwrap_or_default());
            let since = clock_text(line.since);
            // What is well again is told with what it had.
            let was = if line.status == Status::Up.label() { "it was: " } else { "" };
            let Line { name, status, text: why, .. } = line;
            put(text, format_args!("{name} {status} since {since} ({ago}): {was}{why}"));
            if let Some(evidence) = &line.evidence {
                put(text, format_args!("    {evidence}"));
            }
        }
        let total = if self.is_over() { self.in_trouble + self.recovered } else { self.in_trouble };
        if total > self.members.len() {
            put(text, format_args!("and {} more", total - self.members.len()));
        }
        if self.recovered > 0 && !self.is_over() {
            put(text, format_args!("{} recovered meanwhile", self.recovered));
        }
    }

    fn put_context(&self, text: &mut String) {
        if !self.members.is_empty() {
            put(text, format_args!("open since {}", clock_text(self.opened)));
        }
        if self.flaps > 0 {
            put(text, format_args!("came back {} times: it is flapping", self.flaps));
        }
        if !self.also.is_empty() {
            let more = match self.also_more {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            put(text, format_args!("also in trouble: {}{more}", self.also.join(", ")));
        }
        for note in &self.notes {
            put(text, format_args!("note: {note}"));
        }
        if let Some(runbook) = &self.runbook {
            put(text, format_args!("runbook: {runbook}"));
        }
        if let Some(url) = &self.url {
            put(text, format_args!("status page: {url}"));
        }
        let region = self.region.as_ref().map(|r| format!(" in {r}")).unwrap_or_default();
        put(
            text,
            format_args!("told by watchpost {}{region} at {}", self.watchpost, clock_text(self.at)),
        );
    }
}

impl Line {
    fn of(name: &str, member: &crate::book::Member) -> Self {
        Self {
            name: name.to_owned(),
            status: member.status.clone(),
            since: member.since.wall,
            text: cut_chars(&member.text, MAX_REASON_CHARS),
            evidence: member.evidence.as_deref().map(|e| cut_chars(e, MAX_EVIDENCE_CHARS)),
        }
    }
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.write_fmt(line).expect("a string takes all text");
}

/// `2026-11-21 03:00:12 UTC`: the zone is written out, because the reader may be in another one.
fn clock_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `95 s`, `7 min`, `3 h 20 min`, `2 d 4 h`.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{minutes} min"),
        7_200..172_800 if minutes % 60 == 0 => format!("{hours} h"),
        7_200..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// At most `limit` bytes, ending in an ellipsis where something was left out.
pub(super) fn cut(text: &str, limit: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(MARK.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
    let (kept, _) = text.split_at(end.unwrap_or_default());
    format!("{kept}{MARK}")
}

/// At most `limit` characters.
pub(super) fn cut_chars(text: &str, limit: usize) -> String {
    if text.char_indices().nth(limit).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_keep_whole_characters() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöüä", 6), "ä…");
        assert_eq!(cut_chars("abcd", 3), "ab…");
    }

    fn episode(members: usize) -> Episode {
        let moment = |second: i64| {
            let stamp = crate::model::Stamp::new(
                Timestamp::from_second(1_800_000_000 + second).unwrap(),
                Duration::from_secs(10),
            );
            crate::book::Moment::new(stamp, "boot".into())
        };
        let member = |i: usize| crate::book::Member {
            status: "down".into(),
            since: moment(0),
            text: format!("nothing listens on 10.0.0.{i}:9122"),
            evidence: Some("last success 02:59:30 UTC".into()),
        };
        let json = serde_json::json!({
            "id": "e1", "key": "k", "receiver": "oncall", "kind": "probe", "name": "exporters",
            "members": {}, "state": "open", "opened": moment(0), "notifications": 1, "flaps": 2,
            "runbook": "https://runbooks.example/exporters",
        });
        let mut episode: Episode = serde_json::from_value(json).unwrap();
        episode.members = (0..members).map(|i| (format!("host-{i:03}:9122"), member(i))).collect();
        episode
    }

    fn message(kind: NoteKind, members: usize) -> Message {
        let identity =
            Identity { id: "eu-west-1-a".into(), region: Some("eu-west-1".into()), url: None };
        let at = Timestamp::from_second(1_800_000_240).unwrap();
        let others = ["alertmanager".to_owned()];
        let notes = ["this watchpost is cut off".to_owned()];
        Message::of(kind, &episode(members), &others, &notes, &identity, at)
    }

    #[test]
    fn a_page_says_what_who_since_when_why_and_what_to_do() {
        let message = message(NoteKind::Trigger, 1);
        assert_eq!(
            message.headline(),
            "[DOWN] probe exporters (host-000:9122): nothing listens on 10.0.0.0:9122"
        );
        assert_eq!(
            message.text(4_000),
            "host-000:9122 down since 2027-01-15 08:00:00 UTC (4 min): nothing listens on 10.0.0.0:9122\n    \
             last success 02:59:30 UTC\nopen since 2027-01-15 08:00:00 UTC\n\
             came back 2 times: it is flapping\nalso in trouble: alertmanager\n\
             note: this watchpost is cut off\nrunbook: https://runbooks.example/exporters\n\
             told by watchpost eu-west-1-a in eu-west-1 at 2027-01-15 08:04:00 UTC"
        );
    }

    #[test]
    fn five_hundred_members_are_twenty_lines_and_a_number() {
        let message = message(NoteKind::Trigger, 500);
        assert_eq!(message.members.len(), MAX_LISTED);
        assert!(message.headline().contains("(host-000:9122 and 499 more)"));
        assert!(message.text(100_000).contains("and 480 more"));
        assert!(message.text(300).len() <= 300);
    }

    #[test]
    fn a_test_cannot_be_taken_for_a_page() {
        let identity = Identity { id: "a".into(), ..Identity::default() };
        let message = Message::test(NoteKind::Test, "oncall", &identity, Timestamp::UNIX_EPOCH);
        assert!(message.headline().starts_with("[TEST]"));
        assert_eq!(message.severity(), Severity::Info);
        assert!(message.text(1_000).contains("Nothing is wrong"));
    }

    #[test]
    fn the_end_of_what_was_removed_is_no_recovery() {
        let mut episode = episode(1);
        for member in episode.members.values_mut() {
            member.status = "removed".into();
        }
        let at = Timestamp::from_second(1_800_000_240).unwrap();
        let message = Message::of(NoteKind::Resolve, &episode, &[], &[], &Identity::default(), at);
        let expected = "[RESOLVED] probe exporters was removed from the configuration after 4 min";
        assert_eq!(message.headline(), expected);
    }

    #[test]
    fn what_is_well_again_is_told_with_what_it_had() {
        let mut episode = episode(1);
        for member in episode.members.values_mut() {
            member.status = "up".into();
        }
        let at = Timestamp::from_second(1_800_000_240).unwrap();
        let message = Message::of(NoteKind::Resolve, &episode, &[], &[], &Identity::default(), at);
        let text = message.text(4_000);
        let expected =
            "host-000:9122 up since 2027-01-15 08:00:00 UTC (4 min): it was: nothing listens";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn durations_read_well() {
        let texts = [(95, "95 s"), (420, "7 min"), (12_000, "3 h 20 min"), (7_200, "2 h")];
        for (seconds, text) in texts {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
        assert_eq!(human(Duration::from_hours(52)), "2 d 4 h");
    }
}
