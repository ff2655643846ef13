//! One heartbeat, kept going: gates, pace, and what is known of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::courier::{Connect, Courier, Landed};
use super::driver::Attempt;
use super::gate::{Closed, Gate, Lease, Pace, Step, Why, gates};
use super::meter::Meter;
use super::proof::Proof;
use super::spec::Spec;
use crate::model::Stamp;

/// How often the gates are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long after an accepted beat it is asked whether it was recorded.
const READ_BACK_DELAY: Duration = Duration::from_secs(15);

/// What is known about one heartbeat, for the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    pub name: String,
    /// The key of the service: `cronitor`.
    pub service: &'static str,
    pub interval_seconds: f64,
    pub gates: Vec<GateView>,
    pub open: bool,
    /// No gate has been open together with all others since the start, and it may take longer.
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

/// One gate, and since when it is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateView {
    pub name: String,
    pub closed: Option<Closed>,
    pub since: Timestamp,
}

/// What a sender is started with.
pub struct Setup {
    pub watchpost: Arc<str>,
    /// What the owner saw in its last pass.
    pub lease: watch::Receiver<Option<Lease>>,
    pub meter: Meter,
    pub connect: Connect,
    /// Reads the clocks: [`crate::clock::now`] but in tests.
    pub clock: fn() -> Stamp,
}

type Flight = BoxFuture<'static, Landed>;

/// One heartbeat on its way.
pub struct Sender {
    specs: watch::Receiver<Arc<Spec>>,
    courier: Courier,
    pace: Pace,
    proof: Proof,
    /// When to ask what was recorded.
    ask: Option<Stamp>,
    has_beaten: bool,
    /// Since when each gate is open or closed.
    since: HashMap<String, (bool, Stamp)>,
    /// Closed gates, as they were said in the log.
    said: Option<Vec<(String, Why)>>,
}

impl Sender {
    /// The sender, and where its view can be seen. It takes over whatever `specs` brings.
    pub fn new(
        mut specs: watch::Receiver<Arc<Spec>>,
        setup: Setup,
    ) -> (Self, watch::Receiver<View>) {
        let spec = Arc::clone(&specs.borrow_and_update());
        setup.meter.announce(&spec);
        let (view, seen) = watch::channel(View {
            name: spec.name.clone(),
            service: spec.service(),
            interval_seconds: spec.interval.get().as_secs_f64(),
            gates: Vec::new(),
            open: false,
            warming_up: true,
            accepted: None,
            last: None,
            recorded: None,
            not_recorded: None,
        });
        let pace = Pace::new(&spec, phase(&spec.name, &setup.watchpost), (setup.clock)());
        let mut sender = Self {
            specs,
            courier: Courier::new(spec, setup, view),
            pace,
            proof: Proof::default(),
            ask: None,
            has_beaten: false,
            since: HashMap::new(),
            said: None,
        };
        sender.look();
        (sender, seen)
    }

