//! Name servers that do as they are told, and a way to run the prober `dns`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use watchpost::clock;
use watchpost::model::{Mistakes, Outcome, Target};
use watchpost::net::Net;
use watchpost::probe::{self, Module, ModuleSpec};

/// What a server says to a query: any number of messages.
pub(crate) trait Say: Fn(&Message) -> Vec<Vec<u8>> + Send + Sync + 'static {}
impl<F: Fn(&Message) -> Vec<Vec<u8>> + Send + Sync + 'static> Say for F {}

/// A name server on loopback that stops when it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl NameServer {
    /// Answers over UDP; the TCP port of the same number refuses.
    pub(crate) async fn udp(say: impl Say) -> Self {
        Self::udp_at("127.0.0.1".parse().unwrap(), say).await
    }

    pub(crate) async fn udp_at(ip: IpAddr, say: impl Say) -> Self {
        Self::udp_on(SocketAddr::new(ip, 0), say).await
    }

    /// Answers over TCP; what is said goes out as it is, without a length before it.
    pub(crate) async fn tcp(say: impl Say) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Self { address, asked: Arc::default(), tasks: JoinSet::new() };
        server.serve_tcp(listener, say);
        server
    }

    /// Answers over UDP and, on the same port, over TCP.
    pub(crate) async fn both(over_udp: impl Say, over_tcp: impl Say) -> Self {
        let (listener, mut server) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            // Somebody else may have the port for UDP.
            if let Ok(socket) = std::net::UdpSocket::bind(address) {
                drop(socket);
                let server = Self::udp_on(address, over_udp).await;
                break (listener, server);
            }
        };
        server.serve_tcp(listener, over_tcp);
        server
    }

    pub(crate) async fn udp_on(address: SocketAddr, say: impl Say) -> Self {
        let socket = UdpSocket::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                counted.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&buffer[..len]).unwrap();
                for reply in say(&query) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self { address, asked, tasks }
    }

    fn serve_tcp(&mut self, listener: TcpListener, say: impl Say) {
        let counted = self.asked.clone();
        self.tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Ok(len) = stream.read_u16().await else { continue };
                let mut query = vec![0; len.into()];
                stream.read_exact(&mut query).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let replies = say(&Message::from_vec(&query).unwrap());
                let silent = replies.is_empty();
                for reply in replies {
                    stream.write_all(&reply).await.unwrap();
                }
                if silent {
                    // Holds the connection open until the client goes.
                    stream.read_u8().await.ok();
                }
            }
        });
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The start of a reply: id and question of the query.
pub(crate) fn reply(query: &Message, rcode: ResponseCode) -> Message {
    let mut reply = query.clone();
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = rcode;
    reply
}

/// A reply with one record for each of `data`.
pub(crate) fn answer(query: &Message, data: impl IntoIterator<Item = RData>) -> Message {
    let mut reply = reply(query, ResponseCode::NoError);
    let name = query.queries[0].name().clone();
    for rdata in data {
        reply.add_answer(Record::from_rdata(name.clone(), 60, rdata));
    }
    reply
}

pub(crate) fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

/// With its length before it, as a stream wants it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

/// A module `dns` that asks for `a.example`, with `keys` added to its block.
pub(crate) fn module(keys: Value) -> Module {
    let mut block = serde_json::json!({ "query_name": "a.example", "query_type": "A" });
    let Value::Object(keys) = keys else { panic!("keys are an object") };
    block.as_object_mut().unwrap().extend(keys);
    let spec: ModuleSpec =
        serde_json::from_value(serde_json::json!({ "prober": "dns", "dns": block })).unwrap();
    let mut mistakes = Mistakes::default();
    let module = spec.build("test", &mut mistakes);
    module.unwrap_or_else(|| panic!("{:?}", mistakes.into_vec()))
}

/// Runs `module` against `target` with the system's resolver.
pub(crate) async fn probe(module: &Module, target: &str, timeout: Duration) -> Outcome {
    let net = Net::from_system(|_| None);
    probe::run(module, &Target::plain(target), timeout, &net, clock::now()).await
}
