//! What one scalar means: its kind by YAML's rules as Go's yaml.v3 applies them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::number;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// Single or double quotes.
    Quoted,
    /// `|` or `>`.
    Block,
}

/// A text with what decides its meaning.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// With the environment filled in once expanded.
    pub text: Arc<str>,
    /// As it was written, where expansion changed it.
    pub raw: Option<Arc<str>>,
    pub style: Style,
    /// `!!str` as `str`; a tag of somebody's own as `!name`.
    pub tag: Option<Arc<str>>,
}

/// What a scalar is where no type is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Resolved {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl Scalar {
    /// As it was written, before the environment was filled in.
    pub fn raw(&self) -> &str {
        self.raw.as_deref().unwrap_or(&self.text)
    }

    /// A value from the environment is null only when it is empty: a password may be `~`.
    pub fn is_null(&self) -> bool {
        match self.tag.as_deref() {
            Some("null") => true,
            Some(_) => false,
            None if self.style != Style::Plain => false,
            None if self.raw.is_some() => self.text.is_empty(),
            None => matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL"),
        }
    }

    /// Whether the text may mean something else than itself.
    fn is_open(&self, tag: &str) -> bool {
        match self.tag.as_deref() {
            None => self.style == Style::Plain,
            Some(own) => own == tag,
        }
    }

    /// Where a truth value is wanted, the spellings of YAML 1.1 count too.
    pub(super) fn as_bool(&self) -> Option<bool> {
        if !self.is_open("bool") {
            return None;
        }
        match &*self.text {
            "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
                Some(true)
            }
            "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off"
            | "OFF" => Some(false),
            _ => None,
        }
    }

    pub(super) fn as_number(&self) -> Option<Resolved> {
        let number = (self.is_open("int") || self.is_open("float"))
            .then(|| number::read(&self.text))
            .flatten();
        match number {
            Some(Resolved::Float(_)) if self.tag.as_deref() == Some("int") => None,
            other => other,
        }
    }

    pub(super) fn resolve(&self) -> Resolved {
        if self.is_null() {
            return Resolved::Null;
        }
        let word = match &*self.text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        };
        match word {
            Some(truth) if self.is_open("bool") => Resolved::Bool(truth),
            _ => self.as_number().unwrap_or(Resolved::Text),
        }
    }

    /// The bytes of a `!!binary`, or why there are none; `None` for every other scalar.
    pub(super) fn binary(&self) -> Option<Result<Vec<u8>, base64::DecodeError>> {
        if self.tag.as_deref() != Some("binary") {
            return None;
        }
        let packed: String = self.text.chars().filter(|letter| !letter.is_whitespace()).collect();
        Some(STANDARD.decode(packed))
    }
}
