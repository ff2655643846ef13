//! hyper's connection, polled by whoever waits for the answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};

use super::payload::Payload;
use super::tap::Tap;
use crate::net::tasks::Tasks;

/// The connection's side of an exchange.
pub(super) enum Drive {
    Http1(Box<http1::Connection<Tap, Payload>>),
    Http2(Box<http2::Connection<Tap, Payload, Tasks>>, Tasks),
    /// hyper's side takes no more requests, and the answer may still be on its way.
    Remaining(Tasks),
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
            Self::Remaining(tasks) => {
                tasks.advance(cx);
                return None;
            }
            Self::Done => return None,
        };
        match ended {
            Poll::Pending => None,
            Poll::Ready(result) => {
                let ended = std::mem::replace(self, Self::Done);
                // It ends as soon as nobody can send another request; the connection itself is one of the tasks.
                if let Self::Http2(_, tasks) = ended
                    && result.is_ok()
                {
                    *self = Self::Remaining(tasks);
                }
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
            Self::Remaining(_) => "Remaining",
            Self::Done => "Done",
        })
    }
}
