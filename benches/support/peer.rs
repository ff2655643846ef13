//! The side that answers: a process of its own, so that its work is not counted as ours.
//!
//! A bench starts itself again with `--peer KIND`. Each thread of the peer listens on a loopback address of its own, so
//! that connections that linger after their end do not use up the local ports of one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, Stream};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

const LISTENERS: u8 = 8;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";
/// A record of type A behind the question: its name is the question's.
const RECORD: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];
const DNS_HEADER: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Http,
    Dns,
    Tls,
    Https,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Tcp, Self::Http, Self::Dns, Self::Tls, Self::Https];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Https => "https",
        }
    }
}

/// A running peer. It ends when it is dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
    /// The authority that its certificates are to be verified with, in PEM.
    pub(crate) authority: String,
}

impl Peer {
    pub(crate) fn start(kind: Kind) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--peer", kind.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let addresses = said["addresses"].as_array().unwrap().iter();
        let addresses = addresses.map(|a| a.as_str().unwrap().parse().unwrap()).collect();
        Self { child, addresses, authority: said["authority"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Serves until the bench is gone, if this process was started to do so.
pub(crate) fn served() -> bool {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--peer").skip(1);
    let Some(name) = arguments.next() else { return false };
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).expect("a kind of peer");
    let (authority, tls) = certificates();
    let addresses: Vec<_> = (1..=LISTENERS).map(|last| serve(kind, last, &tls)).collect();
    println!("{}", json!({ "addresses": addresses, "authority": authority }));
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    true
}

fn serve(kind: Kind, last: u8, tls: &Arc<ServerConfig>) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, last], 0));
    if kind == Kind::Dns {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || name_server(&socket));
        return address;
    }
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::clone(tls);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever hangs up early is none of our business.
            answer(kind, stream, &tls).ok();
        }
    });
    address
}

fn answer(kind: Kind, mut stream: TcpStream, tls: &Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match kind {
        Kind::Tcp | Kind::Dns => stream.read(&mut [0; 1]).map(drop),
        Kind::Http => answer_http(&mut stream),
        Kind::Tls | Kind::Https => {
            let mut connection =
                ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
            let mut stream = Stream::new(&mut connection, &mut stream);
            if kind == Kind::Tls {
                return stream.read(&mut [0; 1]).map(drop);
            }
            answer_http(&mut stream)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn answer_http(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        let mut space = [0; 1024];
        let read = stream.read(&mut space)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&space[..read]);
    }
    stream.write_all(ANSWER)
}

fn name_server(socket: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let query = &query[..length];
        let name = query[DNS_HEADER..].iter().position(|byte| *byte == 0).unwrap_or_default();
        let question = &query[..DNS_HEADER + name + 5];
        let mut reply = [question, RECORD].concat();
        // An answer to a recursive question: one question, one record.
        reply[2..DNS_HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        socket.send_to(&reply, from).ok();
    }
}

fn certificates() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<_> = (1..=LISTENERS).map(|last| format!("127.0.0.{last}")).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (authority.pem(), Arc::new(config))
}
