//! A QUIC connection over UDP: one handshake, and a connection to speak a protocol on.
//!
//! quinn wants to spawn its drivers; they are polled here, by whoever waits, so that dropping the connection ends it. The
//! socket is connected, unlike quinn's own: that is how the kernel tells that nothing listens. The phase `connect` lasts
//! until the peer's first datagram, the rest of the handshake is `tls`.

mod failure;
mod overheard;
mod socket;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use quinn::crypto::rustls::HandshakeData;
use quinn::{
    AsyncTimer, AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, Runtime, TokioRuntime,
    TransportConfig, VarInt,
};
use rustls_pki_types::CertificateDer;

use self::overheard::{Overheard, Suite};
use self::socket::Socket;
use super::tasks::Tasks;
use super::tls::{Agreed, Prepared, cipher_label};
use super::{Datagrams, Deadline, Session, Source, Stopwatch, TlsClient};
use crate::model::{Answer, Fault, Phase, Unknown};

/// How much a peer may send on one stream before somebody reads it.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// How much a peer may send in all before somebody reads it.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// How many streams of its own a peer may open; HTTP/3 needs three.
const MAX_PEER_STREAMS: u8 = 8;
/// HTTP/3's word for "nothing is wrong", with which a connection is closed.
const NO_ERROR: u32 = 0x100;

/// An established connection. It is closed, and the peer told so, when it is dropped.
#[derive(Debug)]
pub struct Quic {
    connection: quinn::Connection,
    socket: Arc<Socket>,
    _endpoint: Endpoint,
    drivers: Drivers,
}

/// quinn's drivers, which hold on to each other until they are dropped here.
#[derive(Debug)]
struct Drivers(Tasks);

impl Drop for Drivers {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// What quinn asks of an async runtime.
#[derive(Debug)]
struct InPlace(Tasks);

impl Runtime for InPlace {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.add(task);
    }

    fn wrap_udp_socket(
        &self,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

impl Quic {
    /// Connects to `ip:port` and shakes hands, offering the one protocol `alpn`. What the certificate is worth is in
    /// the session; it fails no handshake.
    pub async fn connect(
        (ip, port): (IpAddr, u16),
        tls: &TlsClient,
        (server_name, alpn): (&str, &[u8]),
        source: Source,
        deadline: Deadline,
        watch: &mut Stopwatch,
    ) -> Result<(Self, Session), Answer> {
        let prepared = tls.for_quic(server_name, deadline).await?;
        let datagrams = Datagrams::open(ip, port, source, watch).await?;
        watch.enter(Phase::Connect);
        let peer = SocketAddr::new(ip, port);
        let socket = Arc::new(Socket::new(datagrams.into_socket(), peer));
        let drivers = Drivers(Tasks::default());
        let endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            None,
            Arc::clone(&socket) as Arc<dyn AsyncUdpSocket>,
            Arc::new(InPlace(drivers.0.clone())),
        );
        let endpoint = endpoint.map_err(|e| setup(format!("no QUIC endpoint: {e}")))?;
        let (config, suite) = overhearing(&prepared, alpn)?;
        let connecting = endpoint
            .connect_with(config, peer, &prepared.name.to_str())
            .map_err(|error| setup(format!("QUIC: {error}")))?;
        let budget = deadline.left();
        let shaken = shake(connecting, &drivers.0, &socket, watch);
        let connection = match deadline.limit(shaken).await {
            Ok(shaken) => shaken?,
            Err(_) if socket.received() == 0 => {
                return Err(Fault::ConnectTimeout { ip, port, budget }.into());
            }
            Err(expired) => return Err(Fault::TlsTimeout { budget: expired.budget }.into()),
        };
        watch.stop();
        let session = session(&prepared, &connection, suite.get().copied());
        Ok((Self { connection, socket, _endpoint: endpoint, drivers }, session))
    }

    pub(in crate::net) const fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    /// Bytes received so far, of everything.
    pub(in crate::net) fn received(&self) -> u64 {
        self.socket.received()
    }

    /// The kernel says that nobody is there any more.
    pub(in crate::net) fn is_refused(&self) -> bool {
        // Any other word of the kernel, such as a full buffer, was about one datagram.
        matches!(self.socket.failure(), Some(Answer::Fail(Fault::ConnectRefused { .. })))
    }

    /// Moves the connection forward.
    pub(in crate::net) fn advance(&self, cx: &mut Context<'_>) {
        self.drivers.0.advance(cx);
    }

    /// Why the connection ended, if it did not end on our side.
    pub(in crate::net) fn ended(&self) -> Option<Answer> {
        let reason = self.connection.close_reason()?;
        failure::ended(&reason, self.received())
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(NO_ERROR), b"");
        // Timers need the runtime; without it the peer finds out by itself.
        if tokio::runtime::Handle::try_current().is_ok() && !std::thread::panicking() {
            self.advance(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// Waits for the handshake's end while the drivers work.
async fn shake(
    connecting: quinn::Connecting,
    drivers: &Tasks,
    socket: &Socket,
    watch: &mut Stopwatch,
) -> Result<quinn::Connection, Answer> {
    let mut connecting = pin!(connecting);
    let mut heard = false;
    std::future::poll_fn(|cx| {
        drivers.advance(cx);
        if !heard && socket.received() > 0 {
            heard = true;
            watch.enter(Phase::Tls);
        }
        if let Poll::Ready(shaken) = connecting.as_mut().poll(cx) {
            return Poll::Ready(shaken.map_err(|error| failure::handshake(&error, socket)));
        }
        // Once the peer has spoken, an error of the kernel ends nothing: it may be a straggler.
        match socket.failure() {
            Some(answer) if !heard => Poll::Ready(Err(answer)),
            _ => Poll::Pending,
        }
    })
    .await
}

fn overhearing(prepared: &Prepared, alpn: &[u8]) -> Result<(ClientConfig, Suite), Answer> {
    let mut config = rustls::ClientConfig::clone(&prepared.config);
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config)
        .map_err(|error| setup(format!("tls_config: {error}")))?;
    let (crypto, suite) = Overheard::new(crypto);
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(WINDOW_BYTES.into())
        .max_concurrent_uni_streams(MAX_PEER_STREAMS.into())
        .max_concurrent_bidi_streams(0_u8.into())
        .datagram_receive_buffer_size(None)
        // The run's deadline ends a silence.
        .max_idle_timeout(None);
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok((config, suite))
}

fn session(
    prepared: &Prepared,
    connection: &quinn::Connection,
    suite: Option<rustls::CipherSuite>,
) -> Session {
    let shaken = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let sent = connection.peer_identity();
    let sent = sent.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    prepared.session(Agreed {
        version: "TLS 1.3",
        cipher: suite.map_or("unknown", cipher_label),
        alpn: shaken.as_ref().and_then(|data| data.protocol.as_deref()),
        sent: sent.as_ref().map_or(&[], |chain| chain.as_slice()),
    })
}

fn setup(what: String) -> Answer {
    Unknown::Setup(what.into()).into()
}
