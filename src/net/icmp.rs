//! Echo requests: an unprivileged datagram socket where the kernel allows one, a raw socket otherwise.
//!
//! The kernel's error queue tells of routers that used up the hop limit and of hosts that cannot be reached; without it
//! both would be silence. A socket is connected, so that only the peer's packets and errors about it arrive. The
//! identifier of a datagram socket is the kernel's, of a raw socket ours.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::dial::{connect_failed, ours, setup, wrong_family};
use super::{Deadline, Expired, Source};
use crate::model::{Answer, Fault, Unknown};

/// Kind, code, checksum, identifier, sequence number.
const HEAD_BYTES: usize = 8;
/// The longest header of IPv4, which a raw socket puts before the message.
const MAX_IP_HEAD_BYTES: usize = 60;
/// Room for what the kernel tells about a message: hop limit, and an error with its sender.
const CONTROL_BYTES: usize = 256;
/// The most data that a packet has room for.
pub const MAX_DATA_BYTES: usize = 65_507;

const NO_PERMISSION: &str = "no socket for ICMP: add the group of this process to the sysctl \
    net.ipv4.ping_group_range, or give it CAP_NET_RAW";

/// Sequence numbers of all runs of this process: neighbouring runs do not take each other's replies.
static SEQUENCE: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(random()));

/// How packets are sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct EchoOptions {
    /// The hop limit; `None` is the system's.
    pub ttl: Option<u8>,
    /// Forbid fragments (IPv4; routers never make them in IPv6).
    pub dont_fragment: bool,
}

/// A socket that asks one peer for echoes.
#[derive(Debug)]
pub struct EchoSocket {
    /// A datagram socket to tokio, whatever its protocol: readiness is all that it is for, and no other way to that is
    /// safe code.
    socket: UdpSocket,
    ip: IpAddr,
    raw: bool,
    id: u16,
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Reply {
        sequence: u16,
        hop_limit: Option<u8>,
    },
    /// Somebody on the way, or the peer, says that the request was not delivered.
    Refused {
        /// `None` if the message does not quote enough of the request.
        sequence: Option<u16>,
        fault: Fault,
    },
}

/// The next sequence number.
pub fn next_sequence() -> u16 {
    SEQUENCE.fetch_add(1, Ordering::Relaxed)
}

fn random() -> u16 {
    let [first, second, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([first, second])
}

impl EchoSocket {
    pub fn open(ip: IpAddr, source: Source, options: EchoOptions) -> Result<Self, Answer> {
        let (socket, raw) = create(ip)?;
        socket.set_nonblocking(true).map_err(|error| setup("no socket", &error))?;
        configure(&socket, ip, options).map_err(|error| setup("socket options", &error))?;
        if let Some(source) = source {
            wrong_family(source, ip)?;
            socket
                .bind(&SockAddr::from(SocketAddr::new(source, 0)))
                .map_err(|error| Unknown::SourceAddress(format!("{source}: {error}").into()))?;
        }
        socket
            .connect(&SockAddr::from(SocketAddr::new(ip, 0)))
            .map_err(|error| connect_failed(&error, ip, 0))?;
        let id = random();
        if raw {
            let filter = filter(ip, id);
            socket.attach_filter(&filter).map_err(|error| setup("socket filter", &error))?;
        }
        let socket = UdpSocket::from_std(socket.into())
            .map_err(|error| ours(&error).unwrap_or_else(|| setup("no socket", &error)))?;
        Ok(Self { socket, ip, raw, id })
    }

    /// Whether it needed a privilege.
    pub const fn is_raw(&self) -> bool {
        self.raw
    }

    /// Sends one echo request.
    pub async fn send(
        &self,
        sequence: u16,
        data: &[u8],
        deadline: Deadline,
    ) -> Result<Result<(), Answer>, Expired> {
        let request = request(self.ip, self.id, sequence, data);
        let mut sent = deadline.limit(self.socket.send(&request)).await?;
        if sent.is_err() {
            // The error may have been about an earlier request; it is told once.
            sent = deadline.limit(self.socket.send(&request)).await?;
        }
        Ok(sent.map(drop).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::MSGSIZE) => {
                let detail = "the packet is too large to be sent in one piece".into();
                Fault::ConnectUnreachable { ip: self.ip, port: 0, detail }.into()
            }
            _ => connect_failed(&error, self.ip, 0),
        }))
    }

    /// Waits for the next reply that carries `data`, or for word that there will be none.
    pub async fn hear(&self, data: &[u8], deadline: Deadline) -> Result<Heard, Expired> {
        let mut space = vec![0; MAX_IP_HEAD_BYTES + HEAD_BYTES + data.len() + 1];
        let interest = Interest::READABLE | Interest::ERROR;
        loop {
            let budget = deadline.left();
            // A raw socket may be flooded with what is meant for others.
            if budget.is_zero() {
                return Err(Expired { budget });
            }
            let reading = self.socket.async_io(interest, || self.read(&mut space, data));
            if let Ok(Some(heard)) = deadline.limit(reading).await? {
                return Ok(heard);
            }
        }
    }

    /// `None` is a message that is not for us.
    fn read(&self, space: &mut [u8], data: &[u8]) -> io::Result<Option<Heard>> {
        // An error here is word of something in the error queue, which says more.
        if let Ok((message, control)) = receive(&self.socket, space, MsgFlags::empty()) {
            let hop_limit = control.iter().find_map(hop_limit);
            return Ok(self.reply(message, hop_limit, data));
        }
        let (message, control) = receive(&self.socket, space, MsgFlags::MSG_ERRQUEUE)?;
        Ok(control.iter().find_map(|error| self.refusal(message, error)))
    }

    fn reply(&self, packet: &[u8], hop_limit: Option<u8>, data: &[u8]) -> Option<Heard> {
        let message = if self.raw && self.ip.is_ipv4() { behind_ip_head(packet)? } else { packet };
        let (head, echoed) = Head::read(message)?;
        let wanted = if self.ip.is_ipv4() { 0 } else { 129 };
        let ours = head.kind == wanted && head.code == 0 && (!self.raw || head.id == self.id);
        (ours && echoed == data).then_some(Heard::Reply { sequence: head.sequence, hop_limit })
    }

    /// `quoted` is the beginning of the request that the error is about.
    fn refusal(&self, quoted: &[u8], control: &ControlMessageOwned) -> Option<Heard> {
        let (error, from) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, from) => {
                let from =
                    from.map(|f| IpAddr::from(Ipv4Addr::from(f.sin_addr.s_addr.to_ne_bytes())));
                (error, from)
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) => {
                (error, from.map(|f| IpAddr::from(Ipv6Addr::from(f.sin6_addr.s6_addr))))
            }
            _ => return None,
        };
        let head = Head::read(quoted).map(|(head, _)| head);
        if self.raw && head.as_ref().is_none_or(|head| head.id != self.id) {
            return None;
        }
        let said = Said { origin: error.ee_origin, kind: error.ee_type, code: error.ee_code };
        let fault = said.fault(self.ip, from.unwrap_or(self.ip))?;
        Some(Heard::Refused { sequence: head.map(|head| head.sequence), fault })
    }
}

