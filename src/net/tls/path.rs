//! When the paths from a server's certificate to the trusted roots end.
//!
//! The library says that there is a path and not which one. So the paths are walked here by the names of their issuers,
//! through what was sent up to each root in the trust store, roots included. Where a name has several certificates,
//! the signature decides. Constraints of a CA are not looked at: the library has found a path that keeps them.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::trust::Trust;
use super::verify::ALGORITHMS;
use crate::model::Fault;
use crate::net::{Certificate, der};

/// How many certificates a path may have above the server's own.
const MAX_DEPTH: usize = 8;
/// How many steps are taken at all: a stranger chooses the names in the chain.
const MAX_STEPS: usize = 64;

struct Walk<'a> {
    sent: Vec<Option<X509Certificate<'a>>>,
    trust: &'a Trust,
    at: i64,
    steps: usize,
    /// A root that would have done, had it not expired.
    expired: Option<Fault>,
}

/// Of each path the earliest end, and of these the latest. A fault when every path needs a root that has expired.
pub(super) fn expiry(
    sent: &[CertificateDer<'_>],
    trust: &Trust,
    at: Timestamp,
) -> Result<Timestamp, Fault> {
    let parsed = sent.iter().map(|der| read(der)).collect();
    let mut walk = Walk { sent: parsed, trust, at: at.as_second(), steps: 0, expired: None };
    if let Some(end) = walk.end_of(0, &mut vec![0]) {
        return Ok(Timestamp::from_second(end).unwrap_or(Timestamp::MAX));
    }
    if let Some(fault) = walk.expired {
        return Err(fault);
    }
    // The library has found a path and the walk has not: then what was sent is what is known.
    let ends = walk.sent.iter().flatten().map(|c| c.validity().not_after.timestamp()).min();
    Ok(ends.and_then(|end| Timestamp::from_second(end).ok()).unwrap_or(Timestamp::MAX))
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

impl Walk<'_> {
    /// The latest end among the paths that begin at `position`; each ends with its earliest certificate.
    fn end_of(&mut self, position: usize, used: &mut Vec<usize>) -> Option<i64> {
        self.steps += 1;
        if self.steps > MAX_STEPS || used.len() > MAX_DEPTH {
            return None;
        }
        let child = self.sent[position].clone()?;
        let issuer = child.issuer().as_raw();
        let trust = self.trust;
        let roots: Vec<_> = trust.named(issuer).filter_map(read).collect();
        let above: Vec<usize> = (0..self.sent.len())
            .filter(|i| !used.contains(i) && self.is_named(*i, issuer))
            .collect();
        let several = roots.len() + above.len() > 1;
        let mut latest = None;
        for root in &roots {
            if !several || is_signed_by(&child, root) {
                latest = latest.max(self.end_of_root(root, used.len()));
            }
        }
        for next in above {
            let signed = self.sent[next].as_ref().is_some_and(|issuer| {
                is_valid_at(issuer, self.at) && (!several || is_signed_by(&child, issuer))
            });
            if signed {
                used.push(next);
                latest = latest.max(self.end_of(next, used));
                used.pop();
            }
        }
        latest.map(|end| end.min(child.validity().not_after.timestamp()))
    }

    fn is_named(&self, position: usize, subject: &[u8]) -> bool {
        self.sent[position].as_ref().is_some_and(|c| c.subject().as_raw() == subject)
    }

    fn end_of_root(&mut self, root: &X509Certificate<'_>, position: usize) -> Option<i64> {
        let end = root.validity().not_after.timestamp();
        if is_valid_at(root, self.at) {
            return Some(end);
        }
        let facts = Certificate::parse(root.as_raw());
        if end < self.at
            && let Some(not_after) = facts.not_after
        {
            self.expired = Some(Fault::CertExpired { subject: facts.subject, position, not_after });
        }
        None
    }
}

fn is_valid_at(certificate: &X509Certificate<'_>, at: i64) -> bool {
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&at)
}

fn is_signed_by(child: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let Some(signed_with) = signature_algorithm(child.as_raw()) else { return false };
    let key = issuer.public_key();
    ALGORITHMS
        .all
        .iter()
        .filter(|algorithm| {
            &*algorithm.signature_alg_id() == signed_with && is_key_for(**algorithm, key)
        })
        .any(|algorithm| {
            let message = child.tbs_certificate.as_ref();
            let signature = &child.signature_value.data;
            algorithm.verify_signature(&key.subject_public_key.data, message, signature).is_ok()
        })
}

/// The algorithm's identifier in a certificate, without its outer tag.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let whole = der::element(certificate)?;
    let signed = der::element(whole.content)?;
    Some(der::element(signed.rest)?.content)
}

/// Whether a key is of the kind that the algorithm wants.
pub(super) fn is_key_for(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &SubjectPublicKeyInfo<'_>,
) -> bool {
    let identifier = der::element(key.raw).and_then(|whole| der::element(whole.content));
    identifier.is_some_and(|identifier| *algorithm.public_key_alg_id() == *identifier.content)
}
