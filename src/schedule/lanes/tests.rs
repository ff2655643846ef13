//! Lanes are threads, so these run in real time with short intervals.

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::Registry;

use super::super::plan::tests::check;
use super::super::run::tests::outcome;
use super::*;
use crate::model::{Outcome, Stamp};

const SHORT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

fn setup(lanes: usize) -> Setup {
    let limits = Limits::default();
    let meters = Meters::new(&Registry::new(), limits, Shard::WHOLE);
    Setup { lanes: Some(lanes), limits, shard: Shard::WHOLE, watchpost_id: "w".into(), meters }
}

struct Named;

impl Runner for Named {
    async fn run(&self, check: &Arc<Check>, started: Stamp) -> Outcome {
        match check.target.address.as_str() {
            "hang:1" => std::future::pending().await,
            "panic:1" => panic!("a defect"),
            _ => outcome(check, started),
        }
    }
}

#[tokio::test]
async fn all_checks_run_wherever_they_are_and_hanging_ones_are_dropped_at_the_end() {
    let (finished, mut outcomes) = mpsc::channel(16);
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let starter = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Named
    };
    let lanes = Lanes::start(&setup(3), starter, &finished).unwrap();
    drop(finished);
    let mut checks: Vec<_> = (0..30).map(|n| check(&format!("h{n}:1"), SHORT)).collect();
    let mut wanted: HashSet<_> = checks.iter().map(|c| c.id).collect();
    let hanging = check("hang:1", SHORT);
    checks.push(hanging.clone());
    lanes.apply(checks.clone()).await;
    while !wanted.is_empty() {
        let next = tokio::time::timeout(PATIENCE, outcomes.recv()).await.unwrap().unwrap();
        wanted.remove(&next.id);
    }
    assert_eq!(made.load(Ordering::Relaxed), 3);
    assert!(lanes.retry(checks[0].id, SHORT));
    assert!(!lanes.retry(check("unknown:1", SHORT).id, SHORT));
    lanes.pause(&checks.iter().map(|c| c.id).collect()).await;
    let reading = async {
        let mut seen = Vec::new();
        while let Some(finished) = outcomes.recv().await {
            seen.push(finished.id);
        }
        seen
    };
    let (seen, ()) = tokio::join!(reading, lanes.shutdown(Duration::from_millis(200)));
    assert!(!seen.contains(&hanging.id));
}

#[tokio::test]
async fn a_panic_and_a_reader_that_left_are_noticed() {
    let (finished, mut outcomes) = mpsc::channel(16);
    let lanes = Lanes::start(&setup(2), |_| Named, &finished).unwrap();
    lanes.apply(vec![check("panic:1", SHORT)]).await;
    let failed = tokio::time::timeout(PATIENCE, lanes.failed()).await.unwrap();
    assert!(matches!(failed, LaneFailed::Panicked { ref message, .. } if message == "a defect"));
    outcomes.close();
    lanes.shutdown(Duration::from_secs(1)).await;

    let (finished, outcomes) = mpsc::channel(16);
    let lanes = Lanes::start(&setup(1), |_| Named, &finished).unwrap();
    drop(outcomes);
    lanes.apply(vec![check("h:1", SHORT)]).await;
    let failed = tokio::time::timeout(PATIENCE, lanes.failed()).await.unwrap();
    assert_eq!(failed, LaneFailed::OwnerGone { lane: 0 });
}
