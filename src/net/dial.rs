//! Opening a TCP connection, and telling the ways in which that fails apart.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use super::{Deadline, Stopwatch};
use crate::model::{Answer, Fault, Phase, Unknown};

/// The address that a connection leaves from; `None` lets the kernel choose.
pub type Source = Option<IpAddr>;

/// Connects to `ip:port` within the deadline, in the phase `connect`.
pub async fn dial(
    ip: IpAddr,
    port: u16,
    source: Source,
    deadline: Deadline,
    watch: &mut Stopwatch,
) -> Result<TcpStream, Answer> {
    watch.enter(Phase::Connect);
    let socket = open(ip, source)?;
    let connected = deadline.limit(socket.connect(SocketAddr::new(ip, port))).await;
    let stream = connected
        .map_err(|expired| Fault::ConnectTimeout { ip, port, budget: expired.budget })?
        .map_err(|error| connect_failed(&error, ip, port))?;
    watch.stop();
    // Small requests must leave at once; a socket that cannot do this still works.
    stream.set_nodelay(true).ok();
    Ok(stream)
}

fn open(ip: IpAddr, source: Source) -> Result<TcpSocket, Answer> {
    let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket =
        socket.map_err(|error| ours(&error).unwrap_or_else(|| setup("no socket", &error)))?;
    if let Some(source) = source {
        wrong_family(source, ip)?;
        socket
            .bind(SocketAddr::new(source, 0))
            .map_err(|error| Unknown::SourceAddress(format!("{source}: {error}").into()))?;
    }
    Ok(socket)
}

pub(super) fn wrong_family(source: IpAddr, ip: IpAddr) -> Result<(), Answer> {
    if source.is_ipv4() == ip.is_ipv4() {
        return Ok(());
    }
    let detail = format!("{source} is not of the family of {ip}");
    Err(Unknown::SourceAddress(detail.into()).into())
}

pub(super) fn setup(what: &str, error: &io::Error) -> Answer {
    Unknown::Setup(format!("{what}: {error}").into()).into()
}

/// An error of the kernel that says something about this machine and nothing about the target.
pub(super) fn ours(error: &io::Error) -> Option<Answer> {
    let unknown = match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Unknown::NoDescriptors,
        Errno::ACCESS | Errno::PERM => Unknown::NoPermission(error.to_string().into()),
        // No free local port: as with descriptors, this process asks for too much at once.
        Errno::ADDRNOTAVAIL => Unknown::SourceAddress(error.to_string().into()),
        _ => return None,
    };
    Some(unknown.into())
}

pub(super) fn connect_failed(error: &io::Error, ip: IpAddr, port: u16) -> Answer {
    if let Some(answer) = ours(error) {
        return answer;
    }
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Fault::ConnectRefused { ip, port },
        Some(Errno::CONNRESET | Errno::PIPE) => Fault::ConnectReset { ip, port },
        Some(Errno::TIMEDOUT) => {
            Fault::ConnectUnreachable { ip, port, detail: "the kernel gave up".into() }
        }
        _ => Fault::ConnectUnreachable { ip, port, detail: error.to_string().into() },
    }
    .into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    async fn try_dial(ip: &str, port: u16, source: Source) -> Result<TcpStream, Answer> {
        let deadline = Deadline::after(Duration::from_secs(5));
        dial(ip.parse().unwrap(), port, source, deadline, &mut Stopwatch::default()).await
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(try_dial("127.0.0.1", port, None).await.is_ok());
        drop(listener);
        let answer = try_dial("127.0.0.1", port, None).await.unwrap_err();
        assert_eq!(answer.reason(), Some("connect_refused"));
    }

    #[tokio::test]
    async fn a_foreign_source_address_is_our_fault() {
        let answer =
            try_dial("127.0.0.1", 9, Some("192.0.2.1".parse().unwrap())).await.unwrap_err();
        assert_eq!(answer.reason(), Some("source_address"));
        let answer = try_dial("127.0.0.1", 9, Some("::1".parse().unwrap())).await.unwrap_err();
        assert_eq!(answer.reason(), Some("source_address"));
    }
}
