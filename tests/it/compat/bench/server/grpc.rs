//! Health services of gRPC.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Ledger, Stream};
use crate::support::grpc::{Answer, Call, serve};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Grpc {
    /// The status that is reported; default 1, SERVING.
    serving: Option<u8>,
    /// Ends with this code instead.
    code: Option<u16>,
    /// The status of HTTP; default 200.
    http: Option<u16>,
    /// Milliseconds before the answer.
    after: Option<u64>,
    /// Bytes after the connection was accepted, instead of HTTP/2.
    raw: Option<String>,
    /// Never says a word.
    silent: bool,
}

impl Grpc {
    fn answer(&self) -> Answer {
        let mut answer = match self.code {
            None => Answer::serving(self.serving.unwrap_or(1)),
            Some(code) => {
                let trailers = vec![("grpc-status", code.to_string().leak() as &'static str)];
                Answer { trailers, ..Answer::default() }
            }
        };
        answer.http = self.http;
        answer.after = Duration::from_millis(self.after.unwrap_or(0));
        answer
    }

    pub(super) async fn serve(&self, mut stream: impl Stream + 'static, ledger: &Ledger) {
        if let Some(raw) = &self.raw {
            stream.write_all(raw.as_bytes()).await.ok();
            stream.flush().await.ok();
        }
        if self.silent || self.raw.is_some() {
            let mut ignored = Vec::new();
            stream.read_to_end(&mut ignored).await.ok();
            return;
        }
        let ledger = ledger.clone();
        let told = move |call: Call| {
            let mut text = format!("{} {}\r\n", call.path, call.authority);
            for (name, value) in &call.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                write!(text, "{name}: {value}\r\n").unwrap();
            }
            text.push_str(&String::from_utf8_lossy(&call.body));
            ledger.tell(text);
        };
        serve(stream, told, self.answer()).await;
    }
}
