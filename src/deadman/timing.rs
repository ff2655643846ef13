//! How fast a pipeline of Prometheus and Alertmanager turns, and so how soon its failure is known.
//!
//! Alertmanager looks at a group once per `group_interval` and repeats only when the last notification is strictly
//! older than `repeat_interval`; what an operator takes for the period is therefore rarely the period.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::spec::Spec;
use super::switch::SETTLE;
use crate::model::{Mistakes, Period};

/// Alertmanager's `--cluster.peer-timeout`: how much longer each further replica waits before it sends.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(15);
/// What must be left of `max_age` once the slowest beat has come round: one restart of an Alertmanager.
pub const MARGIN: Duration = Duration::from_secs(60);
/// How long a send may take: the webhook's recommended `timeout`.
const SEND_DELAY: Duration = Duration::from_secs(1);
/// Prometheus sends firing alerts again after this long.
const RESEND_DELAY: Duration = Duration::from_secs(60);

/// The times of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RouteTiming {
    pub scrape_interval: Duration,
    pub evaluation_interval: Duration,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
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
    /// The longest time between two repeats, when `replicas` share a cluster.
    pub fn period(&self, replicas: usize) -> Option<Duration> {
        let peers = u32::try_from(replicas.saturating_sub(1)).unwrap_or(u32::MAX);
        let delay = SEND_DELAY.saturating_add(PEER_TIMEOUT.saturating_mul(peers));
        period(self.group_interval, self.repeat_interval, delay)
    }

    /// The oldest that evidence gets while all is well: issued just after a scrape, evaluated late, repeated late.
    pub fn slowest_loop(&self, replicas: usize) -> Option<Duration> {
        let period = self.period(replicas)?;
        Some(self.scrape_interval.saturating_add(self.evaluation_interval).saturating_add(period))
    }

    /// The least `max_age` that does not page while all is well.
    pub fn least_max_age(&self, replicas: usize) -> Option<Duration> {
        Some(self.slowest_loop(replicas)?.saturating_add(MARGIN))
    }

    /// Refuses a `max_age` that this pipeline cannot keep; warns where repeats are rarer than the numbers suggest.
    pub fn check(
        &self,
        max_age: Duration,
        grace: Duration,
        replicas: usize,
        mistakes: &mut Mistakes,
    ) {
        let (Some(period), Some(least)) = (self.period(replicas), self.least_max_age(replicas))
        else {
            mistakes.error("route.group_interval", "Alertmanager refuses 0s", "use 1m");
            return;
        };
        if max_age.saturating_add(grace) < least {
            mistakes.error(
                "max_age",
                format!(
                    "{} is less than this pipeline needs: scrape {} + evaluation {} + repeat {} + {} spare = {}",
                    Shown(max_age),
                    Shown(self.scrape_interval),
                    Shown(self.evaluation_interval),
                    Shown(period),
                    Shown(MARGIN),
                    Shown(least)
                ),
                format!("raise max_age to {}, or repeat faster: group_interval 1m, repeat_interval 50s", Shown(least)),
            );
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
        if self.repeat_interval == self.group_interval {
            mistakes.warning(
                "route.repeat_interval",
                format!(
                    "a repeat_interval equal to group_interval repeats every {}, not every {}",
                    Shown(period),
                    Shown(self.repeat_interval)
                ),
                "make repeat_interval a little shorter than group_interval",
            );
        }
    }
}

/// One failure of the pipeline and what watchpost makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeToPage {
    pub failure: &'static str,
    /// What the page names.
    pub seen_as: &'static str,
    /// At most this long after the failure; `None` where no page follows, only the finding.
    pub page: Option<Duration>,
    /// At most this long until the finding is on the page and in the metrics.
    pub finding: Duration,
    pub formula: &'static str,
}

