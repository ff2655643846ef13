//! The built binary with real Prometheus, real services and a browser.
//!
//! A program that is not installed is said and skipped; where `CI` is set it is a failure.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]
#![expect(clippy::disallowed_methods, reason = "tests wait in real time and read the environment")]

mod browser;
mod closed_loop;
mod deploy;
mod netns;
mod program;
mod prometheus;
mod regions;
mod scrapes;
mod services;
mod side_by_side;
mod snippets;

#[expect(dead_code, unused_imports, reason = "shared with the other test binary")]
#[path = "../it/support/mod.rs"]
mod support;

#[expect(dead_code, reason = "shared with the demonstration")]
#[path = "../../examples/demo/estate.rs"]
mod demo;

#[expect(dead_code, reason = "shared with the other test binary")]
#[path = "../it/compat/bench/mod.rs"]
mod bench;
