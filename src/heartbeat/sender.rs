//! One heartbeat, kept going: gates, pace, tries, read-back.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::driver::{Attempt, Driver, Recorded, SendResult};
use super::gate::{Gate, Lease, Pace, Step, gates};
use super::spec::Spec;
use super::vendor::{Files, Message, Plan, ReadBack, plan};
use crate::model::{Stamp, family};

/// How often the gates are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Tries for one beat.
const MAX_TRIES: u32 = 6;
/// Tries at the service's own host before its stand-in is used in turn.
const OWN_HOST_TRIES: u32 = 2;
/// Between tries: up to this, times the number of the try.
const BACKOFF: Duration = Duration::from_millis(1_500);
/// How long after an accepted beat it is asked whether it was recorded.
const READ_BACK_DELAY: Duration = Duration::from_secs(15);

/// What is known about one heartbeat, for the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    pub name: String,
    pub gates: Vec<Gate>,
    pub open: bool,
    pub warming_up: bool,
    /// When the service last accepted a beat.
    pub accepted: Option<Timestamp>,
    /// The last try.
    pub last: Option<Attempt>,
    /// When the service says that it recorded the last beat, by its clock.
    pub recorded: Option<Timestamp>,
    /// Why a beat that was accepted is not known to be recorded.
    pub not_recorded: Option<String>,
}

/// Made once; it is the only writer of its families.
#[derive(Debug, Clone)]
pub struct Meter {
    open: IntGaugeVec,
    gate_open: IntGaugeVec,
    last_sent: GaugeVec,
    sends: IntCounterVec,
    recorded: GaugeVec,
    recorded_ok: IntGaugeVec,
}

impl Meter {
    pub fn new(registry: &Registry) -> Self {
        Self {
            open: family::HEARTBEAT_OPEN.int_gauges(registry),
            gate_open: family::HEARTBEAT_GATE_OPEN.int_gauges(registry),
            last_sent: family::HEARTBEAT_LAST_SENT.gauges(registry),
            sends: family::HEARTBEAT_SENDS.counters(registry),
            recorded: family::HEARTBEAT_RECORDED.gauges(registry),
            recorded_ok: family::HEARTBEAT_RECORDED_OK.int_gauges(registry),
        }
    }

    fn announce(&self, name: &str) {
        self.open.with_label_values(&[name]).set(0);
        for result in SendResult::ALL {
            self.sends.with_label_values(&[name, result.label()]);
        }
    }

    fn gates(&self, name: &str, gates: &[Gate]) {
        let open = gates.iter().all(Gate::is_open);
        self.open.with_label_values(&[name]).set(i64::from(open));
        for gate in gates {
            let value = i64::from(gate.is_open());
            self.gate_open.with_label_values(&[name, gate.name.as_str()]).set(value);
        }
    }

    /// A heartbeat is gone from the configuration, and so are its series.
    pub fn forget(&self, spec: &Spec) {
        let name = spec.name.as_str();
        drop(self.open.remove_label_values(&[name]));
        drop(self.last_sent.remove_label_values(&[name]));
        drop(self.recorded.remove_label_values(&[name]));
        drop(self.recorded_ok.remove_label_values(&[name]));
        for result in SendResult::ALL {
            drop(self.sends.remove_label_values(&[name, result.label()]));
        }
        for gate in gates(spec, None, Stamp::new(Timestamp::UNIX_EPOCH, Duration::ZERO)) {
            drop(self.gate_open.remove_label_values(&[name, gate.name.as_str()]));
        }
    }
}

/// What the service has of what it accepted. Only progress counts: its clock is not ours.
#[derive(Debug, Clone, Default)]
struct Proof {
    last: Option<Recorded>,
    /// When what it says moved last, or when a beat was first accepted.
    moved: Option<Stamp>,
    /// When to ask again.
    ask: Option<Stamp>,
    problem: Option<String>,
}

/// One heartbeat on its way.
#[derive(Debug)]
pub struct Sender {
    spec: Arc<Spec>,
    watchpost: Arc<str>,
    lease: watch::Receiver<Option<Lease>>,
    clock: fn() -> Stamp,
    meter: Meter,
    view: watch::Sender<View>,
    proof: Proof,
    was_open: Option<bool>,
}

