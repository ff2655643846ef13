//! Stands in for the crate of this name, of which `cel` uses [`UTC`] and the reading of a zone's name.
//!
//! The crate holds every transition of every zone as constants: 7 MB of source to compile and more than 1 MiB that each
//! process has to relocate at its start, for functions that hardly any expression calls. This one asks jiff, which the
//! program has for its own clocks, and so the system's database of zones (`/usr/share/zoneinfo`).

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;

/// A time zone of the IANA database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tz(jiff::tz::TimeZone);

/// Coordinated Universal Time.
pub const UTC: Tz = Tz(jiff::tz::TimeZone::UTC);

/// The offset from UTC that holds in a zone at some time.
#[derive(Clone, Debug)]
pub struct TzOffset {
    fixed: FixedOffset,
    zone: Tz,
}

/// The database has no zone of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError;

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time zone is not known")
    }
}

impl Error for ParseError {}

impl FromStr for Tz {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        jiff::tz::TimeZone::get(name).map(Self).map_err(|_| ParseError)
    }
}

impl Offset for TzOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl fmt::Display for TzOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fixed.fmt(f)
    }
}

impl Tz {
    fn offset(&self, offset: jiff::tz::Offset) -> TzOffset {
        // Both count seconds east of UTC; the database has none of a day or more.
        let fixed = FixedOffset::east_opt(offset.seconds()).unwrap_or_else(|| chrono::Utc.fix());
        TzOffset { fixed, zone: self.clone() }
    }
}

impl TimeZone for Tz {
    type Offset = TzOffset;

    fn from_offset(offset: &TzOffset) -> Self {
        offset.zone.clone()
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<TzOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<TzOffset> {
        match self.0.to_ambiguous_timestamp(civil(local)).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(self.offset(offset)),
            AmbiguousOffset::Fold { before, after } => {
                MappedLocalTime::Ambiguous(self.offset(before), self.offset(after))
            }
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> TzOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> TzOffset {
        let second = utc.and_utc().timestamp();
        let nearest = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let at = Timestamp::from_second(second).unwrap_or(nearest);
        self.offset(self.0.to_offset(at))
    }
}

/// The same time on the clock; beyond the years that jiff knows, the nearest that it does.
fn civil(local: &NaiveDateTime) -> DateTime {
    let second = local.and_utc().timestamp();
    let nearest = if second < 0 { DateTime::MIN } else { DateTime::MAX };
    Timestamp::from_second(second).map_or(nearest, |at| jiff::tz::Offset::UTC.to_datetime(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn summer_and_winter_differ_where_they_do() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let hours =
            |text: &str| berlin.offset_from_utc_datetime(&at(text)).fix().local_minus_utc() / 3600;
        assert_eq!(hours("2026-07-01T12:00:00"), 2);
        assert_eq!(hours("2026-12-01T12:00:00"), 1);
        assert_eq!(hours("2026-03-29T00:59:59"), 1);
        assert_eq!(hours("2026-03-29T01:00:00"), 2);
        assert_eq!(
            UTC.offset_from_utc_datetime(&at("2026-07-01T12:00:00")).fix().local_minus_utc(),
            0
        );
    }

    #[test]
    fn a_local_time_is_single_double_or_absent() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let local = |text: &str| berlin.offset_from_local_datetime(&at(text));
        assert!(matches!(local("2026-07-01T12:00:00"), MappedLocalTime::Single(_)));
        assert!(matches!(local("2026-10-25T02:30:00"), MappedLocalTime::Ambiguous(before, after)
            if before.fix().local_minus_utc() == 7200 && after.fix().local_minus_utc() == 3600));
        assert!(matches!(local("2026-03-29T02:30:00"), MappedLocalTime::None));
    }

    #[test]
    fn far_years_and_unknown_names_do_no_harm() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        for year in [-200_000, 200_000] {
            let day = NaiveDate::from_ymd_opt(year, 7, 1).unwrap();
            let offset = berlin.offset_from_utc_date(&day).fix().local_minus_utc();
            assert!((0..=7200).contains(&offset), "{year}: {offset}");
            assert!(berlin.offset_from_local_date(&day).earliest().is_some());
        }
        assert_eq!("Europe/Atlantis".parse::<Tz>(), Err(ParseError));
        assert_eq!("../../etc/passwd".parse::<Tz>(), Err(ParseError));
    }
}
