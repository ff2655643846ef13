//! HTTP/3 servers that behave, or misbehave, as they are told.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::server::RequestStream;
use http::{Request, Response, StatusCode};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, VarInt};
use rustls::crypto::aws_lc_rs;
use rustls::{RootCertStore, ServerConfig};
use tokio::task::JoinHandle;

use super::certs::{Authority, Shown};

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// What a server does about a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Says {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// An interim answer before a good one.
    Hints,
    Silent,
    /// Gives the request up.
    Resets,
    /// Closes the whole connection with a code.
    Closes(u32),
    /// The head and a piece of the body, and then nothing.
    Stalls,
    /// The head and a piece of the body, and then gives up.
    BreaksOff,
    /// Less of a body than it declares.
    TooShort,
    /// A body without end.
    Endless,
}

pub(crate) fn says(body: &str) -> Reply {
    status(200, &[], body)
}

pub(crate) fn status(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Reply::Says { status, headers, body: Bytes::from(body.to_owned()) }
}

/// How a server shakes hands.
pub(crate) struct Shake<'a> {
    pub(crate) alpn: &'a [u8],
    /// Demands a certificate from this authority.
    pub(crate) clients_of: Option<&'a Authority>,
    /// Refuses everybody.
    pub(crate) refuses: bool,
}

impl Default for Shake<'_> {
    fn default() -> Self {
        Self { alpn: b"h3", clients_of: None, refuses: false }
    }
}

/// A server that stops when it is dropped.
pub(crate) struct Quic3 {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    closes: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Quic3 {
    pub(crate) async fn new(
        shown: Shown,
        answer: impl Fn(&Request<()>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::shaking(shown, &Shake::default(), answer).await
    }

    #[expect(clippy::unused_async, reason = "a socket needs the runtime")]
    pub(crate) async fn shaking(
        shown: Shown,
        shake: &Shake<'_>,
        answer: impl Fn(&Request<()>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let config = config(shown, shake);
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (asked, closes) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let answer = Arc::new(answer);
        let (kept, ends, refuses) = (Arc::clone(&asked), Arc::clone(&closes), shake.refuses);
        let serving = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                if refuses {
                    incoming.refuse();
                    continue;
                }
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                let ends = Arc::clone(&ends);
                tokio::spawn(async move {
                    let end = connection(incoming, answer, kept).await;
                    ends.lock().unwrap().push(end);
                });
            }
        });
        Self { address, asked, closes, serving }
    }

    /// `https://localhost:port` and a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// Requests with their headers, as text.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> String {
        self.asked().pop().unwrap()
    }

    /// How connections ended.
    pub(crate) fn ends(&self) -> Vec<String> {
        self.closes.lock().unwrap().clone()
    }
}

impl Drop for Quic3 {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn config(shown: Shown, shake: &Shake<'_>) -> quinn::ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match shake.clients_of {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(demanding(authority)),
    };
    let mut config = builder.with_single_cert(shown.chain, shown.key).unwrap();
    config.alpn_protocols = vec![shake.alpn.to_vec()];
    let crypto = QuicServerConfig::try_from(config).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.send_window(64 * 1024);
    config.transport_config(Arc::new(transport));
    config
}

/// Takes only clients with a certificate of `authority`.
pub(crate) fn demanding(
    authority: &Authority,
) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap()
}

async fn connection<F>(incoming: Incoming, answer: Arc<F>, kept: Arc<Mutex<Vec<String>>>) -> String
where
    F: Fn(&Request<()>) -> Reply + Send + Sync + 'static,
{
    let quic = match incoming.await {
        Ok(quic) => quic,
        Err(error) => return error.to_string(),
    };
    let transport = h3_quinn::Connection::new(quic.clone());
    let mut server = h3::server::Connection::<_, Bytes>::new(transport).await.unwrap();
    while let Ok(Some(resolver)) = server.accept().await {
        let Ok((request, stream)) = resolver.resolve_request().await else { break };
        let reply = answer(&request);
        let (quic, kept) = (quic.clone(), Arc::clone(&kept));
        tokio::spawn(async move { talk(request, reply, stream, quic, kept).await });
    }
    quic.closed().await.to_string()
}

async fn talk(
    request: Request<()>,
    reply: Reply,
    mut stream: Stream,
    quic: quinn::Connection,
    kept: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    while let Ok(Some(mut piece)) = stream.recv_data().await {
        let piece = piece.copy_to_bytes(piece.remaining());
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    kept.lock().unwrap().push(text);
    let head = |code: u16| {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(code).unwrap();
        head
    };
    match reply {
        Reply::Says { status, headers, body } => {
            let mut head = head(status);
            for (name, value) in headers {
                head.headers_mut().append(name, value.parse().unwrap());
            }
            stream.send_response(head).await.ok()?;
            if !body.is_empty() {
                stream.send_data(body).await.ok()?;
            }
            stream.finish().await.ok()?;
        }
        Reply::Hints => {
            stream.send_response(head(103)).await.ok()?;
            stream.send_response(head(200)).await.ok()?;
            stream.finish().await.ok()?;
        }
        Reply::Silent => {
            quic.closed().await;
        }
        Reply::Resets => stream.stop_stream(Code::H3_INTERNAL_ERROR),
        Reply::Closes(code) => quic.close(VarInt::from_u32(code), b"enough"),
        Reply::Stalls => {
            stream.send_response(head(200)).await.ok()?;
            stream.send_data(Bytes::from_static(b"abc")).await.ok()?;
            quic.closed().await;
        }
        Reply::BreaksOff => {
            stream.send_response(head(200)).await.ok()?;
            // So much leaves only while the other side reads.
            stream.send_data(Bytes::from(vec![b'x'; 1 << 20])).await.ok()?;
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
        Reply::TooShort => {
            let mut head = head(200);
            head.headers_mut().insert("content-length", "10".parse().unwrap());
            stream.send_response(head).await.ok()?;
            stream.send_data(Bytes::from_static(b"abc")).await.ok()?;
            stream.finish().await.ok()?;
        }
        Reply::Endless => {
            stream.send_response(head(200)).await.ok()?;
            while stream.send_data(Bytes::from(vec![b'x'; 16 * 1024])).await.is_ok() {}
        }
    }
    Some(())
}
