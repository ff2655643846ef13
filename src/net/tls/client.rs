//! Making the library's configuration from the settings, and the handshake.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::client_auth::{Asked, Witness};
use super::settings::set;
use super::trust::Trust;
use super::verify::{HandshakeSignatures, decide};
use super::{Session, Sniff, TlsSettings, TlsStream, TlsVersion, failure};
use crate::model::{Answer, Fault, Phase, Unknown};
use crate::net::{Certificate, Deadline, Stopwatch};

/// The largest file of certificates or keys that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Files are looked at no more often than this: a module may have thousands of targets.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Settings, and what was made of them at the first handshake. Files are read again when they change.
#[derive(Debug)]
pub struct TlsClient {
    settings: TlsSettings,
    made: Mutex<Option<Made>>,
}

/// A configuration of the library and the files that it was made from.
#[derive(Debug, Clone)]
struct Made {
    config: Arc<ClientConfig>,
    trust: Arc<Trust>,
    files: FileStamps,
    /// When the files were found to be these.
    looked: Instant,
}

/// Everything that a handshake needs but for the connection.
#[derive(Debug)]
pub(in crate::net) struct Prepared {
    pub(in crate::net) config: Arc<ClientConfig>,
    pub(in crate::net) name: ServerName<'static>,
    trust: Arc<Trust>,
    skip_verify: bool,
}

/// What a handshake agreed on, and what the peer showed.
#[derive(Debug, Clone, Copy)]
pub(in crate::net) struct Agreed<'a> {
    pub(in crate::net) version: &'static str,
    pub(in crate::net) cipher: &'static str,
    pub(in crate::net) alpn: Option<&'a [u8]>,
    pub(in crate::net) sent: &'a [CertificateDer<'static>],
}

/// For each file its time of modification and length, by which a change is noticed.
type FileStamps = Vec<Option<(SystemTime, u64)>>;

impl TlsClient {
    pub const fn new(settings: TlsSettings) -> Self {
        Self { settings, made: Mutex::new(None) }
    }

    pub const fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// The configured `server_name`, if it is set.
    pub fn server_name(&self) -> Option<&str> {
        set(self.settings.server_name.as_ref())
    }

    /// Whether making a configuration of the settings may fail: they name files, or an empty range of versions.
    pub fn can_be_unusable(&self) -> bool {
        let range = self.settings.min_version.zip(self.settings.max_version);
        !self.paths().is_empty() || range.is_some_and(|(min, max)| min > max)
    }

    /// Reads what the settings name, so that a missing file is told before anybody is asked. The handshake does it too.
    pub async fn prepare(&self, deadline: Deadline) -> Result<(), Answer> {
        self.current(deadline).await.map(|_| ())
    }

