//! OAuth 2: fetching a token before the question, and keeping it until it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::auth::{basic_value, source};
use super::jwt::{Assertion, JWT_BEARER};
use super::proxying::{ProxyKeys, Proxying};
use super::route::{Route, Speaks};
use super::spec::OAuth2Spec;
use super::user_agent;
use crate::model::{Answer, Fault, Mistakes, Secret, Unknown, shown_url};
use crate::net::SecretSource;
use crate::net::http::{Link, Payload};
use crate::net::{Deadline, IpPreference, Stopwatch, TlsClient};
use crate::probe::Ask;
use crate::probe::secret;

/// The largest answer of a token endpoint.
const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// A token is not used in the last moments of its life.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::probe) struct OAuth2 {
    client_id: String,
    grant: Grant,
    url: Link,
    scopes: String,
    params: BTreeMap<String, String>,
    tls: TlsClient,
    proxying: Proxying,
    /// Held while a token is fetched, so that many runs ask for one.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
enum Grant {
    ClientCredentials(Option<SecretSource>),
    JwtBearer(Box<Assertion>),
}

#[derive(Debug)]
struct Kept {
    token: Token,
    /// `None`: it is good for one run.
    ends: Option<Instant>,
    /// A later run than the one that fetched it has it too.
    reused: bool,
    /// Whether the endpoint wants the client's credentials in the form.
    in_form: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Box<str>,
    pub(super) secret: Arc<Secret>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<Secret>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl OAuth2 {
    pub(super) fn build(mut spec: OAuth2Spec, mistakes: &mut Mistakes) -> Option<Self> {
        let client_id = spec.client_id.take().filter(|id| !id.is_empty());
        let token_url = spec.token_url.take().filter(|url| !url.is_empty());
        if client_id.is_none() {
            mistakes.error("client_id", "oauth2 needs a client_id", "set it");
        }
        let url = token_url.as_deref().and_then(Link::absolute);
        if url.is_none() {
            let hint = "set the http or https URL of the token endpoint";
            mistakes.error("token_url", "oauth2 needs a token_url", hint);
        }
        let proxying = Proxying::build(
            ProxyKeys {
                url: spec.proxy_url.take(),
                no_proxy: spec.no_proxy.take(),
                from_environment: spec.proxy_from_environment,
                connect_header: spec.proxy_connect_header.take(),
            },
            mistakes,
        );
        let settings = spec.tls_config.take().unwrap_or_default();
        mistakes.within("tls_config", |m| settings.check(m));
        let client_id = client_id?;
        let grant = Grant::build(&mut spec, &client_id, token_url.as_deref(), mistakes)?;
        Some(Self {
            client_id,
            grant,
            url: url?,
            scopes: spec.scopes.unwrap_or_default().join(" "),
            params: spec.endpoint_params.unwrap_or_default(),
            tls: TlsClient::new(settings),
            proxying,
            kept: Mutex::new(None),
        })
    }

    /// A token that is good now: the last one while it lasts, or a new one.
    pub(super) async fn token(&self, ask: &Ask<'_>) -> Result<Token, Answer> {
        let late = |_| self.unusable("no answer in time");
        let mut kept = ask.deadline.limit(self.kept.lock()).await.map_err(late)?;
        if let Some(last) = &mut *kept
            && last.ends.is_some_and(|ends| Instant::now() < ends)
        {
            last.reused = true;
            return Ok(last.token.clone());
        }
        let in_form = kept.as_ref().is_some_and(|last| last.in_form);
        let fresh = self.fetch(ask, in_form).await?;
        let token = fresh.token.clone();
        *kept = Some(fresh);
        Ok(token)
    }

    /// Throws the kept token away: the target no longer takes it. Says whether it was from an earlier run.
    pub(super) async fn forget(&self, deadline: Deadline) -> bool {
        // Another run may be fetching one, and have more time for it than this one has.
        let Ok(mut kept) = deadline.limit(self.kept.lock()).await else { return false };
        let Some(last) = &mut *kept else { return false };
        let was_kept = last.reused && last.ends.is_some();
        last.ends = None;
        was_kept
    }

    async fn fetch(&self, ask: &Ask<'_>, in_form: bool) -> Result<Kept, Answer> {
        let first = self.request(ask, in_form).await;
        let tries_form = !in_form && matches!(self.grant, Grant::ClientCredentials(_));
        match first {
            Err(Answer::Fail(Fault::AuthRefused { .. })) if tries_form => {
                self.request(ask, true).await
            }
            other => other,
        }
    }

    async fn request(&self, ask: &Ask<'_>, in_form: bool) -> Result<Kept, Answer> {
        let (form, authorization) = self.form(ask, in_form).await?;
        let route = Route {
            net: ask.net,
            tls: &self.tls,
            proxying: &self.proxying,
            preference: IpPreference::default(),
            speaks: Speaks::Http1,
            deadline: ask.deadline,
            source: None,
        };
        // The phases of a run are the target's.
        let mut watch = Stopwatch::default();
        let asked = self.ask_endpoint(&route, form, authorization, &mut watch).await;
        let (code, body) = asked.map_err(|answer| self.unusable(&answer.to_string()))?;
        match code {
            200..300 => self.read(&body, in_form),
            400 | 401 | 403 => Err(Fault::AuthRefused { code }.into()),
            _ => Err(self.unusable(&format!("status {code}"))),
        }
    }

    async fn ask_endpoint(
        &self,
        route: &Route<'_>,
        form: String,
        authorization: Option<HeaderValue>,
        watch: &mut Stopwatch,
    ) -> Result<(u16, Vec<u8>), Answer> {
        let ip = match self.url.literal() {
            Some(ip) => ip,
            None => route.resolve_ours(&self.url.host, watch).await?,
        };
        let connected = route.open(&self.url, Some(ip), &self.url.host, watch).await?;
        if let Some(fault) = connected.session.as_ref().and_then(|s| s.refusal()) {
            return Err(fault.clone().into());
        }
        let mut request = Request::new(Payload::Bytes(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = if connected.absolute_form {
            self.url.to_string().parse().map_err(|_| self.unusable("its URL cannot be sent"))?
        } else {
            Uri::from(self.url.path.clone())
        };
        *request.headers_mut() = self.headers(authorization)?;
        if let Some(value) = connected.proxy_authorization.clone() {
            let value = super::auth::sensitive(value, "the proxy's credentials")?;
            request.headers_mut().insert(::http::header::PROXY_AUTHORIZATION, value);
        }
        let (mut response, _) = connected.exchange(request, route.deadline, watch).await?;
        let code = response.head.status.as_u16();
        Ok((code, response.collect(MAX_TOKEN_BYTES, route.deadline).await?))
    }

    fn headers(&self, authorization: Option<HeaderValue>) -> Result<HeaderMap, Answer> {
        let mut headers = HeaderMap::with_capacity(6);
        let host = HeaderValue::try_from(self.url.authority())
            .map_err(|_| self.unusable("its host cannot be sent"))?;
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, user_agent());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        headers.insert(::http::header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    async fn form(
        &self,
        ask: &Ask<'_>,
        in_form: bool,
    ) -> Result<(String, Option<HeaderValue>), Answer> {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        let mut authorization = None;
        match &self.grant {
            Grant::ClientCredentials(secret) => {
                pairs.push(("grant_type", "client_credentials".to_owned()));
                let secret = match secret {
                    Some(secret) => secret::read(secret, ask.deadline).await?,
                    None => Secret::default(),
                };
                if in_form {
                    pairs.push(("client_id", self.client_id.clone()));
                    pairs.push(("client_secret", secret.reveal().to_owned()));
                } else {
                    let coded = |text: &str| {
                        url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                    };
                    let value = basic_value(&coded(&self.client_id), &coded(secret.reveal()))?;
                    authorization = Some(value);
                }
            }
            Grant::JwtBearer(assertion) => {
                pairs.push(("grant_type", JWT_BEARER.to_owned()));
                let signed = assertion.sign(ask.deadline, &self.scopes).await?;
                pairs.push(("assertion", signed.reveal().to_owned()));
            }
        }
        // A serializer cannot be kept across a wait.
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs);
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes);
        }
        for (name, value) in &self.params {
            form.append_pair(name, value);
        }
        Ok((form.finish(), authorization))
    }

    fn read(&self, body: &[u8], in_form: bool) -> Result<Kept, Answer> {
        let answer: TokenAnswer = serde_json::from_slice(body)
            .map_err(|_| self.unusable("the answer is not the JSON of a token"))?;
        let secret = answer
            .access_token
            .filter(|token| !token.reveal().is_empty())
            .ok_or_else(|| self.unusable("the answer has no access_token"))?;
        let seconds = match answer.expires_in {
            Some(serde_json::Value::Number(n)) => n.as_u64(),
            // Some endpoints write the number as text.
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let lasts = seconds.map(Duration::from_secs).map(|l| l.saturating_sub(EXPIRY_MARGIN));
        let kind = match answer.token_type.as_deref() {
            None => "Bearer",
            Some(kind) if kind.eq_ignore_ascii_case("bearer") => "Bearer",
            Some(kind) => kind,
        };
        let token = Token { kind: kind.into(), secret: Arc::new(secret) };
        let ends = lasts.and_then(|lasts| Instant::now().checked_add(lasts));
        Ok(Kept { token, ends, reused: false, in_form })
    }

    /// Without a token we cannot ask; the target is not to blame.
    fn unusable(&self, why: &str) -> Answer {
        let url = shown_url(&self.url.to_string());
        Unknown::Setup(format!("no token from {url}: {why}").into()).into()
    }
}

impl Grant {
    fn build(
        spec: &mut OAuth2Spec,
        client_id: &str,
        token_url: Option<&str>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let secret = source(
            "client_secret",
            spec.client_secret.take(),
            spec.client_secret_file.take(),
            spec.client_secret_ref.take(),
            mistakes,
        );
        match spec.grant_type.as_deref().unwrap_or_default() {
            "" | "client_credentials" => Some(Self::ClientCredentials(secret)),
            JWT_BEARER => {
                let assertion = Assertion::build(spec, client_id, token_url?, mistakes)?;
                Some(Self::JwtBearer(Box::new(assertion)))
            }
            other => {
                mistakes.error(
                    "grant_type",
                    format!("there is no grant type {other:?}"),
                    format!("use client_credentials or {JWT_BEARER}"),
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_does_not_wait_longer_than_it_has_for_another_s_token() {
        let spec = OAuth2Spec {
            client_id: Some("us".into()),
            token_url: Some("http://127.0.0.1:1/token".into()),
            ..OAuth2Spec::default()
        };
        let oauth2 = OAuth2::build(spec, &mut Mistakes::default()).unwrap();
        let fetching = oauth2.kept.lock().await;
        let began = Instant::now();
        assert!(!oauth2.forget(Deadline::after(Duration::from_secs(2))).await);
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        drop(fetching);
    }
}
