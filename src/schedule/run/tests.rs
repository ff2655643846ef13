//! The loop on paused time, with runners in memory.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use prometheus::Registry;

use super::super::plan::tests::check;
use super::*;
use crate::model::Answer;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn outcome(check: &Check, started: Stamp) -> Outcome {
    Outcome {
        started,
        took: Duration::ZERO,
        timeout: check.policy.timeout,
        phases: Vec::new(),
        phase: None,
        address: None,
        facts: Vec::new(),
        answer: Answer::Pass,
    }
}

/// Runs take as long as they are told; begins are written down.
#[derive(Debug, Default)]
struct Sleeper {
    takes: Duration,
    begun: RefCell<HashMap<CheckId, Vec<Instant>>>,
    dropped: Cell<usize>,
}

/// Notices when a run is dropped before its end.
struct Guard<'a>(&'a Cell<usize>, bool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.set(self.0.get() + 1);
        }
    }
}

impl Runner for Sleeper {
    async fn run(&self, check: &Arc<Check>, started: Stamp) -> Outcome {
        self.begun.borrow_mut().entry(check.id).or_default().push(Instant::now());
        let mut guard = Guard(&self.dropped, false);
        tokio::time::sleep(self.takes).await;
        guard.1 = true;
        outcome(check, started)
    }
}

struct Bench {
    schedule: Schedule,
    commands: mpsc::Sender<Command>,
    obeyed: mpsc::Receiver<Command>,
    finished: mpsc::Sender<Finished>,
    outcomes: mpsc::Receiver<Finished>,
    ending: Ending,
    registry: Registry,
}

fn bench(room: usize) -> Bench {
    let registry = Registry::new();
    let limits = Limits::default();
    let meters = Meters::new(&registry, limits, Shard::WHOLE);
    let (commands, obeyed) = mpsc::channel(16);
    let (finished, outcomes) = mpsc::channel(room);
    Bench {
        schedule: Schedule::new(limits, Shard::WHOLE, "w", meters),
        commands,
        obeyed,
        finished,
        outcomes,
        ending: Ending::default(),
        registry,
    }
}

