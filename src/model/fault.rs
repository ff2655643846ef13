//! What is wrong with a target, as data. The words are made here and only when somebody reads them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::Reason;

type Text = Box<str>;

/// Why a target failed, with the numbers and names that tell the case apart.
///
/// A duration called `budget` is what was left of the timeout when the step began: "4.9 s of 5 s were spent resolving"
/// is then not blamed on the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    ResolveNxdomain {
        name: Text,
    },
    ResolveNoAddress {
        name: Text,
        family: &'static str,
    },
    ResolveServfail {
        name: Text,
        detail: Text,
    },
    ResolveTimeout {
        name: Text,
        budget: Duration,
    },

    ConnectRefused {
        ip: IpAddr,
        port: u16,
    },
    ConnectTimeout {
        ip: IpAddr,
        port: u16,
        budget: Duration,
    },
    ConnectUnreachable {
        ip: IpAddr,
        port: u16,
        detail: Text,
    },
    ConnectReset {
        ip: IpAddr,
        port: u16,
    },
    /// A Unix socket on which nothing listens.
    SocketRefused {
        path: Text,
    },
    /// A Unix socket that is not there, or is none.
    SocketUnreachable {
        path: Text,
        detail: Text,
    },
    /// A Unix socket whose queue stayed full: something listens and accepts nothing.
    SocketTimeout {
        path: Text,
        budget: Duration,
    },
    /// `detail` has the proxy's status or what went wrong on the way to it.
    ProxyRefused {
        proxy: Text,
        detail: Text,
    },

    TlsHandshake {
        detail: Text,
    },
    TlsTimeout {
        budget: Duration,
    },
    /// `position` 0 is the server's own certificate.
    CertExpired {
        subject: Text,
        position: usize,
        not_after: Timestamp,
    },
    CertExpiresSoon {
        subject: Text,
        position: usize,
        not_after: Timestamp,
        within: Duration,
    },
    CertNotYetValid {
        subject: Text,
        position: usize,
        not_before: Timestamp,
    },
    CertNameMismatch {
        name: Text,
        presented: Vec<Text>,
    },
    CertUntrusted {
        issuer: Text,
        detail: Text,
    },

    NoResponse {
        budget: Duration,
    },
    ConnectionClosed {
        received: u64,
    },
    ProtocolError {
        detail: Text,
    },

    BodyTimeout {
        received: u64,
        budget: Duration,
    },
    BodyTruncated {
        received: u64,
        declared: Option<u64>,
    },
    BodyTooLarge {
        limit: u64,
    },
    BodyEncoding {
        coding: Text,
        detail: Text,
    },

    HttpStatus {
        code: u16,
    },
    AuthRefused {
        code: u16,
    },
    HttpVersion {
        version: &'static str,
    },
    TlsPolicy {
        detail: Text,
    },
    HeaderMismatch {
        header: Text,
        detail: Text,
    },
    /// `found`: a forbidden pattern is there; otherwise a wanted one is not.
    BodyMismatch {
        pattern: Text,
        found: bool,
    },
    JsonInvalid {
        detail: Text,
    },
    JsonMismatch {
        expression: Text,
        detail: Text,
    },
    RedirectLoop {
        followed: u32,
    },
    RedirectRefused {
        detail: Text,
    },
    TooSlow {
        took: Duration,
        limit: Duration,
    },

    ExpositionInvalid {
        line: u64,
        detail: Text,
    },
    MetricsMissing {
        names: Vec<Text>,
    },
    MetricOutOfBounds {
        name: Text,
        value: f64,
        bounds: Bounds,
    },
    WrongExporter {
        expected: Text,
        found: Text,
    },

    ExpectMismatch {
        step: usize,
        expected: Text,
        got: Text,
    },
    ExpectTimeout {
        step: usize,
        expected: Text,
        budget: Duration,
    },

    DnsNxdomain {
        name: Text,
    },
    DnsServfail {
        name: Text,
    },
    DnsRefused {
        name: Text,
    },
    DnsRcode {
        rcode: Text,
    },
    DnsRecords {
        detail: Text,
    },
    DnsTruncated {
        detail: Text,
    },
    DnsMalformed {
        detail: Text,
    },
    DnsTimeout {
        budget: Duration,
    },

    NoReply {
        sent: u32,
        budget: Duration,
    },
    TtlExceeded {
        from: IpAddr,
    },
    GrpcStatus {
        code: i32,
        message: Text,
    },
    GrpcNotServing {
        service: Text,
        status: &'static str,
    },
    UpgradeRefused {
        code: u16,
    },

    Silent {
        since: Option<Timestamp>,
        allowed: Duration,
    },
    ReportedFailure {
        detail: Text,
    },
    Overrun {
        started: Timestamp,
        allowed: Duration,
    },
    SourceMissing {
        sources: Vec<Text>,
    },
    NotScraped {
        source: Text,
    },
    StaleEvidence {
        source: Text,
        age: Duration,
    },
}

