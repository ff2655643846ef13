//! `websocket`: does a server switch to WebSocket, and say what is expected?
//!
//! The handshake is ours, the frames are the library's. Each `expect` takes one message, and one that does not match
//! ends the run at once: upstream's rule, unlike that of `tcp`. The deadline holds for every message.

mod counted;
mod handshake;
mod spec;

use std::net::IpAddr;

use ::http::header::{AUTHORIZATION, HOST, USER_AGENT};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use self::counted::Counted;
pub use self::spec::{HttpConfig, Spec};
use super::dialogue::{StepSpec, expand};
use super::http::{Auth, basic_value, sensitive, target_value, user_agent};
use super::secret;
use super::tcp::source_address;
use super::wire::{Wire, quote};
use super::{Ask, Blocks, Report, Verdict, address, certificates};
use crate::model::{Answer, Fault, Mistakes, Phase, Unknown, family};
use crate::net::SecretSource;
use crate::net::http::{self as net_http, Link, Scheme};
use crate::net::{
    Deadline, IpFamily, IpPreference, Stopwatch, TlsClient, TlsSettings, accepted, dial,
};

/// The largest message that is taken.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// How long taking leave of a server may take.
const GOODBYE: std::time::Duration = std::time::Duration::from_millis(100);

#[derive(Debug)]
pub struct Prober {
    auth: Auth,
    client: TlsClient,
    headers: Vec<(HeaderName, SecretSource)>,
    steps: Vec<StepSpec>,
    preference: IpPreference,
    source: Option<String>,
}

type Socket = WebSocketStream<Counted<net_http::Wire>>;

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.websocket.take().unwrap_or_default();
        let steps = spec.query_response.unwrap_or_default();
        let mut client = spec::Client::default();
        mistakes.within("websocket", |mistakes| {
            mistakes.within("http_config", |mistakes| {
                client = spec.http_config.unwrap_or_default().build(mistakes);
            });
            let own = spec::headers("headers", spec.headers.unwrap_or_default(), mistakes);
            client.headers.extend(own);
            spec::check_steps(&steps, mistakes);
        });
        Some(Self {
            auth: client.auth,
            client: TlsClient::new(client.tls),
            headers: client.headers,
            steps,
            preference: IpPreference {
                family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
                fallback: spec.ip_protocol_fallback.unwrap_or(true),
            },
            source: spec.source_ip_address,
        })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let target = &ask.target.address;
        let link = link(target)
            .ok_or_else(|| Unknown::Setup(format!("{target:?} is no ws or wss URL").into()))?;
        report.set(&family::PROBE_WEBSOCKET_STATUS_CODE, 0.0);
        report.set_flag(&family::PROBE_WEBSOCKET_CONNECTION_UPGRADED, false);
        report.set_flag(&family::PROBE_WEBSOCKET_FAILED_DUE_TO_REGEX, false);
        // Upstream reads the files also where they are not used; the system's may be missing there.
        if link.is_tls() || *self.client.settings() != TlsSettings::default() {
            self.client.prepare(ask.deadline).await?;
        }
        let to = (link.host.as_str(), Some(link.port()));
        let resolved = address::resolve(ask, to, self.preference, report).await;
        let ip = resolved.inspect_err(|_| report.watch.forget(Phase::Resolve))?;
        let opened = self.open(ask, &link, ip, report).await;
        // Upstream has this one whatever happened.
        report.watch.touch(Phase::Processing);
        let mut socket = opened?;
        if !self.steps.is_empty() {
            report.watch.enter(Phase::Transfer);
            let held = self.hold(&mut socket, ask.deadline, report).await;
            report.set_flag(&family::PROBE_WEBSOCKET_FAILED_DUE_TO_REGEX, held.is_err());
            held?;
        }
        report.watch.stop();
        ask.deadline.at_most(GOODBYE).limit(socket.close(None)).await.ok();
        Ok(())
    }

    async fn open(
        &self,
        ask: &Ask<'_>,
        link: &Link,
        ip: IpAddr,
        report: &mut Report,
    ) -> Result<Socket, Answer> {
        let source = source_address(self.source.as_deref())?;
        let headers = self.headers(ask, link).await?;
        let dialled = dial(ip, link.port(), source, ask.deadline, &mut report.watch).await;
        let stream = dialled.inspect_err(|_| report.watch.forget(Phase::Connect))?;
        report.note(|| format!("connected to {ip} port {}", link.port()));
        report.watch.enter(Phase::Processing);
        let wire = self.secure(net_http::Wire::Tcp(stream), ask, link, report).await?;
        let mut wire = Wire::new(wire);
        let (head, accept) = handshake::ask(&mut wire, link, &headers, ask.deadline).await?;
        report.set(&family::PROBE_WEBSOCKET_STATUS_CODE, f64::from(head.code));
        report.note(|| format!("answered with status {}", head.code));
        head.judge(&accept)?;
        report.set_flag(&family::PROBE_WEBSOCKET_CONNECTION_UPGRADED, true);
        report.watch.stop();
        let received = wire.received();
        let (stream, ahead) = wire.into_parts();
        let stream = Counted::new(stream, received);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let role = Role::Client;
        Ok(WebSocketStream::from_partially_read(stream, ahead, role, Some(config)).await)
    }

    /// The TLS handshake is part of `processing`, as upstream has it. Its facts are told where they explain a failure.
    async fn secure(
        &self,
        wire: net_http::Wire,
        ask: &Ask<'_>,
        link: &Link,
        report: &mut Report,
    ) -> Result<net_http::Wire, Answer> {
        if !link.is_tls() {
            return Ok(wire);
        }
        let mut aside = Stopwatch::default();
        let name = ask.target.hostname.as_deref().unwrap_or(&link.host);
        let name = address::host_port(name).map_or(name, |(host, _)| host);
        let alpn: &[&[u8]] = &[b"http/1.1"];
        let shaken = self.client.handshake(wire, name, alpn, ask.deadline, &mut aside).await;
        let (mut stream, session) = shaken?;
        if session.refusal().is_some() {
            certificates::tls_facts(report, &session);
        }
        certificates::require_verified(&session)?;
        accepted(&mut stream, ask.deadline).await?;
        Ok(net_http::Wire::Tls(Box::new(stream)))
    }

    /// What is sent with the handshake: ours, the module's, and the target's on top.
    async fn headers(&self, ask: &Ask<'_>, link: &Link) -> Result<HeaderMap, Answer> {
        let mut headers = HeaderMap::new();
        let host = ask.target.hostname.clone().unwrap_or_else(|| link.authority());
        let host = HeaderValue::try_from(host)
            .map_err(|_| Unknown::Setup("the host cannot be sent".into()))?;
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, user_agent());
        let mut credentials = self.auth.value(ask).await?;
        if let Some((name, password)) = &link.userinfo {
            credentials = Some(basic_value(name, password)?);
        }
        if let Some(value) = credentials {
            headers.insert(AUTHORIZATION, value);
        }
        let mut seen = Vec::new();
        for (name, source) in &self.headers {
            let secret = secret::read(source, ask.deadline).await?;
            let value = sensitive(secret.reveal().to_owned(), name.as_str())?;
            // The first value of a header replaces ours, the others are added.
            if seen.contains(&name) {
                headers.append(name.clone(), value);
            } else {
                headers.insert(name.clone(), value);
                seen.push(name);
            }
        }
        if let Some(authorization) = &ask.target.authorization {
            headers.insert(AUTHORIZATION, target_value(authorization, ask.deadline).await?);
        }
        for (name, value) in &ask.target.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Unknown::Setup(format!("{name:?} is no header's name").into()))?;
            let value = sensitive(value.reveal().to_owned(), name.as_str())?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn hold(&self, socket: &mut Socket, deadline: Deadline, report: &mut Report) -> Verdict {
        for (index, step) in self.steps.iter().enumerate() {
            let number = index + 1;
            let mut words = step.send.clone().unwrap_or_default().into_bytes();
            if let Some(expect) = &step.expect {
                let text = expect.as_str();
                let message = receive(socket, number, text, deadline).await?;
                let Some(captures) = expect.regex().captures(&message) else {
                    let (expected, got) = (text.into(), quote(&message));
                    return Err(Fault::ExpectMismatch { step: number, expected, got }.into());
                };
                report.note(|| format!("step {number}: {expect:?} came"));
                words = expand(step.send.as_deref().unwrap_or_default(), &captures);
            }
            if words.is_empty() {
                continue;
            }
            let text = String::from_utf8_lossy(&words).into_owned();
            let sent = deadline.limit(socket.send(Message::text(text))).await;
            sent.map_err(|expired| Fault::NoResponse { budget: expired.budget })?
                .map_err(|error| broken(&error, socket.get_ref().received()))?;
            report.note(|| format!("step {number}: sent {} bytes", words.len()));
        }
        Ok(())
    }
}

