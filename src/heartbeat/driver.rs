//! One request to a service, and what its answer means.

use std::error::Error as _;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::{Client, redirect};
use serde::Serialize;
use url::Url;

use super::spec::Spec;
use super::vendor::{Accept, NoPlan, ReadBack, Request, header};
use crate::net::{Resolver, http_client};

/// How much of an answer is looked at.
const MAX_BODY_BYTES: usize = 256 << 10;
const MAX_CA_BYTES: u64 = 1 << 20;
/// Of the whole timeout; a service that does not take the connection soon is tried again rather than waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of one try: the label `result`, a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SendResult {
    Accepted,
    /// A status that another try will not change: our configuration is wrong.
    Refused,
    RateLimited,
    ServerError,
    /// A redirect is not followed: it may lead to a page that says 200 to anything.
    Redirected,
    /// The right status with the wrong text.
    UnexpectedBody,
    Timeout,
    Network,
    /// A secret or a file could not be read.
    Setup,
}

impl SendResult {
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Refused,
        Self::RateLimited,
        Self::ServerError,
        Self::Redirected,
        Self::UnexpectedBody,
        Self::Timeout,
        Self::Network,
        Self::Setup,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Redirected => "redirected",
            Self::UnexpectedBody => "unexpected_body",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Setup => "setup",
        }
    }

    /// Whether another try within the same period is worth it.
    pub const fn is_worth_a_retry(self) -> bool {
        matches!(self, Self::RateLimited | Self::ServerError | Self::Timeout | Self::Network)
    }
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    pub result: SendResult,
    /// For a person; holds no secret.
    pub detail: String,
    /// For how long the service asks to be left alone.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Attempt {
    pub fn new(result: SendResult, detail: impl Into<String>) -> Self {
        Self { result, detail: detail.into(), retry_after: None }
    }
}

/// The way to a service. Tests have one without sockets.
pub trait Wire: Send + Sync {
    /// Sends once. `host` replaces the URL's own.
    fn attempt<'a>(
        &'a self,
        request: &'a Request,
        accept: &'a Accept,
        host: Option<&'a Url>,
    ) -> BoxFuture<'a, Attempt>;

    /// Asks what was recorded.
    fn recorded<'a>(&'a self, read_back: &'a ReadBack) -> BoxFuture<'a, Result<Recorded, Untold>>;
}

/// Why a service did not say what it has recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// It does not know the monitor.
    #[error("the service does not know this monitor")]
    Missing,
    #[error("{0}")]
    Failed(String),
}

/// What a service says that it has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// By its own clock; `None`: never.
    pub at: Option<Timestamp>,
    /// It does not watch at the moment: paused, disabled.
    pub muted: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Driver {
    client: Client,
}

