//! How soon a failure of the alerting pipeline is known, by a watchdog's configuration. Not for whether that is soon
//! enough: [`timing`](super::timing) refuses what cannot work.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::poller::POLLS;
use super::spec::{Spec, WatchdogSpec};
use super::switch::SETTLE;
use super::timing::Shown;

/// One failure of the pipeline and what watchpost makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeToPage {
    pub failure: &'static str,
    /// What the page names.
    pub seen_as: &'static str,
    /// Who tells whom how soon, whether it is told as down or as degraded.
    pub told: Told,
    /// At most this long until it is on the status page and in the metrics.
    pub finding: Duration,
    pub formula: String,
}

/// Whether somebody is told of a failure, and how soon at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Told {
    Nobody,
    /// By our own receivers.
    Within(Duration),
    /// By those who expect our beats, the quickest first.
    Elsewhere(Vec<Word>),
}

/// One of those who miss our beats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Service and heartbeat.
    pub by: String,
    /// `None` where only the service knows.
    pub within: Option<Duration>,
}

impl Told {
    /// The time that is promised, whoever tells.
    pub fn within(&self) -> Option<Duration> {
        match self {
            Self::Nobody => None,
            Self::Within(time) => Some(*time),
            Self::Elsewhere(words) => words.iter().find_map(|word| word.within),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Within(time) => write!(f, "{}", Shown(*time)),
            Self::Elsewhere(words) => {
                let all: Vec<String> = words.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(", "))
            }
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.within {
            Some(time) => write!(f, "{} by {}", Shown(time), self.by),
            None => write!(f, "in its own time by {}", self.by),
        }
    }
}

/// Who expects a heartbeat of ours: a service, or the dead man's switch of another watchpost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Herald {
    pub heartbeat: String,
    pub service: &'static str,
    /// How long after our last beat it tells somebody, where that is known.
    pub told_after: Option<Duration>,
    /// How soon we tell it that evidence is missing, where we do.
    pub failed_after: Option<Duration>,
    /// The deadmen without which no beat is sent.
    pub needs: Vec<String>,
}

impl Herald {
    fn word(&self, within: Option<Duration>) -> Word {
        Word { by: format!("{} ({})", self.service, self.heartbeat), within }
    }
}

/// Prometheus's word that an alert fires holds for so many of its sends.
const LAPSE: u32 = 4;
const LIMIT: &str = "max_age + grace";

/// From a watchdog's configuration, for each failure: what is seen, and how soon somebody is told.
///
/// Age counts from when we issued a clock. Whatever breaks the loop, no clock issued after the break is accepted, so
/// `max_age + grace` after the break is a bound for all of them, and it holds without knowing the pipeline's timing.
pub fn time_to_page(spec: &Spec, heralds: &[Herald]) -> Vec<TimeToPage> {
    let Some(watchdog) = &spec.watchdog else { return Vec::new() };
    let limit = watchdog.max_age.get().saturating_add(spec.grace()).saturating_add(SETTLE);
    let down = &down(spec, heralds, limit);
    let degraded = &degraded(spec, limit);
    let mut rows = vec![
        row(source_word(watchdog), "stale_evidence, then silent", down, limit, LIMIT),
        row("Prometheus cannot reach Alertmanager", "stale_evidence", down, limit, LIMIT),
        row("Prometheus does not scrape watchpost", "not_scraped", down, limit, LIMIT),
        rule_removed(spec, heralds, watchdog, limit),
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
        row(
            "the region of Prometheus and Alertmanager is cut off",
            "silent",
            down,
            limit,
            "max_age + grace; where this watchpost is cut off with it, as in the last row",
        ),
    ];
    rows.extend(one_of_many(watchdog, down, degraded, limit));
    rows.extend(replicas(spec, watchdog));
    rows.push(own_death(heralds));
    rows
}

/// What is told as down. Where no receiver is named, the beats that need this watchdog stop, and are missed.
fn down(spec: &Spec, heralds: &[Herald], after: Duration) -> Told {
    if !spec.notify.down.is_empty() {
        return Told::Within(after);
    }
    let word = |herald: &Herald| {
        let patience = herald.told_after.into_iter().chain(herald.failed_after).min();
        herald.word(patience.map(|patience| after.saturating_add(patience)))
    };
    let without_it = heralds.iter().filter(|herald| herald.needs.contains(&spec.name));
    elsewhere(without_it.map(word).collect())
}

