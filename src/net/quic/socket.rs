//! The UDP socket under a QUIC connection: connected to its one peer, and counting.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::model::Answer;
use crate::net::dial::connect_failed;

/// Tells quinn nothing of the kernel's errors, which would end its drivers; they are kept for whoever waits.
#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    peer: SocketAddr,
    received: AtomicU64,
    failure: OnceLock<Answer>,
}

impl Socket {
    pub(super) const fn new(io: UdpSocket, peer: SocketAddr) -> Self {
        Self { io, peer, received: AtomicU64::new(0), failure: OnceLock::new() }
    }

    pub(super) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// What the kernel said first about reaching the peer.
    pub(super) fn failure(&self) -> Option<Answer> {
        self.failure.get().cloned()
    }

    fn keep(&self, error: &io::Error) {
        self.failure.get_or_init(|| connect_failed(error, self.peer.ip(), self.peer.port()));
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.io.try_send(transmit.contents) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                self.keep(&error);
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(space), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let mut buffer = ReadBuf::new(space);
            match ready!(self.io.poll_recv(cx, &mut buffer)) {
                Ok(()) => {
                    let len = buffer.filled().len();
                    self.received.fetch_add(len as u64, Ordering::Relaxed);
                    *meta = RecvMeta { addr: self.peer, len, stride: len, ecn: None, dst_ip: None };
                    return Poll::Ready(Ok(1));
                }
                // The error is taken from the socket by being told; what comes next may be good.
                Err(error) => self.keep(&error),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
}

#[derive(Debug)]
struct Writable(Arc<Socket>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(cx)
    }
}
