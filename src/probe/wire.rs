//! A connection that is read by lines and by counts, with nothing lost in between.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::model::Fault;
use crate::net::{Deadline, TlsStream};

/// The longest line that is read, as upstream's reader has it.
pub(super) const MAX_LINE_BYTES: usize = 64 << 10;
/// How much is read at once.
const CHUNK_BYTES: usize = 4096;
/// How long taking leave of a peer may take.
const GOODBYE: Duration = Duration::from_millis(100);
/// How much of what the peer said is quoted.
const MAX_QUOTED_CHARS: usize = 200;

/// A connection, encrypted or not yet.
#[derive(Debug)]
pub(super) enum Channel<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// Why nothing more can be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The deadline came.
    Late,
    /// The peer closed, politely or not.
    Closed,
    /// A line is longer than [`MAX_LINE_BYTES`].
    LongLine,
}

/// A stream and what was read ahead of it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    ahead: Vec<u8>,
    received: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new(), received: 0 }
    }

    /// The stream itself, and what was read and not asked for.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.ahead)
    }

    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// What was read and not taken yet.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The next line without its end. An unterminated last line counts.
    pub(super) async fn line(&mut self, deadline: Deadline) -> Result<Vec<u8>, Broken> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ahead[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.ahead.drain(..=searched + at).collect();
                line.pop();
                line.pop_if(|last| *last == b'\r');
                return Ok(line);
            }
            searched = self.ahead.len();
            if searched >= MAX_LINE_BYTES {
                return Err(Broken::LongLine);
            }
            match self.more(deadline).await {
                Err(Broken::Closed) if !self.ahead.is_empty() => {
                    let mut line = std::mem::take(&mut self.ahead);
                    line.pop_if(|last| *last == b'\r');
                    return Ok(line);
                }
                more => more?,
            }
        }
    }

    /// Exactly `count` bytes. What came in vain stays in [`ahead`](Self::ahead).
    pub(super) async fn exactly(
        &mut self,
        count: usize,
        deadline: Deadline,
    ) -> Result<Vec<u8>, Broken> {
        while self.ahead.len() < count {
            self.more(deadline).await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Sends and flushes.
    pub(super) async fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), Broken> {
        let stream = &mut self.stream;
        let sending = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        deadline.limit(sending).await.map_err(|_| Broken::Late)?.map_err(|_| Broken::Closed)
    }

    async fn more(&mut self, deadline: Deadline) -> Result<(), Broken> {
        self.ahead.reserve(CHUNK_BYTES);
        let mut chunk = (&mut self.stream).take(CHUNK_BYTES as u64);
        let reading = chunk.read_buf(&mut self.ahead);
        match deadline.limit(reading).await {
            Err(_) => Err(Broken::Late),
            Ok(Err(_) | Ok(0)) => Err(Broken::Closed),
            Ok(Ok(count)) => {
                self.received += count as u64;
                Ok(())
            }
        }
    }

    /// Takes leave, so that the peer does not log a broken connection.
    pub(super) async fn close(mut self, deadline: Deadline) {
        deadline.at_most(GOODBYE).limit(self.stream.shutdown()).await.ok();
    }
}

/// The fault for a connection that broke where there is no better word for what was expected.
pub(super) fn fault(broken: Broken, received: u64, budget: Duration) -> Fault {
    match broken {
        Broken::Late => Fault::NoResponse { budget },
        Broken::Closed => Fault::ConnectionClosed { received },
        Broken::LongLine => Fault::ProtocolError {
            detail: format!("a line is longer than {MAX_LINE_BYTES} bytes").into(),
        },
    }
}

/// What the peer said, short enough for a message.
pub(super) fn quote(bytes: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().nth(MAX_QUOTED_CHARS).is_none() {
        return text.into();
    }
    let short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    format!("{short}…").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wire(bytes: &[u8]) -> Wire<tokio::io::DuplexStream> {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(bytes).await.unwrap();
        Wire::new(near)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(200))
    }

    #[tokio::test]
    async fn lines_and_counts_take_turns() {
        let mut wire = wire(b"one\r\ntwo\nABCDthree\r").await;
        assert_eq!(wire.line(soon()).await.unwrap(), b"one");
        assert_eq!(wire.line(soon()).await.unwrap(), b"two");
        assert_eq!(wire.exactly(4, soon()).await.unwrap(), b"ABCD");
        assert_eq!(wire.line(soon()).await.unwrap(), b"three");
        assert_eq!(wire.line(soon()).await, Err(Broken::Closed));
        assert_eq!(wire.received(), 19);
    }

    #[tokio::test]
    async fn a_line_has_a_bound() {
        let mut wire = wire(&vec![b'x'; MAX_LINE_BYTES + 1]).await;
        assert_eq!(wire.line(soon()).await, Err(Broken::LongLine));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_with_the_deadline() {
        let (near, _far) = tokio::io::duplex(64);
        assert_eq!(Wire::new(near).line(soon()).await, Err(Broken::Late));
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(&*quote(b"220 hello"), "220 hello");
        assert_eq!(quote(&[b'x'; 500]).chars().count(), MAX_QUOTED_CHARS + 1);
    }
}
