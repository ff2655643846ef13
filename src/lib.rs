//! watchpost: a synthetic blackbox prober with a dead man's heartbeat.
//!
//! ```text
//!  *.yml ──▶ config ──▶ target ──▶ schedule ──▶ probe ──▶ OUTCOME ─┬▶ metrics ─────────▶ web  /metrics
//!                                                 ▲          ▲     ├▶ judge ▶ CHANGE ──▶ notify ▶ pagerduty, …
//!  /probe?module=&target= ──▶ web ────────────────┘          │     │    └▶ STATUS ▶ board ▶ web  /  /api
//!  /ping/…  /alertmanager/… ──▶ web ──▶ book ──▶ deadman ────┘     └▶ (gates of) heartbeat ▶ cronitor, …
//! ```
//!
//! A run returns a value, an [`Outcome`](model::Outcome); everything else is derived from that value. One task owns
//! everything after the outcome; readers take snapshots and never wait for it.

pub mod app;
pub mod board;
pub mod book;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deadman;
pub mod heartbeat;
pub mod judge;
pub mod lint;
pub mod log;
pub mod metrics;
pub mod model;
pub mod net;
pub mod notify;
pub mod probe;
pub mod schedule;
pub mod shutdown;
pub mod target;
pub mod web;