/// The range in which a metric's value must lie; an open end is no bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl Fault {
    pub const fn reason(&self) -> Reason {
        match self {
            Self::ResolveNxdomain { .. } => Reason::ResolveNxdomain,
            Self::ResolveNoAddress { .. } => Reason::ResolveNoAddress,
            Self::ResolveServfail { .. } => Reason::ResolveServfail,
            Self::ResolveTimeout { .. } => Reason::ResolveTimeout,
            Self::ConnectRefused { .. } => Reason::ConnectRefused,
            Self::ConnectTimeout { .. } => Reason::ConnectTimeout,
            Self::ConnectUnreachable { .. } => Reason::ConnectUnreachable,
            Self::ConnectReset { .. } => Reason::ConnectReset,
            Self::SocketRefused { .. } => Reason::ConnectRefused,
            Self::SocketUnreachable { .. } => Reason::ConnectUnreachable,
            Self::SocketTimeout { .. } => Reason::ConnectTimeout,
            Self::ProxyRefused { .. } => Reason::ProxyRefused,
            Self::TlsHandshake { .. } => Reason::TlsHandshake,
            Self::TlsTimeout { .. } => Reason::TlsTimeout,
            Self::CertExpired { .. } => Reason::CertExpired,
            Self::CertExpiresSoon { .. } => Reason::CertExpiresSoon,
            Self::CertNotYetValid { .. } => Reason::CertNotYetValid,
            Self::CertNameMismatch { .. } => Reason::CertNameMismatch,
            Self::CertUntrusted { .. } => Reason::CertUntrusted,
            Self::NoResponse { .. } => Reason::NoResponse,
            Self::ConnectionClosed { .. } => Reason::ConnectionClosed,
            Self::ProtocolError { .. } => Reason::ProtocolError,
            Self::BodyTimeout { .. } => Reason::BodyTimeout,
            Self::BodyTruncated { .. } => Reason::BodyTruncated,
            Self::BodyTooLarge { .. } => Reason::BodyTooLarge,
            Self::BodyEncoding { .. } => Reason::BodyEncoding,
            Self::HttpStatus { .. } => Reason::HttpStatus,
            Self::AuthRefused { .. } => Reason::AuthRefused,
            Self::HttpVersion { .. } => Reason::HttpVersion,
            Self::TlsPolicy { .. } => Reason::TlsPolicy,
            Self::HeaderMismatch { .. } => Reason::HeaderMismatch,
            Self::BodyMismatch { .. } => Reason::BodyMismatch,
            Self::JsonInvalid { .. } => Reason::JsonInvalid,
            Self::JsonMismatch { .. } => Reason::JsonMismatch,
            Self::RedirectLoop { .. } => Reason::RedirectLoop,
            Self::RedirectRefused { .. } => Reason::RedirectRefused,
            Self::TooSlow { .. } => Reason::TooSlow,
            Self::ExpositionInvalid { .. } => Reason::ExpositionInvalid,
            Self::MetricsMissing { .. } => Reason::MetricsMissing,
            Self::MetricOutOfBounds { .. } => Reason::MetricOutOfBounds,
            Self::WrongExporter { .. } => Reason::WrongExporter,
            Self::ExpectMismatch { .. } => Reason::ExpectMismatch,
            Self::ExpectTimeout { .. } => Reason::ExpectTimeout,
            Self::DnsNxdomain { .. } => Reason::DnsNxdomain,
            Self::DnsServfail { .. } => Reason::DnsServfail,
            Self::DnsRefused { .. } => Reason::DnsRefused,
            Self::DnsRcode { .. } => Reason::DnsRcode,
            Self::DnsRecords { .. } => Reason::DnsRecords,
            Self::DnsTruncated { .. } => Reason::DnsTruncated,
            Self::DnsMalformed { .. } => Reason::DnsMalformed,
            Self::DnsTimeout { .. } => Reason::DnsTimeout,
            Self::NoReply { .. } => Reason::NoReply,
            Self::TtlExceeded { .. } => Reason::TtlExceeded,
            Self::GrpcStatus { .. } => Reason::GrpcStatus,
            Self::GrpcNotServing { .. } => Reason::GrpcNotServing,
            Self::UpgradeRefused { .. } => Reason::UpgradeRefused,
            Self::Silent { .. } => Reason::Silent,
            Self::ReportedFailure { .. } => Reason::ReportedFailure,
            Self::Overrun { .. } => Reason::Overrun,
            Self::SourceMissing { .. } => Reason::SourceMissing,
            Self::NotScraped { .. } => Reason::NotScraped,
            Self::StaleEvidence { .. } => Reason::StaleEvidence,
        }
    }
}

