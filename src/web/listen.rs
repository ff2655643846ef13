//! Listen addresses in Go's form: `:9115`, `127.0.0.1:9115`, `[::1]:9115`, `localhost:9115`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The addresses of a name; only names are looked up.
pub type LookUp<'a> = &'a dyn Fn(&str) -> io::Result<Vec<IpAddr>>;

/// Sockets that are bound and listen.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    pub(super) fn into_inner(self) -> Vec<TcpListener> {
        self.0
    }
}

impl From<Vec<TcpListener>> for Listeners {
    /// Sockets that somebody else has bound.
    fn from(listeners: Vec<TcpListener>) -> Self {
        Self(listeners)
    }
}

/// Binds every address; the first that fails is named.
pub fn bind(addresses: &[String], names: LookUp<'_>) -> Result<Listeners, (String, io::Error)> {
    let bound =
        addresses.iter().map(|text| bind_one(text, names).map_err(|error| (text.clone(), error)));
    bound.collect::<Result<Vec<_>, _>>().map(Listeners)
}

fn bind_one(text: &str, names: LookUp<'_>) -> io::Result<TcpListener> {
    if text.starts_with("vsock://") {
        return Err(invalid("vsock is not available; use a TCP address"));
    }
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| invalid("the port is not a number"))?;
        // One socket for both families; a machine without IPv6 gets one for IPv4.
        return open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
            .or_else(|_| open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))));
    }
    if let Ok(address) = text.parse() {
        return open(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid("write it as HOST:PORT"))?;
    let port = port.parse().map_err(|_| invalid("the port is not a number"))?;
    open_first(names(host)?, port)
}

/// One socket at a name, IPv4 first as in Go. Another address is taken only where this machine does not have the one
/// before: of two that start with the same address the second must not get away with the other family.
fn open_first(mut addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpListener> {
    addresses.sort_by_key(IpAddr::is_ipv6);
    let mut failure = invalid("the name has no address");
    for ip in addresses {
        match open(SocketAddr::new(ip, port)) {
            Err(error) if is_not_ours(&error) => failure = error,
            ended => return ended,
        }
    }
    Err(failure)
}

fn is_not_ours(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn nobody(host: &str) -> io::Result<Vec<IpAddr>> {
        panic!("{host} was looked up")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_alone_serves_both_families() {
        let listeners = bind(&[":0".to_owned()], &nobody).unwrap();
        let port = listeners.addresses()[0].port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn the_address_that_fails_is_named() {
        let taken = bind(&["127.0.0.1:0".to_owned()], &nobody).unwrap();
        let again = taken.addresses()[0].to_string();
        let (named, _) = bind(&["127.0.0.1:0".to_owned(), again.clone()], &nobody).unwrap_err();
        assert_eq!(named, again);
    }

    #[test]
    fn a_name_is_bound_at_its_first_address_that_this_machine_has() {
        let known = |host: &str| match host {
            "localhost" => Ok(vec![ip("::1"), ip("127.0.0.1")]),
            "moved" => Ok(vec![ip("192.0.2.1"), ip("127.0.0.1")]),
            "elsewhere" => Ok(vec![ip("192.0.2.1")]),
            _ => Err(io::Error::other("no such name")),
        };
        let bind = |text: &str| bind(&[text.to_owned()], &known);
        for name in ["localhost:0", "moved:0"] {
            assert_eq!(bind(name).unwrap().addresses()[0].ip(), ip("127.0.0.1"), "{name}");
        }
        let taken = bind("localhost:0").unwrap().0;
        let port = taken[0].local_addr().unwrap().port();
        let (_, error) = bind(&format!("localhost:{port}")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        for (text, what) in [
            ("elsewhere:0", "assign"),
            ("nowhere:0", "no such name"),
            ("localhost", "HOST:PORT"),
            ("localhost:http", "not a number"),
        ] {
            let (named, error) = bind(text).unwrap_err();
            assert_eq!(named, text);
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
    }
}
