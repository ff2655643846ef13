//! `tls`: what certificates does a server show, until when, and would anybody believe them?
//!
//! Facts come first: once a handshake has yielded a chain they are there, whatever the verdict says. The verdict is, in
//! this order: the handshake, the decision about the chain, its end, the rules about version and protocol, a warning.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpStream;

use super::starttls::StartTls;
use super::tcp::source_address;
use super::wire::Wire;
use super::{Ask, Blocks, Report, Verdict, address, certificates};
use crate::model::{Answer, Fault, Mistakes, Period, Phase, Unknown};
use crate::net::{
    IpFamily, IpPreference, Session, TlsClient, TlsSettings, TlsVersion, accepted, dial,
};

const DEFAULT_PORT: u16 = 443;
/// The most protocols that are offered.
const MAX_PROTOCOLS: usize = 16;

/// The block `tls:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub tls_config: Option<TlsSettings>,
    /// Degraded when any certificate of the chain as sent ends within this time.
    pub warn_if_expires_within: Option<Period>,
    /// Down when any certificate of the chain as sent ends within this time.
    pub fail_if_expires_within: Option<Period>,
    /// The protocol in which TLS is asked for, on a port that begins in plain text.
    pub starttls: Option<StartTls>,
    /// Protocols to offer, the best first.
    pub alpn: Option<Vec<String>>,
    /// The protocol that must be agreed on. It is offered too.
    pub require_alpn: Option<String>,
    /// The lowest version that is good enough. Unlike `tls_config.min_version` it does not keep the handshake from
    /// yielding its facts.
    pub min_version: Option<TlsVersion>,
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// The address that the connection leaves from.
    pub source_ip_address: Option<String>,
    /// For a target without a port; default 443, or what the protocol of `starttls` usually has.
    pub port: Option<u16>,
}

#[derive(Debug)]
pub struct Prober {
    client: TlsClient,
    rules: Rules,
    starttls: Option<StartTls>,
    alpn: Vec<String>,
    preference: IpPreference,
    source: Option<String>,
    port: u16,
}

#[derive(Debug, Default)]
struct Rules {
    warn_within: Option<Duration>,
    fail_within: Option<Duration>,
    alpn: Option<String>,
    min_version: Option<TlsVersion>,
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.tls.take().unwrap_or_default();
        mistakes.within("tls", |mistakes| spec.check(mistakes));
        let mut alpn = spec.alpn.unwrap_or_default();
        if let Some(required) = &spec.require_alpn
            && !alpn.contains(required)
        {
            alpn.push(required.clone());
        }
        let default_port = spec.starttls.map_or(DEFAULT_PORT, StartTls::default_port);
        Some(Self {
            client: TlsClient::new(spec.tls_config.unwrap_or_default()),
            rules: Rules {
                warn_within: spec.warn_if_expires_within.map(Period::get),
                fail_within: spec.fail_if_expires_within.map(Period::get),
                alpn: spec.require_alpn,
                min_version: spec.min_version,
            },
            starttls: spec.starttls,
            alpn,
            preference: IpPreference {
                family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
                fallback: spec.ip_protocol_fallback.unwrap_or(true),
            },
            source: spec.source_ip_address,
            port: spec.port.unwrap_or(default_port),
        })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let Some((host, port)) = split(&ask.target.address, self.port) else {
            let detail = format!("{:?} is neither host nor host:port", ask.target.address);
            return Err(Unknown::Setup(detail.into()).into());
        };
        let ip = address::resolve(ask, (host, Some(port)), self.preference, report).await?;
        let source = source_address(self.source.as_deref())?;
        self.client.prepare(ask.deadline).await?;
        let stream = dial(ip, port, source, ask.deadline, &mut report.watch).await?;
        report.note(|| format!("connected to {ip} port {port}"));
        let stream = self.start(stream, ask, report).await?;
        let name = ask.target.hostname.as_deref().unwrap_or(host);
        let alpn: Vec<&[u8]> = self.alpn.iter().map(String::as_bytes).collect();
        let shaken =
            self.client.handshake(stream, name, &alpn, ask.deadline, &mut report.watch).await;
        let (mut stream, session) = shaken?;
        certificates::tls_facts(report, &session);
        certificates::session_facts(report, &session);
        certificates::chain_facts(report, &session);
        let verdict = match certificates::require_verified(&session) {
            Ok(()) => accepted(&mut stream, ask.deadline).await,
            refused => refused,
        };
        Wire::new(stream).close(ask.deadline).await;
        verdict.and_then(|()| self.rules.judge(&session))
    }

    /// Brings a connection that begins in plain text to the point where TLS begins.
    async fn start(
        &self,
        stream: TcpStream,
        ask: &Ask<'_>,
        report: &mut Report,
    ) -> Result<TcpStream, Answer> {
        let Some(starttls) = self.starttls else { return Ok(stream) };
        report.watch.enter(Phase::Processing);
        let stream = starttls.ask(stream, ask.deadline).await?;
        report.note(|| format!("{starttls:?} peer agreed to go on in TLS"));
        Ok(stream)
    }
}

