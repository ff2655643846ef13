//! hyper's connection, polled by whoever waits for the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;

use super::payload::Payload;
use super::tap::Tap;

/// The connection's side of an exchange.
pub(super) enum Drive {
    Http1(Box<http1::Connection<Tap, Payload>>),
    Http2(Box<http2::Connection<Tap, Payload, Tasks>>, Tasks),
    Done,
}

impl Drive {
    /// Moves the connection forward; yields its error once, if it ends with one.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> Option<hyper::Error> {
        let ended = match self {
            Self::Http1(connection) => Pin::new(connection.as_mut()).poll(cx),
            Self::Http2(connection, tasks) => {
                tasks.advance(cx);
                Pin::new(connection.as_mut()).poll(cx)
            }
            Self::Done => return None,
        };
        match ended {
            Poll::Pending => None,
            Poll::Ready(result) => {
                // The frames that are still queued for an h2 connection are lost with it, and nobody waits for them.
                *self = Self::Done;
                result.err()
            }
        }
    }
}

impl std::fmt::Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http1(_) => "Http1",
            Self::Http2(..) => "Http2",
            Self::Done => "Done",
        })
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks that hyper wants to spawn for h2 (the connection itself, request bodies): kept here and polled in place.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Vec<Task>>>);

impl Tasks {
    pub(super) fn advance(&self, cx: &mut Context<'_>) {
        let mut running = std::mem::take(&mut *self.lock());
        running.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        let mut kept = self.lock();
        let started_meanwhile = !kept.is_empty();
        running.append(&mut kept);
        *kept = running;
        if started_meanwhile {
            cx.waker().wake_by_ref();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.lock().push(Box::pin(task));
    }
}
