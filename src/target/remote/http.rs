//! Prometheus's HTTP service discovery: a URL that answers with a list of groups, as JSON.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::access::{Access, Written, parse_url};
use super::{BasicAuth, MIN_REFRESH, Question, Remote, Template, TlsFiles};
use crate::model::{Authorization, Mistakes, Period, Secret, shown_url};
use crate::net::Resolver;
use crate::target::FileGroup;

/// Says how often it is asked.
const REFRESH_HEADER: HeaderName = HeaderName::from_static("x-prometheus-refresh-interval-seconds");

/// An item of `http_sd_configs:`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSd {
    pub url: String,
    /// Default 1m.
    #[serde(default = "default_refresh")]
    pub refresh_interval: Period,
    /// What is asked, with `{}` for what was found.
    #[serde(default)]
    pub target: Template,
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub tls_config: Option<TlsFiles>,
    pub proxy_url: Option<Secret>,
    #[serde(default = "yes")]
    pub follow_redirects: bool,
}

const fn default_refresh() -> Period {
    Period::from_secs(60)
}

const fn yes() -> bool {
    true
}

/// A service that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Service {
    url: Url,
    access: Access,
}

impl HttpSd {
    pub fn build(self, mistakes: &mut Mistakes) -> Option<Remote> {
        let url = parse_url("url", &self.url, mistakes);
        let access = Written {
            basic_auth: self.basic_auth,
            authorization: self.authorization,
            tls_config: self.tls_config,
            proxy_url: self.proxy_url,
            follow_redirects: self.follow_redirects,
        };
        let access = access.build(mistakes);
        let url = url?;
        Some(Remote {
            mechanism: "http",
            name: shown_url(url.as_str()),
            question: Question::Http(Service { url, access }),
            template: self.target,
            refresh: self.refresh_interval.get().max(MIN_REFRESH),
        })
    }
}

impl Service {
    pub(super) async fn ask(
        &self,
        names: &Resolver,
        refresh: Duration,
    ) -> Result<Vec<FileGroup>, String> {
        let client = self.access.client(names).await?;
        let seconds = HeaderValue::from(refresh.as_secs());
        let body = self.access.get(&client, self.url.clone(), &[(REFRESH_HEADER, seconds)]).await?;
        serde_json::from_slice(&body).map_err(|wrong| wrong.to_string())
    }
}
