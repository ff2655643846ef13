//! Matchers of Alertmanager in all spellings: `match`, `match_re`, and lists of `name="value"`, quoted or not.

use regex::Regex;

use super::Labels;
use crate::config::yaml::Node;
use crate::config::{Problem, Problems};

#[derive(Debug, Clone)]
pub(super) struct Matcher {
    pub(super) name: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    NotEqual(String),
    Regex(Regex),
    NotRegex(Regex),
}

impl Matcher {
    fn new(name: String, operator: &str, value: String) -> Result<Self, String> {
        // As Alertmanager does, the whole value has to match.
        let regex = |value: &str| {
            Regex::new(&format!("^(?s:{value})$")).map_err(|_| "this is no regular expression")
        };
        let test = match operator {
            "=" => Test::Equal(value),
            "!=" => Test::NotEqual(value),
            "=~" => Test::Regex(regex(&value)?),
            _ => Test::NotRegex(regex(&value)?),
        };
        Ok(Self { name, test })
    }

    /// A label that an alert lacks is empty.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.takes(labels.get(&self.name).map_or("", String::as_str))
    }

    pub(super) fn takes(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::Regex(regex) => regex.is_match(value),
            Test::NotRegex(regex) => !regex.is_match(value),
        }
    }

    /// Whether it lets through this value and, as far as can be told, nothing else.
    pub(super) fn pins(&self, name: &str, value: &str) -> bool {
        let is_only = match &self.test {
            Test::Equal(wanted) => wanted == value,
            Test::Regex(regex) => regex.as_str() == format!("^(?s:{})$", regex::escape(value)),
            Test::NotEqual(_) | Test::NotRegex(_) => false,
        };
        self.name == name && is_only
    }

    /// Whether it asks for a label rather than for its absence.
    pub(super) fn wants_something(&self) -> bool {
        !self.takes("")
    }
}

/// The matchers of a node under three keys: a map of values, a map of expressions, a list.
pub(super) fn read(node: &Node, keys: [&str; 3], problems: &mut Problems) -> Vec<Matcher> {
    let [equal, regex, list] = keys;
    let mut matchers = Vec::new();
    for (key, operator) in [(equal, "="), (regex, "=~")] {
        for entry in node.get(key).map(Node::entries).unwrap_or_default() {
            let value = entry.value.text().unwrap_or_default().to_owned();
            match Matcher::new(entry.name().to_owned(), operator, value) {
                Ok(matcher) => matchers.push(matcher),
                Err(wrong) => problems.push(Problem::error(wrong).at(entry.value.at())),
            }
        }
    }
    for item in node.get(list).map(Node::items).unwrap_or_default() {
        match parse(item.text().unwrap_or_default()) {
            Ok(found) => matchers.extend(found),
            Err(wrong) => problems.push(
                Problem::error(wrong).at(item.at()).hint("write it as 'alertname=\"Watchdog\"'"),
            ),
        }
    }
    matchers
}

/// `{a="b", c=~d}`, with or without braces and quotes.
fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.trim();
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    parts(text).into_iter().map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

/// Split at commas outside of quotes.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

fn one(text: &str) -> Result<Matcher, String> {
    const WRONG: &str = "this is no matcher";
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => {
            let end = quoted.find('"').ok_or(WRONG)?;
            let (name, rest) = quoted.split_at(end);
            (name, rest.trim_start_matches('"'))
        }
        None => text.split_at(text.find(['=', '!']).ok_or(WRONG)?),
    };
    let rest = rest.trim_start();
    let operator = ["=~", "!=", "!~", "="].into_iter().find(|it| rest.starts_with(it));
    let operator = operator.ok_or(WRONG)?;
    let value = rest.strip_prefix(operator).unwrap_or(rest).trim();
    let name = name.trim();
    if name.is_empty() {
        return Err(WRONG.to_owned());
    }
    Matcher::new(name.to_owned(), operator, unquoted(value).ok_or(WRONG)?)
}

/// The value without its quotes and escapes; `None` where a quote is open.
fn unquoted(value: &str) -> Option<String> {
    let inner = match value.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"')?,
        None => value,
    };
    let mut text = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some(escaped @ ('"' | '\\')) => text.push(escaped),
                Some(other) => text.extend(['\\', other]),
                None => text.push('\\'),
            },
            '"' => return None,
            _ => text.push(letter),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str, value: &str) -> bool {
        let labels: Labels = [("a".to_owned(), value.to_owned())].into();
        parse(text).unwrap().iter().all(|matcher| matcher.matches(&labels))
    }

    #[test]
    fn every_spelling_is_read() {
        for text in
            ["a=b", "a = b", r#"a="b""#, r#"{a="b"}"#, r#""a"="b""#, "a=~b|c", "a!=c", "a!~c.*"]
        {
            assert!(matches(text, "b"), "{text}");
        }
        for text in ["a=c", r#"a="b ""#, "a=~c", "a!=b", "a!~b.*", r#"{a="b", x="y"}"#] {
            assert!(!matches(text, "b"), "{text}");
        }
        assert!(matches(r#"a="x,\"y\"\\", z="""#, r#"x,"y"\"#));
        // A matcher for nothing matches what is not there.
        assert!(matches(r#"b="""#, "x"));
        assert!(!matches("b=~.+", "x"));
        for text in ["a", r#"a="b"#, "=b", "a=~(", r#"a=b"c"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_expression_matches_the_whole() {
        assert!(!matches("a=~Watch", "Watchdog"));
        assert!(matches("a=~Watch.*", "Watchdog"));
        assert!(parse("a=~Watchdog").unwrap()[0].pins("a", "Watchdog"));
        assert!(!parse("a=~Watch.*").unwrap()[0].pins("a", "Watchdog"));
    }
}
