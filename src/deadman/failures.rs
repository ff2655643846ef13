//! How soon a failure of the alerting pipeline is known, by a watchdog's configuration. Not for whether that is soon
//! enough: [`timing`](super::timing) refuses what cannot work.

use std::time::Duration;

use serde::Serialize;

use super::poller::POLLS;
use super::spec::{Spec, WatchdogSpec};
use super::switch::SETTLE;

/// One failure of the pipeline and what watchpost makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeToPage {
    pub failure: &'static str,
    /// What the page names.
    pub seen_as: &'static str,
    /// At most this long after the failure, whether it is told as down or as degraded; `None` where nobody is told.
    pub page: Option<Duration>,
    /// At most this long until it is on the status page and in the metrics.
    pub finding: Duration,
    pub formula: &'static str,
}

/// Prometheus's word that an alert fires holds for so many of its sends.
const LAPSE: u32 = 4;
const LIMIT: &str = "max_age + grace";

/// From a watchdog's configuration, for each failure: what is seen, and how soon somebody is told.
///
/// Age counts from when we issued a clock. Whatever breaks the loop, no clock issued after the break is accepted, so
/// `max_age + grace` after the break is a bound for all of them, and it holds without knowing the pipeline's timing.
pub fn time_to_page(spec: &Spec) -> Vec<TimeToPage> {
    let Some(watchdog) = &spec.watchdog else { return Vec::new() };
    let limit = watchdog.max_age.get().saturating_add(spec.grace()).saturating_add(SETTLE);
    let down = (!spec.notify.down.is_empty()).then_some(limit);
    let degraded = (!spec.notify.degraded.is_empty()).then_some(limit);
    let mut rows = vec![
        row(source_word(watchdog), "stale_evidence, then silent", down, limit, LIMIT),
        row("Prometheus cannot reach Alertmanager", "stale_evidence", down, limit, LIMIT),
        row("Prometheus does not scrape watchpost", "not_scraped", down, limit, LIMIT),
        rule_removed(spec, watchdog, limit),
        routed(
            "all Alertmanagers are dead",
            "silent, with each replica that does not answer",
            down,
            limit,
            watchdog,
        ),
        routed(
            "the Watchdog is silenced",
            "silent, with who silenced it, why and until when",
            down,
            limit,
            watchdog,
        ),
        routed("the Watchdog is inhibited", "silent, with what inhibits it", down, limit, watchdog),
        row(
            "the Watchdog is muted by a time interval",
            "silent, with the interval where Alertmanager tells it",
            down,
            limit,
            LIMIT,
        ),
        routed(
            "the Watchdog's route leads elsewhere",
            "silent, with the receiver to which it goes",
            down,
            limit,
            watchdog,
        ),
        row(
            "the Watchdog was never routed here",
            "silent, with the receiver to which it goes",
            down,
            limit,
            "max_age + grace after the first load",
        ),
        row(
            "Alertmanager repeats the Watchdog too rarely",
            "silent, with a word about repeat_interval",
            down,
            limit,
            LIMIT,
        ),
        row("the region of Prometheus and Alertmanager is cut off", "silent", down, limit, LIMIT),
    ];
    rows.extend(one_of_many(watchdog, down, degraded, limit));
    rows.extend(replicas(spec, watchdog));
    rows.push(row(
        "this watchpost is dead, or its region is cut off",
        "nothing here: whoever expects its heartbeat tells",
        None,
        Duration::ZERO,
        "interval + grace of the deadman elsewhere",
    ));
    rows
}

const fn row(
    failure: &'static str,
    seen_as: &'static str,
    page: Option<Duration>,
    finding: Duration,
    formula: &'static str,
) -> TimeToPage {
    TimeToPage { failure, seen_as, page, finding, formula }
}

const fn source_word(watchdog: &WatchdogSpec) -> &'static str {
    if watchdog.sources.len() > 1 {
        "so many Prometheis die that too few are left"
    } else {
        "Prometheus dies"
    }
}

/// What the poll of the Alertmanagers names earlier than the silence does.
fn routed(
    failure: &'static str,
    seen_as: &'static str,
    page: Option<Duration>,
    limit: Duration,
    watchdog: &WatchdogSpec,
) -> TimeToPage {
    if watchdog.alertmanagers.is_empty() {
        return row(failure, "silent; alertmanagers: would name it", page, limit, LIMIT);
    }
    let poll = watchdog.poll_interval.get().min(limit);
    row(failure, seen_as, page, poll, "max_age + grace; named after poll_interval")
}

