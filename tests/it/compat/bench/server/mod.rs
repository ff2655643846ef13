//! The servers that cases name: a few words each, for good behaviour and bad.

mod dns;
mod grpc;
mod http;
mod http3;
mod talk;
mod tls;
mod websocket;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::files::Files;
use crate::support::quic::Quic3;

/// A stream of bytes, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One server as written; exactly one of the kinds is set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// The address it listens at; default 127.0.0.1.
    #[serde(rename = "at")]
    _at: Option<String>,
    http: Option<http::Http>,
    http3: Option<http3::Http3>,
    tcp: Option<Vec<talk::Step>>,
    unix: Option<Vec<talk::Step>>,
    udp: Option<Vec<talk::Step>>,
    dns: Option<dns::Dns>,
    grpc: Option<grpc::Grpc>,
    websocket: Option<websocket::WebSocket>,
    /// A SOCKS proxy that connects to whatever it is told to.
    #[serde(default)]
    socks: bool,
    /// `tcp` or `udp`: a port where nobody is.
    #[serde(rename = "closed")]
    _closed: Option<String>,
    tls: Option<tls::Tls>,
}

/// Something that listens already, so that its address is known.
pub(crate) struct Bound {
    place: Place,
}

enum Place {
    Tcp(std::net::TcpListener, SocketAddr),
    Udp(std::net::UdpSocket, SocketAddr),
    /// Over UDP and TCP at the same port.
    Both(std::net::UdpSocket, std::net::TcpListener, SocketAddr),
    Unix(std::os::unix::net::UnixListener, PathBuf),
    Closed(Socket, SocketAddr),
    /// It runs already.
    Http3(Quic3, SocketAddr),
    /// A path where no socket is.
    Nowhere(PathBuf),
}

/// What a server was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    told: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Ledger {
    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    fn tell(&self, text: impl Into<String>) {
        self.told.lock().unwrap().push(text.into());
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().join("\n")
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A server that stops when it is dropped.
pub(crate) struct Running {
    ledger: Ledger,
    http3: Option<Quic3>,
    _tasks: JoinSet<()>,
    _kept: Option<Socket>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ledger.fmt(f)
    }
}

impl Running {
    pub(crate) fn told(&self) -> String {
        self.http3.as_ref().map_or_else(|| self.ledger.told(), |server| server.asked().join("\n"))
    }

    pub(crate) fn asked(&self) -> usize {
        self.http3.as_ref().map_or_else(|| self.ledger.asked(), |server| server.asked().len())
    }
}

impl Bound {
    pub(crate) fn new(spec: &Value, files: &Files) -> Self {
        let has = |kind: &str| spec.get(kind).is_some();
        let ip = spec["at"].as_str().map_or(Ipv4Addr::LOCALHOST.into(), |at| at.parse().unwrap());
        if has("unix") {
            let path = files.new_path();
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            return Self { place: Place::Unix(listener, path) };
        }
        let place = match spec["closed"].as_str() {
            Some("unix") => Place::Nowhere(files.new_path()),
            Some(kind) => closed(kind, ip),
            None if has("udp") => {
                let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
                let address = socket.local_addr().unwrap();
                socket.set_nonblocking(true).unwrap();
                Place::Udp(socket, address)
            }
            None if has("dns") => both(ip),
            None if has("http3") => {
                let server = http3::start(spec, files);
                let address = server.address;
                Place::Http3(server, address)
            }
            None => {
                let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
                let address = listener.local_addr().unwrap();
                listener.set_nonblocking(true).unwrap();
                Place::Tcp(listener, address)
            }
        };
        Self { place }
    }

    fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Tcp(_, address) | Place::Udp(_, address) => Some(*address),
            Place::Both(_, _, address) | Place::Closed(_, address) => Some(*address),
            Place::Http3(_, address) => Some(*address),
            Place::Unix(..) | Place::Nowhere(_) => None,
        }
    }

    fn path(&self) -> Option<String> {
        match &self.place {
            Place::Unix(_, path) | Place::Nowhere(path) => Some(path.display().to_string()),
            _ => None,
        }
    }

    /// What the case may call it.
    pub(crate) fn words(&self) -> Vec<(&'static str, String)> {
        let Some(address) = self.address() else {
            return vec![("path", self.path().unwrap_or_default())];
        };
        vec![
            ("port", address.port().to_string()),
            ("address", address.to_string()),
            ("name", format!("localhost:{}", address.port())),
        ]
    }
}

