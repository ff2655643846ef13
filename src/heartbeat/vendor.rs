//! The table of services: how each is beaten, told of failure, and asked what it recorded.
//!
//! A row turns the words of the configuration into a [`Plan`]; what follows is the same for all.

use std::time::Duration;

use url::Url;

use super::spec::{Auth, ReadBackSpec, Spec};
use crate::model::{Mistakes, Pattern, Secret};

/// What to do for one beat, with every secret filled in.
#[derive(Debug, Clone)]
pub struct Plan {
    pub beat: Request,
    /// How the service is told of a failure; `None` where it has no way.
    pub fail: Option<Request>,
    /// The same host's stand-in: scheme, host and port to use instead.
    pub fallback: Option<Url>,
    pub accept: Accept,
    pub read_back: Option<ReadBack>,
}

/// One HTTP request. Its URL is a secret.
#[derive(Clone)]
pub struct Request {
    pub method: reqwest::Method,
    pub url: Url,
    pub headers: Vec<(String, Secret)>,
    pub body: Option<String>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What the service answers when it took a beat.
#[derive(Debug, Clone, Default)]
pub struct Accept {
    /// Any 2xx when empty.
    pub codes: Vec<u16>,
    pub body: Option<Pattern>,
}

impl Accept {
    pub fn code(&self, code: u16) -> bool {
        if self.codes.is_empty() { (200..300).contains(&code) } else { self.codes.contains(&code) }
    }

    pub fn body(&self, body: &[u8]) -> bool {
        self.body.as_ref().is_none_or(|pattern| pattern.is_match(body))
    }
}

/// How to ask when the service saw the last beat.
#[derive(Debug, Clone)]
pub struct ReadBack {
    pub request: Request,
    pub fields: Fields,
    pub max_lag: Duration,
}

/// Where an answer says when, and whether the switch is watching at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointers {
    Cronitor,
    Healthchecks,
    Snitch,
    Opsgenie,
}

#[derive(Debug, Clone)]
pub enum Fields {
    Known(Pointers),
    At(String),
}

impl Fields {
    pub fn last_beat(&self) -> &str {
        match self {
            Self::Known(Pointers::Cronitor) => "/latest_event/stamp",
            Self::Known(Pointers::Healthchecks) => "/last_ping",
            Self::Known(Pointers::Snitch) => "/checked_in_at",
            Self::Known(Pointers::Opsgenie) => "/data/lastPingTime",
            Self::At(pointer) => pointer,
        }
    }

    /// The JSON pointer of what says that nobody is watching, and the value that says so.
    pub fn muted(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Known(Pointers::Cronitor) => &[("/paused", "true"), ("/disabled", "true")],
            Self::Known(Pointers::Healthchecks) => &[("/status", "paused")],
            Self::Known(Pointers::Snitch) => &[("/status", "paused")],
            Self::Known(Pointers::Opsgenie) => &[("/data/enabled", "false")],
            Self::At(_) => &[],
        }
    }
}

/// A secret that is written down or lies in a file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub value: Option<&'a Secret>,
    pub file: Option<&'a str>,
}

impl<'a> Source<'a> {
    pub fn of(value: Option<&'a Secret>, file: Option<&'a String>) -> Self {
        Self { value, file: file.map(String::as_str) }
    }

    const fn is_set(self) -> bool {
        self.value.is_some() || self.file.is_some()
    }
}

/// Why no request could be made: our configuration, not the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    #[error("{key} cannot be read: {detail}")]
    File { key: &'static str, detail: String },
    #[error("{0} is not set")]
    Missing(&'static str),
    #[error("{0} is not an http URL")]
    Url(&'static str),
    #[error("{0} cannot be sent as a header")]
    Header(String),
    #[error("no service is configured")]
    NoService,
}

/// Reads secrets; files are read anew for each plan, so that a rotated one is used at once.
pub trait Secrets {
    fn read(&self, path: &str) -> Result<String, String>;
}

/// Reads them from the file system.
#[derive(Debug, Clone, Copy)]
pub struct Files;

/// Longer is no secret but a mistake.
const MAX_SECRET_BYTES: u64 = 64 << 10;

impl Secrets for Files {
    fn read(&self, path: &str) -> Result<String, String> {
        use std::io::Read as _;

        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let mut text = String::new();
        file.take(MAX_SECRET_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text.trim().to_owned())
    }
}

/// What a beat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Ok,
    Fail,
}

impl Signal {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
        }
    }
}