/// What strangers said is in it: nothing of that begins another line or speaks to a terminal.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(&mut Tame(f))
    }
}

/// Writes control characters as Rust writes them in a literal.
struct Tame<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Tame<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.chars().next_back().filter(|last| last.is_control()) {
                None => self.0.write_str(piece)?,
                Some(last) => {
                    self.0.write_str(
                        piece.get(..piece.len() - last.len_utf8()).unwrap_or_default(),
                    )?;
                    write!(self.0, "{}", last.escape_default())?;
                }
            }
        }
        Ok(())
    }
}

impl Fault {
    #[expect(clippy::too_many_lines, reason = "a table: one line for each fault")]
    fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::ResolveNxdomain { name } => write!(f, "name {name} does not exist"),
            Self::ResolveNoAddress { name, family } => {
                write!(f, "name {name} has no {family} address")
            }
            Self::ResolveServfail { name, detail } => {
                write!(f, "the resolver failed for {name}: {detail}")
            }
            Self::ResolveTimeout { name, budget } => {
                write!(f, "no answer for the name {name} in {}", Took(*budget))
            }
            Self::ConnectRefused { ip, port } => {
                write!(f, "nothing listens on {}", Socket(*ip, *port))
            }
            Self::ConnectTimeout { ip, port, budget } => {
                write!(f, "no answer from {} in {}", Socket(*ip, *port), Took(*budget))
            }
            // No port where none is asked.
            Self::ConnectUnreachable { ip, port: 0, detail } => {
                write!(f, "no way to {ip}: {detail}")
            }
            Self::ConnectUnreachable { ip, port, detail } => {
                write!(f, "no way to {}: {detail}", Socket(*ip, *port))
            }
            Self::ConnectReset { ip, port } => {
                write!(f, "{} reset the connection", Socket(*ip, *port))
            }
            Self::SocketRefused { path } => write!(f, "nothing listens on {path}"),
            Self::SocketUnreachable { path, detail } => write!(f, "no way to {path}: {detail}"),
            Self::SocketTimeout { path, budget } => {
                write!(f, "{path} accepted no connection in {}", Took(*budget))
            }
            Self::ProxyRefused { proxy, detail } => {
                write!(f, "proxy {proxy} opened no tunnel: {detail}")
            }
            Self::TlsHandshake { detail } => write!(f, "TLS handshake failed: {detail}"),
            Self::TlsTimeout { budget } => {
                write!(f, "TLS handshake not finished in {}", Took(*budget))
            }
            Self::CertExpired { subject, position, not_after } => {
                write!(f, "certificate {position} ({subject}) expired on {not_after}")
            }
            Self::CertExpiresSoon { subject, position, not_after, within } => write!(
                f,
                "certificate {position} ({subject}) expires on {not_after}, within {}",
                Took(*within)
            ),
            Self::CertNotYetValid { subject, position, not_before } => {
                write!(f, "certificate {position} ({subject}) is valid only from {not_before}")
            }
            Self::CertNameMismatch { name, presented } => {
                write!(f, "certificate is for {}, not for {name}", presented.join(", "))
            }
            Self::CertUntrusted { issuer, detail } => {
                write!(f, "certificate issued by {issuer} is not trusted: {detail}")
            }
            Self::NoResponse { budget } => {
                write!(f, "connected and asked, but nothing came in {}", Took(*budget))
            }
            Self::ConnectionClosed { received: 0 } => {
                f.write_str("the connection was closed without an answer")
            }
            Self::ConnectionClosed { received } => {
                write!(f, "the connection was closed after {received} bytes")
            }
            Self::ProtocolError { detail } => write!(f, "unexpected answer: {detail}"),
            Self::BodyTimeout { received, budget } => {
                write!(f, "body stalled after {received} bytes; not finished in {}", Took(*budget))
            }
            Self::BodyTruncated { received, declared: Some(declared) } => {
                write!(f, "body ended after {received} of {declared} bytes")
            }
            Self::BodyTruncated { received, declared: None } => {
                write!(f, "body broke off after {received} bytes")
            }
            Self::BodyTooLarge { limit } => write!(f, "body is larger than {limit} bytes"),
            Self::BodyEncoding { coding, detail } => {
                write!(f, "body cannot be decoded as {coding}: {detail}")
            }
            Self::HttpStatus { code } => write!(f, "status {code}"),
            Self::AuthRefused { code } => write!(f, "credentials refused with status {code}"),
            Self::HttpVersion { version } => write!(f, "answered with {version}"),
            Self::TlsPolicy { detail } => f.write_str(detail),
            Self::HeaderMismatch { header, detail } => write!(f, "header {header} {detail}"),
            Self::BodyMismatch { pattern, found: true } => write!(f, "body matches {pattern:?}"),
            Self::BodyMismatch { pattern, found: false } => {
                write!(f, "body does not match {pattern:?}")
            }
            Self::JsonInvalid { detail } => write!(f, "body is not JSON: {detail}"),
            Self::JsonMismatch { expression, detail } => write!(f, "{expression}: {detail}"),
            Self::RedirectLoop { followed } => write!(f, "gave up after {followed} redirects"),
            Self::RedirectRefused { detail } => write!(f, "redirect not followed: {detail}"),
            Self::TooSlow { took, limit } => {
                write!(f, "took {}, more than {}", Took(*took), Took(*limit))
            }
            Self::ExpositionInvalid { line: 0, detail } => write!(f, "not an exposition: {detail}"),
            Self::ExpositionInvalid { line, detail } => {
                write!(f, "exposition is invalid at line {line}: {detail}")
            }
            Self::MetricsMissing { names } => write!(f, "missing metrics: {}", names.join(", ")),
            Self::MetricOutOfBounds { name, value, bounds } => {
                write!(f, "{name} is {value}, outside {bounds}")
            }
            Self::WrongExporter { expected, found } => {
                write!(f, "found {found}, expected {expected}")
            }
            Self::ExpectMismatch { step, expected, got } => {
                write!(f, "step {step}: expected {expected:?}, got {got:?}")
            }
            Self::ExpectTimeout { step, expected, budget } => {
                write!(f, "step {step}: {expected:?} did not come in {}", Took(*budget))
            }
            Self::DnsNxdomain { name } => write!(f, "server says that {name} does not exist"),
            Self::DnsServfail { name } => {
                write!(f, "server failed to answer for {name} (SERVFAIL)")
            }
            Self::DnsRefused { name } => write!(f, "server refused to answer for {name}"),
            Self::DnsRcode { rcode } => write!(f, "server answered {rcode}"),
            Self::DnsRecords { detail } => f.write_str(detail),
            Self::DnsTruncated { detail } => write!(f, "answer was truncated: {detail}"),
            Self::DnsMalformed { detail } => write!(f, "not an answer to our question: {detail}"),
            Self::DnsTimeout { budget } => {
                write!(f, "no answer from the server in {}", Took(*budget))
            }
            Self::NoReply { sent, budget } => {
                write!(f, "no reply to {sent} echo requests in {}", Took(*budget))
            }
            Self::TtlExceeded { from } => write!(f, "hop limit used up at {from}"),
            Self::GrpcStatus { code, message } => write!(f, "gRPC status {code}: {message}"),
            Self::GrpcNotServing { service, status } => {
                write!(f, "service {service:?} is {status}")
            }
            Self::UpgradeRefused { code } => write!(f, "no switch to WebSocket: status {code}"),
            Self::Silent { since: Some(since), allowed } => {
                write!(f, "no beat since {since}; allowed are {}", Took(*allowed))
            }
            Self::Silent { since: None, allowed } => {
                write!(f, "never a beat, within {}", Took(*allowed))
            }
            Self::ReportedFailure { detail } => write!(f, "reported failure: {detail}"),
            Self::Overrun { started, allowed } => {
                write!(f, "started at {started} and not finished within {}", Took(*allowed))
            }
            Self::SourceMissing { sources } => write!(f, "silent: {}", sources.join(", ")),
            Self::NotScraped { source } => write!(f, "{source} does not scrape this watchpost"),
            Self::StaleEvidence { source, age } => {
                write!(f, "evidence from {source} has not moved for {}", Took(*age))
            }
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "{min} to {max}"),
            (Some(min), None) => write!(f, "{min} and above"),
            (None, Some(max)) => write!(f, "{max} and below"),
            (None, None) => f.write_str("any value"),
        }
    }
}

