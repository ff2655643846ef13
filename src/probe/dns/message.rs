//! The question as bytes, and what a reply to it is worth.
//!
//! The question is encoded once; a run puts a fresh id in front. A reply is compared with it byte by byte before anything
//! is decoded, so that strangers' datagrams cost nothing.

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::{EdnsOption, NSIDPayload};
use hickory_proto::rr::{DNSClass, Name, RecordType};

/// Bytes of a message's header.
const HEADER: usize = 12;
/// Bytes of type and class behind the question's name.
const TYPE_AND_CLASS: usize = 4;
/// Bytes of the length that stands before a message in a stream.
pub(super) const LENGTH: usize = 2;

/// What is asked.
#[derive(Debug)]
pub(super) struct Question {
    /// The name as a person reads it.
    pub(super) name: String,
    pub(super) kind: u16,
    /// A whole query; its id is replaced in each run.
    encoded: Vec<u8>,
    /// Where the question ends in it: an EDNS record may follow.
    end: usize,
}

/// What a query says beside its question.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    /// RD.
    pub(super) recursion: bool,
    /// AD in a query: tell whether the answer is authenticated.
    pub(super) authentic_data: bool,
    /// CD.
    pub(super) checking_disabled: bool,
    /// EDNS, only where something of it is wanted.
    pub(super) edns: Option<EdnsWishes>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct EdnsWishes {
    /// The largest datagram that we take.
    pub(super) buffer: u16,
    /// DO: send signatures.
    pub(super) dnssec_ok: bool,
    /// Ask which server it is.
    pub(super) nsid: bool,
}

/// A query of one run.
#[derive(Debug)]
pub(super) struct Asked {
    /// The message, with its length before it as a stream wants it.
    framed: Vec<u8>,
    end: usize,
}

/// What a datagram or message is, before it is decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not for us: another id or another question.
    Stray,
    /// For us, and not an answer.
    Malformed(&'static str),
    /// The answer did not fit.
    Truncated,
    Whole,
}

impl Question {
    /// `Err` says why it cannot be put into a message.
    pub(super) fn new(name: &Name, kind: u16, class: u16, wishes: Wishes) -> Result<Self, String> {
        let mut query = Query::query(name.clone(), RecordType::from(kind));
        query.set_query_class(DNSClass::from(class));
        let mut message = Message::query();
        message.metadata.recursion_desired = wishes.recursion;
        message.metadata.authentic_data = wishes.authentic_data;
        message.metadata.checking_disabled = wishes.checking_disabled;
        message.add_query(query);
        let bare = message.to_vec().map_err(|error| error.to_string())?;
        let end = bare.len();
        let Some(wanted) = wishes.edns else {
            return Ok(Self { name: name.to_ascii(), kind, encoded: bare, end });
        };
        let mut edns = Edns::new();
        edns.set_max_payload(wanted.buffer).set_dnssec_ok(wanted.dnssec_ok);
        if wanted.nsid {
            let empty = NSIDPayload::new(Vec::new()).map_err(|error| error.to_string())?;
            edns.options_mut().insert(EdnsOption::NSID(empty));
        }
        message.set_edns(edns);
        let encoded = message.to_vec().map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_ascii(), kind, encoded, end })
    }

    /// The query with an id that nobody can guess.
    pub(super) fn ask(&self) -> Asked {
        let mut framed = Vec::with_capacity(LENGTH + self.encoded.len());
        let length = u16::try_from(self.encoded.len()).expect("one question is below 64 KiB");
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&Message::query().metadata.id.to_be_bytes());
        framed.extend_from_slice(self.encoded.get(2..).expect("a message has a header"));
        Asked { framed, end: self.end }
    }
}

impl Asked {
    pub(super) fn framed(&self) -> &[u8] {
        &self.framed
    }

    pub(super) fn datagram(&self) -> &[u8] {
        self.framed.get(LENGTH..).expect("the frame has a length")
    }

    /// What `reply` is to this query.
    pub(super) fn judge(&self, reply: &[u8]) -> Reply {
        let query = self.datagram();
        if reply.first_chunk::<2>() != query.first_chunk::<2>() {
            return Reply::Stray;
        }
        let Some(header) = reply.first_chunk::<HEADER>() else {
            return Reply::Malformed("shorter than a header");
        };
        let [_, _, high, low, questions @ ..] = header;
        let rcode = low & 0x0f;
        match (questions[0], questions[1]) {
            (0, 1) if !self.same_question(reply) => return Reply::Stray,
            (0, 1) => {}
            // A server that could not or would not read the question may leave it out.
            (0, 0) if rcode != 0 => {}
            _ => return Reply::Stray,
        }
        if high & 0x80 == 0 {
            return Reply::Malformed("our own query came back");
        }
        if high & 0x02 != 0 { Reply::Truncated } else { Reply::Whole }
    }

