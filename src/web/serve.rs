//! Accepting connections until asked to stop, with bounds on what a client may cost.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Door, Listeners};

/// Connections that are served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send its first request's headers, counted from the connection on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for each further request of HTTP/1, counted from the last answer on: more than the usual intervals of a scrape or a
/// beat, which would otherwise meet a connection that is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a connection is kept on which nothing is asked any more; it bounds as well how long an answer may take to leave.
const IDLE: Duration = Duration::from_secs(300);
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
            // The stop is seen also while every place is taken.
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((permit, stream, peer)) => {
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

    async fn accept(
        &self,
        listener: &tokio::net::TcpListener,
    ) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((permit, stream, peer))
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
        .header_read_timeout(KEEP_ALIVE)
        .max_buf_size(MAX_HEADERS as usize);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEADERS);
    let (requests, open) = watch::channel(Requests::default());
    let requests = Arc::new(requests);
    let service = service_fn(move |request| {
        let door = door.clone();
        let asked = Asked::new(&requests);
        async move {
            let answer = door.answer(request, peer).await;
            drop(asked);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = unused(open) => {
            tracing::debug!(%peer, "a connection is not used");
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What was asked on one connection.
#[derive(Debug, Clone, Copy, Default)]
struct Requests {
    begun: u64,
    open: usize,
}

/// A request that is not answered yet.
struct Asked(Arc<watch::Sender<Requests>>);

impl Asked {
    fn new(requests: &Arc<watch::Sender<Requests>>) -> Self {
        requests.send_modify(|seen| {
            seen.begun += 1;
            seen.open += 1;
        });
        Self(Arc::clone(requests))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.open = seen.open.saturating_sub(1));
    }
}

/// Ends when nobody asks. hyper bounds the headers of HTTP/1 alone, and only once it has seen that it is HTTP/1: whoever
/// connects and says nothing would keep a place for ever.
async fn unused(mut requests: watch::Receiver<Requests>) {
    loop {
        if !until(&mut requests, |now| now.open == 0).await {
            break;
        }
        let seen = *requests.borrow();
        let patience = if seen.begun > 0 { IDLE } else { HEADER_TIMEOUT };
        // Not whether one is open: it may be answered before we look.
        let asked = until(&mut requests, |now| now.begun > seen.begun);
        match tokio::time::timeout(patience, asked).await {
            Err(_) => return,
            Ok(false) => break,
            Ok(true) => {}
        }
    }
    // The connection is about to end by itself.
    std::future::pending::<()>().await;
}

/// Whether it came to what is wanted; not, when nothing will be asked any more.
async fn until(
    requests: &mut watch::Receiver<Requests>,
    wanted: impl Fn(Requests) -> bool,
) -> bool {
    requests.wait_for(|now| wanted(*now)).await.is_ok()
}