impl Bounds {
    /// NaN is outside every bound.
    pub fn hold(&self, value: f64) -> bool {
        !value.is_nan()
            && self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
    }
}

/// A duration as a person reads it: `4.9 s`, `120 ms`, `14 d`.
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            s if s < 1.0 => write!(f, "{:.0} ms", s * 1e3),
            s if s < 120.0 => write!(f, "{} s", (s * 10.0).round() / 10.0),
            s if s < 7200.0 => write!(f, "{:.0} min", s / 60.0),
            s if s < 172_800.0 => write!(f, "{:.0} h", s / 3600.0),
            s => write!(f, "{:.0} d", s / 86_400.0),
        }
    }
}

/// An address and a port, with brackets around IPv6.
struct Socket(IpAddr, u16);

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.0, self.1).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_carry_their_numbers() {
        let fault = Fault::ResolveTimeout {
            name: "a.example".into(),
            budget: Duration::from_millis(4_900),
        };
        assert_eq!(fault.to_string(), "no answer for the name a.example in 4.9 s");
        let fault = Fault::ConnectRefused { ip: "::1".parse().unwrap(), port: 9122 };
        assert_eq!(fault.to_string(), "nothing listens on [::1]:9122");
        assert_eq!(fault.reason().label(), "connect_refused");
    }

    #[test]
    fn a_stranger_s_words_begin_no_line_and_speak_to_no_terminal() {
        let message = "no\nlevel=INFO all is well\u{1b}[2J é".into();
        let text = Fault::GrpcStatus { code: 2, message }.to_string();
        assert_eq!(text, "gRPC status 2: no\\nlevel=INFO all is well\\u{1b}[2J é");
        let subject: Text = "CN=a\r\nb".into();
        let not_after = Timestamp::UNIX_EPOCH;
        let text = Fault::CertExpired { subject, position: 0, not_after }.to_string();
        assert_eq!(text, "certificate 0 (CN=a\\r\\nb) expired on 1970-01-01T00:00:00Z");
    }

    #[test]
    fn nan_is_outside_every_bound() {
        let any = Bounds { min: None, max: None };
        assert!(any.hold(1.0));
        assert!(!any.hold(f64::NAN));
        assert!(!Bounds { min: Some(1.0), max: None }.hold(0.5));
    }
}
