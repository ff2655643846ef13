//! Certificates in every state, and servers' ways to show them.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use watchpost::clock;

const DAY: i64 = 86_400;
/// A certificate that is to last `n` days shows `n` days for the whole length of a demonstration.
const MARGIN: i64 = 3600;

/// Somebody who signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What a server sends after its own certificate.
    above: Vec<CertificateDer<'static>>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Result<Self, Box<dyn Error>> {
        let issuer = CertifiedIssuer::self_signed(authority(name)?, KeyPair::generate()?)?;
        Ok(Self { issuer, above: Vec::new() })
    }

    pub(crate) fn intermediate(&self, name: &str) -> Result<Self, Box<dyn Error>> {
        let issuer =
            CertifiedIssuer::signed_by(authority(name)?, KeyPair::generate()?, &self.issuer)?;
        let above = vec![issuer.der().clone()];
        Ok(Self { issuer, above })
    }

    /// The same authority, whose servers forget to send it.
    pub(crate) fn forgotten(mut self) -> Self {
        self.above.clear();
        self
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's side of TLS with a certificate for `name` that is valid from and until so many days from now.
    pub(crate) fn server(
        &self,
        name: &str,
        (from, until): (i64, i64),
    ) -> Result<TlsAcceptor, Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let certificate = params(name, Some(name), (from, until))?.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn authority(name: &str) -> Result<CertificateParams, Box<dyn Error>> {
    let mut params = params(name, None, (-400, 4000))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params)
}

fn params(
    common_name: &str,
    name: Option<&str>,
    (from, until): (i64, i64),
) -> Result<CertificateParams, Box<dyn Error>> {
    let names: Vec<String> = name.into_iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names)?;
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |days: i64| -> Result<_, std::num::TryFromIntError> {
        let seconds = clock::now().wall.as_second() + days * DAY + MARGIN;
        Ok(epoch + Duration::from_secs(u64::try_from(seconds)?))
    };
    params.not_before = at(from)?;
    params.not_after = at(until)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}
