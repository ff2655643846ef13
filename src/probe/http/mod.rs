//! `http`: ask over HTTP, follow redirects, measure the answer against the rules.
//!
//! How a request is made is in [`request`], where it goes in [`hops`] and [`route`], what a good answer is in [`rules`].
//! A body is never held whole unless a rule needs it, and then within a bound.

mod auth;
mod body;
mod cel;
mod cookies;
mod hops;
mod jwt;
mod oauth2;
mod proxying;
mod request;
mod route;
mod rules;
mod spec;

use ::http::header::LAST_MODIFIED;
use ::http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use tokio::time::Instant;

pub(super) use auth::{Auth, basic_value, sensitive, target_value};
pub(super) use body::Sink;
pub use spec::{AuthorizationSpec, BasicAuth, HeaderSource, OAuth2Spec, ProxyUrl, Spec};

use self::body::{Coding, Taken};
use self::hops::{Final, MAX_REDIRECTS, walk};
use self::proxying::{ProxyKeys, Proxying};
use self::request::Asking;
use self::route::Speaks;
use self::rules::{Rules, version_number};
use super::{Ask, Blocks, Report, Verdict};
use crate::model::{Answer, Fault, Mistakes, Unknown, family};
use crate::net::http::{Link, Response, Scheme};
use crate::net::{IpFamily, IpPreference, TlsClient, TlsVersion};

/// What every request says about who asks.
const USER_AGENT: &str = concat!("watchpost/", env!("CARGO_PKG_VERSION"));

pub(super) const fn user_agent() -> HeaderValue {
    HeaderValue::from_static(USER_AGENT)
}

#[derive(Debug)]
pub struct Prober {
    asking: Asking,
    rules: Rules,
    proxying: Proxying,
    skip_resolve_with_proxy: bool,
    preference: IpPreference,
    source: Option<String>,
    tls: TlsClient,
    /// For redirects away from the target's authority, where a configured `server_name` does not hold.
    tls_elsewhere: Option<TlsClient>,
    speaks: Speaks,
    follow_redirects: bool,
}

/// What another prober changes about the exchange.
#[derive(Debug, Default)]
pub(super) struct Overrides<'a> {
    /// Headers that the module may replace.
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    /// How the body is decoded, where the module does not say.
    pub(super) by_content_encoding: bool,
}