impl Sender {
    /// The sender, and where its view can be seen. `clock` is [`crate::clock::now`] but in tests.
    pub fn new(
        spec: Arc<Spec>,
        watchpost: impl Into<Arc<str>>,
        lease: watch::Receiver<Option<Lease>>,
        clock: fn() -> Stamp,
        meter: Meter,
    ) -> (Self, watch::Receiver<View>) {
        meter.announce(&spec.name);
        let (view, seen) = watch::channel(View {
            name: spec.name.clone(),
            gates: gates(&spec, None, clock()),
            open: false,
            warming_up: true,
            accepted: None,
            last: None,
            recorded: None,
            not_recorded: None,
        });
        let watchpost = watchpost.into();
        let proof = Proof::default();
        (Self { spec, watchpost, lease, clock, meter, view, proof, was_open: None }, seen)
    }

    /// Beats until `stop`. Dropping it is safe at any time.
    pub async fn run(mut self, stop: CancellationToken) {
        let phase = phase(&self.spec.name, &self.watchpost);
        let mut pace = Pace::new(&self.spec, phase, (self.clock)());
        let mut tick = tokio::time::interval(TICK.min(self.spec.interval.get() / 4));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let pass = self.pass(&mut pace);
            tokio::select! {
                () = stop.cancelled() => return,
                () = pass => {}
            }
        }
    }

    async fn pass(&mut self, pace: &mut Pace) {
        let now = (self.clock)();
        let gates = self.look(pace, now);
        let is_open = gates.iter().all(Gate::is_open);
        match pace.step(is_open, now) {
            Step::Beat => self.beat().await,
            Step::SignalFailure => {
                if self.signal_failure(&gates).await {
                    pace.failure_told();
                }
            }
            Step::Nothing => {}
        }
        self.ask_back().await;
    }

    /// Judges the gates and tells metrics, page and log.
    fn look(&mut self, pace: &Pace, now: Stamp) -> Vec<Gate> {
        let gates = self.gates(now);
        let is_open = gates.iter().all(Gate::is_open);
        self.meter.gates(&self.spec.name, &gates);
        let warming_up = pace.is_warming_up(now);
        self.view.send_if_modified(|view| {
            let changed = view.gates != gates || view.warming_up != warming_up;
            view.gates.clone_from(&gates);
            view.open = is_open;
            view.warming_up = warming_up;
            changed
        });
        if self.was_open != Some(is_open) {
            let closed = reasons(&gates);
            if is_open {
                tracing::info!(heartbeat = self.spec.name, "evidence holds, beating");
            } else {
                tracing::warn!(heartbeat = self.spec.name, closed, "beat withheld");
            }
            self.was_open = Some(is_open);
        }
        gates
    }

    fn gates(&self, now: Stamp) -> Vec<Gate> {
        gates(&self.spec, self.lease.borrow().as_ref(), now)
    }

    fn may_beat(&self) -> bool {
        self.gates((self.clock)()).iter().all(Gate::is_open)
    }

    async fn beat(&mut self) {
        let evidence: Vec<&str> =
            self.spec.when.iter().filter_map(|it| Some(it.subject()?.1)).collect();
        let text = format!("evidence from {}", evidence.join(", "));
        let Some((plan, driver)) = self.prepare(&text) else { return };
        // An hour of tries would run into the next beats; what is left is the next beat's business.
        let budget = self.spec.interval.get().saturating_sub(self.spec.timeout.get() / 2);
        let until = tokio::time::Instant::now() + budget;
        for number in 1..=MAX_TRIES {
            // What held when the beat was due may not hold any more.
            if !self.may_beat() {
                return;
            }
            let host = plan.fallback.as_ref().filter(|_| uses_fallback(number));
            let attempt = driver.attempt(&plan.beat, &plan.accept, host).await;
            self.note(&attempt);
            if attempt.result == SendResult::Accepted {
                return self.accepted(plan.read_back.as_ref());
            }
            if !attempt.result.is_worth_a_retry() {
                return;
            }
            let wait = attempt.retry_after.unwrap_or_default().max(backoff(number));
            let next = tokio::time::Instant::now() + wait;
            if next >= until {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn signal_failure(&mut self, gates: &[Gate]) -> bool {
        let text = reasons(gates);
        let Some((plan, driver)) = self.prepare(&text) else { return false };
        // A service without such a signal has been told all that it can be told.
        let Some(fail) = &plan.fail else { return true };
        let attempt = driver.attempt(fail, &plan.accept, None).await;
        tracing::info!(heartbeat = self.spec.name, detail = attempt.detail, "failure signalled");
        attempt.result == SendResult::Accepted
    }

    fn prepare(&self, text: &str) -> Option<(Plan, Driver)> {
        let message =
            Message { heartbeat: &self.spec.name, watchpost: &self.watchpost, text: &short(text) };
        let made =
            plan(&self.spec, message, &Files).and_then(|plan| Ok((plan, Driver::new(&self.spec)?)));
        made.map_err(|error| self.note(&Attempt::new(SendResult::Setup, error.to_string()))).ok()
    }

    fn note(&self, attempt: &Attempt) {
        let name = self.spec.name.as_str();
        self.meter.sends.with_label_values(&[name, attempt.result.label()]).inc();
        self.view.send_modify(|view| view.last = Some(attempt.clone()));
        if attempt.result != SendResult::Accepted {
            let (result, detail) = (attempt.result.label(), &attempt.detail);
            tracing::warn!(heartbeat = name, result, detail, "beat not accepted");
        }
    }

    fn accepted(&mut self, read_back: Option<&ReadBack>) {
        let now = (self.clock)();
        self.meter.last_sent.with_label_values(&[&self.spec.name]).set(now.unix_seconds());
        self.view.send_modify(|view| view.accepted = Some(now.wall));
        if read_back.is_some() {
            self.proof.moved.get_or_insert(now);
            let delay = READ_BACK_DELAY.min(self.spec.interval.get() / 2);
            self.proof.ask.get_or_insert(now.plus(delay));
        }
    }

    /// Asks what was recorded, some time after each accepted beat.
    async fn ask_back(&mut self) {
        let now = (self.clock)();
        if self.proof.ask.is_none_or(|ask| now.boot < ask.boot) {
            return;
        }
        self.proof.ask = None;
        let Some((plan, driver)) = self.prepare("") else { return };
        let Some(read_back) = &plan.read_back else { return };
        let answer = driver.recorded(read_back).await;
        self.proof.judge(answer, read_back.max_lag, (self.clock)());
        self.tell_proof();
    }

    fn tell_proof(&self) {
        let name = self.spec.name.as_str();
        let recorded = self.proof.last.as_ref().and_then(|last| last.at);
        if let Some(at) = recorded {
            let seconds = Stamp::new(at, Duration::ZERO).unix_seconds();
            self.meter.recorded.with_label_values(&[name]).set(seconds);
        }
        let ok = i64::from(self.proof.problem.is_none());
        self.meter.recorded_ok.with_label_values(&[name]).set(ok);
        let was_good = self.view.borrow().not_recorded.is_none();
        self.view.send_modify(|view| {
            view.recorded = recorded;
            view.not_recorded.clone_from(&self.proof.problem);
        });
        if let (true, Some(problem)) = (was_good, &self.proof.problem) {
            tracing::error!(heartbeat = name, problem, "accepted, but not recorded");
        }
    }
}

impl Proof {
    fn judge(&mut self, answer: Result<Recorded, String>, max_lag: Duration, now: Stamp) {
        let since = self.moved.map_or(Duration::ZERO, |moved| now.since(moved));
        let recorded = match answer {
            Ok(recorded) => recorded,
            Err(detail) => {
                // That we cannot ask says nothing about the beat, until it lasts.
                if since > max_lag {
                    self.problem = Some(format!("the service does not tell: {detail}"));
                }
                return;
            }
        };
        let before = self.last.as_ref().map(|last| last.at);
        let has_moved = before.is_some_and(|before| recorded.at > before);
        if has_moved {
            self.moved = Some(now);
        }
        self.problem = if let Some(muted) = &recorded.muted {
            Some(format!("the service does not watch: {muted}"))
        } else if !has_moved && since > max_lag {
            let last = recorded.at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            Some(format!("the service has accepted beats and recorded none since {last}"))
        } else if has_moved {
            None
        } else {
            self.problem.take().filter(|_| since > max_lag)
        };
        self.last = Some(recorded);
    }
}

/// A beat sent by hand, gates aside: `watchpost heartbeat test`. What was answered, and what the service says that it
/// has recorded, where it can be asked.
pub async fn try_once(spec: &Spec, watchpost: &str) -> (Attempt, Option<Result<Recorded, String>>) {
    let message = Message { heartbeat: &spec.name, watchpost, text: "sent by hand" };
    let made = plan(spec, message, &Files).and_then(|plan| Ok((plan, Driver::new(spec)?)));
    let (plan, driver) = match made {
        Ok(made) => made,
        Err(error) => return (Attempt::new(SendResult::Setup, error.to_string()), None),
    };
    let attempt = driver.attempt(&plan.beat, &plan.accept, None).await;
    let recorded = match &plan.read_back {
        Some(read_back) => Some(driver.recorded(read_back).await),
        None => None,
    };
    (attempt, recorded)
}

const fn uses_fallback(number: u32) -> bool {
    number > OWN_HOST_TRIES && number % 2 == 1
}

/// Between half and all of its bound, so that many who failed together do not return together.
fn backoff(number: u32) -> Duration {
    let most = BACKOFF.saturating_mul(number);
    let random = RandomState::new().hash_one(number) % 1_000;
    let random = u32::try_from(random).unwrap_or_default();
    most / 2 + (most / 2).saturating_mul(random) / 1_000
}

fn phase(heartbeat: &str, watchpost: &str) -> f64 {
    let digest = Sha256::digest(format!("{heartbeat}\0{watchpost}"));
    let first: [u8; 4] = digest[..4].try_into().expect("a SHA-256 digest has 32 bytes");
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}

fn reasons(gates: &[Gate]) -> String {
    let closed = gates.iter().filter_map(|gate| Some((&gate.name, gate.closed.as_ref()?)));
    closed.map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; ")
}

/// The least that any service takes (Dead Man's Snitch), so that none refuses a beat for its text.
const MAX_TEXT: usize = 240;

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp::new(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what a driver answers")]
    fn recorded(second: Option<i64>) -> Result<Recorded, String> {
        let at = second.map(|second| Timestamp::from_second(second).unwrap());
        Ok(Recorded { at, muted: None })
    }

    const LAG: Duration = Duration::from_mins(3);

    #[test]
    fn only_progress_proves_a_beat_whatever_the_clock_there() {
        let mut proof = Proof { moved: Some(at(0)), ..Proof::default() };
        // A clock that is years off.
        proof.judge(recorded(Some(5_000)), LAG, at(15));
        assert_eq!(proof.problem, None);
        proof.judge(recorded(Some(5_060)), LAG, at(75));
        assert_eq!(proof.problem, None);
        proof.judge(recorded(Some(5_060)), LAG, at(250));
        assert_eq!(proof.problem, None, "within the lag");
        proof.judge(recorded(Some(5_060)), LAG, at(256));
        assert!(proof.problem.is_some());
        proof.judge(recorded(Some(5_320)), LAG, at(320));
        assert_eq!(proof.problem, None);
    }

    #[test]
    fn a_switch_that_never_saw_a_beat_is_found_out() {
        let mut proof = Proof { moved: Some(at(0)), ..Proof::default() };
        proof.judge(recorded(None), LAG, at(15));
        proof.judge(recorded(None), LAG, at(200));
        assert!(proof.problem.as_ref().unwrap().contains("never"));
    }

    #[test]
    fn a_paused_switch_and_a_silent_api_are_told_apart() {
        let mut proof = Proof { moved: Some(at(0)), ..Proof::default() };
        proof.judge(Err("status 401".into()), LAG, at(15));
        assert_eq!(proof.problem, None);
        proof.judge(Err("status 401".into()), LAG, at(200));
        assert!(proof.problem.as_ref().unwrap().contains("status 401"));
        let muted = Some("paused is true".to_owned());
        proof.judge(Ok(Recorded { at: None, muted }), LAG, at(201));
        assert!(proof.problem.as_ref().unwrap().contains("paused"));
    }

    #[test]
    fn the_other_host_is_used_in_turn() {
        let used: Vec<u32> = (1..=MAX_TRIES).filter(|number| uses_fallback(*number)).collect();
        assert_eq!(used, [3, 5]);
        for number in 1..=MAX_TRIES {
            assert!(backoff(number) <= BACKOFF * number);
        }
    }
}
