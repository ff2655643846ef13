//! A secret that cannot be printed by accident.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in place of a secret wherever a value is shown.
pub const MASK: &str = "<secret>";

/// A secret's text. `Debug`, `Display` and `Serialize` show [`MASK`].
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// A URL of ours as it may be shown: without name and password, and without the values of its query, since each may be a
/// key. Whoever writes a path that is one has to know that it is shown. Any text may be given.
pub fn shown_url(text: &str) -> String {
    let (place, query) = match text.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (text, None),
    };
    let begins = place.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = place.split_at(begins);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut shown = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{MASK}@{host}{path}"),
        None => place.to_owned(),
    };
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, value)) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(if value.is_empty() { "" } else { MASK });
            }
            // It may be the key itself.
            None => shown.push_str(if pair.is_empty() { "" } else { MASK }),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_a_key() {
        for (url, shown) in [
            ("https://a.example/x", "https://a.example/x"),
            ("https://u:p@ss@a.example:8/x@y", "https://<secret>@a.example:8/x@y"),
            ("https://token@a.example", "https://<secret>@a.example"),
            ("u:p@a.example:25", "<secret>@a.example:25"),
            ("http://a/x?t=abc&env=&b", "http://a/x?t=<secret>&env=&<secret>"),
            ("http://a?t=a/b@c#d", "http://a?t=<secret>"),
            ("${URL}?", "${URL}?"),
            ("", ""),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn no_way_of_printing_shows_it() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret} {secret:?}"), "<secret> <secret>");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<secret>\"");
    }
}
