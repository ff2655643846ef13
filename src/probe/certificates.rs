//! The facts of a TLS session, for every prober that has one.

use jiff::Timestamp;

use super::Report;
use crate::model::{Answer, Fact, Family, family};
use crate::net::{Certificate, Session, VerifiedExpiry};

/// What Go's zero time is in unix time: upstream's value where no chain was verified.
const NEVER_VERIFIED: f64 = -62_135_596_800.0;
/// How many certificates of a chain are told about.
const MAX_POSITIONS: usize = 10;
/// The longest list of names in a label, in bytes.
const MAX_NAMES_BYTES: usize = 4096;

/// Everything that a session is told with; a later session of the same run replaces it.
static FAMILIES: [&Family; 10] = [
    &family::PROBE_SSL_EARLIEST_CERT_EXPIRY,
    &family::PROBE_SSL_LAST_CHAIN_EXPIRY,
    &family::PROBE_SSL_LAST_CHAIN_INFO,
    &family::PROBE_SSL_VERIFIED,
    &family::PROBE_SSL_CERT_NOT_AFTER,
    &family::PROBE_SSL_CERT_NOT_BEFORE,
    &family::PROBE_SSL_CERT_INFO,
    &family::PROBE_TLS_VERSION_INFO,
    &family::PROBE_TLS_CIPHER_INFO,
    &family::PROBE_TLS_ALPN_INFO,
];

/// Drops what an earlier session of this run said: the final response came without TLS.
pub(super) fn forget(report: &mut Report) {
    for family in FAMILIES {
        report.forget(family);
    }
}

/// Upstream's TLS metrics, and the decision. When the decision is bad, also each certificate: somebody will want to
/// know which one.
pub(super) fn tls_facts(report: &mut Report, session: &Session) {
    forget(report);
    if let Some(earliest) = session.earliest_expiry() {
        report.set(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY, unix(earliest));
    }
    let last = match session.verified {
        Ok(VerifiedExpiry(end)) if !session.skip_verify => unix(end),
        _ => NEVER_VERIFIED,
    };
    report.set(&family::PROBE_SSL_LAST_CHAIN_EXPIRY, last);
    if let Some(leaf) = session.chain.first() {
        report.add(leaf_info(leaf));
    }
    let version = session.version;
    report.add(Fact::labelled(&family::PROBE_TLS_VERSION_INFO, "version", version, 1.0));
    report.set_flag(&family::PROBE_SSL_VERIFIED, session.verified.is_ok());
    report.note(|| note(session));
    if session.refusal().is_some() {
        chain_facts(report, session);
    }
}

/// The cipher suite, and the protocol that ALPN agreed on.
pub(super) fn session_facts(report: &mut Report, session: &Session) {
    let cipher = session.cipher;
    report.add(Fact::labelled(&family::PROBE_TLS_CIPHER_INFO, "cipher", cipher, 1.0));
    if let Some(protocol) = &session.alpn {
        let protocol = String::from_utf8_lossy(protocol).into_owned();
        report.add(Fact::labelled(&family::PROBE_TLS_ALPN_INFO, "protocol", protocol, 1.0));
    }
}

/// Each certificate as sent, by position.
pub(super) fn chain_facts(report: &mut Report, session: &Session) {
    report.forget(&family::PROBE_SSL_CERT_NOT_AFTER);
    report.forget(&family::PROBE_SSL_CERT_NOT_BEFORE);
    report.forget(&family::PROBE_SSL_CERT_INFO);
    for (position, certificate) in session.chain.iter().take(MAX_POSITIONS).enumerate() {
        let position = position.to_string();
        let mut time = |family: &'static Family, time: Option<Timestamp>| {
            if let Some(time) = time {
                report.add(Fact::labelled(family, "position", position.as_str(), unix(time)));
            }
        };
        time(&family::PROBE_SSL_CERT_NOT_AFTER, certificate.not_after);
        time(&family::PROBE_SSL_CERT_NOT_BEFORE, certificate.not_before);
        report.add(info(&position, certificate));
    }
}

