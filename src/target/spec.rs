//! Targets as people write them.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::MAX_ADDRESS_BYTES;
use crate::model::{
    Authorization, Disabled, Labels, Overrides, Period, Secret, Target, mistake, override_key,
};

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
            overrides: written.overrides.0,
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
    /// Keys of the module that are set otherwise here, as far as it allows.
    #[serde(default)]
    overrides: Values,
}

/// Values by key: each is written as it would be in the module.
#[derive(Default)]
struct Values(Overrides);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let mut values = Overrides::new();
        for (key, value) in written {
            let text = match value {
                Value::Text(text) => text,
                Value::List(items) => serde_json::Value::from(items).to_string(),
            };
            if values.insert(override_key(&key), text).is_some() {
                return Err(de::Error::custom(mistake(format_args!("{key:?} is given twice"), "")));
            }
        }
        Ok(Self(values))
    }
}

/// A text as it was written, or a list of such.
enum Value {
    Text(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrList;

        impl<'de> Visitor<'de> for TextOrList {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value::List(list))
            }
        }

        deserializer.deserialize_str(TextOrList)
    }
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
                "disabled": {"until": "2027-01-01", "reason": "not launched"},
                "overrides": {"method": "HEAD", "headers.X-Scope": "b"}}"#,
        )
        .unwrap();
        assert_eq!(target.overrides["method"], "HEAD");
        assert_eq!(target.overrides["headers.x-scope"], "b");
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
