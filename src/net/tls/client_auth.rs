//! Whether a server that asked for a client's certificate takes what it got.
//!
//! In TLS 1.3 the client has finished the handshake before the server looks at its certificate: a refusal arrives later, in
//! place of the first answer. Who has nothing to read would call a server up that lets nobody in. So whoever was asked waits
//! for the server's first word: a session's ticket or data, which only follow acceptance, or the end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, SignatureScheme};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite};

use super::{TlsStream, failure};
use crate::model::{Answer, Fault};
use crate::net::Deadline;

/// How long the server's first word is waited for, whatever the handshake took. Servers that send no tickets cost this.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(3);
/// The same, in handshakes.
const PATIENCE: u32 = 4;
/// How long an end may follow a ticket: some servers finish the handshake in any case and hang up then.
const LEAST_SEQUEL: Duration = Duration::from_millis(10);
const MOST_SEQUEL: Duration = Duration::from_millis(100);

/// What the server got when it asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Shown {
    Nothing,
    Certificate,
}

/// That the server asked, and how long the handshake took.
#[derive(Debug, Clone, Copy)]
pub(in crate::net) struct Asked {
    pub(in crate::net) shown: Shown,
    pub(super) took: Duration,
}

/// Stands between one handshake and the certificate that there is, and notes whether it is asked for.
#[derive(Debug)]
pub(super) struct Witness {
    inner: Arc<dyn ResolvesClientCert>,
    shown: OnceLock<Shown>,
}

impl Witness {
    pub(super) fn new(inner: Arc<dyn ResolvesClientCert>) -> Self {
        Self { inner, shown: OnceLock::new() }
    }

    pub(super) fn shown(&self) -> Option<Shown> {
        self.shown.get().copied()
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self.inner.resolve(issuers, schemes);
        let fits = found.as_ref().is_some_and(|own| own.key.choose_scheme(schemes).is_some());
        self.shown.get_or_init(|| if fits { Shown::Certificate } else { Shown::Nothing });
        found
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

impl Shown {
    /// What the server may have against us.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Nothing => "it asked for a client certificate and tls_config has none for it",
            Self::Certificate => "it was shown the client certificate of tls_config",
        }
    }
}

/// What the server did first.
enum Word {
    /// Data: it has begun to serve us.
    Data,
    Ticket,
    Refusal(Fault),
}

/// What the peer got when it asked for a certificate, as long as it may still refuse it.
pub(in crate::net) fn undecided<IO>(stream: &TlsStream<IO>) -> Option<Shown> {
    let (io, connection) = stream.get_ref();
    // Before TLS 1.3 a server ends the handshake, and does so when it is content; a ticket follows acceptance.
    let is_late = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let waits = is_late && connection.tls13_tickets_received() == 0;
    io.asked().filter(|_| waits).map(|asked| asked.shown)
}

/// Waits, where a certificate was asked for, until the server has shown that it goes on; a server that says nothing in good
/// time is believed. Nothing that it sends is lost.
pub async fn accepted<IO>(stream: &mut TlsStream<IO>, deadline: Deadline) -> Result<(), Answer>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (io, connection) = stream.get_ref();
    let Some(asked) = io.asked() else { return Ok(()) };
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        // Before that a server ends the handshake, and does so when it is content.
        return Ok(());
    }
    let patience = (asked.took * PATIENCE).clamp(LEAST_PATIENCE, MOST_PATIENCE);
    let mut first = deadline.at_most(patience).limit(word(stream, asked.shown, false)).await;
    if matches!(first, Ok(Word::Ticket)) {
        let sequel = asked.took.clamp(LEAST_SEQUEL, MOST_SEQUEL);
        first = deadline.at_most(sequel).limit(word(stream, asked.shown, true)).await;
    }
    match first {
        Ok(Word::Refusal(fault)) => Err(fault.into()),
        Ok(Word::Data | Word::Ticket) | Err(_) => Ok(()),
    }
}

async fn word<IO>(stream: &mut TlsStream<IO>, shown: Shown, had_ticket: bool) -> Word
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        match Pin::new(&mut *stream).poll_fill_buf(cx) {
            Poll::Ready(Ok([])) => return Poll::Ready(Word::Refusal(failure::hung_up(shown))),
            Poll::Ready(Ok(_)) => return Poll::Ready(Word::Data),
            Poll::Ready(Err(error)) => {
                let fault = failure::alert(&error, Some(shown));
                let fault = fault.unwrap_or_else(|| failure::hung_up(shown));
                return Poll::Ready(Word::Refusal(fault));
            }
            Poll::Pending => {}
        }
        let tickets = stream.get_ref().1.tls13_tickets_received();
        if tickets > 0 && !had_ticket { Poll::Ready(Word::Ticket) } else { Poll::Pending }
    })
    .await
}
