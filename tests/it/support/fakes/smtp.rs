//! A mail relay that takes messages in the clear, or refuses them as told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner::default());
        let shared = Arc::clone(&inner);
        #[expect(clippy::disallowed_methods, reason = "a server of a test")]
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let inner = Arc::clone(&shared);
                drop(tokio::spawn(async move { drop(talk(stream, &inner).await) }));
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

async fn talk(stream: TcpStream, inner: &Inner) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 fake ESMTP\r\n").await?;
    let mut recipients = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.split_whitespace().next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-fake\r\n250 8BITMIME\r\n",
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
                let message = read_message(&mut stream).await?;
                let verdict = inner.verdict.lock().unwrap().clone();
                if verdict.starts_with('2') {
                    inner.messages.lock().unwrap().push(message);
                    inner.recipients.lock().unwrap().append(&mut recipients);
                }
                stream.write_all(format!("{verdict}\r\n").as_bytes()).await?;
                continue;
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn read_message(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut message = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(message);
        }
        message.push_str(&line);
    }
}
