//! HTTP clients for what watchpost itself must reach: receivers, services of heartbeats, Alertmanagers, sources of targets.
//! Not for probes, which measure each step. The library would ask the C library for names, which blocks a thread for as
//! long as it likes and cannot do it in a static program.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Deadline, Resolver};
use crate::model::Answer;

/// How long a name may take to look up; connecting has its own bound, which this is part of.
pub const MAX_LOOKUP: Duration = Duration::from_secs(4);

/// A client in the making, which asks `names` for the names of hosts and of proxies.
#[expect(clippy::disallowed_methods, reason = "this is where the resolver is set")]
pub fn http_client(names: &Resolver) -> ClientBuilder {
    let agent = concat!("watchpost/", env!("CARGO_PKG_VERSION"));
    reqwest::Client::builder().dns_resolver(names.clone()).user_agent(agent)
}

/// An error with what led to it, which is what helps. That of a client is to be without its URL, which may be a secret.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// An answer as an error, for a library that wants one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unresolved(Answer);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str(), Deadline::after(MAX_LOOKUP)).await;
            // Port 0 stands for that of the URL.
            let found = found.map_err(Unresolved)?.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}
