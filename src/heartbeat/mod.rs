//! Beats that we send: evidence in, heartbeat out.
//!
//! The gates ([`gate`]) are pure and judge the evidence of one completed pass of the owner, which arrives in a
//! [`Lease`]; the sender holds a fresh lease or stays silent. A vendor is a row over one generic driver. Not for beats
//! that others send to us (`deadman`), and not for messages to people (`notify`).

mod driver;
pub mod gate;
mod sender;
mod spec;
pub mod vendor;

pub use driver::{Attempt, Driver, Recorded, SendResult};
pub use gate::{BookSight, Gate, LEASE_FOR, Lease, OUTBOX_STUCK, ReceiverSight, Sights, Standing};
pub use sender::{Meter, Sender, View, try_once};
pub use spec::{
    Auth, BetterStack, Condition, Cronitor, DeadMansSnitch, Gatus, GoAlert, GrafanaOncall,
    Healthchecks, HttpBeat, Jsm, Opsgenie, ReadBackSpec, Sentry, Spec, UptimeKuma,
};
