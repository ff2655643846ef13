//! The built binary with real Prometheus, real services and a browser.
//!
//! A program that is not installed is said and skipped; where `CI` is set it is a failure.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]
#![expect(clippy::disallowed_methods, reason = "tests wait in real time and read the environment")]

mod browser;
mod deploy;
mod netns;
mod program;
mod prometheus;
mod regions;
mod services;
mod snippets;

#[expect(dead_code, unused_imports, reason = "shared with the other test binary")]
#[path = "../it/support/mod.rs"]
mod support;

#[expect(dead_code, reason = "shared with the demonstration")]
#[path = "../../examples/demo/estate.rs"]
mod demo;
