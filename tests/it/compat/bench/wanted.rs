//! What a series must be: `1`, `any`, `absent`, `>= 2`, `0..1`, `days 90`.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::support::certs;

/// How far the end of a certificate may be from what is expected: the suite's own time.
const SLACK_SECONDS: f64 = 300.0;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wanted {
    Absent,
    Any,
    Exactly(f64),
    /// Bounds, both included.
    Within(f64, f64),
    /// A time so many days from now.
    Days(i64),
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        Some(match text {
            "absent" => Self::Absent,
            "any" => Self::Any,
            _ => {
                if let Some(least) = text.strip_prefix(">=") {
                    Self::Within(number(least)?, f64::INFINITY)
                } else if let Some(most) = text.strip_prefix("<=") {
                    Self::Within(f64::NEG_INFINITY, number(most)?)
                } else if let Some(count) = text.strip_prefix("days ") {
                    Self::Days(count.parse().ok()?)
                } else if let Some((least, most)) = text.split_once("..") {
                    Self::Within(number(least)?, number(most)?)
                } else {
                    Self::Exactly(number(text)?)
                }
            }
        })
    }

    pub(crate) fn is_met(&self, found: Option<f64>) -> bool {
        let Some(found) = found else { return *self == Self::Absent };
        match *self {
            Self::Absent => false,
            Self::Any => true,
            Self::Exactly(value) => found.partial_cmp(&value).is_some_and(Ordering::is_eq),
            Self::Within(least, most) => (least..=most).contains(&found),
            #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
            Self::Days(count) => (found - certs::days(count) as f64).abs() < SLACK_SECONDS,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Any => f.write_str("any value"),
            Self::Exactly(value) => write!(f, "{value}"),
            Self::Within(least, most) => write!(f, "{least}..{most}"),
            Self::Days(count) => write!(f, "{count} days from now"),
        }
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no expectation")))
    }
}
