//! Sequences of answers and what is believed after them; and laws that hold after any sequence.
//!
//! A case is a file: `failure N` and `success N`, then lines of steps. `fail*3` is three of them. `=> down@3` expects
//! this change at the third step of the line, and no others; without it none. `?` and `.` at the end of the steps expect
//! it to be undecided or not, `held=down` that this is held back.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use watchpost::judge::Judge;
use watchpost::model::{
    Answer, Change, CheckId, Fault, Stamp, Status, Target, Thresholds, Unknown,
};

const FEWEST_CASES: usize = 15;
const STALE_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Pass,
    Warn,
    Fail,
    Unknown,
    Blind,
    Sight,
    Pause,
    Resume,
    /// Nothing happens for longer than a result is good.
    Wait,
}

const STEPS: [(&str, Step); 9] = [
    ("pass", Step::Pass),
    ("warn", Step::Warn),
    ("fail", Step::Fail),
    ("unknown", Step::Unknown),
    ("blind", Step::Blind),
    ("sight", Step::Sight),
    ("pause", Step::Pause),
    ("resume", Step::Resume),
    ("wait", Step::Wait),
];

impl Step {
    fn answer(self) -> Option<Answer> {
        Some(match self {
            Self::Pass => Answer::Pass,
            Self::Warn => Answer::Warn(Fault::HttpStatus { code: 299 }),
            Self::Fail => Answer::Fail(Fault::HttpStatus { code: 503 }),
            Self::Unknown => Answer::Unknown(Unknown::NoDescriptors),
            _ => return None,
        })
    }
}

struct Bench {
    judge: Judge,
    now: Stamp,
    thresholds: Thresholds,
}

impl Bench {
    fn new(thresholds: Thresholds) -> Self {
        let now = Stamp::new(Timestamp::from_second(1_800_000_000).unwrap(), STALE_AFTER);
        let id = CheckId::of("p", &Target::plain("t"));
        Self { judge: Judge::new(id, now), now, thresholds }
    }

    fn take(&mut self, step: Step) -> Option<Change> {
        self.now = self.now.plus(Duration::from_secs(1));
        if let Some(answer) = step.answer() {
            return self.judge.observe(&answer, self.now, &self.thresholds);
        }
        match step {
            Step::Blind | Step::Sight => self.judge.set_blind(step == Step::Blind),
            Step::Pause => return self.judge.pause(self.now),
            Step::Resume => return self.judge.resume(self.now),
            _ => {
                self.now = self.now.plus(STALE_AFTER);
                return self.judge.tick(self.now, STALE_AFTER);
            }
        }
        None
    }
}

#[test]
fn every_case_of_the_judge_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/judge");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        play(&name, &std::fs::read_to_string(&path).unwrap());
        cases += 1;
    }
    assert!(cases >= FEWEST_CASES, "{cases} cases");
}

fn play(name: &str, text: &str) {
    let mut bench = Bench::new(Thresholds::default());
    for (number, line) in text.lines().enumerate() {
        let at = format!("{name}:{}: {line}", number + 1);
        match line.split_once(' ') {
            Some(("failure", n)) => bench.thresholds.failure = n.parse().unwrap(),
            Some(("success", n)) => bench.thresholds.success = n.parse().unwrap(),
            _ if line.starts_with('#') || line.is_empty() => {}
            _ => play_line(&at, line, &mut bench),
        }
    }
}

