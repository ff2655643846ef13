//! The budget of a run, from the scraper's header, the module and the offset.

use std::time::Duration;

/// Where the scraper does not say, in seconds.
const DEFAULT_SECONDS: f64 = 120.0;
/// No run may take longer, whatever a header says.
const MAX_BUDGET: Duration = Duration::from_secs(24 * 60 * 60);

/// `offset` is taken from what the scraper grants, not from the module's own timeout. What is not a number leaves nothing.
pub(super) fn budget(granted: f64, module: Option<Duration>, offset: f64) -> Duration {
    let granted = if granted == 0.0 { DEFAULT_SECONDS } else { granted };
    let module = module.map_or(0.0, |timeout| timeout.as_secs_f64());
    let mine = granted - offset;
    let seconds = if (module > 0.0 && module < mine) || mine < 0.0 { module } else { mine };
    if seconds.is_nan() {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(MAX_BUDGET, |d| d.min(MAX_BUDGET))
}

/// A number as Go's `ParseFloat` reads it: also hexadecimal, infinity and NaN, and not beyond what a double holds.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        let value = hexadecimal(digits)?;
        return Some(if text.starts_with('-') { -value } else { value });
    }
    let value: f64 = text.parse().ok()?;
    let is_word = unsigned.starts_with(|c: char| c.is_ascii_alphabetic());
    if value.is_nan() && unsigned.len() != text.len() {
        return None;
    }
    (is_word || value.is_finite()).then_some(value)
}

/// Digits with an optional point, and an exponent of two that must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = i32::try_from(fraction.len()).ok()?.checked_mul(4)?;
    let value = value * f64::from(exponent.checked_sub(shift)?).exp2();
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_blackbox_exporter() {
        let seconds = |s: f64| Duration::from_secs_f64(s);
        // Module, header (0 for none), offset, budget.
        let rows = [
            (0.0, 15.0, 0.5, 14.5),
            (0.0, 15.0, 0.0, 15.0),
            (20.0, 15.0, 0.5, 14.5),
            (20.0, 15.0, 0.0, 15.0),
            (5.0, 15.0, 0.0, 5.0),
            (5.0, 15.0, 0.5, 5.0),
            (10.0, 0.0, 0.5, 10.0),
            (10.0, 10.0, 0.5, 9.5),
            (9.5, 0.0, 1.0, 9.5),
            (9.5, 10.0, 0.5, 9.5),
            (0.0, 0.0, 0.5, 119.5),
            (0.0, 0.0, 0.0, 120.0),
            (2.0, 0.3, 0.5, 2.0),
            (0.0, 3.0, 5.0, 0.0),
            (0.0, 4.0, -3.0, 7.0),
            (0.0, -1.0, 0.5, 0.0),
            (5.0, -1.0, 0.5, 5.0),
            (0.0, f64::NAN, 0.5, 0.0),
            (5.0, f64::NAN, 0.5, 0.0),
            (5.0, f64::INFINITY, 0.5, 5.0),
        ];
        for (module, header, offset, expected) in rows {
            let own = Some(seconds(module)).filter(|m| !m.is_zero());
            let found = budget(header, own, offset);
            let near = found.abs_diff(seconds(expected)) < Duration::from_micros(1);
            assert!(near, "{module} {header} {offset}: {found:?}");
        }
    }

    #[test]
    fn no_number_makes_an_endless_run() {
        for granted in [f64::INFINITY, 1e300, f64::MAX, f64::NEG_INFINITY, f64::MIN] {
            assert!(budget(granted, None, 0.5) <= MAX_BUDGET);
            assert!(budget(granted, Some(Duration::MAX), -0.5) <= MAX_BUDGET);
        }
    }

    #[test]
    fn numbers_are_go_s() {
        let good: [(&str, f64); 9] = [
            ("1", 1.0),
            ("1.5e1", 15.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+2", 2.0),
            ("0x1p-1", 0.5),
            ("-0X1.8p1", -3.0),
            ("Inf", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
        ];
        for (text, value) in good {
            assert_eq!(parse_float(text), Some(value), "{text}");
        }
        assert!(parse_float("nan").unwrap().is_nan());
        for text in ["", " 1", "1s", "1,5", "1e400", "0x1", "0xp1", "+nan", "0x1p9999", "--1", "."]
        {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }
}