const fn degraded(spec: &Spec, after: Duration) -> Told {
    if spec.notify.degraded.is_empty() { Told::Nobody } else { Told::Within(after) }
}

fn elsewhere(mut words: Vec<Word>) -> Told {
    words.sort_by_key(|word| word.within.unwrap_or(Duration::MAX));
    if words.is_empty() { Told::Nobody } else { Told::Elsewhere(words) }
}

/// Who is dead says nothing, not even that it failed: the last beat was sent before.
fn own_death(heralds: &[Herald]) -> TimeToPage {
    let told = elsewhere(heralds.iter().map(|it| it.word(it.told_after)).collect());
    let formula = match (&told, told.within()) {
        (Told::Nobody, _) => {
            "heartbeats: to a service, or to a watchpost elsewhere, would make somebody tell"
        }
        (_, Some(_)) => "told_after: interval + grace at the service, after the last beat",
        (_, None) => "the service's own interval and grace, which told_after: would show here",
    };
    row(
        "this watchpost is dead, or its region is cut off",
        "nothing here: whoever expects its heartbeat tells",
        &told,
        Duration::ZERO,
        formula,
    )
}

fn row(
    failure: &'static str,
    seen_as: &'static str,
    told: &Told,
    finding: Duration,
    formula: &str,
) -> TimeToPage {
    TimeToPage { failure, seen_as, told: told.clone(), finding, formula: formula.to_owned() }
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
    told: &Told,
    limit: Duration,
    watchdog: &WatchdogSpec,
) -> TimeToPage {
    if watchdog.alertmanagers.is_empty() {
        return row(failure, "silent; alertmanagers: would name it", told, limit, LIMIT);
    }
    let poll = watchdog.poll_interval.get().min(limit);
    row(failure, seen_as, told, poll, "max_age + grace; named after poll_interval")
}

/// Nobody tells Alertmanager that a rule is gone: the alert ends when Prometheus's last word about it lapses, and the
/// group's next turn says so.
fn rule_removed(
    spec: &Spec,
    heralds: &[Herald],
    watchdog: &WatchdogSpec,
    limit: Duration,
) -> TimeToPage {
    let failure = "the Watchdog rule is removed";
    let Some(timing) = watchdog.timing() else {
        return row(failure, "silent", &down(spec, heralds, limit), limit, LIMIT);
    };
    let lapse = timing.evaluation_interval.max(timing.resend_delay).saturating_mul(LAPSE);
    let page = lapse
        .saturating_add(timing.group_interval)
        .saturating_add(watchdog.resolved_settle.get())
        .saturating_add(spec.grace())
        .saturating_add(SETTLE)
        .min(limit);
    let formula = "4 × resend_delay + group_interval + resolved_settle + grace, or max_age + grace";
    row(failure, "silent", &down(spec, heralds, page), page, formula)
}

fn one_of_many(
    watchdog: &WatchdogSpec,
    down: &Told,
    degraded: &Told,
    limit: Duration,
) -> Option<TimeToPage> {
    let failure = "one of several Prometheis dies";
    if watchdog.sources.len() < 2 {
        return None;
    }
    if watchdog.min_sources() == watchdog.sources.len() {
        return Some(row(failure, "source_missing, by name: down", down, limit, LIMIT));
    }
    let formula = if degraded.within().is_some() {
        LIMIT
    } else {
        "degraded after max_age + grace; notify: {degraded: […]} would tell"
    };
    Some(row(failure, "source_missing, by name: degraded", degraded, limit, formula))
}

