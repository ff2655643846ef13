//! From what went wrong in hyper to what is wrong with the target.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Protocol;
use super::tap::Seen;
use crate::model::{Answer, Fault, Unknown};

/// The most of a peer's greeting that a fault quotes.
const QUOTED_CHARS: usize = 60;

/// The head of the answer did not arrive.
pub(super) fn head_failed(
    error: &hyper::Error,
    seen: &Seen,
    protocol: Protocol,
    peer: SocketAddr,
) -> Answer {
    if error.is_body_write_aborted() || payload_failed(error) {
        return Unknown::Setup("the request's body could not be read".into()).into();
    }
    if let Some(fault) = seen.alert() {
        return fault.into();
    }
    let as_agreed = |beginning: &[u8]| protocol == Protocol::Http2 && begins_http2(beginning);
    if let Some(beginning) = seen.beginning().filter(|it| !as_agreed(it) && !is_http2(error)) {
        return greeting(&beginning).into();
    }
    if error.is_parse_too_large() {
        return Fault::ProtocolError { detail: "the head of the answer is too large".into() }
            .into();
    }
    if error.is_parse() {
        let detail = format!("malformed HTTP: {error}");
        return Fault::ProtocolError { detail: detail.into() }.into();
    }
    broken_off(error, seen, protocol, peer)
}

/// Whether it is how a peer begins to speak HTTP/2: the head of a frame of settings.
const fn begins_http2(beginning: &[u8]) -> bool {
    matches!(beginning, [0, _, _, 4, ..])
}

fn broken_off(error: &hyper::Error, seen: &Seen, protocol: Protocol, peer: SocketAddr) -> Answer {
    let received = seen.received();
    let reset = io_cause(error).is_some_and(|cause| match cause.kind() {
        io::ErrorKind::ConnectionReset => true,
        // HTTP/2's library says this of a polite end, too.
        io::ErrorKind::BrokenPipe => protocol == Protocol::Http1,
        _ => false,
    });
    if reset && received == 0 {
        return Fault::ConnectReset { ip: peer.ip(), port: peer.port() }.into();
    }
    if is_http2(error) && !reset {
        return Fault::ProtocolError { detail: chain_text(error).into() }.into();
    }
    Fault::ConnectionClosed { received }.into()
}

/// The time was up before the head of the answer was complete.
pub(super) fn head_timed_out(seen: &Seen, head_began: bool, budget: Duration) -> Answer {
    if !head_began {
        return Fault::NoResponse { budget }.into();
    }
    if let Some(beginning) = seen.beginning() {
        return greeting(&beginning).into();
    }
    let detail = format!("the head of the answer stopped after {} bytes", seen.received());
    Fault::ProtocolError { detail: detail.into() }.into()
}

/// The body broke off or is malformed.
pub(super) fn body_failed(error: &hyper::Error, received: u64, declared: Option<u64>) -> Answer {
    if error.is_parse() || malformed_chunk(error) {
        let detail = format!("malformed body: {}", chain_text(error));
        return Fault::ProtocolError { detail: detail.into() }.into();
    }
    Fault::BodyTruncated { received, declared }.into()
}

/// hyper reports broken chunk framing as an I/O error that never touched the socket.
fn malformed_chunk(error: &hyper::Error) -> bool {
    io_cause(error).is_some_and(|cause| {
        matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    })
}

fn greeting(beginning: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(beginning);
    let line = text.lines().next().unwrap_or_default();
    let quoted: String = line.chars().take(QUOTED_CHARS).collect();
    Fault::ProtocolError { detail: format!("{quoted:?} is not HTTP").into() }
}

fn payload_failed(error: &hyper::Error) -> bool {
    error.is_user()
}

fn is_http2(error: &hyper::Error) -> bool {
    // hyper wraps an `h2::Error`, a type of a crate that is not ours to name; what is neither parsing, I/O nor an early
    // end comes from there.
    !error.is_parse()
        && !error.is_incomplete_message()
        && !error.is_closed()
        && !error.is_canceled()
        && error.source().is_some()
        && io_cause(error).is_none()
}

fn io_cause(error: &hyper::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = inner.source();
    }
    None
}

fn chain_text(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
