//! One line of an exposition, in the grammar that Prometheus' own scraper has for it.
//!
//! Not for what spans lines: that is the reader's.

use std::borrow::Cow;
use std::str;

use super::Format;
use super::family::Kind;
use super::invalid::InvalidKind;
use super::labels::{LabelSpan, Span, unescape};

/// Up to here duplicate labels are sought by comparing each with each, beyond by sorting.
const FEW_LABELS: usize = 16;

/// What is wrong with a line, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) at: usize,
    pub(super) kind: InvalidKind,
    /// A quote is open where the line ends and may go on in the next line.
    pub(super) open: bool,
}

impl Flaw {
    fn new(at: usize, kind: InvalidKind) -> Self {
        Self { at, kind, open: false }
    }
}

#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Blank, or a comment.
    Nothing,
    /// HELP and UNIT: nothing but the family's name is used.
    Named(Cow<'a, str>),
    Typed(Cow<'a, str>, Kind),
    Eof,
    Sample(Sampled<'a>),
}

/// A sample; its labels are in the caller's buffer.
#[derive(Debug)]
pub(super) struct Sampled<'a> {
    pub(super) text: &'a str,
    pub(super) name: Span,
    pub(super) value: f64,
    pub(super) timestamp_ms: Option<i64>,
}

/// Reads one line, without its line feed.
pub(super) fn parse<'a>(
    line: &'a [u8],
    format: Format,
    labels: &mut Vec<LabelSpan>,
) -> Result<Line<'a>, Flaw> {
    let mut cursor = Cursor { bytes: line, at: 0, format };
    cursor.gap();
    match cursor.peek() {
        None if format == Format::Text => Ok(Line::Nothing),
        None => Err(Flaw::new(0, InvalidKind::BlankLine)),
        Some(b'#') => meta(cursor),
        Some(first) if is_name_start(first) || first == b'{' => sample(cursor, labels),
        Some(b'\r') => Err(cursor.flaw(InvalidKind::CarriageReturn)),
        Some(_) => Err(cursor.flaw(InvalidKind::StartToken)),
    }
}

fn is_label_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_name_start(byte: u8) -> bool {
    is_label_start(byte) || byte == b':'
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[derive(Debug, Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    format: Format,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn flaw(&self, kind: InvalidKind) -> Flaw {
        Flaw::new(self.at, kind)
    }

    fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Where the text format lets blanks stand; OpenMetrics lets none.
    fn gap(&mut self) {
        if self.is_text() {
            self.while_matching(is_blank);
        }
    }

    /// What parts two words: any blanks, even none, in text; exactly one space in OpenMetrics.
    fn separator(&mut self) -> bool {
        self.gap();
        self.is_text() || self.eat(b' ')
    }

    fn while_matching(&mut self, is_wanted: fn(u8) -> bool) -> Span {
        let start = self.at;
        let rest = self.rest();
        self.at += rest.iter().position(|&byte| !is_wanted(byte)).unwrap_or(rest.len());
        Span { start, end: self.at, escaped: false }
    }

    /// From an opening quote to behind the closing one.
    fn quoted(&mut self, may_hold_newline: bool) -> Result<Span, Flaw> {
        let flaw = self.flaw(InvalidKind::QuoteUnclosed);
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    if matches!(self.peek(), None | Some(b'\n')) {
                        return Err(flaw);
                    }
                }
                Some(b'\n') if !may_hold_newline => return Err(flaw),
                Some(_) => {}
                None => return Err(Flaw { open: may_hold_newline, ..flaw }),
            }
            self.at += 1;
        }
        let span = Span { start, end: self.at, escaped };
        self.at += 1;
        Ok(span)
    }
}

