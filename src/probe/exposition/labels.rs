//! The labels of one sample, as spans into its line: nothing is copied until a value is asked for
//! that holds an escape.

use std::borrow::Cow;

/// Where a string stands in its line, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escaped: bool,
}

impl Span {
    pub(super) fn raw(self, line: &str) -> &str {
        line.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn text(self, line: &str) -> Cow<'_, str> {
        let raw = self.raw(line);
        if self.escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelSpan {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// The labels of a sample in the order in which they were written. To Prometheus a label with an
/// empty value is no label; it is kept here.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    line: &'a str,
    spans: &'a [LabelSpan],
}

impl<'a> Labels<'a> {
    pub(super) fn new(line: &'a str, spans: &'a [LabelSpan]) -> Self {
        Self { line, spans }
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let line = self.line;
        self.spans.iter().map(move |span| (span.name.text(line), span.value.text(line)))
    }

    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let found = self.spans.iter().find(|span| span.name.text(self.line) == name)?;
        Some(found.value.text(self.line))
    }
}

/// Prometheus' rule: `\\`, `\"` and `\n` are escapes, any other backslash stands for itself.
pub(super) fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some(kept @ ('\\' | '"')) => text.push(kept),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}
