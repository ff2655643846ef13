//! How fast a pipeline of Prometheus and Alertmanager turns.
//!
//! Alertmanager looks at a group once per `group_interval` and repeats only when the last notification is strictly
//! older than `repeat_interval`; what an operator takes for the period is therefore rarely the period.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::model::{Mistakes, Period};

/// Alertmanager's `--cluster.peer-timeout`: how much longer each further replica waits before it sends.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(15);
/// What must be left of `max_age` once the slowest beat has come round: one restart of an Alertmanager.
pub const MARGIN: Duration = Duration::from_secs(60);
/// Prometheus's `--rules.alert.resend-delay`: it sends an alert that goes on firing again after this long.
pub const RESEND_DELAY: Duration = Duration::from_secs(60);
/// How long a send may take: the webhook's recommended `timeout`.
const SEND_DELAY: Duration = Duration::from_secs(1);
/// Sends of Prometheus that must fit into `max_age`: with fewer, one that is late is already an outage.
const RESENDS: u32 = 3;

/// The times of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RouteTiming {
    pub scrape_interval: Duration,
    pub evaluation_interval: Duration,
    pub resend_delay: Duration,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    /// Alertmanagers that share a cluster.
    pub peers: usize,
    /// Alertmanager's `--cluster.peer-timeout`.
    pub peer_timeout: Duration,
}

/// How often Alertmanager really repeats: E = g × (⌊(r + d) / g⌋ + 1). `None` for a `group_interval` of zero, which it
/// refuses.
pub fn period(
    group_interval: Duration,
    repeat_interval: Duration,
    delay: Duration,
) -> Option<Duration> {
    let ticks = repeat_interval
        .saturating_add(delay)
        .as_millis()
        .checked_div(group_interval.as_millis())?;
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1);
    Some(group_interval.saturating_mul(ticks))
}

impl RouteTiming {
    /// The longest time between two repeats while every member of the cluster lives: whoever sent last looks again after
    /// `group_interval`, and the others see that it sent.
    pub fn healthy_period(&self) -> Option<Duration> {
        period(self.group_interval, self.repeat_interval, SEND_DELAY)
    }

    /// The longest time between two repeats, also when the member that sends dies and the next one waited for it.
    pub fn period(&self) -> Option<Duration> {
        let delay = SEND_DELAY.saturating_add(self.wait_for_peers());
        period(self.group_interval, self.repeat_interval, delay)
    }

    /// How long the last replica of a cluster waits for those before it.
    fn wait_for_peers(&self) -> Duration {
        let others = u32::try_from(self.peers.saturating_sub(1)).unwrap_or(u32::MAX);
        self.peer_timeout.saturating_mul(others)
    }

    /// The longest `repeat_interval` with which every tick of `group_interval` is a repeat, when so many replicas
    /// share a cluster.
    fn best_repeat(&self, group_interval: Duration) -> Duration {
        let spare = self.wait_for_peers().saturating_add(Duration::from_secs(10));
        group_interval.saturating_sub(spare).max(Duration::from_secs(5))
    }

    /// The least `max_age` that does not page while all is well. The oldest clock that is healthy was issued just after
    /// a scrape, evaluated late, kept by Prometheus until it sent the alert again, and repeated late.
    pub fn least_max_age(&self) -> Option<Duration> {
        let spare = MARGIN.max(self.resend_delay);
        let turn = self.scrape_interval.saturating_add(self.evaluation_interval);
        let least = turn.saturating_add(self.period()?).saturating_add(spare);
        Some(least.max(self.resend_delay.saturating_mul(RESENDS)))
    }

