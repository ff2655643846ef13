//! From a link to a connection that HTTP can be spoken on: address, proxy, tunnel, TLS.

use std::net::{IpAddr, SocketAddr};

use ::http::Request;

use super::proxying::Proxying;
use crate::model::{Answer, Fault, Phase};
use crate::net::http::{
    Hop, Link, Payload, Protocol, Proxy, ProxyScheme, Response, Scheme, Sent, Tunnel, Wire,
    exchange, exchange_over_quic,
};
use crate::net::{Deadline, IpPreference, Net, Quic, Session, Source, Stopwatch, TlsClient, dial};

const H2: &[u8] = b"h2";
const H3: &[u8] = b"h3";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What a module speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    /// Where the server wants it; HTTP/1 otherwise.
    Http2,
    /// Nothing else.
    Http3,
}

/// How connections of a module are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) net: &'a Net,
    pub(super) tls: &'a TlsClient,
    pub(super) proxying: &'a Proxying,
    pub(super) preference: IpPreference,
    pub(super) speaks: Speaks,
    pub(super) deadline: Deadline,
    pub(super) source: Source,
}

/// A connection, ready for a request.
#[derive(Debug)]
pub(super) struct Connected {
    line: Line,
    pub(super) protocol: Protocol,
    pub(super) peer: SocketAddr,
    pub(super) session: Option<Session>,
    /// The request goes to a proxy which must be told the whole URL.
    pub(super) absolute_form: bool,
    /// What that proxy wants to see.
    pub(super) proxy_authorization: Option<String>,
}

/// What the connection is made of.
#[derive(Debug)]
enum Line {
    Wire(Wire),
    Quic(Box<Quic>),
}

impl Connected {
    /// Asks, and waits for the head of the answer.
    pub(super) async fn exchange(
        self,
        request: Request<Payload>,
        deadline: Deadline,
        watch: &mut Stopwatch,
    ) -> Result<(Response, Option<Session>), Answer> {
        let response = match self.line {
            Line::Wire(wire) => {
                let sent = Sent { request, protocol: self.protocol, peer: self.peer };
                exchange(wire, sent, deadline, watch).await?
            }
            Line::Quic(quic) => {
                // Boxed, as what is rare must not make every run larger.
                Box::pin(exchange_over_quic(*quic, request, deadline, watch)).await?
            }
        };
        Ok((response, self.session))
    }
}

