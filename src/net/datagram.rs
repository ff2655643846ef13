//! A UDP socket that talks to one peer, with errors told apart as [`dial`](super::dial) does for TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::dial::{connect_failed, ours, setup, wrong_family};
use super::{Deadline, Expired, Source, Stopwatch};
use crate::model::{Answer, Phase, Unknown};

/// A connected socket: only the peer's datagrams arrive, and its refusals are heard.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    ip: IpAddr,
    port: u16,
}

impl Datagrams {
    /// Opens a socket to `ip:port` from a port of the kernel's choice, in the phase `connect`.
    pub async fn open(
        ip: IpAddr,
        port: u16,
        source: Source,
        watch: &mut Stopwatch,
    ) -> Result<Self, Answer> {
        watch.enter(Phase::Connect);
        let socket = bind(ip, source).await?;
        socket
            .connect(SocketAddr::new(ip, port))
            .await
            .map_err(|error| connect_failed(&error, ip, port))?;
        watch.stop();
        Ok(Self { socket, ip, port })
    }

    /// The connected socket, for a protocol that is spoken by somebody else.
    pub(super) fn into_socket(self) -> UdpSocket {
        self.socket
    }

    pub async fn send(&self, datagram: &[u8]) -> Result<(), Answer> {
        self.socket.send(datagram).await.map(drop).map_err(|error| self.failed(&error))
    }

    /// Puts the next datagram into `buffer`, which is emptied first and bounds what is taken by its capacity.
    pub async fn receive(
        &self,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Result<(), Answer>, Expired> {
        buffer.clear();
        let received = deadline.limit(self.socket.recv_buf(buffer)).await?;
        Ok(received.map(drop).map_err(|error| self.failed(&error)))
    }

    fn failed(&self, error: &io::Error) -> Answer {
        connect_failed(error, self.ip, self.port)
    }
}

async fn bind(ip: IpAddr, source: Source) -> Result<UdpSocket, Answer> {
    let Some(source) = source else {
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let bound = UdpSocket::bind(SocketAddr::new(any, 0)).await;
        return bound.map_err(|error| ours(&error).unwrap_or_else(|| setup("no socket", &error)));
    };
    wrong_family(source, ip)?;
    let bound = UdpSocket::bind(SocketAddr::new(source, 0)).await;
    bound.map_err(|error| match ours(&error) {
        Some(answer @ Answer::Unknown(Unknown::NoDescriptors)) => answer,
        _ => Unknown::SourceAddress(format!("{source}: {error}").into()).into(),
    })
}
