//! The certificates that are trusted.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Trusted certificates: as anchors for the path's verification, and whole, because an anchor has no dates.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) anchors: RootCertStore,
    whole: Vec<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    der: CertificateDer<'static>,
    /// As it stands in the certificate, to be compared with an issuer.
    subject: Vec<u8>,
}

impl Trust {
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut anchors = RootCertStore::empty();
        // One that cannot be an anchor does not make the others useless, and may still be a server's own.
        anchors.add_parsable_certificates(certificates.iter().cloned());
        let whole = certificates.into_iter().filter_map(Trusted::new).collect();
        Self { anchors, whole }
    }

    /// The system's certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Read once for each process;
    /// this touches files.
    pub(super) fn system() -> Arc<Self> {
        static SYSTEM: OnceLock<Arc<Trust>> = OnceLock::new();
        let load = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's trusted certificates cannot be read");
            }
            Arc::new(Self::new(found.certs))
        };
        Arc::clone(SYSTEM.get_or_init(load))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    pub(super) fn contains(&self, der: &CertificateDer<'_>) -> bool {
        self.whole.iter().any(|trusted| trusted.der == *der)
    }

    /// The trusted certificates of that name; there can be several, with one key or with different ones.
    pub(super) fn named(&self, subject: &[u8]) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.whole.iter().filter(move |trusted| trusted.subject == subject).map(|t| &t.der)
    }
}

impl Trusted {
    fn new(der: CertificateDer<'static>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let subject = certificate.subject().as_raw().to_vec();
        Some(Self { der, subject })
    }
}
