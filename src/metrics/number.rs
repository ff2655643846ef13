//! Numbers as Go's `strconv.FormatFloat(v, 'g', -1, 64)` writes them, which is how Prometheus and
//! its exporters print values.

use std::fmt::Write as _;

/// The longest is `-2.2250738585072014e-308`, and `{:e}` has no more digits.
const MAX_BYTES: usize = 32;
/// The shortest form has an exponent from here on.
const EXPONENT_FROM: i32 = 6;
/// And below this one.
const EXPONENT_BELOW: i32 = -4;

pub(super) fn push(out: &mut Vec<u8>, value: f64) {
    if push_small(out, value) {
        return;
    }
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        push_finite(out, value);
    }
}

/// Integers of up to six digits: most values there are.
fn push_small(out: &mut Vec<u8>, value: f64) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "compared with the value below"
    )]
    let integer = value as u32;
    let is_exact = f64::from(integer).to_bits() == value.to_bits();
    if integer >= 1_000_000 || !is_exact {
        return false;
    }
    let mut digits = [0_u8; 6];
    let mut rest = integer;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).expect("a digit fits");
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - used));
    true
}

fn push_finite(out: &mut Vec<u8>, value: f64) {
    let mut text = Stack { bytes: [0; MAX_BYTES], len: 0 };
    write!(text, "{:e}", value.abs()).expect("17 digits, a point and an exponent fit");
    let text = text.bytes.get(..text.len).unwrap_or_default();
    let (mantissa, exponent) = split(text);
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if (EXPONENT_BELOW..EXPONENT_FROM).contains(&exponent) {
        push_plain(out, mantissa, exponent);
        return;
    }
    out.extend_from_slice(mantissa);
    push_exponent(out, exponent);
}

fn split(text: &[u8]) -> (&[u8], i32) {
    let at = text.iter().position(|&byte| byte == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(at);
    let exponent = str::from_utf8(exponent.get(1..).unwrap_or_default()).unwrap_or_default();
    (mantissa, exponent.parse().unwrap_or(0))
}

fn push_exponent(out: &mut Vec<u8>, exponent: i32) {
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let size = exponent.unsigned_abs();
    if size < 10 {
        out.push(b'0');
    }
    push_small(out, f64::from(size));
}

/// `mantissa` is `d` or `d.ddd`.
fn push_plain(out: &mut Vec<u8>, mantissa: &[u8], exponent: i32) {
    let digits = || mantissa.iter().copied().filter(|&byte| byte != b'.');
    let count = digits().count();
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    if whole == 0 {
        push_fraction(out, digits(), exponent);
        return;
    }
    out.extend(digits().take(whole));
    out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(count)));
    if count > whole {
        out.push(b'.');
        out.extend(digits().skip(whole));
    }
}

/// Below one: `0.`, zeros, digits.
fn push_fraction(out: &mut Vec<u8>, digits: impl Iterator<Item = u8>, exponent: i32) {
    out.extend_from_slice(b"0.");
    let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
    out.extend(std::iter::repeat_n(b'0', zeros));
    out.extend(digits);
}

struct Stack {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl std::fmt::Write for Stack {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let slot = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        slot.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by a Go program: the bits of a number and what Go makes of them.
    const TABLE: &str = include_str!("../../tests/cases/exposition/go_floats.txt");

    #[test]
    fn every_number_looks_as_in_go() {
        let mut rows = 0;
        for row in TABLE.lines() {
            let (bits, expected) = row.split_once(' ').unwrap();
            let value = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
            let mut out = Vec::new();
            push(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "bits {bits}");
            rows += 1;
        }
        assert!(rows > 300, "{rows} rows");
    }
}
