//! The block `http:` as written: blackbox_exporter's vocabulary, and a few keys of ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

use super::cel::CelRule;
use crate::model::{Pattern, Period, Secret, mistake};
use crate::net::http::Proxy;
use crate::net::{IpFamily, TlsSettings};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Accepted statuses: numbers, `2xx`, `200-299`. Default: 200 to 299.
    pub valid_status_codes: Option<Vec<StatusCodes>>,
    /// Accepted versions (`HTTP/1.0`, `HTTP/1.1`, `HTTP/2.0`, `HTTP/3.0`). Default: any.
    pub valid_http_versions: Option<Vec<String>>,
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// Ours: the address that connections leave from.
    pub source_ip_address: Option<String>,
    /// With a proxy: leave resolving the target's name to it.
    pub skip_resolve_phase_with_proxy: Option<bool>,
    /// Deprecated: the inverse of `follow_redirects`.
    pub no_follow_redirects: Option<bool>,
    pub fail_if_ssl: Option<bool>,
    pub fail_if_not_ssl: Option<bool>,
    /// Default `GET`; sent as written.
    pub method: Option<String>,
    pub headers: Option<BTreeMap<String, Option<String>>>,
    pub fail_if_body_matches_regexp: Option<Vec<Pattern>>,
    pub fail_if_body_not_matches_regexp: Option<Vec<Pattern>>,
    pub fail_if_body_json_matches_cel: Option<CelRule>,
    pub fail_if_body_json_not_matches_cel: Option<CelRule>,
    pub fail_if_header_matches: Option<Vec<HeaderMatch>>,
    pub fail_if_header_not_matches: Option<Vec<HeaderMatch>>,
    pub body: Option<String>,
    /// A file that is read while it is sent, anew in each run.
    pub body_file: Option<String>,
    /// How the answer's body is decoded: `gzip`, `br`, `deflate`, `identity`.
    pub compression: Option<String>,
    /// The most of the body that is read, after decoding.
    pub body_size_limit: Option<ByteSize>,
    /// Speak HTTP/3, over QUIC, and nothing else. Needs `enable_http2: false`.
    pub enable_http3: Option<bool>,
    /// Ours: the longest that a run may take.
    pub fail_if_slower_than: Option<Period>,
    /// Ours: the longest that a run may take without a warning.
    pub warn_if_slower_than: Option<Period>,

    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<AuthorizationSpec>,
    pub bearer_token: Option<Secret>,
    pub bearer_token_file: Option<String>,
    pub oauth2: Option<OAuth2Spec>,
    pub tls_config: Option<TlsSettings>,
    /// Default true; at most ten are followed.
    pub follow_redirects: Option<bool>,
    /// Default true: offer HTTP/2 to TLS servers.
    pub enable_http2: Option<bool>,
    pub proxy_url: Option<ProxyUrl>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, Vec<Secret>>>,
    pub http_headers: Option<BTreeMap<String, HeaderSource>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    pub header: String,
    pub regexp: Pattern,
    /// An absent header passes.
    #[serde(default)]
    pub allow_missing: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: Option<String>,
    pub username_file: Option<String>,
    pub username_ref: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<String>,
    pub password_ref: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationSpec {
    /// Default `Bearer`.
    pub r#type: Option<String>,
    pub credentials: Option<Secret>,
    pub credentials_file: Option<String>,
    pub credentials_ref: Option<String>,
}

/// Values of one header, all of which are sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderSource {
    pub values: Option<Vec<String>>,
    pub secrets: Option<Vec<Secret>>,
    pub files: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2Spec {
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub client_secret_file: Option<String>,
    pub client_secret_ref: Option<String>,
    pub token_url: Option<String>,
    pub scopes: Option<Vec<String>>,
    pub endpoint_params: Option<BTreeMap<String, String>>,
    pub tls_config: Option<TlsSettings>,
    pub proxy_url: Option<ProxyUrl>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, Vec<Secret>>>,
    pub grant_type: Option<String>,
    pub client_certificate_key_id: Option<String>,
    pub client_certificate_key: Option<Secret>,
    pub client_certificate_key_file: Option<String>,
    pub client_certificate_key_ref: Option<String>,
    pub signature_algorithm: Option<String>,
    pub iss: Option<String>,
    pub audience: Option<String>,
    pub claims: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A proxy's URL; an empty text is none.
#[derive(Debug)]
pub struct ProxyUrl(pub Option<Proxy>);

impl<'de> Deserialize<'de> for ProxyUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        Proxy::parse(&text).map(|proxy| Self(Some(proxy))).map_err(de::Error::custom)
    }
}