/// From a watchdog's configuration, for each failure: what is seen, and how soon somebody is told.
///
/// Age counts from when we issued a clock. Whatever breaks the loop, no clock issued after the break is accepted, so
/// `max_age + grace` after the break is a bound for all of them, and it holds without knowing the pipeline's timing.
pub fn time_to_page(spec: &Spec) -> Vec<TimeToPage> {
    let Some(watchdog) = &spec.watchdog else { return Vec::new() };
    let limit = watchdog.max_age.get().saturating_add(spec.grace()).saturating_add(SETTLE);
    let poll = watchdog.poll_interval.get();
    let rule = rule_removed(spec, limit);
    let row = |failure, seen_as, page, finding, formula| TimeToPage {
        failure,
        seen_as,
        page,
        finding,
        formula,
    };
    let mut rows = vec![
        row("a Prometheus is dead", "stale_evidence", Some(limit), limit, "max_age + grace"),
        row(
            "a Prometheus cannot reach Alertmanager",
            "stale_evidence",
            Some(limit),
            limit,
            "max_age + grace",
        ),
        row(
            "a Prometheus does not scrape watchpost",
            "not_scraped",
            Some(limit),
            limit,
            "max_age + grace",
        ),
        row(
            "the Watchdog rule is gone",
            "silent",
            Some(rule),
            rule,
            "evaluation + resend + group_interval + resolved_settle, at most max_age + grace",
        ),
        row(
            "Alertmanager is dead",
            "silent",
            Some(limit),
            limit.min(poll),
            "max_age + grace; named after poll_interval",
        ),
        row(
            "the Watchdog's route leads elsewhere",
            "silent",
            Some(limit),
            limit,
            "max_age + grace",
        ),
        row(
            "the Watchdog was never routed here",
            "silent",
            Some(limit),
            limit,
            "max_age + grace after the first load",
        ),
    ];
    if !watchdog.alertmanagers.is_empty() {
        rows.extend([
            row(
                "the Watchdog is silenced, inhibited or muted",
                "silent, with who silenced it",
                Some(limit),
                poll,
                "max_age + grace; named after poll_interval",
            ),
            row(
                "one Alertmanager of several is dead",
                "the replica, by its URL",
                None,
                poll,
                "poll_interval",
            ),
            row(
                "an integration of Alertmanager fails",
                "the integration, by its name",
                None,
                poll.saturating_mul(2),
                "2 × poll_interval after the first failed notification",
            ),
        ]);
    }
    if watchdog.min_sources() < watchdog.sources.len() {
        rows.push(row(
            "fewer Prometheis than min_sources are left",
            "source_missing",
            Some(limit),
            limit,
            "max_age + grace; one missing is degraded after the same time",
        ));
    }
    rows
}

fn rule_removed(spec: &Spec, limit: Duration) -> Duration {
    let Some(watchdog) = &spec.watchdog else { return limit };
    let Some(route) = &watchdog.route else { return limit };
    let timing = route.timing();
    timing
        .evaluation_interval
        .saturating_add(RESEND_DELAY)
        .saturating_add(timing.group_interval)
        .saturating_add(watchdog.resolved_settle.get())
        .saturating_add(SETTLE)
        .min(limit)
}

/// A duration as it is written in the configuration.
pub(super) struct Shown(pub Duration);

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
            group_wait: s(0),
            group_interval: s(group),
            repeat_interval: s(repeat),
        }
    }

    fn verdict(timing: RouteTiming, max_age: u64) -> Vec<(String, bool)> {
        let mut mistakes = Mistakes::default();
        timing.check(s(max_age), s(0), 1, &mut mistakes);
        mistakes.into_vec().into_iter().map(|m| (m.key, m.warning)).collect()
    }

    #[test]
    fn a_max_age_below_the_loop_is_refused() {
        // 15 + 15 + 60 + 60.
        assert_eq!(timing(60, 50).least_max_age(1), Some(s(150)));
        assert_eq!(verdict(timing(60, 50), 149), [("max_age".to_owned(), false)]);
        assert_eq!(verdict(timing(60, 50), 150), []);
        // Alertmanager's defaults.
        assert_eq!(verdict(timing(300, 14_400), 300), [("max_age".to_owned(), false)]);
    }

    #[test]
    fn equal_intervals_are_named() {
        let found = verdict(timing(60, 60), 600);
        assert_eq!(found, [("route.repeat_interval".to_owned(), true)]);
    }

    #[test]
    fn replicas_wait_for_each_other() {
        assert_eq!(timing(60, 40).period(1), Some(s(60)));
        assert_eq!(timing(60, 40).period(3), Some(s(120)));
    }
}