/// Fails when the decision about the chain is bad and not to be ignored.
pub(super) fn require_verified(session: &Session) -> Result<(), Answer> {
    session.refusal().map_or(Ok(()), |fault| Err(fault.clone().into()))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of all calendar years fit in 53 bits")]
fn unix(time: Timestamp) -> f64 {
    time.as_second() as f64
}

fn leaf_info(leaf: &Certificate) -> Fact {
    let labels: [(Box<str>, Box<str>); 5] = [
        ("fingerprint_sha256".into(), leaf.fingerprint_sha256.clone()),
        ("subject".into(), leaf.subject.clone()),
        ("issuer".into(), leaf.issuer.clone()),
        ("subjectalternative".into(), joined(&leaf.sans)),
        ("serialnumber".into(), leaf.serial.clone()),
    ];
    Fact::info(&family::PROBE_SSL_LAST_CHAIN_INFO, labels)
}

fn info(position: &str, certificate: &Certificate) -> Fact {
    let labels: [(Box<str>, Box<str>); 6] = [
        ("position".into(), position.into()),
        ("subject".into(), certificate.subject.clone()),
        ("issuer".into(), certificate.issuer.clone()),
        ("serialnumber".into(), certificate.serial.clone()),
        ("subjectalternative".into(), joined(&certificate.sans)),
        ("key_type".into(), certificate.key_type.clone()),
    ];
    Fact::info(&family::PROBE_SSL_CERT_INFO, labels)
}

/// The names with commas between them, as many as fit.
fn joined(names: &[Box<str>]) -> Box<str> {
    let mut out = String::new();
    for name in names {
        if out.len() + name.len() >= MAX_NAMES_BYTES {
            break;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
    }
    out.into()
}

fn note(session: &Session) -> String {
    let chain: Vec<&str> = session.chain.iter().map(|c| &*c.subject).collect();
    let verified = match &session.verified {
        Ok(VerifiedExpiry(end)) => format!("verified until {end}"),
        Err(fault) => format!("not verified: {fault}"),
    };
    format!("{} {} with {}; {verified}", session.version, session.cipher, chain.join(" < "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fault;

    fn session(verified: Result<VerifiedExpiry, Fault>, skip_verify: bool) -> Session {
        Session {
            version: "TLS 1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            alpn: Some((*b"h2").into()),
            chain: vec![Certificate::parse(b"no certificate"); MAX_POSITIONS + 3],
            verified,
            skip_verify,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn count(report: Report, family: &'static Family) -> usize {
        let stamp = crate::clock::now();
        let (outcome, _) = report.into_outcome(
            stamp,
            std::time::Duration::ZERO,
            std::time::Duration::ZERO,
            Answer::Pass,
        );
        outcome.facts.iter().filter(|fact| fact.is(family)).count()
    }

    #[test]
    fn a_chain_that_does_not_parse_is_told_without_dates() {
        let fault = Fault::CertUntrusted { issuer: "x".into(), detail: "y".into() };
        let mut report = Report::default();
        tls_facts(&mut report, &session(Err(fault.clone()), false));
        tls_facts(&mut report, &session(Err(fault), false));
        assert_eq!(count(report, &family::PROBE_SSL_CERT_INFO), MAX_POSITIONS);
        let mut report = Report::default();
        tls_facts(&mut report, &session(Ok(VerifiedExpiry(Timestamp::UNIX_EPOCH)), false));
        assert_eq!(count(report, &family::PROBE_SSL_CERT_INFO), 0);
    }

    #[test]
    fn skipping_verification_verifies_nothing() {
        let mut report = Report::default();
        tls_facts(&mut report, &session(Ok(VerifiedExpiry(Timestamp::UNIX_EPOCH)), true));
        let stamp = crate::clock::now();
        let zero = std::time::Duration::ZERO;
        let (outcome, _) = report.into_outcome(stamp, zero, zero, Answer::Pass);
        assert_eq!(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), Some(NEVER_VERIFIED));
        assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), Some(1.0));
    }

    #[test]
    fn long_lists_of_names_are_cut_between_names() {
        let names: Vec<Box<str>> = vec!["a".repeat(200).into(); 100];
        let text = joined(&names);
        assert!(text.len() < MAX_NAMES_BYTES);
        assert!(text.split(',').all(|name| name.len() == 200));
    }
}
