//! HTTP/3: a request out and a response in, over a QUIC connection that is moved forward by whoever waits.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use ::http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use ::http::{Method, Request, Response as HttpResponse};
use bytes::{Buf, Bytes};
use h3::client::{Connection, RequestStream, SendRequest};
use h3::error::{ConnectionError, StreamError};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::payload::Payload;
use super::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::model::{Answer, Fault, Unknown};
use crate::net::Quic;

/// How much may arrive before it yields anything: a head that never ends is held by the library until it does.
const MAX_UNYIELDED_BYTES: u64 = 4 << 20;

/// An exchange whose answer's head has come.
pub(super) struct Exchange {
    stream: RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>,
    /// Closes the connection when it is dropped.
    _sender: SendRequest<h3_quinn::OpenStreams, Bytes>,
    control: Control,
    yielded_at: u64,
    received: u64,
    /// The length that the body must have.
    due: Option<u64>,
    at_trailers: bool,
}

/// The connection beside the stream of the request.
struct Control {
    connection: Connection<h3_quinn::Connection, Bytes>,
    closed: bool,
    quic: Quic,
}

impl Control {
    fn advance(&mut self, cx: &mut Context<'_>) {
        self.quic.advance(cx);
        if !self.closed {
            self.closed = self.connection.poll_close(cx).is_ready();
        }
    }

    /// Polls `work` while the connection moves forward.
    async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, Answer> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            self.advance(cx);
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => {
                    return Poll::Ready(done.map_err(|error| failed(&error, &self.quic)));
                }
                Poll::Pending => {}
            }
            self.hopeless(0).map_or(Poll::Pending, |answer| Poll::Ready(Err(answer)))
        })
        .await
    }

    /// Why it makes no sense to wait any longer.
    fn hopeless(&self, yielded_at: u64) -> Option<Answer> {
        let received = self.quic.received();
        if self.quic.is_refused() {
            return Some(Fault::ConnectionClosed { received }.into());
        }
        let flood = received.saturating_sub(yielded_at) > MAX_UNYIELDED_BYTES;
        flood.then(|| protocol_error("the head of the answer is too large"))
    }
}

/// Sends a request; the answer's head, and its body to come.
pub(super) async fn ask(
    quic: Quic,
    request: Request<Payload>,
) -> Result<(HttpResponse<()>, Exchange), Answer> {
    let transport = h3_quinn::Connection::new(quic.connection().clone());
    let (connection, mut sender) = open(&quic, transport).await?;
    let mut control = Control { connection, closed: false, quic };
    let head_only = request.method() == Method::HEAD;
    let (parts, mut payload) = request.into_parts();
    let mut asked = Request::from_parts(parts, ());
    declare(asked.headers_mut(), &payload);
    let mut stream = control.during(sender.send_request(asked)).await?;
    send(&mut control, &mut stream, &mut payload).await?;
    let response = loop {
        let response = control.during(stream.recv_response()).await?;
        if !response.status().is_informational() {
            break response;
        }
    };
    if response.headers().len() > MAX_HEADERS {
        return Err(protocol_error("the head of the answer is too large"));
    }
    let bodiless = head_only || matches!(response.status().as_u16(), 204 | 304);
    let due = if bodiless { None } else { declared(response.headers()) };
    let yielded_at = control.quic.received();
    let exchange = Exchange {
        stream,
        _sender: sender,
        control,
        yielded_at,
        received: 0,
        due,
        at_trailers: false,
    };
    Ok((response, exchange))
}

type Opened = (Connection<h3_quinn::Connection, Bytes>, SendRequest<h3_quinn::OpenStreams, Bytes>);

async fn open(quic: &Quic, transport: h3_quinn::Connection) -> Result<Opened, Answer> {
    let mut builder = h3::client::builder();
    builder.max_field_section_size(MAX_HEAD_BYTES as u64).send_grease(false);
    let mut opening = pin!(builder.build(transport));
    let opened = std::future::poll_fn(|cx| {
        quic.advance(cx);
        opening.as_mut().poll(cx)
    });
    opened.await.map_err(|error| connection_failed(&error, quic))
}

