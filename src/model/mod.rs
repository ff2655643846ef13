//! The words of the project as plain values.
//!
//! Everything that two stages must agree on is here: what is asked ([`Check`], [`Target`]), what came of it ([`Outcome`],
//! [`Answer`], [`Fault`]), what we believe ([`Status`], [`Change`]) and under which names it is told to Prometheus
//! ([`family`]). Nothing here reads a clock, a socket or a file.

mod check;
mod duration;
pub mod family;
mod fault;
mod labels;
mod meter;
mod mistake;
mod network;
mod outcome;
mod pattern;
mod phase;
mod reason;
mod secret;
mod stamp;
mod status;
mod target;
mod view;

pub use check::{Check, CheckId, Notify, ProbePolicy, Thresholds};
pub use duration::{GoDuration, Period};
pub use family::{Fact, FactLabels, Family, Kind};
pub use fault::{Bounds, Fault};
pub use labels::{InvalidLabel, Labels, RESERVED_LABELS, is_label_name};
pub use mistake::{HINT, Mistake, Mistakes, mistake};
pub use network::Network;
pub use outcome::{Answer, Outcome, Unknown};
pub use pattern::Pattern;
pub use phase::Phase;
pub use reason::Reason;
pub use secret::{MASK, Secret, shown_url};
pub use stamp::Stamp;
pub use status::{Change, GroupChange, Headcount, RunResult, Status};
pub use target::{Authorization, Disabled, HeaderList, Overrides, Target, override_key};
pub use view::{FailureCount, Tally, Took, View};
