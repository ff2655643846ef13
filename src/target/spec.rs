//! Targets as people write them.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::MAX_ADDRESS_BYTES;
use crate::model::{Authorization, Disabled, Labels, Period, Secret, Target, mistake};

/// How often a file is read although nothing says that it changed.
pub const DEFAULT_REFRESH: Period = Period::from_secs(300);

/// An item of `targets:`: an address, or a map with more about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec(pub Target);

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMap)
    }
}

struct TextOrMap;

impl<'de> Visitor<'de> for TextOrMap {
    type Value = Spec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target: an address, or a map with the key target")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Spec, E> {
        Address::new(text).map(|address| Spec(Target::plain(address.0))).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Spec, A::Error> {
        let written = Written::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Spec(Target {
            address: written.target.0,
            hostname: written.hostname.map(|h| h.0),
            headers: written.headers.0,
            authorization: written.authorization,
            disabled: written.disabled,
            labels: written.labels,
        }))
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// A URL, `host:port` or a host, as the module's prober wants it.
    target: Address,
    #[serde(default)]
    labels: Labels,
    hostname: Option<Address>,
    #[serde(default)]
    headers: Headers,
    authorization: Option<Authorization>,
    disabled: Option<Disabled>,
}

/// What can be an address or a name: not empty, without blanks and signs that cannot be printed.
struct Address(String);

impl Address {
    fn new(text: &str) -> Result<Self, String> {
        match flaw(text) {
            None => Ok(Self(text.to_owned())),
            Some(flaw) => {
                let hint = "write a URL, host:port or a host, as the module's prober wants it";
                Err(mistake(format_args!("{text:?} {flaw}"), hint))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What keeps a text from being an address.
pub(super) fn flaw(address: &str) -> Option<&'static str> {
    if address.is_empty() {
        return Some("is empty");
    }
    if address.len() > MAX_ADDRESS_BYTES {
        return Some("is too long");
    }
    let odd = |c: char| c.is_control() || c.is_whitespace();
    address.chars().any(odd).then_some("has a blank or a control character in it")
}

#[derive(Default)]
struct Headers(BTreeMap<String, Secret>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let headers = BTreeMap::<String, Secret>::deserialize(deserializer)?;
        for (name, value) in &headers {
            check_header(name, value.reveal()).map_err(de::Error::custom)?;
        }
        Ok(Self(headers))
    }
}

/// Whether a header can be sent. The message does not show its value.
pub(super) fn check_header(name: &str, value: &str) -> Result<(), String> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(mistake(format_args!("{name:?} is not a header's name"), ""));
    }
    if HeaderValue::from_str(value).is_err() {
        let what = format_args!("the value of header {name:?} has signs that a header cannot have");
        return Err(mistake(what, "remove line breaks and control characters"));
    }
    Ok(())
}

/// An item of `file_sd_configs:`, Prometheus's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSd {
    /// Paths that end in `.json`, `.yml` or `.yaml`; `*` and `?` may stand in the last part. Relative to the file that
    /// they are written in.
    pub files: Vec<super::Pattern>,
    /// Changes are noticed within seconds; this is how often a file is read anyway. Default 5m.
    #[serde(default = "default_refresh")]
    pub refresh_interval: Period,
}

const fn default_refresh() -> Period {
    DEFAULT_REFRESH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Target, String> {
        serde_json::from_str::<Spec>(json).map(|s| s.0).map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_alone_is_a_target() {
        assert_eq!(read(r#""a.example:443""#).unwrap(), Target::plain("a.example:443"));
    }

    #[test]
    fn a_map_says_more() {
        let target = read(
            r#"{"target": "m:25", "hostname": "mx", "labels": {"tier": "mail"},
                "headers": {"X-Key": "secret"}, "authorization": {"credentials_file": "f"},
                "disabled": {"until": "2027-01-01", "reason": "not launched"}}"#,
        )
        .unwrap();
        assert_eq!((target.address.as_str(), target.hostname.as_deref()), ("m:25", Some("mx")));
        assert_eq!(target.labels.get("tier"), Some("mail"));
        assert_eq!(target.headers["X-Key"].reveal(), "secret");
        assert_eq!(target.authorization.unwrap().scheme, "Bearer");
        assert_eq!(target.disabled.unwrap().reason, "not launched");
    }

    #[test]
    fn mistakes_are_named() {
        for (json, says) in [
            (r#"{"target": "a", "hostnme": "b"}"#, "hostnme"),
            (r#"{"labels": {}}"#, "missing field `target`"),
            (r"[1]", "an address, or a map with the key target"),
            (r#""""#, "is empty"),
            (r#""a b""#, "has a blank"),
            (
                r#"{"target": "a", "headers": {"bad name": "x"}}"#,
                "\"bad name\" is not a header's name",
            ),
            (r#"{"target": "a", "headers": {"X": "top\nsecret"}}"#, "the value of header \"X\""),
            (r#"{"target": "a", "labels": {"job": "x"}}"#, "set by watchpost itself"),
        ] {
            let message = read(json).unwrap_err();
            assert!(message.contains(says), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn file_discovery_is_read() {
        let read: FileSd = serde_json::from_str(r#"{"files": ["t/*.yml"]}"#).unwrap();
        assert_eq!(read.refresh_interval, DEFAULT_REFRESH);
        assert!(serde_json::from_str::<FileSd>(r#"{"files": ["t/*.txt"]}"#).is_err());
        assert!(serde_json::from_str::<FileSd>(r#"{"file": ["t/*.yml"]}"#).is_err());
    }
}
