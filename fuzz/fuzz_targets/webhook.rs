//! Any bytes as Alertmanager's webhook: no clock was ever issued, so nothing is evidence.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use watchpost::deadman::{BeatResult, Clocks, Line, Spec, Watchdog};
use watchpost::model::Stamp;

static SPEC: LazyLock<Arc<Spec>> = LazyLock::new(|| {
    let text = r#"{"name":"alerting","watchdog":{"source_label":"p","sources":["p1"],"max_age":"60s"}}"#;
    Arc::new(serde_json::from_str(text).unwrap())
});

fuzz_target!(|body: &[u8]| {
    let now = Stamp::new(Timestamp::from_second(1_800_000_000).unwrap(), Duration::from_secs(1_000));
    let line = Line::start(now, "boot", []);
    let mut watchdog = Watchdog::new(SPEC.clone(), None, now, &line).unwrap();
    let receipt = watchdog.receive(body, "wp", &Clocks::new(&line), now, &line);
    assert!(!receipt.results.contains(&BeatResult::Fresh));
    assert!(!receipt.results.is_empty());
    assert!(matches!(receipt.code(), 200 | 400 | 413));
});
