//! The plan against a simulated clock and simulated runs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Disabled, Labels, Notify, ProbePolicy, Target, Thresholds};

const SECOND: Duration = Duration::from_secs(1);
const BEGIN: Moment = Moment::from_nanos(1_700_000_000_123_456_789);

pub(crate) fn check(name: &str, interval: Duration) -> Arc<Check> {
    check_of(Target::plain(name), interval)
}

pub(crate) fn check_of(target: Target, interval: Duration) -> Arc<Check> {
    let policy = ProbePolicy {
        name: "p".into(),
        module: "m".into(),
        phases: &crate::model::family::PROBE_TCP_DURATION,
        prober: "tcp",
        interval,
        timeout: interval / 2,
        thresholds: Thresholds::default(),
        retry_interval: None,
        min_up: None,
        pipeline: false,
        notify: Notify::default(),
        histogram: [].into(),
    };
    Arc::new(Check::new(Arc::new(policy), target, &Labels::default()))
}

fn checks(count: usize, interval: Duration) -> Vec<Arc<Check>> {
    (0..count).map(|n| check(&format!("h{n}:1"), interval)).collect()
}

/// A plan whose runs take a fixed time.
struct World {
    plan: Plan,
    now: Moment,
    takes: Duration,
    /// Runs that go on, by the time of their end.
    ends: BinaryHeap<Reverse<(Moment, u32)>>,
    /// When each check began, and whether early.
    log: BTreeMap<CheckId, Vec<(Moment, bool)>>,
    most: usize,
    latest: Duration,
}

impl World {
    fn new(takes: Duration, limits: Limits) -> Self {
        Self::of_shard(takes, limits, Shard::WHOLE)
    }

    fn of_shard(takes: Duration, limits: Limits, shard: Shard) -> Self {
        Self {
            plan: Plan::new("w", shard, limits),
            now: BEGIN,
            takes,
            ends: BinaryHeap::new(),
            log: BTreeMap::new(),
            most: 0,
            latest: Duration::ZERO,
        }
    }

    fn apply(&mut self, checks: &[Arc<Check>]) {
        self.plan.apply(checks.to_vec(), self.now);
    }

    /// Ends what has ended by now, and begins what is due.
    fn step(&mut self) {
        while let Some(&Reverse((at, slot))) = self.ends.peek() {
            if at > self.now {
                break;
            }
            self.ends.pop();
            self.plan.ended(SlotId(slot));
            self.plan.delivered(SlotId(slot));
        }
        let mut starts = Vec::new();
        self.plan.due(self.now, Timestamp::UNIX_EPOCH, &mut starts);
        for start in starts {
            assert!(
                !self.ends.iter().any(|Reverse((_, slot))| *slot == start.slot.0),
                "a run overlaps itself"
            );
            self.log.entry(start.check.id).or_default().push((self.now, start.early));
            self.ends.push(Reverse((self.now.plus(self.takes), start.slot.0)));
            self.latest = self.latest.max(start.late);
        }
        self.most = self.most.max(self.ends.len());
    }

    /// Goes on until `passed` from now, from event to event.
    fn pass(&mut self, passed: Duration) {
        let until = self.now.plus(passed);
        loop {
            self.step();
            let end = self.ends.peek().map_or(Moment::NEVER, |Reverse((at, _))| *at);
            let next = self.plan.next().unwrap_or(Moment::NEVER).min(end);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
        }
        self.now = until;
    }

    /// The machine stands still.
    fn stall(&mut self, stalled: Duration) {
        self.now = self.now.plus(stalled);
    }

    fn runs(&self) -> usize {
        self.log.values().map(Vec::len).sum()
    }

    fn times(&self, id: CheckId) -> Vec<Moment> {
        self.log.get(&id).map_or(Vec::new(), |log| log.iter().map(|(at, _)| *at).collect())
    }
}