/// What goes into a request beside its address.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub heartbeat: &'a str,
    pub watchpost: &'a str,
    /// Which evidence, or which gate is closed. Never contents of an alert.
    pub text: &'a str,
}

struct Maker<'a> {
    secrets: &'a dyn Secrets,
    message: Message<'a>,
}

/// What `spec` asks for, in HTTP.
pub fn plan(spec: &Spec, message: Message<'_>, secrets: &dyn Secrets) -> Result<Plan, NoPlan> {
    let maker = Maker { secrets, message };
    if let Some(it) = &spec.cronitor {
        return maker.cronitor(it);
    }
    if let Some(it) = &spec.healthchecks {
        return maker.healthchecks(it);
    }
    if let Some(it) = &spec.deadmanssnitch {
        return maker.snitch(it);
    }
    if let Some(it) = &spec.betterstack {
        let url = maker.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let fail = post(below(&url, "fail"), message.text);
        return Ok(Plan::simple(post(url, message.text), Some(fail)));
    }
    if let Some(it) = &spec.uptime_kuma {
        let url = maker.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let mut plan = Plan::simple(maker.kuma(&url, "up"), Some(maker.kuma(&url, "down")));
        plan.accept = Accept { codes: vec![200], body: Pattern::parse(r#""ok"\s*:\s*true"#).ok() };
        return Ok(plan);
    }
    if let Some(it) = &spec.opsgenie {
        return maker.opsgenie(it);
    }
    if let Some(it) = &spec.jsm {
        return maker.jsm(it);
    }
    if let Some(it) = &spec.gatus {
        return maker.gatus(it);
    }
    if let Some(it) = &spec.goalert {
        let url = maker.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        return Ok(Plan::simple(bare_post(url), None));
    }
    if let Some(it) = &spec.grafana_oncall {
        let url = maker.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        return Ok(Plan::simple(bare_post(url), None));
    }
    if let Some(it) = &spec.sentry {
        return maker.sentry(it);
    }
    spec.http.as_ref().map_or(Err(NoPlan::NoService), |it| maker.http(it))
}

impl Plan {
    fn simple(beat: Request, fail: Option<Request>) -> Self {
        Self { beat, fail, fallback: None, accept: Accept::default(), read_back: None }
    }
}

/// `url` with `tail` as one more step of its path.
fn below(url: &Url, tail: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(tail);
    }
    url
}

fn with_query(url: &Url, pairs: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !pairs.iter().any(|(ours, _)| ours == name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(pairs);
    url
}

fn last_step(url: &Url) -> String {
    let mut steps = url.path_segments().into_iter().flatten();
    steps.rfind(|step| !step.is_empty()).unwrap_or_default().to_owned()
}

fn get(url: Url) -> Request {
    Request { method: reqwest::Method::GET, url, headers: Vec::new(), body: None }
}

fn bare_post(url: Url) -> Request {
    Request { method: reqwest::Method::POST, ..get(url) }
}

fn post(url: Url, text: &str) -> Request {
    let headers = vec![("content-type".to_owned(), Secret::new("text/plain".to_owned()))];
    Request { headers, body: Some(text.to_owned()), ..bare_post(url) }
}

impl Maker<'_> {
    fn secret(&self, source: Source<'_>, key: &'static str) -> Result<Secret, NoPlan> {
        if let Some(value) = source.value {
            return Ok(value.clone());
        }
        let path = source.file.ok_or(NoPlan::Missing(key))?;
        let text = self.secrets.read(path).map_err(|detail| NoPlan::File { key, detail })?;
        if text.is_empty() {
            return Err(NoPlan::Missing(key));
        }
        Ok(Secret::new(text))
    }

    fn url(&self, source: Source<'_>, key: &'static str) -> Result<Url, NoPlan> {
        http_url(self.secret(source, key)?.reveal(), key)
    }

    fn kuma(&self, url: &Url, status: &str) -> Request {
        // Version 1 takes nothing but GET.
        get(with_query(url, &[("status", status), ("msg", self.message.text)]))
    }

    fn cronitor(&self, it: &super::spec::Cronitor) -> Result<Plan, NoPlan> {
        let url = self.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let mut pairs = vec![("host", self.message.watchpost), ("message", self.message.text)];
        if let Some(environment) = &it.environment {
            pairs.push(("env", environment));
        }
        let beat = get(with_query(&url, &pairs));
        pairs.push(("state", "fail"));
        let fail = get(with_query(&url, &pairs));
        let fallback = match it.fallback_url.as_str() {
            "" => None,
            text => Some(http_url(text, "fallback_url")?),
        };
        let read_back = self.read_back(
            &it.api_url,
            &last_step(&url),
            Source::of(it.api_key.as_ref(), it.api_key_file.as_ref()),
            Pointers::Cronitor,
            it.recorded_max_lag.get(),
        )?;
        Ok(Plan { fallback, read_back, ..Plan::simple(beat, Some(fail)) })
    }

    fn healthchecks(&self, it: &super::spec::Healthchecks) -> Result<Plan, NoPlan> {
        let url = self.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let fail = post(below(&url, "fail"), self.message.text);
        let check = it.check.clone().unwrap_or_else(|| last_step(&url));
        let read_back = self.read_back(
            &it.api_url,
            &check,
            Source::of(it.api_key.as_ref(), it.api_key_file.as_ref()),
            Pointers::Healthchecks,
            it.recorded_max_lag.get(),
        )?;
        let beat = post(url, self.message.text);
        // 201 would mean that a check was made on the fly; we never ask for that. The hosted service answers "OK (not
        // found)" and "OK (rate limited)" to what it throws away.
        let accept = Accept { codes: vec![200], body: Pattern::parse(r"\AOK\s*\z").ok() };
        Ok(Plan { accept, read_back, ..Plan::simple(beat, Some(fail)) })
    }

    fn snitch(&self, it: &super::spec::DeadMansSnitch) -> Result<Plan, NoPlan> {
        let url = self.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let beat = get(with_query(&url, &[("m", self.message.text)]));
        let fail = get(with_query(&url, &[("m", self.message.text), ("s", "1")]));
        let read_back = self.read_back(
            &it.api_url,
            &last_step(&url),
            Source::of(it.api_key.as_ref(), it.api_key_file.as_ref()),
            Pointers::Snitch,
            it.recorded_max_lag.get(),
        )?;
        Ok(Plan { read_back, ..Plan::simple(beat, Some(fail)) })
    }

    fn read_back(
        &self,
        api_url: &str,
        id: &str,
        key: Source<'_>,
        pointers: Pointers,
        max_lag: Duration,
    ) -> Result<Option<ReadBack>, NoPlan> {
        if !key.is_set() {
            return Ok(None);
        }
        let key = self.secret(key, "api_key")?;
        let mut request = get(below(&http_url(api_url, "api_url")?, id));
        request.headers.push(match pointers {
            Pointers::Healthchecks => ("x-api-key".to_owned(), key),
            _ => basic(key.reveal(), ""),
        });
        Ok(Some(ReadBack { request, fields: Fields::Known(pointers), max_lag }))
    }

    fn opsgenie(&self, it: &super::spec::Opsgenie) -> Result<Plan, NoPlan> {
        let api = http_url(&it.api_url, "api_url")?;
        let url = below(&below(&below(&below(&api, "v2"), "heartbeats"), &it.heartbeat), "ping");
        let key =
            self.secret(Source::of(it.api_key.as_ref(), it.api_key_file.as_ref()), "api_key")?;
        let mut beat = get(url.clone());
        let authorization = Secret::new(format!("GenieKey {}", key.reveal()));
        beat.headers.push(("authorization".to_owned(), authorization.clone()));
        // An unknown name is answered with 202 as well: ask for the heartbeat itself.
        let mut asked = url;
        if let Ok(mut path) = asked.path_segments_mut() {
            path.pop();
        }
        let mut request = get(asked);
        request.headers.push(("authorization".to_owned(), authorization));
        let fields = Fields::Known(Pointers::Opsgenie);
        let max_lag = super::spec::DEFAULT_RECORDED_MAX_LAG.get();
        let accept = Accept { codes: vec![200, 202], body: None };
        let read_back = Some(ReadBack { request, fields, max_lag });
        Ok(Plan { accept, read_back, ..Plan::simple(beat, None) })
    }

    fn jsm(&self, it: &super::spec::Jsm) -> Result<Plan, NoPlan> {
        let mut url = http_url(&it.api_url, "api_url")?;
        for step in [&it.cloud_id, "v1", "teams", &it.team_id, "heartbeats", "ping"] {
            url = below(&url, step);
        }
        let source = Source::of(it.api_token.as_ref(), it.api_token_file.as_ref());
        let token = self.secret(source, "api_token")?;
        let mut beat = bare_post(with_query(&url, &[("name", &it.heartbeat)]));
        beat.headers.push(basic(&it.email, token.reveal()));
        let accept = Accept { codes: vec![200, 202], body: None };
        Ok(Plan { accept, ..Plan::simple(beat, None) })
    }

    fn gatus(&self, it: &super::spec::Gatus) -> Result<Plan, NoPlan> {
        let mut url = http_url(&it.url, "url")?;
        for step in ["api", "v1", "endpoints", &it.endpoint, "external"] {
            url = below(&url, step);
        }
        let token = self.secret(Source::of(it.token.as_ref(), it.token_file.as_ref()), "token")?;
        let request = |pairs: &[(&str, &str)]| {
            let mut request = bare_post(with_query(&url, pairs));
            request.headers.push(bearer(&token));
            request
        };
        let beat = request(&[("success", "true")]);
        let fail = request(&[("success", "false"), ("error", self.message.text)]);
        Ok(Plan {
            accept: Accept { codes: vec![200], body: None },
            ..Plan::simple(beat, Some(fail))
        })
    }

    fn sentry(&self, it: &super::spec::Sentry) -> Result<Plan, NoPlan> {
        let url = self.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let environment = it.environment.as_deref().unwrap_or("production");
        let request = |status| {
            bare_post(with_query(&url, &[("status", status), ("environment", environment)]))
        };
        let accept = Accept { codes: vec![200, 202], body: None };
        Ok(Plan { accept, ..Plan::simple(request("ok"), Some(request("error"))) })
    }

    fn http(&self, it: &super::spec::HttpBeat) -> Result<Plan, NoPlan> {
        let url = self.url(Source::of(it.url.as_ref(), it.url_file.as_ref()), "url")?;
        let beat = self.custom(it, url, Signal::Ok)?;
        let fail_url = Source::of(it.fail_url.as_ref(), it.fail_url_file.as_ref());
        let fail = if fail_url.is_set() {
            Some(self.custom(it, self.url(fail_url, "fail_url")?, Signal::Fail)?)
        } else {
            None
        };
        let accept = Accept { codes: it.accepted_codes.clone(), body: it.accepted_body.clone() };
        let read_back = match &it.read_back {
            Some(spec) if spec.enabled => Some(self.custom_read_back(spec)?),
            _ => None,
        };
        Ok(Plan { accept, read_back, ..Plan::simple(beat, fail) })
    }

    fn custom(
        &self,
        it: &super::spec::HttpBeat,
        url: Url,
        signal: Signal,
    ) -> Result<Request, NoPlan> {
        let method = reqwest::Method::from_bytes(it.method.as_bytes())
            .map_err(|_| NoPlan::Missing("method"))?;
        let mut headers: Vec<(String, Secret)> =
            it.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.extend(self.authorization(&it.auth)?);
        let is_json = headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("content-type") && value.reveal().contains("json")
        }) || it.body.as_ref().is_some_and(|body| body.trim_start().starts_with('{'));
        let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if it.body.is_some() && !has_type {
            let kind = if is_json { "application/json" } else { "text/plain" };
            headers.push(("content-type".to_owned(), Secret::new(kind.to_owned())));
        }
        let body = it.body.as_ref().map(|body| self.fill(body, signal, is_json));
        Ok(Request { method, url, headers, body })
    }

    fn fill(&self, body: &str, signal: Signal, is_json: bool) -> String {
        let escaped = |text: &str| if is_json { json_escaped(text) } else { text.to_owned() };
        body.replace("{name}", &escaped(self.message.heartbeat))
            .replace("{watchpost}", &escaped(self.message.watchpost))
            .replace("{status}", signal.word())
            .replace("{message}", &escaped(self.message.text))
    }

    fn custom_read_back(&self, spec: &ReadBackSpec) -> Result<ReadBack, NoPlan> {
        let url =
            self.url(Source::of(spec.url.as_ref(), spec.url_file.as_ref()), "read_back.url")?;
        let mut request = get(url);
        request.headers.extend(self.authorization(&spec.auth)?);
        Ok(ReadBack {
            request,
            fields: Fields::At(spec.pointer.clone()),
            max_lag: spec.max_lag.get(),
        })
    }

    fn authorization(&self, auth: &Auth) -> Result<Option<(String, Secret)>, NoPlan> {
        let token = Source::of(auth.bearer.as_ref(), auth.bearer_file.as_ref());
        if token.is_set() {
            return Ok(Some(bearer(&self.secret(token, "auth.bearer")?)));
        }
        let Some(username) = &auth.username else { return Ok(None) };
        let password = Source::of(auth.password.as_ref(), auth.password_file.as_ref());
        let password = if password.is_set() {
            self.secret(password, "auth.password")?
        } else {
            Secret::default()
        };
        Ok(Some(basic(username, password.reveal())))
    }
}