    /// Refuses a `max_age` that this pipeline cannot keep; warns where repeats are rarer than the numbers suggest.
    pub fn check(&self, max_age: Duration, mistakes: &mut Mistakes) {
        let (Some(period), Some(least)) = (self.period(), self.least_max_age()) else {
            mistakes.error("route.group_interval", "Alertmanager refuses 0s", "use 1m");
            return;
        };
        if max_age < least {
            let (what, hint) = self.too_short(max_age, period, least);
            mistakes.error("max_age", what, hint);
        } else if period > max_age / 2 {
            mistakes.warning(
                "route.repeat_interval",
                format!(
                    "a beat comes only every {}, so one lost beat uses up most of {}",
                    Shown(period),
                    Shown(max_age)
                ),
                "group_interval 1m and repeat_interval 50s repeat every minute",
            );
        }
        if let Some((what, hint)) = self.doubling() {
            mistakes.warning("route.repeat_interval", what, hint);
        }
    }

    /// What is wrong with a `max_age` below the least, and what to write instead.
    pub fn too_short(
        &self,
        max_age: Duration,
        period: Duration,
        least: Duration,
    ) -> (String, String) {
        let resends = self.resend_delay.saturating_mul(RESENDS);
        let what = if least == resends {
            format!(
                "{} is less than {}: Prometheus sends an alert that goes on firing again only every {}, so two \
                 beats in a row may bring the same clock and a healthy chain would look stale",
                Shown(max_age),
                Shown(least),
                Shown(self.resend_delay)
            )
        } else {
            format!(
                "{} is less than this pipeline needs: scrape {} + evaluation {} + repeat {} + {} spare = {}",
                Shown(max_age),
                Shown(self.scrape_interval),
                Shown(self.evaluation_interval),
                Shown(period),
                Shown(MARGIN.max(self.resend_delay)),
                Shown(least)
            )
        };
        let faster = self.fastest();
        let hint = match faster.least_max_age() {
            Some(faster_least) if faster_least < least => format!(
                "write max_age: {}, or repeat faster: group_interval {} with repeat_interval {} allows {}",
                Shown(least),
                Shown(faster.group_interval),
                Shown(faster.repeat_interval),
                Shown(faster_least)
            ),
            _ => format!("write max_age: {}", Shown(least)),
        };
        (what, hint)
    }

    /// Equal intervals look like one period and are two; a cluster may need two when a member dies.
    pub fn doubling(&self) -> Option<(String, String)> {
        let period = self.period()?;
        if self.repeat_interval > self.group_interval || period <= self.group_interval {
            return None;
        }
        let healthy = self.healthy_period()?;
        let what = format!(
            "repeat_interval {} with group_interval {} repeats every {}",
            Shown(self.repeat_interval),
            Shown(self.group_interval),
            Shown(healthy),
        );
        let what = if healthy > self.group_interval {
            format!("{what}, not every {}", Shown(self.group_interval))
        } else {
            let peers = self.peers;
            format!(
                "{what}, and {} apart when a member of the cluster of {peers} dies",
                Shown(period)
            )
        };
        let best = self.best_repeat(self.group_interval);
        Some((
            what,
            format!("make it shorter than group_interval: repeat_interval {}", Shown(best)),
        ))
    }

    /// The same pipeline with the route that `watchpost snippet alertmanager` prints.
    #[must_use]
    pub fn fastest(&self) -> Self {
        let group_interval = Duration::from_secs(60);
        let repeat_interval = self.best_repeat(group_interval);
        Self { group_wait: Duration::ZERO, group_interval, repeat_interval, ..*self }
    }
}

/// Without the timing of the route: what no pipeline with Prometheus's defaults can keep.
pub(super) fn check_without_route(max_age: Duration, mistakes: &mut Mistakes) {
    if max_age < RESEND_DELAY.saturating_mul(RESENDS) {
        mistakes.warning(
            "max_age",
            format!(
                "with {} a healthy chain may look stale: Prometheus sends an alert that goes on firing again only \
                 every {}, and two beats in a row may bring the same clock",
                Shown(max_age),
                Shown(RESEND_DELAY)
            ),
            "write max_age: 5m; with route: the timing of the pipeline is checked, resend_delay included",
        );
    }
}