fn meta(mut cursor: Cursor<'_>) -> Result<Line<'_>, Flaw> {
    let start = cursor;
    cursor.at += 1;
    if cursor.is_text() {
        return text_meta(cursor);
    }
    if cursor.eat_word(b" EOF") {
        return match cursor.peek() {
            None => Ok(Line::Eof),
            Some(_) => Err(cursor.flaw(InvalidKind::AfterEof)),
        };
    }
    for word in [Word::Help, Word::Type, Word::Unit] {
        if cursor.eat_word(b" ") && cursor.eat_word(word.spelled()) && cursor.eat_word(b" ") {
            return described(cursor, word);
        }
        cursor.at = start.at + 1;
    }
    Err(start.flaw(InvalidKind::Comment))
}

fn text_meta(mut cursor: Cursor<'_>) -> Result<Line<'_>, Flaw> {
    if !cursor.peek().is_some_and(is_blank) {
        return Ok(Line::Nothing);
    }
    cursor.gap();
    for word in [Word::Help, Word::Type] {
        let start = cursor.at;
        if cursor.eat_word(word.spelled()) && cursor.peek().is_some_and(is_blank) {
            cursor.gap();
            return described(cursor, word);
        }
        cursor.at = start;
    }
    Ok(Line::Nothing)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Help,
    Type,
    Unit,
}

impl Word {
    fn spelled(self) -> &'static [u8] {
        match self {
            Self::Help => b"HELP",
            Self::Type => b"TYPE",
            Self::Unit => b"UNIT",
        }
    }
}

/// The metric name and the text after HELP, TYPE or UNIT.
fn described(mut cursor: Cursor<'_>, word: Word) -> Result<Line<'_>, Flaw> {
    let name = meta_name(&mut cursor)?;
    let text = match cursor.peek() {
        Some(byte) if byte == b' ' || cursor.is_text() => {
            if word == Word::Type && !is_blank(byte) {
                return Err(cursor.flaw(InvalidKind::MetricName));
            }
            cursor.at += 1;
            cursor.rest()
        }
        None if cursor.is_text() => b"",
        _ => return Err(cursor.flaw(InvalidKind::MetaText)),
    };
    match word {
        Word::Help => match str::from_utf8(text) {
            Ok(_) => Ok(Line::Named(name)),
            Err(e) => Err(Flaw::new(cursor.at + e.valid_up_to(), InvalidKind::Utf8)),
        },
        Word::Type => Ok(Line::Typed(name, kind(text, &cursor)?)),
        Word::Unit if is_unit_of(text, &name) => Ok(Line::Named(name)),
        Word::Unit => Err(cursor.flaw(InvalidKind::Unit)),
    }
}

fn meta_name<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, Flaw> {
    let (span, escaped) = match cursor.peek() {
        Some(b'"') => {
            let span = cursor.quoted(true)?;
            (span, span.escaped)
        }
        Some(first) if is_name_start(first) => {
            (cursor.while_matching(|byte| is_name_start(byte) || byte.is_ascii_digit()), false)
        }
        _ => return Err(cursor.flaw(InvalidKind::MetricName)),
    };
    let raw = String::from_utf8_lossy(cursor.bytes.get(span.start..span.end).unwrap_or_default());
    Ok(if escaped { Cow::Owned(unescape(&raw)) } else { raw })
}

fn kind(text: &[u8], cursor: &Cursor<'_>) -> Result<Kind, Flaw> {
    let is_text = cursor.is_text();
    Ok(match text {
        b"counter" => Kind::Counter,
        b"gauge" => Kind::Gauge,
        b"histogram" => Kind::Histogram,
        b"summary" => Kind::Summary,
        b"untyped" if is_text => Kind::Unknown,
        b"unknown" if !is_text => Kind::Unknown,
        b"gaugehistogram" if !is_text => Kind::GaugeHistogram,
        b"info" if !is_text => Kind::Info,
        b"stateset" if !is_text => Kind::StateSet,
        [.., b'\r'] => {
            let at = cursor.at + text.len() - 1;
            return Err(Flaw::new(at, InvalidKind::CarriageReturn));
        }
        _ => return Err(cursor.flaw(InvalidKind::Type)),
    })
}

fn is_unit_of(unit: &[u8], name: &str) -> bool {
    let stem = name.as_bytes().strip_suffix(unit);
    unit.is_empty() || stem.is_some_and(|stem| stem.ends_with(b"_"))
}

fn sample<'a>(mut cursor: Cursor<'a>, labels: &mut Vec<LabelSpan>) -> Result<Line<'a>, Flaw> {
    labels.clear();
    let start = cursor.at;
    let text = match str::from_utf8(cursor.bytes) {
        Ok(text) => text,
        Err(e) => return Err(Flaw::new(e.valid_up_to(), InvalidKind::Utf8)),
    };
    let bare = cursor.while_matching(|byte| is_name_start(byte) || byte.is_ascii_digit());
    let mut name = (bare.start < bare.end).then_some(bare);
    let behind_name = cursor.at;
    cursor.gap();
    if cursor.eat(b'{') {
        label_set(&mut cursor, labels, Some(&mut name))?;
    }
    let name = name.ok_or(Flaw::new(start, InvalidKind::MetricNameMissing))?;
    check_names(text, name, labels)?;
    let value = value(&mut cursor).map_err(|flaw| misnamed(flaw, cursor.bytes, behind_name))?;
    let timestamp_ms = if cursor.is_text() {
        text_timestamp(&mut cursor)?
    } else {
        openmetrics_tail(&mut cursor, labels.len(), labels)?
    };
    Ok(Line::Sample(Sampled { text, name, value, timestamp_ms }))
}

