//! The way to a mail relay: its addresses, each with a head start, TLS for its name, and who we are.
//!
//! Another address is tried only until one of them has greeted us. From then on there is one connection, so that no
//! message is sent twice for having a name with two addresses.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lettre::address::Envelope;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls};
use lettre::transport::smtp::extension::ClientId;
use tokio::time::timeout;

use super::Sent;
use crate::net::{Deadline, MAX_LOOKUP, Resolver, causes};

/// How long an address may take to greet us before the next one is tried as well.
const HEAD_START: Duration = Duration::from_secs(1);
/// How long a relay that has taken a message may take to say goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// A relay, and how we are known there.
pub(super) struct Relay<'a> {
    pub(super) names: &'a Resolver,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) hello: ClientId,
    pub(super) login: Option<Credentials>,
    /// Of everything that is sent.
    pub(super) timeout: Duration,
}

impl Relay<'_> {
    /// Sends one message on a connection of its own. Whatever kept us from a connection is told as such; what the relay
    /// said to the message is for the caller to judge.
    pub(super) async fn send(
        &self,
        envelope: &Envelope,
        text: &[u8],
    ) -> Result<Result<(), smtp::Error>, Sent> {
        let mut connection = self.open().await?;
        let sent = connection.send(envelope, text).await;
        if sent.is_ok() {
            // It is delivered whatever becomes of this.
            timeout(FAREWELL, connection.quit()).await.ok();
        }
        Ok(sent.map(drop))
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Sent> {
        let deadline = Deadline::after(MAX_LOOKUP.min(self.timeout));
        let found = self.names.addresses(self.host, deadline).await;
        let found = found.map_err(|answer| Sent::retry(&answer))?;
        let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, self.port));
        let mut connection = self.first_to_greet(addresses).await?;
        if let Some(login) = &self.login {
            connection.auth(DEFAULT_MECHANISMS, login).await.map_err(|error| failure(&error))?;
        }
        Ok(connection)
    }

    async fn first_to_greet(
        &self,
        mut addresses: impl ExactSizeIterator<Item = SocketAddr>,
    ) -> Result<AsyncSmtpConnection, Sent> {
        let mut tried = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            tried.extend(addresses.next().map(|address| self.try_one(address)));
            let next = if addresses.len() > 0 {
                timeout(HEAD_START, tried.next()).await
            } else {
                Ok(tried.next().await)
            };
            match next {
                Ok(Some(Ok(connection))) => return Ok(connection),
                Ok(Some(Err(failure))) => failures.push(failure),
                Ok(None) => return Err(in_one(&failures)),
                Err(_) => {}
            }
        }
    }

    async fn try_one(
        &self,
        address: SocketAddr,
    ) -> Result<AsyncSmtpConnection, (SocketAddr, smtp::Error)> {
        self.greet(address).await.map_err(|error| (address, error))
    }

    async fn greet(&self, address: SocketAddr) -> Result<AsyncSmtpConnection, smtp::Error> {
        let (at_once, later) = match &self.tls {
            Tls::Wrapper(tls) => (Some(tls.clone()), None),
            Tls::Required(tls) | Tls::Opportunistic(tls) => (None, Some(tls.clone())),
            Tls::None => (None, None),
        };
        let limit = Some(self.timeout);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, limit, &self.hello, at_once, None).await?;
        let may_do_without = matches!(self.tls, Tls::Opportunistic(_));
        match later {
            Some(tls) if connection.can_starttls() || !may_do_without => {
                connection.starttls(tls, &self.hello).await?;
            }
            _ => {}
        }
        Ok(connection)
    }
}

/// What an error of a relay means.
pub(super) fn failure(error: &smtp::Error) -> Sent {
    if error.is_permanent() {
        return Sent::Refused { why: error.to_string() };
    }
    Sent::retry(&causes(error))
}

/// All addresses failed; one that may pass is tried again.
fn in_one(failures: &[(SocketAddr, smtp::Error)]) -> Sent {
    let told =
        |(address, error): &(SocketAddr, smtp::Error)| format!("{address}: {}", causes(error));
    let why = failures.iter().map(told).collect::<Vec<_>>().join("; ");
    if failures.iter().all(|(_, error)| error.is_permanent()) {
        return Sent::Refused { why };
    }
    Sent::retry(&why)
}
