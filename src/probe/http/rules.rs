//! What a good answer is, in the order in which upstream asks.

use std::time::Duration;

use ::http::header::CONTENT_ENCODING;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::body::{Coding, Reading};
use super::cel::CelRules;
use super::spec::{HeaderMatch, Spec, StatusCodes};
use crate::model::{Answer, Fault, Mistakes, Pattern};
use crate::net::Deadline;

/// From this size on, patterns are searched on a thread of their own.
const INLINE_SEARCH_BYTES: usize = 256 * 1024;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub(super) struct Rules {
    statuses: Vec<StatusCodes>,
    versions: Vec<Version>,
    /// Some text in `valid_http_versions` names a version; an empty list accepts all.
    any_version: bool,
    forbidden_headers: Vec<HeaderRule>,
    wanted_headers: Vec<HeaderRule>,
    body: BodyRules,
    pub(super) cel: CelRules,
    fail_if_ssl: bool,
    fail_if_not_ssl: bool,
    fail_above: Option<Duration>,
    warn_above: Option<Duration>,
    coding: Coding,
    /// Why the body cannot be decoded at all. Upstream, too, notices it with an answer at hand.
    pub(super) unknown_coding: Option<Box<str>>,
    /// Decode as `Content-Encoding` says.
    pub(super) by_content_encoding: bool,
    limit: Option<u64>,
}

#[derive(Debug)]
struct HeaderRule {
    /// `None`: no header can have that name.
    name: Option<HeaderName>,
    written: Box<str>,
    pattern: Pattern,
    allow_missing: bool,
}

#[derive(Debug, Clone, Default)]
struct BodyRules {
    forbidden: Vec<Pattern>,
    wanted: Vec<Pattern>,
}

impl Rules {
    pub(super) fn build(spec: &mut Spec, coding: Coding, mistakes: &mut Mistakes) -> Self {
        let written = spec.valid_http_versions.take().unwrap_or_default();
        let versions = written.iter().filter_map(|text| version(text, mistakes)).collect();
        let mut header_rules = |key: &str, list: Option<Vec<HeaderMatch>>| -> Vec<HeaderRule> {
            list.unwrap_or_default()
                .into_iter()
                .map(|m| HeaderRule::build(key, m, mistakes))
                .collect()
        };
        Self {
            statuses: spec
                .valid_status_codes
                .take()
                .filter(|l| !l.is_empty())
                .unwrap_or_else(|| vec![StatusCodes::SUCCESS]),
            any_version: written.is_empty(),
            versions,
            forbidden_headers: header_rules(
                "fail_if_header_matches",
                spec.fail_if_header_matches.take(),
            ),
            wanted_headers: header_rules(
                "fail_if_header_not_matches",
                spec.fail_if_header_not_matches.take(),
            ),
            body: BodyRules {
                forbidden: spec.fail_if_body_matches_regexp.take().unwrap_or_default(),
                wanted: spec.fail_if_body_not_matches_regexp.take().unwrap_or_default(),
            },
            cel: CelRules {
                fail_if: spec.fail_if_body_json_matches_cel.take(),
                fail_unless: spec.fail_if_body_json_not_matches_cel.take(),
            },
            fail_if_ssl: spec.fail_if_ssl.unwrap_or(false),
            fail_if_not_ssl: spec.fail_if_not_ssl.unwrap_or(false),
            fail_above: spec.fail_if_slower_than.map(crate::model::Period::get),
            warn_above: spec.warn_if_slower_than.map(crate::model::Period::get),
            coding,
            unknown_coding: None,
            by_content_encoding: false,
            limit: spec.body_size_limit.and_then(super::spec::ByteSize::limit),
        }
    }

    pub(super) fn reading(&self, rules_matter: bool, headers: &HeaderMap) -> Reading {
        let keep = rules_matter && (self.has_body_patterns() || !self.cel.is_empty());
        let declared = headers.get(CONTENT_ENCODING).filter(|_| self.by_content_encoding);
        let declared = declared.and_then(|v| Coding::parse(v.to_str().ok()?));
        Reading { coding: declared.unwrap_or(self.coding), limit: self.limit, keep }
    }

    pub(super) fn has_headers(&self) -> bool {
        !self.forbidden_headers.is_empty() || !self.wanted_headers.is_empty()
    }

