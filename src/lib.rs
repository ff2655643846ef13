//! The map.

pub mod metrics;
pub mod probe;