fn play_line(at: &str, line: &str, bench: &mut Bench) {
    let (steps, expected) = line.split_once("=>").unwrap_or((line, ""));
    let mut changes = Vec::new();
    let mut count = 0;
    for word in steps.split_whitespace() {
        if word == "?" || word == "." {
            assert_eq!(bench.judge.undecided(), word == "?", "{at}");
        } else if let Some(held) = word.strip_prefix("held=") {
            let found = bench.judge.held().map_or("none", Status::label);
            assert_eq!(found, held, "{at}");
        } else {
            let (word, times) = word.split_once('*').unwrap_or((word, "1"));
            let (_, step) = STEPS.iter().find(|(name, _)| *name == word).expect(at);
            for _ in 0..times.parse().unwrap() {
                count += 1;
                let change = bench.take(*step);
                changes.extend(change.map(|change| format!("{}@{count}", change.to.label())));
            }
        }
    }
    let expected: Vec<_> = expected.split_whitespace().collect();
    assert_eq!(changes, expected, "{at}");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = prop_oneof![
        6 => Just(Step::Pass),
        3 => Just(Step::Warn),
        8 => Just(Step::Fail),
        3 => Just(Step::Unknown),
        1 => Just(Step::Blind),
        2 => Just(Step::Sight),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(any, 0..120)
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    (1_u32..5, 1_u32..4).prop_map(|(failure, success)| Thresholds { failure, success })
}

/// The answers of the target that may count for the status, the last one last.
#[derive(Default)]
struct Evidence {
    answers: Vec<Step>,
    is_blind: bool,
}

impl Evidence {
    fn take(&mut self, step: Step, before: Status) {
        match step {
            Step::Pass | Step::Warn | Step::Fail if before != Status::Paused => {
                self.answers.push(step);
            }
            Step::Blind | Step::Sight => self.is_blind = step == Step::Blind,
            _ => {}
        }
    }

    fn ends_with(&self, count: u32, is: impl Fn(Step) -> bool) -> bool {
        let count = usize::try_from(count).unwrap();
        self.answers.len() >= count && self.answers.iter().rev().take(count).all(|s| is(*s))
    }
}

proptest! {
    #[test]
    fn the_laws_of_judgement_hold(steps in steps(), thresholds in thresholds()) {
        let mut bench = Bench::new(thresholds);
        let mut evidence = Evidence::default();
        for step in steps {
            let (before, since) = (bench.judge.status(), bench.judge.since());
            evidence.take(step, before);
            let change = bench.take(step);
            let after = bench.judge.status();
            prop_assert_eq!(change.is_some(), before != after);
            let Some(change) = change else { continue };
            prop_assert_eq!((change.from, change.to), (before, after));
            prop_assert_eq!((change.held_since, change.at), (since, bench.judge.since()));
            let failure = thresholds.failure;
            match after {
                Status::Up => prop_assert_eq!(step, Step::Pass),
                Status::Down => {
                    prop_assert!(evidence.ends_with(failure, |s| s == Step::Fail));
                    prop_assert!(!evidence.is_blind);
                    prop_assert!(change.fault.is_some());
                }
                Status::Degraded => {
                    let wrong = evidence.ends_with(failure, |s| s != Step::Pass);
                    let works = evidence.ends_with(thresholds.success, |s| s != Step::Fail);
                    prop_assert!(wrong && !evidence.is_blind || works);
                }
                Status::Unknown => {
                    prop_assert!(matches!(step, Step::Unknown | Step::Wait | Step::Resume));
                }
                Status::Paused => prop_assert_eq!(step, Step::Pause),
            }
        }
    }

    #[test]
    fn enough_runs_in_a_row_always_decide(steps in steps(), thresholds in thresholds()) {
        let mut bench = Bench::new(thresholds);
        for step in steps.into_iter().chain([Step::Sight, Step::Resume]) {
            bench.take(step);
        }
        for (step, status) in
            [(Step::Fail, Status::Down), (Step::Pass, Status::Up), (Step::Unknown, Status::Unknown)]
        {
            for _ in 0..thresholds.failure.max(thresholds.success) {
                bench.take(step);
            }
            prop_assert_eq!(bench.judge.status(), status);
            prop_assert!(!bench.judge.undecided());
        }
    }

    #[test]
    fn what_could_not_be_asked_is_never_down(count in 0..40_usize, thresholds in thresholds()) {
        let mut bench = Bench::new(thresholds);
        for _ in 0..count {
            bench.take(Step::Unknown);
            prop_assert_eq!(bench.judge.status(), Status::Unknown);
        }
    }
}
