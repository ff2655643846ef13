//! Servers that switch to WebSocket, or do not.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Ledger, Stream};
use crate::support::web::read_request;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebSocket {
    /// Answers with this status instead of switching.
    status: Option<u16>,
    headers: Vec<String>,
    /// Answers with these bytes.
    raw: Option<String>,
    /// `headers`: never answers.
    stall: bool,
    /// Computes the key of the answer wrongly.
    wrong_key: bool,
    script: Vec<Step>,
}

/// One step; exactly one key is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "words of a file, one of which is there")]
struct Step {
    say: Option<String>,
    binary: Option<String>,
    ping: bool,
    /// Waits for a message.
    read: bool,
    wait: Option<u64>,
    close: bool,
    /// Bytes that are no frame.
    garbage: bool,
}

impl WebSocket {
    pub(super) async fn serve(&self, mut stream: impl Stream, ledger: &Ledger) {
        let Some(request) = read_request(&mut stream).await else { return };
        ledger.tell(&request);
        if self.stall {
            return std::future::pending().await;
        }
        let lower = request.to_ascii_lowercase();
        let key = lower.find("sec-websocket-key: ").map(|at| {
            let rest = request.split_at(at + "sec-websocket-key: ".len()).1;
            rest.split("\r\n").next().unwrap_or_default().trim()
        });
        let Some(key) = key else { return };
        let key = if self.wrong_key { "wrong" } else { key };
        let mut more = self.headers.join("\r\n");
        if !more.is_empty() {
            more.push_str("\r\n");
        }
        let head = match (self.status, &self.raw) {
            (_, Some(raw)) => raw.clone(),
            (Some(status), _) => {
                format!("HTTP/1.1 {status} as told\r\n{more}Content-Length: 2\r\n\r\nno")
            }
            _ => format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 {more}Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            ),
        };
        stream.write_all(head.as_bytes()).await.ok();
        stream.flush().await.ok();
        if self.status.is_some() || self.raw.is_some() {
            stream.shutdown().await.ok();
            return;
        }
        self.talk(WebSocketStream::from_raw_socket(stream, Role::Server, None).await, ledger).await;
    }

    async fn talk<S: Stream>(&self, mut socket: WebSocketStream<S>, ledger: &Ledger) {
        for step in &self.script {
            if let Some(text) = &step.say {
                socket.send(Message::text(text)).await.ok();
            } else if let Some(text) = &step.binary {
                socket.send(Message::binary(text.clone().into_bytes())).await.ok();
            } else if step.ping {
                socket.send(Message::Ping(b"there?".as_slice().into())).await.ok();
            } else if let Some(milliseconds) = step.wait {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            } else if step.garbage {
                socket.get_mut().write_all(&[0xff; 64]).await.ok();
            } else if step.read {
                loop {
                    let Some(Ok(message)) = socket.next().await else { return };
                    if message.is_text() {
                        ledger.tell(message.into_text().unwrap().as_str());
                        break;
                    }
                }
            } else if step.close {
                socket.close(None).await.ok();
                return;
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    }
}
