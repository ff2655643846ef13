//! When a reload happens by itself, and what is said about reloads.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGauge, Registry};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Options;
use crate::clock;
use crate::model::family;

/// Looks at the files of the configuration now and then.
pub(super) struct AutoReload {
    options: Arc<Options>,
    tick: Interval,
    seen: Option<u64>,
}

impl AutoReload {
    pub(super) fn new(options: Arc<Options>) -> Self {
        let every = options.auto_reload.as_ref().map_or(Duration::from_secs(3600), |o| o.every);
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seen = options.auto_reload.as_ref().map(|auto| auto.read);
        Self { options, tick, seen }
    }

    /// Waits until the files say something else than before; for ever when nobody wants to know.
    pub(super) async fn changed(&mut self) {
        if self.options.auto_reload.is_none() {
            return std::future::pending().await;
        }
        loop {
            self.tick.tick().await;
            let options = Arc::clone(&self.options);
            let looked = tokio::task::spawn_blocking(move || {
                options.auto_reload.as_ref().map(|auto| (auto.fingerprint)())
            });
            let Ok(now) = looked.await else { continue };
            let before = std::mem::replace(&mut self.seen, now);
            if before.is_some() && before != now {
                return;
            }
        }
    }
}

/// What is said about reloads, by metric and by log.
pub(super) struct ReloadMeters {
    successful: IntGauge,
    succeeded_at: Gauge,
    /// The same under the names that blackbox_exporter gives them.
    blackbox: (IntGauge, Gauge),
    count: IntCounterVec,
}

impl ReloadMeters {
    /// The configuration that a process starts with counts as loaded well.
    pub(super) fn new(registry: &Registry) -> Self {
        let meters = Self {
            successful: family::CONFIG_RELOAD_SUCCESS.int_gauge(registry),
            succeeded_at: family::CONFIG_RELOAD_TIME.gauge(registry),
            blackbox: (
                family::BLACKBOX_RELOAD_SUCCESS.int_gauge(registry),
                family::BLACKBOX_RELOAD_TIME.gauge(registry),
            ),
            count: family::CONFIG_RELOADS.counters(registry),
        };
        for result in ["success", "failure"] {
            meters.count.with_label_values(&[result]);
        }
        meters.succeed();
        meters
    }

    pub(super) fn record(&self, result: &Result<(), String>) {
        match result {
            Ok(()) => {
                tracing::info!("configuration reloaded");
                self.count.with_label_values(&["success"]).inc();
                self.succeed();
            }
            Err(problems) => {
                tracing::error!(problems, "configuration refused; the old one stays in force");
                self.count.with_label_values(&["failure"]).inc();
                self.successful.set(0);
                self.blackbox.0.set(0);
            }
        }
    }

    fn succeed(&self) {
        let now = clock::now().unix_seconds();
        self.successful.set(1);
        self.succeeded_at.set(now);
        self.blackbox.0.set(1);
        self.blackbox.1.set(now);
    }
}