#[test]
fn an_hour_has_as_many_runs_as_intervals() {
    let mut world = World::new(Duration::from_millis(3), Limits::default());
    let list: Vec<_> = [10, 30, 60]
        .into_iter()
        .flat_map(|s| (0..20).map(move |n| check(&format!("{s}-{n}"), SECOND * s)))
        .collect();
    world.apply(&list);
    world.pass(SECOND * 60);
    world.log.clear();
    world.pass(SECOND * 3600);
    for check in &list {
        let times = world.times(check.id);
        let interval = check.policy.interval;
        assert_eq!(times.len() as u64, 3600 / interval.as_secs());
        assert!(times.windows(2).all(|w| w[1].since(w[0]) == interval));
    }
    assert_eq!(world.plan.take_skips(), Skips::default());
    assert_eq!(world.latest, Duration::ZERO);
}

#[test]
fn a_new_check_runs_within_half_a_minute_and_then_at_its_own_time() {
    let mut world = World::new(SECOND, Limits::default());
    let list = checks(2000, SECOND * 3600);
    world.apply(&list);
    world.pass(FIRST_RUN_WITHIN);
    assert!(list.iter().all(|c| !world.times(c.id).is_empty()));
    let mut buckets = [0; 20];
    for check in &list {
        let at = world.times(check.id)[0].since(BEGIN).as_millis() * 20 / 30_001;
        buckets[usize::try_from(at).unwrap()] += 1;
    }
    assert!(buckets.iter().all(|b| (50..160).contains(b)), "{buckets:?}");
    world.log.clear();
    world.pass(SECOND * 7200);
    assert!(list.iter().all(|c| (1..=2).contains(&world.times(c.id).len())));
    assert!(list.iter().filter(|c| world.times(c.id).len() == 2).count() > 1950);
}

#[test]
fn a_restart_and_a_change_of_the_list_move_nobody() {
    let list = checks(50, SECOND * 20);
    let mut world = World::new(SECOND, Limits::default());
    world.apply(&list);
    world.pass(SECOND * 60);
    let before: Vec<_> = list.iter().map(|c| world.times(c.id)).collect();
    // Another process, begun a little later, with a list in another order and more on it.
    let mut again = World::new(SECOND, Limits::default());
    again.now = BEGIN.plus(Duration::from_millis(1234));
    let mut longer = checks(200, SECOND * 20);
    longer.reverse();
    again.apply(&longer);
    again.pass(SECOND * 60);
    for (check, before) in list.iter().zip(&before) {
        let phase = |at: &Moment| at.nanos() % 20_000_000_000;
        assert_eq!(phase(&before[0]), phase(&again.times(check.id)[0]));
    }
    // Removed and added around it, a check that stays keeps its times.
    for round in 0..10 {
        world.log.clear();
        let mut other = checks(10 + round * 7, SECOND * 20);
        other.truncate(100);
        if round % 2 == 0 {
            other.reverse();
        }
        world.apply(&other);
        world.pass(SECOND * 40);
        for (check, before) in list.iter().zip(&before).take(10) {
            let times = world.times(check.id);
            assert_eq!(times.len(), 2);
            assert_eq!(times[0].since(before[0]).as_nanos() % 20_000_000_000, 0);
        }
    }
    world.apply(&[]);
    world.log.clear();
    world.pass(SECOND * 60);
    assert_eq!(world.runs(), 0);
    assert!(world.plan.is_empty());
    assert_eq!(world.plan.free.len(), world.plan.slots.len());
}

#[test]
fn a_new_interval_moves_that_check_only() {
    let mut list = checks(10, SECOND * 10);
    let mut world = World::new(Duration::ZERO, Limits::default());
    world.apply(&list);
    world.pass(SECOND * 20);
    let kept = world.times(list[1].id)[0];
    list[0] = check("h0:1", SECOND * 5);
    world.apply(&list);
    world.log.clear();
    world.pass(SECOND * 100);
    assert_eq!(world.times(list[0].id).len(), 20);
    let times = world.times(list[1].id);
    assert_eq!(times.len(), 10);
    assert_eq!(times[0].since(kept).as_nanos() % 10_000_000_000, 0);
}

