//! What a failed handshake says about the peer, and the names of versions and suites.

use std::io;

use rustls::{AlertDescription, CipherSuite, Error, ProtocolVersion};

use super::Sniff;
use super::client_auth::Shown;
use crate::model::{Answer, Fault};
use crate::net::dial::ours;

/// The answer for an error that ended the handshake over `io`; `shown` where a client's certificate was asked for.
pub(super) fn answer<IO>(error: &io::Error, io: &Sniff<IO>, shown: Option<Shown>) -> Answer {
    if let Some(answer) = ours(error) {
        return answer;
    }
    if let Some(fault) = alert(error, shown) {
        return fault.into();
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(error) => Fault::TlsHandshake { detail: detail(error, io.first()).into() },
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => {
                shown.map_or(Fault::ConnectionClosed { received: io.received() }, hung_up)
            }
            _ => Fault::TlsHandshake { detail: error.to_string().into() },
        },
    }
    .into()
}

/// The fault when the peer broke an encrypted connection off with an alert. In TLS 1.3 it is how a client's certificate is
/// refused: the handshake has ended by then.
pub(in crate::net) fn alert(error: &io::Error, shown: Option<Shown>) -> Option<Fault> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(AlertDescription::CloseNotify) => None,
        Error::AlertReceived(alert) => {
            let text = alert_text(*alert);
            let detail = shown.map_or_else(|| text.clone(), |s| format!("{text}; {}", s.text()));
            Some(Fault::TlsHandshake { detail: detail.into() })
        }
        _ => None,
    }
}

/// The fault when the peer asked for a client's certificate and hung up without a word.
pub(in crate::net) fn hung_up(shown: Shown) -> Fault {
    let detail = format!("the peer closed the connection in place of an answer; {}", shown.text());
    Fault::TlsHandshake { detail: detail.into() }
}

fn detail(error: &Error, first: &[u8]) -> String {
    match error {
        Error::AlertReceived(alert) => alert_text(*alert),
        Error::InvalidMessage(_) if !looks_like_tls(first) => {
            format!("the peer does not speak TLS here: it answered {}", quoted(first))
        }
        Error::PeerIncompatible(_) => format!("nothing in common with the peer: {error}"),
        Error::NoApplicationProtocol => "the peer speaks none of the protocols offered".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether the first bytes are the head of a TLS record: a known type, and major version 3.
fn looks_like_tls(first: &[u8]) -> bool {
    matches!(first, [0x14..=0x18, 0x03, ..])
}

/// The first line, as far as it can be printed.
fn quoted(first: &[u8]) -> String {
    let line = first.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let readable = line.iter().filter(|b| b.is_ascii_graphic() || **b == b' ').count();
    if !line.is_empty() && readable == line.len() {
        return format!("{:?}", String::from_utf8_lossy(line));
    }
    let hex: Vec<String> = first.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("bytes {}", hex.join(" "))
}

pub(in crate::net) fn alert_text(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::NoRenegotiation => "no_renegotiation",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        other => return format!("the peer sent the alert {}", u8::from(other)),
    };
    format!("the peer sent the alert {name}")
}

pub(super) const fn version_label(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "unknown",
    }
}

/// Go's names, which differ from the library's for TLS 1.3.
pub(in crate::net) const fn cipher_label(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => {
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_protocols_are_quoted() {
        assert_eq!(quoted(b"HTTP/1.1 400 Bad Request\r\nX: y"), "\"HTTP/1.1 400 Bad Request\"");
        assert_eq!(quoted(b"\x00\xff\x01"), "bytes 00 ff 01");
        assert!(looks_like_tls(b"\x16\x03\x03\x00\x10"));
        assert!(!looks_like_tls(b"SSH-2.0-OpenSSH"));
    }
}
