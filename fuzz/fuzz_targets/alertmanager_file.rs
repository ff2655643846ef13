//! Any bytes as `alertmanager.yml`: the Watchdog is followed through it, or it is said why not.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use watchpost::deadman::Spec;
use watchpost::lint::{Asked, lint};

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().unwrap());
static SPECS: LazyLock<[Arc<Spec>; 1]> = LazyLock::new(|| {
    let text = r#"{"name":"alerting","watchdog":{"max_age":"5m"}}"#;
    [Arc::new(serde_json::from_str(text).unwrap())]
});

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("alertmanager.yml");
    std::fs::write(&path, bytes).unwrap();
    let asked = Asked { specs: &*SPECS, configured: true, labels: &[], peers: Some(3) };
    let report = lint(&[path], &asked);
    assert!(!report.unusable || report.problems.is_fatal());
});
