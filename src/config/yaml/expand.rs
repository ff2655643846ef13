//! `${NAME}` and `${NAME:-default}` in values, from the environment that the caller hands in.
//!
//! `$${` is a literal `${`. A `$` before anything else stays, and so does `${1}`: templates of
//! regular expressions use them. What was written stays known, so that nothing shows the value.

use super::problem::{Problem, Problems, quoted};
use super::scalar::{Scalar, Style};
use super::source::Position;
use super::tree::{Kind, Node};

impl Node {
    /// Fills in the environment below this node; keys are left alone.
    pub fn expand(&mut self, lookup: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
        let at = self.at.clone();
        match &mut self.kind {
            Kind::Scalar(scalar) => expand_scalar(scalar, &at, lookup, problems),
            Kind::Sequence(items) => {
                for item in items {
                    item.expand(lookup, problems);
                }
            }
            Kind::Mapping(entries) => {
                for entry in entries {
                    entry.value.expand(lookup, problems);
                }
            }
        }
    }
}

/// What is wrong with one reference, with the reference as written.
struct Refused<'a> {
    written: &'a str,
    what: String,
    hint: String,
}

fn expand_scalar(
    scalar: &mut Scalar,
    at: &Position,
    lookup: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    if scalar.raw.is_some() || !scalar.text.contains("${") {
        return;
    }
    let raw = scalar.text.clone();
    let mut text = String::new();
    let mut rest: &str = &raw;
    let mut seen = 0;
    while let Some((before, after)) = rest.split_once("${") {
        seen += 1;
        if let Some(literal) = before.strip_suffix('$') {
            text.push_str(literal);
            text.push_str("${");
            rest = after;
            continue;
        }
        text.push_str(before);
        rest = match reference(after, lookup) {
            Ok((value, rest)) => {
                text.push_str(&value);
                rest
            }
            Err(refused) => {
                let place = place(scalar, at, seen, refused.written);
                problems.push(Problem::error(refused.what).at(&place).hint(refused.hint));
                after
            }
        };
    }
    text.push_str(rest);
    if *text != *raw {
        scalar.raw = Some(raw);
        scalar.text = text.into();
    }
}

/// The value of what follows `${`, and what follows the closing brace.
fn reference<'a>(
    after: &'a str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, &'a str), Refused<'a>> {
    if after.starts_with(|letter: char| letter.is_ascii_digit()) {
        return Ok(("${".into(), after));
    }
    let Some((inside, rest)) = after.split_once('}') else {
        let hint = "write ${NAME}, or $${ for a literal ${".into();
        return Err(Refused { written: "", what: "\"${\" without a closing brace".into(), hint });
    };
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(Refused {
            written: inside,
            what: format!("{} is not a name of the environment", quoted(name)),
            hint: "write ${NAME} or ${NAME:-default}, or $${ for a literal ${".into(),
        });
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Refused {
            written: inside,
            what: format!("the default of ${{{name}}} refers to the environment itself"),
            hint: "a default is literal text".into(),
        });
    }
    // As in a shell, `:-` also stands in for a value that is set and empty.
    let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
    match value.or_else(|| default.map(str::to_owned)) {
        Some(value) => Ok((value, rest)),
        None => Err(Refused {
            written: inside,
            what: format!("{name} is not set in the environment"),
            hint: format!("set it, or give a default: ${{{name}:-…}}"),
        }),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Where the reference stands in the file: found again there, since a folded or escaped text has
/// other offsets than what was written.
fn place(scalar: &Scalar, at: &Position, nth: usize, written: &str) -> Position {
    let length = written.chars().count() + if written.is_empty() { 2 } else { 3 };
    let mut line = at.line;
    let mut skip = at.column - 1;
    let mut left = nth;
    let last = at.line + scalar.text.matches('\n').count() + scalar.text.len().min(MAX_LINES);
    while line <= last {
        let letters: Vec<char> = at.source.line(line).chars().collect();
        for column in skip..letters.len() {
            if letters[column] == '$' && letters.get(column + 1) == Some(&'{') {
                left -= 1;
                if left == 0 {
                    return Position {
                        source: at.source.clone(),
                        line,
                        column: column + 1,
                        length,
                    };
                }
            }
        }
        if scalar.style == Style::Plain && !scalar.text.contains(char::is_whitespace) {
            break;
        }
        line += 1;
        skip = 0;
    }
    at.clone()
}

/// A text that is folded over more lines than this is pointed at as a whole.
const MAX_LINES: usize = 200;
