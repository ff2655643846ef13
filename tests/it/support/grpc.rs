//! gRPC servers over hyper's HTTP/2, for a health service that behaves as it is told.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::peer::{Peer, Tls};

/// What a call is answered with.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) http: Option<u16>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(&'static str, &'static str)>,
    pub(crate) after: Duration,
}

impl Answer {
    /// A status of the health service, and an end that is well.
    pub(crate) fn serving(status: u8) -> Self {
        let body = vec![0, 0, 0, 0, 2, 8, status];
        Self { body, trailers: vec![("grpc-status", "0")], ..Self::default() }
    }

    pub(crate) fn failing(code: &'static str, message: &'static str) -> Self {
        let trailers = vec![("grpc-status", code), ("grpc-message", message)];
        Self { trailers, ..Self::default() }
    }
}

/// A call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A server and the calls that it got.
pub(crate) struct Health {
    pub(crate) peer: Peer,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Health {
    pub(crate) async fn new(answer: Answer) -> Self {
        Self::at("127.0.0.1:0", None, answer).await
    }

    pub(crate) async fn at(bind: &str, tls: Option<Tls>, answer: Answer) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&calls);
        let acceptor = tls.map(Tls::acceptor);
        let peer = Peer::at(bind, move |stream| {
            let (kept, answer, acceptor) = (Arc::clone(&kept), answer.clone(), acceptor.clone());
            let told = move |call| kept.lock().unwrap().push(call);
            async move {
                match acceptor {
                    None => serve(stream, told, answer).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, told, answer).await;
                        }
                    }
                }
            }
        })
        .await;
        Self { peer, calls }
    }

    pub(crate) fn last(&self) -> Call {
        self.calls.lock().unwrap().last().cloned().unwrap()
    }
}

/// Answers every call of a connection; `told` hears of each.
pub(crate) async fn serve<S, T>(stream: S, told: T, answer: Answer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: Fn(Call) + Clone + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (told, answer) = (told.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            told(Call {
                path: head.uri.path().to_owned(),
                authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
                headers: head.headers,
                body,
            });
            tokio::time::sleep(answer.after).await;
            Ok::<_, Infallible>(respond(answer))
        }
    });
    let served =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    served.await.ok();
}

type Frames =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn respond(answer: Answer) -> Response<Frames> {
    let mut frames = vec![Ok(Frame::data(Bytes::from(answer.body)))];
    if !answer.trailers.is_empty() {
        let mut trailers = HeaderMap::new();
        for (name, value) in answer.trailers {
            trailers.insert(name, value.parse().unwrap());
        }
        frames.push(Ok(Frame::trailers(trailers)));
    }
    Response::builder()
        .status(answer.http.unwrap_or(200))
        .header("content-type", answer.content_type.unwrap_or("application/grpc"))
        .body(StreamBody::new(futures_util::stream::iter(frames)))
        .unwrap()
}