impl Prober {
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.http.take().unwrap_or_default();
        Self::from_spec(spec, &Overrides::default(), mistakes)
    }

    pub(super) fn from_spec(
        spec: Spec,
        overrides: &Overrides<'_>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let errors_before = mistakes.has_errors();
        let mut built = None;
        mistakes.within("http", |m| built = Some(Self::assemble(spec, overrides, m)));
        if mistakes.has_errors() && !errors_before { None } else { built }
    }

    fn assemble(mut spec: Spec, overrides: &Overrides<'_>, mistakes: &mut Mistakes) -> Self {
        check(&spec, mistakes);
        let asking = Asking::build(&mut spec, overrides.headers, mistakes);
        let mut unknown_coding = None;
        let compression = spec.compression.take().unwrap_or_default();
        let coding = Coding::parse(&compression).unwrap_or_else(|| {
            let what = format!("there is no compression {compression:?}");
            let hint = "use gzip, br, deflate or identity";
            mistakes.warning("compression", format!("{what}: no run can succeed"), hint);
            unknown_coding = Some(what.into());
            Coding::Identity
        });
        let mut rules = Rules::build(&mut spec, coding, mistakes);
        rules.unknown_coding = unknown_coding;
        rules.by_content_encoding = overrides.by_content_encoding && compression.is_empty();
        let settings = spec.tls_config.take().unwrap_or_default();
        mistakes.within("tls_config", |m| settings.check(m));
        let mut unnamed = settings.clone();
        let tls_elsewhere = unnamed.server_name.take().map(|_| TlsClient::new(unnamed));
        let proxying = Proxying::build(
            ProxyKeys {
                url: spec.proxy_url.take(),
                no_proxy: spec.no_proxy.take(),
                from_environment: spec.proxy_from_environment,
                connect_header: spec.proxy_connect_header.take(),
            },
            mistakes,
        );
        let speaks = match (spec.enable_http3, spec.enable_http2) {
            (Some(true), _) => Speaks::Http3,
            (_, Some(false)) => Speaks::Http1,
            _ => Speaks::Http2,
        };
        // None carries HTTP/3.
        let proxying = if speaks == Speaks::Http3 { Proxying::default() } else { proxying };
        let follow = match spec.no_follow_redirects {
            Some(no_follow) => !no_follow,
            None => spec.follow_redirects.unwrap_or(true),
        };
        Self {
            asking,
            rules,
            proxying,
            skip_resolve_with_proxy: spec.skip_resolve_phase_with_proxy.unwrap_or(false),
            preference: IpPreference {
                family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
                fallback: spec.ip_protocol_fallback.unwrap_or(true),
            },
            source: spec.source_ip_address,
            tls: TlsClient::new(settings),
            tls_elsewhere,
            speaks,
            follow_redirects: follow,
        }
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        self.run_with(ask, report, None).await
    }

    /// Runs the exchange and hands the decoded body of an answer with a good status to `sink`.
    pub(super) async fn run_with(
        &self,
        ask: &Ask<'_>,
        report: &mut Report,
        sink: Option<&mut dyn Sink>,
    ) -> Verdict {
        let began = Instant::now();
        self.begin(report);
        let link = self.link(&ask.target.address, report)?;
        let mut answered = walk(self, ask, link.clone(), report).await?;
        if self.token_went_stale(ask, &answered).await {
            report.note(|| "the kept token was refused; asking again with a new one");
            answered = walk(self, ask, link, report).await?;
        }
        self.judge(ask, report, answered, sink).await?;
        self.rules.speed(began.elapsed())
    }

    /// HTTP/3 has no form without TLS: an `http` target is asked over `https`, as upstream does.
    fn link(&self, address: &str, report: &mut Report) -> Result<Link, Answer> {
        let mut link = Link::target(address)
            .ok_or_else(|| Unknown::Setup(format!("{address:?} is no http or https URL").into()))?;
        if self.speaks == Speaks::Http3 && !link.is_tls() {
            report.note(|| "HTTP/3 needs TLS; asking over https");
            link.scheme = Scheme::Https;
        }
        Ok(link)
    }

    /// A kept token may have been revoked since: one more try decides.
    async fn token_went_stale(&self, ask: &Ask<'_>, answered: &Final) -> bool {
        let Some(oauth2) = self.asking.auth.oauth2() else { return false };
        let refused = answered.response.head.status == StatusCode::UNAUTHORIZED;
        refused && oauth2.forget(ask.deadline).await
    }

    fn begin(&self, report: &mut Report) {
        for family in [
            &family::PROBE_HTTP_STATUS_CODE,
            &family::PROBE_HTTP_CONTENT_LENGTH,
            &family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH,
            &family::PROBE_HTTP_REDIRECTS,
            &family::PROBE_HTTP_SSL,
            &family::PROBE_HTTP_VERSION,
            &family::PROBE_FAILED_DUE_TO_REGEX,
        ] {
            report.set(family, 0.0);
        }
        if !self.rules.cel.is_empty() {
            report.set(&family::PROBE_FAILED_DUE_TO_CEL, 0.0);
        }
    }

    async fn judge(
        &self,
        ask: &Ask<'_>,
        report: &mut Report,
        answered: Final,
        sink: Option<&mut dyn Sink>,
    ) -> Verdict {
        let Final { mut response, over_tls, looped } = answered;
        self.tell(report, &response, over_tls);
        let mut verdict: Verdict = Ok(());
        if looped {
            verdict = Err(Fault::RedirectLoop { followed: MAX_REDIRECTS }.into());
        }
        verdict = verdict.and_then(|()| self.rules.status(response.head.status));
        if verdict.is_ok() && self.rules.has_headers() {
            verdict = self.rules.headers(&response.head.headers);
            report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, verdict.is_err());
        }
        if let (Ok(()), Some(why)) = (&verdict, &self.rules.unknown_coding) {
            verdict = Err(Unknown::Setup(why.clone()).into());
        }
        let reading = self.rules.reading(verdict.is_ok(), &response.head.headers);
        let mut sink = sink.filter(|_| verdict.is_ok());
        if let Some(sink) = &mut sink {
            sink.begin(&response.head.headers);
        }
        let taken = body::take(&mut response, reading, sink, ask.deadline).await;
        #[expect(clippy::cast_precision_loss, reason = "a length is shown as a double")]
        let length = taken.length as f64;
        report.set(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH, length);
        if verdict.is_ok() {
            verdict = self.judge_body(ask, report, taken).await;
        }
        verdict
            .and_then(|()| self.rules.version(response.head.version))
            .and_then(|()| self.rules.tls(over_tls))
    }

    async fn judge_body(&self, ask: &Ask<'_>, report: &mut Report, taken: Taken) -> Verdict {
        let Taken { mut kept, failed, .. } = taken;
        let patterns = self.rules.has_body_patterns();
        if let Some(failed) = failed {
            if patterns {
                report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, true);
            } else if !self.rules.cel.is_empty() {
                report.set_flag(&family::PROBE_FAILED_DUE_TO_CEL, true);
            }
            return Err(failed);
        }
        if patterns {
            let (body, verdict) = self.rules.body(kept, ask.deadline).await;
            report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, verdict.is_err());
            verdict?;
            kept = body;
        }
        if !self.rules.cel.is_empty() {
            let verdict = self.rules.cel.judge(kept, ask.deadline).await;
            report.set_flag(&family::PROBE_FAILED_DUE_TO_CEL, verdict.is_err());
            verdict?;
        }
        Ok(())
    }

    fn tell(&self, report: &mut Report, response: &Response, over_tls: bool) {
        let head = &response.head;
        report.set(&family::PROBE_HTTP_STATUS_CODE, f64::from(head.status.as_u16()));
        report.set(&family::PROBE_HTTP_CONTENT_LENGTH, self.content_length(response));
        report.set(&family::PROBE_HTTP_VERSION, version_number(head.version));
        report.set_flag(&family::PROBE_HTTP_SSL, over_tls);
        let modified = head.headers.get(LAST_MODIFIED).and_then(|v| v.to_str().ok());
        if let Some(time) = modified.and_then(http_date) {
            #[expect(clippy::cast_precision_loss, reason = "unix time is shown as a double")]
            let seconds = time.as_second() as f64;
            report.set(&family::PROBE_HTTP_LAST_MODIFIED, seconds);
        }
    }

    /// The declared length; -1 when the answer may have a body and does not declare it.
    fn content_length(&self, response: &Response) -> f64 {
        let head = &response.head;
        let written = head.headers.get(::http::header::CONTENT_LENGTH);
        let written = written.and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status);
        let declared = match response.declared {
            _ if self.asking.method == Method::HEAD => written,
            _ if bodiless => Some(0),
            Some(0) if head.version == Version::HTTP_2 || written.is_some() => Some(0),
            Some(0) => written,
            declared => declared,
        };
        #[expect(clippy::cast_precision_loss, reason = "a length is shown as a double")]
        declared.map_or(-1.0, |length| length as f64)
    }

    /// The `Host` that the module sets.
    pub(super) fn configured_host(&self) -> Option<&str> {
        self.asking.host.as_deref()
    }

    /// The `Host` to present at the target's own authority.
    fn host_of<'a>(&'a self, ask: &Ask<'a>) -> Option<&'a str> {
        let target = ask.target;
        let header = target.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        header
            .map(|(_, value)| value.reveal())
            .or(target.hostname.as_deref())
            .or(self.asking.host.as_deref())
            .filter(|host| !host.is_empty())
    }
}