/// Nobody tells Alertmanager that a rule is gone: the alert ends when Prometheus's last word about it lapses, and the
/// group's next turn says so.
fn rule_removed(spec: &Spec, watchdog: &WatchdogSpec, limit: Duration) -> TimeToPage {
    let failure = "the Watchdog rule is removed";
    let down = |page: Duration| (!spec.notify.down.is_empty()).then_some(page);
    let Some(timing) = watchdog.timing() else {
        return row(failure, "silent", down(limit), limit, LIMIT);
    };
    let lapse = timing.evaluation_interval.max(timing.resend_delay).saturating_mul(LAPSE);
    let page = lapse
        .saturating_add(timing.group_interval)
        .saturating_add(watchdog.resolved_settle.get())
        .saturating_add(spec.grace())
        .saturating_add(SETTLE)
        .min(limit);
    let formula = "4 × resend_delay + group_interval + resolved_settle + grace, or max_age + grace";
    row(failure, "silent", down(page), page, formula)
}

fn one_of_many(
    watchdog: &WatchdogSpec,
    down: Option<Duration>,
    degraded: Option<Duration>,
    limit: Duration,
) -> Option<TimeToPage> {
    let failure = "one of several Prometheis dies";
    if watchdog.sources.len() < 2 {
        return None;
    }
    if watchdog.min_sources() == watchdog.sources.len() {
        return Some(row(failure, "source_missing, by name: down", down, limit, LIMIT));
    }
    let formula = if degraded.is_some() {
        LIMIT
    } else {
        "degraded after max_age + grace; notify: {degraded: […]} would tell"
    };
    Some(row(failure, "source_missing, by name: degraded", degraded, limit, formula))
}

fn replicas(spec: &Spec, watchdog: &WatchdogSpec) -> Vec<TimeToPage> {
    let poll = watchdog.poll_interval.get();
    let told = poll.saturating_mul(POLLS).saturating_add(SETTLE);
    let told = (!spec.notify.degraded.is_empty()).then_some(told);
    let mut rows = Vec::new();
    if watchdog.alertmanagers.len() > 1 {
        let failure = "one of several Alertmanagers is dead";
        let formula = "3 × poll_interval; named after poll_interval";
        rows.push(row(failure, "degraded, the replica by its URL", told, poll, formula));
    }
    if !watchdog.alertmanagers.is_empty() {
        let formula = "3 × poll_interval after the first failed attempt; named after poll_interval";
        rows.push(row(
            "an integration of Alertmanager fails",
            "degraded, the integration by name",
            told,
            poll,
            formula,
        ));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    fn of(spec: &Spec, failure: &str) -> TimeToPage {
        let rows = time_to_page(spec);
        rows.into_iter().find(|row| row.failure.contains(failure)).unwrap()
    }

    #[test]
    fn every_failure_has_a_bound() {
        let one = spec(r#"{"name":"a","notify":["x"],"grace":"30s","watchdog":{"max_age":"5m"}}"#);
        let bound = Duration::from_secs(300 + 30) + SETTLE;
        for row in time_to_page(&one) {
            assert!(row.page.is_none_or(|page| page <= bound), "{row:?}");
        }
        assert_eq!(of(&one, "Prometheus dies").page, Some(bound));
        assert_eq!(of(&one, "rule is removed").page, Some(bound));
        assert_eq!(time_to_page(&spec(r#"{"name":"a","interval":"1m"}"#)), []);
    }

    #[test]
    fn a_removed_rule_is_known_early_when_the_route_is() {
        let timed = spec(
            r#"{"name":"a","notify":["x"],"watchdog":{"max_age":"10m","resolved_settle":"1m","route":
               {"evaluation_interval":"15s","group_interval":"1m","repeat_interval":"50s"}}}"#,
        );
        let early = Duration::from_secs(4 * 60 + 60 + 60) + SETTLE;
        assert_eq!(of(&timed, "rule is removed").page, Some(early));
    }

    #[test]
    fn nobody_is_promised_what_is_not_configured() {
        let mute = spec(r#"{"name":"a","watchdog":{}}"#);
        assert!(time_to_page(&mute).iter().all(|row| row.page.is_none()));
        let three = spec(
            r#"{"name":"a","notify":["x"],
                "watchdog":{"source_label":"p","sources":["1","2","3"],"min_sources":2}}"#,
        );
        assert_eq!(of(&three, "one of several Prometheis").page, None);
        let told = spec(
            r#"{"name":"a","notify":{"down":["x"],"degraded":["y"]},
                "watchdog":{"source_label":"p","sources":["1","2","3"],"min_sources":2}}"#,
        );
        assert!(of(&told, "one of several Prometheis").page.is_some());
    }
}
