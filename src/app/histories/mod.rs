//! Histories on a virtual clock: the real stages from a beat to a notification, in a world where everything fails.
//!
//! `world` is what happens and what is true, `process` is ours, `pagers` are who hears of it. Here are the two
//! invariants over thousands of histories; `cases` has the fault cases that need a clock which can be moved.

mod cases;
mod pagers;
mod process;
mod replay;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::deadman::BeatKind;
use crate::notify::Boundary;

use pagers::{FIRST, Mood, SECOND};
use world::World;

const JOBS: [(u64, u64); 3] = [(60, 20), (120, 60), (300, 120)];
/// Longer than the hourly repeat, the longest wait for stable recovery and the slowest retry.
const CALM: u64 = 3_600 + 1_800 + 2 * world::LONG;
/// Where nothing is left to wait for after this long, that will do.
const SHORT_CALM: u64 = 900;
/// One history in so many has the whole calm all the same.
const PATIENT: usize = 8;
/// What happens in one history.
const EVENTS: usize = 40;

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Wait(u64),
    Stop(usize),
    Run(usize),
    Fail(usize),
    Begin(usize),
    Succeed(usize),
    Kill,
    KillAt(Boundary),
    Start,
    Reboot(u64),
    RebootIn1970(u64),
    Step(i64),
    Slew(i64),
    Suspend(u64),
    Reload,
    Remove(usize),
    Add(usize),
    Rename(usize),
    Rotate(u8),
    Pause(usize, u64),
    First(Mood),
    Second(Mood),
    DiskFull(bool),
    DiskReadOnly(bool),
}

fn live(world: &mut World, event: &Event) {
    match event {
        Event::Wait(seconds) => world.pass_time(*seconds),
        Event::Stop(job) => world.run_job(*job, false),
        Event::Run(job) => world.run_job(*job, true),
        Event::Fail(job) => world.beat(*job, BeatKind::Fail),
        Event::Begin(job) => world.beat(*job, BeatKind::Start),
        Event::Succeed(job) => world.beat(*job, BeatKind::Success),
        Event::Kill => world.kill(),
        Event::KillAt(boundary) => world.kill_at(*boundary),
        Event::Start => world.start(),
        Event::Reboot(down) => world.reboot(*down, None),
        Event::RebootIn1970(down) => world.reboot(*down, Some(0)),
        Event::Step(seconds) => world.step(*seconds),
        Event::Slew(milliseconds) => world.slew(*milliseconds),
        Event::Suspend(seconds) => world.suspend(*seconds),
        Event::Reload => world.reload(),
        Event::Remove(job) => world.remove(*job),
        Event::Add(job) => world.add_again(*job),
        Event::Rename(job) => world.rename(*job),
        Event::Rotate(key) => world.rotate(format!("key-{key}")),
        Event::Pause(job, seconds) => world.pause(*job, *seconds),
        Event::First(mood) => world.pagers.set(FIRST, *mood),
        Event::Second(mood) => world.pagers.set(SECOND, *mood),
        Event::DiskFull(is_full) => world.set_disk_full(*is_full),
        Event::DiskReadOnly(is_read_only) => world.set_disk_read_only(*is_read_only),
    }
}

fn boundary() -> impl Strategy<Value = Boundary> {
    prop::sample::select(Boundary::ALL.to_vec())
}

