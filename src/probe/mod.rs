//! How one question is asked and measured against its rules.

pub mod exposition;
