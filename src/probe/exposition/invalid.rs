//! Why an exposition is refused: a closed list, and the place.

use std::fmt;

/// Bytes of the offending line that an [`Invalid`] carries, around the column at fault.
pub const EXCERPT_BYTES: usize = 80;

/// The first thing in an exposition for which Prometheus would drop the scrape, or a bound of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Counted from 1.
    pub line: u64,
    /// In bytes, counted from 1.
    pub column: usize,
    pub kind: InvalidKind,
    /// At most [`EXCERPT_BYTES`] of the line, invalid UTF-8 replaced.
    pub excerpt: String,
}

impl Invalid {
    /// `at` is an offset into `text`, a line that begins at `line` and may itself hold newlines
    /// inside of quotes.
    pub(super) fn locate(line: u64, text: &[u8], at: usize, kind: InvalidKind) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |found| found + 1);
        let newlines = super::newlines(before);
        let here = text.get(start..).unwrap_or_default();
        let here = here.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let offset = at - start;
        Self { line: line + newlines, column: offset + 1, kind, excerpt: excerpt(here, offset) }
    }
}

fn excerpt(line: &[u8], offset: usize) -> String {
    let start = offset.saturating_sub(EXCERPT_BYTES / 2);
    let end = line.len().min(start + EXCERPT_BYTES);
    String::from_utf8_lossy(line.get(start..end).unwrap_or_default()).into_owned()
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.kind)?;
        if self.excerpt.is_empty() {
            return Ok(());
        }
        write!(f, ": {:?}", self.excerpt)
    }
}

macro_rules! kinds {
    ($($kind:ident $label:literal $text:literal)*) => {
        /// What is wrong. Closed: a new one is a row here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum InvalidKind {
            $(#[doc = $text] $kind,)*
        }

        impl InvalidKind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// One word, stable, for tests and labels.
            pub fn label(self) -> &'static str {
                match self { $(Self::$kind => $label,)* }
            }
        }

        impl fmt::Display for InvalidKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$kind => $text,)* })
            }
        }
    };
}

kinds! {
    LineTooLong "line_too_long" "the line is longer than the limit"
    TooManySamples "too_many_samples" "more samples than the limit"
    TooManyFamilies "too_many_families" "more metric families than the limit"
    StartToken "start_token" "a line must begin with a metric name, '{' or '#'"
    MetricName "metric_name" "not a valid metric name"
    MetricNameMissing "metric_name_missing" "the sample has no metric name"
    MetricNameTwice "metric_name_twice" "the sample has two metric names"
    LabelName "label_name" "expected a label name"
    LabelEquals "label_equals" "expected '=' after the label name"
    LabelValue "label_value" "expected a label value in double quotes"
    LabelSeparator "label_separator" "expected ',' or '}' after the label value"
    LabelTwice "label_twice" "the label stands there twice"
    LabelsUnclosed "labels_unclosed" "the line ends before '}'"
    QuoteUnclosed "quote_unclosed" "the closing quote is missing"
    Utf8 "utf8" "not valid UTF-8"
    ValueMissing "value_missing" "expected a value"
    Value "value" "the value is not a number"
    Timestamp "timestamp" "not a valid timestamp"
    Exemplar "exemplar" "not a valid exemplar"
    Trailing "trailing" "unexpected text after the sample"
    CarriageReturn "carriage_return" "carriage return: a line must end in a line feed alone"
    Type "type" "unknown metric type"
    Unit "unit" "the unit is not the suffix of the metric's name"
    MetaText "meta_text" "expected a space and a text after the metric name"
    Comment "comment" "OpenMetrics knows no comments but HELP, TYPE, UNIT and EOF"
    BlankLine "blank_line" "OpenMetrics knows no blank lines"
    EofMissing "eof_missing" "the exposition does not end with '# EOF'"
    AfterEof "after_eof" "unexpected data after '# EOF'"
}

impl InvalidKind {
    /// A bound of ours was passed; Prometheus itself might have gone on.
    pub fn is_limit(self) -> bool {
        matches!(self, Self::LineTooLong | Self::TooManySamples | Self::TooManyFamilies)
    }
}
