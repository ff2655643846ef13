//! watchpost: a synthetic prober with a dead man's heartbeat.

pub mod config;
