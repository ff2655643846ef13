//! Ping URLs as Healthchecks has them, and what a beat can say.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::spec::{BeatMethod, PingId, Slug};

/// How much of a body is kept; `Ping-Body-Limit` tells it.
pub const BODY_LIMIT: usize = 10_000;
/// How much of a body goes into a fault's text.
const DETAIL_BYTES: usize = 200;

/// What a beat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatKind {
    Success,
    Start,
    Fail,
    Log,
    /// 0 is success, anything else failure.
    Exit(u8),
}

/// Correlates a start with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunId(u128);

impl RunId {
    /// A UUID, as Healthchecks requires it.
    pub fn parse(text: &str) -> Option<Self> {
        PingId::parse(text).map(|id| Self(id.bits()))
    }
}

/// Which switch a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door<'a> {
    Id(PingId),
    Keyed { key: &'a str, slug: Slug },
}

/// A path below `/ping/`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address<'a> {
    pub door: Door<'a>,
    pub kind: BeatKind,
}

/// Why a path is no ping URL. What is unknown and what is forbidden look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// 400, `invalid url format`.
    Malformed,
    /// 404, `not found`.
    NotFound,
}

impl Refused {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
        }
    }

    pub const fn code(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotFound => 404,
        }
    }

    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "invalid url format",
            Self::NotFound => "not found",
        }
    }
}

impl<'a> Address<'a> {
    /// `<uuid>`, `<key>/<slug>`, and either with `/start`, `/fail`, `/log` or `/<exit status>`. A trailing slash is
    /// forgiven.
    pub fn parse(path: &'a str) -> Result<Self, Refused> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let steps: Vec<&str> = path.split('/').collect();
        let (door, action) = match steps.as_slice() {
            [first] => (Door::Id(PingId::parse(first).ok_or(Refused::Malformed)?), None),
            [first, second] => match PingId::parse(first) {
                Some(id) => (Door::Id(id), Some(*second)),
                None => (keyed(first, second)?, None),
            },
            [first, second, third] if PingId::parse(first).is_none() => {
                (keyed(first, second)?, Some(*third))
            }
            _ => return Err(Refused::NotFound),
        };
        let kind = action.map_or(Ok(BeatKind::Success), kind_of)?;
        Ok(Self { door, kind })
    }
}

fn keyed<'a>(key: &'a str, slug: &str) -> Result<Door<'a>, Refused> {
    let slug = Slug::parse(slug).ok_or(Refused::Malformed)?;
    Ok(Door::Keyed { key, slug })
}

fn kind_of(action: &str) -> Result<BeatKind, Refused> {
    Ok(match action {
        "start" => BeatKind::Start,
        "fail" => BeatKind::Fail,
        "log" => BeatKind::Log,
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            BeatKind::Exit(digits.parse().map_err(|_| Refused::Malformed)?)
        }
        _ => return Err(Refused::NotFound),
    })
}

/// One beat, as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    pub kind: BeatKind,
    pub run: Option<RunId>,
    pub method: BeatMethod,
    pub from: Option<IpAddr>,
    pub body: &'a [u8],
}

impl Beat<'_> {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.kind, BeatKind::Fail | BeatKind::Exit(1..))
    }

    /// What the sender said, in one line.
    pub(super) fn detail(&self) -> String {
        let said = String::from_utf8_lossy(self.body.get(..BODY_LIMIT).unwrap_or(self.body));
        let line: String = said
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .take(DETAIL_BYTES)
            .collect();
        match (self.kind, line.is_empty()) {
            (BeatKind::Exit(code), true) => format!("exit status {code}"),
            (BeatKind::Exit(code), false) => format!("exit status {code}: {line}"),
            (_, true) => "the sender called /fail".to_owned(),
            (_, false) => line,
        }
    }
}

/// How a beat was taken: the label `result`, a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeatResult {
    Success,
    Start,
    Fail,
    Log,
    /// By a method that this switch does not listen to. Answered with 200, as Healthchecks does.
    Ignored,
    /// Watchdog: new evidence.
    Fresh,
    /// Watchdog: evidence that we have already.
    Duplicate,
    /// Watchdog: evidence older than what we have.
    Replayed,
    /// Watchdog: new evidence, too old to count.
    Stale,
    /// Watchdog: firing, without our clock.
    NotScraped,
    /// Watchdog: a clock under our name that we did not issue.
    ForeignClock,
    /// Watchdog: the alert ended. Never a beat.
    Resolved,
    /// Watchdog: Alertmanager left alerts out.
    Truncated,
    /// Watchdog: another alert in the same group.
    ForeignAlert,
    /// Watchdog: not a payload of version 4.
    ForeignPayload,
    /// Watchdog: a source that nobody listed.
    UnknownSource,
    Malformed,
    Unauthorised,
    TooLarge,
    /// It could not be recorded; answered with 503.
    NotRecorded,
}

