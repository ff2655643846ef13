//! Request bodies: nothing, bytes, or a file that is read while it is sent.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

/// How much of a file is read at once.
const FILE_CHUNK_BYTES: usize = 16 * 1024;

/// The body of a request.
#[derive(Debug, Default)]
pub enum Payload {
    #[default]
    Empty,
    Bytes(Bytes),
    File(PayloadFile),
}

/// A file that is sent in chunks: its length is not declared.
#[derive(Debug)]
pub struct PayloadFile {
    file: File,
    space: Box<[u8]>,
}

impl PayloadFile {
    pub async fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path).await?;
        if file.metadata().await?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self { file, space: vec![0; FILE_CHUNK_BYTES].into() })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut buffer = ReadBuf::new(&mut self.space);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let chunk = match this {
            Self::Empty => return Poll::Ready(None),
            Self::Bytes(bytes) => Ok(std::mem::take(bytes)),
            Self::File(file) => ready!(file.poll_chunk(cx)),
        };
        if !matches!(this, Self::File(_)) || chunk.as_ref().map_or(true, Bytes::is_empty) {
            *this = Self::Empty;
        }
        match chunk {
            Ok(chunk) if chunk.is_empty() => Poll::Ready(None),
            chunk => Poll::Ready(Some(chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::File(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(_) => SizeHint::default(),
        }
    }
}

impl From<Infallible> for Payload {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
