//! Text to configuration, or every problem of a start at once with file, line, column and hint.

pub mod yaml;
