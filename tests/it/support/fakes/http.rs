//! An HTTP vendor whose answers are scripted, request by request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Text(u16, String),
    /// With a `Retry-After`.
    Later(u16, String),
    Redirect(String),
    /// Takes the request and never answers.
    Hang,
}

impl Reply {
    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::Text(status, body.to_owned())
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

struct Inner {
    script: Mutex<VecDeque<Reply>>,
    /// Answers when the script is used up.
    answer: Answer,
    ledger: Mutex<Vec<Received>>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    inner: Arc<Inner>,
    pub(crate) url: String,
    _server: Arc<AbortOnDropHandle<()>>,
}

impl Fake {
    pub(crate) async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    /// At a socket that is there already.
    pub(crate) fn on(
        listener: TcpListener,
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            script: Mutex::default(),
            answer: Box::new(answer),
            ledger: Mutex::default(),
        });
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        #[expect(clippy::disallowed_methods, reason = "a server of a test")]
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, url, _server: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// Answers the next requests with these, one each, whatever they say.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.script.lock().unwrap().extend(replies);
    }

    /// Forgets what is left of the script.
    pub(crate) fn script_ends(&self) {
        self.inner.script.lock().unwrap().clear();
    }

    pub(crate) fn ledger(&self) -> Vec<Received> {
        self.inner.ledger.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.inner.ledger.lock().unwrap().len()
    }
}

async fn take(
    State(inner): State<Arc<Inner>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let received = Received { path, headers, body: body.to_vec() };
    inner.ledger.lock().unwrap().push(received.clone());
    let scripted = inner.script.lock().unwrap().pop_front();
    let reply = scripted.unwrap_or_else(|| (inner.answer)(&received));
    let status = |code| StatusCode::from_u16(code).unwrap();
    match reply {
        Reply::Text(code, body) => (status(code), body).into_response(),
        Reply::Later(code, after) => (status(code), [("retry-after", after)], "").into_response(),
        Reply::Redirect(to) => (StatusCode::FOUND, [("location", to)], "").into_response(),
        Reply::Hang => {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            StatusCode::OK.into_response()
        }
    }
}
