//! What the supervisor is told: ready, reloading, stopping, alive.
//!
//! Alive means that the owner of all results has completed a pass lately, not that some thread still turns.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::owner::LastPass;
use crate::clock;

/// The owner passes at least once a second; this long without a pass is a stall.
pub(super) const STALL: Duration = Duration::from_secs(15);

/// Tells systemd, where there is one.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the supervisor");
    }
}

/// A reload begins; systemd wants to know when, on its clock.
pub(super) fn reloading() {
    if let Ok(at) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, at]);
    }
}

/// Feeds systemd's watchdog for as long as the owner makes progress.
pub(super) async fn feed_watchdog(last_pass: LastPass, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut tick = interval((limit / 3).max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let silent = clock::now().since(*last_pass.borrow());
        if silent < STALL.min(limit) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                seconds = silent.as_secs(),
                "the owner of all results makes no progress"
            );
        }
    }
}
