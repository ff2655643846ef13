//! Numbers as Go's yaml.v3 reads them: `10`, `0x1F`, `0o17`, `017`, `0b11`, `1_000`, `1e3`, `.inf`.

use super::scalar::Resolved;

pub(super) fn read(text: &str) -> Option<Resolved> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(Resolved::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Some(Resolved::Float(f64::INFINITY));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Some(Resolved::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    let first = text.chars().next()?;
    if !(first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return None;
    }
    let digits = text.replace('_', "");
    whole(&digits).or_else(|| float(&digits))
}

fn whole(text: &str) -> Option<Resolved> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = based(magnitude);
    // `from_str_radix` takes a sign of its own.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(Resolved::Unsigned(value));
    }
    0i64.checked_sub_unsigned(value).map(Resolved::Signed)
}

/// A leading zero means octal in YAML 1.1, and still does in Go.
fn based(text: &str) -> (&str, u32) {
    let bases = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    for (prefix, radix) in bases {
        if let Some(digits) = text.strip_prefix(prefix) {
            return (digits, radix);
        }
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    }
}

fn float(text: &str) -> Option<Resolved> {
    // Rust also reads `inf` and `nan`, which are words in YAML.
    let numeric =
        |letter: char| letter.is_ascii_digit() || matches!(letter, '+' | '-' | '.' | 'e' | 'E');
    if !text.chars().all(numeric) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Resolved::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let cases = [
            ("10", Some(Resolved::Unsigned(10))),
            ("-10", Some(Resolved::Signed(-10))),
            ("+7", Some(Resolved::Unsigned(7))),
            ("0x1F", Some(Resolved::Unsigned(31))),
            ("-0x1F", Some(Resolved::Signed(-31))),
            ("0o17", Some(Resolved::Unsigned(15))),
            ("017", Some(Resolved::Unsigned(15))),
            ("0899", Some(Resolved::Float(899.0))),
            ("0b11", Some(Resolved::Unsigned(3))),
            ("1_000", Some(Resolved::Unsigned(1000))),
            ("1.5", Some(Resolved::Float(1.5))),
            ("1e3", Some(Resolved::Float(1000.0))),
            (".5", Some(Resolved::Float(0.5))),
            (".inf", Some(Resolved::Float(f64::INFINITY))),
            ("-.Inf", Some(Resolved::Float(f64::NEG_INFINITY))),
            ("18446744073709551615", Some(Resolved::Unsigned(u64::MAX))),
            ("-9223372036854775808", Some(Resolved::Signed(i64::MIN))),
            ("0", Some(Resolved::Unsigned(0))),
            ("inf", None),
            ("1.2.3", None),
            ("--1", None),
            ("-", None),
            (".", None),
            ("5s", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
