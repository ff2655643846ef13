//! HTTP servers made by hand: what they were asked is kept, what they answer is bytes.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::peer::Peer;

/// A server and the requests that it got.
pub(crate) struct Web {
    pub(crate) peer: Peer,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Answers each request with what `answer` makes of it, and closes.
    pub(crate) async fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    pub(crate) async fn at(
        bind: &str,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind(bind).await.unwrap(), answer)
    }

    /// At a socket that is there already.
    pub(crate) fn on(
        listener: TcpListener,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let answer = Arc::new(answer);
        let peer = Peer::on(listener, move |mut stream| {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            async move {
                let Some(request) = read_request(&mut stream).await else { return };
                let bytes = answer(&request);
                kept.lock().unwrap().push(request);
                stream.write_all(&bytes).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self { peer, requests }
    }

    /// Always the same answer.
    pub(crate) async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |_| answer.clone()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.peer.address)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> String {
        self.requests().pop().unwrap()
    }
}

/// An answer with status, more header lines and a body of declared length.
pub(crate) fn response(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        bytes.push_str(header);
        bytes.push_str("\r\n");
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK", &[], body)
}

/// A request with its body, by `Content-Length` or chunks.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length =
                lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            let chunked = lower.contains("transfer-encoding: chunked");
            let complete = match length {
                Some(length) => body.len() >= length,
                None => !chunked || body.ends_with("0\r\n\r\n"),
            };
            if complete {
                return Some(text);
            }
        }
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}
