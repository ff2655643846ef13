//! Reads what an exporter exposes, as it arrives, in bounded memory: the Prometheus text format
//! 0.0.4 and OpenMetrics 1.0 text.
//!
//! An [`Invalid`] means that Prometheus would drop the scrape. What Prometheus' scraper takes, this
//! takes: a TYPE twice or after its samples, unknown escapes, a missing last line feed, line feeds
//! inside of quotes, in text also labels without commas; samples of any name and value below any
//! TYPE; in OpenMetrics an exemplar on any sample. `promtool check metrics` refuses some of these.
//! A carriage return is refused except in HELP texts and comments, where Prometheus takes it for
//! text. Three times we are stricter on purpose, as Prometheus takes the text for something that
//! nobody meant: a NUL at the start of a line, behind which it silently ignores everything, the name
//! of `{foo} 1`, which it calls `o`, and a line of `  foo 1`, whose blanks it makes part of the name
//! while we leave them out.
//!
//! Not for judging what the samples say.

mod family;
mod invalid;
mod labels;
mod line;

use std::borrow::Cow;
use std::mem;

use self::family::{Families, TooMany};
use self::labels::LabelSpan;
use self::line::{Flaw, Line, Sampled};

pub use self::family::{Family, Kind};
pub use self::invalid::{EXCERPT_BYTES, Invalid, InvalidKind};
pub use self::labels::Labels;

pub const MAX_LINE_BYTES: usize = 1 << 20;
pub const MAX_SAMPLES: u64 = 5_000_000;
pub const MAX_FAMILIES: usize = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
}

impl Format {
    /// By the media type; its parameters are ignored, as Prometheus does. No type at all is text.
    /// `None`: this is no exposition that we or Prometheus 3 would read, such as `text/html`.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.is_empty() || media_type.eq_ignore_ascii_case("text/plain") {
            return Some(Self::Text);
        }
        media_type.eq_ignore_ascii_case("application/openmetrics-text").then_some(Self::OpenMetrics)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bounds our memory, too: no more than one line is kept.
    pub max_line_bytes: usize,
    pub max_samples: u64,
    /// Of each family some 16 bytes are remembered.
    pub max_families: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line_bytes: MAX_LINE_BYTES,
            max_samples: MAX_SAMPLES,
            max_families: MAX_FAMILIES,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub labels: Labels<'a>,
    pub value: f64,
    /// Milliseconds since 1970, in both formats.
    pub timestamp_ms: Option<i64>,
    /// Counted from 1.
    pub line: u64,
    pub family: Family<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub samples: u64,
    /// Families that were declared or had a sample.
    pub families: u64,
    pub lines: u64,
    pub bytes: u64,
    /// `# EOF` of OpenMetrics.
    pub has_eof: bool,
}

/// Takes an exposition in chunks that may end anywhere.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    limits: Limits,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Set while `carry` holds line feeds, which can only stand inside of quotes.
    quote: Option<Quote>,
    /// The number of the line that `carry`, or the next byte, begins.
    line: u64,
    samples: u64,
    bytes: u64,
    has_eof: bool,
    labels: Vec<LabelSpan>,
    families: Families,
    invalid: Option<Invalid>,
}

impl Reader {
    pub fn new(format: Format, limits: Limits) -> Self {
        Self {
            format,
            limits,
            carry: Vec::new(),
            quote: None,
            line: 1,
            samples: 0,
            bytes: 0,
            has_eof: false,
            labels: Vec::new(),
            families: Families::new(limits.max_families),
            invalid: None,
        }
    }

