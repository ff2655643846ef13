//! What is asked: made ready once for a module, completed for each hop.

use std::collections::BTreeMap;

use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, REFERER, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, WWW_AUTHENTICATE,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, uri};
use bytes::Bytes;

use super::auth::{Auth, basic_value, sensitive, target_value};
use super::cookies::Jar;
use super::route::Connected;
use super::spec::{HeaderSource, Spec};
use super::user_agent;
use crate::model::{Answer, Mistakes, Unknown};
use crate::net::SecretSource;
use crate::net::http::{Link, Payload, PayloadFile, Protocol, Scheme};
use crate::probe::Ask;
use crate::probe::secret;

/// Names that `http_headers` must not set: they belong to the transport or to other keys.
const RESERVED: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Headers of a module that only the host it was pointed at may see.
const PRIVATE: [HeaderName; 4] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE];

/// A module's request.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) method: Method,
    headers: HeaderMap,
    /// `Host` from `headers`.
    pub(super) host: Option<String>,
    /// Of `http_headers`: these may be secret, and files are read in each run.
    secret_headers: Vec<(HeaderName, SecretSource)>,
    pub(super) auth: Auth,
    pub(super) body: BodySource,
    /// Why no request can be made of this module.
    pub(super) unusable: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum BodySource {
    None,
    Bytes(Bytes),
    File(String),
}

/// What changes from hop to hop.
#[derive(Debug)]
pub(super) struct HopState<'a> {
    pub(super) link: &'a Link,
    pub(super) method: &'a Method,
    pub(super) with_body: bool,
    /// Still at the host that the module was pointed at.
    pub(super) at_home: bool,
    /// The `Host` to present instead of the link's.
    pub(super) host: Option<&'a str>,
    pub(super) jar: &'a Jar,
    pub(super) referer: Option<&'a str>,
}

impl Asking {
    pub(super) fn build(
        spec: &mut Spec,
        defaults: &[(HeaderName, HeaderValue)],
        mistakes: &mut Mistakes,
    ) -> Self {
        let mut unusable = None;
        let method = spec.method.take().filter(|m| !m.is_empty()).unwrap_or_else(|| "GET".into());
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
            let what = format!("{method:?} is no HTTP method");
            mistakes.warning("method", format!("{what}: no run can succeed"), "write GET or POST");
            unusable = Some(what.into());
            Method::GET
        });
        let mut asking = Self {
            method,
            headers: HeaderMap::with_capacity(8),
            host: None,
            secret_headers: Vec::new(),
            auth: Auth::build(spec, mistakes),
            body: body(spec, mistakes),
            unusable,
        };
        asking.headers.insert(USER_AGENT, user_agent());
        for (name, value) in defaults {
            asking.headers.insert(name.clone(), value.clone());
        }
        asking.take_headers(spec.headers.take().unwrap_or_default(), mistakes);
        asking.take_http_headers(spec.http_headers.take().unwrap_or_default(), mistakes);
        asking
    }

    fn take_headers(&mut self, headers: BTreeMap<String, Option<String>>, mistakes: &mut Mistakes) {
        for (name, value) in headers {
            let value = value.unwrap_or_default();
            if name.eq_ignore_ascii_case("host") {
                self.host = Some(value).filter(|host| !host.is_empty());
                continue;
            }
            let Ok((name, value)) = header(&name, &value) else {
                let what = format!("header {name:?} cannot be sent");
                let warned = format!("{what}: no run can succeed");
                mistakes.warning("headers", warned, "use a header's name and a value of one line");
                self.unusable = Some(what.into());
                continue;
            };
            if name == USER_AGENT && value.is_empty() {
                self.headers.remove(USER_AGENT);
            } else if ![CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(&name) {
                self.headers.insert(name, value);
            }
        }
    }

    fn take_http_headers(
        &mut self,
        headers: BTreeMap<String, HeaderSource>,
        mistakes: &mut Mistakes,
    ) {
        for (written, source) in headers {
            if RESERVED.contains(&written.to_ascii_lowercase().as_str()) {
                mistakes.error(
                    "http_headers",
                    format!("http_headers cannot set {written}"),
                    "use the key of its own, or headers",
                );
                continue;
            }
            let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
                let what = format!("{written:?} is no header's name");
                mistakes.error("http_headers", what, "use a name such as X-Scope-OrgID");
                continue;
            };
            for value in source.values.unwrap_or_default() {
                match HeaderValue::try_from(value) {
                    Ok(value) => drop(self.headers.append(name.clone(), value)),
                    Err(_) => mistakes.error(
                        "http_headers",
                        format!("a value of {written} cannot be sent"),
                        "write it on one line",
                    ),
                }
            }
            let secrets = source.secrets.unwrap_or_default().into_iter().map(SecretSource::Inline);
            let files = source
                .files
                .unwrap_or_default()
                .into_iter()
                .map(|path| SecretSource::File(path.into()));
            self.secret_headers.extend(secrets.chain(files).map(|s| (name.clone(), s)));
        }
    }

    /// The headers of a hop but for those that depend on the connection.
    pub(super) async fn headers(
        &self,
        ask: &Ask<'_>,
        hop: &HopState<'_>,
    ) -> Result<HeaderMap, Answer> {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 4);
        let host = hop.host.map_or_else(|| hop.link.authority(), str::to_owned);
        let host = HeaderValue::try_from(host)
            .map_err(|_| Answer::from(Unknown::Setup("the host cannot be sent".into())))?;
        headers.insert(HOST, host);
        for (name, value) in &self.headers {
            if hop.at_home || !PRIVATE.contains(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if hop.at_home {
            self.add_private(ask, hop, &mut headers).await?;
        } else if let Some((name, password)) = &hop.link.userinfo {
            headers.insert(AUTHORIZATION, basic_value(name, password)?);
        }
        if let Some(cookies) = hop.jar.header(hop.link) {
            let cookies = match headers.get(COOKIE).and_then(|own| own.to_str().ok()) {
                Some(own) => format!("{own}; {cookies}"),
                None => cookies,
            };
            headers.insert(COOKIE, sensitive(cookies, "a cookie")?);
        }
        if let Some(referer) = hop.referer.and_then(|r| HeaderValue::from_str(r).ok()) {
            headers.entry(REFERER).or_insert(referer);
        }
        Ok(headers)
    }

    /// What only the host that the module was pointed at may see.
    async fn add_private(
        &self,
        ask: &Ask<'_>,
        hop: &HopState<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Answer> {
        for (name, source) in &self.secret_headers {
            let secret = secret::read(source, ask.deadline).await?;
            headers.append(name.clone(), sensitive(secret.reveal().to_owned(), name.as_str())?);
        }
        if let Some(authorization) = &ask.target.authorization {
            headers.insert(AUTHORIZATION, target_value(authorization, ask.deadline).await?);
        } else if !headers.contains_key(AUTHORIZATION) {
            let value = match &hop.link.userinfo {
                Some((name, password)) => Some(basic_value(name, password)?),
                None => self.auth.value(ask).await?,
            };
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, value);
            }
        }
        for (name, value) in &ask.target.headers {
            if name.eq_ignore_ascii_case("host") {
                continue;
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                Answer::from(Unknown::Setup(format!("{name:?} is no header's name").into()))
            })?;
            let value = sensitive(value.reveal().to_owned(), name.as_str())?;
            headers.insert(name, value);
        }
        Ok(())
    }

    pub(super) async fn payload(&self, with_body: bool) -> Result<Payload, Answer> {
        match &self.body {
            BodySource::Bytes(bytes) if with_body => Ok(Payload::Bytes(bytes.clone())),
            BodySource::File(path) if with_body => {
                let file = PayloadFile::open(path).await;
                file.map(Payload::File).map_err(|error| {
                    Unknown::Setup(format!("body_file {path}: {error}").into()).into()
                })
            }
            _ => Ok(Payload::Empty),
        }
    }
}