    pub(super) fn has_body_patterns(&self) -> bool {
        !self.body.forbidden.is_empty() || !self.body.wanted.is_empty()
    }

    pub(super) fn status(&self, status: StatusCode) -> Result<(), Answer> {
        let code = status.as_u16();
        if self.statuses.iter().any(|codes| codes.contain(code)) {
            return Ok(());
        }
        Err(match code {
            401 | 403 | 407 => Fault::AuthRefused { code },
            _ => Fault::HttpStatus { code },
        }
        .into())
    }

    pub(super) fn headers(&self, headers: &HeaderMap) -> Result<(), Answer> {
        for rule in &self.forbidden_headers {
            if rule.any_value_matches(headers)? == Some(true) {
                return Err(rule.mismatch(&format!("matches {:?}", rule.pattern.as_str())));
            }
        }
        for rule in &self.wanted_headers {
            if rule.any_value_matches(headers)? == Some(false) {
                return Err(rule.mismatch(&format!("does not match {:?}", rule.pattern.as_str())));
            }
        }
        Ok(())
    }

    /// Searches a body for what must and must not be there; hands the body back for what comes next.
    pub(super) async fn body(
        &self,
        body: Vec<u8>,
        deadline: Deadline,
    ) -> (Vec<u8>, Result<(), Answer>) {
        if body.len() < INLINE_SEARCH_BYTES {
            let found = self.body.judge(&body);
            return (body, found.map_err(Answer::from));
        }
        let (rules, received) = (self.body.clone(), body.len() as u64);
        let searching = tokio::task::spawn_blocking(move || {
            let found = rules.judge(&body);
            (body, found.map_err(Answer::from))
        });
        match deadline.limit(searching).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => (Vec::new(), Err(crate::model::Unknown::Defect.into())),
            Err(expired) => {
                let fault = Fault::BodyTimeout { received, budget: expired.budget };
                (Vec::new(), Err(fault.into()))
            }
        }
    }

    pub(super) fn version(&self, version: Version) -> Result<(), Answer> {
        if self.any_version || self.versions.contains(&version) {
            return Ok(());
        }
        Err(Fault::HttpVersion { version: version_name(version) }.into())
    }

    pub(super) fn tls(&self, over_tls: bool) -> Result<(), Answer> {
        let detail = match over_tls {
            true if self.fail_if_ssl => "the answer came over TLS",
            false if self.fail_if_not_ssl => "the answer came without TLS",
            _ => return Ok(()),
        };
        Err(Fault::TlsPolicy { detail: detail.into() }.into())
    }

    pub(super) fn speed(&self, took: Duration) -> Result<(), Answer> {
        if let Some(limit) = self.fail_above.filter(|limit| took > *limit) {
            return Err(Fault::TooSlow { took, limit }.into());
        }
        if let Some(limit) = self.warn_above.filter(|limit| took > *limit) {
            return Err(Answer::Warn(Fault::TooSlow { took, limit }));
        }
        Ok(())
    }
}

impl BodyRules {
    fn judge(&self, body: &[u8]) -> Result<(), Fault> {
        let fault = |pattern: &Pattern, found| {
            Err(Fault::BodyMismatch { pattern: pattern.as_str().into(), found })
        };
        if let Some(pattern) = self.forbidden.iter().find(|p| p.is_match(body)) {
            return fault(pattern, true);
        }
        match self.wanted.iter().find(|p| !p.is_match(body)) {
            Some(pattern) => fault(pattern, false),
            None => Ok(()),
        }
    }
}

impl HeaderRule {
    fn build(key: &str, rule: HeaderMatch, mistakes: &mut Mistakes) -> Self {
        let name = HeaderName::from_bytes(rule.header.as_bytes()).ok();
        if name.is_none() {
            mistakes.warning(
                key,
                format!("{:?} is no header's name: it is always missing", rule.header),
                "write a header's name such as Content-Type",
            );
        }
        if rule.regexp.as_str().is_empty() {
            mistakes.error(key, "regexp is empty", "write the pattern that is looked for");
        }
        Self {
            name,
            written: rule.header.into(),
            pattern: rule.regexp,
            allow_missing: rule.allow_missing,
        }
    }