/// `foo-bar 1` is to Prometheus a metric `foo` of value `-bar`; to its author it is a bad name.
fn misnamed(flaw: Flaw, line: &[u8], behind_name: usize) -> Flaw {
    let glued = line.get(behind_name).filter(|byte| !matches!(byte, b' ' | b'\t' | b'{' | b'\r'));
    let is_value = matches!(flaw.kind, InvalidKind::Value | InvalidKind::CarriageReturn);
    if is_value && glued.is_some() {
        return Flaw::new(behind_name, InvalidKind::MetricName);
    }
    flaw
}

/// From behind `{` to behind `}`. `name` takes a quoted metric name; an exemplar has none.
fn label_set(
    cursor: &mut Cursor<'_>,
    labels: &mut Vec<LabelSpan>,
    mut name: Option<&mut Option<Span>>,
) -> Result<(), Flaw> {
    loop {
        cursor.gap();
        let start = *cursor;
        let label = match cursor.peek() {
            Some(b'}') => {
                cursor.at += 1;
                return Ok(());
            }
            Some(b'"') => {
                let quoted = cursor.quoted(true)?;
                cursor.gap();
                if matches!(cursor.peek(), Some(b',' | b'}')) {
                    metric_name(name.as_deref_mut(), quoted, start)?;
                    cursor.eat(b',');
                    continue;
                }
                quoted
            }
            Some(first) if is_label_start(first) => {
                cursor.while_matching(|byte| is_label_start(byte) || byte.is_ascii_digit())
            }
            Some(_) => return Err(cursor.flaw(InvalidKind::LabelName)),
            None => return Err(cursor.flaw(InvalidKind::LabelsUnclosed)),
        };
        let value = label_value(cursor)?;
        labels.push(LabelSpan { name: label, value });
    }
}

fn metric_name(
    name: Option<&mut Option<Span>>,
    quoted: Span,
    start: Cursor<'_>,
) -> Result<(), Flaw> {
    match name {
        None => Err(start.flaw(InvalidKind::LabelName)),
        Some(Some(_)) => Err(start.flaw(InvalidKind::MetricNameTwice)),
        Some(none) => {
            *none = Some(quoted);
            Ok(())
        }
    }
}

