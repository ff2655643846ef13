//! The rules of beats received: dead man's switches, and watchdogs fed by Alertmanager.
//!
//! A [`Switch`] is told of beats and asked what it thinks, always with `now` in hand. It reads no clock, no file and no
//! store: what must outlive the process is a [`SwitchState`] that the caller keeps. Only [`Poller`] talks to the
//! network, to ask each Alertmanager what the webhook cannot say. Not for routes, pages or messages.

mod alertmanager;
mod counts;
mod cron;
pub mod failures;
mod inhibitor;
mod issued;
mod key;
mod line;
mod meter;
mod pause;
mod ping;
mod poller;
mod silence;
mod spec;
mod switch;
mod switchboard;
pub mod timing;
mod watchdog;
mod webhook;

pub use alertmanager::{Finding, Replica, said};
pub use cron::{CronText, Schedule};
pub use issued::Clocks;
pub use key::{Key, presented};
pub use line::{At, Line, Mark, Placed, Tick};
pub use meter::Meter;
pub use pause::{MAX_PAUSE, MAX_PAUSES, NoPause, Pause, Pauses, Planned, Wanted};
pub use ping::{Address, BODY_LIMIT, Beat, BeatKind, BeatResult, Door, Refused, RunId};
pub use poller::{NoPoller, POLLS, Poller};
pub use silence::Silence;
pub use spec::{BeatMethod, NotifySpec, PingId, RouteSpec, Slug, Spec, WatchdogSpec, check_all};
pub use switch::{Failed, Heard, SETTLE, Started, Switch, SwitchState, Verdict};
pub use switchboard::{
    Configured, DeadmanState, Kept, KindState, Note, Report, Switchboard, Taken,
};
pub use watchdog::{
    Evidence, Other, Posted, Receipt, Resolved, SourceState, Stranger, Watchdog, WatchdogState,
};
pub use webhook::MAX_WEBHOOK_BYTES;