/// What needs more than one key to see.
fn check(spec: &Spec, mistakes: &mut Mistakes) {
    check_http3(spec, mistakes);
    if spec.no_follow_redirects.is_some() {
        mistakes.warning(
            "no_follow_redirects",
            "no_follow_redirects is deprecated",
            "use follow_redirects, which is its inverse",
        );
    }
    check_accept_encoding(spec, mistakes);
}

/// HTTP/3 is spoken alone or not at all.
fn check_http3(spec: &Spec, mistakes: &mut Mistakes) {
    let listed = |names: &[&str]| {
        let versions = spec.valid_http_versions.iter().flatten();
        versions.into_iter().find(|v| names.contains(&v.as_str())).cloned()
    };
    if spec.enable_http3 != Some(true) {
        if listed(&["HTTP/3.0"]).is_some() {
            mistakes.error(
                "valid_http_versions",
                "HTTP/3.0 is only spoken with enable_http3",
                "remove HTTP/3.0",
            );
        }
        return;
    }
    if let Some(version) = listed(&["HTTP/1.1", "HTTP/2.0", "HTTP/2"]) {
        let what = format!("{version} is not spoken with enable_http3");
        mistakes.error("valid_http_versions", what, "list HTTP/3.0 alone");
    }
    if spec.enable_http2 != Some(false) {
        let hint = "set enable_http2: false";
        mistakes.error("enable_http3", "enable_http3 and enable_http2 exclude each other", hint);
    }
    let proxy = spec.proxy_url.as_ref().is_some_and(|url| url.0.is_some());
    if proxy || spec.proxy_from_environment == Some(true) {
        let key = if proxy { "proxy_url" } else { "proxy_from_environment" };
        let hint = "the target is asked directly; drop the proxy's keys";
        mistakes.warning(key, "no proxy carries HTTP/3", hint);
    }
    let max = spec.tls_config.as_ref().and_then(|settings| settings.max_version);
    if max.is_some_and(|max| max < TlsVersion::Tls13) {
        let what = "HTTP/3 needs TLS 1.3, which max_version forbids: no run can succeed";
        mistakes.warning("tls_config.max_version", what, "drop max_version");
    }
}

