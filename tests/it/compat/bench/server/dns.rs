//! Name servers: records as zone files write them, and every way to answer wrongly.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Ledger, Stream};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Dns {
    /// As a number; default 0.
    rcode: u16,
    /// The response code where the query does not want recursion.
    rcode_without_recursion: Option<u16>,
    answer: Vec<String>,
    authority: Vec<String>,
    additional: Vec<String>,
    /// Of `answer` only what is of the type asked for, and aliases.
    by_type: bool,
    /// Over UDP only.
    truncated: bool,
    /// Another name in the reply's question.
    question: Option<String>,
    /// `first`: a reply with a wrong id comes before the right one; `only`: instead of it.
    wrong_id: Option<String>,
    /// Nothing is said over `udp`, `tcp` or `both`.
    silent: Option<String>,
    /// This is said instead.
    garbage: Option<String>,
    after: Option<u64>,
    /// Closes instead of answering, over TCP.
    close: bool,
}

impl Dns {
    fn is_silent(&self, over: &str) -> bool {
        self.silent.as_deref().is_some_and(|silent| silent == over || silent == "both")
    }

    fn replies(&self, query: &[u8], over: &str, ledger: &Ledger) -> Vec<Vec<u8>> {
        ledger.ask();
        let Ok(query) = Message::from_vec(query) else { return Vec::new() };
        let question = &query.queries[0];
        ledger.tell(format!(
            "over {over}: {} {} {} recursion {} edns {}",
            question.name(),
            question.query_class(),
            u16::from(question.query_type()),
            query.metadata.recursion_desired,
            query.edns.is_some(),
        ));
        if self.is_silent(over) {
            return Vec::new();
        }
        if let Some(garbage) = &self.garbage {
            return vec![garbage.clone().into_bytes()];
        }
        let right = self.reply(&query, over);
        let mut wrong = right.clone();
        wrong[1] ^= 0x55;
        match self.wrong_id.as_deref() {
            None => vec![right],
            Some("first") => vec![wrong, right],
            Some(_) => vec![wrong],
        }
    }

    fn reply(&self, query: &Message, over: &str) -> Vec<u8> {
        let mut reply = query.clone();
        let rcode = match self.rcode_without_recursion {
            Some(rcode) if !query.metadata.recursion_desired => rcode,
            _ => self.rcode,
        };
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = ResponseCode::from(0, u8::try_from(rcode).unwrap());
        reply.edns = None;
        if let Some(name) = &self.question {
            let mut question = reply.queries[0].clone();
            question.set_name(Name::from_ascii(name).unwrap());
            reply.queries = vec![question];
        }
        if self.truncated && over == "udp" {
            reply.metadata.truncation = true;
            return reply.to_vec().unwrap();
        }
        let kind = query.queries[0].query_type();
        let fits = |record: &Record| {
            let found = record.record_type();
            !self.by_type || found == kind || found == RecordType::CNAME
        };
        reply.add_answers(self.answer.iter().map(|text| record(text)).filter(fits));
        reply.add_authorities(self.authority.iter().map(|text| record(text)));
        reply.add_additionals(self.additional.iter().map(|text| record(text)));
        reply.to_vec().unwrap()
    }

    pub(super) async fn over_udp(self: Arc<Self>, socket: UdpSocket, ledger: Ledger) {
        let mut buffer = vec![0; 65_535];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let replies = self.replies(&buffer[..count], "udp", &ledger);
            tokio::time::sleep(Duration::from_millis(self.after.unwrap_or(0))).await;
            for reply in replies {
                socket.send_to(&reply, from).await.ok();
            }
        }
    }

    pub(super) async fn over_tcp(
        self: Arc<Self>,
        listener: TcpListener,
        acceptor: Option<TlsAcceptor>,
        ledger: Ledger,
    ) {
        let mut talks = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (dns, acceptor, ledger) = (Arc::clone(&self), acceptor.clone(), ledger.clone());
            talks.spawn(async move {
                match acceptor {
                    None => dns.exchange(stream, &ledger).await,
                    Some(acceptor) => {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        if let Some(name) = stream.get_ref().1.server_name() {
                            ledger.tell(format!("server name {name}"));
                        }
                        dns.exchange(stream, &ledger).await;
                    }
                }
            });
        }
    }

    async fn exchange(&self, mut stream: impl Stream, ledger: &Ledger) {
        let Ok(length) = stream.read_u16().await else { return };
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() || self.close {
            return;
        }
        for reply in self.replies(&query, "tcp", ledger) {
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.ok();
            stream.write_all(&reply).await.ok();
            stream.flush().await.ok();
        }
        stream.read_u8().await.ok();
    }
}

/// A record as a zone file writes it, with class and time to live: `a.example. 60 IN A 127.0.0.1`.
fn record(text: &str) -> Record {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [owner, ttl, class, kind, rest @ ..] = words.as_slice() else { panic!("{text}") };
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    let data = match *kind {
        "A" => RData::A(A(rest[0].parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(rest[0].parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(name(rest[0]))),
        "NS" => RData::NS(NS(name(rest[0]))),
        "MX" => RData::MX(MX::new(rest[0].parse().unwrap(), name(rest[1]))),
        "TXT" => RData::TXT(TXT::new(vec![rest.join(" ")])),
        "SOA" => RData::SOA(SOA::new(
            name(rest[0]),
            name(rest[1]),
            number(rest[2]),
            rest[3].parse().unwrap(),
            rest[4].parse().unwrap(),
            rest[5].parse().unwrap(),
            number(rest[6]),
        )),
        _ => panic!("no record of kind {kind}"),
    };
    let mut record = Record::from_rdata(name(owner), number(ttl), data);
    record.dns_class = if *class == "CH" { DNSClass::CH } else { DNSClass::IN };
    record
}
