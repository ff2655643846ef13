//! What is wrong, where, and what to do: one problem, and all of them.

use std::fmt;

use super::source::Position;

/// A wall of text helps nobody; the rest is counted.
pub const MAX_SHOWN: usize = 100;
/// A file may be generated: beyond this nothing more is even collected.
const MAX_COLLECTED: usize = 1000;
/// Characters of a source line that are shown at most.
const MAX_LINE: usize = 140;
/// Characters of foreign text that a message quotes at most.
const MAX_QUOTED: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong in what somebody wrote.
#[derive(Debug, Clone)]
pub struct Problem {
    pub at: Option<Position>,
    pub severity: Severity,
    /// Lower case, no full stop, names the thing.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that matter, each with its role: `first defined here`.
    pub related: Vec<(String, Position)>,
}

/// Every problem of a start.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    list: Vec<Problem>,
    /// Came after the list was full.
    dropped: usize,
    dropped_error: bool,
}

impl Problem {
    pub fn error(what: impl Into<String>) -> Self {
        Self::new(Severity::Error, what.into())
    }

    pub fn warning(what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, what.into())
    }

    fn new(severity: Severity, what: String) -> Self {
        Self { at: None, severity, what, hint: None, related: Vec::new() }
    }

    #[must_use]
    pub fn at(mut self, at: &Position) -> Self {
        self.at = Some(at.clone());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn related(mut self, role: &str, at: &Position) -> Self {
        self.related.push((role.to_owned(), at.clone()));
        self
    }

    fn repeats(&self, other: &Self) -> bool {
        let same_place = match (&self.at, &other.at) {
            (Some(one), Some(two)) => one.same_place(two),
            (None, None) => true,
            _ => false,
        };
        same_place && self.what == other.what
    }
}

impl Problems {
    pub fn new() -> Self {
        Self::default()
    }

    /// A problem of aliased text is met once per alias and kept once.
    pub fn push(&mut self, problem: Problem) {
        if self.list.iter().any(|known| known.repeats(&problem)) {
            return;
        }
        if self.list.len() >= MAX_COLLECTED {
            self.dropped += 1;
            self.dropped_error |= problem.severity == Severity::Error;
            return;
        }
        self.list.push(problem);
    }

    pub fn append(&mut self, other: Self) {
        for problem in other.list {
            self.push(problem);
        }
        self.dropped += other.dropped;
        self.dropped_error |= other.dropped_error;
    }

    /// Whether any of them is an error.
    pub fn is_fatal(&self) -> bool {
        self.errors() > 0 || self.dropped_error
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// By file, line and column; what concerns no place comes first.
    pub fn sort(&mut self) {
        self.list.sort_by(|one, two| place(one).cmp(&place(two)));
    }
}

fn place(problem: &Problem) -> Option<(&str, (usize, usize))> {
    problem.at.as_ref().map(|at| (&*at.source.name, at.order()))
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

impl fmt::Display for Problems {
    /// In order of place, at most [`MAX_SHOWN`]; errors are shown before warnings are cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list: Vec<&Problem> = self.list.iter().collect();
        if list.len() > MAX_SHOWN {
            list.sort_by_key(|problem| problem.severity == Severity::Warning);
        }
        let rest = list.len().saturating_sub(MAX_SHOWN) + self.dropped;
        list.truncate(MAX_SHOWN);
        list.sort_by(|one, two| place(one).cmp(&place(two)));
        for (index, problem) in list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{problem}")?;
        }
        if rest > 0 {
            writeln!(f, "\nand {rest} more")?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.what)?;
        let lines = self.at.iter().chain(self.related.iter().map(|(_, at)| at)).map(|at| at.line);
        let width = lines.max().unwrap_or(0).to_string().len();
        if let Some(at) = &self.at {
            excerpt(f, at, "-->", "", width)?;
        }
        for (role, at) in &self.related {
            excerpt(f, at, ":::", role, width)?;
        }
        match &self.hint {
            Some(hint) if self.at.is_some() => write!(f, "\n{:width$} = help: {hint}", ""),
            Some(hint) => write!(f, "\n  = help: {hint}"),
            None => Ok(()),
        }
    }
}

/// The place, its line and a caret under it.
fn excerpt(
    f: &mut fmt::Formatter<'_>,
    at: &Position,
    arrow: &str,
    role: &str,
    width: usize,
) -> fmt::Result {
    write!(f, "\n{:width$}{arrow} {at}", "")?;
    let whole: Vec<char> = at.source.shown_line(at.line).chars().collect();
    if whole.iter().all(|letter| letter.is_whitespace()) {
        return if role.is_empty() { Ok(()) } else { write!(f, " {role}") };
    }
    let column = (at.column - 1).min(whole.len());
    let start =
        if column > MAX_LINE / 2 && whole.len() > MAX_LINE { column - MAX_LINE / 2 } else { 0 };
    let shown: String = whole.iter().skip(start).take(MAX_LINE).collect();
    let indent: String = whole
        .iter()
        .skip(start)
        .take(column - start)
        .map(|letter| if *letter == '\t' { '\t' } else { ' ' })
        .collect();
    let room = (whole.len() - column).min(MAX_LINE + start - column).max(1);
    let carets = "^".repeat(at.length.clamp(1, room));
    let role = if role.is_empty() { String::new() } else { format!(" {role}") };
    write!(f, "\n{:width$} |\n{:>width$} | {shown}", "", at.line)?;
    write!(f, "\n{:width$} | {indent}{carets}{role}", "")
}

/// Foreign text in a message: in quotes, on one line, cut.
pub(super) fn quoted(text: &str) -> String {
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(MAX_QUOTED).flat_map(escaped).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

fn escaped(letter: char) -> Vec<char> {
    if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }
}