#[test]
fn a_slow_run_is_not_overlapped_and_what_it_misses_is_counted() {
    let mut world = World::new(SECOND * 25, Limits::default());
    let list = checks(10, SECOND * 10);
    world.apply(&list);
    world.pass(SECOND * 3600);
    // Each run takes two and a half intervals, so it begins at every third due time.
    assert!(world.log.values().all(|log| (119..=121).contains(&log.len())));
    let skips = world.plan.take_skips();
    assert_eq!(skips.of(Cause::Running), skips.total());
    assert_eq!(world.runs() as u64 + skips.total(), 3600);
}

#[test]
fn a_short_stall_runs_late_and_a_long_one_does_not_burst() {
    let mut world = World::new(Duration::ZERO, Limits::default());
    let list = checks(600, SECOND * 60);
    world.apply(&list);
    world.pass(SECOND * 60);
    world.stall(SECOND / 2);
    world.pass(Duration::ZERO);
    assert_eq!(world.plan.take_skips().total(), 0);
    assert!(world.latest <= SECOND / 2);
    world.pass(SECOND * 60);
    world.log.clear();
    world.stall(SECOND * 600);
    world.step();
    assert_eq!(world.plan.take_skips().of(Cause::Stalled), 6000 - world.runs() as u64);
    assert!(world.runs() < 30, "{} runs at once", world.runs());
    // Everyone is asked soon after.
    world.pass(FIRST_RUN_WITHIN);
    assert_eq!(world.log.len(), 600);
    assert_eq!(world.plan.take_skips().total(), 0);
}

#[test]
fn stalls_without_end_starve_nobody() {
    let mut world = World::new(Duration::ZERO, Limits::default());
    let list = checks(100, SECOND * 10);
    world.apply(&list);
    for _ in 0..20 {
        world.stall(SECOND * 7);
        world.step();
    }
    assert!(list.iter().all(|c| world.times(c.id).len() >= 4));
}

#[test]
fn limits_hold_and_nobody_starves() {
    let limits = Limits { in_flight: 50, per_host: 5 };
    let mut world = World::new(SECOND * 2, limits);
    let mut list: Vec<_> =
        (0..100).map(|n| check(&format!("one.example:{n}"), SECOND * 10)).collect();
    list.extend(checks(40, SECOND * 10));
    world.apply(&list);
    world.pass(SECOND * 600);
    assert!(world.most <= 50);
    let skips = world.plan.take_skips();
    // 5 at a time for 2 s each: one host gets 2.5 runs a second of the 10 that are due there.
    assert!(skips.of(Cause::HostLimit) > 4000, "{skips:?}");
    // A run that began late may still go on at the next due time.
    assert_eq!(skips.of(Cause::HostLimit) + skips.of(Cause::Running), skips.total());
    let crowded: Vec<_> = list[..100].iter().map(|c| world.times(c.id).len()).collect();
    assert!(crowded.iter().all(|runs| (12..=18).contains(runs)), "{crowded:?}");
    // The others do not notice.
    assert!(list[100..].iter().all(|c| world.times(c.id).len() == 60));
    assert!(world.plan.waiting() <= 100);
}

#[test]
fn the_overall_limit_is_shared_fairly() {
    let mut world = World::new(SECOND * 5, Limits { in_flight: 10, per_host: 10 });
    let list = checks(100, SECOND * 10);
    world.apply(&list);
    world.pass(SECOND * 1000);
    assert_eq!(world.most, 10);
    let runs: Vec<_> = list.iter().map(|c| world.times(c.id).len()).collect();
    assert!(runs.iter().all(|r| (17..=23).contains(r)), "{runs:?}");
    let skips = world.plan.take_skips();
    assert!(skips.of(Cause::InFlightLimit) > 5000, "{skips:?}");
    assert!(skips.total() > 7000, "{skips:?}");
    world.apply(&[]);
    world.pass(SECOND * 10);
    assert_eq!(world.plan.waiting(), 0);
    assert_eq!(world.plan.free.len(), world.plan.slots.len());
}

