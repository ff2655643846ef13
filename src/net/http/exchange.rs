//! A request out, a response's head in, then its body chunk by chunk.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};

use super::drive::Drive;
use super::error::{body_failed, head_failed, head_timed_out};
use super::h3;
use super::payload::Payload;
use super::tap::{Seen, Tap};
use super::{MAX_HEAD_BYTES, MAX_HEADERS, Protocol, Wire};
use crate::model::{Answer, Fault, Phase};
use crate::net::tasks::Tasks;
use crate::net::{Deadline, Quic, Stopwatch};

/// What is asked on a connection, and of whom.
#[derive(Debug)]
pub struct Sent {
    pub request: ::http::Request<Payload>,
    pub protocol: Protocol,
    pub peer: SocketAddr,
}

/// A response whose body is still on its way.
#[derive(Debug)]
pub struct Response {
    pub head: ::http::response::Parts,
    /// The declared length of the body.
    pub declared: Option<u64>,
    flow: Flow,
    received: u64,
    trailers: Option<::http::HeaderMap>,
    /// What was left of the time when the body began.
    budget: Duration,
}

/// Where a response's body comes from.
#[derive(Debug)]
enum Flow {
    Stream(Box<(Incoming, Drive)>),
    Quic(Box<h3::Exchange>),
}

/// Sends a request and waits for the head of its answer, in the phase `processing`; the phase `transfer` begins with the
/// answer's first byte.
pub async fn exchange(
    wire: Wire,
    sent: Sent,
    deadline: Deadline,
    watch: &mut Stopwatch,
) -> Result<Response, Answer> {
    watch.enter(Phase::Processing);
    let (tap, seen) = Tap::new(wire);
    let (protocol, peer) = (sent.protocol, sent.peer);
    let http1 = protocol == Protocol::Http1;
    let budget = deadline.left();
    let mut began = false;
    let head = {
        let mut on_progress = |seen: &Seen, watch: &mut Stopwatch| {
            // The first bytes on an h2 connection are settings, not an answer.
            if http1 && !began && seen.received() > 0 {
                began = true;
                watch.enter(Phase::Transfer);
            }
        };
        let asked = ask(tap, sent, &seen, watch, &mut on_progress);
        deadline.limit(asked).await
    };
    match head {
        Ok(Ok((response, drive))) => {
            if !began {
                watch.enter(Phase::Transfer);
            }
            let (head, body) = response.into_parts();
            let declared = body.size_hint().exact();
            let flow = Flow::Stream(Box::new((body, drive)));
            Ok(Response::new(head, declared, flow, deadline.left()))
        }
        Ok(Err(error)) => Err(head_failed(&error, &seen, protocol, peer)),
        Err(_) => Err(head_timed_out(&seen, began, budget)),
    }
}

/// As [`exchange`], in HTTP/3.
pub async fn exchange_over_quic(
    quic: Quic,
    request: ::http::Request<Payload>,
    deadline: Deadline,
    watch: &mut Stopwatch,
) -> Result<Response, Answer> {
    watch.enter(Phase::Processing);
    let budget = deadline.left();
    let asked = deadline.limit(h3::ask(quic, request)).await;
    let (response, exchange) = asked.map_err(|_| Fault::NoResponse { budget })??;
    watch.enter(Phase::Transfer);
    let (head, ()) = response.into_parts();
    let declared = h3::declared(&head.headers);
    Ok(Response::new(head, declared, Flow::Quic(Box::new(exchange)), deadline.left()))
}

async fn ask(
    tap: Tap,
    sent: Sent,
    seen: &Arc<Seen>,
    watch: &mut Stopwatch,
    on_progress: &mut (impl FnMut(&Seen, &mut Stopwatch) + Send),
) -> hyper::Result<(::http::Response<Incoming>, Drive)> {
    match sent.protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = http1::Builder::new()
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD_BYTES)
                .handshake(tap)
                .await?;
            let drive = Drive::Http1(Box::new(connection));
            answered(drive, sender.send_request(sent.request), seen, watch, on_progress).await
        }
        // HTTP/3 is not spoken over a stream.
        Protocol::Http2 | Protocol::Http3 => {
            let tasks = Tasks::default();
            let (mut sender, connection) = http2::Builder::new(tasks.clone())
                .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
                .handshake(tap)
                .await?;
            let drive = Drive::Http2(Box::new(connection), tasks);
            answered(drive, sender.send_request(sent.request), seen, watch, on_progress).await
        }
    }
}