fn replicas(spec: &Spec, watchdog: &WatchdogSpec) -> Vec<TimeToPage> {
    let poll = watchdog.poll_interval.get();
    let told = poll.saturating_mul(POLLS).saturating_add(SETTLE);
    let told = &degraded(spec, told);
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
        told_by(spec, &[], failure)
    }

    fn told_by(spec: &Spec, heralds: &[Herald], failure: &str) -> TimeToPage {
        let rows = time_to_page(spec, heralds);
        rows.into_iter().find(|row| row.failure.contains(failure)).unwrap()
    }

    #[test]
    fn every_failure_has_a_bound() {
        let one = spec(r#"{"name":"a","notify":["x"],"grace":"30s","watchdog":{"max_age":"5m"}}"#);
        let bound = Duration::from_secs(300 + 30) + SETTLE;
        for row in time_to_page(&one, &[]) {
            assert!(row.told.within().is_none_or(|page| page <= bound), "{row:?}");
        }
        assert_eq!(of(&one, "Prometheus dies").told, Told::Within(bound));
        assert_eq!(of(&one, "rule is removed").told, Told::Within(bound));
        assert_eq!(time_to_page(&spec(r#"{"name":"a","interval":"1m"}"#), &[]), []);
    }

    #[test]
    fn a_removed_rule_is_known_early_when_the_route_is() {
        let timed = spec(
            r#"{"name":"a","notify":["x"],"watchdog":{"max_age":"10m","resolved_settle":"1m","route":
               {"evaluation_interval":"15s","group_interval":"1m","repeat_interval":"50s"}}}"#,
        );
        let early = Duration::from_secs(4 * 60 + 60 + 60) + SETTLE;
        assert_eq!(of(&timed, "rule is removed").told, Told::Within(early));
    }

    #[test]
    fn nobody_is_promised_what_is_not_configured() {
        let mute = spec(r#"{"name":"a","watchdog":{}}"#);
        assert!(time_to_page(&mute, &[]).iter().all(|row| row.told == Told::Nobody));
        let three = spec(
            r#"{"name":"a","notify":["x"],
                "watchdog":{"source_label":"p","sources":["1","2","3"],"min_sources":2}}"#,
        );
        assert_eq!(of(&three, "one of several Prometheis").told, Told::Nobody);
        let told = spec(
            r#"{"name":"a","notify":{"down":["x"],"degraded":["y"]},
                "watchdog":{"source_label":"p","sources":["1","2","3"],"min_sources":2}}"#,
        );
        assert!(of(&told, "one of several Prometheis").told.within().is_some());
    }

    fn herald(heartbeat: &str, told_after: Option<u64>) -> Herald {
        Herald {
            heartbeat: heartbeat.to_owned(),
            service: "cronitor",
            told_after: told_after.map(Duration::from_secs),
            failed_after: None,
            needs: vec!["a".to_owned()],
        }
    }

    #[test]
    fn who_expects_our_beats_tells_of_our_death() {
        let one = spec(r#"{"name":"a","notify":["x"],"watchdog":{}}"#);
        let failure = "this watchpost is dead";
        let alone = of(&one, failure);
        assert_eq!(alone.told, Told::Nobody);
        assert!(alone.formula.contains("heartbeats:"), "{alone:?}");
        let unknown = told_by(&one, &[herald("p", None)], failure);
        assert_eq!(unknown.told.to_string(), "in its own time by cronitor (p)");
        assert!(unknown.formula.contains("the service's own interval and grace"), "{unknown:?}");
        let all = [herald("p", None), herald("q", Some(600)), herald("r", Some(300))];
        let known = told_by(&one, &all, failure);
        assert_eq!(
            known.told.to_string(),
            "5m by cronitor (r), 10m by cronitor (q), in its own time by cronitor (p)"
        );
        assert_eq!(known.told.within(), Some(Duration::from_secs(300)));
        // The dead send no word of failure.
        let eager = Herald { failed_after: Some(Duration::from_secs(1)), ..herald("p", Some(60)) };
        let dead = told_by(&one, &[eager], failure);
        assert_eq!(dead.told.within(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn beats_that_stop_tell_where_no_receiver_is_named() {
        let mute = spec(r#"{"name":"a","watchdog":{"max_age":"5m"}}"#);
        let failure = "Prometheus dies";
        let limit = Duration::from_secs(300) + SETTLE;
        let within = |herald: Herald| told_by(&mute, &[herald], failure).told.within();
        assert_eq!(within(herald("p", Some(60))), Some(limit + Duration::from_secs(60)));
        let eager = Herald { failed_after: Some(Duration::from_secs(10)), ..herald("p", None) };
        assert_eq!(within(eager), Some(limit + Duration::from_secs(10)));
        let other = Herald { needs: vec!["b".to_owned()], ..herald("p", Some(60)) };
        assert_eq!(told_by(&mute, &[other], failure).told, Told::Nobody);
        let told = spec(r#"{"name":"a","notify":["x"],"watchdog":{"max_age":"5m"}}"#);
        assert_eq!(told_by(&told, &[herald("p", Some(60))], failure).told, Told::Within(limit));
    }
}
