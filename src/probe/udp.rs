//! `udp`: does a service answer a datagram with what is expected?
//!
//! Where nothing is expected, silence is no fault: a closed port is told by ICMP, an open one by nothing at all.

use std::time::Duration;

use serde::Deserialize;

use super::dialogue::RawBytes;
use super::tcp::source_address;
use super::wire::quote;
use super::{Ask, Blocks, Report, Verdict, address};
use crate::model::{Fault, Mistakes, Pattern, Phase, Unknown, family};
use crate::net::{Datagrams, IpFamily, IpPreference};

/// The largest datagram that is taken.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// The largest datagram that IPv4 can carry.
const MAX_SENT_BYTES: usize = 65_507;
/// How long to wait for word of a closed port where no answer is expected.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

/// The block `udp:` of a module. The target is `host:port`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// The address to ask from.
    pub source_ip_address: Option<String>,
    /// The datagram to send: text, or bytes as `!!binary`. Default: an empty one.
    pub send: Option<RawBytes>,
    /// A datagram that matches must come.
    pub expect: Option<Pattern>,
    /// A datagram of exactly these bytes must come.
    pub expect_bytes: Option<RawBytes>,
}

#[derive(Debug)]
pub struct Prober {
    preference: IpPreference,
    source: Option<String>,
    send: Vec<u8>,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Nothing,
    Match(Pattern),
    Bytes(Vec<u8>),
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.udp.take().unwrap_or_default();
        let send = spec.send.map(|send| send.as_slice().to_vec()).unwrap_or_default();
        if send.len() > MAX_SENT_BYTES {
            let what = format!("no datagram has room for {} bytes", send.len());
            mistakes.error("udp.send", what, format!("send {MAX_SENT_BYTES} at most"));
        }
        let expected = match (spec.expect, spec.expect_bytes) {
            (Some(_), Some(_)) => {
                let what = "expect and expect_bytes exclude each other";
                mistakes.error("udp.expect_bytes", what, "keep one of them");
                Expected::Nothing
            }
            (Some(pattern), None) => Expected::Match(pattern),
            (None, Some(bytes)) => Expected::Bytes(bytes.as_slice().to_vec()),
            (None, None) => Expected::Nothing,
        };
        Some(Self {
            preference: IpPreference {
                family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
                fallback: spec.ip_protocol_fallback.unwrap_or(true),
            },
            source: spec.source_ip_address,
            send,
            expected,
        })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let Some((host, port)) = address::host_port(&ask.target.address) else {
            let detail = format!("{:?} is not host:port", ask.target.address);
            return Err(Unknown::Setup(detail.into()).into());
        };
        let ip = address::resolve(ask, (host, Some(port)), self.preference, report).await?;
        let source = source_address(self.source.as_deref())?;
        let socket = Datagrams::open(ip, port, source, &mut report.watch).await?;
        report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, false);
        report.set_flag(&family::PROBE_FAILED_DUE_TO_BYTES, false);
        report.watch.enter(Phase::Processing);
        socket.send(&self.send).await?;
        report.note(|| format!("sent {} bytes to {ip} port {port}", self.send.len()));
        self.listen(&socket, ask, report).await?;
        report.watch.stop();
        Ok(())
    }

    /// Takes datagrams until one is as expected.
    async fn listen(&self, socket: &Datagrams, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let wait = match self.expected {
            Expected::Nothing => ask.deadline.at_most(REFUSAL_WAIT),
            _ => ask.deadline,
        };
        let budget = wait.left();
        let mut datagram = Vec::with_capacity(MAX_DATAGRAM_BYTES);
        let mut last: Option<Box<str>> = None;
        loop {
            // A peer that floods is always ready and would never let the timer speak.
            let received = if wait.left().is_zero() {
                None
            } else {
                socket.receive(&mut datagram, wait).await.ok()
            };
            let Some(received) = received else {
                return match (&self.expected, last) {
                    (Expected::Nothing, _) => Ok(()),
                    (_, None) => Err(Fault::NoResponse { budget }.into()),
                    (_, Some(got)) => Err(self.mismatch(got, report).into()),
                };
            };
            received?;
            report.note(|| format!("received {} bytes", datagram.len()));
            if self.expected.is(&datagram) {
                return Ok(());
            }
            last = Some(quote(&datagram));
        }
    }

    fn mismatch(&self, got: Box<str>, report: &mut Report) -> Fault {
        let expected = match &self.expected {
            Expected::Nothing => "".into(),
            Expected::Match(pattern) => {
                report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, true);
                pattern.as_str().into()
            }
            Expected::Bytes(bytes) => {
                report.set_flag(&family::PROBE_FAILED_DUE_TO_BYTES, true);
                quote(bytes)
            }
        };
        Fault::ExpectMismatch { step: 1, expected, got }
    }
}

impl Expected {
    fn is(&self, datagram: &[u8]) -> bool {
        match self {
            Self::Nothing => true,
            Self::Match(pattern) => pattern.is_match(datagram),
            Self::Bytes(bytes) => bytes == datagram,
        }
    }
}