async fn answered(
    mut drive: Drive,
    response: impl Future<Output = hyper::Result<::http::Response<Incoming>>>,
    seen: &Seen,
    watch: &mut Stopwatch,
    on_progress: &mut (impl FnMut(&Seen, &mut Stopwatch) + Send),
) -> hyper::Result<(::http::Response<Incoming>, Drive)> {
    let mut response = pin!(response);
    let mut broke = None;
    let response = std::future::poll_fn(|cx| {
        broke = drive.advance(cx).or(broke.take());
        on_progress(seen, watch);
        match response.as_mut().poll(cx) {
            // The connection knows better what happened to it than the request that it dropped.
            Poll::Ready(Err(error)) => Poll::Ready(Err(broke.take().unwrap_or(error))),
            other => other,
        }
    })
    .await?;
    Ok((response, drive))
}

impl Response {
    fn new(
        head: ::http::response::Parts,
        declared: Option<u64>,
        flow: Flow,
        budget: Duration,
    ) -> Self {
        Self { head, declared, flow, received: 0, trailers: None, budget }
    }

    /// The next piece of the body as it came; `None` at its end.
    pub async fn chunk(&mut self, deadline: Deadline) -> Result<Option<Bytes>, Answer> {
        loop {
            // A body that is always ready would never let the timer speak.
            if deadline.left().is_zero() {
                return Err(self.timed_out());
            }
            let next = std::future::poll_fn(|cx| self.poll_frame(cx));
            let Ok(frame) = deadline.limit(next).await else { return Err(self.timed_out()) };
            let Some(frame) = frame else { return Ok(None) };
            let data = match frame?.into_data() {
                Ok(data) => data,
                Err(other) => {
                    self.trailers = other.into_trailers().ok();
                    continue;
                }
            };
            self.received += data.len() as u64;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// What came after the body, once that was read to its end.
    pub const fn trailers(&self) -> Option<&::http::HeaderMap> {
        self.trailers.as_ref()
    }

    /// The time is up, and the body has not been taken to its end.
    pub fn timed_out(&self) -> Answer {
        Fault::BodyTimeout { received: self.received, budget: self.budget }.into()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Answer>>> {
        let frame = match &mut self.flow {
            Flow::Stream(flow) => {
                let (body, drive) = flow.as_mut();
                poll_stream(body, drive, cx)
            }
            Flow::Quic(exchange) => return exchange.poll_frame(cx),
        };
        let (received, declared) = (self.received, self.declared);
        frame.map_err(|error| body_failed(&error, received, declared))
    }

    /// Reads the body to its end into memory, at most `limit` bytes of it.
    pub async fn collect(&mut self, limit: usize, deadline: Deadline) -> Result<Vec<u8>, Answer> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk(deadline).await? {
            if all.len() + chunk.len() > limit {
                return Err(Fault::BodyTooLarge { limit: limit as u64 }.into());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

fn poll_stream(
    body: &mut Incoming,
    drive: &mut Drive,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    if let ready @ Poll::Ready(_) = Pin::new(&mut *body).poll_frame(cx) {
        return ready;
    }
    // An error of the connection reaches the body too.
    drop(drive.advance(cx));
    Pin::new(body).poll_frame(cx)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What is said of a peer that says `words`, listens for a while and hangs up.
    async fn hung_up_after(words: &'static [u8], protocol: Protocol) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(words).await.unwrap();
            // All that is asked, so that the end is a polite one.
            let mut asked = [0; 4096];
            let quiet = Duration::from_millis(100);
            while let Ok(Ok(1..)) = tokio::time::timeout(quiet, stream.read(&mut asked)).await {}
        };
        let asking = async {
            let wire = Wire::Tcp(TcpStream::connect(peer).await.unwrap());
            let mut request = ::http::Request::new(Payload::Empty);
            *request.uri_mut() = "http://a.example/".parse().unwrap();
            let sent = Sent { request, protocol, peer };
            let deadline = Deadline::after(Duration::from_secs(20));
            exchange(wire, sent, deadline, &mut Stopwatch::default()).await.map(|_| ()).unwrap_err()
        };
        tokio::join!(serving, asking).1
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_is_told_from_one_that_speaks_something_else() {
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        let rows: [(&'static [u8], _, _); 5] = [
            (settings, Protocol::Http2, "connection_closed"),
            (b"", Protocol::Http2, "connection_closed"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Protocol::Http2, "protocol_error"),
            (settings, Protocol::Http1, "protocol_error"),
            (b"", Protocol::Http1, "connection_closed"),
        ];
        for (words, protocol, reason) in rows {
            let answer = hung_up_after(words, protocol).await;
            assert_eq!(answer.reason(), Some(reason), "{words:?} {protocol:?}: {answer}");
        }
    }
}