    /// Whether both messages ask the same; the case of names does not count. A first name cannot be compressed, as there
    /// is nothing before it to point to.
    fn same_question(&self, reply: &[u8]) -> bool {
        let question = HEADER..self.end;
        let (Some(asked), Some(answered)) =
            (self.datagram().get(question.clone()), reply.get(question))
        else {
            return false;
        };
        let name = asked.len() - TYPE_AND_CLASS;
        let (asked_name, asked_rest) = asked.split_at(name);
        let (answered_name, answered_rest) = answered.split_at(name);
        asked_name.eq_ignore_ascii_case(answered_name) && asked_rest == answered_rest
    }
}

/// Decodes a reply that [`Asked::judge`] took for one.
pub(super) fn decode(reply: &[u8]) -> Result<Message, String> {
    Message::from_vec(reply).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::text;
    use super::*;

    fn question() -> Question {
        wishing(Wishes { recursion: true, ..Wishes::default() })
    }

    fn wishing(wishes: Wishes) -> Question {
        Question::new(&Name::from_ascii("Www.Example.").unwrap(), 1, 1, wishes).unwrap()
    }

    #[test]
    fn wishes_are_in_the_query_and_a_reply_without_edns_still_answers_it() {
        let edns = Some(EdnsWishes { buffer: 1232, dnssec_ok: true, nsid: true });
        let wishes =
            Wishes { authentic_data: true, checking_disabled: true, edns, ..Wishes::default() };
        let asked = wishing(wishes).ask();
        let query = decode(asked.datagram()).unwrap();
        assert!(query.metadata.authentic_data && query.metadata.checking_disabled);
        assert!(!query.metadata.recursion_desired);
        let said = query.edns.as_ref().unwrap();
        assert_eq!((said.max_payload(), said.flags().dnssec_ok), (1232, true));
        assert!(said.option(hickory_proto::rr::rdata::opt::EdnsCode::NSID).is_some());
        let mut reply = query.clone();
        reply.metadata.message_type = hickory_proto::op::MessageType::Response;
        assert_eq!(asked.judge(&reply.to_vec().unwrap()), Reply::Whole);
        reply.edns = None;
        assert_eq!(asked.judge(&reply.to_vec().unwrap()), Reply::Whole);
    }

    fn reply_to(asked: &Asked) -> Vec<u8> {
        let mut reply = asked.datagram().to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn a_reply_must_answer_our_question() {
        let asked = question().ask();
        let reply = reply_to(&asked);
        assert_eq!(asked.judge(&reply), Reply::Whole);
        assert_eq!(asked.judge(asked.datagram()), Reply::Malformed("our own query came back"));
        assert_eq!(asked.judge(&reply[..5]), Reply::Malformed("shorter than a header"));
        assert_eq!(asked.judge(&reply[..1]), Reply::Stray);
        let changed = |at: usize, bits: u8| {
            let mut reply = reply.clone();
            reply[at] ^= bits;
            asked.judge(&reply)
        };
        let end = reply.len();
        assert_eq!(changed(0, 1), Reply::Stray, "id");
        assert_eq!(changed(13, 0x20), Reply::Whole, "case of the name");
        assert_eq!(changed(14, 0x01), Reply::Stray, "name");
        assert_eq!(changed(end - 3, 0x02), Reply::Stray, "type");
        assert_eq!(changed(end - 1, 0x20), Reply::Stray, "class");
        assert_eq!(changed(2, 0x02), Reply::Truncated, "TC");
        assert_eq!(changed(5, 0x01), Reply::Stray, "no question");
        let mut formerr = reply[..HEADER].to_vec();
        formerr[3] |= 1;
        formerr[5] = 0;
        assert_eq!(asked.judge(&formerr), Reply::Whole, "no question, but an error");
    }

    #[test]
    fn ids_differ_and_the_question_is_as_written() {
        let question = question();
        let ids: std::collections::BTreeSet<_> =
            (0..50).map(|_| question.ask().datagram()[..2].to_vec()).collect();
        assert!(ids.len() > 40, "{} ids of 50", ids.len());
        let message = decode(question.ask().datagram()).unwrap();
        assert!(message.metadata.recursion_desired);
        assert_eq!(message.queries[0].name().to_ascii(), "Www.Example.");
        assert_eq!(message.edns, None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let asked = question().ask();
            let _ = asked.judge(&bytes);
            // The same with our header and question before it, so that records are reached.
            let mut reply = reply_to(&asked);
            reply[7] = bytes.first().copied().unwrap_or(3) % 8;
            reply[9] = bytes.get(1).copied().unwrap_or(3) % 4;
            reply.append(&mut bytes);
            prop_assert_eq!(asked.judge(&reply), Reply::Whole);
            if let Ok(message) = decode(&reply) {
                for record in message.all_sections() {
                    let _ = text::record(record);
                }
            }
        }

        #[test]
        fn mangled_records_never_panic(
            kind in 0_u16..300,
            rdata in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let asked = question().ask();
            let mut reply = reply_to(&asked);
            reply[7] = 1;
            reply.extend_from_slice(&[0xc0, 12]);
            reply.extend_from_slice(&kind.to_be_bytes());
            reply.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            reply.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
            reply.extend_from_slice(&rdata);
            if let Ok(message) = decode(&reply) {
                for record in message.all_sections() {
                    let text = text::record(record);
                    prop_assert!(text.starts_with("Www.Example.\t60\tIN\t"), "{}", text);
                }
            }
        }
    }
}