    /// `None` when the header is missing and may be.
    fn any_value_matches(&self, headers: &HeaderMap) -> Result<Option<bool>, Answer> {
        let mut values = self
            .name
            .iter()
            .flat_map(|name| headers.get_all(name))
            .map(HeaderValue::as_bytes)
            .peekable();
        if values.peek().is_none() {
            return if self.allow_missing { Ok(None) } else { Err(self.mismatch("is missing")) };
        }
        Ok(Some(values.any(|value| self.pattern.is_match(value))))
    }

    fn mismatch(&self, detail: &str) -> Answer {
        Fault::HeaderMismatch { header: self.written.clone(), detail: detail.into() }.into()
    }
}

fn version(text: &str, mistakes: &mut Mistakes) -> Option<Version> {
    let version = match text {
        "HTTP/1.0" => Version::HTTP_10,
        "HTTP/1.1" => Version::HTTP_11,
        // The short forms never match upstream, where its own example uses them.
        "HTTP/2.0" | "HTTP/2" => Version::HTTP_2,
        "HTTP/3.0" | "HTTP/3" => Version::HTTP_3,
        _ => {
            mistakes.warning(
                "valid_http_versions",
                format!("{text:?} is no version of HTTP: no answer has it"),
                "use HTTP/1.0, HTTP/1.1, HTTP/2.0 or HTTP/3.0",
            );
            return None;
        }
    };
    Some(version)
}

pub(super) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

pub(super) fn version_number(version: Version) -> f64 {
    match version {
        Version::HTTP_09 => 0.9,
        Version::HTTP_10 => 1.0,
        Version::HTTP_2 => 2.0,
        Version::HTTP_3 => 3.0,
        _ => 1.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Rules {
        let mut spec: Spec = serde_json::from_str(json).unwrap();
        Rules::build(&mut spec, Coding::Identity, &mut Mistakes::default())
    }

    fn reason(result: Result<(), Answer>) -> Option<&'static str> {
        result.err().and_then(|answer| answer.reason())
    }

    #[test]
    fn statuses_and_credentials_are_told_apart() {
        let any = rules("{}");
        assert_eq!(reason(any.status(StatusCode::NO_CONTENT)), None);
        assert_eq!(reason(any.status(StatusCode::FOUND)), Some("http_status"));
        for code in [401, 403, 407] {
            let code = StatusCode::from_u16(code).unwrap();
            assert_eq!(reason(any.status(code)), Some("auth_refused"));
        }
        let wanted = rules(r#"{"valid_status_codes": [401]}"#);
        assert_eq!(reason(wanted.status(StatusCode::UNAUTHORIZED)), None);
        assert_eq!(reason(wanted.status(StatusCode::OK)), Some("http_status"));
    }

    #[test]
    fn header_rules_are_upstream_s() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "one".parse().unwrap());
        headers.append("x-a", "two".parse().unwrap());
        for (list, header, regexp, more, fails) in [
            ("fail_if_header_matches", "X-A", "two", "", true),
            ("fail_if_header_matches", "X-A", "three", "", false),
            ("fail_if_header_not_matches", "X-A", "two", "", false),
            ("fail_if_header_not_matches", "X-A", "three", "", true),
            ("fail_if_header_matches", "X-B", ".", "", true),
            ("fail_if_header_not_matches", "X-B", ".", "", true),
            ("fail_if_header_matches", "X-B", ".", r#", "allow_missing": true"#, false),
            ("fail_if_header_not_matches", "X-B", ".", r#", "allow_missing": true"#, false),
        ] {
            let json =
                format!(r#"{{"{list}": [{{"header": "{header}", "regexp": "{regexp}"{more}}}]}}"#);
            let failed = rules(&json).headers(&headers).is_err();
            assert_eq!(failed, fails, "{json}");
        }
    }

    #[test]
    fn versions_and_tls_are_policies() {
        let rules = rules(
            r#"{"valid_http_versions": ["HTTP/2"], "fail_if_not_ssl": true,
                "warn_if_slower_than": "1s", "fail_if_slower_than": "2s"}"#,
        );
        assert_eq!(reason(rules.version(Version::HTTP_11)), Some("http_version"));
        assert_eq!(reason(rules.version(Version::HTTP_2)), None);
        assert_eq!(reason(rules.tls(false)), Some("tls_policy"));
        assert_eq!(reason(rules.tls(true)), None);
        assert_eq!(reason(rules.speed(Duration::from_secs(3))), Some("too_slow"));
        let warned = rules.speed(Duration::from_millis(1500)).unwrap_err();
        assert!(warned.is_success());
    }
}