#[test]
fn a_retry_is_early_and_moves_no_due_time() {
    let mut world = World::new(SECOND, Limits::default());
    let one = check("h:1", SECOND * 60);
    world.apply(std::slice::from_ref(&one));
    world.pass(SECOND * 90);
    let first = *world.times(one.id).last().unwrap();
    world.now = first.plus(SECOND * 60);
    world.step();
    world.now = first.plus(SECOND * 62);
    world.step();
    world.log.clear();
    world.plan.retry(one.id, SECOND * 5, world.now);
    world.pass(SECOND * 118);
    let log = &world.log[&one.id];
    assert_eq!(
        log.as_slice(),
        [
            (first.plus(SECOND * 67), true),
            (first.plus(SECOND * 120), false),
            (first.plus(SECOND * 180), false)
        ]
    );
    // A due time comes before the retry would: no retry.
    world.log.clear();
    world.pass(SECOND * 55);
    world.plan.retry(one.id, SECOND * 30, world.now);
    world.pass(SECOND * 60);
    assert!(world.log[&one.id].iter().all(|(_, early)| !early));
    world.plan.retry(check("unknown:1", SECOND).id, SECOND, world.now);
    assert_eq!(world.plan.take_skips().total(), 0);
}

#[test]
fn a_due_time_inside_an_early_run_is_not_run_twice() {
    let mut world = World::new(SECOND * 10, Limits::default());
    let one = check("h:1", SECOND * 30);
    world.apply(std::slice::from_ref(&one));
    world.pass(SECOND * 30);
    let first = world.times(one.id)[0];
    world.pass(first.plus(SECOND * 50).since(world.now));
    world.plan.retry(one.id, SECOND * 5, world.now);
    world.log.clear();
    world.pass(SECOND * 45);
    assert_eq!(
        world.log[&one.id].as_slice(),
        [(first.plus(SECOND * 55), true), (first.plus(SECOND * 90), false)]
    );
    assert_eq!(world.plan.take_skips().of(Cause::Running), 1);
}

#[test]
fn paused_and_disabled_checks_are_not_run_and_not_skipped() {
    let mut world = World::new(Duration::ZERO, Limits::default());
    let mut target = Target::plain("new:1");
    target.disabled = Some(Disabled { until: None, reason: "not launched".into() });
    let disabled = check_of(target, SECOND);
    let one = check("h:1", SECOND * 3600);
    world.apply(&[one.clone(), disabled.clone()]);
    world.plan.pause([one.id].into(), world.now);
    world.pass(SECOND * 7200);
    assert_eq!(world.runs(), 0);
    assert_eq!(world.plan.take_skips().total(), 0);
    world.plan.pause(HashSet::new(), world.now);
    world.pass(FIRST_RUN_WITHIN);
    assert_eq!(world.times(one.id).len(), 1);
    assert_eq!(world.times(disabled.id).len(), 0);
}

#[test]
fn a_check_that_is_removed_and_comes_back_while_it_runs_does_not_overlap() {
    let mut world = World::new(SECOND * 15, Limits::default());
    let list = checks(1, SECOND * 10);
    world.apply(&list);
    world.pass(SECOND * 11);
    assert_eq!(world.ends.len(), 1);
    let slot = SlotId(world.ends.peek().unwrap().0.1);
    world.apply(&[]);
    assert_eq!(world.plan.wanted(slot), None);
    assert!(world.plan.is_empty());
    world.apply(&list);
    assert_eq!(world.plan.len(), 1);
    world.pass(SECOND * 100);
    assert!(world.times(list[0].id).windows(2).all(|w| w[1].since(w[0]) >= SECOND * 15));
}

