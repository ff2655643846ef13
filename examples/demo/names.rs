//! Name servers, good and bad. TCP is refused by all of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record};
use tokio::net::UdpSocket;

use super::serve::Servers;

/// The address that the name has.
pub(crate) const RIGHT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The address that it had before it moved.
const OLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

/// How a name server answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    Right,
    NoSuchName,
    Failing,
    Outdated,
    Truncated,
    Silent,
}

/// Starts a name server and tells its address.
pub(crate) async fn serve(servers: &mut Servers, manner: Manner) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    servers.spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            let Some(reply) = reply(&buffer[..length], manner) else { continue };
            // Whoever asked may have gone.
            socket.send_to(&reply, from).await.ok();
        }
    });
    Ok(address)
}

fn reply(query: &[u8], manner: Manner) -> Option<Vec<u8>> {
    let mut reply = Message::from_vec(query).ok()?;
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    let name = reply.queries.first()?.name().clone();
    let address = match manner {
        Manner::Silent => return None,
        Manner::Right => Some(RIGHT),
        Manner::Outdated => Some(OLD),
        Manner::NoSuchName => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            None
        }
        Manner::Failing => {
            reply.metadata.response_code = ResponseCode::ServFail;
            None
        }
        Manner::Truncated => {
            reply.metadata.truncation = true;
            None
        }
    };
    if let Some(address) = address {
        reply.add_answer(Record::from_rdata(name, 60, RData::A(address.into())));
    }
    reply.to_vec().ok()
}
