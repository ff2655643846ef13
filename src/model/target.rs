//! What is asked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de};

use super::{Labels, Secret, mistake};

/// Headers in the order in which they were written.
pub type HeaderList = Vec<(String, String)>;

/// Keys of a module that are set otherwise for one target: the key, and its value as YAML writes it.
pub type Overrides = BTreeMap<String, String>;

/// The one spelling of a key of [`Overrides`]: a header is `headers.` and its name in lower case. Where a name has
/// neither dots nor dashes, in a label or a query, it is written `header_X_Scope`.
pub fn override_key(written: &str) -> String {
    if let Some(name) = written.strip_prefix("header_") {
        return format!("headers.{}", name.replace('_', "-").to_ascii_lowercase());
    }
    match written.strip_prefix("headers.") {
        Some(name) => format!("headers.{}", name.to_ascii_lowercase()),
        None => written.to_owned(),
    }
}

/// One thing to ask, with what is special about asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As written: a URL, `host:port`, a host. It is the label `instance`.
    pub address: String,
    /// Name to present instead of the address's own: `Host` and the TLS server name.
    pub hostname: Option<String>,
    pub headers: BTreeMap<String, Secret>,
    pub authorization: Option<Authorization>,
    pub disabled: Option<Disabled>,
    /// As far as the module allows.
    pub overrides: Overrides,
    pub labels: Labels,
}

impl Target {
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            hostname: None,
            headers: BTreeMap::new(),
            authorization: None,
            disabled: None,
            overrides: Overrides::new(),
            labels: Labels::default(),
        }
    }
}

/// Credentials of one target, in place of the module's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The scheme word; default `Bearer`.
    #[serde(rename = "type", default = "bearer")]
    pub scheme: String,
    pub credentials: Option<Secret>,
    /// Read again when it changes.
    pub credentials_file: Option<String>,
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let what = format_args!("{text:?} is not a date");
        de::Error::custom(mistake(what, "write year, month and day, such as 2027-01-31"))
    })
}

fn bearer() -> String {
    "Bearer".to_owned()
}

/// A target that is known and not asked, with an end and a reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disabled {
    /// The first day (UTC) on which it is asked again; never when absent.
    #[serde(default, deserialize_with = "date")]
    pub until: Option<Date>,
    pub reason: String,
}

impl Disabled {
    /// Whether the target is still not asked at `wall`.
    pub fn holds_at(&self, wall: Timestamp) -> bool {
        self.until.is_none_or(|until| wall.to_zoned(TimeZone::UTC).date() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_one_spelling() {
        assert_eq!(override_key("header_X_Scope_OrgID"), "headers.x-scope-orgid");
        assert_eq!(override_key("headers.X-Scope-OrgID"), "headers.x-scope-orgid");
        assert_eq!(override_key("method"), "method");
    }

    #[test]
    fn a_disabled_target_is_asked_again_on_the_day_named() {
        let until = Disabled { until: Some(Date::constant(2027, 1, 1)), reason: "new".into() };
        assert!(until.holds_at("2026-12-31T23:59:59Z".parse().unwrap()));
        assert!(!until.holds_at("2027-01-01T00:00:00Z".parse().unwrap()));
        assert!(Disabled { until: None, reason: "old".into() }.holds_at(Timestamp::MAX));
    }
}
