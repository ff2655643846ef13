//! The file of `--web.config.file`, in the vocabulary of Prometheus's exporter toolkit.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::model::{GoDuration, Mistakes, Secret};

/// The only headers that may be set.
const HEADERS: [&str; 5] = [
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
    "content-security-policy",
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub tls_server_config: Option<TlsSpec>,
    pub http_server_config: Option<HttpSpec>,
    /// Names with bcrypt hashes of their passwords.
    pub basic_auth_users: Option<BTreeMap<String, Secret>>,
    pub rate_limit: Option<RateSpec>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSpec {
    /// In PEM.
    pub cert: Option<String>,
    pub cert_file: Option<String>,
    pub key: Option<Secret>,
    pub key_file: Option<String>,
    pub client_ca: Option<String>,
    pub client_ca_file: Option<String>,
    pub client_auth_type: Option<ClientAuth>,
    /// One of these names must be in a client's certificate.
    pub client_allowed_sans: Option<Vec<String>>,
    /// Default TLS12.
    pub min_version: Option<Version>,
    /// Default TLS13.
    pub max_version: Option<Version>,
    pub cipher_suites: Option<Vec<String>>,
    pub curve_preferences: Option<Vec<String>>,
    /// Default true.
    pub prefer_server_cipher_suites: Option<bool>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    #[default]
    #[serde(rename = "NoClientCert", alias = "")]
    No,
    #[serde(rename = "RequestClientCert")]
    Request,
    #[serde(rename = "RequireAnyClientCert", alias = "RequireClientCert")]
    RequireAny,
    #[serde(rename = "VerifyClientCertIfGiven")]
    VerifyIfGiven,
    #[serde(rename = "RequireAndVerifyClientCert")]
    RequireAndVerify,
}

impl ClientAuth {
    pub(super) const fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// Default true; only over TLS.
    pub http2: Option<bool>,
    pub headers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// Between two requests; 0 for no limit.
    pub interval: Option<GoDuration>,
    /// Requests that may come at once; default 1.
    pub burst: Option<u32>,
}

impl Spec {
    /// Checks what needs more than one key to see.
    pub fn check(&self, mistakes: &mut Mistakes) {
        if let Some(tls) = &self.tls_server_config {
            mistakes.within("tls_server_config", |mistakes| tls.check(mistakes));
        }
        for (name, hash) in self.basic_auth_users.iter().flatten() {
            if bcrypt::HashParts::from_str(hash.reveal()).is_err() {
                mistakes.error(
                    "basic_auth_users",
                    format!("the password of {name:?} is no bcrypt hash"),
                    "make one with: htpasswd -nBC 10 \"\"",
                );
            }
        }
        let headers = self.http_server_config.iter().flat_map(|http| http.headers.iter().flatten());
        for (name, value) in headers {
            if header(name, value).is_none() {
                mistakes.error(
                    "http_server_config.headers",
                    format!("the header {name:?} cannot be set"),
                    format!("only these can: {}", HEADERS.join(", ")),
                );
            }
        }
    }

    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let headers = self.http_server_config.iter().flat_map(|http| http.headers.iter().flatten());
        headers.filter_map(|(name, value)| header(name, value)).collect()
    }

    /// TLS is spoken when anything is said about it.
    pub(super) fn tls(&self) -> Option<&TlsSpec> {
        self.tls_server_config.as_ref().filter(|tls| tls.is_set())
    }
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let lower = name.to_ascii_lowercase();
    let known = HEADERS.iter().find(|known| **known == lower)?;
    Some((HeaderName::from_static(known), HeaderValue::from_str(value).ok()?))
}

impl TlsSpec {
    fn is_set(&self) -> bool {
        set(self.cert.as_deref())
            || set(self.cert_file.as_deref())
            || set(self.key.as_ref().map(Secret::reveal))
            || set(self.key_file.as_deref())
            || self.client_auth() != ClientAuth::No
            || set(self.client_ca.as_deref())
            || set(self.client_ca_file.as_deref())
    }

    pub(super) fn client_auth(&self) -> ClientAuth {
        self.client_auth_type.unwrap_or_default()
    }

    fn check(&self, mistakes: &mut Mistakes) {
        if !self.is_set() {
            return;
        }
        let key = self.key.as_ref().map(Secret::reveal);
        one_of("cert", true, self.cert.as_deref(), self.cert_file.as_deref(), mistakes);
        one_of("key", true, key, self.key_file.as_deref(), mistakes);
        let (ca, ca_file) = (self.client_ca.as_deref(), self.client_ca_file.as_deref());
        one_of("client_ca", false, ca, ca_file, mistakes);
        let has_ca = set(ca) || set(ca_file);
        if has_ca && self.client_auth() == ClientAuth::No {
            let what = "there is a client_ca, but no client is asked for a certificate";
            mistakes.error("client_auth_type", what, "set it to RequireAndVerifyClientCert");
        }
        if self.client_auth().verifies() && !has_ca {
            let what = "certificates of clients are to be verified, but by whose signature?";
            mistakes.error("client_auth_type", what, "set client_ca_file");
        }
        let sans = self.client_allowed_sans.iter().flatten().count() > 0;
        if sans && !self.client_auth().verifies() {
            let what =
                "without client_auth_type RequireAndVerifyClientCert anybody can claim a name";
            mistakes.warning("client_allowed_sans", what, "set client_auth_type");
        }
        self.check_versions(mistakes);
        super::tls::check_words(self, mistakes);
    }

    fn check_versions(&self, mistakes: &mut Mistakes) {
        let old = |version: Option<Version>| version.is_some_and(|v| v < Version::Tls12);
        for (key, version) in [("min_version", self.min_version), ("max_version", self.max_version)]
        {
            if old(version) {
                let what = "TLS below 1.2 cannot be spoken; 1.2 is used";
                mistakes.warning(key, what, "use TLS12 or TLS13");
            }
        }
        if let (Some(min), Some(max)) = (self.min_version, self.max_version)
            && min > max
        {
            mistakes.error("min_version", "min_version is above max_version", "swap them");
        }
    }
}

pub(super) fn set(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn one_of(
    key: &str,
    required: bool,
    text: Option<&str>,
    file: Option<&str>,
    mistakes: &mut Mistakes,
) {
    if set(text) && set(file) {
        let what = format!("{key} and {key}_file are both set");
        mistakes.error(key, what, "keep one of them");
    }
    if required && !set(text) && !set(file) {
        let what = format!("neither {key} nor {key}_file is set");
        mistakes.error("", what, format!("set {key}_file"));
    }
}
