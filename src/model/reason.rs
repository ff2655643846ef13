//! The closed list of reasons for which a check fails: the values of the label `reason`.

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why a target failed. The list is closed: a new row belongs here, in the reference and in the runbooks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value of the label `reason`.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// One sentence for the reference.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }
        }
    };
}

reasons! {
    /// The name does not exist.
    ResolveNxdomain = "resolve_nxdomain",
    /// The name exists, without an address of the wanted family.
    ResolveNoAddress = "resolve_no_address",
    /// The resolver failed or refused.
    ResolveServfail = "resolve_servfail",
    /// The resolver did not answer in time.
    ResolveTimeout = "resolve_timeout",
    /// Nothing listens there.
    ConnectRefused = "connect_refused",
    /// Packets vanish: a firewall, or the host is gone.
    ConnectTimeout = "connect_timeout",
    /// No route to the host or network.
    ConnectUnreachable = "connect_unreachable",
    /// The connection was reset before anything was said.
    ConnectReset = "connect_reset",
    /// The proxy did not open the tunnel.
    ProxyRefused = "proxy_refused",
    /// The TLS handshake failed.
    TlsHandshake = "tls_handshake",
    /// The TLS handshake did not end in time.
    TlsTimeout = "tls_timeout",
    /// A certificate of the chain has expired.
    CertExpired = "cert_expired",
    /// A certificate of the chain expires within the configured time.
    CertExpiresSoon = "cert_expires_soon",
    /// A certificate of the chain is not valid yet.
    CertNotYetValid = "cert_not_yet_valid",
    /// The certificate is for another name.
    CertNameMismatch = "cert_name_mismatch",
    /// The chain does not lead to a trusted root.
    CertUntrusted = "cert_untrusted",
    /// Connected and asked, and nothing came.
    NoResponse = "no_response",
    /// The peer closed the connection instead of answering.
    ConnectionClosed = "connection_closed",
    /// What came is not the expected protocol.
    ProtocolError = "protocol_error",
    /// The body stalled.
    BodyTimeout = "body_timeout",
    /// The body ended before its declared length.
    BodyTruncated = "body_truncated",
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large",
    /// The body could not be decoded.
    BodyEncoding = "body_encoding",
    /// The status code is not an accepted one.
    HttpStatus = "http_status",
    /// The credentials were refused: 401, 403 or 407.
    AuthRefused = "auth_refused",
    /// The HTTP version is not an accepted one.
    HttpVersion = "http_version",
    /// The connection broke a rule about TLS: encrypted or not, version, or protocol.
    TlsPolicy = "tls_policy",
    /// A header broke a rule.
    HeaderMismatch = "header_mismatch",
    /// The body broke a rule.
    BodyMismatch = "body_mismatch",
    /// The body is not JSON.
    JsonInvalid = "json_invalid",
    /// The JSON body broke a rule.
    JsonMismatch = "json_mismatch",
    /// More redirects than are followed.
    RedirectLoop = "redirect_loop",
    /// A redirect that cannot or must not be followed.
    RedirectRefused = "redirect_refused",
    /// Answered rightly, later than allowed.
    TooSlow = "too_slow",
    /// The body is not an exposition that Prometheus would take.
    ExpositionInvalid = "exposition_invalid",
    /// Required metrics are not there.
    MetricsMissing = "metrics_missing",
    /// A metric lies outside its bounds.
    MetricOutOfBounds = "metric_out_of_bounds",
    /// A different exporter answers at this address.
    WrongExporter = "wrong_exporter",
    /// The dialogue did not go as expected.
    ExpectMismatch = "expect_mismatch",
    /// The expected answer of the dialogue did not come in time.
    ExpectTimeout = "expect_timeout",
    /// The server says that the name does not exist.
    DnsNxdomain = "dns_nxdomain",
    /// The server failed.
    DnsServfail = "dns_servfail",
    /// The server refused the query.
    DnsRefused = "dns_refused",
    /// Another response code than the accepted ones.
    DnsRcode = "dns_rcode",
    /// The records broke a rule.
    DnsRecords = "dns_records",
    /// The answer was truncated and could not be fetched whole.
    DnsTruncated = "dns_truncated",
    /// What came is not a DNS answer to our question.
    DnsMalformed = "dns_malformed",
    /// The server did not answer in time.
    DnsTimeout = "dns_timeout",
    /// No reply to the echo.
    NoReply = "no_reply",
    /// The hop limit was used up on the way.
    TtlExceeded = "ttl_exceeded",
    /// The call ended with a gRPC status other than OK.
    GrpcStatus = "grpc_status",
    /// The health service says that it is not serving.
    GrpcNotServing = "grpc_not_serving",
    /// The server did not switch to WebSocket.
    UpgradeRefused = "upgrade_refused",
    /// The expected beat did not come.
    Silent = "silent",
    /// The job itself reported that it failed.
    ReportedFailure = "reported_failure",
    /// The job started and did not end in time.
    Overrun = "overrun",
    /// One of the expected sources is silent.
    SourceMissing = "source_missing",
    /// Prometheus does not scrape this watchpost.
    NotScraped = "not_scraped",
    /// Beats come, and the evidence in them does not move.
    StaleEvidence = "stale_evidence",
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_unique_and_plain() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(labels.iter().all(|l| l.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