impl Driver {
    pub fn new(spec: &Spec, names: &Resolver) -> Result<Self, NoPlan> {
        let mut builder = http_client(names)
            .timeout(spec.timeout.get())
            .connect_timeout(spec.timeout.get().min(CONNECT_TIMEOUT))
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0);
        builder = match &spec.proxy {
            None => builder.no_proxy(),
            Some(proxy) => {
                builder.proxy(reqwest::Proxy::all(proxy).map_err(|_| NoPlan::Url("proxy"))?)
            }
        };
        if let Some(path) = &spec.ca_file {
            let wrong = |detail: String| NoPlan::File { key: "ca_file", detail };
            let pem = read_file(path).map_err(wrong)?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(error.to_string()))?;
            builder = builder.tls_certs_only(authorities);
        }
        let client = builder
            .build()
            .map_err(|error| NoPlan::File { key: "ca_file", detail: error.to_string() })?;
        Ok(Self { client })
    }

    async fn try_once(
        &self,
        request: &Request,
        accept: &Accept,
        host: Option<&Url>,
    ) -> Result<Attempt, Attempt> {
        let mut response = self.send(request, host).await?;
        let code = response.status().as_u16();
        if !accept.code(code) {
            let retry_after = retry_after(&response);
            return Err(Attempt {
                retry_after,
                ..Attempt::new(class(code), format!("status {code}"))
            });
        }
        if accept.body.is_some() && !accept.body(&body(&mut response).await?) {
            let detail = format!("status {code}, but not the text that this service sends");
            return Err(Attempt::new(SendResult::UnexpectedBody, detail));
        }
        Ok(Attempt::new(SendResult::Accepted, format!("status {code}")))
    }

    async fn ask(&self, read_back: &ReadBack) -> Result<Recorded, Untold> {
        let failed = |attempt: Attempt| Untold::Failed(attempt.detail);
        let mut response = self.send(&read_back.request, None).await.map_err(failed)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Err(Untold::Missing),
            code => return Err(Untold::Failed(format!("status {code}"))),
        }
        let body = body(&mut response).await.map_err(failed)?;
        let page: serde_json::Value = serde_json::from_slice(&body)
            .map_err(|_| Untold::Failed("the answer is not JSON".to_owned()))?;
        let muted = read_back.fields.muted().iter().find_map(|(pointer, value)| {
            let found = page.pointer(pointer)?;
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            (text == *value).then(|| format!("{} is {text}", pointer.trim_start_matches('/')))
        });
        let at = page.pointer(read_back.fields.last_beat()).and_then(time);
        Ok(Recorded { at, muted })
    }

    async fn send(
        &self,
        request: &Request,
        host: Option<&Url>,
    ) -> Result<reqwest::Response, Attempt> {
        let mut url = request.url.clone();
        if let Some(host) = host
            && (url.set_scheme(host.scheme()).is_err()
                || url.set_host(host.host_str()).is_err()
                || url.set_port(host.port()).is_err())
        {
            return Err(Attempt::new(SendResult::Setup, "the other host cannot be used"));
        }
        let mut builder = self.client.request(request.method.clone(), url);
        for (name, value) in &request.headers {
            let (name, value) = header(name, value)
                .map_err(|error| Attempt::new(SendResult::Setup, error.to_string()))?;
            builder = builder.header(name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        builder.send().await.map_err(|error| failed(&error))
    }
}

impl Wire for Driver {
    fn attempt<'a>(
        &'a self,
        request: &'a Request,
        accept: &'a Accept,
        host: Option<&'a Url>,
    ) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            match self.try_once(request, accept, host).await {
                Ok(attempt) | Err(attempt) => attempt,
            }
        })
    }

    fn recorded<'a>(&'a self, read_back: &'a ReadBack) -> BoxFuture<'a, Result<Recorded, Untold>> {
        Box::pin(self.ask(read_back))
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    use std::io::Read as _;

    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_CA_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

const fn class(code: u16) -> SendResult {
    match code {
        429 => SendResult::RateLimited,
        408 | 425 => SendResult::Timeout,
        500..=599 => SendResult::ServerError,
        300..=399 => SendResult::Redirected,
        _ => SendResult::Refused,
    }
}

/// The innermost cause. Never the error itself, which carries the URL and so the key.
fn failed(error: &reqwest::Error) -> Attempt {
    if error.is_timeout() {
        return Attempt::new(SendResult::Timeout, "no answer in time");
    }
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    let detail = cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string);
    Attempt::new(SendResult::Network, detail)
}

async fn body(response: &mut reqwest::Response) -> Result<Vec<u8>, Attempt> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            let detail = format!("the answer is longer than {MAX_BODY_BYTES} bytes");
            return Err(Attempt::new(SendResult::UnexpectedBody, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// In seconds. As a date it would depend on two clocks, so it is left alone.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// RFC 3339, or seconds since 1970, whole or not, as number or as text.
fn time(value: &serde_json::Value) -> Option<Timestamp> {
    if let Some(text) = value.as_str()
        && let Ok(at) = text.parse()
    {
        return Some(at);
    }
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let millis = (seconds.abs() < 1e11).then_some((seconds * 1e3) as i64)?;
    Timestamp::from_millisecond(millis).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_come_in_several_shapes() {
        let expected: Timestamp = "2026-01-02T03:04:05.500Z".parse().unwrap();
        for value in [
            json!("2026-01-02T03:04:05.500Z"),
            json!("2026-01-02T03:04:05.500+00:00"),
            json!(1_767_323_045.5),
            json!("1767323045.5"),
        ] {
            assert_eq!(time(&value), Some(expected), "{value}");
        }
        for value in [json!(null), json!("soon"), json!(1e300), json!(true)] {
            assert_eq!(time(&value), None, "{value}");
        }
    }

    #[test]
    fn classes_of_statuses() {
        assert!(class(503).is_worth_a_retry());
        assert!(class(429).is_worth_a_retry());
        assert!(!class(404).is_worth_a_retry());
        assert!(!class(302).is_worth_a_retry());
    }
}
