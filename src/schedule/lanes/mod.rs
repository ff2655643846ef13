//! The schedule on several threads: each lane is a thread with a runtime of its own and a [`Schedule`] over its share.
//!
//! Checks are shared out by host, so that a limit for a host is one lane's affair. Lanes have nothing to agree on; a
//! connection is opened, used and closed on one thread.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{join_all, select_all};
use tokio::sync::{mpsc, watch};

use super::gate::HostKey;
use super::phase::share;
use super::{Command, Ended, Ending, Finished, Limits, Meters, Runner, Schedule, Shard};
use crate::model::{Check, CheckId};

/// Commands that a lane has not obeyed yet.
const MAX_COMMANDS: usize = 1024;
/// More threads than this only wake each other up.
const MAX_LANES: usize = 16;
/// How long a lane that was told to drop everything may take.
const ABANDON_WITHIN: Duration = Duration::from_secs(1);

/// What all lanes are made from.
#[derive(Debug)]
pub struct Setup {
    /// How many lanes; `None` for one for each two cores.
    pub lanes: Option<usize>,
    pub limits: Limits,
    pub shard: Shard,
    pub watchpost_id: String,
    pub meters: Meters,
}

/// A lane that ended although nobody asked it to: a defect, or the reader of outcomes is gone. The process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneFailed {
    #[error("lane {lane} panicked: {message}")]
    Panicked { lane: usize, message: String },
    #[error("lane {lane} ended because nobody takes outcomes any more")]
    OwnerGone { lane: usize },
}

type End = Option<Result<(), LaneFailed>>;

#[derive(Debug)]
struct Lane {
    commands: mpsc::Sender<Command>,
    end: watch::Receiver<End>,
}

/// The running lanes.
#[derive(Debug)]
pub struct Lanes {
    each: Vec<Lane>,
    ending: Ending,
    /// Which lane a check is on.
    homes: ArcSwap<HashMap<CheckId, usize>>,
}

impl Lanes {
    /// Starts the threads. `make_runner` is called once on each, inside its runtime.
    pub fn start<R, F>(
        setup: &Setup,
        make_runner: F,
        finished: &mpsc::Sender<Finished>,
    ) -> io::Result<Self>
    where
        R: Runner,
        F: Fn(usize) -> R + Send + Sync + 'static,
    {
        let count = setup.lanes.unwrap_or_else(default_lanes).clamp(1, MAX_LANES);
        let limits = setup.limits.divided(count);
        let make_runner = Arc::new(make_runner);
        // Dropped with those that were started when one cannot be.
        let mut started =
            Self { each: Vec::new(), ending: Ending::default(), homes: ArcSwap::default() };
        for index in 0..count {
            let (meters, id) = (setup.meters.clone(), &setup.watchpost_id);
            let schedule = Schedule::new(limits, setup.shard, id, meters);
            let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
            let (report, end) = watch::channel(None);
            let (make_runner, finished) = (make_runner.clone(), finished.clone());
            let ending = started.ending.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let work = move || {
                let ran = catch_unwind(AssertUnwindSafe(|| {
                    runtime.block_on(async {
                        let runner = make_runner(index);
                        schedule.run(&runner, receiver, finished, ending).await
                    })
                }));
                report.send_replace(Some(judge(index, ran)));
            };
            thread::Builder::new().name(format!("lane-{index}")).spawn(work)?;
            started.each.push(Lane { commands, end });
        }
        Ok(started)
    }

    /// Replaces the list of checks.
    pub async fn apply(&self, checks: Vec<Arc<Check>>) {
        let mut shares: Vec<Vec<Arc<Check>>> = vec![Vec::new(); self.each.len()];
        let mut homes = HashMap::with_capacity(checks.len());
        for check in checks {
            let lane = self.lane_of(&check);
            homes.insert(check.id, lane);
            shares[lane].push(check);
        }
        self.homes.store(Arc::new(homes));
        for (lane, share) in self.each.iter().zip(shares) {
            lane.tell(Command::Apply(share)).await;
        }
    }

    /// Asks a check again soon. Never waits; `false` when the lane is too busy to listen, so that the check is asked at
    /// its next due time only.
    pub fn retry(&self, id: CheckId, after: Duration) -> bool {
        let Some(lane) = self.homes.load().get(&id).copied() else { return false };
        self.each[lane].commands.try_send(Command::Retry { id, after }).is_ok()
    }

    /// Replaces the set of checks that are not run for now.
    pub async fn pause(&self, paused: &HashSet<CheckId>) {
        for lane in &self.each {
            lane.tell(Command::Pause(paused.clone())).await;
        }
    }

    /// Waits until a lane fails; for ever when none does. The process must not go on without it.
    pub async fn failed(&self) -> LaneFailed {
        let failures = self.each.iter().map(|lane| Box::pin(lane.failed()));
        select_all(failures).await.0
    }

    /// Starts no more runs, lets those that go on finish for `grace`, and drops the rest without an outcome.
    ///
    /// Outcomes are still sent meanwhile: keep reading them.
    pub async fn shutdown(&self, grace: Duration) {
        self.ending.stop.cancel();
        if tokio::time::timeout(grace, self.ended()).await.is_ok() {
            return;
        }
        self.ending.abandon.cancel();
        if tokio::time::timeout(ABANDON_WITHIN, self.ended()).await.is_err() {
            tracing::warn!("a lane does not end; it is left behind");
        }
    }

    pub fn count(&self) -> usize {
        self.each.len()
    }

    fn lane_of(&self, check: &Check) -> usize {
        let host = HostKey::of(&check.target.address);
        usize::try_from(share(host.get(), self.each.len() as u64)).expect("lanes are few")
    }

    async fn ended(&self) {
        join_all(self.each.iter().map(Lane::ended)).await;
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.ending.abandon.cancel();
    }
}

impl Lane {
    /// A lane that has ended listens to nothing; [`Lanes::failed`] tells why.
    async fn tell(&self, command: Command) {
        self.commands.send(command).await.ok();
    }

    async fn ended(&self) -> End {
        let mut end = self.end.clone();
        end.wait_for(Option::is_some).await.map_or(None, |end| end.clone())
    }

    async fn failed(&self) -> LaneFailed {
        match self.ended().await {
            Some(Err(failed)) => failed,
            _ => std::future::pending().await,
        }
    }
}

/// Runs wait most of their time, and what they do is one share of the machine's work: half of the cores will do.
fn default_lanes() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1)
}

fn judge(lane: usize, ran: Result<Ended, Box<dyn Any + Send>>) -> Result<(), LaneFailed> {
    match ran {
        Ok(Ended::Stopped) => Ok(()),
        Ok(Ended::OwnerGone) => Err(LaneFailed::OwnerGone { lane }),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let message = text.unwrap_or_else(|| "no message".to_owned());
            Err(LaneFailed::Panicked { lane, message })
        }
    }
}

#[cfg(test)]
mod tests;
