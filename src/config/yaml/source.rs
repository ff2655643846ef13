//! The text of one file and places in it. Knows which keys hold secrets, so that no excerpt of the
//! text shows one.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::SECRET;
use super::problem::Problem;

/// Files beyond this are refused: a configuration of 100,000 targets is a tenth of it.
pub const MAX_SOURCE_BYTES: usize = 64 << 20;

/// One text with its name.
#[derive(Clone)]
pub struct Source {
    /// The path as it was given, or `<inline>`.
    pub name: Arc<str>,
    /// Without the byte order mark.
    pub text: Arc<str>,
    secret_key: fn(&str) -> bool,
    /// Known once the text is parsed; until then only the keys in the text tell what is secret.
    secrets: OnceLock<Vec<Extent>>,
    /// Byte offsets of each line's start and end, made when the first line is asked for.
    lines: OnceLock<Vec<(usize, usize)>>,
}

/// Without the text: it may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A stretch of text: first line and column, last line and the column after its end (1-based).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) from: (usize, usize),
    pub(super) to: (usize, usize),
}

/// A place in a text; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone)]
pub struct Position {
    pub source: Arc<Source>,
    pub line: usize,
    pub column: usize,
    /// In characters, within the line; 0 where nothing stands.
    pub length: usize,
}

impl Source {
    /// A text that is in no file.
    pub fn inline(text: &str) -> Self {
        Self::named("<inline>", text)
    }

    pub fn named(name: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            name: name.into(),
            text: text.into(),
            secret_key: |_| false,
            secrets: OnceLock::new(),
            lines: OnceLock::new(),
        }
    }

    /// Whatever stands under such a key is never shown. Set it before parsing.
    #[must_use]
    pub fn with_secret_keys(mut self, secret_key: fn(&str) -> bool) -> Self {
        self.secret_key = secret_key;
        self
    }

    pub fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let unreadable =
            |error: std::io::Error| Problem::error(format!("cannot read {name}: {error}"));
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SOURCE_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        Self::from_bytes(&name, &bytes)
    }

    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.len() > MAX_SOURCE_BYTES {
            let what = format!("{name} is larger than {} MiB", MAX_SOURCE_BYTES >> 20);
            return Err(Problem::error(what));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::named(name, text)),
            Err(error) => Err(Self::not_utf8(name, bytes, error.valid_up_to())),
        }
    }

    /// The bad line is not shown: without a parse nobody knows whether it holds a secret.
    fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Problem {
        let (before, rest) = bytes.split_at(valid);
        let before = String::from_utf8_lossy(before);
        let source = Arc::new(Self::named(name, &before));
        let line = lines(&source.text).count().max(1);
        let column = source.line(line).chars().count() + 1;
        let byte = rest.first().copied().unwrap_or_default();
        let place = Position { source: Arc::new(Self::named(name, "")), line, column, length: 1 };
        Problem::error(format!("byte 0x{byte:02x} is not UTF-8"))
            .at(&place)
            .hint("save the file as UTF-8")
    }

    pub(super) fn is_secret_key(&self, key: &str) -> bool {
        (self.secret_key)(key)
    }

    pub(super) fn remember_secrets(&self, extents: Vec<Extent>) {
        // A second parse of the same text finds the same secrets.
        self.secrets.get_or_init(|| extents);
    }

    /// The line without its break; empty where there is none.
    pub fn line(&self, number: usize) -> &str {
        let index = number.checked_sub(1);
        let (start, end) =
            index.and_then(|index| self.lines().get(index)).copied().unwrap_or_default();
        self.text.get(start..end).unwrap_or_default()
    }

    fn lines(&self) -> &[(usize, usize)] {
        self.lines.get_or_init(|| {
            let base = self.text.as_ptr().addr();
            let extent = |line: &str| {
                let start = line.as_ptr().addr() - base;
                (start, start + line.len())
            };
            lines(&self.text).map(extent).collect()
        })
    }

    /// The line as it may be shown.
    pub(super) fn shown_line(&self, number: usize) -> String {
        let line: Vec<char> = self.line(number).chars().collect();
        let cuts = self.cuts(number, line.len());
        without(&line, &cuts, printable)
    }

    /// Disjoint stretches of the line to leave out, as character offsets.
    fn cuts(&self, number: usize, length: usize) -> Vec<(usize, usize)> {
        if let Some(from) = self.secret_from(number) {
            return vec![(from, length)];
        }
        let extents = self.secrets.get().map(Vec::as_slice).unwrap_or_default();
        let mut cuts: Vec<(usize, usize)> =
            extents.iter().filter_map(|extent| extent.on_line(number, length)).collect();
        cuts.extend(userinfos(self.line(number)));
        cuts.sort_unstable();
        cuts.dedup_by(|later, earlier| {
            let overlap = later.0 <= earlier.1;
            if overlap {
                earlier.1 = earlier.1.max(later.1);
            }
            overlap
        });
        cuts
    }

    /// Where a secret begins on a line, judged by the text alone: a syntax error leaves no tree.
    fn secret_from(&self, number: usize) -> Option<usize> {
        let line = self.line(number);
        let mut level = indent(line);
        let first = number.saturating_sub(LOOK_BACK).max(1);
        for above in (first..number).rev().map(|above| self.line(above)) {
            let blank = above.trim().is_empty();
            let is_item = |line: &str| line.trim_start().starts_with('-');
            // An item may stand right below its key; what is above another item is its sibling.
            let item = is_item(line) && !is_item(above) && indent(above) == level;
            if blank || (indent(above) >= level && !item) {
                continue;
            }
            if self.secret_value_on(above).is_some() {
                return Some(indent(line));
            }
            level = level.min(indent(above));
            if level == 0 {
                break;
            }
        }
        self.secret_value_on(line)
    }

    /// The offset right after the first secret key of a line and its colon.
    fn secret_value_on(&self, line: &str) -> Option<usize> {
        let letters: Vec<char> = line.chars().collect();
        let colons = letters.iter().enumerate().filter(|(_, letter)| **letter == ':');
        for (colon, _) in colons {
            let key = key_before(&letters, colon);
            if self.is_secret_key(&key) {
                let value =
                    letters.iter().skip(colon + 1).position(|letter| !letter.is_whitespace());
                return Some(value.map_or(letters.len(), |skipped| colon + 1 + skipped));
            }
        }
        None
    }
}

