//! Asking again within one run, for modules that say so.
//!
//! It hides nothing: the number of attempts and the reasons of those that failed are told, the run takes as long as all
//! of them together, and the last attempt's facts and fault are the run's.

use std::time::Duration;

use tokio::time::sleep;

use super::{Ask, Prober, Report, Verdict};
use crate::model::{Answer, Fact, GoDuration, Mistakes, family};
use crate::net::Deadline;

/// More is a way not to hear what is wrong.
const MAX_RETRIES: u32 = 10;
const DEFAULT_BACKOFF: Duration = Duration::from_millis(100);
/// With less time left nothing is asked again: the attempt would only tell that there was no time.
const MIN_ATTEMPT: Duration = Duration::from_millis(100);

/// How often and how soon a module asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    retries: u32,
    /// Before the first retry; twice as long before each further one.
    backoff: Duration,
    /// The budget of one attempt; `None` is all that is left.
    attempt: Option<Duration>,
}

/// The keys of a module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Keys {
    pub(super) retries: Option<u32>,
    pub(super) backoff: Option<GoDuration>,
    pub(super) attempt_timeout: Option<GoDuration>,
}

impl Keys {
    pub(super) fn build(self, mistakes: &mut Mistakes) -> Option<Retry> {
        let retries = self.retries.unwrap_or_default();
        if retries > MAX_RETRIES {
            let what = format!("at most {MAX_RETRIES} retries are made");
            mistakes.error("retries", what, "a run that fails that often has failed");
        }
        for (key, given) in
            [("retry_backoff", self.backoff), ("attempt_timeout", self.attempt_timeout)]
        {
            if given.is_some_and(|given| given.seconds() < 0.0) {
                mistakes.error(key, "a negative duration", "write one such as 500ms");
            } else if given.is_some() && retries == 0 {
                mistakes.warning(key, "it means nothing without retries", "set retries");
            }
        }
        (retries > 0).then(|| Retry {
            retries,
            backoff: self.backoff.map_or(DEFAULT_BACKOFF, |b| b.positive().unwrap_or_default()),
            attempt: self.attempt_timeout.and_then(GoDuration::positive),
        })
    }
}

impl Retry {
    /// Asks until an attempt does not fail, or until attempts or time are used up.
    pub(super) async fn run(self, prober: &Prober, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let mut failures: Vec<(&'static str, u32)> = Vec::new();
        let mut pause = self.backoff;
        for attempt in 1_u32.. {
            let deadline = self.deadline(ask.deadline);
            let verdict = prober.run(&Ask { deadline, ..*ask }, report).await;
            if let Err(Answer::Fail(fault)) = &verdict {
                count(&mut failures, fault.reason().label());
                report.note(|| format!("attempt {attempt} failed: {fault}"));
                if attempt <= self.retries
                    && ask.deadline.left() >= pause.saturating_add(MIN_ATTEMPT)
                {
                    sleep(pause).await;
                    pause = pause.saturating_mul(2);
                    report.start_over();
                    continue;
                }
            }
            report.set(&family::PROBE_ATTEMPTS, f64::from(attempt));
            for (reason, times) in failures {
                let family = &family::PROBE_ATTEMPT_FAILURES;
                report.add(Fact::labelled(family, "reason", reason, f64::from(times)));
            }
            return verdict;
        }
        Ok(())
    }

    fn deadline(self, whole: Deadline) -> Deadline {
        self.attempt.map_or(whole, |attempt| whole.at_most(attempt))
    }
}

fn count(failures: &mut Vec<(&'static str, u32)>, reason: &'static str) {
    match failures.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, times)) => *times += 1,
        None => failures.push((reason, 1)),
    }
}
