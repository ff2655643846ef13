//! The decision about a chain: dates, name, trust. And the handshake's own signatures.

use std::sync::LazyLock;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::path;
use super::trust::Trust;
use crate::model::Fault;
use crate::net::{Certificate, cut};

/// When the verified chain ends: of each path to a trusted root the earliest end, and of these the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedExpiry(pub Timestamp);

/// How many of a certificate's names a fault lists.
const MAX_LISTED_NAMES: usize = 20;
/// How much of the library's own words is taken over.
const MAX_DETAIL_BYTES: usize = 200;
const NOT_FOR_SERVERS: &str = "its extended key usage does not allow servers";

pub(super) static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);

/// Decides in Go's order: the server's own dates, its name, then the path to a trusted root.
pub(super) fn decide(
    sent: &[CertificateDer<'_>],
    chain: &[Certificate],
    trust: &Trust,
    name: &ServerName<'_>,
    at: Timestamp,
) -> Result<VerifiedExpiry, Fault> {
    let (Some(der), Some(leaf)) = (sent.first(), chain.first()) else {
        return Err(untrusted("nobody", "the server sent no certificate"));
    };
    let Some(not_after) = leaf.not_after else {
        return Err(untrusted("nobody", "the server's certificate cannot be parsed"));
    };
    dates(leaf, 0, at)?;
    named(der, leaf, name)?;
    // webpki has no place for a trusted certificate that is the server's own: it takes one marked as a CA for an
    // authority out of place, and an authority's for no end at all.
    if trust.contains(der) {
        return for_servers(der, leaf).map(|()| VerifiedExpiry(not_after));
    }
    let parsed = ParsedCertificate::try_from(der)
        .map_err(|error| untrusted(&leaf.issuer, error.to_string()))?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(at.as_second()).unwrap_or_default(),
    ));
    let intermediates = &sent[1..];
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &trust.anchors,
        intermediates,
        now,
        ALGORITHMS.all,
    )
    .map_err(|error| path_fault(&error, chain, at))?;
    path::expiry(sent, trust, at).map(VerifiedExpiry)
}

fn untrusted(issuer: &str, detail: impl Into<Box<str>>) -> Fault {
    Fault::CertUntrusted { issuer: issuer.into(), detail: detail.into() }
}

fn dates(certificate: &Certificate, position: usize, at: Timestamp) -> Result<(), Fault> {
    let subject = || certificate.subject.clone();
    match (certificate.not_before, certificate.not_after) {
        (_, Some(not_after)) if not_after < at => {
            Err(Fault::CertExpired { subject: subject(), position, not_after })
        }
        (Some(not_before), _) if not_before > at => {
            Err(Fault::CertNotYetValid { subject: subject(), position, not_before })
        }
        _ => Ok(()),
    }
}

fn named(der: &CertificateDer<'_>, leaf: &Certificate, name: &ServerName<'_>) -> Result<(), Fault> {
    // What the library cannot read (an X.509 v1 certificate) has no alternative names either.
    let matches = ParsedCertificate::try_from(der)
        .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok());
    if matches {
        return Ok(());
    }
    Err(Fault::CertNameMismatch { name: name.to_str().into(), presented: presented(leaf) })
}

fn presented(leaf: &Certificate) -> Vec<Box<str>> {
    let ips = leaf.ips.iter().map(|ip| ip.to_string().into());
    let mut all: Vec<Box<str>> = leaf.sans.iter().cloned().chain(ips).collect();
    if all.is_empty() {
        all.push("no name at all (the common name does not count)".into());
    }
    if all.len() > MAX_LISTED_NAMES {
        let more = all.len() - MAX_LISTED_NAMES;
        all.truncate(MAX_LISTED_NAMES);
        all.push(format!("{more} more").into());
    }
    all
}

/// Whether a certificate that says what it may be used for may be used by a server.
fn for_servers(der: &CertificateDer<'_>, leaf: &Certificate) -> Result<(), Fault> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Ok(()) };
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.any && !usage.value.server_auth => {
            Err(untrusted(&leaf.issuer, NOT_FOR_SERVERS))
        }
        _ => Ok(()),
    }
}

