//! Accepting connections until asked to stop, with bounds on what a client may cost.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Listeners;

/// Connections that are served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may take to end after the door was closed.
const DRAIN: Duration = Duration::from_secs(5);
/// The largest set of headers, in bytes.
const MAX_HEADERS: u32 = 64 << 10;

/// Serves until `stop`, then lets open requests end.
pub async fn serve(
    listeners: Listeners,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let door = Arc::new(Door {
        router,
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

struct Door {
    router: Router,
    stop: CancellationToken,
    connections: TaskTracker,
    free: Arc<Semaphore>,
}

impl Door {
    async fn accept_all(&self, listener: TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let permit = Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)?;
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let serving = self.serve_one(stream);
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

    fn serve_one(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let service = TowerToHyperService::new(self.router.clone());
        let stop = self.stop.clone();
        async move {
            stream.set_nodelay(true).ok();
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADERS as usize);
            builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEADERS);
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
    }
}
