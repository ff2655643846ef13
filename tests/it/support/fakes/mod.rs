//! Vendors as they behave, good days and bad: each keeps a ledger of what it was sent.

mod http;
mod monitors;
mod pagerduty;
mod smtp;

pub(crate) use http::{Fake, Received, Reply};
pub(crate) use monitors::{API_KEY, Mood, Service, TELEMETRY_KEY};
pub(crate) use pagerduty::{Incident, PagerDuty};
pub(crate) use smtp::Smtp;
