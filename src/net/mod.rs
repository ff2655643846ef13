//! Sockets with a stopwatch: resolve, dial, handshake, one HTTP exchange.
//!
//! What is here knows the [phases](crate::model::Phase) of a conversation and how each can fail. It knows no rules about
//! what a good answer is, and nothing of who asked.

mod deadline;
mod dial;
mod resolve;
mod stopwatch;

pub use deadline::{Deadline, Expired};
pub use dial::{Source, dial};
pub use resolve::{IpFamily, IpPreference, Resolver, fnv1a};
pub use stopwatch::Stopwatch;

/// What all runs of this process share for talking to the network.
#[derive(Debug)]
pub struct Net {
    pub resolver: Resolver,
}

impl Net {
    /// Reads the system's resolver configuration.
    pub fn from_system() -> Self {
        Self { resolver: Resolver::from_system() }
    }
}
