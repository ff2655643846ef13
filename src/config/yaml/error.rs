//! What serde says went wrong, put into words once it is known which node is meant.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::problem::{Problem, quoted};
use super::scalar::Style;
use super::source::{Position, without_userinfo};
use super::suggest;
use super::tree::{Kind, Node};
use super::{HINT, SECRET};

pub(super) type Outcome<T> = Result<T, Failure>;

/// A node's name within one decode: the tree does not move meanwhile.
pub(super) type Id = usize;

pub(super) fn id(node: &Node) -> Id {
    std::ptr::from_ref(node).addr()
}

/// Why a value could not be read. Gets its place on the way out of the innermost node.
#[derive(Debug)]
pub(super) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    hint: Option<String>,
    /// Where to point, if not at the node that failed.
    at: Option<Position>,
    problem: Option<Problem>,
    trail: Vec<Id>,
}

#[derive(Debug)]
enum What {
    /// In somebody's own words; may contain [`HINT`].
    Custom(String),
    Expected(String),
    Length(usize, String),
    Missing(&'static str),
    Unknown {
        word: String,
        known: &'static [&'static str],
        kind: &'static str,
    },
}

impl Failure {
    fn new(what: What) -> Self {
        Self(Box::new(Inner { what, hint: None, at: None, problem: None, trail: Vec::new() }))
    }

    pub(super) fn words(what: String) -> Self {
        Self::new(What::Custom(what))
    }

    pub(super) fn pointing(mut self, at: &Position) -> Self {
        self.0.at = Some(at.clone());
        self
    }

    pub(super) fn hint(mut self, hint: String) -> Self {
        self.0.hint = Some(hint);
        self
    }

    /// Called by each node that the failure passes, from the inside out.
    pub(super) fn through(mut self, node: &Node) -> Self {
        if self.0.problem.is_none() {
            self.0.problem = Some(self.problem_at(node));
        }
        if self.0.trail.last() != Some(&id(node)) {
            self.0.trail.push(id(node));
        }
        self
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        match self.0.what {
            What::Missing(field) => Some(field),
            _ => None,
        }
    }

    /// The node that failed and its ancestors, the innermost first.
    pub(super) fn trail(&self) -> &[Id] {
        &self.0.trail
    }

    pub(super) fn into_problem(self) -> Option<Problem> {
        self.0.problem
    }

    fn problem_at(&self, node: &Node) -> Problem {
        let at = self.0.at.as_ref().unwrap_or(node.at());
        let (what, hint) = self.text(node);
        let problem = Problem::error(what).at(at);
        match self.0.hint.clone().or(hint) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    fn text(&self, node: &Node) -> (String, Option<String>) {
        match &self.0.what {
            What::Custom(text) if text.starts_with("data did not match any variant") => {
                (format!("{} has none of the forms that are allowed here", found(node)), None)
            }
            What::Custom(text) => match text.split_once(HINT) {
                Some((what, hint)) => (shielded(what, node), Some(shielded(hint, node))),
                None => (shielded(text, node), None),
            },
            What::Expected(wanted) => {
                let wanted = plain_words(wanted);
                (format!("expected {wanted}, found {}", found(node)), unquote(&wanted, node))
            }
            What::Length(length, wanted) => {
                (format!("expected {}, found {length} elements", plain_words(wanted)), None)
            }
            What::Missing(field) => (format!("missing key \"{field}\""), None),
            What::Unknown { word, known, kind } => {
                let word_shown = if node.is_secret() { SECRET.to_owned() } else { quoted(word) };
                let text = format!("unknown {kind} {word_shown}");
                (shielded(&text, node), Some(suggest::help(word, known, &format!("{kind}s"))))
            }
        }
    }
}

/// What stands there, fit to be shown.
pub(super) fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Sequence(_) => "a list".into(),
        Kind::Mapping(_) => "a mapping".into(),
        Kind::Scalar(_) if node.is_null() => "nothing".into(),
        Kind::Scalar(_) if node.is_secret() => SECRET.into(),
        Kind::Scalar(scalar) => quoted(&without_userinfo(scalar.raw())),
    }
}

/// A message of a type may quote the value that it refuses, or one inside of it.
fn shielded(message: &str, node: &Node) -> String {
    let values = node.entries().iter().map(|entry| &entry.value);
    let message = node.items().iter().chain(values).fold(message.to_owned(), |message, child| {
        // A word of one or two letters inside would tear up the message and gives nothing away.
        let short = child.text().is_some_and(|text| text.len() < 3);
        if short { message } else { shielded(&message, child) }
    });
    let Some(scalar) = node.scalar() else {
        return message;
    };
    let bare = without_userinfo(scalar.raw());
    let stand_in = match &scalar.raw {
        _ if node.is_secret() => SECRET,
        None if bare == *scalar.text => return message,
        _ => &bare,
    };
    let escaped: String = scalar.text.escape_debug().collect();
    let spellings = [escaped.as_str(), &*scalar.text, scalar.text.trim()];
    // In two steps: what stands in may contain the text itself, as `x${A}` does `x`.
    let spellings = spellings.into_iter().filter(|text| !text.is_empty());
    let cut = spellings.fold(message, |message, text| message.replace(text, "\u{1e}"));
    cut.replace('\u{1e}', stand_in)
}

fn unquote(wanted: &str, node: &Node) -> Option<String> {
    let quoted = node.scalar().is_some_and(|scalar| scalar.style == Style::Quoted);
    let typed = wanted.contains("number") || wanted == "true or false";
    (quoted && typed).then(|| "write it without quotes".into())
}

/// serde speaks of Rust's types.
fn plain_words(wanted: &str) -> String {
    let words = match wanted {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "a string" => "text",
        "unit" => "nothing",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "i8" => "a whole number from -128 to 127",
        "i16" => "a whole number from -32768 to 32767",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "isize" | "i128" => "a whole number",
        "f32" | "f64" => "a number",
        other if other.starts_with("struct ") => "a mapping",
        other if other.starts_with("tuple struct ") => "a list",
        other => other,
    };
    words.to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.what {
            What::Custom(text) => f.write_str(text),
            What::Expected(wanted) | What::Length(_, wanted) => write!(f, "expected {wanted}"),
            What::Missing(field) => write!(f, "missing key \"{field}\""),
            What::Unknown { word, kind, .. } => write!(f, "unknown {kind} {}", quoted(word)),
        }
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::words(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(What::Expected(wanted.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(What::Expected(wanted.to_string()))
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        Self::new(What::Length(length, wanted.to_string()))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::Unknown { word: word.to_owned(), known, kind: "word" })
    }

    fn unknown_field(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::Unknown { word: word.to_owned(), known, kind: "key" })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::words(format!("key \"{field}\" is given twice, by two of its names"))
    }
}