/// Letters with [`SECRET`] in the place of each cut.
fn without(line: &[char], cuts: &[(usize, usize)], show: impl Fn(char) -> char) -> String {
    let mut shown = String::new();
    for (index, letter) in line.iter().enumerate() {
        match cuts.iter().find(|(from, to)| (*from..*to).contains(&index)) {
            Some((from, _)) if *from == index => shown.push_str(SECRET),
            Some(_) => {}
            None => shown.push(show(*letter)),
        }
    }
    shown
}

/// A text without the names and passwords in its URLs.
pub(super) fn without_userinfo(text: &str) -> String {
    let cuts: Vec<_> = userinfos(text).collect();
    let letters: Vec<char> = text.chars().collect();
    without(&letters, &cuts, |letter| letter)
}

/// Where names and passwords stand in the URLs of a line, as character offsets.
fn userinfos(line: &str) -> impl Iterator<Item = (usize, usize)> {
    line.match_indices("://").filter_map(move |(at, mark)| {
        let (before, rest) = line.split_at_checked(at + mark.len())?;
        let ends = |letter: char| letter.is_whitespace() || "/?#,'\"".contains(letter);
        let authority = rest.split(ends).next()?;
        let (userinfo, _) = authority.rsplit_once('@')?;
        let from = before.chars().count();
        Some((from, from + userinfo.chars().count()))
    })
}

/// How many lines a parent may be above its value for the textual search.
const LOOK_BACK: usize = 1000;

impl Extent {
    fn on_line(&self, number: usize, length: usize) -> Option<(usize, usize)> {
        if !(self.from.0..=self.to.0).contains(&number) {
            return None;
        }
        let from = if number == self.from.0 { self.from.1 - 1 } else { 0 };
        let to = if number == self.to.0 { self.to.1 - 1 } else { length };
        (from < to).then_some((from, to))
    }
}

impl Position {
    /// The start of a file, for what concerns it as a whole.
    pub fn start(source: &Arc<Source>) -> Self {
        Self { source: source.clone(), line: 1, column: 1, length: 0 }
    }

    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.order() == other.order() && self.source.name == other.source.name
    }

    pub(super) fn order(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.name, self.line, self.column)
    }
}

/// The lines as YAML counts them: LF, CR LF and a lone CR end one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|letter| letter.is_whitespace()).count()
}

fn key_before(letters: &[char], colon: usize) -> String {
    let mut end = colon;
    while end > 0 && (letters[end - 1].is_whitespace() || matches!(letters[end - 1], '"' | '\'')) {
        end -= 1;
    }
    let word = |letter: &char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let start = letters[..end].iter().rposition(|letter| !word(letter)).map_or(0, |at| at + 1);
    letters[start..end].iter().collect()
}

/// A terminal must not obey what a file contains.
fn printable(letter: char) -> char {
    if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter }
}
