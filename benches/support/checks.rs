//! Modules and checks as a configuration would make them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use watchpost::app::ledger::Ledger;
use watchpost::board::Board;
use watchpost::clock;
use watchpost::metrics::Identity;
use watchpost::model::{Check, Labels, Mistakes, Notify, ProbePolicy, Target, Thresholds};
use watchpost::probe::{Module, ModuleSpec};

use super::peer::{Kind, Peer};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn module(kind: Kind, peer: &Peer) -> Module {
    let tls = json!({ "ca": peer.authority });
    let spec: Value = match kind {
        Kind::Tcp => json!({ "prober": "tcp" }),
        Kind::Http => json!({ "prober": "http" }),
        Kind::Dns => json!({
            "prober": "dns",
            "dns": { "query_name": "a.example", "query_type": "A" },
        }),
        Kind::Tls => json!({ "prober": "tls", "tls": { "tls_config": tls } }),
        Kind::Https => json!({ "prober": "http", "http": { "tls_config": tls } }),
    };
    let spec: ModuleSpec = serde_json::from_value(spec).unwrap();
    spec.build(kind.name(), &mut Mistakes::default()).unwrap()
}

/// `count` checks of one probe, shared out over the peer's addresses.
pub(crate) fn checks(kind: Kind, module: &Module, peer: &Peer, count: usize) -> Vec<Arc<Check>> {
    let policy = Arc::new(ProbePolicy {
        name: "bench".into(),
        module: module.name.clone(),
        prober: module.prober.kind(),
        phases: module.phases_family(),
        interval: Duration::from_secs(10),
        timeout: TIMEOUT,
        thresholds: Thresholds::default(),
        retry_interval: None,
        min_up: None,
        pipeline: false,
        notify: Notify::default(),
        histogram: Arc::from([]),
    });
    let made = peer.addresses.iter().cycle().take(count).enumerate().map(|(number, address)| {
        let target = match kind {
            Kind::Tcp | Kind::Dns | Kind::Tls => address.to_string(),
            Kind::Http | Kind::Https => format!("{}://{address}/health/{number}", kind.name()),
        };
        Arc::new(Check::new(policy.clone(), Target::plain(target), &Labels::default()))
    });
    made.collect()
}

/// An empty board with these checks on it, and its writer.
pub(crate) fn ledger(checks: Vec<Arc<Check>>) -> (Arc<Board>, Ledger) {
    let board = Board::new();
    let identity = Identity { watchpost: "eu-west-1-a".into(), region: Some("eu-west-1".into()) };
    let mut ledger = Ledger::new(board.clone(), identity);
    drop(ledger.apply(checks, clock::now()));
    (board, ledger)
}
