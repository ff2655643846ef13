//! `grpc`: does a server's health service say that it is serving?
//!
//! Upstream's defects are mended: the address that is reported is the one that is asked, IPv6 literals work, the deadline
//! holds whatever the server does. The codes are gRPC's, also for what fails before there is an answer.

mod call;
mod metadata;

use ::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;

use self::call::{Failed, ServingStatus, code};
pub use self::metadata::MetadataSpec;
use super::http::{sensitive, target_value, user_agent};
use super::tcp::source_address;
use super::{Ask, Blocks, Report, Verdict, address, certificates};
use crate::model::{Answer, Fact, Fault, Mistakes, Phase, Unknown, family};
use crate::net::http::{Payload, Protocol, Response, Sent, Wire, exchange};
use crate::net::{IpFamily, IpPreference, Session, Stopwatch, TlsClient, TlsSettings, dial};

const PORT: u16 = 80;
const TLS_PORT: u16 = 443;
const H2: &[u8] = b"h2";

/// The block `grpc:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The service to ask about; empty: the server as a whole.
    pub service: Option<String>,
    #[serde(default)]
    pub tls: bool,
    pub tls_config: Option<TlsSettings>,
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// Ours: the address that the connection leaves from.
    pub source_ip_address: Option<String>,
    /// Sent with the call. Values of keys that end in `-bin` are bytes.
    pub metadata: Option<MetadataSpec>,
}

#[derive(Debug)]
pub struct Prober {
    service: String,
    tls: bool,
    client: TlsClient,
    preference: IpPreference,
    source: Option<String>,
    metadata: HeaderMap,
    /// Why no call can be made: a key that cannot be sent.
    broken: Option<Box<str>>,
}

/// Whom to ask.
struct Place<'a> {
    host: &'a str,
    port: u16,
    /// As it stands in `:authority`.
    authority: String,
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.grpc.take().unwrap_or_default();
        let settings = spec.tls_config.unwrap_or_default();
        let mut broken = None;
        let mut metadata = HeaderMap::new();
        mistakes.within("grpc", |mistakes| {
            mistakes.within("tls_config", |mistakes| settings.check(mistakes));
            metadata = metadata::build(spec.metadata.unwrap_or_default(), &mut broken, mistakes);
        });
        Some(Self {
            service: spec.service.unwrap_or_default(),
            tls: spec.tls,
            client: TlsClient::new(settings),
            preference: IpPreference {
                family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
                fallback: spec.ip_protocol_fallback.unwrap_or(true),
            },
            source: spec.source_ip_address,
            metadata,
            broken,
        })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        report.set(&family::PROBE_GRPC_SSL, 0.0);
        report.set(&family::PROBE_GRPC_STATUS_CODE, 0.0);
        report.watch.touch(Phase::Resolve);
        let target = &ask.target.address;
        let place = place(target, if self.tls { TLS_PORT } else { PORT }, ask)
            .ok_or_else(|| Unknown::Setup(format!("{target:?} is not host or host:port").into()))?;
        // Upstream reads the files also where they are not used; the system's may be missing there.
        if self.tls || *self.client.settings() != TlsSettings::default() {
            self.client.prepare(ask.deadline).await?;
        }
        let ip =
            address::resolve(ask, (place.host, Some(place.port)), self.preference, report).await?;
        report.watch.enter(Phase::Check);
        tell_status(report, None);
        let source = source_address(self.source.as_deref());
        let called = match source {
            Ok(source) => self.check(ask, &place, (ip, source), report).await,
            Err(answer) => Err(answer.into()),
        };
        match called {
            Ok(status) => self.judge(status, report),
            Err(Failed { code, answer }) => {
                report.set(&family::PROBE_GRPC_STATUS_CODE, f64::from(code));
                Err(answer)
            }
        }
    }

    /// Connects, shakes hands and calls; phases of their own would be counted twice in `check`.
    async fn check(
        &self,
        ask: &Ask<'_>,
        place: &Place<'_>,
        (ip, source): (std::net::IpAddr, crate::net::Source),
        report: &mut Report,
    ) -> Result<ServingStatus, Failed> {
        if let Some(why) = &self.broken {
            return Err(Failed {
                code: code::INTERNAL,
                answer: Unknown::Setup(why.clone()).into(),
            });
        }
        let headers = self.headers(ask).await?;
        let mut aside = Stopwatch::default();
        let stream = dial(ip, place.port, source, ask.deadline, &mut aside).await?;
        report.note(|| format!("connected to {ip} port {}", place.port));
        let (wire, session) = self.secure(Wire::Tcp(stream), ask, place, report).await?;
        let body = call::encode(&self.service);
        let request = call::request(self.tls, &place.authority, headers, ask.deadline.left())?
            .map(|()| Payload::Bytes(Bytes::from(body)));
        let peer = std::net::SocketAddr::new(ip, place.port);
        let sent = Sent { request, protocol: Protocol::Http2, peer };
        let mut response = exchange(wire, sent, ask.deadline, &mut aside).await?;
        report.note(|| format!("answered with HTTP status {}", response.head.status));
        let status = self.answer(&mut response, ask).await?;
        if let Some(session) = session {
            report.set_flag(&family::PROBE_GRPC_SSL, true);
            tell_session(report, &session);
        }
        Ok(status)
    }

    async fn answer(
        &self,
        response: &mut Response,
        ask: &Ask<'_>,
    ) -> Result<ServingStatus, Failed> {
        call::head(&response.head)?;
        let body = response.collect(call::MAX_ANSWER_BYTES, ask.deadline).await?;
        call::status(response.trailers().unwrap_or(&response.head.headers))?;
        call::decode(&body)
    }

    async fn secure(
        &self,
        wire: Wire,
        ask: &Ask<'_>,
        place: &Place<'_>,
        report: &mut Report,
    ) -> Result<(Wire, Option<Session>), Failed> {
        if !self.tls {
            return Ok((wire, None));
        }
        let name = ask.target.hostname.as_deref().map_or(place.host, without_port);
        let mut aside = Stopwatch::default();
        let shaken = self.client.handshake(wire, name, &[H2], ask.deadline, &mut aside).await;
        let (stream, session) = shaken?;
        if session.refusal().is_some() {
            tell_session(report, &session);
        }
        certificates::require_verified(&session)?;
        if session.alpn.as_deref().is_some_and(|agreed| agreed != H2) {
            let detail = "the server does not speak HTTP/2: ALPN agreed on something else";
            return Err(Answer::from(Fault::ProtocolError { detail: detail.into() }).into());
        }
        Ok((Wire::Tls(Box::new(stream)), Some(session)))
    }

    /// The module's metadata, and what is special about the target on top.
    async fn headers(&self, ask: &Ask<'_>) -> Result<HeaderMap, Answer> {
        let mut headers = self.metadata.clone();
        if let Some(authorization) = &ask.target.authorization {
            let value = target_value(authorization, ask.deadline).await?;
            headers.insert(::http::header::AUTHORIZATION, value);
        }
        for (name, value) in &ask.target.headers {
            let name = metadata::key(&name.to_ascii_lowercase())
                .ok_or_else(|| Unknown::Setup(format!("{name:?} is no metadata key").into()))?;
            let value = sensitive(value.reveal().to_owned(), name.as_str())?;
            headers.insert(name, value);
        }
        headers.insert(::http::header::USER_AGENT, user_agent());
        Ok(headers)
    }

    fn judge(&self, status: ServingStatus, report: &mut Report) -> Verdict {
        report.set(&family::PROBE_GRPC_STATUS_CODE, f64::from(code::OK));
        tell_status(report, Some(status));
        if status == ServingStatus::Serving {
            return Ok(());
        }
        let service = self.service.as_str().into();
        Err(Fault::GrpcNotServing { service, status: status.label() }.into())
    }
}

