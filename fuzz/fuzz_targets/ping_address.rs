//! Any path below `/ping/`: a switch and what happened to it, or a refusal that Healthchecks gives, too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchpost::deadman::Address;

fuzz_target!(|path: &str| match Address::parse(path) {
    Ok(address) => assert!(!format!("{address:?}").is_empty()),
    Err(refused) => assert!(matches!(refused.code(), 400 | 404)),
});
