//! Certificates in every state.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use watchpost::clock;

const DAY: i64 = 86_400;

/// What a server shows, and the key to it.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The first of the chain, as a file has it.
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificates to send after a leaf of this authority; a root sends none.
    above: Vec<CertificateDer<'static>>,
}

/// A certificate to be: names, and the days from now between which it is valid.
pub(crate) struct Leaf<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) days: (i64, i64),
    pub(crate) algorithm: &'static SignatureAlgorithm,
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self {
            names: &["localhost"],
            days: (-10, 90),
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

/// Unix time, so many days from now, to the second.
pub(crate) fn days(count: i64) -> i64 {
    clock::now().wall.as_second() + count * DAY
}

fn params(name: &str, names: &[&str], (from, until): (i64, i64)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |count| epoch + Duration::from_secs(u64::try_from(days(count)).unwrap());
    params.not_before = at(from);
    params.not_after = at(until);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ca(name: &str, days: (i64, i64)) -> CertificateParams {
    let mut params = params(name, &[], days);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_of_days(name, (-1000, 3000))
    }

    pub(crate) fn root_of_days(name: &str, days: (i64, i64)) -> Self {
        Self::root_with(name, days, KeyPair::generate().unwrap())
    }

    pub(crate) fn root_with(name: &str, days: (i64, i64), key: KeyPair) -> Self {
        let issuer = CertifiedIssuer::self_signed(ca(name, days), key).unwrap();
        Self { issuer, above: Vec::new() }
    }

    pub(crate) fn intermediate(&self, name: &str, days: (i64, i64)) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(ca(name, days), key, &self.issuer).unwrap();
        let mut above = vec![issuer.der().clone()];
        above.extend(self.above.iter().cloned());
        Self { issuer, above }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn leaf(&self, leaf: &Leaf<'_>) -> Shown {
        let mut params = params(leaf.names.first().unwrap_or(&"nobody"), leaf.names, leaf.days);
        params.extended_key_usages.push(leaf.usage.clone());
        let key = KeyPair::generate_for(leaf.algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        shown(chain, certificate.pem(), &key)
    }
}

/// A certificate that vouches for itself.
pub(crate) fn self_signed(names: &[&str], is_ca: bool) -> Shown {
    let key = KeyPair::generate().unwrap();
    let mut params = params("self", names, (-10, 90));
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let certificate = params.self_signed(&key).unwrap();
    shown(vec![certificate.der().clone()], certificate.pem(), &key)
}

fn shown(chain: Vec<CertificateDer<'static>>, pem: String, key: &KeyPair) -> Shown {
    let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Shown { chain, key: der, pem, key_pem: key.serialize_pem() }
}
