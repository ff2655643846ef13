//! From probes and what discovery found to the checks that are run.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::config::Config;
use crate::model::Check;
use crate::schedule::Shard;
use crate::target::Snapshot;
use crate::web::About;

/// The checks of this shard. Of equal ones the first counts.
pub(super) fn checks(config: &Config, found: &Snapshot, shard: Shard) -> Vec<Arc<Check>> {
    let mut seen = HashSet::new();
    let mut checks = Vec::new();
    for probe in &config.probes {
        let Some(set) = found.get(&probe.policy.name) else { continue };
        for target in set.targets.iter() {
            let check = Check::new(Arc::clone(&probe.policy), target.clone(), &probe.labels);
            if shard.runs(&check) && seen.insert(check.id) {
                checks.push(Arc::new(check));
            }
        }
    }
    checks
}

/// Probes of which it is not known whether what was found is all there is: a source of their targets has not been read
/// yet, or yields none.
pub(super) fn unread(config: &Config, found: &Snapshot) -> BTreeSet<Arc<str>> {
    let names = config.probes.iter().filter(|probe| {
        let set = found.get(&probe.policy.name);
        set.is_none_or(|set| probe.discovers() && set.targets.is_empty())
    });
    names.map(|probe| Arc::clone(&probe.policy.name)).collect()
}

/// What the page says about the process as a whole.
pub(super) fn about(config: &Config, found: &Snapshot, listen: &[String]) -> About {
    let mut all = found.values().flat_map(|set| set.targets.iter());
    About {
        id: config.identity.id.clone(),
        region: config.identity.region.clone(),
        config: config.shown.clone(),
        has_targets: all.any(|target| !is_self(&target.address, listen)),
        has_heartbeat: !config.heartbeats.is_empty(),
        trusted_proxies: config.trust.proxies.clone(),
        api_key_file: config.trust.api_key_file.clone(),
    }
}

/// Whether a target is this process, reached over loopback.
fn is_self(address: &str, listen: &[String]) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let ours = listen.iter().any(|l| l.rsplit_once(':').is_some_and(|(_, p)| p == port));
    ours && matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_know_ourselves() {
        let listen = [":9115".to_owned()];
        assert!(is_self("http://localhost:9115/metrics", &listen));
        assert!(is_self("[::1]:9115", &listen));
        assert!(!is_self("http://localhost:9100/metrics", &listen));
        assert!(!is_self("http://other:9115/", &listen));
    }
}
