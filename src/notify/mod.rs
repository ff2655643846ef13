//! Change to message to a human: episodes, routing, outbox, retry; one file per receiver.
//!
//! ```text
//!  change ─▶ episode (pure) ─▶ decision ─▶ book: episode + outbox in one transaction ─▶ send ─▶ confirm
//!                                                        ▲                                │
//!                                                        └── retry, fallback, restart ◀───┘
//! ```
//!
//! A page is decided once, is on disk before it is sent, and is sent until its receiver confirms it. What is not here:
//! thresholds and statuses (`judge`, `deadman`), and who wants to be told (the configuration).

mod episode;
mod event;
mod message;
mod notifier;
mod outbox;
pub mod receivers;

pub use episode::{Decision, Episodes, Rule, Verdict, dedup_key};
pub use event::{NotifyEvent, Subject, SubjectKind};
pub use message::{Identity, Line, Message, Severity};
#[cfg(test)]
pub(crate) use notifier::ByHand;
pub use notifier::{Boundary, Handle, Notifier, Settings, Snapshot, TestResult};
pub use outbox::{Backoff, Queue};
pub use receivers::{Delivery, Receiver, ReceiverSpec, Sent};
