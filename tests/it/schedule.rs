//! The schedule with real probers, real sockets and real time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use watchpost::model::{Check, Labels, Mistakes, Notify, ProbePolicy, Target, Thresholds};
use watchpost::net::Net;
use watchpost::probe::{Module, ModuleSpec};
use watchpost::schedule::{Lanes, Limits, Meters, Modules, ProbeRunner, Setup, Shard};

const PATIENCE: Duration = Duration::from_secs(30);

fn tcp() -> Arc<Module> {
    let spec = ModuleSpec { prober: Some("tcp".to_owned()), ..ModuleSpec::default() };
    Arc::new(spec.build("tcp", &mut Mistakes::default()).unwrap())
}

fn policy(interval: Duration) -> Arc<ProbePolicy> {
    Arc::new(ProbePolicy {
        name: "p".into(),
        module: "tcp".into(),
        phases: &watchpost::model::family::PROBE_TCP_DURATION,
        prober: "tcp",
        interval,
        timeout: Duration::from_secs(5),
        thresholds: Thresholds::default(),
        retry_interval: None,
        min_up: None,
        pipeline: false,
        notify: Notify::default(),
        histogram: [].into(),
    })
}

fn check(policy: &Arc<ProbePolicy>, address: &str) -> Arc<Check> {
    Arc::new(Check::new(policy.clone(), Target::plain(address), &Labels::default()))
}

#[tokio::test]
async fn probes_run_with_the_modules_in_force() {
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let policy = policy(Duration::from_millis(100));
    let up = check(&policy, &open.local_addr().unwrap().to_string());
    let down = check(&policy, &closed.local_addr().unwrap().to_string());
    drop(closed);

    let registry = Registry::new();
    let limits = Limits::default();
    let setup = Setup {
        lanes: Some(2),
        limits,
        shard: Shard::WHOLE,
        watchpost_id: "w".to_owned(),
        meters: Meters::new(&registry, limits, Shard::WHOLE),
    };
    let modules = Arc::new(ArcSwap::from_pointee(Modules::new()));
    let (in_force, net) = (modules.clone(), Arc::new(Net::from_system(|_| None)));
    let runner = move |_| ProbeRunner::new(in_force.clone(), net.clone());
    let (finished, mut outcomes) = mpsc::channel(16);
    let lanes = Lanes::start(&setup, runner, &finished).unwrap();
    drop(finished);
    lanes.apply(vec![up.clone(), down.clone()]).await;

    let mut expected = HashSet::from([(up.id, Some("setup")), (down.id, Some("setup"))]);
    let all = tokio::time::timeout(PATIENCE, async {
        while !expected.is_empty() {
            let ended = outcomes.recv().await.unwrap();
            expected.remove(&(ended.id, ended.outcome.answer.reason()));
        }
        modules.store(Arc::new(HashMap::from([("tcp".into(), tcp())])));
        expected = HashSet::from([(up.id, None), (down.id, Some("connect_refused"))]);
        while !expected.is_empty() {
            let ended = outcomes.recv().await.unwrap();
            expected.remove(&(ended.id, ended.outcome.answer.reason()));
        }
    });
    all.await.expect("both answers come");
    outcomes.close();
    lanes.shutdown(Duration::from_secs(1)).await;
    let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for series in [
        "watchpost_schedule_skipped_total{cause=\"running\"}",
        "watchpost_runs_in_flight_limit{scope=\"host\"} 2048",
        "watchpost_runs_in_flight 0",
        "watchpost_shard_info{shard=\"1\",shards=\"1\"} 1",
    ] {
        assert!(page.contains(series), "{series} in {page}");
    }
}
