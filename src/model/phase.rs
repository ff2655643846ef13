//! The steps of one question, under blackbox_exporter's names.

use serde::Serialize;

/// A step of a run. Not every prober has every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Name to address.
    Resolve,
    /// TCP connect, or the proxy's tunnel.
    Connect,
    Tls,
    /// Connection ready to first byte of the answer.
    Processing,
    /// First byte to the end of the body.
    Transfer,
    /// `dns`: the exchange with the server.
    Request,
    /// `icmp`: opening the socket.
    Setup,
    /// `icmp`: echo to reply.
    Rtt,
    /// `grpc`: connect, handshake and call.
    Check,
}

impl Phase {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Processing => "processing",
            Self::Transfer => "transfer",
            Self::Request => "request",
            Self::Setup => "setup",
            Self::Rtt => "rtt",
            Self::Check => "check",
        }
    }
}
