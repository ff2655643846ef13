//! HTTP servers, proxies among them: every part of an answer can be said, wrong or late.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Ledger, Stream};
use crate::support::web::read_request;

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    /// Answers to paths, with their query. What is not here gets the answer that stands beside it.
    paths: BTreeMap<String, Self>,
    /// Default 200.
    status: Option<u16>,
    /// Default `HTTP/1.1`.
    version: Option<String>,
    headers: Vec<String>,
    body: String,
    /// The body so many times.
    repeat: Option<usize>,
    /// `gzip`, `br`, `deflate` or `zlib`: what is done to the body.
    encode: Option<String>,
    /// The declared length, where it is not the body's; -1 for none.
    length: Option<i64>,
    chunked: bool,
    /// Only so many bytes of the body are sent.
    cut: Option<usize>,
    /// `headers` or `body`: never sent.
    stall: Option<String>,
    /// Milliseconds before the answer.
    after: Option<u64>,
    /// Instead of everything else.
    raw: Option<String>,
    /// Before the answer.
    before: String,
    /// The answer to CONNECT; 200, the default, opens the tunnel.
    connect: Option<u16>,
    /// The answer where the request lacks this text.
    without: BTreeMap<String, Self>,
}

impl Http {
    fn answer(&self, path: &str, request: &str) -> &Self {
        let found = self.paths.get(path).unwrap_or(self);
        let lower = request.to_ascii_lowercase();
        let lacking = found.without.iter().find(|(text, _)| !lower.contains(&text.to_lowercase()));
        lacking.map_or(found, |(_, other)| other)
    }

    fn content(&self) -> Vec<u8> {
        let plain = self.body.repeat(self.repeat.unwrap_or(1)).into_bytes();
        match self.encode.as_deref() {
            None => plain,
            Some("gzip") => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&plain).unwrap();
                encoder.finish().unwrap()
            }
            Some("deflate") => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&plain).unwrap();
                encoder.finish().unwrap()
            }
            Some("zlib") => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&plain).unwrap();
                encoder.finish().unwrap()
            }
            Some("br") => {
                let mut encoded = Vec::new();
                brotli::CompressorWriter::new(&mut encoded, 4096, 4, 20).write_all(&plain).unwrap();
                encoded
            }
            Some(other) => panic!("no server encodes {other}"),
        }
    }

    /// An answer of HTTP/1, in the parts between which it may stall.
    fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let status = self.status.unwrap_or(200);
        let version = self.version.as_deref().unwrap_or("HTTP/1.1");
        let mut body = self.content();
        let mut head = format!("{version} {status} as told\r\n");
        for header in &self.headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        let declared = self.length.unwrap_or_else(|| i64::try_from(body.len()).unwrap());
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
            let mut framed = format!("{:x}\r\n", body.len()).into_bytes();
            framed.extend_from_slice(&body);
            framed.extend_from_slice(b"\r\n0\r\n\r\n");
            body = framed;
        } else if declared >= 0 && status != 304 && status != 204 {
            head.push_str("Content-Length: ");
            head.push_str(&declared.to_string());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        body.truncate(self.cut.unwrap_or(usize::MAX));
        (head.into_bytes(), body)
    }

    pub(super) async fn serve(&self, stream: impl Stream + 'static, is_h2: bool, ledger: &Ledger) {
        if is_h2 {
            self.serve_h2(stream, ledger).await;
        } else {
            self.serve_h1(stream, ledger).await;
        }
    }

    async fn serve_h1(&self, mut stream: impl Stream, ledger: &Ledger) {
        let Some(request) = read_request(&mut stream).await else { return };
        ledger.tell(&request);
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if method == "CONNECT" {
            self.tunnel(&mut stream, path).await;
            return;
        }
        let answer = self.answer(path, &request);
        tokio::time::sleep(Duration::from_millis(answer.after.unwrap_or(0))).await;
        stream.write_all(answer.before.as_bytes()).await.ok();
        if let Some(raw) = &answer.raw {
            stream.write_all(raw.as_bytes()).await.ok();
            stream.shutdown().await.ok();
            return;
        }
        let stall = answer.stall.as_deref();
        let (head, body) = answer.bytes();
        if stall == Some("headers") {
            stream.write_all(&head[..head.len() / 2]).await.ok();
            return std::future::pending().await;
        }
        stream.write_all(&head).await.ok();
        if method != "HEAD" {
            stream.write_all(&body).await.ok();
        }
        stream.flush().await.ok();
        if stall == Some("body") {
            return std::future::pending().await;
        }
        stream.shutdown().await.ok();
    }

    async fn tunnel(&self, stream: &mut impl Stream, to: &str) {
        let status = self.connect.unwrap_or(200);
        let head = format!("HTTP/1.1 {status} as told\r\n\r\n");
        if status != 200 {
            stream.write_all(head.as_bytes()).await.ok();
            stream.shutdown().await.ok();
            return;
        }
        // Names are this machine's, whatever they are.
        let port = to.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let Ok(mut onward) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        stream.write_all(head.as_bytes()).await.ok();
        tokio::io::copy_bidirectional(stream, &mut onward).await.ok();
    }

    async fn serve_h2(&self, stream: impl Stream + 'static, ledger: &Ledger) {
        let (http, ledger) = (Arc::new(self.clone()), ledger.clone());
        let service = service_fn(move |request| answer_h2(http.clone(), ledger.clone(), request));
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
            .ok();
    }
}

async fn answer_h2(
    http: Arc<Http>,
    ledger: Ledger,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut told = format!("{} {} HTTP/2\r\n", head.method, head.uri);
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        write!(told, "{name}: {value}\r\n").unwrap();
    }
    write!(told, "\r\n{}", String::from_utf8_lossy(&body)).unwrap();
    ledger.tell(&told);
    let answer = http.answer(head.uri.path(), &told);
    let mut response = hyper::Response::builder().status(answer.status.unwrap_or(200));
    for header in &answer.headers {
        let (name, value) = header.split_once(": ").unwrap();
        response = response.header(name.to_ascii_lowercase(), value);
    }
    Ok(response.body(Full::new(Bytes::from(answer.content()))).unwrap())
}
