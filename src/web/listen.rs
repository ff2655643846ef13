//! Listen addresses in Go's form: `:9115`, `127.0.0.1:9115`, `[::1]:9115`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

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
pub fn bind(addresses: &[String]) -> Result<Listeners, (String, io::Error)> {
    let bound = addresses.iter().map(|text| bind_one(text).map_err(|error| (text.clone(), error)));
    bound.collect::<Result<Vec<_>, _>>().map(Listeners)
}

fn bind_one(text: &str) -> io::Result<TcpListener> {
    if text.starts_with("vsock://") {
        return Err(invalid("vsock is not available; use a TCP address"));
    }
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| invalid("the port is not a number"))?;
        // One socket for both families; a machine without IPv6 gets one for IPv4.
        return open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
            .or_else(|_| open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))));
    }
    let address =
        text.to_socket_addrs()?.next().ok_or_else(|| invalid("the name has no address"))?;
    open(address)
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

    #[test]
    fn a_port_alone_serves_both_families() {
        let listeners = bind(&[":0".to_owned()]).unwrap();
        let port = listeners.addresses()[0].port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn the_address_that_fails_is_named() {
        let taken = bind(&["127.0.0.1:0".to_owned()]).unwrap();
        let again = taken.addresses()[0].to_string();
        let (named, _) = bind(&["127.0.0.1:0".to_owned(), again.clone()]).unwrap_err();
        assert_eq!(named, again);
    }
}