/// A module that decodes `gzip` must not ask for something else.
fn check_accept_encoding(spec: &Spec, mistakes: &mut Mistakes) {
    let Some(coding) = spec.compression.as_deref().filter(|c| !c.is_empty()) else { return };
    let headers = spec.headers.iter().flatten();
    for (name, value) in headers {
        let accepted = value.as_deref().unwrap_or_default();
        if name.eq_ignore_ascii_case("accept-encoding") && !accepts(accepted, coding) {
            mistakes.error(
                "compression",
                format!("{coding} is to be decoded, but {name}: {accepted} does not ask for it"),
                format!("add {coding} to {name}, or drop one of the two"),
            );
        }
    }
}

/// Whether `coding` or `*` is listed with a weight above 0; the entry with the highest weight decides.
fn accepts(list: &str, coding: &str) -> bool {
    let mut entries: Vec<(&str, f64)> = list
        .split(',')
        .map(|entry| {
            let (name, params) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = params.trim().strip_prefix("q=").and_then(|q| q.trim().parse().ok());
            (name.trim(), weight.unwrap_or(1.0))
        })
        .collect();
    entries.sort_by(|a, b| b.1.total_cmp(&a.1));
    entries.iter().find(|(name, _)| *name == coding || *name == "*").is_some_and(|(_, q)| *q > 0.0)
}

/// The three forms of a date in HTTP.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(zoned) = rfc2822::parse(text) {
        return Some(zoned.timestamp());
    }
    let old = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let civil = old.iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests;
