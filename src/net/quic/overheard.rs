//! Learns the cipher suite of a handshake: quinn does not tell, but the peer's first words do.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::crypto::{
    ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};
use rustls::CipherSuite;

/// Where a ServerHello has the length of its session id: behind type, length, version and random (RFC 8446, 4.1.3).
const SESSION_ID_AT: usize = 1 + 3 + 2 + 32;
/// The type of a ServerHello.
const SERVER_HELLO: u8 = 2;
/// How much of the peer's words is kept at most: up to the suite behind the longest session id.
const KEPT_BYTES: usize = SESSION_ID_AT + 1 + 255 + 2;

/// Where the suite is left, once it is known.
pub(super) type Suite = Arc<OnceLock<CipherSuite>>;

/// The library's configuration, with an ear on the sessions that it starts.
pub(super) struct Overheard {
    inner: Arc<QuicClientConfig>,
    suite: Suite,
}

impl Overheard {
    pub(super) fn new(config: QuicClientConfig) -> (Self, Suite) {
        let suite = Suite::default();
        (Self { inner: Arc::new(config), suite: Arc::clone(&suite) }, suite)
    }
}

impl ClientConfig for Overheard {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.inner).start_session(version, server_name, params)?;
        Ok(Box::new(Listening { inner, heard: Vec::new(), suite: Arc::clone(&self.suite) }))
    }
}

struct Listening {
    inner: Box<dyn Session>,
    heard: Vec<u8>,
    suite: Suite,
}

impl Listening {
    fn hear(&mut self, words: &[u8]) {
        if self.suite.get().is_some() || self.heard.len() >= KEPT_BYTES {
            return;
        }
        let more = words.len().min(KEPT_BYTES - self.heard.len());
        self.heard.extend_from_slice(&words[..more]);
        if let Some(suite) = suite_of(&self.heard) {
            self.suite.get_or_init(|| suite);
        }
    }
}

/// The suite that a ServerHello names; a retry names the one that the real one will.
fn suite_of(hello: &[u8]) -> Option<CipherSuite> {
    if hello.first() != Some(&SERVER_HELLO) {
        return None;
    }
    let at = SESSION_ID_AT + 1 + usize::from(*hello.get(SESSION_ID_AT)?);
    let code = hello.get(at..at + 2)?;
    Some(CipherSuite::from(u16::from_be_bytes([code[0], code[1]])))
}

impl Session for Listening {
    fn read_handshake(&mut self, words: &[u8]) -> Result<bool, TransportError> {
        self.hear(words);
        self.inner.read_handshake(words)
    }

    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, words: &mut Vec<u8>) -> Option<Keys> {
        self.inner.write_handshake(words)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(session_id: usize) -> Vec<u8> {
        let mut hello = vec![SERVER_HELLO, 0, 0, 90, 3, 3];
        hello.extend([7; 32]);
        hello.push(u8::try_from(session_id).unwrap());
        hello.extend(vec![9; session_id]);
        hello.extend([0x13, 0x03, 0]);
        hello
    }

    #[test]
    fn the_suite_is_behind_the_session_id() {
        for session_id in [0, 32, 255] {
            let hello = hello(session_id);
            let suite = suite_of(&hello);
            assert_eq!(suite, Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256));
            for end in 0..hello.len() - 1 {
                assert_eq!(suite_of(&hello[..end]), None);
            }
        }
        assert_eq!(suite_of(&[1; 100]), None);
    }
}
