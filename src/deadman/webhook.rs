//! Alertmanager's webhook, version 4, as far as a watchdog needs it. Unknown fields are nothing to us.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// A larger body is refused with 413.
pub const MAX_WEBHOOK_BYTES: usize = 4 << 20;
/// Alerts in one body that are looked at.
pub(super) const MAX_ALERTS: usize = 2_000;
/// Clocks in one annotation that are looked at.
const MAX_CLOCKS: usize = 256;
/// The annotation with the time of the evaluation.
const EVALUATED: &str = "evaluated";

#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    pub(super) version: Option<String>,
    /// Whose webhook it is, by its name in Alertmanager.
    #[serde(default)]
    pub(super) receiver: String,
    #[serde(default, rename = "truncatedAlerts")]
    pub(super) truncated: u64,
    #[serde(default)]
    pub(super) alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, rename = "endsAt")]
    pub(super) ends_at: Option<String>,
}

/// Why a body is no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    TooLarge,
    /// Not JSON, or not of the shape.
    Malformed,
    /// JSON of another kind: a custom payload, another version.
    Foreign,
}

impl Payload {
    pub(super) fn read(body: &[u8]) -> Result<Self, Unreadable> {
        if body.len() > MAX_WEBHOOK_BYTES {
            return Err(Unreadable::TooLarge);
        }
        let payload: Self = match serde_json::from_slice(body) {
            Ok(payload) => payload,
            // Well-formed, but something else.
            Err(error) if error.is_data() => return Err(Unreadable::Foreign),
            Err(_) => return Err(Unreadable::Malformed),
        };
        if payload.version.as_deref() != Some("4") {
            return Err(Unreadable::Foreign);
        }
        Ok(payload)
    }
}

impl Alert {
    pub(super) fn is_resolved(&self) -> bool {
        self.status != "firing"
    }

    /// When it ended by Alertmanager's clock, to tell one ending from another.
    pub(super) fn ended_ms(&self) -> i64 {
        let parsed = self.ends_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        parsed.map_or(0, Timestamp::as_millisecond)
    }

    /// When Prometheus evaluated the rule, by its own clock.
    pub(super) fn evaluated_ms(&self) -> Option<i64> {
        self.annotations.get(EVALUATED).and_then(|text| millis(text.trim()))
    }

    /// Our clock in milliseconds, from `a=1763668920.500 b=…`.
    pub(super) fn clock(&self, annotation: &str, id: &str) -> Option<i64> {
        let text = self.annotations.get(annotation)?;
        let pairs = text.split_whitespace().take(MAX_CLOCKS);
        let (_, value) =
            pairs.filter_map(|pair| pair.rsplit_once('=')).find(|(name, _)| *name == id)?;
        millis(value)
    }
}

fn millis(seconds: &str) -> Option<i64> {
    let seconds: f64 = seconds.parse().ok()?;
    let millis = (seconds * 1e3).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    (millis.abs() < 1e15).then_some(millis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(clocks: &str) -> Alert {
        let annotations = [("clocks".to_owned(), clocks.to_owned())].into();
        Alert { status: "firing".into(), labels: BTreeMap::new(), annotations, ends_at: None }
    }

    #[test]
    fn our_clock_is_found_among_others() {
        let text = "a=1763668920.500 wp-b=1763668921.000 odd c= =5 ";
        assert_eq!(alert(text).clock("clocks", "a"), Some(1_763_668_920_500));
        assert_eq!(alert(text).clock("clocks", "wp-b"), Some(1_763_668_921_000));
        assert_eq!(alert(text).clock("clocks", "b"), None);
        assert_eq!(alert(text).clock("clocks", "c"), None);
        assert_eq!(alert("a=NaN").clock("clocks", "a"), None);
        assert_eq!(alert("a=1.7636689205e+09").clock("clocks", "a"), Some(1_763_668_920_500));
        assert_eq!(alert("").clock("clocks", "a"), None);
    }

    #[test]
    fn bodies_are_told_apart() {
        let read = |body: &[u8]| Payload::read(body).map(|payload| payload.alerts.len());
        assert_eq!(read(br#"{"version":"4","alerts":[{"status":"firing"}],"new":1}"#), Ok(1));
        assert_eq!(read(br#"{"version":"3","alerts":[]}"#), Err(Unreadable::Foreign));
        assert_eq!(read(br#"{"text":"custom"}"#), Err(Unreadable::Foreign));
        assert_eq!(read(br#"{"version":"4","alerts":{}}"#), Err(Unreadable::Foreign));
        assert_eq!(read(b"\xff\xfe"), Err(Unreadable::Malformed));
        assert_eq!(read(br#"{"version":"4","alerts":["#), Err(Unreadable::Malformed));
        let deep = format!("{{\"version\":{}", "[".repeat(100_000));
        assert!(read(deep.as_bytes()).is_err());
        assert_eq!(read(&vec![b' '; MAX_WEBHOOK_BYTES + 1]), Err(Unreadable::TooLarge));
    }
}
