//! Accepting connections until asked to stop, with bounds on what a client may cost.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Door, Listeners};

/// Connections that are served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may take to end after the door was closed.
const DRAIN: Duration = Duration::from_secs(5);
/// The largest set of headers, in bytes.
const MAX_HEADERS: u32 = 64 << 10;

/// Serves until `stop`, then lets open requests end.
pub async fn serve(listeners: Listeners, door: Door, stop: CancellationToken) -> io::Result<()> {
    let connections = TaskTracker::new();
    let door = Arc::new(Porter {
        door,
        stop: stop.clone(),
        connections: connections.clone(),
        free: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    });
    let accepting = listeners.into_inner().into_iter().map(|listener| {
        let door = Arc::clone(&door);
        async move { door.accept_all(listener).await }
    });
    let ended = futures_util::future::try_join_all(accepting).await;
    connections.close();
    // Whoever holds a connection open does not hold us up.
    tokio::time::timeout(DRAIN, connections.wait()).await.ok();
    ended.map(|_| ())
}

/// Stands at the door.
struct Porter {
    door: Door,
    stop: CancellationToken,
    connections: TaskTracker,
    free: Arc<Semaphore>,
}

impl Porter {
    async fn accept_all(&self, listener: TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let permit = Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)?;
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = self.serve_one(stream, peer.ip());
                    self.connections.spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors: the connection waits in the kernel, and so do we.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn serve_one(
        &self,
        stream: TcpStream,
        peer: IpAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let door = self.door.clone();
        let stop = self.stop.clone();
        async move {
            stream.set_nodelay(true).ok();
            let Some(access) = door.access.clone().filter(|access| access.speaks_tls()) else {
                return converse(stream, peer, door, stop).await;
            };
            let Some(config) = access.tls().await else {
                // Nobody can be told without shaking hands.
                return tracing::debug!("a connection was refused: no certificate can be used");
            };
            let shaking = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(HEADER_TIMEOUT, shaking).await {
                Ok(Ok(stream)) => converse(stream, peer, door, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        }
    }
}

async fn converse<S>(stream: S, peer: IpAddr, door: Door, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http2 = door.access.as_ref().is_none_or(|access| access.speaks_http2());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if !http2 {
        builder = builder.http1_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS as usize);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEADERS);
    let service = service_fn(move |request| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.answer(request, peer).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