/// Says how long the body is, where that is known.
fn declare(headers: &mut HeaderMap, payload: &Payload) {
    if let Some(length) = payload.size_hint().exact().filter(|length| *length > 0) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

async fn send(
    control: &mut Control,
    stream: &mut RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>,
    payload: &mut Payload,
) -> Result<(), Answer> {
    while let Some(frame) = payload.frame().await {
        let unreadable = |_| Unknown::Setup("the request's body could not be read".into());
        let Ok(data) = frame.map_err(unreadable)?.into_data() else { continue };
        match control.during(stream.send_data(data)).await {
            Ok(()) => {}
            // A server may answer before it has read everything, and stop reading.
            Err(Answer::Fail(Fault::ProtocolError { .. })) if control.quic.ended().is_none() => {
                return Ok(());
            }
            Err(answer) => return Err(answer),
        }
    }
    control.during(stream.finish()).await
}

pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

impl Exchange {
    /// The next piece of the body; `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Answer>>> {
        self.control.advance(cx);
        let polled = if self.at_trailers { self.poll_trailers(cx) } else { self.poll_data(cx) };
        if polled.is_pending()
            && let Some(answer) = self.control.hopeless(self.yielded_at)
        {
            return Poll::Ready(Some(Err(self.broken_off(answer))));
        }
        polled
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Answer>>> {
        let polled = self.stream.poll_recv_data(cx);
        let data = match std::task::ready!(polled) {
            Ok(Some(mut data)) => data.copy_to_bytes(data.remaining()),
            Ok(None) => {
                self.at_trailers = true;
                return match self.complete() {
                    Ok(()) => self.poll_trailers(cx),
                    Err(answer) => Poll::Ready(Some(Err(answer))),
                };
            }
            Err(error) => {
                let answer = failed(&error, &self.control.quic);
                return Poll::Ready(Some(Err(self.broken_off(answer))));
            }
        };
        self.yielded_at = self.control.quic.received();
        self.received += data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Answer>>> {
        let polled = std::task::ready!(self.stream.poll_recv_trailers(cx));
        Poll::Ready(match polled {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(failed(&error, &self.control.quic))),
        })
    }

    /// Whether the body is as long as declared.
    fn complete(&self) -> Result<(), Answer> {
        match self.due {
            Some(due) if self.received < due => {
                Err(Fault::BodyTruncated { received: self.received, declared: self.due }.into())
            }
            Some(due) if self.received > due => {
                Err(protocol_error("the body is longer than declared"))
            }
            _ => Ok(()),
        }
    }

    /// A body that broke off did so whatever ended it.
    fn broken_off(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Fail(Fault::ProtocolError { .. } | Fault::ConnectionClosed { .. }) => {
                Fault::BodyTruncated { received: self.received, declared: self.due }.into()
            }
            other => other,
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("received", &self.received).finish_non_exhaustive()
    }
}

fn failed(error: &StreamError, quic: &Quic) -> Answer {
    match error {
        StreamError::RemoteTerminate { code, .. } => {
            protocol_error(format!("the peer reset the stream with {code}"))
        }
        StreamError::HeaderTooBig { .. } => protocol_error("a head is too large"),
        StreamError::RemoteClosing { .. } => {
            Fault::ConnectionClosed { received: quic.received() }.into()
        }
        other => quic.ended().unwrap_or_else(|| protocol_error(format!("HTTP/3: {other}"))),
    }
}

fn connection_failed(error: &ConnectionError, quic: &Quic) -> Answer {
    quic.ended().unwrap_or_else(|| protocol_error(format!("HTTP/3: {error}")))
}

fn protocol_error(detail: impl Into<String>) -> Answer {
    Fault::ProtocolError { detail: detail.into().into() }.into()
}