#[test]
fn retries_leave_nothing_behind() {
    let mut world = World::new(Duration::ZERO, Limits::default());
    let list = checks(3, SECOND * 86_400);
    world.apply(&list);
    for _ in 0..10_000 {
        for check in &list {
            world.plan.retry(check.id, SECOND * 3600, world.now);
        }
        world.now = world.now.plus(Duration::from_millis(1));
    }
    assert!(world.plan.queue.len() <= 4 * 3 + 65, "{}", world.plan.queue.len());
}

#[test]
fn shards_part_the_checks() {
    let list = checks(300, SECOND * 10);
    let mut seen = BTreeMap::new();
    for index in 1..=3 {
        let shard: Shard = format!("{index}/3").parse().unwrap();
        let mut world = World::of_shard(Duration::ZERO, Limits::default(), shard);
        world.apply(&list);
        world.pass(SECOND * 10);
        for id in world.log.keys() {
            *seen.entry(*id).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.values().all(|count| *count == 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens to the list, each due time of a check is a run or a counted skip, and none is off its phase.
    #[test]
    fn every_due_time_is_run_or_counted(
        intervals in prop::collection::vec(1_u64..50, 1..20),
        takes in 0_u64..60_000,
        in_flight in 1_usize..8,
        per_host in 1_usize..8,
    ) {
        let list: Vec<_> = intervals.iter().enumerate()
            .map(|(n, s)| check(&format!("h{}:{n}", n % 3), SECOND * u32::try_from(*s).unwrap()))
            .collect();
        let mut world = World::new(Duration::from_millis(takes), Limits { in_flight, per_host });
        world.apply(&list);
        let passed = SECOND * 400;
        world.pass(SECOND * 50);
        let (runs, _) = (world.runs(), world.plan.take_skips());
        let waited = world.plan.waiting();
        world.log.clear();
        world.pass(passed);
        let skips = world.plan.take_skips();
        let due: u64 = list.iter()
            .map(|c| Spread::of("w").phase(c.id, c.policy.interval)
                .between(BEGIN.plus(SECOND * 50), world.now))
            .sum();
        let ran = world.runs() as u64 + world.plan.waiting() as u64;
        prop_assert_eq!(ran + skips.total(), due + waited as u64, "{:?} {}", skips, runs);
        prop_assert!(world.most <= in_flight);
        prop_assert_eq!(skips.of(Cause::Stalled), 0);
        // All hosts have three gates at most, and runs end: nobody waits for ever.
        if takes < 1000 {
            prop_assert!(list.iter().all(|c| !world.times(c.id).is_empty()));
        }
    }

    #[test]
    fn a_list_that_churns_keeps_its_promises(
        rounds in prop::collection::vec((prop::collection::vec(0_usize..12, 0..12), 0_u64..20_000), 1..20),
        takes in 0_u64..15_000,
    ) {
        let mut world = World::new(Duration::from_millis(takes), Limits { in_flight: 5, per_host: 2 });
        for (names, passed) in rounds {
            let list: Vec<_> =
                names.iter().map(|n| check(&format!("h{}:{n}", n % 4), SECOND * 5)).collect();
            let wanted: HashSet<_> = list.iter().map(|c| c.id).collect();
            world.apply(&list);
            prop_assert_eq!(world.plan.len(), wanted.len());
            world.log.clear();
            world.pass(Duration::from_millis(passed));
            prop_assert!(world.log.keys().all(|id| wanted.contains(id)));
            prop_assert!(world.most <= 5);
        }
        world.apply(&[]);
        world.pass(SECOND * 60);
        prop_assert_eq!(world.plan.free.len(), world.plan.slots.len());
        prop_assert_eq!(world.plan.waiting(), 0);
    }
}