/// `text` as the inside of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.unwrap_or_default().to_owned()
}

fn bearer(token: &Secret) -> (String, Secret) {
    ("authorization".to_owned(), Secret::new(format!("Bearer {}", token.reveal())))
}

fn basic(username: &str, password: &str) -> (String, Secret) {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    ("authorization".to_owned(), Secret::new(format!("Basic {pair}")))
}

fn http_url(text: &str, key: &'static str) -> Result<Url, NoPlan> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or(NoPlan::Url(key))
}

/// The shortest time between two beats that the service takes, or for which it is made.
pub(super) fn min_interval(spec: &Spec) -> Duration {
    if let Some(it) = &spec.healthchecks {
        // Five a minute is the limit of the hosted service; a file may hold its URL.
        let host = it.url.as_ref().and_then(|url| Url::parse(url.reveal()).ok());
        let is_own = host.is_some_and(|url| url.host_str() != Some("hc-ping.com"));
        return Duration::from_secs(if is_own { 5 } else { 12 });
    }
    if let Some(http) = &spec.http {
        return http.min_interval.map_or(Duration::ZERO, crate::model::Period::get);
    }
    Duration::from_secs(5)
}

/// Whether the service can be told of a failure.
pub(super) fn has_failure_signal(spec: &Spec) -> bool {
    let is_mute = spec.opsgenie.is_some()
        || spec.jsm.is_some()
        || spec.goalert.is_some()
        || spec.grafana_oncall.is_some();
    let has_url =
        |http: &super::spec::HttpBeat| http.fail_url.is_some() || http.fail_url_file.is_some();
    !is_mute && spec.http.as_ref().is_none_or(has_url)
}