    /// Beats until `stop`. Dropping it is safe at any time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = self.tick();
        let mut flight: Option<Flight> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.specs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.configure() {
                        // It went to the service of before.
                        flight = None;
                    }
                    tick = self.tick();
                }
                landed = landing(&mut flight) => {
                    flight = None;
                    self.land(landed);
                }
                _ = tick.tick() => {}
            }
            let gates = self.look();
            if flight.is_none() {
                flight = self.take_off(&gates);
            }
        }
    }

    fn tick(&self) -> Interval {
        let mut tick = interval(TICK.min(self.courier.spec.interval.get() / 4));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    }

    fn now(&self) -> Stamp {
        self.courier.now()
    }

    /// Takes over another spec. True when beats go elsewhere from now on.
    fn configure(&mut self) -> bool {
        let spec = Arc::clone(&self.specs.borrow_and_update());
        let elsewhere = !spec.goes_where(&self.courier.spec);
        let meter = &self.courier.meter;
        meter.announce(&spec);
        self.pace.configure(&spec);
        if elsewhere {
            meter.begin_anew(&spec.name);
            self.pace.begin_anew();
            self.proof = Proof::default();
            self.ask = None;
            self.has_beaten = false;
        }
        self.courier.view.send_modify(|view| {
            view.service = spec.service();
            view.interval_seconds = spec.interval.get().as_secs_f64();
            if elsewhere {
                view.accepted = None;
                view.last = None;
                view.recorded = None;
                view.not_recorded = None;
            }
        });
        self.courier.spec = spec;
        elsewhere
    }

    /// Judges the gates and tells metrics, page and log.
    fn look(&mut self) -> Vec<Gate> {
        let now = self.now();
        let spec = &self.courier.spec;
        let gates = gates(spec, self.courier.lease.borrow().as_ref(), now);
        self.courier.meter.gates(&spec.name, &gates);
        self.since.retain(|name, _| gates.iter().any(|gate| gate.name == *name));
        let shown: Vec<GateView> =
            gates.iter().map(|gate| shown(&mut self.since, gate, now)).collect();
        let open = gates.iter().all(Gate::is_open);
        let warming_up = self.pace.is_warming_up(now) && !open;
        self.courier.view.send_if_modified(|view| {
            let changed = view.gates != shown || view.warming_up != warming_up;
            view.gates = shown;
            view.open = open;
            view.warming_up = warming_up;
            changed
        });
        self.say(&gates, warming_up);
        gates
    }

    /// Once per change, not once per beat that is withheld.
    fn say(&mut self, gates: &[Gate], warming_up: bool) {
        let closed: Vec<(String, Why)> = gates
            .iter()
            .filter_map(|gate| Some((gate.name.clone(), gate.closed.as_ref()?.why)))
            .collect();
        if self.said.as_ref() == Some(&closed) {
            return;
        }
        let heartbeat = self.courier.spec.name.as_str();
        let why = reasons(gates);
        if closed.is_empty() {
            tracing::info!(heartbeat, "all evidence holds: beating");
        } else if warming_up {
            tracing::info!(heartbeat, why, "no beat yet: evidence has to come in first");
        } else {
            tracing::warn!(heartbeat, why, "beat withheld");
        }
        self.said = Some(closed);
    }

    /// What is to be sent or asked now, if anything.
    fn take_off(&mut self, gates: &[Gate]) -> Option<Flight> {
        let now = self.now();
        match self.pace.step(gates.iter().all(Gate::is_open), now) {
            Step::Beat => {
                let is_first = !std::mem::replace(&mut self.has_beaten, true);
                return Some(Box::pin(self.courier.clone().beat(is_first)));
            }
            Step::SignalFailure => {
                return Some(Box::pin(self.courier.clone().signal_failure(reasons(gates))));
            }
            Step::Nothing => {}
        }
        if self.ask.is_none_or(|ask| now.boot < ask.boot) {
            return None;
        }
        self.ask = None;
        Some(Box::pin(self.courier.clone().ask()))
    }

    fn land(&mut self, landed: Landed) {
        let now = self.now();
        match landed {
            Landed::Beat { before, accepted, can_ask } => {
                if let Some(before) = before {
                    self.proof.before(before);
                }
                if accepted && can_ask {
                    self.proof.accepted(now);
                    let delay = READ_BACK_DELAY.min(self.courier.spec.interval.get() / 2);
                    self.ask.get_or_insert(now.plus(delay));
                }
            }
            Landed::Failure { told: true } => self.pace.failure_told(),
            Landed::Failure { told: false } | Landed::Nothing => {}
            Landed::Answer { answer, max_lag } => {
                self.proof.judge(answer, max_lag, now);
                self.tell_proof();
            }
        }
    }

    fn tell_proof(&self) {
        let name = self.courier.spec.name.as_str();
        let recorded = self.proof.recorded();
        let stamp = recorded.map(|at| Stamp::new(at, Duration::ZERO));
        self.courier.meter.proof(name, stamp, self.proof.is_good());
        let problem = self.proof.problem().map(str::to_owned);
        let before = self.courier.view.borrow().not_recorded.clone();
        if before.is_none()
            && let Some(problem) = &problem
        {
            tracing::error!(heartbeat = name, problem, "accepted, but not recorded");
        } else if before.is_some() && problem.is_none() {
            tracing::info!(heartbeat = name, "beats are recorded again");
        }
        self.courier.view.send_modify(|view| {
            view.recorded = recorded;
            view.not_recorded = problem;
        });
    }
}

async fn landing(flight: &mut Option<Flight>) -> Landed {
    match flight {
        Some(flight) => flight.await,
        None => std::future::pending().await,
    }
}

fn shown(since: &mut HashMap<String, (bool, Stamp)>, gate: &Gate, now: Stamp) -> GateView {
    let known = since.entry(gate.name.clone()).or_insert((gate.is_open(), now));
    if known.0 != gate.is_open() {
        *known = (gate.is_open(), now);
    }
    GateView { name: gate.name.clone(), closed: gate.closed.clone(), since: known.1.wall }
}

fn phase(heartbeat: &str, watchpost: &str) -> f64 {
    let digest = Sha256::digest(format!("{heartbeat}\0{watchpost}"));
    let first: [u8; 4] = digest[..4].try_into().expect("a SHA-256 digest has 32 bytes");
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}

fn reasons(gates: &[Gate]) -> String {
    let closed = gates.iter().filter_map(|gate| Some((&gate.name, gate.closed.as_ref()?)));
    closed.map(|(name, why)| format!("{name}: {}", why.detail)).collect::<Vec<_>>().join("; ")
}
