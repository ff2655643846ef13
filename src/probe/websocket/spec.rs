//! The block `websocket:` as written.

use std::collections::BTreeMap;

use ::http::HeaderName;
use serde::Deserialize;

use crate::model::{Mistakes, Secret};
use crate::net::SecretSource;
use crate::net::{IpFamily, TlsSettings};
use crate::probe::dialogue::StepSpec;
use crate::probe::http::{
    self, Auth, AuthorizationSpec, BasicAuth, HeaderSource, OAuth2Spec, ProxyUrl,
};

/// The block `websocket:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub http_config: Option<HttpConfig>,
    /// Sent with the handshake; `Authorization`, `Host` and `User-Agent` are allowed too.
    pub headers: Option<BTreeMap<String, HeaderSource>>,
    /// What is said and expected, one message each.
    pub query_response: Option<Vec<StepSpec>>,
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// Ours: the address that the connection leaves from.
    pub source_ip_address: Option<String>,
}

/// The keys of an HTTP client. Credentials, `http_headers` and `tls_config` are what a handshake has a use for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<AuthorizationSpec>,
    pub bearer_token: Option<Secret>,
    pub bearer_token_file: Option<String>,
    pub oauth2: Option<OAuth2Spec>,
    pub tls_config: Option<TlsSettings>,
    pub follow_redirects: Option<bool>,
    pub enable_http2: Option<bool>,
    pub proxy_url: Option<ProxyUrl>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, Vec<Secret>>>,
    pub http_headers: Option<BTreeMap<String, HeaderSource>>,
}

/// What `http_config` comes to.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) auth: Auth,
    pub(super) tls: TlsSettings,
    pub(super) headers: Vec<(HeaderName, SecretSource)>,
}

impl HttpConfig {
    pub(super) fn build(mut self, mistakes: &mut Mistakes) -> Client {
        self.warn(mistakes);
        let mut keys = http::Spec {
            basic_auth: self.basic_auth.take(),
            authorization: self.authorization.take(),
            bearer_token: self.bearer_token.take(),
            bearer_token_file: self.bearer_token_file.take(),
            oauth2: self.oauth2.take(),
            ..http::Spec::default()
        };
        let auth = Auth::build(&mut keys, mistakes);
        let tls = self.tls_config.unwrap_or_default();
        mistakes.within("tls_config", |mistakes| tls.check(mistakes));
        let headers = headers("http_headers", self.http_headers.unwrap_or_default(), mistakes);
        Client { auth, tls, headers }
    }

    /// Keys that upstream reads and forgets, too.
    fn warn(&self, mistakes: &mut Mistakes) {
        let proxied = [
            ("proxy_url", self.proxy_url.is_some()),
            ("no_proxy", self.no_proxy.is_some()),
            ("proxy_from_environment", self.proxy_from_environment == Some(true)),
            ("proxy_connect_header", self.proxy_connect_header.is_some()),
        ];
        for (key, _) in proxied.iter().filter(|(_, given)| *given) {
            mistakes.warning(key, "a WebSocket is opened without a proxy", "remove it");
        }
    }
}

/// Every value of every header; a header that is part of the handshake itself is refused.
pub(super) fn headers(
    key: &str,
    spec: BTreeMap<String, HeaderSource>,
    mistakes: &mut Mistakes,
) -> Vec<(HeaderName, SecretSource)> {
    const HANDSHAKE: [&str; 5] = [
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
    ];
    let mut headers = Vec::new();
    for (written, source) in spec {
        let name = HeaderName::from_bytes(written.as_bytes());
        let Some(name) = name.ok().filter(|name| !HANDSHAKE.contains(&name.as_str())) else {
            let what = format!("header {written:?} cannot be set");
            mistakes.error(key, what, "use a name such as X-Scope-OrgID");
            continue;
        };
        let values = source.values.unwrap_or_default().into_iter().map(Secret::new);
        let inline = values.chain(source.secrets.unwrap_or_default()).map(SecretSource::Inline);
        let files = source
            .files
            .unwrap_or_default()
            .into_iter()
            .map(|path| SecretSource::File(path.into()));
        headers.extend(inline.chain(files).map(|source| (name.clone(), source)));
    }
    headers
}

/// Keys of a step that have no meaning between messages.
pub(super) fn check_steps(steps: &[StepSpec], mistakes: &mut Mistakes) {
    for (index, step) in steps.iter().enumerate() {
        let unused = [
            ("expect_bytes", step.expect_bytes.is_some()),
            ("labels", step.labels.is_some()),
            ("starttls", step.starttls),
        ];
        for (key, _) in unused.iter().filter(|(_, given)| *given) {
            let key = format!("query_response.{index}.{key}");
            mistakes.warning(&key, "only expect and send mean something here", "remove it");
        }
    }
}
