//! Outcomes to statuses and changes.
//!
//! Pure: it is told `now` and what was answered, and says what is to be believed. Not for telling anybody.

pub mod group;
pub mod transition;
mod verdict;

pub use verdict::Judge;