/// The request as it goes over a connection.
pub(super) fn request(
    connected: &Connected,
    hop: &HopState<'_>,
    mut headers: HeaderMap,
    payload: Payload,
) -> Result<Request<Payload>, Answer> {
    let path = hop.link.path.clone();
    let unsendable = || Answer::from(Unknown::Setup("the URL cannot be sent".into()));
    let uri = if connected.protocol == Protocol::Http1 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if connected.absolute_form {
            let authority = hop.host.map_or_else(|| hop.link.authority(), str::to_owned);
            absolute(hop.link.scheme, authority.as_bytes(), path).ok_or_else(unsendable)?
        } else {
            Uri::from(path)
        }
    } else {
        let authority = headers.remove(HOST).ok_or_else(unsendable)?;
        for name in [CONNECTION, UPGRADE] {
            headers.remove(name);
        }
        absolute(hop.link.scheme, authority.as_bytes(), path).ok_or_else(unsendable)?
    };
    if let Some(value) = &connected.proxy_authorization {
        let value = sensitive(value.clone(), "the proxy's credentials")?;
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    let mut request = Request::new(payload);
    *request.method_mut() = hop.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn absolute(scheme: Scheme, authority: &[u8], path: uri::PathAndQuery) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => uri::Scheme::HTTP,
        Scheme::Https => uri::Scheme::HTTPS,
    });
    parts.authority = Some(uri::Authority::try_from(authority).ok()?);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ::http::Error> {
    Ok((HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?))
}

fn body(spec: &mut Spec, mistakes: &mut Mistakes) -> BodySource {
    let body = spec.body.take().filter(|body| !body.is_empty());
    let file = spec.body_file.take().filter(|file| !file.is_empty());
    if body.is_some() && file.is_some() {
        mistakes.error("body_file", "body and body_file exclude each other", "keep one of them");
    }
    match (body, file) {
        (Some(body), _) => BodySource::Bytes(body.into()),
        (None, Some(file)) => BodySource::File(file),
        (None, None) => BodySource::None,
    }
}