/// A status code or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCodes {
    first: u16,
    last: u16,
}

impl StatusCodes {
    pub const SUCCESS: Self = Self { first: 200, last: 299 };

    pub const fn contain(self, code: u16) -> bool {
        self.first <= code && code <= self.last
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|c| (1..=9).contains(c))?;
            return Some(Self { first: class * 100, last: class * 100 + 99 });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some(Self { first, last })
    }
}

impl<'de> Deserialize<'de> for StatusCodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Codes;

        impl de::Visitor<'_> for Codes {
            type Value = StatusCodes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a status code such as 200, 2xx or 200-299")
            }

            fn visit_i64<E: de::Error>(self, code: i64) -> Result<StatusCodes, E> {
                self.visit_str(&code.to_string())
            }

            fn visit_u64<E: de::Error>(self, code: u64) -> Result<StatusCodes, E> {
                self.visit_str(&code.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusCodes, E> {
                StatusCodes::parse(text).ok_or_else(|| {
                    E::custom(mistake(
                        format_args!("{text:?} is not a status code"),
                        "write a number such as 200, a class such as 2xx or a range such as 200-299",
                    ))
                })
            }
        }

        deserializer.deserialize_any(Codes)
    }
}

/// A size with its unit: `10MB`; both `MB` and `MiB` are 1024 x 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The size; `None` when it is 0, which means no limit.
    pub fn limit(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        // Upstream's values that are negative or too large mean "no limit in practice".
        const WIDEST: u64 = i64::MAX as u64 - 1;
        if text == "0" {
            return Some(Self(0));
        }
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let power = match unit {
            "B" => 0,
            "KB" | "KiB" => 1,
            "MB" | "MiB" => 2,
            "GB" | "GiB" => 3,
            "TB" | "TiB" => 4,
            "PB" | "PiB" => 5,
            "EB" | "EiB" => 6,
            _ => return None,
        };
        #[expect(clippy::cast_precision_loss, reason = "a bound, not an amount")]
        let widest = WIDEST as f64;
        let bytes = number * 1024_f64.powi(power);
        if negative || bytes >= widest {
            return Some(Self(WIDEST));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is positive and within the range"
        )]
        Some(Self(bytes as u64))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(mistake(
                format_args!("{text:?} is not a size"),
                "write a number with a unit, such as 512KB, 1.5MB or 10MiB",
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_blackbox_s() {
        for (text, bytes) in
            [("0", 0), ("1B", 1), ("2KB", 2048), ("1.5MB", 1_572_864), ("1GiB", 1 << 30)]
        {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["1", "10", "1k", "1mb", "1 MB", "", "MB"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
        assert_eq!(ByteSize::parse("-1MB"), ByteSize::parse("9EB"));
    }

    #[test]
    fn statuses_are_numbers_classes_and_ranges() {
        let codes: Vec<StatusCodes> = serde_json::from_str(r#"[200, "3xx", "400-404"]"#).unwrap();
        assert!(codes[0].contain(200) && !codes[0].contain(201));
        assert!(codes[1].contain(399) && !codes[1].contain(400));
        assert!(codes[2].contain(404) && !codes[2].contain(405));
        for wrong in [r#"["2x"]"#, r#"["0xx"]"#, r#"["300-200"]"#, "[-1]"] {
            assert!(serde_json::from_str::<Vec<StatusCodes>>(wrong).is_err(), "{wrong}");
        }
    }
}
