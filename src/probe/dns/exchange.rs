//! One question and its reply over UDP, TCP or TLS.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::{Asked, LENGTH, Reply};
use super::{Report, Transport};
use crate::model::{Answer, Fault, Phase, Unknown, family};
use crate::net::{Datagrams, Deadline, Source, accepted, dial};
use crate::probe::certificates;

/// What UDP can carry; a server may send more than the 512 bytes that the first standard allowed.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// Who is asked, from where and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    /// As the target names it, for the certificate.
    pub(super) name: &'a str,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) source: Source,
    pub(super) deadline: Deadline,
}

impl Server<'_> {
    /// The bytes of a reply to `asked`.
    pub(super) async fn exchange(
        self,
        transport: &Transport,
        asked: &Asked,
        report: &mut Report,
    ) -> Result<Vec<u8>, Answer> {
        match transport {
            Transport::Udp => self.over_udp(asked, report).await,
            Transport::Tcp => self.over_tcp(asked, report).await,
            Transport::Tls(client) => {
                let tcp =
                    dial(self.ip, self.port, self.source, self.deadline, &mut report.watch).await?;
                let (mut tls, session) = client
                    .handshake(tcp, self.name, &[b"dot"], self.deadline, &mut report.watch)
                    .await?;
                certificates::tls_facts(report, &session);
                certificates::session_facts(report, &session);
                certificates::require_verified(&session)?;
                accepted(&mut tls, self.deadline).await?;
                self.over_stream(tls, asked, report).await
            }
        }
    }

    async fn over_udp(self, asked: &Asked, report: &mut Report) -> Result<Vec<u8>, Answer> {
        let socket = Datagrams::open(self.ip, self.port, self.source, &mut report.watch).await?;
        report.watch.enter(Phase::Request);
        let budget = self.deadline.left();
        socket.send(asked.datagram()).await?;
        let mut reply = Vec::with_capacity(MAX_DATAGRAM_BYTES);
        let mut strays = 0_u32;
        loop {
            let Ok(received) = socket.receive(&mut reply, self.deadline).await else {
                return Err(silence(strays, budget).into());
            };
            received?;
            match asked.judge(&reply) {
                Reply::Stray => {
                    strays = strays.saturating_add(1);
                    report.note(|| "skipped a reply with another id or question");
                }
                Reply::Malformed(why) => return Err(malformed(why)),
                Reply::Truncated => break,
                Reply::Whole => {
                    report.set_flag(&family::PROBE_DNS_TRUNCATED, false);
                    return Ok(reply);
                }
            }
        }
        drop(socket);
        report.set_flag(&family::PROBE_DNS_TRUNCATED, true);
        report.note(|| "truncated; asking again over TCP");
        self.over_tcp(asked, report).await.map_err(|answer| match answer {
            Answer::Fail(fault) => {
                Fault::DnsTruncated { detail: format!("over TCP: {fault}").into() }.into()
            }
            other => other,
        })
    }

    async fn over_tcp(self, asked: &Asked, report: &mut Report) -> Result<Vec<u8>, Answer> {
        let tcp = dial(self.ip, self.port, self.source, self.deadline, &mut report.watch).await?;
        self.over_stream(tcp, asked, report).await
    }

    async fn over_stream<S>(
        self,
        stream: S,
        asked: &Asked,
        report: &mut Report,
    ) -> Result<Vec<u8>, Answer>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        report.watch.enter(Phase::Request);
        let mut received = 0;
        let framed = self.deadline.limit(converse(stream, asked, &mut received)).await;
        let reply = framed
            .map_err(|expired| Fault::DnsTimeout { budget: expired.budget })?
            .map_err(|error| self.broken_off(&error, received))?;
        match asked.judge(&reply) {
            Reply::Whole => Ok(reply),
            Reply::Stray => Err(malformed("another id or question")),
            Reply::Malformed(why) => Err(malformed(why)),
            Reply::Truncated => {
                Err(Fault::DnsTruncated { detail: "in a stream, which has no limit".into() }.into())
            }
        }
    }

    fn broken_off(self, error: &io::Error, received: u64) -> Answer {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Fault::ConnectReset { ip: self.ip, port: self.port }.into()
            }
            io::ErrorKind::UnexpectedEof => Fault::ConnectionClosed { received }.into(),
            io::ErrorKind::OutOfMemory => Unknown::NoDescriptors.into(),
            _ => Fault::ProtocolError { detail: error.to_string().into() }.into(),
        }
    }
}

/// Sends the question and reads one message; `received` counts its bytes, also when it is broken off.
async fn converse<S>(mut stream: S, asked: &Asked, received: &mut u64) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(asked.framed()).await?;
    stream.flush().await?;
    let mut length = [0; LENGTH];
    stream.read_exact(&mut length).await?;
    *received += LENGTH as u64;
    let length = usize::from(u16::from_be_bytes(length));
    let mut reply = Vec::with_capacity(length);
    let mut rest = stream.take(length as u64);
    while reply.len() < length {
        let read = rest.read_buf(&mut reply).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *received += read as u64;
    }
    Ok(reply)
}

fn silence(strays: u32, budget: std::time::Duration) -> Fault {
    if strays == 0 {
        return Fault::DnsTimeout { budget };
    }
    let detail = format!("{strays} replies with another id or question, and none to ours");
    Fault::DnsMalformed { detail: detail.into() }
}

fn malformed(why: &str) -> Answer {
    Fault::DnsMalformed { detail: why.into() }.into()
}