/// `="value"` and what parts it from the next label: text can do without the comma.
fn label_value(cursor: &mut Cursor<'_>) -> Result<Span, Flaw> {
    cursor.gap();
    if !cursor.eat(b'=') {
        return Err(cursor.flaw(InvalidKind::LabelEquals));
    }
    cursor.gap();
    if cursor.peek() != Some(b'"') {
        return Err(cursor.flaw(InvalidKind::LabelValue));
    }
    let value = cursor.quoted(cursor.is_text())?;
    cursor.gap();
    if cursor.eat(b',') || cursor.is_text() || cursor.peek() == Some(b'}') {
        return Ok(value);
    }
    match cursor.peek() {
        None => Err(cursor.flaw(InvalidKind::LabelsUnclosed)),
        Some(_) => Err(cursor.flaw(InvalidKind::LabelSeparator)),
    }
}

/// What Prometheus refuses only when it stores the sample, which drops the scrape as well.
fn check_names(line: &str, name: Span, labels: &[LabelSpan]) -> Result<(), Flaw> {
    if name.start == name.end {
        return Err(Flaw::new(name.start, InvalidKind::MetricName));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.name.start == label.name.end {
            return Err(Flaw::new(label.name.start, InvalidKind::LabelName));
        }
        let is_early = labels.len() <= FEW_LABELS;
        let earlier = labels.get(..index).filter(|_| is_early).unwrap_or_default();
        let is_twice = earlier.iter().any(|other| same(line, other.name, label.name));
        if is_twice || label.name.text(line) == "__name__" {
            return Err(Flaw::new(label.name.start, InvalidKind::LabelTwice));
        }
    }
    if labels.len() > FEW_LABELS { check_many(line, labels) } else { Ok(()) }
}

fn same(line: &str, one: Span, other: Span) -> bool {
    if one.escaped || other.escaped {
        return one.text(line) == other.text(line);
    }
    one.raw(line) == other.raw(line)
}

/// The first label that repeats an earlier one.
fn check_many(line: &str, labels: &[LabelSpan]) -> Result<(), Flaw> {
    let mut names: Vec<_> =
        labels.iter().map(|label| (label.name.text(line), label.name.start)).collect();
    names.sort_unstable();
    let pairs = names.iter().zip(names.iter().skip(1));
    let twice = pairs.filter(|(one, next)| one.0 == next.0).map(|(_, next)| next.1).min();
    twice.map_or(Ok(()), |at| Err(Flaw::new(at, InvalidKind::LabelTwice)))
}

fn value(cursor: &mut Cursor<'_>) -> Result<f64, Flaw> {
    let word = next_word(cursor, InvalidKind::ValueMissing)?;
    number(cursor, word).ok_or_else(|| bad_word(cursor, word, InvalidKind::Value))
}

/// A word behind its separator. Where there is none, `missing`.
fn next_word(cursor: &mut Cursor<'_>, missing: InvalidKind) -> Result<Span, Flaw> {
    if !cursor.separator() {
        return Err(cursor.flaw(missing));
    }
    let word = if cursor.is_text() {
        cursor.while_matching(|byte| !is_blank(byte) && byte != b'\n' && byte != b'{')
    } else {
        cursor.while_matching(|byte| byte != b' ' && byte != b'\n')
    };
    if word.start == word.end { Err(cursor.flaw(missing)) } else { Ok(word) }
}

fn bad_word(cursor: &Cursor<'_>, word: Span, kind: InvalidKind) -> Flaw {
    let bytes = cursor.bytes.get(word.start..word.end).unwrap_or_default();
    match bytes.iter().position(|&byte| byte == b'\r') {
        Some(found) => Flaw::new(word.start + found, InvalidKind::CarriageReturn),
        None => Flaw::new(word.start, kind),
    }
}

