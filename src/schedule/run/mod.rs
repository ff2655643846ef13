//! The loop: waits for due times, keeps the runs, hands on their outcomes.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Anchor, Limits, Meters, Moment, Plan, Runner, Shard, SlotId, Start};
use crate::clock;
use crate::model::{Check, CheckId, Outcome, Stamp};

/// What is due within one tick begins together, at its end: waking up costs more than the exchange itself.
pub const TICK: Duration = Duration::from_millis(4);
/// The longest sleep. A suspend is noticed no later than this after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// What the loop can be told.
#[derive(Debug)]
pub enum Command {
    /// Replaces the list of checks.
    Apply(Vec<Arc<Check>>),
    /// Asks again this soon, to confirm or refute a change of status.
    Retry { id: CheckId, after: Duration },
    /// Replaces the set of checks that are not run for now.
    Pause(HashSet<CheckId>),
}

/// A run that ended.
#[derive(Debug)]
pub struct Finished {
    pub id: CheckId,
    pub outcome: Outcome,
    /// Out of turn, because of a [`Command::Retry`].
    pub early: bool,
}

/// The two steps of an end: stop scheduling and let runs finish; drop the rest.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    pub stop: CancellationToken,
    pub abandon: CancellationToken,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// Nobody takes outcomes any more.
    OwnerGone,
}

/// The loop, not yet running.
#[derive(Debug)]
pub struct Schedule {
    plan: Plan,
    meters: Meters,
}

impl Schedule {
    pub fn new(limits: Limits, shard: Shard, watchpost_id: &str, meters: Meters) -> Self {
        Self { plan: Plan::new(watchpost_id, shard, limits), meters }
    }

    /// Runs checks until told to end. All runs live in this one future: dropping it drops them.
    pub async fn run<R: Runner>(
        self,
        runner: &R,
        mut commands: mpsc::Receiver<Command>,
        finished: mpsc::Sender<Finished>,
        ending: Ending,
    ) -> Ended {
        let mut desk = Desk::new(self, finished);
        let mut runs = FuturesUnordered::new();
        let mut starts = Vec::new();
        let mut sleep = pin!(sleep_until(Instant::now()));
        let mut abandon = pin!(ending.abandon.cancelled());
        let mut stop = pin!(ending.stop.cancelled());
        let (mut commanded, mut stopping) = (true, false);
        loop {
            let stamp = desk.look();
            if !stopping {
                desk.due(stamp, &mut starts);
            }
            runs.extend(starts.drain(..).map(|start| run_one(runner, start, stamp)));
            desk.count(runs.len());
            if stopping && runs.is_empty() && desk.outbox.is_empty() {
                return Ended::Stopped;
            }
            let wake = desk.wake();
            if sleep.deadline() != wake {
                sleep.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                () = &mut abandon => return Ended::Stopped,
                () = &mut stop, if !stopping => stopping = true,
                command = commands.recv(), if commanded && !stopping => match command {
                    Some(command) => desk.obey(command),
                    None => commanded = false,
                },
                room = desk.finished.clone().reserve_owned(), if !desk.outbox.is_empty() => {
                    let Ok(room) = room else { return Ended::OwnerGone };
                    desk.deliver(room);
                }
                Some(done) = runs.next(), if !runs.is_empty() => {
                    let mut next = Some(done);
                    while let Some(done) = next {
                        if desk.hand_on(done) == Handed::NobodyThere {
                            return Ended::OwnerGone;
                        }
                        next = runs.next().now_or_never().flatten();
                    }
                }
                () = &mut sleep, if !stopping => {}
            }
        }
    }
}

/// A run that has just ended.
#[derive(Debug)]
struct Done {
    slot: SlotId,
    early: bool,
    outcome: Outcome,
}

