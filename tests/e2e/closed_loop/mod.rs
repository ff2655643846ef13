//! The alerting pipeline closed through watchpost with real Prometheus and Alertmanager, and then broken.
//!
//! Each test closes the loop first, breaks one thing, and reads what a person is told: by whom, what, how soon, how often.
//! `docs/time-to-page.md` names the test of each of its rows.

mod alertmanager;
mod cluster;
mod cut;
mod prometheus;
mod stage;
mod yml;

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until it is so; fails, with what `say` has to say, when that takes longer than `limit`.
async fn until(limit: Duration, mut is_so: impl AsyncFnMut() -> bool, say: impl Fn() -> String) {
    let end = Instant::now() + limit;
    while !is_so().await {
        assert!(Instant::now() < end, "{}", say());
        tokio::time::sleep(LOOK).await;
    }
}