    /// Shakes hands over `io` in the phase `tls`. `server_name` is the name to ask for and to verify unless the
    /// settings have one; an address is verified against the certificate's addresses and not sent.
    pub async fn handshake<IO>(
        &self,
        io: IO,
        server_name: &str,
        alpn: &[&[u8]],
        deadline: Deadline,
        watch: &mut Stopwatch,
    ) -> Result<(TlsStream<IO>, Session), Answer>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        watch.enter(Phase::Tls);
        let prepared = self.for_name(server_name, deadline).await?;
        let mut config = ClientConfig::clone(&prepared.config);
        let witness = Arc::new(Witness::new(config.client_auth_cert_resolver));
        config.client_auth_cert_resolver = Arc::clone(&witness) as _;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let began = Instant::now();
        let connecting = TlsConnector::from(Arc::new(config))
            .connect(prepared.name.clone(), Sniff::new(io))
            .into_fallible();
        let mut stream = deadline
            .limit(connecting)
            .await
            .map_err(|expired| Fault::TlsTimeout { budget: expired.budget })?
            .map_err(|(error, io)| failure::answer(&error, &io, witness.shown()))?;
        if let Some(shown) = witness.shown() {
            stream.get_mut().0.note_asked(Asked { shown, took: began.elapsed() });
        }
        let (_, connection) = stream.get_ref();
        let session = prepared.session(Agreed {
            version: connection.protocol_version().map_or("unknown", failure::version_label),
            cipher: connection
                .negotiated_cipher_suite()
                .map_or("unknown", |suite| failure::cipher_label(suite.suite())),
            alpn: connection.alpn_protocol(),
            sent: connection.peer_certificates().unwrap_or_default(),
        });
        watch.stop();
        Ok((stream, session))
    }

    /// What a handshake over QUIC begins with; QUIC knows no TLS below 1.3.
    pub(in crate::net) async fn for_quic(
        &self,
        server_name: &str,
        deadline: Deadline,
    ) -> Result<Prepared, Answer> {
        if self.settings.max_version.is_some_and(|max| max < TlsVersion::Tls13) {
            return Err(setup("tls_config: QUIC needs TLS 1.3, which max_version forbids"));
        }
        self.for_name(server_name, deadline).await
    }

    async fn for_name(&self, server_name: &str, deadline: Deadline) -> Result<Prepared, Answer> {
        let made = self.current(deadline).await?;
        let name = parse_name(self.server_name().unwrap_or(server_name))?;
        let skip_verify = self.settings.insecure_skip_verify;
        Ok(Prepared { config: made.config, trust: made.trust, name, skip_verify })
    }

    /// What was made last, or made anew if a file changed.
    async fn current(&self, deadline: Deadline) -> Result<Made, Answer> {
        let kept = self.kept();
        if let Some(made) = kept.as_ref().filter(|made| made.is_fresh()) {
            return Ok(made.clone());
        }
        let looked = Instant::now();
        let paths = self.paths();
        let files = if paths.is_empty() { Vec::new() } else { stamps(paths, deadline).await? };
        let made = match kept.filter(|made| made.files == files) {
            Some(made) => Made { looked, ..made },
            None => self.make(files, looked, deadline).await?,
        };
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
        Ok(made)
    }

    fn kept(&self) -> Option<Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn make(
        &self,
        files: FileStamps,
        looked: Instant,
        deadline: Deadline,
    ) -> Result<Made, Answer> {
        let settings = self.settings.clone();
        let (config, trust) = blocking(deadline, move || make(&settings)).await??;
        Ok(Made { config, trust, files, looked })
    }

    fn paths(&self) -> Vec<PathBuf> {
        let settings = &self.settings;
        [&settings.ca_file, &settings.cert_file, &settings.key_file]
            .into_iter()
            .filter_map(|path| set(path.as_ref()).map(PathBuf::from))
            .collect()
    }
}

impl Made {
    /// Whether nothing can have changed, or somebody looked a moment ago.
    fn is_fresh(&self) -> bool {
        self.files.is_empty() || self.looked.elapsed() < LOOK_EVERY
    }
}

impl Prepared {
    /// Decides about the chain.
    pub(in crate::net) fn session(&self, agreed: Agreed<'_>) -> Session {
        let Agreed { version, cipher, alpn, sent } = agreed;
        let chain: Vec<Certificate> = sent.iter().map(|der| Certificate::parse(der)).collect();
        let now = UnixTime::now();
        let at = i64::try_from(now.as_secs())
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or(Timestamp::MAX);
        Session {
            version,
            cipher,
            alpn: alpn.map(Into::into),
            verified: decide(sent, &chain, &self.trust, &self.name, at),
            chain,
            skip_verify: self.skip_verify,
            at,
        }
    }
}

/// Runs `work`, which touches files, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    deadline: Deadline,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Answer> {
    deadline
        .limit(tokio::task::spawn_blocking(work))
        .await
        .map_err(|_| setup("reading the files of tls_config took too long"))?
        .map_err(|_| Unknown::Defect.into())
}

fn setup(what: impl Into<String>) -> Answer {
    Unknown::Setup(what.into().into()).into()
}

async fn stamps(paths: Vec<PathBuf>, deadline: Deadline) -> Result<FileStamps, Answer> {
    let stamp = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    blocking(deadline, move || paths.iter().map(stamp).collect()).await
}

fn parse_name(name: &str) -> Result<ServerName<'static>, Answer> {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    // A zone names an interface of ours; it is no part of the peer's name.
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| setup(format!("{name:?} cannot be a TLS server name")))
}