fn create(ip: IpAddr) -> Result<(Socket, bool), Answer> {
    let (domain, protocol) = match ip {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    if let Ok(socket) = Socket::new(domain, Type::DGRAM, Some(protocol)) {
        return Ok((socket, false));
    }
    let socket =
        Socket::new(domain, Type::RAW, Some(protocol)).map_err(
            |error| match Errno::from_io_error(&error) {
                Some(Errno::PERM | Errno::ACCESS) => {
                    Unknown::NoPermission(NO_PERMISSION.into()).into()
                }
                _ => ours(&error).unwrap_or_else(|| setup("no socket for ICMP", &error)),
            },
        )?;
    Ok((socket, true))
}

fn configure(socket: &Socket, ip: IpAddr, options: EchoOptions) -> io::Result<()> {
    if ip.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
        if let Some(ttl) = options.ttl {
            socket.set_ttl_v4(u32::from(ttl))?;
        }
        if options.dont_fragment {
            // The flag, and no memory of smaller packets: each run finds out for itself.
            set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
        }
        return Ok(());
    }
    setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
    if let Some(ttl) = options.ttl {
        socket.set_unicast_hops_v6(u32::from(ttl))?;
    }
    Ok(())
}

/// A program for the kernel: only replies with our identifier. Without it every raw socket gets the replies to all runs
/// that ask the same peer, and may have no room left for its own.
fn filter(ip: IpAddr, id: u16) -> Vec<SockFilter> {
    // A raw socket of IPv4 begins with the header of IP, whose length goes into X; one of IPv6 with the message.
    const X_IS_IP_HEAD: u16 = 0xb1;
    const X_IS: u16 = 0x01;
    const LOAD_BYTE: u16 = 0x50;
    const LOAD_HALF: u16 = 0x48;
    const SKIP_UNLESS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jf, k| SockFilter::new(code, 0, jf, k);
    let (head, kind) = if ip.is_ipv4() { (X_IS_IP_HEAD, 0) } else { (X_IS, 129) };
    vec![
        step(head, 0, 0),
        step(LOAD_BYTE, 0, 0),
        step(SKIP_UNLESS, 3, kind),
        step(LOAD_HALF, 0, 4),
        step(SKIP_UNLESS, 1, u32::from(id)),
        step(RETURN, 0, u32::MAX),
        step(RETURN, 0, 0),
    ]
}

type Received<'a> = (&'a [u8], Vec<ControlMessageOwned>);

fn receive<'a>(
    socket: &UdpSocket,
    space: &'a mut [u8],
    flags: MsgFlags,
) -> io::Result<Received<'a>> {
    let mut control = vec![0; CONTROL_BYTES];
    let (length, control) = {
        let mut slices = [IoSliceMut::new(space)];
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        (received.bytes, received.cmsgs()?.collect())
    };
    Ok((space.get(..length).unwrap_or_default(), control))
}

fn hop_limit(control: &ControlMessageOwned) -> Option<u8> {
    match control {
        ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
            u8::try_from(*hops).ok()
        }
        _ => None,
    }
}