fn mood() -> impl Strategy<Value = Mood> {
    prop::sample::select(vec![
        Mood::Good,
        Mood::Good,
        Mood::Broken,
        Mood::Busy,
        Mood::Hole,
        Mood::Mute,
        Mood::Drops,
        Mood::Refuses,
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let job = || 0..JOBS.len();
    prop_oneof![
        16 => (1_u64..400).prop_map(Event::Wait),
        4 => job().prop_map(Event::Stop),
        4 => job().prop_map(Event::Run),
        1 => job().prop_map(Event::Fail),
        1 => job().prop_map(Event::Begin),
        1 => job().prop_map(Event::Succeed),
        2 => Just(Event::Kill),
        3 => boundary().prop_map(Event::KillAt),
        5 => Just(Event::Start),
        1 => (5_u64..600).prop_map(Event::Reboot),
        1 => (5_u64..600).prop_map(Event::RebootIn1970),
        1 => prop::sample::select(vec![3_600, -3_600, 40, -40, -1_800_000_000]).prop_map(Event::Step),
        2 => (-900_i64..900).prop_map(Event::Slew),
        1 => (30_u64..4_000).prop_map(Event::Suspend),
        1 => Just(Event::Reload),
        1 => job().prop_map(Event::Remove),
        2 => job().prop_map(Event::Add),
        1 => job().prop_map(Event::Rename),
        1 => (0_u8..3).prop_map(Event::Rotate),
        1 => (job(), 10_u64..900).prop_map(|(job, seconds)| Event::Pause(job, seconds)),
        3 => mood().prop_map(Event::First),
        2 => mood().prop_map(Event::Second),
        1 => any::<bool>().prop_map(Event::DiskFull),
        1 => prop::sample::select(vec![true, false, false]).prop_map(Event::DiskReadOnly),
    ]
}

/// What is harmless: clocks that drift, restarts and reloads while every job beats.
fn quiet_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1_u64..400).prop_map(Event::Wait),
        3 => (-900_i64..900).prop_map(Event::Slew),
        1 => Just(Event::Reload),
        1 => (0_u8..3).prop_map(Event::Rotate),
        1 => mood().prop_map(Event::First),
        1 => (0..JOBS.len()).prop_map(Event::Succeed),
        1 => (1_i64..4_000).prop_map(Event::Step),
        1 => (1_i64..4_000).prop_map(|seconds| Event::Step(-seconds)),
    ]
}

fn tell(world: &World) -> Result<(), TestCaseError> {
    if world.violations.is_empty() {
        return Ok(());
    }
    Err(TestCaseError::fail(world.violations.join("\n")))
}

/// The histories that everybody runs. Others are for whoever looks for trouble: a build must not fail by chance.
const SEED: u64 = 2;

#[expect(clippy::disallowed_methods, reason = "a test that is to be run as somebody wishes")]
fn wish(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs many histories: always the same ones, or those of `HISTORIES_SEED=<number>`, or as many as `HISTORIES_CASES` says.
fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let number = |name| wish(name).and_then(|text| text.parse::<u64>().ok());
    let seed = number("HISTORIES_SEED").unwrap_or(SEED);
    let cases = number("HISTORIES_CASES").and_then(|it| it.try_into().ok()).unwrap_or(cases);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, test);
    result.unwrap_or_else(|failure| panic!("HISTORIES_SEED={seed}: {failure}"));
}

/// Everything is well again, for long.
fn calm_down(world: &mut World, is_patient: bool) {
    world.pagers.set(FIRST, Mood::Good);
    world.pagers.set(SECOND, Mood::Good);
    world.set_disk_full(false);
    world.set_disk_read_only(false);
    // A process that is to die at once dies once more.
    world.start();
    world.spare();
    world.pass_time(SHORT_CALM);
    if is_patient || !world.is_settled() {
        world.pass_time(CALM - SHORT_CALM);
    }
    world.check_calm();
}

/// If a switch was silent for longer than its limit and a bound, and no maintenance covered it, somebody was told, whatever
/// else happened; nobody is told without cause; and after a calm, people see what is true.
#[test]
fn silence_is_told_whatever_else_happens() {
    run(1_000, prop::collection::vec(event(), 1..EVENTS), |events| {
        let mut world = World::new(&JOBS);
        for event in &events {
            live(&mut world, event);
            tell(&world)?;
        }
        calm_down(&mut world, events.len() % PATIENT == 0);
        tell(&world)
    });
}

/// The mirror: nobody is told while beats arrive in time, however the wall clock moves and whatever is reloaded.
#[test]
fn nobody_is_told_while_beats_arrive_in_time() {
    run(1_000, prop::collection::vec(quiet_event(), 1..EVENTS), |events| {
        let mut world = World::new(&JOBS);
        for event in &events {
            live(&mut world, event);
            tell(&world)?;
        }
        world.pass_time(600);
        prop_assert_eq!(world.decided.len(), 0, "somebody was told");
        prop_assert_eq!(world.pagers.attempts, 0);
        tell(&world)
    });
}
