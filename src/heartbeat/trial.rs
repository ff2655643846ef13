//! A beat sent by hand, gates aside: `watchpost heartbeat test`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::driver::{Attempt, Driver, Recorded, SendResult, Untold, Wire};
use super::spec::Spec;
use super::vendor::{Files, Message, ReadBack, plan};
use crate::net::Resolver;

/// Between two questions whether the beat was recorded.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What came of a beat sent by hand.
#[derive(Debug)]
pub struct Trial {
    pub attempt: Attempt,
    /// `None` where the service cannot be asked, or did not accept the beat.
    pub recorded: Option<Verdict>,
}

/// Whether the beat was recorded.
#[derive(Debug)]
pub enum Verdict {
    /// What the service says has moved.
    Recorded(Recorded),
    /// It did, on a monitor that was not there before.
    MadeOnTheFly(Recorded),
    /// The service does not watch: why.
    Muted(String),
    /// Accepted, and nothing moved in time.
    NotRecorded(Option<Recorded>),
    Untold(Untold),
}

/// Sends one beat and asks for up to `patience` whether it was recorded.
pub async fn try_once(spec: &Spec, watchpost: &str, names: &Resolver, patience: Duration) -> Trial {
    let message = Message { heartbeat: &spec.name, watchpost, text: "sent by hand" };
    let made = plan(spec, message, &Files);
    let made = made.and_then(|plan| Ok((plan, Driver::new(spec, names)?)));
    let (plan, driver) = match made {
        Ok(made) => made,
        Err(error) => {
            let attempt = Attempt::new(SendResult::Setup, error.to_string());
            return Trial { attempt, recorded: None };
        }
    };
    let before = match &plan.read_back {
        Some(read_back) => Some(driver.recorded(read_back).await),
        None => None,
    };
    let attempt = driver.attempt(&plan.beat, &plan.accept, None).await;
    let recorded = match (&plan.read_back, before) {
        (Some(read_back), Some(before)) if attempt.result == SendResult::Accepted => {
            Some(watch(&driver, read_back, before, patience).await)
        }
        _ => None,
    };
    Trial { attempt, recorded }
}

async fn watch(
    driver: &Driver,
    read_back: &ReadBack,
    before: Result<Recorded, Untold>,
    patience: Duration,
) -> Verdict {
    let end = Instant::now() + patience;
    let was_missing = before == Err(Untold::Missing);
    let before = before.ok().and_then(|before| before.at);
    loop {
        let answer = driver.recorded(read_back).await;
        let is_last = Instant::now() + ASK_EVERY > end;
        match answer {
            Ok(recorded) if recorded.muted.is_some() => {
                return Verdict::Muted(recorded.muted.unwrap_or_default());
            }
            Ok(recorded) if recorded.at > before && was_missing => {
                return Verdict::MadeOnTheFly(recorded);
            }
            Ok(recorded) if recorded.at > before => return Verdict::Recorded(recorded),
            Ok(recorded) if is_last => return Verdict::NotRecorded(Some(recorded)),
            Err(Untold::Missing) if is_last => return Verdict::NotRecorded(None),
            Err(error) if is_last => return Verdict::Untold(error),
            _ => sleep(ASK_EVERY).await,
        }
    }
}
