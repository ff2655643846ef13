//! A stream that remembers how the peer began to speak.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client_auth::Asked;

/// How much of the peer's first words is kept.
const KEPT_BYTES: usize = 40;

/// Passes everything through and keeps the first bytes received: a peer that speaks plain HTTP on a port for TLS is then
/// named as such.
#[derive(Debug)]
pub struct Sniff<IO> {
    io: IO,
    first: [u8; KEPT_BYTES],
    kept: usize,
    received: u64,
    asked: Option<Asked>,
}

impl<IO> Sniff<IO> {
    pub(super) const fn new(io: IO) -> Self {
        Self { io, first: [0; KEPT_BYTES], kept: 0, received: 0, asked: None }
    }

    /// Whether the peer asked for a certificate of ours.
    pub(in crate::net) const fn asked(&self) -> Option<Asked> {
        self.asked
    }

    pub(super) const fn note_asked(&mut self, asked: Asked) {
        self.asked = Some(asked);
    }

    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    pub(super) fn first(&self) -> &[u8] {
        &self.first[..self.kept]
    }

    /// Bytes received so far.
    pub const fn received(&self) -> u64 {
        self.received
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        let more = bytes.len().min(KEPT_BYTES - self.kept);
        self.first[self.kept..self.kept + more].copy_from_slice(&bytes[..more]);
        self.kept += more;
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Sniff<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.remember(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sniff<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
