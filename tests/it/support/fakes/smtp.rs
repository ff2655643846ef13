//! A mail relay that takes messages, in the clear or after STARTTLS, or refuses them as told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::support::peer::Tls;

#[derive(Clone)]
pub(crate) struct Smtp {
    pub(crate) address: String,
    inner: Arc<Inner>,
    _server: Arc<AbortOnDropHandle<()>>,
}

#[derive(Default)]
struct Inner {
    messages: Mutex<Vec<String>>,
    /// The answer to the end of DATA.
    verdict: Mutex<String>,
    /// A mailbox that is not there.
    gone: Mutex<Option<String>>,
    /// Recipients of messages that were taken.
    recipients: Mutex<Vec<String>>,
}

impl Smtp {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// At a socket that is there already; with TLS for those who ask for it.
    pub(crate) fn on(listener: TcpListener, tls: Option<Tls>) -> Self {
        let acceptor = tls.map(Tls::acceptor);
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner::default());
        let shared = Arc::clone(&inner);
        #[expect(clippy::disallowed_methods, reason = "a server of a test")]
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (inner, acceptor) = (Arc::clone(&shared), acceptor.clone());
                drop(tokio::spawn(async move { drop(serve(stream, acceptor, &inner).await) }));
            }
        });
        let smtp = Self { address, inner, _server: Arc::new(AbortOnDropHandle::new(task)) };
        smtp.set_verdict("250 queued");
        smtp
    }

    pub(crate) fn set_verdict(&self, line: &str) {
        line.clone_into(&mut self.inner.verdict.lock().unwrap());
    }

    /// This mailbox is refused, as soon as it is named.
    pub(crate) fn set_gone(&self, mailbox: &str) {
        *self.inner.gone.lock().unwrap() = Some(mailbox.to_owned());
    }

    /// Who got the messages that were taken.
    pub(crate) fn recipients(&self) -> Vec<String> {
        self.inner.recipients.lock().unwrap().clone()
    }

    /// Messages that were taken, headers and all.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.inner.messages.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    inner: &Inner,
) -> std::io::Result<()> {
    stream.write_all(b"220 fake ESMTP\r\n").await?;
    if let (Some(stream), Some(acceptor)) =
        (talk(stream, acceptor.is_some(), inner).await?, acceptor)
    {
        talk(acceptor.accept(stream).await?, false, inner).await?;
    }
    Ok(())
}

/// Until the end, or until it is to go on encrypted.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    has_tls: bool,
    inner: &Inner,
) -> std::io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    let mut recipients = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let verb = line.split_whitespace().next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" if has_tls => "250-fake\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
            "EHLO" => "250-fake\r\n250 8BITMIME\r\n",
            "STARTTLS" if has_tls => {
                stream.write_all(b"220 go on\r\n").await?;
                return Ok(Some(stream.into_inner()));
            }
            "MAIL" => {
                recipients.clear();
                "250 ok\r\n"
            }
            "RCPT" => {
                let gone = inner.gone.lock().unwrap().clone();
                if gone.is_some_and(|gone| line.contains(&gone)) {
                    "550 no such user\r\n"
                } else {
                    recipients.push(line.trim().trim_start_matches("RCPT TO:").to_owned());
                    "250 ok\r\n"
                }
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                stream.flush().await?;
                let message = read_message(&mut stream).await?;
                let verdict = inner.verdict.lock().unwrap().clone();
                if verdict.starts_with('2') {
                    inner.messages.lock().unwrap().push(message);
                    inner.recipients.lock().unwrap().append(&mut recipients);
                }
                stream.write_all(format!("{verdict}\r\n").as_bytes()).await?;
                stream.flush().await?;
                continue;
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(None);
            }
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

async fn read_message<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut message = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(message);
        }
        message.push_str(&line);
    }
}
