//! Outcomes to exposition.

pub mod exposition;
mod number;