fn run_one<R: Runner>(runner: &R, start: Start, began: Stamp) -> impl Future<Output = Done> {
    let Start { slot, check, early, .. } = start;
    async move {
        let outcome = runner.run(&check, began).await;
        Done { slot, early, outcome }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Handed {
    Taken,
    NobodyThere,
}

/// The loop's state beside the runs.
#[derive(Debug)]
struct Desk {
    plan: Plan,
    meters: Meters,
    anchor: Anchor,
    now: Moment,
    finished: mpsc::Sender<Finished>,
    /// Outcomes that the reader has no room for. One for each check at most, as the plan runs no check whose outcome
    /// waits.
    outbox: VecDeque<(SlotId, Finished)>,
    in_flight: usize,
    waiting: usize,
}

impl Desk {
    fn new(schedule: Schedule, finished: mpsc::Sender<Finished>) -> Self {
        let stamp = clock::now();
        let mut anchor = Anchor::new(stamp, Instant::now());
        let now = anchor.moment(Instant::now(), stamp.boot);
        Self {
            plan: schedule.plan,
            meters: schedule.meters,
            anchor,
            now,
            finished,
            outbox: VecDeque::new(),
            in_flight: 0,
            waiting: 0,
        }
    }

    /// Looks at the clocks.
    fn look(&mut self) -> Stamp {
        let stamp = clock::now();
        self.now = self.anchor.moment(Instant::now(), stamp.boot);
        stamp
    }

    fn due(&mut self, stamp: Stamp, starts: &mut Vec<Start>) {
        self.plan.due(self.now, stamp.wall, starts);
        for start in &*starts {
            self.meters.began(start.late);
        }
        self.meters.skipped(self.plan.take_skips());
    }

    fn wake(&self) -> Instant {
        let next = self.plan.next().map_or(Moment::NEVER, |next| next.round_up(TICK));
        self.anchor.instant(next, Instant::now(), LONGEST_SLEEP)
    }

    fn obey(&mut self, command: Command) {
        self.look();
        match command {
            Command::Apply(checks) => self.plan.apply(checks, self.now),
            Command::Retry { id, after } => self.plan.retry(id, after, self.now),
            Command::Pause(paused) => self.plan.pause(paused, self.now),
        }
    }

    /// Hands an outcome on, or keeps it until there is room; in any case at once.
    fn hand_on(&mut self, done: Done) -> Handed {
        let Some(id) = self.plan.ended(done.slot) else {
            self.plan.delivered(done.slot);
            return Handed::Taken;
        };
        let finished = Finished { id, outcome: done.outcome, early: done.early };
        if !self.outbox.is_empty() {
            self.outbox.push_back((done.slot, finished));
            return Handed::Taken;
        }
        match self.finished.try_send(finished) {
            Ok(()) => self.plan.delivered(done.slot),
            Err(TrySendError::Full(finished)) => self.outbox.push_back((done.slot, finished)),
            Err(TrySendError::Closed(_)) => return Handed::NobodyThere,
        }
        Handed::Taken
    }

    /// Uses the room that the reader made.
    fn deliver(&mut self, room: mpsc::OwnedPermit<Finished>) {
        let mut room = Some(room);
        while let Some((slot, finished)) = self.outbox.pop_front() {
            if self.plan.wanted(slot).is_none() {
                self.plan.delivered(slot);
                continue;
            }
            let Some(permit) = room.take() else {
                self.outbox.push_front((slot, finished));
                return;
            };
            room = permit.send(finished).try_reserve_owned().ok();
            self.plan.delivered(slot);
        }
    }

    /// Tells how many runs go on and wait. Lanes add up.
    fn count(&mut self, in_flight: usize) {
        let waiting = self.plan.waiting();
        self.meters.in_flight.add(difference(self.in_flight, in_flight));
        self.meters.waiting.add(difference(self.waiting, waiting));
        (self.in_flight, self.waiting) = (in_flight, waiting);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.meters.in_flight.sub(difference(0, self.in_flight));
        self.meters.waiting.sub(difference(0, self.waiting));
    }
}

fn difference(before: usize, after: usize) -> i64 {
    let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    signed(after) - signed(before)
}

#[cfg(test)]
pub(crate) mod tests;
