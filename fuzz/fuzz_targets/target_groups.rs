//! Any bytes as a file of target groups, JSON or YAML.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use watchpost::config::decode_groups;

fuzz_target!(|bytes: &[u8]| {
    for name in ["targets.json", "targets.yml"] {
        if let Err(reason) = decode_groups(Path::new(name), bytes) {
            assert!(!reason.is_empty());
        }
    }
});
