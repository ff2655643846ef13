//! When something is expected: every so often, or by a cron line in a time zone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::mistake;

/// A beat this long before its time counts for that time.
const EARLY: SignedDuration = SignedDuration::from_secs(10);
/// Only where the times lie at least this far apart.
const RARE: SignedDuration = SignedDuration::from_mins(10);

/// Before a 29th of February: whatever comes at all comes after it.
const BEGINNING: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// A cron line that was understood, with the text it came from.
#[derive(Clone)]
pub struct CronText {
    text: String,
    cron: Cron,
}

impl CronText {
    pub fn parse(text: &str) -> Result<Self, String> {
        let cron = Cron::from_str(text).map_err(|wrong| {
            mistake(
                format_args!("{text:?} is not a cron line: {wrong}"),
                "write five fields: minute, hour, day of month, month, day of week, such as \"0 3 * * *\"",
            )
        })?;
        let line = Self { text: text.to_owned(), cron };
        // What is never due never fails: it would look like a switch and be none.
        if line.next(BEGINNING, &TimeZone::UTC).is_none() {
            let what = format_args!("{text:?} is a time that never comes");
            return Err(mistake(what, "look at the day of the month and the month"));
        }
        Ok(line)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after `after`; `None` when there is none any more.
    ///
    /// A time that the clocks skip is due right after the gap; one that they repeat is due once.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = after.to_zoned(zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp())
    }
}

impl fmt::Debug for CronText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for CronText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<'de> Deserialize<'de> for CronText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Serialize for CronText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// When the next beat is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    Every(Duration),
    Cron(Box<CronText>, TimeZone),
}

impl Schedule {
    /// How long after a beat at `wall` the next one is due. A cron line that never comes again is never due.
    pub fn until_due(&self, wall: Timestamp) -> Option<Duration> {
        match self {
            Self::Every(interval) => Some(*interval),
            Self::Cron(cron, zone) => {
                let mut next = cron.next(wall, zone)?;
                // A sender whose clock is a little ahead beats just before the time that it means.
                if next.duration_since(wall) <= EARLY {
                    let after = cron.next(next, zone);
                    next = after.filter(|it| it.duration_since(next) >= RARE).unwrap_or(next);
                }
                Duration::try_from(next.duration_since(wall)).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, zone: &str, after: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let after: Timestamp = after.parse().unwrap();
        CronText::parse(cron).unwrap().next(after, &zone).unwrap().to_string()
    }

    #[test]
    fn a_line_goes_through_the_changes_of_the_clocks() {
        // Paris: 02:00 becomes 03:00 on 2026-03-29 at 01:00 UTC, and 03:00 becomes 02:00 on 2026-10-25 at 01:00 UTC.
        let rows = [
            // A time that the clocks skip is due right after the gap,
            ("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
            // one that they repeat is due once,
            ("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            // and what runs every few minutes runs through the repeated hour.
            ("*/20 * * * *", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z"),
            ("*/20 * * * *", "2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z"),
        ];
        for (cron, after, expected) in rows {
            assert_eq!(next(cron, "Europe/Paris", after), expected, "{cron} after {after}");
        }
    }

    #[test]
    fn a_clock_a_little_ahead_does_not_beat_for_the_day_before() {
        let schedule =
            Schedule::Cron(Box::new(CronText::parse("0 3 * * *").unwrap()), TimeZone::UTC);
        let due = |wall: &str| schedule.until_due(wall.parse().unwrap()).unwrap().as_secs();
        assert_eq!(due("2026-01-01T02:59:55Z"), 86_405);
        assert_eq!(due("2026-01-01T02:59:00Z"), 60);
        assert_eq!(due("2026-01-01T03:00:00Z"), 86_400);
    }

    #[test]
    fn what_never_comes_is_refused() {
        let text = CronText::parse("0 0 30 2 *").unwrap_err();
        assert!(text.contains("never comes"), "{text}");
        assert!(CronText::parse("0 0 29 2 *").is_ok());
    }

    #[test]
    fn zones_differ() {
        assert_eq!(
            next("0 3 * * *", "America/New_York", "2026-07-01T00:00:00Z"),
            "2026-07-01T07:00:00Z"
        );
        assert!(CronText::parse("0 3 * *").is_err());
        assert!(CronText::parse("61 3 * * *").unwrap_err().contains("five fields"));
    }
}