/// What a row needs.
pub(super) fn check(spec: &Spec, key: &str, mistakes: &mut Mistakes) {
    let pairs = secrets(spec, key);
    for (name, source, needed) in pairs {
        match (source.value.is_some(), source.file.is_some()) {
            (true, true) => mistakes.error(
                &format!("{name}_file"),
                format!("both {name} and {name}_file are given"),
                "keep one of them",
            ),
            (false, false) if needed => {
                mistakes.error(name, format!("{name} is missing"), format!("set {name}_file"));
            }
            _ => {}
        }
        if let Some(value) = source.value
            && name.ends_with("url")
            && http_url(value.reveal(), "url").is_err()
        {
            mistakes.error(name, "this is not an http URL", "");
        }
    }
    if let (Some(http), "http") = (&spec.http, key) {
        check_http(http, mistakes);
    }
    if spec.fail_after.is_some() && !has_failure_signal(spec) {
        mistakes.warning(
            key,
            "this service has no failure signal, so fail_after does nothing",
            "drop fail_after",
        );
    }
    if spec.opsgenie.is_some() {
        mistakes.warning(key, "Opsgenie shuts down on 2027-04-05", "use jsm");
    }
}

fn check_http(http: &super::spec::HttpBeat, mistakes: &mut Mistakes) {
    if !["GET", "HEAD", "POST", "PUT", "PATCH"].contains(&http.method.as_str()) {
        mistakes.error("method", format!("{:?} carries no beat", http.method), "use POST");
    }
    for (name, value) in &http.headers {
        if header(name, value).is_err() {
            mistakes.error("headers", format!("{name:?} cannot be sent"), "");
        }
    }
    let auth = &http.auth;
    if (auth.bearer.is_some() || auth.bearer_file.is_some()) && auth.username.is_some() {
        mistakes.error("auth", "both bearer and username are given", "keep one of them");
    }
    if let Some(read_back) = &http.read_back
        && !read_back.pointer.starts_with('/')
    {
        mistakes.error("read_back.pointer", "a JSON pointer begins with /", "/latest_event/stamp");
    }
    if http.accepted_codes.iter().any(|code| !(100..600).contains(code)) {
        mistakes.error("accepted_codes", "not a status code", "such as [200, 202]");
    }
}