impl BeatResult {
    pub const ALL: [Self; 20] = [
        Self::Success,
        Self::Start,
        Self::Fail,
        Self::Log,
        Self::Ignored,
        Self::Fresh,
        Self::Duplicate,
        Self::Replayed,
        Self::Stale,
        Self::NotScraped,
        Self::ForeignClock,
        Self::Resolved,
        Self::Truncated,
        Self::ForeignAlert,
        Self::ForeignPayload,
        Self::UnknownSource,
        Self::Malformed,
        Self::Unauthorised,
        Self::TooLarge,
        Self::NotRecorded,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Start => "start",
            Self::Fail => "fail",
            Self::Log => "log",
            Self::Ignored => "ignored",
            Self::Fresh => "fresh",
            Self::Duplicate => "duplicate",
            Self::Replayed => "replayed",
            Self::Stale => "stale",
            Self::NotScraped => "not_scraped",
            Self::ForeignClock => "foreign_clock",
            Self::Resolved => "resolved",
            Self::Truncated => "truncated",
            Self::ForeignAlert => "foreign_alert",
            Self::ForeignPayload => "foreign_payload",
            Self::UnknownSource => "unknown_source",
            Self::Malformed => "malformed",
            Self::Unauthorised => "unauthorised",
            Self::TooLarge => "too_large",
            Self::NotRecorded => "not_recorded",
        }
    }

    /// Whether a watchdog can yield it.
    pub const fn is_of_watchdog(self) -> bool {
        !matches!(self, Self::Success | Self::Start | Self::Fail | Self::Log | Self::Ignored)
    }

    /// Whether a switch that is pinged can yield it.
    pub const fn is_of_switch(self) -> bool {
        matches!(
            self,
            Self::Success
                | Self::Start
                | Self::Fail
                | Self::Log
                | Self::Ignored
                | Self::Malformed
                | Self::Unauthorised
                | Self::NotRecorded
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";

    fn kind(path: &str) -> Result<BeatKind, Refused> {
        Address::parse(path).map(|address| address.kind)
    }

    #[test]
    fn healthchecks_paths_are_read() {
        assert_eq!(kind(ID), Ok(BeatKind::Success));
        for (tail, expected) in [
            ("start", Ok(BeatKind::Start)),
            ("fail", Ok(BeatKind::Fail)),
            ("log", Ok(BeatKind::Log)),
            ("0", Ok(BeatKind::Exit(0))),
            ("255", Ok(BeatKind::Exit(255))),
            ("256", Err(Refused::Malformed)),
            ("99999999999999999999", Err(Refused::Malformed)),
            ("nonsense", Err(Refused::NotFound)),
            ("", Ok(BeatKind::Success)),
        ] {
            assert_eq!(kind(&format!("{ID}/{tail}")), expected, "{tail}");
            let keyed = format!("an-opaque-key-0123456789/backup/{tail}");
            assert_eq!(kind(&keyed), expected, "{keyed}");
        }
        assert_eq!(kind("an-opaque-key/Backup"), Err(Refused::Malformed));
        assert_eq!(kind("not-a-uuid"), Err(Refused::Malformed));
        assert_eq!(kind(&format!("{ID}/fail/more")), Err(Refused::NotFound));
        assert_eq!(kind(""), Err(Refused::Malformed));
    }

    #[test]
    fn a_detail_is_one_short_line() {
        let beat =
            |kind, body| Beat { kind, run: None, method: BeatMethod::Post, from: None, body };
        assert_eq!(beat(BeatKind::Exit(2), b"").detail(), "exit status 2");
        let body = b"line one\n\x1b[31mdisk full\xff\n\n";
        assert_eq!(beat(BeatKind::Fail, body).detail(), "[31mdisk full\u{fffd}");
        let long = vec![b'x'; 20_000];
        assert_eq!(beat(BeatKind::Fail, &long).detail().len(), DETAIL_BYTES);
    }
}
