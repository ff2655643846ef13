//! What a client still sends when its answer is ready: taken and thrown away, within bounds.
//!
//! A connection that is closed over bytes which nobody read is reset, and a reset throws away the answer on its way: the
//! client sees a broken connection instead of a 413 or a 401. Not for what a handler reads.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::http::{HeaderMap, header};
use tokio::time::timeout;

/// A client that sends more than this, or for longer, has its connection reset.
const MAX_LEFT_BYTES: usize = 16 << 20;
const MAX_LEFT_WAIT: Duration = Duration::from_secs(5);

/// A body on loan to a handler: it comes back when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    body: Option<Incoming>,
    /// The client was told to go on, where it asked.
    was_read: bool,
    back: Arc<Mutex<Option<Incoming>>>,
    waits: bool,
}

/// Where it comes back to.
#[derive(Debug)]
pub(super) struct Leftover(Arc<Mutex<Option<Incoming>>>);

/// Lends the body of a request with these headers.
pub(super) fn lend(body: Incoming, headers: &HeaderMap) -> (Lent, Leftover) {
    let back = Arc::default();
    let waits = headers.contains_key(header::EXPECT);
    let lent = Lent { body: Some(body), was_read: false, back: Arc::clone(&back), waits };
    (lent, Leftover(back))
}

impl Leftover {
    /// To be called when the answer is ready, before it is sent.
    pub(super) async fn throw_away(self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = body.filter(|body| !body.is_end_stream()) else { return };
        // Whoever sends more, or slower, has no answer.
        timeout(MAX_LEFT_WAIT, throw_away(body)).await.ok();
    }
}

async fn throw_away(mut body: Incoming) {
    let mut left = MAX_LEFT_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let taken = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(taken) {
            Some(less) => left = less,
            None => return,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A client that waits for a word before it sends has nothing under way.
        if self.was_read || !self.waits {
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.was_read = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
