//! A tree printed back as YAML: as it was written, without what is secret.

use std::fmt::Write;

use super::SECRET;
use super::scalar::{Resolved, Scalar, Style};
use super::tree::{Entry, Kind, Node};
use crate::model::shown_url;

/// How much of a value is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    AsWritten,
    /// As [`shown_url`] leaves it.
    Url,
    /// [`SECRET`] and nothing else.
    Secret,
}

/// Block style, two spaces, `${NAME}` instead of its value, and of each value what `sight` grants by
/// the keys that lead to it (lists add nothing to the path). Aliases are written out.
pub fn dump(node: &Node, sight: &dyn Fn(&[&str]) -> Sight) -> String {
    let mut printer = Printer { out: String::new(), sight };
    let mut path = Vec::new();
    match &node.kind {
        Kind::Scalar(_) => {
            printer.value(node, 0, &mut path);
            let text = printer.out.trim_start_matches(' ').to_owned();
            printer.out = text;
        }
        _ if node.items().is_empty() && node.entries().is_empty() => {
            printer.out.push_str(if matches!(node.kind, Kind::Sequence(_)) {
                "[]\n"
            } else {
                "{}\n"
            });
        }
        _ => printer.children(node, 0, &mut path),
    }
    printer.out
}

/// A longer key is no simple key: parsers only look so far for its colon.
const MAX_SIMPLE_KEY: usize = 200;

struct Printer<'a> {
    out: String,
    sight: &'a dyn Fn(&[&str]) -> Sight,
}

impl Printer<'_> {
    fn children<'n>(&mut self, node: &'n Node, indent: usize, path: &mut Vec<&'n str>) {
        for item in node.items() {
            self.pad(indent);
            self.out.push('-');
            self.item(item, indent + 2, path);
        }
        for entry in node.entries() {
            self.pad(indent);
            self.entry(entry, indent, path);
        }
    }

    /// A mapping in a list starts on the line of its dash.
    fn item<'n>(&mut self, item: &'n Node, indent: usize, path: &mut Vec<&'n str>) {
        if item.entries().is_empty() || item.secret {
            return self.value(item, indent, path);
        }
        self.out.push(' ');
        for (index, entry) in item.entries().iter().enumerate() {
            if index > 0 {
                self.pad(indent);
            }
            self.entry(entry, indent, path);
        }
    }

    fn entry<'n>(&mut self, entry: &'n Entry, indent: usize, path: &mut Vec<&'n str>) {
        let key = match entry.key.scalar() {
            Some(key) if !key.text.is_empty() => one_line(key),
            // An absent key would read as the word null.
            _ => double_quoted(""),
        };
        if key.chars().count() > MAX_SIMPLE_KEY {
            let _infallible = write!(self.out, "? {key}\n{:indent$}:", "");
        } else {
            let _infallible = write!(self.out, "{key}:");
        }
        path.push(entry.name());
        if !entry.value.is_null() && (entry.value.secret || (self.sight)(path) == Sight::Secret) {
            let _infallible = writeln!(self.out, " {SECRET}");
        } else {
            self.value(&entry.value, indent + 2, path);
        }
        path.pop();
    }

    /// What follows a colon or a dash, up to the end of the line.
    fn value<'n>(&mut self, node: &'n Node, indent: usize, path: &mut Vec<&'n str>) {
        let empty = node.items().is_empty() && node.entries().is_empty();
        match &node.kind {
            _ if node.secret && !node.is_null() => self.word(SECRET),
            Kind::Sequence(_) if empty => self.word("[]"),
            Kind::Mapping(_) if empty => self.word("{}"),
            Kind::Scalar(scalar) if (self.sight)(path) == Sight::Url => {
                let url = shown_url(scalar.raw());
                let shown = Scalar { raw: Some(url.into()), ..scalar.clone() };
                self.word(&one_line(&shown));
            }
            Kind::Scalar(scalar) if literal(scalar) => self.literal(scalar.raw(), indent),
            Kind::Scalar(scalar) => self.word(&one_line(scalar)),
            _ => {
                self.out.push('\n');
                self.children(node, indent, path);
            }
        }
    }

    fn word(&mut self, word: &str) {
        let _infallible = writeln!(self.out, " {word}");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        let body = text.strip_suffix('\n');
        self.out.push_str(if body.is_some() { " |\n" } else { " |-\n" });
        // A literal of the root must be indented too.
        let indent = indent.max(2);
        for line in body.unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.pad(indent);
            }
            let _infallible = writeln!(self.out, "{line}");
        }
    }

    fn pad(&mut self, indent: usize) {
        let _infallible = write!(self.out, "{:indent$}", "");
    }
}

/// Whether a text of several lines can stand as it is under a `|`.
fn literal(scalar: &Scalar) -> bool {
    let text = scalar.raw();
    scalar.style == Style::Block
        && scalar.tag.is_none()
        && text.contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && !text.chars().any(|letter| letter != '\n' && is_special(letter))
        && text.lines().all(|line| line.trim_end() == line)
}

fn one_line(scalar: &Scalar) -> String {
    let text = scalar.raw();
    let tag = scalar.tag.as_deref().filter(|tag| !tag.starts_with('!') && is_word(tag));
    let written = match scalar.style {
        _ if scalar.tag.is_some() => double_quoted(text),
        Style::Plain if text.is_empty() => "null".to_owned(),
        Style::Plain if stays_plain(text) || !matches!(scalar.resolve(), Resolved::Text) => {
            text.to_owned()
        }
        _ => double_quoted(text),
    };
    match tag {
        Some(tag) => format!("!!{tag} {written}"),
        None => written,
    }
}

fn is_word(tag: &str) -> bool {
    !tag.is_empty() && tag.chars().all(|letter| letter.is_ascii_alphanumeric())
}

/// Whether a plain text reads as the same text again, in block style.
fn stays_plain(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let opens =
        first.is_alphanumeric() || matches!(first, '$' | '/' | '.' | '_' | '^' | '(' | '+' | '<');
    opens
        && text.trim() == text
        && !text.ends_with(':')
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.starts_with("...")
        && !text.chars().any(is_special)
}

fn is_special(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{a0}'
        )
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        let _infallible = match letter {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\t' => out.write_str("\\t"),
            '\r' => out.write_str("\\r"),
            letter if is_special(letter) => write!(out, "\\U{:08x}", u32::from(letter)),
            letter => out.write_char(letter),
        };
    }
    out.push('"');
    out
}