fn tell_status(report: &mut Report, found: Option<ServingStatus>) {
    report.forget(&family::PROBE_GRPC_HEALTHCHECK_RESPONSE);
    for status in ServingStatus::KNOWN {
        let value = f64::from(u8::from(found == Some(status)));
        report.add(Fact::labelled(
            &family::PROBE_GRPC_HEALTHCHECK_RESPONSE,
            "serving_status",
            status.label(),
            value,
        ));
    }
}

/// Upstream has no end of the verified chain here.
fn tell_session(report: &mut Report, session: &Session) {
    certificates::tls_facts(report, session);
    report.forget(&family::PROBE_SSL_LAST_CHAIN_EXPIRY);
}

/// Reads `host[:port]`, also behind a scheme that somebody pasted.
fn place<'a>(target: &'a str, default_port: u16, ask: &Ask<'_>) -> Option<Place<'a>> {
    let (host, port) = split(target, default_port)?;
    let authority = match &ask.target.hostname {
        Some(name) => name.clone(),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    };
    Some(Place { host, port, authority })
}

fn split(target: &str, default_port: u16) -> Option<(&str, u16)> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    let authority = rest.unwrap_or(target);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some((authority, default_port));
    }
    let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let whole = bare.or_else(|| (!authority.contains(':')).then_some(authority));
    let (host, port) = match whole {
        Some(host) => (host, default_port),
        None => address::host_port(authority)?,
    };
    let is_one = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    is_one.then_some((host, port))
}

fn without_port(name: &str) -> &str {
    address::host_port(name).map_or(name, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        let rows = [
            ("a.example", Some(("a.example", 80))),
            ("a.example:50051", Some(("a.example", 50051))),
            ("http://a.example:50051/x", Some(("a.example", 50051))),
            ("https://a.example", Some(("a.example", 80))),
            ("[::1]:50051", Some(("::1", 50051))),
            ("[::1]", Some(("::1", 80))),
            ("::1", Some(("::1", 80))),
            ("a.example:", None),
            ("a.example:x", None),
            (":80", None),
            ("http://a b/", None),
            ("", None),
        ];
        for (target, wanted) in rows {
            assert_eq!(split(target, PORT), wanted, "{target}");
        }
    }
}
