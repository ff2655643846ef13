//! The server's side of TLS, from the file of `--web.config.file`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, version,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::spec::{ClientAuth, TlsSpec, Version, set};
use crate::model::{Mistakes, Secret};

/// Suites of TLS 1.2 that Go knows and we do not speak: CBC, RC4, 3DES and key exchange by RSA.
const UNSPOKEN: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Go's names of groups, with the library's; the last is not spoken.
const CURVES: [(&str, Option<&str>); 5] = [
    ("X25519MLKEM768", Some("X25519MLKEM768")),
    ("X25519", Some("X25519")),
    ("CurveP256", Some("secp256r1")),
    ("CurveP384", Some("secp384r1")),
    ("CurveP521", None),
];

/// Names of suites and groups that nobody knows are mistakes; those that only we do not speak are left out.
pub(super) fn check_words(spec: &TlsSpec, mistakes: &mut Mistakes) {
    for name in spec.cipher_suites.iter().flatten() {
        if UNSPOKEN.contains(&name.as_str()) {
            let what = format!("the cipher suite {name} is not spoken and is left out");
            mistakes.warning("cipher_suites", what, "remove it");
        } else if suite(name).is_none() {
            let what = format!("there is no cipher suite {name:?}");
            mistakes.error("cipher_suites", what, "use Go's names, such as TLS_AES_128_GCM_SHA256");
        }
    }
    for name in spec.curve_preferences.iter().flatten() {
        match CURVES.iter().find(|(known, _)| known == name) {
            Some((_, Some(_))) => {}
            Some((_, None)) => {
                let what = format!("the curve {name} is not spoken and is left out");
                mistakes.warning("curve_preferences", what, "remove it");
            }
            None => {
                let known = CURVES.map(|(name, _)| name).join(", ");
                let what = format!("there is no curve {name:?}");
                mistakes.error("curve_preferences", what, format!("use one of {known}"));
            }
        }
    }
}

/// Go's name of a suite to ours: `TLS13_…` there is no such prefix, and old names lack `_SHA256` behind `POLY1305`.
fn suite(name: &str) -> Option<rustls::SupportedCipherSuite> {
    let long = if name.ends_with("POLY1305") { format!("{name}_SHA256") } else { name.to_owned() };
    aws_lc_rs::ALL_CIPHER_SUITES.iter().copied().find(|suite| {
        let ours = format!("{:?}", suite.suite());
        ours.replacen("TLS13_", "TLS_", 1) == long
    })
}

fn provider(spec: &TlsSpec) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let named: Vec<_> = spec.cipher_suites.iter().flatten().collect();
    if !named.is_empty() {
        // As in Go, the list is about TLS 1.2; the suites of 1.3 are not chosen.
        let modern = provider.cipher_suites.iter().copied().filter(|s| s.tls13().is_some());
        let chosen = named.iter().filter_map(|name| suite(name)).filter(|s| s.tls13().is_none());
        provider.cipher_suites = modern.chain(chosen).collect();
    }
    let curves: Vec<_> = spec.curve_preferences.iter().flatten().collect();
    let chosen: Vec<_> = curves
        .iter()
        .filter_map(|name| CURVES.iter().find(|(known, _)| known == *name)?.1)
        .filter_map(|ours| {
            let all = aws_lc_rs::ALL_KX_GROUPS.iter();
            all.copied().find(|group| format!("{:?}", group.name()) == ours)
        })
        .collect();
    if !chosen.is_empty() {
        provider.kx_groups = chosen;
    }
    provider
}

fn versions(spec: &TlsSpec) -> Vec<&'static SupportedProtocolVersion> {
    let min = spec.min_version.unwrap_or(Version::Tls12);
    let max = spec.max_version.unwrap_or(Version::Tls13).max(Version::Tls12);
    let known = [(Version::Tls12, &version::TLS12), (Version::Tls13, &version::TLS13)];
    known.iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, version)| *version).collect()
}

/// The files that a configuration is made of.
pub(super) fn files(spec: &TlsSpec, folder: &Path) -> Vec<PathBuf> {
    [&spec.cert_file, &spec.key_file, &spec.client_ca_file]
        .into_iter()
        .flatten()
        .filter(|path| !path.is_empty())
        .map(|path| folder.join(path))
        .collect()
}

/// Reads the files and makes the configuration.
pub(super) fn build(spec: &TlsSpec, folder: &Path, http2: bool) -> Result<ServerConfig, String> {
    let provider = Arc::new(provider(spec));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(spec))
        .map_err(|error| format!("tls_server_config: {error}"))?;
    let builder = match verifier(spec, folder, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let chain = text(spec.cert.as_deref(), spec.cert_file.as_deref(), folder, "cert")?;
    let chain = certificates(&chain, "cert")?;
    let key = spec.key.as_ref().map(Secret::reveal);
    let key = text(key, spec.key_file.as_deref(), folder, "key")?;
    // What is wrong with a key is not told: it would be told about a secret.
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| "key: no private key in PEM")?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("tls_server_config: certificate and key: {error}"))?;
    config.ignore_client_order = spec.prefer_server_cipher_suites.unwrap_or(true);
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}

fn text(
    inline: Option<&str>,
    file: Option<&str>,
    folder: &Path,
    key: &str,
) -> Result<Vec<u8>, String> {
    if let Some(inline) = inline.filter(|text| !text.is_empty()) {
        return Ok(inline.as_bytes().to_vec());
    }
    let path = folder.join(file.unwrap_or_default());
    std::fs::read(&path).map_err(|error| format!("{key}_file: {}: {error}", path.display()))
}

fn certificates(pem: &[u8], key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("{key}: {error}"))?;
    if read.is_empty() { Err(format!("{key}: no certificate in PEM")) } else { Ok(read) }
}

fn verifier(
    spec: &TlsSpec,
    folder: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let auth = spec.client_auth();
    if auth == ClientAuth::No {
        return Ok(None);
    }
    let (ca, ca_file) = (spec.client_ca.as_deref(), spec.client_ca_file.as_deref());
    let path = if auth.verifies() && (set(ca) || set(ca_file)) {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&text(ca, ca_file, folder, "client_ca")?, "client_ca")? {
            roots.add(certificate).map_err(|error| format!("client_ca: {error}"))?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match auth {
            ClientAuth::VerifyIfGiven => builder.allow_unauthenticated(),
            _ => builder,
        };
        Some(builder.build().map_err(|error| format!("client_ca: {error}"))?)
    } else {
        None
    };
    let sans = spec.client_allowed_sans.clone().unwrap_or_default();
    let algorithms = provider.signature_verification_algorithms;
    let mandatory = matches!(auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    Ok(Some(Arc::new(Clients { path, sans, mandatory, algorithms })))
}

/// Which clients may come.
#[derive(Debug)]
struct Clients {
    /// `None` takes any certificate.
    path: Option<Arc<dyn ClientCertVerifier>>,
    /// One of these must be in the certificate; any will do when there are none.
    sans: Vec<String>,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.path.as_ref().map_or(&[], |path| path.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(path) = &self.path {
            path.verify_client_cert(end_entity, intermediates, now)?;
        }
        if self.sans.is_empty() || names(end_entity).iter().any(|name| self.sans.contains(name)) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// DNS names, addresses, mail addresses and URIs that a certificate is for.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    names.value.general_names.iter().filter_map(text_of).collect()
}

fn text_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}
