//! One HTTP exchange with a vendor: no redirects, bounded time and body, and an outcome by status code.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::Sent;
use crate::model::{Mistakes, Secret};
use crate::net::{Resolver, causes, http_client};

/// How much of an answer is read.
const MAX_REPLY_BYTES: usize = 4 << 10;
/// How much of an answer is shown.
const MAX_SHOWN_CHARS: usize = 200;
/// How long a connection may take; the rest of the timeout is for the exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The way out of one receiver.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) client: reqwest::Client,
    /// The certificates of `ca_file`, for receivers that do not speak HTTP.
    pub(super) ca_pem: Option<Vec<u8>>,
    /// For receivers that do not speak HTTP.
    pub(super) names: Resolver,
    pub(super) timeout: Duration,
}

impl Outlet {
    pub(super) fn build(
        names: &Resolver,
        timeout: Duration,
        proxy: Option<&Secret>,
        ca_file: Option<&str>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let mut builder = http_client(names)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout);
        if let Some(url) = proxy {
            let Ok(proxy) = reqwest::Proxy::all(url.reveal()) else {
                let hint = "write http://host:port or socks5h://host:port";
                mistakes.error("proxy_url", "proxy_url is not a proxy's URL", hint);
                return None;
            };
            builder = builder.proxy(proxy);
        }
        let ca_pem = match ca_file.map(|path| (path, std::fs::read(path))) {
            None => None,
            Some((_, Ok(pem))) => Some(pem),
            Some((path, Err(error))) => {
                mistakes.error("ca_file", format!("cannot read {path}: {error}"), "");
                return None;
            }
        };
        if let Some(pem) = &ca_pem {
            match reqwest::Certificate::from_pem_bundle(pem) {
                Ok(certificates) => builder = builder.tls_certs_merge(certificates),
                Err(error) => {
                    mistakes.error("ca_file", format!("no certificates in it: {error}"), "");
                    return None;
                }
            }
        }
        match builder.build() {
            Ok(client) => Some(Self { client, ca_pem, names: names.clone(), timeout }),
            Err(error) => {
                mistakes.error("", format!("cannot set up an HTTP client: {error}"), "");
                None
            }
        }
    }

    pub(super) async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: &Value,
        now: Timestamp,
    ) -> Result<Reply, Sent> {
        let body = serde_json::to_vec(body).expect("a JSON value is written as JSON");
        self.post_bytes(url, headers, body, now).await
    }

    pub(super) async fn post_bytes(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<Reply, Sent> {
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .headers(headers)
            .body(body);
        // The URL may be the secret: no error may show it.
        let mut response = request.send().await.map_err(|e| failure(&e.without_url()))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = retry_after.and_then(|text| read_retry_after(text, now));
        let mut body = Vec::new();
        while body.len() < MAX_REPLY_BYTES {
            let chunk = response.chunk().await.map_err(|e| failure(&e.without_url()))?;
            let Some(chunk) = chunk else { break };
            let room = MAX_REPLY_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { status, retry_after, body })
    }
}

fn failure(error: &reqwest::Error) -> Sent {
    let text = causes(error);
    if error.is_builder() {
        return Sent::Refused { why: format!("not a usable URL: {text}") };
    }
    Sent::retry(&text)
}

/// Seconds, or an HTTP date. `None` when it is neither.
fn read_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(now.duration_until(date)).unwrap_or_default())
}

/// A vendor's answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: String,
}

impl Reply {
    /// What an answer means that is not a documented success.
    pub(super) fn failure(&self) -> Sent {
        let shown: String = self.body.trim().chars().take(MAX_SHOWN_CHARS).collect();
        let why = if shown.is_empty() {
            format!("status {}", self.status)
        } else {
            format!("status {}: {shown}", self.status)
        };
        match self.status {
            408 | 425 | 429 | 500..=599 => Sent::Retry { why, after: self.retry_after },
            // A redirect leads to a login page or a captive portal: whoever it is, it is not the vendor.
            _ => Sent::Refused { why },
        }
    }
}

/// A header whose value is not shown.
pub(super) fn secret_header(value: &str) -> Result<reqwest::header::HeaderValue, Sent> {
    let mut value = reqwest::header::HeaderValue::from_str(value)
        .map_err(|_| Sent::Refused { why: "the key has characters that no header takes".into() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(read_retry_after("120", now), Some(Duration::from_mins(2)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(read_retry_after(date, now), Some(Duration::from_secs(37)));
        let past = "Sun, 06 Nov 1994 08:48:37 GMT";
        assert_eq!(read_retry_after(past, now), Some(Duration::ZERO));
        for text in ["-1", "soon", "", "99999999999999999999999"] {
            assert_eq!(read_retry_after(text, now), None, "{text}");
        }
    }
}