/// The head of an echo message.
struct Head {
    kind: u8,
    code: u8,
    id: u16,
    sequence: u16,
}

impl Head {
    fn read(message: &[u8]) -> Option<(Self, &[u8])> {
        let (head, data) = message.split_first_chunk::<HEAD_BYTES>()?;
        let [kind, code, _, _, id @ .., s0, s1] = *head;
        let sequence = u16::from_be_bytes([s0, s1]);
        Some((Self { kind, code, id: u16::from_be_bytes(id), sequence }, data))
    }
}

/// A message of ICMP about a request, as the kernel tells it.
#[derive(Debug, Clone, Copy)]
struct Said {
    origin: u8,
    kind: u8,
    code: u8,
}

impl Said {
    fn fault(self, ip: IpAddr, from: IpAddr) -> Option<Fault> {
        let detail = match (self.origin, self.kind) {
            (libc::SO_EE_ORIGIN_ICMP, 11) | (libc::SO_EE_ORIGIN_ICMP6, 3) => {
                return Some(Fault::TtlExceeded { from });
            }
            (libc::SO_EE_ORIGIN_ICMP, 3) => unreachable_v4(self.code),
            (libc::SO_EE_ORIGIN_ICMP6, 1) => unreachable_v6(self.code),
            (libc::SO_EE_ORIGIN_ICMP6, 2) => "packet too large",
            (libc::SO_EE_ORIGIN_ICMP, 12) | (libc::SO_EE_ORIGIN_ICMP6, 4) => "parameter problem",
            // Advice such as redirects, and what the kernel itself has to say about a send.
            _ => return None,
        };
        let detail = format!("{from} says: {detail}").into();
        Some(Fault::ConnectUnreachable { ip, port: 0, detail })
    }
}

const fn unreachable_v4(code: u8) -> &'static str {
    match code {
        0 => "network unreachable",
        1 => "host unreachable",
        2 => "protocol unreachable",
        3 => "port unreachable",
        4 => "fragmentation needed",
        9 | 10 | 13 => "prohibited by a filter",
        _ => "unreachable",
    }
}

const fn unreachable_v6(code: u8) -> &'static str {
    match code {
        0 => "no route",
        1 | 5 | 6 => "prohibited by a filter",
        3 => "address unreachable",
        4 => "port unreachable",
        _ => "unreachable",
    }
}

fn behind_ip_head(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? & 0x0f);
    packet.get(words * 4..)
}

fn request(ip: IpAddr, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let kind = if ip.is_ipv4() { 8 } else { 128 };
    let mut message = Vec::with_capacity(HEAD_BYTES + data.len());
    message.extend_from_slice(&[kind, 0, 0, 0]);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(data);
    // In IPv6 the sum covers addresses, too, and is the kernel's.
    if ip.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The sum of RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in message.chunks(2) {
        let pair = [pair[0], pair.get(1).copied().unwrap_or_default()];
        sum += u32::from(u16::from_be_bytes(pair));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_message_with_its_sum_is_nothing() {
        for data in [&b""[..], b"a", b"even", b"odd odd"] {
            let ip = Ipv4Addr::LOCALHOST.into();
            assert_eq!(checksum(&request(ip, 0x1234, 7, data)), 0);
        }
        let six = request(Ipv6Addr::LOCALHOST.into(), 1, 2, b"x");
        assert_eq!(six, [128, 0, 0, 0, 0, 1, 0, 2, b'x']);
    }

    #[test]
    fn heads_of_any_length_are_read_or_not() {
        assert!(Head::read(&[0; 7]).is_none());
        let (head, data) = Head::read(&[0, 0, 9, 9, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!((head.id, head.sequence, data), (0x0102, 0x0304, &[5][..]));
        assert_eq!(behind_ip_head(&[]), None);
        assert_eq!(behind_ip_head(&[0x45; 3]), None);
        assert_eq!(behind_ip_head(&[0x41, 0, 0, 0, 9]), Some(&[9][..]));
    }

    #[test]
    fn what_routers_say_is_told_apart() {
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let from: IpAddr = "192.0.2.254".parse().unwrap();
        let fault = |origin, kind, code| Said { origin, kind, code }.fault(ip, from);
        let exceeded = Some(Fault::TtlExceeded { from });
        assert_eq!(fault(libc::SO_EE_ORIGIN_ICMP, 11, 0), exceeded);
        assert_eq!(fault(libc::SO_EE_ORIGIN_ICMP6, 3, 0), exceeded);
        let unreachable = fault(libc::SO_EE_ORIGIN_ICMP, 3, 1).unwrap();
        let text = "no way to 192.0.2.1: 192.0.2.254 says: host unreachable";
        assert_eq!(unreachable.to_string(), text);
        assert_eq!(unreachable.reason().label(), "connect_unreachable");
        assert!(fault(libc::SO_EE_ORIGIN_ICMP6, 1, 0).is_some());
        assert_eq!(fault(libc::SO_EE_ORIGIN_ICMP, 5, 0), None);
        assert_eq!(fault(libc::SO_EE_ORIGIN_LOCAL, 3, 0), None);
    }
}
