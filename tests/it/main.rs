//! Real sockets, real tools, data files: whatever a unit test cannot prove.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

mod exposition;
