//! From the target to the final response: connections, requests, redirects.

use std::net::IpAddr;

use ::http::header::LOCATION;
use ::http::{HeaderMap, Method, StatusCode};

use super::Prober;
use super::cookies::Jar;
use super::request::{BodySource, HopState, request};
use super::route::{Route, Speaks};
use crate::model::{Answer, Fault, Phase, Unknown, family};
use crate::net::Session;
use crate::net::http::{Link, Response};
use crate::probe::tcp::source_address;
use crate::probe::{Ask, Report, address, certificates};

/// How many redirects are followed.
pub(super) const MAX_REDIRECTS: u32 = 10;

/// The response that rules are about.
#[derive(Debug)]
pub(super) struct Final {
    pub(super) response: Response,
    pub(super) over_tls: bool,
    /// More redirects came than are followed.
    pub(super) looped: bool,
}

/// A run's way from hop to hop.
struct Walk<'a> {
    prober: &'a Prober,
    ask: &'a Ask<'a>,
    report: &'a mut Report,
    home: Link,
    link: Link,
    ip: Option<IpAddr>,
    method: Method,
    with_body: bool,
    at_home: bool,
    redirects: u32,
    jar: Jar,
    referer: Option<String>,
}

/// What an answer says about where to go.
enum Next {
    Stay { looped: bool },
    Go(Box<Link>),
}

pub(super) async fn walk(
    prober: &Prober,
    ask: &Ask<'_>,
    link: Link,
    report: &mut Report,
) -> Result<Final, Answer> {
    let mut walk = Walk {
        prober,
        ask,
        report,
        home: link.clone(),
        link,
        ip: None,
        method: prober.asking.method.clone(),
        with_body: true,
        at_home: true,
        redirects: 0,
        jar: Jar::default(),
        referer: None,
    };
    walk.find_home().await?;
    if let Some(why) = &prober.asking.unusable {
        return Err(Unknown::Setup(why.clone()).into());
    }
    loop {
        let (response, session) = walk.hop().await?;
        match walk.next(&response)? {
            Next::Go(link) => walk.follow(*link, &response.head.headers).await?,
            Next::Stay { looped } => {
                let over_tls = session.is_some();
                walk.tell(session.as_ref());
                return Ok(Final { response, over_tls, looped });
            }
        }
    }
}