/// The fault for a path that the library refuses.
fn path_fault(error: &Error, chain: &[Certificate], at: Timestamp) -> Fault {
    let Error::InvalidCertificate(error) = error else {
        return untrusted(&chain[0].issuer, error.to_string());
    };
    let about_dates = matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    if about_dates {
        let found = chain.iter().enumerate().find_map(|(i, link)| dates(link, i, at).err());
        if let Some(fault) = found {
            return fault;
        }
    }
    let top = top_of(chain);
    untrusted(&top.issuer, trust_detail(error, chain, top))
}

/// The last certificate that is reached by going from issuer to issuer through what was sent.
fn top_of(chain: &[Certificate]) -> &Certificate {
    let mut top = &chain[0];
    for _ in 0..chain.len() {
        let issuer = chain.iter().find(|link| link.subject == top.issuer);
        match issuer {
            Some(issuer) if issuer.subject != top.subject => top = issuer,
            _ => break,
        }
    }
    top
}

fn trust_detail(error: &CertificateError, chain: &[Certificate], top: &Certificate) -> String {
    let leaf = &chain[0];
    if leaf.subject == leaf.issuer {
        return "it is self-signed and not in the trust store".to_owned();
    }
    if leaf.is_ca && *error != CertificateError::UnknownIssuer {
        return "it is marked as a CA and not itself in the trust store".to_owned();
    }
    match error {
        CertificateError::UnknownIssuer if top.subject == top.issuer => {
            "the chain ends in this root, which is not in the trust store".to_owned()
        }
        CertificateError::UnknownIssuer if chain.len() == 1 => {
            "the server sent no intermediate certificate, and this issuer is not in the trust store"
                .to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the chain ends here: this issuer is neither sent nor in the trust store".to_owned()
        }
        CertificateError::BadSignature => {
            "a signature does not verify with the key of the certificate above it".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            NOT_FOR_SERVERS.to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed in a way that is no longer accepted, such as SHA-1".to_owned()
        }
        // Some of the library's texts list bytes.
        other => cut(&other.to_string(), MAX_DETAIL_BYTES).to_owned(),
    }
}

/// Verifies that the peer holds the key of the certificate that it shows, and nothing else: [`decide`] is asked after
/// the handshake, which therefore always yields its facts.
#[derive(Debug)]
pub(super) struct HandshakeSignatures;

impl ServerCertVerifier for HandshakeSignatures {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls12_signature(message, cert, dss, &ALGORITHMS);
        verified.or_else(
            |error| if is_readable(cert) { Err(error) } else { by_key(message, cert, dss) },
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, cert, dss, &ALGORITHMS);
        let Err(error) = verified else { return verified };
        let Some(key) = (!is_readable(cert)).then(|| public_key(cert)).flatten() else {
            return Err(error);
        };
        verify_tls13_signature_with_raw_key(message, &key, dss, &ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

/// Whether the library can read the certificate. It cannot read X.509 v1, which `openssl x509 -req` makes.
fn is_readable(cert: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(cert).is_ok()
}

fn public_key(cert: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, certificate) = X509Certificate::from_der(cert).ok()?;
    Some(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}

/// Verifies a signature of TLS 1.2 with the bare key of a certificate that the library cannot read.
fn by_key(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let wrong = || Error::from(CertificateError::BadSignature);
    let (_, certificate) = X509Certificate::from_der(cert).map_err(|_| wrong())?;
    let algorithms = ALGORITHMS
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == dss.scheme)
        .map(|(_, algorithms)| *algorithms)
        .ok_or_else(wrong)?;
    let key = certificate.public_key();
    algorithms
        .iter()
        .filter(|algorithm| path::is_key_for(**algorithm, key))
        .any(|algorithm| {
            let key = &key.subject_public_key.data;
            algorithm.verify_signature(key, message, dss.signature()).is_ok()
        })
        .then(HandshakeSignatureValid::assertion)
        .ok_or_else(wrong)
}
