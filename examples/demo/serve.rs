//! Servers on loopback that answer, or fail to, as they are told.

use std::fmt::Write as _;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The longest head of a request that is read.
const MAX_HEAD: usize = 16 << 10;

/// What a server says to a request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reply {
    /// How long it thinks.
    after: Duration,
    bytes: Vec<u8>,
    /// Keeps the connection open, and says nothing more.
    hold: bool,
}

impl Reply {
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: impl AsRef<str>) -> Self {
        Self::promising(status, headers, body.as_ref(), body.as_ref().len())
    }

    pub(crate) fn ok(body: impl AsRef<str>) -> Self {
        Self::new("200 OK", &[], body)
    }

    pub(crate) fn json(status: &str, body: impl AsRef<str>) -> Self {
        Self::new(status, &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn html(body: impl AsRef<str>) -> Self {
        Self::new("200 OK", &[("Content-Type", "text/html; charset=utf-8")], body)
    }

    pub(crate) fn not_found() -> Self {
        Self::new("404 Not Found", &[], "404 page not found\n")
    }

    /// Accepts the request, and nothing ever comes.
    pub(crate) fn silence() -> Self {
        Self { hold: true, ..Self::default() }
    }

    /// The head and a part of the body, and then nothing.
    pub(crate) fn stalled(part: &str, promised: usize) -> Self {
        Self { hold: true, ..Self::promising("200 OK", &[], part, promised) }
    }

    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    fn promising(status: &str, headers: &[(&str, &str)], body: &str, length: usize) -> Self {
        let mut head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n");
        for (name, value) in headers {
            // Writing to a `String` cannot fail.
            write!(head, "{name}: {value}\r\n").ok();
        }
        head.push_str("\r\n");
        Self { after: Duration::ZERO, bytes: (head + body).into_bytes(), hold: false }
    }
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Request(String);

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn has(&self, header: &str) -> bool {
        self.0.lines().any(|line| line.eq_ignore_ascii_case(header))
    }
}

/// Where servers run. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Servers(JoinSet<()>);

impl Servers {
    /// A web server.
    pub(crate) async fn web(
        &mut self,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<SocketAddr> {
        let answer = Arc::new(answer);
        self.tcp(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                if let Some(request) = read_head(&mut stream).await {
                    say(&mut stream, answer(&request)).await;
                }
            }
        })
        .await
    }

    /// A web server behind TLS.
    pub(crate) async fn tls(&mut self, acceptor: TlsAcceptor) -> io::Result<SocketAddr> {
        self.tcp(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                // A client that turns away is what some of these servers are for.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if read_head(&mut stream).await.is_some() {
                    say(&mut stream, Reply::html("<title>shop</title>welcome")).await;
                }
            }
        })
        .await
    }

    /// Says `words` at once, and waits for the other side to go.
    pub(crate) async fn banner(&mut self, words: &'static str) -> io::Result<SocketAddr> {
        self.tcp(move |mut stream| async move {
            // The other side may have gone.
            stream.write_all(words.as_bytes()).await.ok();
            until_gone(&mut stream).await;
        })
        .await
    }

    /// An address at which nothing listens, and nothing will: its socket is kept.
    pub(crate) fn nobody(&mut self) -> io::Result<SocketAddr> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        self.spawn(async move {
            let _kept = socket;
            pending::<()>().await;
        });
        Ok(address)
    }

    /// Any server over TCP.
    pub(crate) async fn tcp<F, T>(&mut self, talk: F) -> io::Result<SocketAddr>
    where
        F: Fn(TcpStream) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        self.spawn(async move {
            let mut talks = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => { talks.spawn(talk(stream)); }
                    Some(_) = talks.join_next() => {}
                }
            }
        });
        Ok(address)
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < MAX_HEAD {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => head.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    Some(Request(String::from_utf8_lossy(&head).into_owned()))
}

async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), reply: Reply) {
    tokio::time::sleep(reply.after).await;
    // Whoever asked may have lost patience.
    stream.write_all(&reply.bytes).await.ok();
    stream.flush().await.ok();
    if reply.hold {
        until_gone(stream).await;
    }
    stream.shutdown().await.ok();
}

async fn until_gone(stream: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 2048];
    while let Ok(1..) = stream.read(&mut ignored).await {}
}
