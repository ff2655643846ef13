//! Watches what arrives on a connection: how much, and how it begins.
//!
//! hyper owns the connection while it speaks and its errors do not say what came. "Nothing came", "it hung up" and "an ssh
//! server answers there" are different incidents.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use hyper::rt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Wire;
use crate::model::Fault;
use crate::net::tls::{self, Shown};

/// How much of the beginning is kept, for the text of a fault.
const KEPT_BYTES: usize = 80;
/// How an answer of HTTP/1 begins.
const HTTP: &[u8] = b"HTTP/";

/// What has arrived so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    received: AtomicU64,
    /// Empty where the first piece says that it is HTTP, which is nearly always.
    beginning: Mutex<Vec<u8>>,
    alert: OnceLock<Fault>,
}

impl Seen {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How what came begins, where that is not how HTTP/1 does. It may come in pieces of any length: `HT` and no more may
    /// have become HTTP.
    pub(super) fn beginning(&self) -> Option<Vec<u8>> {
        let kept = self.beginning.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!HTTP.starts_with(&kept) && !kept.starts_with(HTTP)).then_some(kept)
    }

    /// What TLS said instead of an answer. HTTP/2's library keeps it to itself.
    pub(super) fn alert(&self) -> Option<Fault> {
        self.alert.get().cloned()
    }

    /// The connection is broken. Where the peer still had to say what it thinks of our certificate, it has said so: its
    /// alert may be lost when it hangs up while we write.
    fn note_end(&self, error: Option<&io::Error>, shown: Option<Shown>) {
        let alert = error.and_then(|error| tls::alert(error, shown));
        let hung_up = || shown.filter(|_| self.received() == 0).map(tls::hung_up);
        if let Some(fault) = alert.or_else(hung_up) {
            self.alert.get_or_init(|| fault);
        }
    }

    fn note(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let before = self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before >= KEPT_BYTES as u64 || (before == 0 && bytes.starts_with(HTTP)) {
            return;
        }
        let mut kept = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        // What comes behind a first piece that was HTTP is no beginning.
        if before == kept.len() as u64 {
            let room = KEPT_BYTES - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// A connection under watch, in hyper's terms.
#[derive(Debug)]
pub(super) struct Tap {
    wire: Wire,
    seen: Arc<Seen>,
}

impl Tap {
    pub(super) fn new(wire: Wire) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Self { wire, seen: Arc::clone(&seen) }, seen)
    }

    /// Notes how reading or writing failed, if it did.
    fn watched<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &done {
            self.seen.note_end(Some(error), self.wire.undecided());
        }
        done
    }
}

/// The most that is read at once: enough for a small answer, and a bound on the stack.
const READ_BYTES: usize = 8 * 1024;

impl rt::Read for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper's cursor hands out its memory only to unsafe code; a copy of a few kilobytes costs less than that.
        let mut space = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let wanted = cursor.remaining().min(READ_BYTES);
        let mut buffer = ReadBuf::uninit(&mut space[..wanted]);
        let read = Pin::new(&mut this.wire).poll_read(cx, &mut buffer);
        std::task::ready!(this.watched(read))?;
        if buffer.filled().is_empty() && wanted > 0 {
            this.seen.note_end(None, this.wire.undecided());
        }
        this.seen.note(buffer.filled());
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Tap {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.wire).poll_write(cx, buf);
        this.watched(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.wire).poll_flush(cx);
        this.watched(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.wire).poll_write_vectored(cx, bufs);
        this.watched(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_may_come_in_pieces() {
        let rows: [(&[&str], Option<&str>); 8] = [
            (&[], None),
            (&["HT"], None),
            (&["HT", "TP/1.1 200 OK"], None),
            (&["HTTP/1.1 200 OK\r\n", "X: y"], None),
            (&["HT", "ML"], Some("HTML")),
            (&["S", "SH-2.0-x\r\n"], Some("SSH-2.0-x\r\n")),
            (&["HTTQ/1.1 200 OK"], Some("HTTQ/1.1 200 OK")),
            (&["http/1.1 200 OK"], Some("http/1.1 200 OK")),
        ];
        for (pieces, wanted) in rows {
            let seen = Seen::default();
            for piece in pieces {
                seen.note(piece.as_bytes());
            }
            let wanted = wanted.map(|text| text.as_bytes().to_vec());
            assert_eq!(seen.beginning(), wanted, "{pieces:?}");
        }
        let seen = Seen::default();
        for _ in 0..3 {
            seen.note(&[b'x'; 60]);
        }
        assert_eq!((seen.beginning().unwrap().len(), seen.received()), (KEPT_BYTES, 180));
    }
}
