//! Peers that follow a script, step by step; at its end they wait for the other side to go.

use std::time::Duration;

use serde::Deserialize;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::{Ledger, Stream};
use crate::support::peer::linger;

/// One step; exactly one key is set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "words of a file, one of which is there")]
pub(super) struct Step {
    pub(super) say: Option<String>,
    /// The same text so many times: `[text, 1000]`.
    pub(super) repeat: Option<(String, usize)>,
    /// Bytes as hexadecimal digits.
    pub(super) bytes: Option<String>,
    /// Waits for a line.
    pub(super) line: bool,
    /// Waits for so many bytes.
    pub(super) read: Option<usize>,
    /// Does nothing for so many milliseconds.
    pub(super) wait: Option<u64>,
    /// Goes on in TLS.
    pub(super) starttls: bool,
    pub(super) close: bool,
    /// Ends the connection rudely.
    pub(super) reset: bool,
}

impl Step {
    /// What is said in this step.
    pub(super) fn words(&self) -> Option<Vec<u8>> {
        if let Some((text, count)) = &self.repeat {
            return Some(text.repeat(*count).into_bytes());
        }
        let bytes = self.bytes.as_ref().map(|digits| unhex(digits));
        bytes.or_else(|| self.say.as_ref().map(|text| text.clone().into_bytes()))
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    digits.chunks(2).map(|pair| value(pair[0]) * 16 + value(pair[1])).collect()
}

/// Over TCP: a reset needs the socket itself.
pub(super) async fn tcp(
    stream: TcpStream,
    steps: &[Step],
    acceptor: Option<TlsAcceptor>,
    is_encrypted: bool,
    ledger: &Ledger,
) {
    let rude = steps.iter().any(|step| step.reset);
    if rude {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let starts = steps.iter().any(|step| step.starttls);
    hold(Box::new(stream), steps, acceptor, is_encrypted && !starts, ledger).await;
}

pub(super) async fn hold(
    mut stream: Box<dyn Stream>,
    steps: &[Step],
    acceptor: Option<TlsAcceptor>,
    encrypt_first: bool,
    ledger: &Ledger,
) {
    if encrypt_first {
        let Some(encrypted) = encrypt(stream, acceptor.as_ref(), ledger).await else { return };
        stream = encrypted;
    }
    for step in steps {
        if let Some(words) = step.words() {
            if stream.write_all(&words).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        } else if let Some(count) = step.read {
            let mut bytes = vec![0; count];
            if stream.read_exact(&mut bytes).await.is_err() {
                return;
            }
            ledger.tell(String::from_utf8_lossy(&bytes));
        } else if step.line {
            let Some(line) = line(&mut stream).await else { return };
            ledger.tell(line);
        } else if let Some(milliseconds) = step.wait {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        } else if step.starttls {
            let Some(encrypted) = encrypt(stream, acceptor.as_ref(), ledger).await else { return };
            stream = encrypted;
        } else if step.close || step.reset {
            stream.shutdown().await.ok();
            return;
        }
    }
    linger(&mut stream).await;
}

async fn encrypt(
    stream: Box<dyn Stream>,
    acceptor: Option<&TlsAcceptor>,
    ledger: &Ledger,
) -> Option<Box<dyn Stream>> {
    let stream = acceptor.unwrap().accept(stream).await.ok()?;
    if let Some(name) = stream.get_ref().1.server_name() {
        ledger.tell(format!("server name {name}"));
    }
    if stream.get_ref().1.peer_certificates().is_some() {
        ledger.tell("a client certificate");
    }
    Some(Box::new(stream))
}

/// A line with its end.
async fn line(stream: &mut Box<dyn Stream>) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.last() != Some(&b'\n') {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Answers each datagram with everything that is to be said.
pub(super) async fn datagrams(socket: UdpSocket, steps: Vec<Step>, ledger: Ledger) {
    let mut buffer = vec![0; 65_535];
    while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
        ledger.ask();
        ledger.tell(String::from_utf8_lossy(&buffer[..count]));
        for step in &steps {
            if let Some(milliseconds) = step.wait {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
            if let Some(words) = step.words() {
                socket.send_to(&words, from).await.ok();
            }
        }
    }
}

/// SOCKS 5 with or without a name and password, to IPv4 addresses and names.
pub(super) async fn socks(mut stream: TcpStream, ledger: &Ledger) {
    relay(&mut stream, ledger).await.ok();
}

async fn relay(stream: &mut TcpStream, ledger: &Ledger) -> std::io::Result<()> {
    stream.read_u8().await?;
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    let login = methods.contains(&2);
    stream.write_all(&[5, if login { 2 } else { 0 }]).await?;
    if login {
        stream.read_u8().await?;
        let user = sized(stream).await?;
        let password = sized(stream).await?;
        ledger.tell(format!("login {user}:{password}"));
        stream.write_all(&[1, 0]).await?;
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let host = if head[3] == 1 {
        std::net::Ipv4Addr::from(stream.read_u32().await?).to_string()
    } else {
        sized(stream).await?
    };
    let port = stream.read_u16().await?;
    ledger.tell(format!("connect {host}:{port}"));
    let mut onward = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    tokio::io::copy_bidirectional(stream, &mut onward).await?;
    Ok(())
}

/// A text behind its length.
async fn sized(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
