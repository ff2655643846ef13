//! Outcomes to exposition. Not for deciding anything: what is shown was counted and judged before.

pub mod exposition;
mod number;
mod one;
mod own;
mod page;
pub mod results;

pub use one::render_outcome;
pub use own::render_own;
pub use results::{Identity, Shown, check_labels, render_results};