impl Spec {
    fn check(&self, mistakes: &mut Mistakes) {
        if let Some(settings) = &self.tls_config {
            mistakes.within("tls_config", |mistakes| settings.check(mistakes));
        }
        if let (Some(warn), Some(fail)) = (self.warn_if_expires_within, self.fail_if_expires_within)
            && warn <= fail
        {
            mistakes.warning(
                "warn_if_expires_within",
                "the warning would never come before the failure",
                "make it longer than fail_if_expires_within",
            );
        }
        if matches!(self.min_version, Some(TlsVersion::Tls10 | TlsVersion::Tls11)) {
            mistakes.warning(
                "min_version",
                "only TLS 1.2 and 1.3 can be spoken, so this rule always holds",
                "use TLS12 or TLS13",
            );
        }
        self.check_alpn(mistakes);
        if self.port == Some(0) {
            mistakes.error("port", "there is no port 0", "use 1 to 65535");
        }
    }

    fn check_alpn(&self, mistakes: &mut Mistakes) {
        let offered = self.alpn.as_deref().unwrap_or_default();
        let wrong = |name: &String| name.is_empty() || name.len() > usize::from(u8::MAX);
        if offered.iter().any(wrong) {
            mistakes.error("alpn", "a protocol's name has 1 to 255 bytes", "for instance h2");
        }
        if self.require_alpn.as_ref().is_some_and(wrong) {
            mistakes.error(
                "require_alpn",
                "a protocol's name has 1 to 255 bytes",
                "for instance h2",
            );
        }
        if offered.len() > MAX_PROTOCOLS {
            mistakes.error(
                "alpn",
                format!("more than {MAX_PROTOCOLS} protocols"),
                "offer those that the server is for",
            );
        }
    }
}

impl Rules {
    fn judge(&self, session: &Session) -> Verdict {
        if let Some(fault) = self.fail_within.and_then(|within| ends_within(session, within)) {
            return Err(Answer::Fail(fault));
        }
        self.policy(session)?;
        match self.warn_within.and_then(|within| ends_within(session, within)) {
            Some(fault) => Err(Answer::Warn(fault)),
            None => Ok(()),
        }
    }

    fn policy(&self, session: &Session) -> Verdict {
        if let Some(min) = self.min_version.map(TlsVersion::label)
            // Two labels of one form: the order of the texts is the order of the versions.
            && session.version < min
        {
            let detail = format!("{} is spoken, {min} is wanted", session.version);
            return Err(Fault::TlsPolicy { detail: detail.into() }.into());
        }
        let agreed = session.alpn.as_deref();
        match &self.alpn {
            Some(wanted) if agreed != Some(wanted.as_bytes()) => {
                let agreed = agreed.map_or("none".into(), String::from_utf8_lossy);
                let detail = format!("ALPN agreed on {agreed}, {wanted} is wanted");
                Err(Fault::TlsPolicy { detail: detail.into() }.into())
            }
            _ => Ok(()),
        }
    }
}

