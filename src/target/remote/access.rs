//! How a service that knows targets is talked to: credentials, certificates, proxy; one bounded exchange.
//!
//! Files are read anew for every question, so that what is rotated needs no reload.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Proxy, RequestBuilder, Url, redirect};
use serde::Deserialize;

use crate::model::{Authorization, Mistakes, Secret};
use crate::net::{Resolver, SecretSource, causes, http_client};
use crate::target::MAX_FILE_BYTES;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Prometheus's `basic_auth`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    pub password: Option<Secret>,
    pub password_file: Option<String>,
}

/// What of Prometheus's `tls_config` names files, and whom to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// How to get in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Access {
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: TlsFiles,
    pub(super) proxy: Option<Secret>,
    pub(super) follow_redirects: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Credentials {
    Basic { username: String, password: Option<SecretSource> },
    Scheme { scheme: String, secret: SecretSource },
}

/// The keys of a source that say how to get in, as written.
pub(super) struct Written {
    pub(super) basic_auth: Option<BasicAuth>,
    pub(super) authorization: Option<Authorization>,
    pub(super) tls_config: Option<TlsFiles>,
    pub(super) proxy_url: Option<Secret>,
    pub(super) follow_redirects: bool,
}

impl Written {
    pub(super) fn build(self, mistakes: &mut Mistakes) -> Access {
        if self.basic_auth.is_some() && self.authorization.is_some() {
            let hint = "keep one of them";
            mistakes.error("authorization", "basic_auth and authorization are both given", hint);
        }
        let tls = self.tls_config.unwrap_or_default();
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            let hint = "a client certificate needs cert_file and key_file";
            mistakes.error("tls_config", "one of cert_file and key_file is missing", hint);
        }
        if let Some(proxy) = &self.proxy_url
            && Proxy::all(proxy.reveal()).is_err()
        {
            let hint = "write http://host:port or socks5h://host:port";
            mistakes.error("proxy_url", "proxy_url is not a proxy's URL", hint);
        }
        let credentials = match (self.basic_auth, self.authorization) {
            (Some(basic), _) => Some(basic_auth(basic, mistakes)),
            (None, Some(authorization)) => scheme(authorization, mistakes),
            (None, None) => None,
        };
        let follow_redirects = self.follow_redirects;
        Access { credentials, tls, proxy: self.proxy_url, follow_redirects }
    }
}

fn basic_auth(basic: BasicAuth, mistakes: &mut Mistakes) -> Credentials {
    let BasicAuth { username, password, password_file } = basic;
    let mut found = None;
    mistakes.within("basic_auth", |m| {
        found = SecretSource::pick("password", password, password_file, m);
    });
    Credentials::Basic { username, password: found }
}

fn scheme(authorization: Authorization, mistakes: &mut Mistakes) -> Option<Credentials> {
    let Authorization { scheme, credentials, credentials_file } = authorization;
    let mut secret = None;
    mistakes.within("authorization", |m| {
        secret = SecretSource::require("credentials", credentials, credentials_file, m);
    });
    secret.map(|secret| Credentials::Scheme { scheme, secret })
}

impl Access {
    /// A client with the files as they are now, which asks `names` for names.
    pub(super) async fn client(&self, names: &Resolver) -> Result<Client, String> {
        let redirects = if self.follow_redirects {
            redirect::Policy::limited(MAX_REDIRECTS)
        } else {
            redirect::Policy::none()
        };
        let mut builder = http_client(names)
            .redirect(redirects)
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_danger_accept_invalid_certs(self.tls.insecure_skip_verify);
        if let Some(path) = &self.tls.ca_file {
            let pem = read_file("ca_file", path).await?;
            let trusted = Certificate::from_pem_bundle(&pem)
                .map_err(|error| format!("ca_file {path}: {}", causes(&error)))?;
            builder = builder.tls_certs_only(trusted);
        }
        if let (Some(cert), Some(key)) = (&self.tls.cert_file, &self.tls.key_file) {
            let mut pem = read_file("cert_file", cert).await?;
            pem.push(b'\n');
            pem.extend(read_file("key_file", key).await?);
            let identity = Identity::from_pem(&pem).map_err(|error| {
                format!("cert_file {cert} and key_file {key}: {}", causes(&error))
            })?;
            builder = builder.identity(identity);
        }
        if let Some(proxy) = &self.proxy {
            let proxy =
                Proxy::all(proxy.reveal()).map_err(|_| "proxy_url is not a URL".to_owned())?;
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(|error| causes(&error))
    }

    /// The JSON behind a URL: status 200, `application/json`, a bounded body.
    pub(super) async fn get(
        &self,
        client: &Client,
        url: Url,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Vec<u8>, String> {
        let mut request = client.get(url).header(ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = self.authorize(request).await?;
        let mut response = request.send().await.map_err(|error| causes(&error.without_url()))?;
        let status = response.status();
        if status.as_u16() != 200 {
            return Err(format!("answered {status}"));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(format!("answered with content type {essence:?}, not application/json"));
        }
        let mut body = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| causes(&error.without_url()))?
        {
            body.extend_from_slice(&piece);
            if body.len() as u64 > MAX_FILE_BYTES {
                return Err(format!("answered more than {MAX_FILE_BYTES} bytes"));
            }
        }
        Ok(body)
    }

    async fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        let read = async |secret: &SecretSource| secret.read().await.map_err(|e| e.to_string());
        match &self.credentials {
            None => Ok(request),
            Some(Credentials::Basic { username, password }) => {
                let password = match password {
                    Some(password) => Some(read(password).await?),
                    None => None,
                };
                Ok(request.basic_auth(username, password.as_ref().map(Secret::reveal)))
            }
            Some(Credentials::Scheme { scheme, secret }) => {
                let secret = read(secret).await?;
                let mut value = HeaderValue::from_str(&format!("{scheme} {}", secret.reveal()))
                    .map_err(|_| {
                        "the credentials have signs that a header cannot have".to_owned()
                    })?;
                value.set_sensitive(true);
                Ok(request.header(AUTHORIZATION, value))
            }
        }
    }
}

async fn read_file(key: &str, path: &str) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("cannot read {key} {path}: {error}"))
}

/// A URL that can be asked. Credentials do not belong into it: it is shown.
pub(super) fn parse_url(key: &str, text: &str, mistakes: &mut Mistakes) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url.filter(Url::has_host) else {
        let hint = "write http:// or https://, a host, and a path";
        mistakes.error(key, format!("{key} is not a URL"), hint);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "use basic_auth: the URL is shown in metrics and logs";
        mistakes.error(key, format!("{key} has credentials in it"), hint);
        return None;
    }
    Some(url)
}
