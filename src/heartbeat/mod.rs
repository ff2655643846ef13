//! Beats that we send: evidence in, heartbeat out.
//!
//! The gates ([`gate`]) are pure and judge the evidence of one completed pass of the owner, which arrives in a
//! [`Lease`]; the sender holds a fresh lease or stays silent. A vendor is a row over one generic driver. Not for beats
//! that others send to us (`deadman`), and not for messages to people (`notify`).

mod courier;
mod driver;
pub mod gate;
mod meter;
mod proof;
mod sender;
mod spec;
#[cfg(test)]
mod tests;
mod trial;
pub mod vendor;

pub use courier::{Connect, over_http};
pub use driver::{Attempt, Driver, Recorded, SendResult, Untold, Wire};
pub use gate::{
    BookSight, Closed, Gate, LEASE_FOR, Lease, OUTBOX_STUCK, ReceiverSight, Sights, Standing, Why,
};
pub use meter::Meter;
pub use sender::{GateView, Sender, Setup, View};
pub use spec::{
    Auth, BetterStack, Condition, Cronitor, DeadMansSnitch, Gatus, GoAlert, GrafanaOncall,
    Healthchecks, HttpBeat, Jsm, Opsgenie, ReadBackSpec, Sentry, Spec, UptimeKuma,
};
pub use trial::{Trial, Verdict, try_once};