/// A header as it is sent; its value does not show in a trace.
pub(super) fn header(
    name: &str,
    value: &Secret,
) -> Result<(reqwest::header::HeaderName, reqwest::header::HeaderValue), NoPlan> {
    let wrong = || NoPlan::Header(name.to_owned());
    let known = reqwest::header::HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let mut value = reqwest::header::HeaderValue::from_str(value.reveal()).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((known, value))
}

type NamedSource<'a> = (&'static str, Source<'a>, bool);

fn secrets<'a>(spec: &'a Spec, key: &str) -> Vec<NamedSource<'a>> {
    let url = |value: &'a Option<Secret>, file: &'a Option<String>| {
        ("url", Source::of(value.as_ref(), file.as_ref()), true)
    };
    let optional = |name, value: &'a Option<Secret>, file: &'a Option<String>| {
        (name, Source::of(value.as_ref(), file.as_ref()), false)
    };
    let needed = |name, value: &'a Option<Secret>, file: &'a Option<String>| {
        (name, Source::of(value.as_ref(), file.as_ref()), true)
    };
    let mut all: Vec<NamedSource<'a>> = Vec::new();
    match key {
        "cronitor" => all.extend(spec.cronitor.iter().flat_map(|it| {
            [url(&it.url, &it.url_file), optional("api_key", &it.api_key, &it.api_key_file)]
        })),
        "healthchecks" => all.extend(spec.healthchecks.iter().flat_map(|it| {
            [url(&it.url, &it.url_file), optional("api_key", &it.api_key, &it.api_key_file)]
        })),
        "deadmanssnitch" => all.extend(spec.deadmanssnitch.iter().flat_map(|it| {
            [url(&it.url, &it.url_file), optional("api_key", &it.api_key, &it.api_key_file)]
        })),
        "betterstack" => all.extend(spec.betterstack.iter().map(|it| url(&it.url, &it.url_file))),
        "uptime_kuma" => all.extend(spec.uptime_kuma.iter().map(|it| url(&it.url, &it.url_file))),
        "goalert" => all.extend(spec.goalert.iter().map(|it| url(&it.url, &it.url_file))),
        "grafana_oncall" => {
            all.extend(spec.grafana_oncall.iter().map(|it| url(&it.url, &it.url_file)));
        }
        "sentry" => all.extend(spec.sentry.iter().map(|it| url(&it.url, &it.url_file))),
        "opsgenie" => all.extend(
            spec.opsgenie.iter().map(|it| needed("api_key", &it.api_key, &it.api_key_file)),
        ),
        "jsm" => all.extend(
            spec.jsm.iter().map(|it| needed("api_token", &it.api_token, &it.api_token_file)),
        ),
        "gatus" => {
            all.extend(spec.gatus.iter().map(|it| needed("token", &it.token, &it.token_file)));
        }
        "http" => all.extend(spec.http.iter().flat_map(|it| {
            [url(&it.url, &it.url_file), optional("fail_url", &it.fail_url, &it.fail_url_file)]
        })),
        _ => {}
    }
    all
}
