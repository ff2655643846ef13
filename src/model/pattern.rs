//! Regular expressions over bytes, as `blackbox.yml` writes them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::mistake;

/// A compiled pattern in RE2's syntax; unanchored, over bytes, so that a body need not be UTF-8.
#[derive(Clone)]
pub struct Pattern(Arc<regex::bytes::Regex>);

/// The largest compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 4 << 20;

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        regex::bytes::RegexBuilder::new(text)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
            .map(|compiled| Self(Arc::new(compiled)))
            .map_err(|wrong| {
                let last = wrong.to_string();
                let reason =
                    last.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
                mistake(
                    format_args!("{text:?} is not a regular expression: {reason}"),
                    "use RE2 syntax; look-around and back-references do not exist there",
                )
            })
    }

    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn regex(&self) -> &regex::bytes::Regex {
        &self.0
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_need_not_be_text() {
        let pattern = Pattern::parse("(?i)ok$").unwrap();
        assert!(pattern.is_match(b"\xff\xfe OK"));
        assert!(!pattern.is_match(b"OK\nmore"));
    }

    #[test]
    fn look_around_is_refused_with_a_hint() {
        let wrong = Pattern::parse("(?=x)").unwrap_err();
        assert!(wrong.contains("RE2"), "{wrong}");
    }
}
