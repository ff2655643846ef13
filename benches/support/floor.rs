//! The floor: the same exchange on bare blocking sockets. Connect, write, read, close; no parsing, no metrics.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::peer::{Kind, Peer};

/// How many exchanges go on at once.
pub(crate) const IN_FLIGHT: usize = 16;

const REQUEST: &[u8] =
    b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: floor\r\nconnection: close\r\n\r\n";
/// Asks for the addresses of `a.example`.
const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";

/// The exchange with one peer.
pub(crate) struct Floor<'a> {
    pub(crate) kind: Kind,
    pub(crate) peer: &'a Peer,
    tls: Arc<ClientConfig>,
}

impl<'a> Floor<'a> {
    pub(crate) fn new(kind: Kind, peer: &'a Peer) -> Self {
        Self { kind, peer, tls: client_config(&peer.authority) }
    }

    /// CPU time of this process for one exchange, when `exchanges` are made by [`IN_FLIGHT`] threads.
    pub(crate) fn measure(&self, exchanges: usize) -> Duration {
        let before = cpu_time();
        thread::scope(|scope| {
            for worker in 0..IN_FLIGHT {
                let address = self.peer.addresses[worker % self.peer.addresses.len()];
                scope.spawn(move || {
                    for _ in 0..exchanges / IN_FLIGHT {
                        self.exchange(address).unwrap();
                    }
                });
            }
        });
        let made = exchanges / IN_FLIGHT * IN_FLIGHT;
        (cpu_time() - before) / u32::try_from(made).expect("some thousands")
    }

    fn exchange(&self, address: SocketAddr) -> io::Result<()> {
        if self.kind == Kind::Dns {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(address)?;
            socket.send(QUERY)?;
            return socket.recv(&mut [0; 512]).map(drop);
        }
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        match self.kind {
            Kind::Tcp | Kind::Dns => Ok(()),
            Kind::Http => ask(&mut stream),
            Kind::Tls | Kind::Https => {
                let name = address.ip().into();
                let mut connection =
                    ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
                connection.complete_io(&mut stream)?;
                if self.kind == Kind::Tls {
                    return Ok(());
                }
                ask(&mut Stream::new(&mut connection, &mut stream))
            }
        }
    }
}

fn ask(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut space = [0; 4096];
    while stream.read(&mut space)? > 0 {}
    Ok(())
}

/// As any client has it: a certificate is verified, and nothing is resumed.
fn client_config(authority: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// What this process has used of the CPU, in all its threads.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
