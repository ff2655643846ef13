//! What is asked.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;

use super::{Labels, Secret};

/// Headers in the order in which they were written.
pub type HeaderList = Vec<(String, String)>;

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

fn bearer() -> String {
    "Bearer".to_owned()
}

/// A target that is known and not asked, with an end and a reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disabled {
    /// The first day (UTC) on which it is asked again; never when absent.
    pub until: Option<Date>,
    pub reason: String,
}
