//! The TLS handshake: always yields the facts of the chain, and the decision about it beside them.
//!
//! The handshake itself never fails for a certificate's sake. Signatures of the handshake are verified while it runs;
//! dates, name and trust are decided afterwards by [`verify`], so that an expired, foreign or self-made certificate is
//! known as well as a good one. What to do about a bad decision is the caller's business.

mod client;
mod client_auth;
mod failure;
mod path;
mod settings;
mod sniff;
mod trust;
mod verify;

pub use client::TlsClient;
pub(in crate::net) use client::{Agreed, Prepared};
pub use client_auth::accepted;
pub(in crate::net) use client_auth::{Shown, undecided};
pub(in crate::net) use failure::{alert, alert_text, cipher_label, hung_up};
pub use settings::{TlsSettings, TlsVersion};
pub use sniff::Sniff;
pub use verify::VerifiedExpiry;

use jiff::Timestamp;

use super::Certificate;
use crate::model::Fault;

/// The stream that a handshake yields.
pub type TlsStream<IO> = tokio_rustls::client::TlsStream<Sniff<IO>>;

/// What was agreed on and shown in a handshake.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// `TLS 1.3`.
    pub version: &'static str,
    /// Go's name of the suite: `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The protocol agreed on by ALPN.
    pub alpn: Option<Box<[u8]>>,
    /// As sent; position 0 is the server's own certificate.
    pub chain: Vec<Certificate>,
    /// The decision about chain, dates and name. It is made in any case, also when
    /// [`skip_verify`](Self::skip_verify) says that nobody asked for it.
    pub verified: Result<VerifiedExpiry, Fault>,
    /// `insecure_skip_verify`: a bad decision does not fail the run.
    pub skip_verify: bool,
    /// The wall clock's time that the decision was made for.
    pub at: Timestamp,
}

impl Session {
    /// The fault to fail with: a bad decision that is not to be ignored.
    pub fn refusal(&self) -> Option<&Fault> {
        if self.skip_verify { None } else { self.verified.as_ref().err() }
    }

    /// The earliest end of a certificate as sent.
    pub fn earliest_expiry(&self) -> Option<Timestamp> {
        self.chain.iter().filter_map(|certificate| certificate.not_after).min()
    }
}
