//! When checks run; never what a run does.
//!
//! [`Plan`] knows the due times and is told `now`. [`Schedule`] is the loop that waits for them, keeps the runs and hands
//! on their outcomes; [`Lanes`] puts one such loop on each of a few threads. What a due check does is a [`Runner`]'s.
//!
//! A check runs at a stable offset in its interval, a hash of its id and of the watchpost's. It never overlaps itself; a
//! due time that passes without a run is counted, with its [`Cause`].

mod gate;
mod lanes;
mod meters;
mod moment;
mod phase;
mod plan;
mod run;
mod runner;

pub use gate::Limits;
pub use lanes::{LaneFailed, Lanes, Setup};
pub use meters::{Cause, LATE, Meters, Skips};
pub use moment::{Anchor, Moment};
pub use phase::{FIRST_RUN_WITHIN, InvalidShard, Shard};
pub use plan::{Plan, SHORTEST_RETRY, STALL, SlotId, Start};
pub use run::{Command, Ended, Ending, Finished, Schedule, TICK};
pub use runner::{Modules, ProbeRunner, Runner};