impl Route<'_> {
    /// Connects to `link`, whose address is `ip` unless the proxy is to find it.
    pub(super) async fn open(
        &self,
        link: &Link,
        ip: Option<IpAddr>,
        server_name: &str,
        watch: &mut Stopwatch,
    ) -> Result<Connected, Answer> {
        if self.speaks == Speaks::Http3 {
            return Box::pin(self.quic(link, ip, server_name, watch)).await;
        }
        match self.proxying.choose(link, ip, &self.net.proxies) {
            Some(proxy) => self.through(proxy, link, ip, server_name, watch).await,
            None => self.direct(link, ip, server_name, watch).await,
        }
    }

    async fn direct(
        &self,
        link: &Link,
        ip: Option<IpAddr>,
        server_name: &str,
        watch: &mut Stopwatch,
    ) -> Result<Connected, Answer> {
        let ip = self.address(link, ip, watch).await?;
        let stream = dial(ip, link.port(), self.source, self.deadline, watch).await?;
        let peer = SocketAddr::new(ip, link.port());
        self.secure(Wire::Tcp(stream), link, peer, server_name, watch).await
    }

    async fn quic(
        &self,
        link: &Link,
        ip: Option<IpAddr>,
        server_name: &str,
        watch: &mut Stopwatch,
    ) -> Result<Connected, Answer> {
        let ip = self.address(link, ip, watch).await?;
        let to = (ip, link.port());
        let name = (server_name, H3);
        let connected = Quic::connect(to, self.tls, name, self.source, self.deadline, watch);
        let (quic, session) = connected.await?;
        Ok(Connected {
            line: Line::Quic(Box::new(quic)),
            protocol: Protocol::Http3,
            peer: to.into(),
            session: Some(session),
            absolute_form: false,
            proxy_authorization: None,
        })
    }

    async fn secure(
        &self,
        wire: Wire,
        link: &Link,
        peer: SocketAddr,
        server_name: &str,
        watch: &mut Stopwatch,
    ) -> Result<Connected, Answer> {
        let (wire, session) = if link.is_tls() {
            let alpn: &[&[u8]] = if self.speaks == Speaks::Http2 { &[H2, HTTP_1_1] } else { &[] };
            let shaken = self.tls.handshake(wire, server_name, alpn, self.deadline, watch);
            let (stream, session) = shaken.await?;
            (Wire::Tls(Box::new(stream)), Some(session))
        } else {
            (wire, None)
        };
        let h2 = session.as_ref().is_some_and(|s| s.alpn.as_deref() == Some(H2));
        let protocol = if h2 { Protocol::Http2 } else { Protocol::Http1 };
        Ok(Connected {
            line: Line::Wire(wire),
            protocol,
            peer,
            session,
            absolute_form: false,
            proxy_authorization: None,
        })
    }

    async fn through(
        &self,
        proxy: &Proxy,
        link: &Link,
        ip: Option<IpAddr>,
        server_name: &str,
        watch: &mut Stopwatch,
    ) -> Result<Connected, Answer> {
        let (mut wire, peer) =
            self.reach(proxy, watch).await.map_err(|answer| refused(proxy, answer))?;
        if link.scheme == Scheme::Http && proxy.scheme != ProxyScheme::Socks5 {
            return Ok(Connected {
                line: Line::Wire(wire),
                protocol: Protocol::Http1,
                peer,
                session: None,
                absolute_form: true,
                proxy_authorization: proxy.authorization(),
            });
        }
        let to = match ip.or_else(|| link.literal()) {
            Some(ip) => Hop::Ip(SocketAddr::new(ip, link.port())),
            None => Hop::Name(&link.host, link.port()),
        };
        let headers = &self.proxying.connect_headers;
        watch.enter(Phase::Connect);
        Tunnel { proxy, to, headers }.open(&mut wire, self.deadline).await?;
        watch.stop();
        self.secure(wire, link, peer, server_name, watch).await
    }

    async fn reach(
        &self,
        proxy: &Proxy,
        watch: &mut Stopwatch,
    ) -> Result<(Wire, SocketAddr), Answer> {
        // Address facts and the phase `resolve` are the target's.
        let mut aside = Stopwatch::default();
        let ip = self.resolve_ours(&proxy.host, &mut aside).await?;
        let stream = dial(ip, proxy.port, self.source, self.deadline, watch).await?;
        let peer = SocketAddr::new(ip, proxy.port);
        if proxy.scheme != ProxyScheme::Https {
            return Ok((Wire::Tcp(stream), peer));
        }
        watch.enter(Phase::Connect);
        let wire = Wire::Tcp(stream);
        let shaken = self.tls.handshake(wire, &proxy.host, &[], self.deadline, &mut aside).await;
        let (stream, session) = shaken?;
        if let Some(fault) = session.refusal() {
            return Err(fault.clone().into());
        }
        Ok((Wire::Tls(Box::new(stream)), peer))
    }

    /// The address of `link`, unless it is known.
    async fn address(
        &self,
        link: &Link,
        ip: Option<IpAddr>,
        watch: &mut Stopwatch,
    ) -> Result<IpAddr, Answer> {
        match ip {
            Some(ip) => Ok(ip),
            None => self.resolve(link, watch).await,
        }
    }

    async fn resolve(&self, link: &Link, watch: &mut Stopwatch) -> Result<IpAddr, Answer> {
        let to = (link.host.as_str(), Some(link.port()));
        self.net.resolver.resolve(to, self.preference, self.deadline, watch).await
    }

    /// For a host that the configuration names.
    pub(super) async fn resolve_ours(
        &self,
        host: &str,
        watch: &mut Stopwatch,
    ) -> Result<IpAddr, Answer> {
        self.net.resolver.resolve_ours(host, self.preference, self.deadline, watch).await
    }
}

/// What failed on the way to a proxy says nothing about the target.
fn refused(proxy: &Proxy, answer: Answer) -> Answer {
    match answer {
        Answer::Fail(fault) => Fault::ProxyRefused {
            proxy: proxy.to_string().into(),
            detail: fault.to_string().into(),
        }
        .into(),
        other => other,
    }
}
