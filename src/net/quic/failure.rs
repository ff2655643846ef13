//! What the end of a QUIC connection says about the peer.

use quinn::ConnectionError;
use rustls::AlertDescription;

use super::socket::Socket;
use crate::model::{Answer, Fault, Unknown};
use crate::net::tls::alert_text;

/// Codes from here on carry an alert of TLS in their last byte (RFC 9001, 4.8).
const CRYPTO_ERRORS: u64 = 0x100;
/// The most of a peer's reason that a fault quotes.
const QUOTED_CHARS: usize = 80;

/// The handshake did not come to its end.
pub(super) fn handshake(error: &ConnectionError, socket: &Socket) -> Answer {
    let detail = match error {
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            match alert(code) {
                Some(alert) => alert_text(alert),
                None => {
                    format!("the peer refused: {}{}", transport_word(code), quoted(&close.reason))
                }
            }
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("the peer refused: code {}{}", close.error_code, quoted(&close.reason))
        }
        ConnectionError::VersionMismatch => "the peer speaks no version 1 of QUIC".to_owned(),
        ConnectionError::TransportError(error) => match alert(u64::from(error.code)) {
            Some(AlertDescription::NoApplicationProtocol) => {
                "the peer speaks none of the protocols offered".to_owned()
            }
            _ => error.reason.clone(),
        },
        ConnectionError::Reset => {
            let peer = socket.peer();
            return Fault::ConnectReset { ip: peer.ip(), port: peer.port() }.into();
        }
        ConnectionError::TimedOut => "the peer gave up waiting".to_owned(),
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            return Unknown::Defect.into();
        }
    };
    Fault::TlsHandshake { detail: detail.into() }.into()
}

/// An established connection ended; `None` if we ended it.
pub(super) fn ended(error: &ConnectionError, received: u64) -> Option<Answer> {
    let detail = match error {
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            // A server that verifies late says here what it thinks of our certificate.
            if let Some(alert) = alert(code) {
                return Some(Fault::TlsHandshake { detail: alert_text(alert).into() }.into());
            }
            if code == 0 {
                return Some(Fault::ConnectionClosed { received }.into());
            }
            format!("the peer closed with {}{}", transport_word(code), quoted(&close.reason))
        }
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code.into_inner();
            if code == 0 || code == u64::from(super::NO_ERROR) {
                return Some(Fault::ConnectionClosed { received }.into());
            }
            format!("the peer closed with code {code:#x}{}", quoted(&close.reason))
        }
        ConnectionError::TransportError(error) => format!("malformed QUIC: {error}"),
        ConnectionError::Reset | ConnectionError::TimedOut => {
            return Some(Fault::ConnectionClosed { received }.into());
        }
        ConnectionError::VersionMismatch
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return None,
    };
    Some(Fault::ProtocolError { detail: detail.into() }.into())
}

fn alert(code: u64) -> Option<AlertDescription> {
    let last = code.checked_sub(CRYPTO_ERRORS)?;
    u8::try_from(last).ok().map(AlertDescription::from)
}

/// Names of RFC 9000, 20.1.
fn transport_word(code: u64) -> String {
    let name = match code {
        0x0 => "NO_ERROR",
        0x1 => "INTERNAL_ERROR",
        0x2 => "CONNECTION_REFUSED",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "STREAM_LIMIT_ERROR",
        0x5 => "STREAM_STATE_ERROR",
        0x7 => "FRAME_ENCODING_ERROR",
        0x8 => "TRANSPORT_PARAMETER_ERROR",
        0xa => "PROTOCOL_VIOLATION",
        0xb => "INVALID_TOKEN",
        0xc => "APPLICATION_ERROR",
        _ => return format!("code {code:#x}"),
    };
    name.to_owned()
}

fn quoted(reason: &[u8]) -> String {
    if reason.is_empty() {
        return String::new();
    }
    let text: String = String::from_utf8_lossy(reason).chars().take(QUOTED_CHARS).collect();
    format!(" ({text:?})")
}
