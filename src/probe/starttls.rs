//! Asking a peer, in its own protocol, to go on in TLS.

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Verdict;
use super::wire::{Wire, fault, quote};
use crate::model::{Answer, Fault};
use crate::net::{Deadline, der};

/// The most lines that one reply may have.
const MAX_REPLY_LINES: usize = 128;
/// The longest LDAP message that is read.
const MAX_LDAP_BYTES: usize = 4096;
/// Who we say we are; RFC 2606 keeps this name from being anybody's.
const OUR_NAME: &str = "watchpost.invalid";
/// PostgreSQL's `SSLRequest`: its length, and a code in place of the protocol's version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// LDAP's extended operation `StartTLS` (RFC 4511, 4.14).
const LDAP_STARTTLS_OID: &[u8; 22] = b"1.3.6.1.4.1.1466.20037";

/// A protocol that begins in plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    Smtp,
    Imap,
    Pop3,
    Ftp,
    Ldap,
    Postgres,
}

impl StartTls {
    pub(super) const fn default_port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Imap => 143,
            Self::Pop3 => 110,
            Self::Ftp => 21,
            Self::Ldap => 389,
            Self::Postgres => 5432,
        }
    }

    /// Talks until both sides are about to shake hands.
    pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        io: S,
        deadline: Deadline,
    ) -> Result<S, Answer> {
        let mut talk = Talk { wire: Wire::new(io), deadline };
        match self {
            Self::Smtp => talk.smtp().await?,
            Self::Imap => talk.imap().await?,
            Self::Pop3 => talk.pop3().await?,
            Self::Ftp => talk.ftp().await?,
            Self::Ldap => talk.ldap().await?,
            Self::Postgres => talk.postgres().await?,
        }
        match talk.wire.into_parts() {
            (io, ahead) if ahead.is_empty() => Ok(io),
            // Whoever puts plain text between the go-ahead and the handshake wants it to be taken for encrypted.
            (_, ahead) => Err(unexpected("the handshake", &ahead)),
        }
    }
}

fn refused(reply: &[u8]) -> Answer {
    Fault::TlsPolicy { detail: format!("STARTTLS was refused: {}", quote(reply)).into() }.into()
}

fn not_offered() -> Answer {
    Fault::TlsPolicy { detail: "STARTTLS is not offered".into() }.into()
}

fn unexpected(wanted: &str, got: &[u8]) -> Answer {
    Fault::ProtocolError { detail: format!("expected {wanted}, got {:?}", quote(got)).into() }
        .into()
}

struct Talk<S> {
    wire: Wire<S>,
    deadline: Deadline,
}

/// A reply of SMTP or FTP.
struct Reply {
    code: [u8; 3],
    lines: Vec<Vec<u8>>,
}

