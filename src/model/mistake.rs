//! A mistake that an operator made in a configuration value, before it has a place in a file.
//!
//! A `Deserialize` implementation can only return text. [`mistake`] joins what is wrong and what to do about it with a
//! separator that the configuration's reader takes apart again.

use std::fmt::Display;

/// Separates what is wrong from what to do in the text of a custom `serde` error.
pub const HINT: char = '\u{1f}';

/// The text of a custom `serde` error that carries a hint.
pub fn mistake(what: impl Display, hint: impl Display) -> String {
    format!("{what}{HINT}{hint}")
}

/// Something wrong that needs more than one value to see: two keys that exclude each other, an interval below its timeout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Dotted path of the key to point at, relative to the value that was checked: `http.body_file`.
    pub key: String,
    pub what: String,
    pub hint: Option<String>,
    /// A warning does not keep the configuration from loading.
    pub warning: bool,
}

/// Collects mistakes, so that one start shows all of them.
#[derive(Debug, Default)]
pub struct Mistakes {
    found: Vec<Mistake>,
    prefix: String,
}

impl Mistakes {
    pub fn error(&mut self, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.add(key, what.into(), hint.into(), false);
    }

    pub fn warning(&mut self, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.add(key, what.into(), hint.into(), true);
    }

    /// Runs `check` with `key` put before every path that it names.
    pub fn within(&mut self, key: &str, check: impl FnOnce(&mut Self)) {
        let outer = self.prefix.len();
        self.prefix.push_str(key);
        self.prefix.push('.');
        check(self);
        self.prefix.truncate(outer);
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|m| !m.warning)
    }

    pub fn into_vec(self) -> Vec<Mistake> {
        self.found
    }

    fn add(&mut self, key: &str, what: String, hint: String, warning: bool) {
        let key = format!("{}{key}", self.prefix);
        let hint = (!hint.is_empty()).then_some(hint);
        self.found.push(Mistake { key, what, hint, warning });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_nest() {
        let mut mistakes = Mistakes::default();
        mistakes.within("http", |m| m.error("body", "two bodies", ""));
        mistakes.warning("timeout", "odd", "drop it");
        let found = mistakes.into_vec();
        assert_eq!(found[0].key, "http.body");
        assert_eq!(found[0].hint, None);
        assert_eq!(found[1].key, "timeout");
        assert!(found[1].warning);
    }
}