/// The certificate that ends first, when it ends within that time or has ended.
fn ends_within(session: &Session, within: Duration) -> Option<Fault> {
    let ends = session.chain.iter().enumerate().filter_map(|(position, certificate)| {
        certificate.not_after.map(|not_after| (not_after, position, certificate))
    });
    let (not_after, position, certificate) = ends.min_by_key(|(not_after, ..)| *not_after)?;
    let subject = certificate.subject.clone();
    if not_after < session.at {
        // Only reached where the decision is ignored, or where the chain has a certificate that no path needs.
        return Some(Fault::CertExpired { subject, position, not_after });
    }
    let left = Duration::try_from(not_after.duration_since(session.at)).unwrap_or_default();
    (left <= within).then_some(Fault::CertExpiresSoon { subject, position, not_after, within })
}

/// Host and port of `host`, `host:port`, or of a URL that somebody pasted.
fn split(address: &str, default_port: u16) -> Option<(&str, u16)> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(host) = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
        return Some((host, default_port));
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Some((authority, default_port));
    }
    if !authority.contains(':') {
        return (!authority.is_empty()).then_some((authority, default_port));
    }
    address::host_port(authority).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::net::{Certificate, VerifiedExpiry};

    #[test]
    fn targets_are_read_as_people_write_them() {
        let rows = [
            ("shop.example", Some(("shop.example", 443))),
            ("shop.example:8443", Some(("shop.example", 8443))),
            ("https://shop.example/path?q#f", Some(("shop.example", 443))),
            ("https://user:pw@shop.example:8443/", Some(("shop.example", 8443))),
            ("2001:db8::1", Some(("2001:db8::1", 443))),
            ("[2001:db8::1]", Some(("2001:db8::1", 443))),
            ("[2001:db8::1]:636", Some(("2001:db8::1", 636))),
            ("shop.example:", None),
            (":443", None),
            ("", None),
            ("https:///x", None),
        ];
        for (address, wanted) in rows {
            assert_eq!(split(address, DEFAULT_PORT), wanted, "{address}");
        }
    }

    const HOUR: i64 = 3600;

    fn session(ends_in_hours: &[i64]) -> Session {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let end = |hours: &i64| Certificate {
            not_after: Some(at + SignedDuration::from_secs(hours * HOUR)),
            ..Certificate::parse(b"")
        };
        Session {
            version: "TLS 1.2",
            cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            alpn: None,
            chain: ends_in_hours.iter().map(end).collect(),
            verified: Ok(VerifiedExpiry(at)),
            skip_verify: false,
            at,
        }
    }

    const fn hours(count: u64) -> Duration {
        Duration::from_secs(count * 3600)
    }

    #[test]
    fn the_first_end_of_the_whole_chain_counts() {
        let rules = Rules {
            warn_within: Some(hours(48)),
            fail_within: Some(hours(10)),
            ..Rules::default()
        };
        assert_eq!(rules.judge(&session(&[100, 200])), Ok(()));
        let warning = rules.judge(&session(&[100, 40])).unwrap_err();
        assert!(matches!(warning, Answer::Warn(Fault::CertExpiresSoon { position: 1, .. })));
        let failure = rules.judge(&session(&[9, 40])).unwrap_err();
        assert!(matches!(failure, Answer::Fail(Fault::CertExpiresSoon { position: 0, .. })));
        let failure = rules.judge(&session(&[100, -1])).unwrap_err();
        assert!(matches!(failure, Answer::Fail(Fault::CertExpired { position: 1, .. })));
    }

    #[test]
    fn a_broken_rule_outweighs_a_warning() {
        let rules = Rules {
            warn_within: Some(hours(48)),
            min_version: Some(TlsVersion::Tls13),
            ..Rules::default()
        };
        let failure = rules.judge(&session(&[1])).unwrap_err();
        assert_eq!(failure.reason(), Some("tls_policy"));
        assert_eq!(failure.to_string(), "TLS 1.2 is spoken, TLS 1.3 is wanted");
        let rules = Rules { alpn: Some("h2".into()), ..Rules::default() };
        let failure = rules.judge(&session(&[1])).unwrap_err();
        assert_eq!(failure.to_string(), "ALPN agreed on none, h2 is wanted");
    }
}