impl Reply {
    fn last(&self) -> &[u8] {
        self.lines.last().map(Vec::as_slice).unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn line(&mut self) -> Result<Vec<u8>, Answer> {
        let budget = self.deadline.left();
        let line = self.wire.line(self.deadline).await;
        line.map_err(|broken| fault(broken, self.wire.received(), budget).into())
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Answer> {
        let budget = self.deadline.left();
        let bytes = self.wire.exactly(count, self.deadline).await;
        bytes.map_err(|broken| fault(broken, self.wire.received(), budget).into())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Verdict {
        let budget = self.deadline.left();
        let sent = self.wire.send(bytes.as_ref(), self.deadline).await;
        sent.map_err(|broken| fault(broken, self.wire.received(), budget).into())
    }

    /// A reply of one or more lines: `220-…` goes on, until `220 …` ends it.
    async fn reply(&mut self, protocol: &str) -> Result<Reply, Answer> {
        let first = self.line().await?;
        let code = first.get(..3).and_then(|code| <[u8; 3]>::try_from(code).ok());
        let code = code.filter(|code| code.iter().all(u8::is_ascii_digit));
        let Some(code) = code.filter(|_| matches!(first.get(3), None | Some(b' ' | b'-'))) else {
            return Err(unexpected(&format!("a reply of {protocol}"), &first));
        };
        let ends = |line: &[u8]| line.starts_with(&code) && line.get(3) != Some(&b'-');
        let mut lines = vec![first];
        while !lines.last().is_some_and(|line| ends(line)) {
            if lines.len() == MAX_REPLY_LINES {
                let detail = format!("a reply has more than {MAX_REPLY_LINES} lines").into();
                return Err(Fault::ProtocolError { detail }.into());
            }
            lines.push(self.line().await?);
        }
        Ok(Reply { code, lines })
    }

    async fn smtp(&mut self) -> Verdict {
        let greeting = self.reply("SMTP").await?;
        if greeting.code != *b"220" {
            return Err(unexpected("SMTP's greeting 220", greeting.last()));
        }
        self.send(format!("EHLO {OUR_NAME}\r\n")).await?;
        let hello = self.reply("SMTP").await?;
        if hello.code != *b"250" {
            return Err(unexpected("250 to EHLO", hello.last()));
        }
        let offers = |line: &Vec<u8>| {
            line.get(4..).unwrap_or_default().trim_ascii().eq_ignore_ascii_case(b"STARTTLS")
        };
        if !hello.lines.iter().any(offers) {
            return Err(not_offered());
        }
        self.send("STARTTLS\r\n").await?;
        let reply = self.reply("SMTP").await?;
        if reply.code == *b"220" { Ok(()) } else { Err(refused(reply.last())) }
    }

    async fn ftp(&mut self) -> Verdict {
        let mut greeting = self.reply("FTP").await?;
        // "Service ready in a while": the greeting follows.
        if greeting.code == *b"120" {
            greeting = self.reply("FTP").await?;
        }
        if greeting.code != *b"220" {
            return Err(unexpected("FTP's greeting 220", greeting.last()));
        }
        self.send("AUTH TLS\r\n").await?;
        let reply = self.reply("FTP").await?;
        if matches!(&reply.code, b"234" | b"334") { Ok(()) } else { Err(refused(reply.last())) }
    }

    async fn imap(&mut self) -> Verdict {
        let greeting = self.line().await?;
        if has_prefix(&greeting, b"* PREAUTH") {
            return Err(refused(&greeting));
        }
        if !has_prefix(&greeting, b"* OK") {
            return Err(unexpected("IMAP's greeting", &greeting));
        }
        self.send("a1 STARTTLS\r\n").await?;
        for _ in 0..MAX_REPLY_LINES {
            let line = self.line().await?;
            if has_prefix(&line, b"a1 OK") {
                return Ok(());
            }
            if has_prefix(&line, b"a1 ") {
                return Err(refused(&line));
            }
            if !line.starts_with(b"* ") {
                return Err(unexpected("IMAP's answer to STARTTLS", &line));
            }
        }
        Err(unexpected("IMAP's answer to STARTTLS", b"untagged lines without end"))
    }

    async fn pop3(&mut self) -> Verdict {
        let greeting = self.line().await?;
        if !has_prefix(&greeting, b"+OK") {
            return Err(unexpected("POP3's greeting", &greeting));
        }
        self.send("STLS\r\n").await?;
        let reply = self.line().await?;
        match &reply {
            ok if has_prefix(ok, b"+OK") => Ok(()),
            no if has_prefix(no, b"-ERR") => Err(refused(no)),
            other => Err(unexpected("POP3's answer to STLS", other)),
        }
    }

    async fn postgres(&mut self) -> Verdict {
        self.send(SSL_REQUEST).await?;
        match self.exactly(1).await?.as_slice() {
            b"S" => Ok(()),
            b"N" => Err(refused(b"the server answered N")),
            other => Err(unexpected("PostgreSQL's S or N", other)),
        }
    }

    async fn ldap(&mut self) -> Verdict {
        self.send(ldap_request()).await?;
        let message = self.ldap_message().await?;
        let Some((code, text)) = ldap_result(&message) else {
            return Err(unexpected("LDAP's answer to StartTLS", &message));
        };
        if code == 0 {
            return Ok(());
        }
        Err(refused(format!("LDAP result {code} {}", quote(&text)).trim_end().as_bytes()))
    }

    /// A whole BER element, head included.
    async fn ldap_message(&mut self) -> Result<Vec<u8>, Answer> {
        let mut message = self.exactly(2).await?;
        if message[0] != 0x30 {
            message.extend_from_slice(self.wire.ahead());
            return Err(unexpected("an LDAP message", &message));
        }
        let length = match message[1] {
            short @ 0..=0x7f => usize::from(short),
            long @ 0x81..=0x84 => {
                let digits = self.exactly(usize::from(long & 0x7f)).await?;
                message.extend_from_slice(&digits);
                digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit))
            }
            _ => return Err(unexpected("an LDAP message", &message)),
        };
        if length > MAX_LDAP_BYTES {
            return Err(unexpected("a short LDAP message", format!("{length} bytes").as_bytes()));
        }
        message.extend(self.exactly(length).await?);
        Ok(message)
    }
}

fn has_prefix(line: &[u8], prefix: &[u8]) -> bool {
    line.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Message 1: an extended request with the name of `StartTLS`.
fn ldap_request() -> Vec<u8> {
    let mut request = vec![0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16];
    request.extend_from_slice(LDAP_STARTTLS_OID);
    request
}

/// Result code and diagnostic text of an extended response.
fn ldap_result(message: &[u8]) -> Option<(u32, Vec<u8>)> {
    let id = der::element(der::element(message)?.content)?;
    let response = der::element(id.rest)?;
    let code = der::element(response.content)?;
    if id.tag != 0x02 || response.tag != 0x78 || code.tag != 0x0a || code.content.len() > 4 {
        return None;
    }
    let number = code.content.iter().fold(0, |sum, digit| (sum << 8) | u32::from(*digit));
    let text = der::element(code.rest).and_then(|name| der::element(name.rest));
    Some((number, text.map(|text| text.content.to_vec()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ldap_request_is_whole() {
        let request = ldap_request();
        let message = der::element(&request).unwrap();
        assert_eq!((message.tag, message.rest), (0x30, &[][..]));
        let operation = der::element(der::element(message.content).unwrap().rest).unwrap();
        assert_eq!((operation.tag, operation.rest), (0x77, &[][..]));
        let name = der::element(operation.content).unwrap();
        assert_eq!((name.tag, name.content), (0x80, &LDAP_STARTTLS_OID[..]));
    }

    #[test]
    fn ldap_results_are_read() {
        let good = [0x30, 12, 2, 1, 1, 0x78, 7, 0x0a, 1, 0, 4, 0, 4, 0];
        assert_eq!(ldap_result(&good), Some((0, Vec::new())));
        let busy = [0x30, 14, 2, 1, 1, 0x78, 9, 0x0a, 1, 51, 4, 0, 4, 2, b'n', b'o'];
        assert_eq!(ldap_result(&busy), Some((51, b"no".to_vec())));
        assert_eq!(ldap_result(&[0x30, 3, 2, 1, 1]), None);
    }
}
