//! The targets of the configuration in force: written ones, and those that sources yield.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{self, Config};
use crate::net::Net;
use crate::target::{Decoder, Discovery, Meters, Network, POLL, Snapshot, Sources, Watcher};

/// How long a start or a reload waits for sources. What comes later is applied when it comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The newest targets of all probes.
pub(super) struct Found {
    watcher: Watcher,
    snapshots: watch::Receiver<Snapshot>,
    current: Snapshot,
}

impl Found {
    pub(super) fn start(registry: &Registry, net: &Arc<Net>) -> io::Result<Self> {
        let decoder: Decoder =
            Arc::new(|path: &Path, bytes: &[u8]| config::decode_groups(path, bytes));
        let network = Network { runtime: Handle::current(), net: Arc::clone(net) };
        let discovery = Discovery::new(decoder, Meters::new(registry)).with_network(network);
        let watcher = Watcher::start(discovery, POLL)?;
        let snapshots = watcher.snapshots();
        Ok(Self { watcher, snapshots, current: Snapshot::default() })
    }

    /// Takes over the sources of a configuration and reads them.
    pub(super) async fn configure(&mut self, config: &Config) {
        let sources = config.probes.iter().map(|probe| Sources {
            probe: Arc::clone(&probe.policy.name),
            fixed: probe.targets.clone(),
            files: probe.file_sd.clone(),
            remotes: probe.remotes.clone(),
        });
        match timeout(PATIENCE, self.watcher.configure(sources.collect())).await {
            Ok(Ok(snapshot)) => {
                self.snapshots.borrow_and_update();
                self.current = snapshot;
            }
            Ok(Err(stuck)) => tracing::error!(error = %stuck, "targets are not read"),
            Err(_) => tracing::error!(
                seconds = PATIENCE.as_secs(),
                "reading targets takes long; going on"
            ),
        }
    }

    /// Waits until sources yield something else than before.
    pub(super) async fn changed(&mut self) {
        if self.snapshots.changed().await.is_err() {
            // The thread ends only with us, or by a defect that it has logged: the last targets stay in use.
            return std::future::pending().await;
        }
        self.current = self.snapshots.borrow_and_update().clone();
    }

    pub(super) const fn targets(&self) -> &Snapshot {
        &self.current
    }
}
