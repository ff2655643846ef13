//! Sockets with a stopwatch: resolve, dial, handshake, one HTTP exchange.
//!
//! What is here knows the [phases](crate::model::Phase) of a conversation and how each can fail. It knows no rules about
//! what a good answer is, and nothing of who asked.

mod chain;
mod client;
mod datagram;
mod deadline;
pub(crate) mod der;
mod dial;
mod guard;
pub mod http;
pub mod icmp;
mod quic;
mod resolve;
mod secret;
pub mod services;
mod stopwatch;
mod tasks;
mod tls;
mod unix;

pub use chain::Certificate;
pub(crate) use chain::cut;
pub use client::{MAX_LOOKUP, causes, http_client};
pub use datagram::Datagrams;
pub use deadline::{Deadline, Expired};
pub use dial::{Source, dial};
pub use guard::{AllowList, Guard};
pub use quic::Quic;
pub use resolve::{IpFamily, IpPreference, Resolver, ResolverSpec, fnv1a, parse_name};
pub use secret::{SecretError, SecretSource};
pub use stopwatch::Stopwatch;
pub use tls::{
    Session, Sniff, TlsClient, TlsSettings, TlsStream, TlsVersion, VerifiedExpiry, accepted,
};
pub use unix::dial_unix;

/// What all runs of this process share for talking to the network.
#[derive(Debug)]
pub struct Net {
    pub resolver: Resolver,
    /// What the environment says about proxies, for modules that ask for it.
    pub proxies: http::EnvProxies,
}

impl Net {
    /// Reads the system's resolver configuration; `variable` yields the environment's, for proxies.
    pub fn from_system(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self { resolver: Resolver::from_system(), proxies: http::EnvProxies::read(variable) }
    }

    /// What is asked through this must be allowed by `guard`.
    #[must_use]
    pub fn guarded(&self, guard: Guard) -> Self {
        Self { resolver: self.resolver.clone().guarded(guard), proxies: self.proxies.clone() }
    }

    /// The same, with the name servers of a module.
    #[must_use]
    pub fn asking(&self, names: &Resolver) -> Self {
        Self { resolver: self.resolver.asking(names), proxies: self.proxies.clone() }
    }
}
