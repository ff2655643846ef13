//! Any bytes as a configuration file: taken, or refused with a place in this file.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use watchpost::config::{Environment, load};
use watchpost::net::Resolver;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path: PathBuf = FOLDER.path().join("watchpost.yml");
    std::fs::write(&path, bytes).unwrap();
    let names = Resolver::from_system();
    let environment = Environment { variable: &|_| None, host_name: "fuzz".into(), names };
    if let Err(problems) = load(std::slice::from_ref(&path), &environment) {
        let told = problems.to_string();
        assert!(told.contains("watchpost.yml"), "no place is named: {told}");
    }
});
