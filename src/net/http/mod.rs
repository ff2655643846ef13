//! One HTTP exchange on a connection of our own, with every way in which it fails told apart.
//!
//! hyper's connection is polled in the task that waits for the answer: nothing is spawned, so dropping the exchange
//! drops the connection. What is here knows no rules, no redirects and no names.

mod drive;
mod error;
mod exchange;
mod h3;
mod link;
mod payload;
mod proxy;
mod tap;
mod wire;

pub use exchange::{Response, Sent, exchange, exchange_over_quic};
pub use link::{Link, Scheme};
pub use payload::{Payload, PayloadFile};
pub use proxy::{EnvProxies, Hop, NoProxy, Proxy, ProxyScheme, Tunnel};
pub use wire::Wire;

/// How much of a response's head is read; more is a flood.
pub const MAX_HEAD_BYTES: usize = 256 * 1024;
/// How many headers a response may have.
pub const MAX_HEADERS: usize = 256;

/// The protocol to speak on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Http3,
}
