//! The opening handshake: a request by hand, and an answer that is read line by line.
//!
//! The library's own handshake cannot be used: it takes `Connection: keep-alive, Upgrade` for a refusal, and does not
//! say what came when it fails.

use ::http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::model::{Answer, Fault};
use crate::net::Deadline;
use crate::net::http::{Link, MAX_HEADERS};
use crate::probe::wire::{Broken, Wire, fault, quote};

/// The answer's head, as far as it matters.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) code: u16,
    headers: Vec<(String, String)>,
}

/// Asks to switch protocols. `headers` has `Host` and everything else that the handshake itself does not set.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    link: &Link,
    headers: &HeaderMap,
    deadline: Deadline,
) -> Result<(Head, String), Answer> {
    let key = generate_key();
    let budget = deadline.left();
    let broken = |broken, received| Answer::from(fault(broken, received, budget));
    let request = request(link, headers, &key);
    wire.send(&request, deadline).await.map_err(|why| broken(why, wire.received()))?;
    let head = match read(wire, deadline).await {
        Ok(head) => head,
        Err(Unread::Broken(Broken::Late)) if wire.received() > 0 => {
            let detail = format!("the head stopped after {} bytes", wire.received());
            return Err(Fault::ProtocolError { detail: detail.into() }.into());
        }
        Err(Unread::Broken(why)) => return Err(broken(why, wire.received())),
        Err(Unread::Malformed(detail)) => return Err(Fault::ProtocolError { detail }.into()),
    };
    Ok((head, derive_accept_key(key.as_bytes())))
}

fn request(link: &Link, headers: &HeaderMap, key: &str) -> Vec<u8> {
    let mut bytes = format!("GET {} HTTP/1.1\r\n", link.path).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(HeaderValue::as_bytes(value));
        bytes.extend_from_slice(b"\r\n");
    }
    let own = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n\r\n"
    );
    bytes.extend_from_slice(own.as_bytes());
    bytes
}

enum Unread {
    Broken(Broken),
    Malformed(Box<str>),
}

impl From<Broken> for Unread {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    deadline: Deadline,
) -> Result<Head, Unread> {
    let first = wire.line(deadline).await?;
    let code = status(&first)
        .ok_or_else(|| Unread::Malformed(format!("{:?} is not HTTP", quote(&first)).into()))?;
    let mut headers = Vec::new();
    loop {
        let line = wire.line(deadline).await?;
        if line.is_empty() {
            return Ok(Head { code, headers });
        }
        if headers.len() >= MAX_HEADERS {
            return Err(Unread::Malformed(format!("more than {MAX_HEADERS} headers").into()));
        }
        let text = String::from_utf8_lossy(&line);
        let Some((name, value)) = text.split_once(':') else {
            return Err(Unread::Malformed(format!("{:?} is no header", quote(&line)).into()));
        };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// The status of `HTTP/1.1 101 Switching Protocols`.
fn status(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    let (version, rest) = text.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(())?;
    let code = rest.split(' ').next()?;
    (code.len() == 3).then(|| code.parse().ok()).flatten().filter(|code| *code >= 100)
}

impl Head {
    /// Whether the server switched, by the rules of RFC 6455, section 4.1.
    pub(super) fn judge(&self, accept: &str) -> Result<(), Fault> {
        match self.code {
            101 => {}
            401 | 403 | 407 => return Err(Fault::AuthRefused { code: self.code }),
            code => return Err(Fault::UpgradeRefused { code }),
        }
        let wrong = |detail: &str| Err(Fault::ProtocolError { detail: detail.into() });
        if !self.has_token("upgrade", "websocket") {
            return wrong("status 101 without Upgrade: websocket");
        }
        if !self.has_token("connection", "upgrade") {
            return wrong("status 101 without Connection: Upgrade");
        }
        if !self.values("sec-websocket-accept").any(|value| value == accept) {
            return wrong("Sec-WebSocket-Accept is not the answer to our key");
        }
        if self.values("sec-websocket-extensions").any(|value| !value.is_empty()) {
            return wrong("the server uses an extension that nobody asked for");
        }
        Ok(())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        let mut tokens = self.values(name).flat_map(|value| value.split(','));
        tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        let rows = [
            ("HTTP/1.1 101 Switching Protocols", Some(101)),
            ("HTTP/1.0 404", Some(404)),
            ("HTTP/1.1 1010", None),
            ("HTTP/1.1 abc", None),
            ("HTTP/1.1 099 x", None),
            ("SSH-2.0-OpenSSH_9", None),
            ("", None),
        ];
        for (line, wanted) in rows {
            assert_eq!(status(line.as_bytes()), wanted, "{line}");
        }
    }

    fn head(code: u16, headers: &[(&str, &str)]) -> Head {
        let own = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        Head { code, headers: headers.iter().map(own).collect() }
    }

    #[test]
    fn a_switch_is_judged_by_the_standard() {
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", "key"),
        ];
        assert_eq!(head(101, &good).judge("key"), Ok(()));
        assert!(head(101, &good).judge("other").is_err());
        for left_out in 0..good.len() {
            let mut some = good.to_vec();
            some.remove(left_out);
            assert!(head(101, &some).judge("key").is_err(), "{left_out}");
        }
        assert_eq!(head(200, &good).judge("key"), Err(Fault::UpgradeRefused { code: 200 }));
        assert_eq!(head(401, &good).judge("key"), Err(Fault::AuthRefused { code: 401 }));
        let mut extended = good.to_vec();
        extended.push(("sec-websocket-extensions", "permessage-deflate"));
        assert!(head(101, &extended).judge("key").is_err());
    }
}