/// The next message with a content.
async fn receive(
    socket: &mut Socket,
    step: usize,
    expected: &str,
    deadline: Deadline,
) -> Result<Vec<u8>, Answer> {
    let budget = deadline.left();
    loop {
        // A server that sends pings without end is always ready and would never let the timer speak.
        let next =
            if deadline.left().is_zero() { None } else { deadline.limit(socket.next()).await.ok() };
        let Some(next) = next else {
            return Err(Fault::ExpectTimeout { step, expected: expected.into(), budget }.into());
        };
        match next {
            Some(Ok(Message::Text(text))) => return Ok(text.as_bytes().to_vec()),
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
            Some(Ok(Message::Close(Some(frame)))) => {
                let reason = quote(frame.reason.as_bytes());
                let detail =
                    format!("the server closed with code {}: {reason:?}", u16::from(frame.code));
                return Err(Fault::ProtocolError { detail: detail.into() }.into());
            }
            Some(Ok(Message::Close(None))) | None => {
                return Err(
                    Fault::ConnectionClosed { received: socket.get_ref().received() }.into()
                );
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Err(broken(&error, socket.get_ref().received()).into()),
        }
    }
}

fn broken(error: &Error, received: u64) -> Fault {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Fault::ConnectionClosed { received }
        }
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            Fault::BodyTooLarge { limit: *max_size as u64 }
        }
        other => Fault::ProtocolError { detail: other.to_string().into() },
    }
}

/// Reads a `ws` or `wss` URL, in any case.
fn link(target: &str) -> Option<Link> {
    let (scheme, rest) = target.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "ws" => Scheme::Http,
        "wss" => Scheme::Https,
        _ => return None,
    };
    Link::absolute(&format!("{}://{rest}", scheme.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_of_their_own_schemes() {
        let rows = [
            ("ws://a.example/x?y", Some(("a.example", 80, false))),
            ("WSS://[::1]:8443/", Some(("::1", 8443, true))),
            ("wss://a.example", Some(("a.example", 443, true))),
            ("http://a.example", None),
            ("a.example:80", None),
            ("ws://", None),
            ("", None),
        ];
        for (target, wanted) in rows {
            let link = link(target);
            let found = link.as_ref().map(|l| (l.host.as_str(), l.port(), l.is_tls()));
            assert_eq!(found, wanted, "{target}");
        }
    }
}