    /// Calls `sink` with each sample that the chunk completes. Once invalid, always invalid.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(Sample<'_>)) -> Result<(), Invalid> {
        if let Some(invalid) = &self.invalid {
            return Err(invalid.clone());
        }
        self.bytes += chunk.len() as u64;
        let fed = self.take_lines(chunk, sink);
        self.invalid = fed.as_ref().err().cloned();
        fed
    }

    /// The exposition is complete. In text the last line feed may be missing.
    pub fn finish(mut self, sink: &mut impl FnMut(Sample<'_>)) -> Result<Summary, Invalid> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        if !self.carry.is_empty() {
            let line = mem::take(&mut self.carry);
            self.check_end(&line)?;
            if let Some(flaw) = self.read(&line, sink)? {
                return Err(Invalid::locate(self.line, &line, flaw.at, flaw.kind));
            }
            self.line += newlines(&line) + 1;
        }
        if self.format == Format::OpenMetrics && !self.has_eof {
            return Err(Invalid::locate(self.line, b"", 0, InvalidKind::EofMissing));
        }
        Ok(Summary {
            samples: self.samples,
            families: self.families.len() as u64,
            lines: self.line - 1,
            bytes: self.bytes,
            has_eof: self.has_eof,
        })
    }

    fn take_lines(
        &mut self,
        mut rest: &[u8],
        sink: &mut impl FnMut(Sample<'_>),
    ) -> Result<(), Invalid> {
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n');
            let (piece, behind) = match end {
                Some(end) => rest.split_at(end),
                None => (rest, &[] as &[u8]),
            };
            self.check_length(piece)?;
            if end.is_none() {
                self.carry.extend_from_slice(piece);
                return Ok(());
            }
            self.end_line(piece, sink)?;
            rest = behind.get(1..).unwrap_or_default();
        }
        Ok(())
    }

    /// Nothing may follow the end that OpenMetrics marks.
    fn check_end(&self, line: &[u8]) -> Result<(), Invalid> {
        if !self.has_eof {
            return Ok(());
        }
        Err(Invalid::locate(self.line, line, 0, InvalidKind::AfterEof))
    }

    fn check_length(&self, piece: &[u8]) -> Result<(), Invalid> {
        let max = self.limits.max_line_bytes;
        if self.carry.len() + piece.len() <= max {
            return Ok(());
        }
        let mut start = self.carry.get(..max.min(self.carry.len())).unwrap_or_default().to_vec();
        start.extend_from_slice(piece.get(..max - start.len()).unwrap_or_default());
        Err(Invalid::locate(self.line, &start, start.len(), InvalidKind::LineTooLong))
    }

    /// `piece` is what came of the line since the last chunk.
    fn end_line(&mut self, piece: &[u8], sink: &mut impl FnMut(Sample<'_>)) -> Result<(), Invalid> {
        if self.carry.is_empty() {
            return self.complete(Cow::Borrowed(piece), sink);
        }
        self.carry.extend_from_slice(piece);
        if let Some(quote) = &mut self.quote {
            quote.advance(&self.carry);
            if quote.is_open() {
                self.carry.push(b'\n');
                return Ok(());
            }
        }
        let line = mem::take(&mut self.carry);
        self.complete(Cow::Owned(line), sink)
    }

    fn complete(
        &mut self,
        line: Cow<'_, [u8]>,
        sink: &mut impl FnMut(Sample<'_>),
    ) -> Result<(), Invalid> {
        self.check_end(&line)?;
        let is_first_try = self.quote.take().is_none();
        match self.read(&line, sink)? {
            None if is_first_try => self.line += 1,
            None => self.line += newlines(&line) + 1,
            Some(_) if is_first_try => {
                let mut quote = Quote::of(&line);
                quote.advance(&line);
                self.quote = Some(quote);
                self.carry = line.into_owned();
                self.carry.push(b'\n');
                return Ok(());
            }
            Some(flaw) => return Err(Invalid::locate(self.line, &line, flaw.at, flaw.kind)),
        }
        // Keep the buffer for the next line that is cut by the end of a chunk.
        if let Cow::Owned(mut buffer) = line {
            buffer.clear();
            self.carry = buffer;
        }
        Ok(())
    }

    /// Yields the flaw of a line that may go on behind its line feed.
    fn read(
        &mut self,
        line: &[u8],
        sink: &mut impl FnMut(Sample<'_>),
    ) -> Result<Option<Flaw>, Invalid> {
        let kind = match line::parse(line, self.format, &mut self.labels) {
            Ok(Line::Nothing) => return Ok(None),
            Ok(Line::Eof) => {
                self.has_eof = true;
                return Ok(None);
            }
            Ok(Line::Named(name)) => self.families.declare(&name, None).err().map(too_many),
            Ok(Line::Typed(name, kind)) => {
                self.families.declare(&name, Some(kind)).err().map(too_many)
            }
            Ok(Line::Sample(sampled)) => self.deliver(&sampled, sink).err(),
            Err(flaw) if flaw.open => return Ok(Some(flaw)),
            Err(flaw) => return Err(Invalid::locate(self.line, line, flaw.at, flaw.kind)),
        };
        kind.map_or(Ok(None), |kind| Err(Invalid::locate(self.line, line, 0, kind)))
    }

    fn deliver(
        &mut self,
        sampled: &Sampled<'_>,
        sink: &mut impl FnMut(Sample<'_>),
    ) -> Result<(), InvalidKind> {
        if self.samples >= self.limits.max_samples {
            return Err(InvalidKind::TooManySamples);
        }
        self.samples += 1;
        let name = sampled.name.text(sampled.text);
        let family = self.families.of(&name).map_err(too_many)?;
        sink(Sample {
            name: &name,
            labels: Labels::new(sampled.text, &self.labels),
            value: sampled.value,
            timestamp_ms: sampled.timestamp_ms,
            line: self.line,
            family,
        });
        Ok(())
    }
}

fn too_many(_: TooMany) -> InvalidKind {
    InvalidKind::TooManyFamilies
}

fn newlines(line: &[u8]) -> u64 {
    line.split(|&byte| byte == b'\n').skip(1).count() as u64
}

/// Follows the quotes of a line across line feeds, so that each of its bytes is looked at twice at
/// most, however many line feeds it holds.
#[derive(Debug)]
struct Quote {
    scanned: usize,
    place: Place,
    /// In a HELP or TYPE line only the name can be quoted.
    is_meta: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
    /// Behind the only quotes that there can be.
    Over,
}

impl Quote {
    fn of(line: &[u8]) -> Self {
        let first = line.iter().find(|&&byte| byte != b' ' && byte != b'\t');
        Self { scanned: 0, place: Place::Outside, is_meta: first == Some(&b'#') }
    }

    /// A backslash that stands before a line feed makes the line invalid: no use in going on.
    fn is_open(&self) -> bool {
        self.place == Place::Inside
    }

    fn advance(&mut self, line: &[u8]) {
        for &byte in line.get(self.scanned..).unwrap_or_default() {
            self.place = match (self.place, byte) {
                (Place::Outside, b'"') | (Place::Escaped, _) => Place::Inside,
                (Place::Inside, b'\\') => Place::Escaped,
                (Place::Inside, b'"') if self.is_meta => Place::Over,
                (Place::Inside, b'"') => Place::Outside,
                (place, _) => place,
            };
        }
        self.scanned = line.len();
    }
}

#[cfg(test)]
mod tests;