/// A port that refuses, and is nobody else's meanwhile.
fn closed(kind: &str, ip: IpAddr) -> Place {
    let domain = if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let kind = if kind == "udp" { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(domain, kind, None).unwrap();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    if kind == Type::DGRAM {
        // One that is connected takes nothing from anybody else.
        socket.connect(&SocketAddr::new(ip, 9).into()).unwrap();
    }
    Place::Closed(socket, address)
}

fn both(ip: IpAddr) -> Place {
    loop {
        let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        // Somebody else may have the port for UDP.
        if let Ok(socket) = std::net::UdpSocket::bind(address) {
            socket.set_nonblocking(true).unwrap();
            listener.set_nonblocking(true).unwrap();
            return Place::Both(socket, listener, address);
        }
    }
}

impl Server {
    /// What `/probe` is asked where the case does not say.
    pub(crate) fn target(&self, bound: &Bound) -> String {
        let Some(address) = bound.address() else { return bound.path().unwrap_or_default() };
        let by_name = format!("localhost:{}", address.port());
        let is_encrypted = self.tls.is_some();
        match () {
            () if self.http3.is_some() => format!("https://{by_name}/"),
            () if self.http.is_some() && is_encrypted => format!("https://{by_name}/"),
            () if self.http.is_some() => format!("http://{address}/"),
            () if self.websocket.is_some() && is_encrypted => format!("wss://{by_name}/"),
            () if self.websocket.is_some() => format!("ws://{address}/"),
            () if is_encrypted => by_name,
            () => address.to_string(),
        }
    }

    pub(crate) fn start(self, bound: Bound, files: &Files) -> Running {
        let ledger = Ledger::default();
        let mut tasks = JoinSet::new();
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor(files));
        let mut http3 = None;
        let kept = match bound.place {
            Place::Http3(server, _) => {
                http3 = Some(server);
                None
            }
            Place::Nowhere(_) => None,
            Place::Closed(socket, _) => Some(socket),
            Place::Unix(listener, _) => {
                let listener = UnixListener::from_std(listener).unwrap();
                tasks.spawn(self.accept_unix(listener, acceptor, ledger.clone()));
                None
            }
            Place::Udp(socket, _) => {
                let socket = UdpSocket::from_std(socket).unwrap();
                tasks.spawn(talk::datagrams(socket, self.udp.unwrap_or_default(), ledger.clone()));
                None
            }
            Place::Both(socket, listener, _) => {
                let dns = Arc::new(self.dns.unwrap());
                let socket = UdpSocket::from_std(socket).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                tasks.spawn(Arc::clone(&dns).over_udp(socket, ledger.clone()));
                tasks.spawn(dns.over_tcp(listener, acceptor, ledger.clone()));
                None
            }
            Place::Tcp(listener, _) => {
                let listener = TcpListener::from_std(listener).unwrap();
                tasks.spawn(self.accept(listener, acceptor, ledger.clone()));
                None
            }
        };
        Running { ledger, http3, _tasks: tasks, _kept: kept }
    }

    async fn accept_unix(
        self,
        listener: UnixListener,
        acceptor: Option<TlsAcceptor>,
        ledger: Ledger,
    ) {
        let is_encrypted = self.tls.is_some();
        let steps = Arc::new(self.unix.unwrap_or_default());
        let mut talks = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (steps, acceptor, ledger) = (steps.clone(), acceptor.clone(), ledger.clone());
            talks.spawn(async move {
                ledger.ask();
                talk::hold(Box::new(stream), &steps, acceptor, is_encrypted, &ledger).await;
            });
        }
    }

    async fn accept(self, listener: TcpListener, acceptor: Option<TlsAcceptor>, ledger: Ledger) {
        let server = Arc::new(self);
        let mut talks = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (server, acceptor, ledger) = (server.clone(), acceptor.clone(), ledger.clone());
            talks.spawn(async move { server.serve(stream, acceptor, &ledger).await });
        }
    }

    async fn serve(&self, stream: TcpStream, acceptor: Option<TlsAcceptor>, ledger: &Ledger) {
        ledger.ask();
        stream.set_nodelay(true).ok();
        if let Some(steps) = &self.tcp {
            talk::tcp(stream, steps, acceptor, self.tls.is_some(), ledger).await;
        } else if self.socks {
            talk::socks(stream, ledger).await;
        } else if let Some(acceptor) = acceptor {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let presented = stream.get_ref().1.peer_certificates().is_some();
            if presented {
                ledger.tell("a client certificate");
            }
            if let Some(name) = stream.get_ref().1.server_name() {
                ledger.tell(format!("server name {name}"));
            }
            self.speak(stream, is_h2, ledger).await;
        } else {
            self.speak(stream, false, ledger).await;
        }
    }

    async fn speak(&self, stream: impl Stream + 'static, is_h2: bool, ledger: &Ledger) {
        if let Some(http) = &self.http {
            http.serve(stream, is_h2, ledger).await;
        } else if let Some(grpc) = &self.grpc {
            grpc.serve(stream, ledger).await;
        } else if let Some(websocket) = &self.websocket {
            websocket.serve(stream, ledger).await;
        }
    }
}
