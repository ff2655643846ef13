//! Peers on loopback that behave, or misbehave, as they are told.

#![expect(clippy::disallowed_methods, reason = "test servers are spawned")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certs::Shown;

/// A server that stops when it is dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Peer {
    /// Accepts at `bind` and lets `talk` do what it wants with each connection.
    pub(crate) async fn at<F, T>(bind: &str, talk: F) -> Self
    where
        F: Fn(TcpStream) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind(bind).await.unwrap(), talk)
    }

    /// [`Peer::at`], at a socket that is there already.
    pub(crate) fn on<F, T>(listener: TcpListener, talk: F) -> Self
    where
        F: Fn(TcpStream) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(talk(stream));
            }
        });
        Self { address, accepted, accepting }
    }

    pub(crate) async fn new<F, T>(talk: F) -> Self
    where
        F: Fn(TcpStream) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", talk).await
    }

    /// Says `words` at once and waits for the other side to go.
    pub(crate) async fn saying(words: &'static [u8]) -> Self {
        Self::new(move |mut stream| async move {
            stream.write_all(words).await.ok();
            let mut ignored = [0; 4096];
            while let Ok(1..) = stream.read(&mut ignored).await {}
        })
        .await
    }

    /// Waits for the first bytes, answers with `words` and closes.
    pub(crate) async fn answering(words: &'static [u8]) -> Self {
        Self::new(move |mut stream| async move {
            let mut asked = [0; 4096];
            if matches!(stream.read(&mut asked).await, Ok(1..)) {
                stream.write_all(words).await.ok();
            }
        })
        .await
    }

    /// Speaks TLS from the beginning, in lines that it sends back.
    pub(crate) async fn tls(tls: Tls) -> Self {
        Self::tls_at("127.0.0.1:0", tls).await
    }

    pub(crate) async fn tls_at(bind: &str, tls: Tls) -> Self {
        let acceptor = tls.acceptor();
        Self::at(bind, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    linger(&mut stream).await;
                }
            }
        })
        .await
    }

    /// Exchanges plain text as `script` has it (what it says; then what it waits for, answer after answer), and shakes
    /// hands then.
    pub(crate) async fn starttls(tls: Tls, greeting: &'static [u8], script: Script) -> Self {
        let acceptor = tls.acceptor();
        Self::new(move |mut stream| {
            let acceptor = acceptor.clone();
            async move {
                stream.write_all(greeting).await.ok();
                for (wanted, answer) in script {
                    let mut got = vec![0; wanted.len()];
                    if stream.read_exact(&mut got).await.is_err() || got != *wanted {
                        stream.write_all(b"500 that is not in the script\r\n").await.ok();
                        return;
                    }
                    stream.write_all(answer).await.ok();
                }
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    linger(&mut stream).await;
                }
            }
        })
        .await
    }

    /// How many connections came.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `localhost:port`.
    pub(crate) fn by_name(&self) -> String {
        format!("localhost:{}", self.port())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What is awaited, and what is said to it.
pub(crate) type Script = &'static [(&'static [u8], &'static [u8])];

/// Reads until the other side is gone, and sends back what came.
pub(crate) async fn linger<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// How a server speaks TLS.
pub(crate) struct Tls {
    pub(crate) shown: Shown,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) alpn: Vec<&'static [u8]>,
    /// Demands a certificate of a client.
    pub(crate) clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    pub(crate) fn new(shown: Shown) -> Self {
        Self {
            shown,
            versions: vec![&version::TLS12, &version::TLS13],
            alpn: Vec::new(),
            clients: None,
        }
    }

    pub(crate) fn acceptor(self) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_single_cert(self.shown.chain, self.shown.key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
