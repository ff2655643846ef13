//! One errand to a service: a beat with its tries, the word that something failed, or the question what was recorded.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::driver::{Attempt, Driver, Recorded, SendResult, Untold, Wire};
use super::gate::{Gate, Lease, gates};
use super::meter::Meter;
use super::sender::{Setup, View};
use super::spec::Spec;
use super::vendor::{Files, Message, NoPlan, Plan, plan};
use crate::model::Stamp;
use crate::net::Resolver;

/// Tries for one beat.
const MAX_TRIES: u32 = 6;
/// Tries at the service's own host before its stand-in is used in turn.
const OWN_HOST_TRIES: u32 = 2;
/// Between tries: up to this, times the number of the try.
const BACKOFF: Duration = Duration::from_millis(1_500);
/// The least that any service takes (Dead Man's Snitch), so that none refuses a beat for its text.
const MAX_TEXT: usize = 240;

/// Makes the way to a service.
pub type Connect = Arc<dyn Fn(&Spec) -> Result<Arc<dyn Wire>, NoPlan> + Send + Sync>;

/// The way over HTTP, with names asked of `names`.
pub fn over_http(names: Resolver) -> Connect {
    Arc::new(move |spec| Ok(Arc::new(Driver::new(spec, &names)?)))
}

/// What came of an errand.
#[derive(Debug)]
pub(super) enum Landed {
    Beat {
        /// What the service said before the first beat.
        before: Option<Result<Recorded, Untold>>,
        accepted: bool,
        /// The service can be asked what it recorded.
        can_ask: bool,
    },
    Failure {
        told: bool,
    },
    Answer {
        answer: Result<Recorded, Untold>,
        max_lag: Duration,
    },
    Nothing,
}

/// Everything that an errand needs.
#[derive(Clone)]
pub(super) struct Courier {
    pub(super) spec: Arc<Spec>,
    pub(super) lease: watch::Receiver<Option<Lease>>,
    pub(super) meter: Meter,
    pub(super) view: watch::Sender<View>,
    watchpost: Arc<str>,
    connect: Connect,
    clock: fn() -> Stamp,
}

impl Courier {
    pub(super) fn new(spec: Arc<Spec>, setup: Setup, view: watch::Sender<View>) -> Self {
        let Setup { watchpost, lease, meter, connect, clock } = setup;
        Self { spec, lease, meter, view, watchpost, connect, clock }
    }

    pub(super) fn now(&self) -> Stamp {
        (self.clock)()
    }

    fn may_beat(&self) -> bool {
        let all = gates(&self.spec, self.lease.borrow().as_ref(), self.now());
        all.iter().all(Gate::is_open)
    }

    /// Tries until it is accepted, refused, or the next beat is near.
    pub(super) async fn beat(self, is_first: bool) -> Landed {
        // The time of tries ends before the next beat is due.
        let budget = self.spec.interval.get().saturating_sub(self.spec.timeout.get() / 2);
        let until = Instant::now() + budget;
        let evidence: Vec<&str> =
            self.spec.when.iter().filter_map(|it| Some(it.subject()?.1)).collect();
        let text = format!("evidence from {}", evidence.join(", "));
        let Some((plan, wire)) = self.prepare(&text).await else { return Landed::Nothing };
        let before = match &plan.read_back {
            Some(read_back) if is_first => Some(wire.recorded(read_back).await),
            _ => None,
        };
        let accepted = self.try_until(until, &plan, &*wire).await;
        Landed::Beat { before, accepted, can_ask: plan.read_back.is_some() }
    }

    async fn try_until(&self, until: Instant, plan: &Plan, wire: &dyn Wire) -> bool {
        for number in 1..=MAX_TRIES {
            // What held when the beat was due may not hold any more.
            if !self.may_beat() {
                return false;
            }
            let host = plan.fallback.as_ref().filter(|_| uses_fallback(number));
            let attempt = wire.attempt(&plan.beat, &plan.accept, host).await;
            self.note(&attempt);
            if attempt.result == SendResult::Accepted {
                return true;
            }
            if !attempt.result.is_worth_a_retry() {
                return false;
            }
            let wait = attempt.retry_after.unwrap_or_default().max(backoff(number));
            let Some(next) = Instant::now().checked_add(wait).filter(|next| *next < until) else {
                return false;
            };
            sleep_until(next).await;
        }
        false
    }

    pub(super) async fn signal_failure(self, why: String) -> Landed {
        let Some((plan, wire)) = self.prepare(&why).await else {
            return Landed::Failure { told: false };
        };
        // A service without such a signal has been told all that it can be told.
        let Some(fail) = &plan.fail else { return Landed::Failure { told: true } };
        let attempt = wire.attempt(fail, &plan.accept, None).await;
        let detail = &attempt.detail;
        let told = attempt.result == SendResult::Accepted;
        if told {
            tracing::warn!(heartbeat = self.spec.name, why, "the service was told that it failed");
        } else {
            tracing::warn!(heartbeat = self.spec.name, detail, "the failure could not be told");
        }
        Landed::Failure { told }
    }

    /// Asks what was recorded.
    pub(super) async fn ask(self) -> Landed {
        let Some((plan, wire)) = self.prepare("").await else { return Landed::Nothing };
        let Some(read_back) = &plan.read_back else { return Landed::Nothing };
        let answer = wire.recorded(read_back).await;
        Landed::Answer { answer, max_lag: read_back.max_lag }
    }

    /// Reads secrets, in a thread of its own: a file system that hangs must not stop the gates from being looked at.
    async fn prepare(&self, text: &str) -> Option<(Plan, Arc<dyn Wire>)> {
        let (spec, watchpost) = (Arc::clone(&self.spec), Arc::clone(&self.watchpost));
        let (connect, text) = (Arc::clone(&self.connect), short(text));
        let making = tokio::task::spawn_blocking(move || {
            let message = Message { heartbeat: &spec.name, watchpost: &watchpost, text: &text };
            plan(&spec, message, &Files).and_then(|plan| Ok((plan, connect(&spec)?)))
        });
        let failed = match timeout(self.spec.timeout.get(), making).await {
            Ok(Ok(Ok(made))) => return Some(made),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "a defect of watchpost".to_owned(),
            Err(_) => "its files could not be read in time".to_owned(),
        };
        self.note(&Attempt::new(SendResult::Setup, failed));
        None
    }

    fn note(&self, attempt: &Attempt) {
        let name = self.spec.name.as_str();
        self.meter.attempt(name, attempt.result);
        let now = self.now();
        let is_accepted = attempt.result == SendResult::Accepted;
        if is_accepted {
            self.meter.accepted(name, now);
        } else {
            let (result, detail) = (attempt.result.label(), &attempt.detail);
            tracing::warn!(heartbeat = name, result, detail, "beat not accepted");
        }
        self.view.send_modify(|view| {
            view.last = Some(attempt.clone());
            if is_accepted {
                view.accepted = Some(now.wall);
            }
        });
    }
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

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_host_is_used_in_turn() {
        let used: Vec<u32> = (1..=MAX_TRIES).filter(|number| uses_fallback(*number)).collect();
        assert_eq!(used, [3, 5]);
        for number in 1..=MAX_TRIES {
            assert!(backoff(number) <= BACKOFF * number);
        }
    }
}