/// A duration as it is written in the configuration.
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Period::from_millis(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_real_period_is_not_the_repeat_interval() {
        let rows = [
            ("5m/4h", s(300), s(14_400), s(14_700)),
            ("5m/12h", s(300), s(43_200), s(43_500)),
            ("5m/5m", s(300), s(300), s(600)),
            ("1m/1m", s(60), s(60), s(120)),
            ("1m/50s", s(60), s(50), s(60)),
            ("30s/15s", s(30), s(15), s(30)),
        ];
        for (name, group, repeat, expected) in rows {
            assert_eq!(period(group, repeat, s(1)), Some(expected), "{name}");
        }
        assert_eq!(period(Duration::ZERO, s(60), s(1)), None);
    }

    fn timing(group: u64, repeat: u64) -> RouteTiming {
        RouteTiming {
            scrape_interval: s(15),
            evaluation_interval: s(15),
            resend_delay: RESEND_DELAY,
            group_wait: s(0),
            group_interval: s(group),
            repeat_interval: s(repeat),
            peers: 1,
            peer_timeout: PEER_TIMEOUT,
        }
    }

    fn verdict(timing: RouteTiming, max_age: u64) -> Vec<(String, bool)> {
        let mut mistakes = Mistakes::default();
        timing.check(s(max_age), &mut mistakes);
        mistakes.into_vec().into_iter().map(|m| (m.key, m.warning)).collect()
    }

    #[test]
    fn a_max_age_below_the_loop_is_refused() {
        let slow =
            RouteTiming { scrape_interval: s(60), evaluation_interval: s(60), ..timing(60, 50) };
        // 60 + 60 + 60 + 60.
        assert_eq!(slow.least_max_age(), Some(s(240)));
        assert_eq!(verdict(slow, 239), [("max_age".to_owned(), false)]);
        assert_eq!(verdict(slow, 240), []);
        // Alertmanager's defaults.
        assert_eq!(verdict(timing(300, 14_400), 300), [("max_age".to_owned(), false)]);
    }

    #[test]
    fn clocks_that_come_twice_have_room() {
        // 15 + 15 + 60 + 60 would be 150.
        assert_eq!(timing(60, 50).least_max_age(), Some(s(180)));
        assert_eq!(verdict(timing(60, 50), 179), [("max_age".to_owned(), false)]);
        assert_eq!(verdict(timing(60, 50), 180), []);
        let eager = RouteTiming { resend_delay: s(1), ..timing(60, 50) };
        assert_eq!(eager.least_max_age(), Some(s(150)));
        let mut mistakes = Mistakes::default();
        check_without_route(s(120), &mut mistakes);
        assert!(!mistakes.has_errors() && !mistakes.is_empty());
    }

    #[test]
    fn what_to_write_is_said() {
        let mut mistakes = Mistakes::default();
        timing(300, 300).check(s(240), &mut mistakes);
        let found = mistakes.into_vec();
        assert_eq!(
            found[0].what,
            "4m is less than this pipeline needs: scrape 15s + evaluation 15s + repeat 10m + 1m spare = 11m30s"
        );
        assert_eq!(
            found[0].hint.as_deref(),
            Some(
                "write max_age: 11m30s, or repeat faster: group_interval 1m with repeat_interval 50s allows 3m"
            )
        );
    }

    #[test]
    fn equal_intervals_are_named() {
        let found = verdict(timing(60, 60), 600);
        assert_eq!(found, [("route.repeat_interval".to_owned(), true)]);
        assert_eq!(verdict(timing(60, 50), 600), []);
    }

    #[test]
    fn replicas_wait_for_each_other() {
        assert_eq!(timing(60, 40).period(), Some(s(60)));
        let three = RouteTiming { peers: 3, ..timing(60, 40) };
        assert_eq!(three.period(), Some(s(120)));
        // Only when one dies.
        assert_eq!(three.healthy_period(), Some(s(60)));
        let (what, hint) = three.doubling().unwrap();
        assert_eq!(
            what,
            "repeat_interval 40s with group_interval 1m repeats every 1m, and 2m apart when a member of the cluster of 3 dies"
        );
        assert!(hint.contains("repeat_interval 20s"), "{hint}");
        assert_eq!(three.fastest().repeat_interval, s(20));
        assert_eq!(three.fastest().period(), Some(s(60)));
    }
}