fn make(settings: &TlsSettings) -> Result<(Arc<ClientConfig>, Arc<Trust>), Answer> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = trust(settings)?;
    let verifier = Arc::new(HandshakeSignatures);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings)?)
        .map_err(|error| setup(format!("tls_config: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity(settings)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| setup(format!("tls_config: client certificate: {error}")))?,
    };
    // Each run must see the whole handshake, with the chain.
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), trust))
}

fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, Answer> {
    let min = settings.min_version.unwrap_or(TlsVersion::Tls10);
    let max = settings.max_version.unwrap_or(TlsVersion::Tls13);
    let known = [(TlsVersion::Tls12, &version::TLS12), (TlsVersion::Tls13, &version::TLS13)];
    let wanted: Vec<_> = known
        .iter()
        .filter(|(v, _)| (min..=max).contains(v))
        .map(|(_, version)| *version)
        .collect();
    if wanted.is_empty() {
        return Err(setup(format!(
            "tls_config: no version from {} to {} can be spoken",
            min.label(),
            max.label()
        )));
    }
    Ok(wanted)
}

fn trust(settings: &TlsSettings) -> Result<Arc<Trust>, Answer> {
    if set(settings.ca_ref.as_ref()).is_some() {
        return Err(setup("tls_config: there is no secret manager to take ca_ref from"));
    }
    if let Some(pem) = pem("ca", settings.ca.as_ref(), settings.ca_file.as_ref())? {
        let certificates = certificates("ca", &pem)?;
        return Ok(Arc::new(Trust::new(certificates)));
    }
    let system = Trust::system();
    if system.is_empty() && !settings.insecure_skip_verify {
        return Err(setup("this system has no trusted certificates; set tls_config.ca_file"));
    }
    Ok(system)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(settings: &TlsSettings) -> Result<Option<Identity>, Answer> {
    if set(settings.cert_ref.as_ref()).is_some() || set(settings.key_ref.as_ref()).is_some() {
        return Err(setup(
            "tls_config: there is no secret manager to take cert_ref or key_ref from",
        ));
    }
    let Some(chain) = pem("cert", settings.cert.as_ref(), settings.cert_file.as_ref())? else {
        return Ok(None);
    };
    let key = settings.key.as_ref().map(|key| key.reveal().to_owned());
    let Some(key) = pem("key", key.as_ref(), settings.key_file.as_ref())? else {
        return Err(setup("tls_config: a client certificate without its key"));
    };
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| setup("tls_config: key is not an unencrypted private key in PEM"))?;
    Ok(Some((certificates("cert", &chain)?, key)))
}

fn pem(
    name: &str,
    text: Option<&String>,
    file: Option<&String>,
) -> Result<Option<Vec<u8>>, Answer> {
    if let Some(text) = set(text) {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    let Some(path) = set(file) else { return Ok(None) };
    read(path).map(Some).map_err(|error| setup(format!("tls_config: {name}_file {path}: {error}")))
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    std::fs::read(path)
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Answer> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(setup(format!("tls_config: {name} has no certificate in PEM"))),
        Err(error) => Err(setup(format!("tls_config: {name} is not PEM: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_once_a_second_however_often_they_are_needed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let ca_file = Some(path.display().to_string());
        let client = TlsClient::new(TlsSettings { ca_file, ..TlsSettings::default() });
        let deadline = Deadline::after(Duration::from_secs(3600));
        let usable = async || client.prepare(deadline).await.is_ok();
        let write = |text: String| std::fs::write(&path, text).unwrap();
        let pem = || {
            let names = vec!["a.example".to_owned()];
            rcgen::generate_simple_self_signed(names).unwrap().cert.pem()
        };
        assert!(!usable().await, "nothing is kept of a failure");
        write(pem());
        assert!(usable().await);
        let first = client.kept().unwrap();
        write("no certificate".to_owned());
        assert!(usable().await, "somebody looked a moment ago");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(!usable().await);
        assert!(!usable().await, "and it stays so");
        write(pem() + &pem());
        assert!(usable().await);
        let second = client.kept().unwrap();
        assert!(!Arc::ptr_eq(&first.config, &second.config));
        tokio::time::advance(LOOK_EVERY).await;
        assert!(usable().await);
        assert!(Arc::ptr_eq(&second.config, &client.kept().unwrap().config), "nothing changed");
    }
}
