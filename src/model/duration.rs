//! Durations as operators write them.
//!
//! [`Period`] is Prometheus's form (`90s`, `1m30s`, `14d`, `1w`; integers with units from large to small).
//! [`GoDuration`] is Go's (`1.5s`, `250ms`, `1h`), which `blackbox.yml` uses for a module's `timeout`; it has no days.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::mistake;

/// A positive duration in Prometheus's notation; milliseconds are the smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Period {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn get(self) -> Duration {
        self.0
    }

    /// Reads `1m30s`. A bare `0` is zero, as in Prometheus; other bare numbers are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        read_units(text).map(|millis| Self(Duration::from_millis(millis))).ok_or_else(|| {
            mistake(
                format_args!("{text:?} is not a duration"),
                "write whole numbers with units from large to small, such as 30s, 1m30s or 14d",
            )
        })
    }
}

fn read_units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let index = UNITS.iter().position(|(name, _)| *name == unit)?;
        if index < next_unit {
            return None;
        }
        next_unit = index + 1;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(UNITS[index].1)?)?;
        rest = tail;
    }
    (next_unit > 0).then_some(total)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        for (name, size) in UNITS {
            // Prometheus writes years and weeks only when nothing else is left.
            let whole_only = matches!(name, "y" | "w");
            if millis < size || (whole_only && millis % size != 0) {
                continue;
            }
            write!(f, "{}{name}", millis / size)?;
            millis %= size;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration in Go's notation, which may be fractional and negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoDuration(f64);

impl GoDuration {
    pub const fn seconds(self) -> f64 {
        self.0
    }

    /// The duration, or `None` when it is zero or negative, which both mean "not set".
    pub fn positive(self) -> Option<Duration> {
        (self.0 > 0.0).then(|| Duration::try_from_secs_f64(self.0).unwrap_or(Duration::MAX))
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        read_go(text).map(Self).ok_or_else(|| {
            mistake(
                format_args!("{text:?} is not a duration"),
                "write a number with a unit, such as 5s, 1.5s, 250ms or 1m30s",
            )
        })
    }
}

fn read_go(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return None;
    }
    let mut total = 0.0;
    let mut seen = false;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        total += number.parse::<f64>().ok()? * go_unit(unit)?;
        rest = tail;
        seen = true;
    }
    seen.then_some(sign * total)
}

fn go_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_durations_are_read_and_written_alike() {
        for text in ["30s", "1m30s", "2w", "1h", "250ms", "2w", "1y", "1d1h1m1s1ms"] {
            assert_eq!(Period::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Period::parse("90s").unwrap().to_string(), "1m30s");
        assert_eq!(Period::parse("0").unwrap().get(), Duration::ZERO);
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        for text in
            ["", "5", "1.5s", "-1s", "1s1m", "1s1s", "s", "1 s", "99999999999999999999s", "1µs"]
        {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn go_durations_follow_blackbox() {
        assert_eq!(GoDuration::parse("1m30s").unwrap().positive(), Some(Duration::from_secs(90)));
        assert_eq!(
            GoDuration::parse("1.5s").unwrap().positive(),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            GoDuration::parse("250ms").unwrap().positive(),
            Some(Duration::from_millis(250))
        );
        assert_eq!(GoDuration::parse("-5s").unwrap().positive(), None);
        for text in ["5", "0", "1d", "1w", "", "s", "1..5s"] {
            assert!(GoDuration::parse(text).is_err(), "{text}");
        }
    }
}