/// The sum of a family's samples, which are whole numbers.
#[expect(clippy::cast_possible_truncation, reason = "counts of a test are small")]
fn value(registry: &Registry, name: &str) -> i64 {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == name).unwrap();
    family
        .get_metric()
        .iter()
        .map(|m| {
            let observed = i64::try_from(m.get_histogram().get_sample_count()).unwrap();
            (m.get_counter().get_value() + m.get_gauge().get_value()) as i64 + observed
        })
        .sum()
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_a_thousand_checks() {
    let mut bench = bench(1 << 20);
    let checks: Vec<_> = (0..1000).map(|n| check(&format!("h{n}:1"), SECOND * 60)).collect();
    bench.commands.send(Command::Apply(checks.clone())).await.unwrap();
    let runner = Sleeper { takes: Duration::from_millis(5), ..Sleeper::default() };
    let run = bench.schedule.run(&runner, bench.obeyed, bench.finished, bench.ending.clone());
    let hour = async {
        tokio::time::sleep(SECOND * 3600).await;
        bench.ending.stop.cancel();
    };
    let (ended, ()) = tokio::join!(run, hour);
    assert_eq!(ended, Ended::Stopped);
    let begun = runner.begun.borrow();
    for check in &checks {
        // 60 in an hour, and a first one that did not wait for its time.
        let times = &begun[&check.id];
        assert!((60..=61).contains(&times.len()), "{}", times.len());
        let drift = times[1..]
            .windows(2)
            .all(|w| (w[1] - w[0]).abs_diff(SECOND * 60) <= TICK + Duration::from_millis(2));
        assert!(drift, "{times:?}");
    }
    let total: usize = begun.values().map(Vec::len).sum();
    let mut received = 0;
    while bench.outcomes.try_recv().is_ok() {
        received += 1;
    }
    assert_eq!(received, total);
    assert_eq!(value(&bench.registry, "watchpost_schedule_skipped_total"), 0);
    assert_eq!(value(&bench.registry, "watchpost_schedule_late_total"), 0);
    assert_eq!(value(&bench.registry, "watchpost_runs_in_flight"), 0);
    let lateness = value(&bench.registry, "watchpost_schedule_lateness_seconds");
    assert_eq!(lateness, i64::try_from(total).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_reading_delays_nobody_and_loses_nothing() {
    let mut bench = bench(1);
    let checks: Vec<_> = (0..20).map(|n| check(&format!("h{n}:1"), SECOND * 10)).collect();
    bench.commands.send(Command::Apply(checks.clone())).await.unwrap();
    let runner = Sleeper::default();
    let ending = bench.ending.clone();
    let run = bench.schedule.run(&runner, bench.obeyed, bench.finished, bench.ending);
    let reader = async {
        tokio::time::sleep(SECOND * 60).await;
        // All ran once and wait; the one in the channel ran again.
        assert_eq!(runner.begun.borrow().len(), 20);
        assert!(runner.begun.borrow().values().map(Vec::len).sum::<usize>() <= 22);
        let mut seen = HashMap::new();
        while seen.len() < 20 {
            let finished = bench.outcomes.recv().await.unwrap();
            *seen.entry(finished.id).or_insert(0) += 1;
        }
        tokio::time::sleep(SECOND).await;
        while bench.outcomes.try_recv().is_ok() {
            tokio::task::yield_now().await;
        }
        // Reading goes on, and so do all of them.
        seen.clear();
        let until = Instant::now() + SECOND * 100;
        while let Ok(finished) = tokio::time::timeout_at(until, bench.outcomes.recv()).await {
            *seen.entry(finished.unwrap().id).or_insert(0) += 1;
        }
        assert!(seen.values().all(|runs| (9..=11).contains(runs)), "{seen:?}");
        ending.stop.cancel();
    };
    let (ended, ()) = tokio::join!(run, reader);
    assert_eq!(ended, Ended::Stopped);
    assert!(value(&bench.registry, "watchpost_schedule_skipped_total") > 50);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_runs_and_an_abandon_drops_them_without_an_outcome() {
    for (abandon_after, outcomes, dropped) in [(SECOND * 9, 1, 0), (SECOND, 0, 1)] {
        let mut bench = bench(16);
        let one = check("h:1", SECOND * 10);
        bench.commands.send(Command::Apply(vec![one])).await.unwrap();
        let runner = Sleeper { takes: SECOND * 8, ..Sleeper::default() };
        let ending = bench.ending.clone();
        let run = bench.schedule.run(&runner, bench.obeyed, bench.finished, bench.ending);
        let stop = async {
            while runner.begun.borrow().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ending.stop.cancel();
            tokio::time::sleep(abandon_after).await;
            ending.abandon.cancel();
        };
        let (ended, ()) = tokio::join!(run, stop);
        assert_eq!(ended, Ended::Stopped);
        let mut received = 0;
        while bench.outcomes.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!((received, runner.dropped.get()), (outcomes, dropped));
        assert_eq!(runner.begun.borrow().values().map(Vec::len).sum::<usize>(), 1);
        assert_eq!(value(&bench.registry, "watchpost_runs_in_flight"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_marked_and_a_removed_check_s_outcome_is_nobody_s() {
    let mut bench = bench(16);
    let one = check("h:1", SECOND * 60);
    bench.commands.send(Command::Apply(vec![one.clone()])).await.unwrap();
    let runner = Sleeper { takes: SECOND, ..Sleeper::default() };
    let ending = bench.ending.clone();
    let run = bench.schedule.run(&runner, bench.obeyed, bench.finished, bench.ending);
    let asker = async {
        let mut before = bench.outcomes.recv().await.unwrap();
        // At its own time, so that no due time is near.
        while Instant::now().duration_since(runner.begun.borrow()[&one.id][0]) < SECOND * 60 {
            before = bench.outcomes.recv().await.unwrap();
        }
        assert!(!before.early);
        let retry = Command::Retry { id: one.id, after: SECOND * 5 };
        bench.commands.send(retry).await.unwrap();
        let asked = Instant::now();
        assert!(bench.outcomes.recv().await.unwrap().early);
        assert!(asked.elapsed() < SECOND * 7);
        let runs = runner.begun.borrow()[&one.id].len();
        while runner.begun.borrow()[&one.id].len() == runs {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bench.commands.send(Command::Apply(Vec::new())).await.unwrap();
        tokio::time::sleep(SECOND * 100).await;
        assert!(bench.outcomes.try_recv().is_err());
        drop(bench.outcomes);
        ending.stop.cancel();
    };
    tokio::join!(run, asker);
}

#[tokio::test(start_paused = true)]
async fn without_a_reader_the_loop_ends() {
    let bench = bench(16);
    drop(bench.outcomes);
    bench.commands.send(Command::Apply(vec![check("h:1", SECOND)])).await.unwrap();
    let runner = Sleeper::default();
    let ended = bench.schedule.run(&runner, bench.obeyed, bench.finished, bench.ending).await;
    assert_eq!(ended, Ended::OwnerGone);
}