/// Go's floats as Prometheus takes them: no hexadecimal, no underscore, no sign on a NaN, and a
/// number too large for a float is an error rather than infinity.
fn number(cursor: &Cursor<'_>, word: Span) -> Option<f64> {
    let bytes = cursor.bytes.get(word.start..word.end)?;
    if let Some(small) = small_integer(bytes) {
        return Some(small);
    }
    let number: f64 = str::from_utf8(bytes).ok()?.parse().ok()?;
    let is_signed = matches!(bytes.first(), Some(b'+' | b'-'));
    let has_digits = bytes.iter().any(u8::is_ascii_digit);
    let is_refused = (number.is_nan() && is_signed) || (number.is_infinite() && has_digits);
    (!is_refused).then_some(number)
}

fn small_integer(bytes: &[u8]) -> Option<f64> {
    if bytes.len() > 9 {
        return None;
    }
    let mut sum = 0_u32;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum * 10 + u32::from(digit);
    }
    Some(f64::from(sum))
}

/// Milliseconds, digits alone: Prometheus knows no sign here.
fn text_timestamp(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Flaw> {
    cursor.gap();
    let digits = cursor.while_matching(|byte| byte.is_ascii_digit());
    let timestamp = match digits.end - digits.start {
        0 => None,
        _ => Some(millis(cursor, digits)?),
    };
    let is_glued = cursor.at > digits.start || matches!(cursor.peek(), Some(b'-' | b'+' | b'.'));
    let behind_digits = cursor.at;
    cursor.gap();
    match cursor.peek() {
        None => Ok(timestamp),
        Some(b'\r') => Err(cursor.flaw(InvalidKind::CarriageReturn)),
        Some(_) if is_glued && cursor.at == behind_digits => {
            Err(Flaw::new(digits.start, InvalidKind::Timestamp))
        }
        Some(_) => Err(cursor.flaw(InvalidKind::Trailing)),
    }
}

fn millis(cursor: &Cursor<'_>, digits: Span) -> Result<i64, Flaw> {
    let bytes = cursor.bytes.get(digits.start..digits.end).unwrap_or_default();
    let millis = str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok());
    millis.ok_or(Flaw::new(digits.start, InvalidKind::Timestamp))
}

/// Seconds, and perhaps an exemplar. The exemplar's labels are read behind those of the sample and
/// dropped again.
fn openmetrics_tail(
    cursor: &mut Cursor<'_>,
    own: usize,
    labels: &mut Vec<LabelSpan>,
) -> Result<Option<i64>, Flaw> {
    let mut timestamp = None;
    if cursor.peek().is_some() && !cursor.rest().starts_with(b" #") {
        timestamp = Some(seconds(cursor)?);
    }
    if cursor.rest().starts_with(b" #") {
        exemplar(cursor, labels)?;
        labels.truncate(own);
    }
    match cursor.peek() {
        None => Ok(timestamp),
        Some(_) => Err(cursor.flaw(InvalidKind::Trailing)),
    }
}

fn exemplar(cursor: &mut Cursor<'_>, labels: &mut Vec<LabelSpan>) -> Result<(), Flaw> {
    if !cursor.eat_word(b" # {") {
        cursor.at += 1;
        return Err(cursor.flaw(InvalidKind::Exemplar));
    }
    label_set(cursor, labels, None)?;
    let word = next_word(cursor, InvalidKind::Exemplar)?;
    number(cursor, word).ok_or_else(|| bad_word(cursor, word, InvalidKind::Exemplar))?;
    if cursor.peek().is_some() {
        seconds(cursor)?;
    }
    Ok(())
}

fn seconds(cursor: &mut Cursor<'_>) -> Result<i64, Flaw> {
    let word = next_word(cursor, InvalidKind::Trailing)?;
    let seconds = number(cursor, word).filter(|seconds| seconds.is_finite());
    let seconds = seconds.ok_or_else(|| bad_word(cursor, word, InvalidKind::Timestamp))?;
    #[expect(clippy::cast_possible_truncation, reason = "a time out of range saturates")]
    Ok((seconds * 1000.0) as i64)
}
