//! Runs that somebody asks for now, with a module and a target of their choice.
//!
//! What may be asked is decided here, before the run and, for names, again by the resolver. Not for how requests look and
//! how many may go on at once: that is the door's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::address::host_port;
use super::{Module, Refused, Report, Trace, Variants, run_with};
use crate::model::{Outcome, Overrides, Stamp, Target};
use crate::net::http::Link;
use crate::net::{AllowList, Net};

/// Modules with values of somebody's choice that are kept ready.
const MAX_VARIANTS: usize = 256;

/// Modules by name.
pub type Catalogue = BTreeMap<Arc<str>, Listed>;

/// A module as it can be asked for.
#[derive(Debug, Clone)]
pub struct Listed {
    /// `None` for one that names no prober.
    pub module: Option<Arc<Module>>,
    /// As written, secrets masked.
    pub shown: Arc<str>,
}

/// Modules, what may be asked with them, and the network to ask over.
#[derive(Debug)]
pub struct OnDemand {
    catalogue: ArcSwap<Catalogue>,
    allowed: Arc<ArcSwap<AllowList>>,
    variants: Variants,
    net: Net,
}

impl OnDemand {
    /// `shared` is what scheduled runs use; asking on demand is guarded in addition.
    pub fn new(catalogue: Catalogue, allowed: AllowList, shared: &Net) -> Self {
        let allowed = Arc::new(ArcSwap::from_pointee(allowed));
        let net = shared.guarded(Arc::clone(&allowed));
        let variants = Variants::new(MAX_VARIANTS);
        Self { catalogue: ArcSwap::from_pointee(catalogue), allowed, variants, net }
    }

    /// A reload has been taken over. Runs that go on keep the module that they began with.
    pub fn replace(&self, catalogue: Catalogue, allowed: AllowList) {
        self.catalogue.store(Arc::new(catalogue));
        self.allowed.store(Arc::new(allowed));
    }

    pub fn find(&self, name: &str) -> Option<Listed> {
        self.catalogue.load().get(name).cloned()
    }

    pub fn lists(&self, name: &str) -> bool {
        self.catalogue.load().contains_key(name)
    }

    /// A module with other values of the keys that it allows.
    pub fn variant(
        &self,
        module: &Arc<Module>,
        overrides: &Overrides,
    ) -> Result<Arc<Module>, Refused> {
        self.variants.of(module, overrides)
    }

    /// Why `target` must not be asked, as far as that is known before the run.
    pub fn refusal(&self, module: &Module, target: &str) -> Option<String> {
        let allowed = self.allowed.load();
        match authority(module.prober.kind(), target) {
            Authority::Path(path) => allowed.refusal_of_path(path),
            Authority::Host(host, port) => allowed.refusal_of_name(&host, port),
            // The run says what is wrong with it, and asks nobody.
            Authority::Unreadable => None,
        }
    }

    /// Asks. Dropping the future ends the run.
    pub async fn run(
        &self,
        module: &Module,
        target: &Target,
        timeout: Duration,
        started: Stamp,
    ) -> (Outcome, Trace) {
        run_with(module, target, timeout, &self.net, started, Report::traced()).await
    }
}

enum Authority<'a> {
    Host(String, Option<u16>),
    Path(&'a str),
    Unreadable,
}

/// Whom a target would have us ask. The resolver judges again what a prober reads out of it.
fn authority<'a>(prober: &str, target: &'a str) -> Authority<'a> {
    match prober {
        "unix" => Authority::Path(target),
        "http" | "exporter" => match Link::target(target) {
            Some(link) => Authority::Host(link.host.clone(), Some(link.port())),
            None => Authority::Unreadable,
        },
        _ => {
            let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let rest = rest.split_at(end).0;
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            match host_port(rest) {
                Some((host, port)) => Authority::Host(host.to_owned(), Some(port)),
                None => Authority::Host(rest.to_owned(), None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_target_means_is_read_as_the_prober_reads_it() {
        let read = |prober, target: &'static str| match authority(prober, target) {
            Authority::Host(host, port) => format!("{host} {port:?}"),
            Authority::Path(path) => path.to_owned(),
            Authority::Unreadable => "?".to_owned(),
        };
        assert_eq!(read("http", "https://u:p@a.example/x"), "a.example Some(443)");
        assert_eq!(read("http", "a.example:81"), "a.example Some(81)");
        assert_eq!(read("tcp", "[::1]:22"), "::1 Some(22)");
        assert_eq!(read("icmp", "a.example"), "a.example None");
        assert_eq!(read("websocket", "wss://a.example:8/x"), "a.example Some(8)");
        assert_eq!(read("unix", "/run/x"), "/run/x");
    }
}