impl Walk<'_> {
    /// The first hop's address, with its facts.
    async fn find_home(&mut self) -> Result<(), Answer> {
        let left_to_proxy =
            self.prober.skip_resolve_with_proxy && self.prober.proxying.is_configured();
        if left_to_proxy {
            return Ok(());
        }
        let to = (self.link.host.as_str(), Some(self.link.port()));
        let found = address::resolve(self.ask, to, self.prober.preference, self.report).await?;
        self.ip = Some(found);
        Ok(())
    }

    async fn hop(&mut self) -> Result<(Response, Option<Session>), Answer> {
        let own_authority = self.link.same_authority(&self.home);
        let prober = self.prober;
        let host = if own_authority { prober.host_of(self.ask) } else { None };
        let state = HopState {
            link: &self.link,
            method: &self.method,
            with_body: self.with_body,
            at_home: self.at_home,
            host,
            jar: &self.jar,
            referer: self.referer.as_deref(),
        };
        let payload = prober.asking.payload(state.with_body).await?;
        let route = route(prober, self.ask, own_authority)?;
        // A file that cannot be used is told to plain targets too, as upstream does.
        if self.link.is_tls() || route.tls.can_be_unusable() {
            route.tls.prepare(self.ask.deadline).await?;
        }
        let watch = &mut self.report.watch;
        for phase in [Phase::Connect, Phase::Tls, Phase::Processing, Phase::Transfer] {
            watch.touch(phase);
        }
        let headers = prober.asking.headers(self.ask, &state).await?;
        let name = host.map_or(self.link.host.as_str(), without_port);
        let connected = route.open(&self.link, self.ip, name, watch).await?;
        if let Some(fault) = connected.session.as_ref().and_then(Session::refusal).cloned() {
            self.report.note(|| format!("certificate refused: {fault}"));
            self.tell(connected.session.as_ref());
            return Err(fault.into());
        }
        let request = request(&connected, &state, headers, payload)?;
        let (peer, protocol) = (connected.peer, connected.protocol);
        self.report.note(|| format!("asking {} at {peer} over {protocol:?}", self.link));
        let watch = &mut self.report.watch;
        let asked = connected.exchange(request, self.ask.deadline, watch).await;
        let (response, session) = asked?;
        self.report.note(|| format!("answered with {}", response.head.status));
        Ok((response, session))
    }

    fn next(&mut self, response: &Response) -> Result<Next, Answer> {
        let status = response.head.status;
        let repeats = matches!(status.as_u16(), 307 | 308);
        let redirects = repeats || matches!(status.as_u16(), 301..=303);
        let location = response.head.headers.get(LOCATION).filter(|l| !l.is_empty());
        let Some(location) = location.filter(|_| redirects) else {
            return Ok(Next::Stay { looped: false });
        };
        let from_file = matches!(self.prober.asking.body, BodySource::File(_));
        if repeats && from_file && self.with_body {
            return Ok(Next::Stay { looped: false });
        }
        let location = String::from_utf8_lossy(location.as_bytes());
        let Some(link) = self.link.join(&location) else {
            self.tell_refused(response, status);
            let detail = format!("its Location {:?} is no http or https URL", shortened(&location));
            return Err(Fault::RedirectRefused { detail: detail.into() }.into());
        };
        if self.prober.speaks == Speaks::Http3 && !link.is_tls() {
            self.tell_refused(response, status);
            let detail = format!("HTTP/3 cannot be spoken to {link}, which has no TLS");
            return Err(Fault::RedirectRefused { detail: detail.into() }.into());
        }
        self.redirects += 1;
        self.report.set(&family::PROBE_HTTP_REDIRECTS, f64::from(self.redirects));
        if !self.prober.follow_redirects {
            return Ok(Next::Stay { looped: false });
        }
        if self.redirects > MAX_REDIRECTS {
            return Ok(Next::Stay { looped: true });
        }
        if !repeats {
            if self.method != Method::GET && self.method != Method::HEAD {
                self.method = Method::GET;
            }
            self.with_body = false;
        }
        Ok(Next::Go(Box::new(link)))
    }

    fn tell_refused(&mut self, response: &Response, status: StatusCode) {
        self.report.set(&family::PROBE_HTTP_STATUS_CODE, f64::from(status.as_u16()));
        let version = super::rules::version_number(response.head.version);
        self.report.set(&family::PROBE_HTTP_VERSION, version);
    }

    async fn follow(&mut self, link: Link, headers: &HeaderMap) -> Result<(), Answer> {
        self.jar.keep(&self.link, headers);
        self.report.note(|| format!("redirected to {link}"));
        let same_host = link.host == self.link.host;
        let known = self.ip.filter(|_| same_host);
        self.ask.net.resolver.permit(&link.host, link.port(), known)?;
        let downgrade = self.link.is_tls() && !link.is_tls();
        self.referer = (!downgrade).then(|| self.link.to_string());
        // Credentials stay at home: with the first host, and not without the TLS that it was asked with.
        self.at_home &= link.host == self.home.host && !downgrade;
        self.link = link;
        if !same_host {
            self.ip = None;
            let left_to_proxy = self
                .prober
                .proxying
                .choose(&self.link, None, &self.ask.net.proxies)
                .is_some_and(|_| self.prober.skip_resolve_with_proxy);
            if !left_to_proxy {
                let (net, deadline) = (self.ask.net, self.ask.deadline);
                let preference = self.prober.preference;
                let watch = &mut self.report.watch;
                let to = (self.link.host.as_str(), Some(self.link.port()));
                self.ip = Some(net.resolver.resolve(to, preference, deadline, watch).await?);
            }
        }
        Ok(())
    }

    fn tell(&mut self, session: Option<&Session>) {
        match session {
            Some(session) => {
                certificates::tls_facts(self.report, session);
                certificates::session_facts(self.report, session);
            }
            None => certificates::forget(self.report),
        }
    }
}

/// At another authority than the target's, a configured `server_name` does not hold; upstream keeps it under HTTP/3.
fn route<'a>(prober: &'a Prober, ask: &Ask<'a>, own_authority: bool) -> Result<Route<'a>, Answer> {
    let elsewhere =
        prober.tls_elsewhere.as_ref().filter(|_| !own_authority && prober.speaks != Speaks::Http3);
    Ok(Route {
        net: ask.net,
        tls: elsewhere.unwrap_or(&prober.tls),
        proxying: &prober.proxying,
        preference: prober.preference,
        speaks: prober.speaks,
        deadline: ask.deadline,
        source: source_address(prober.source.as_deref())?,
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') => {
            name
        }
        Some((name, _)) if host.starts_with('[') && name.ends_with(']') => name,
        _ => host,
    }
}

fn shortened(location: &str) -> String {
    const MAX_CHARS: usize = 120;
    location.chars().take(MAX_CHARS).collect()
}
