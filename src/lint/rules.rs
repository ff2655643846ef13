//! The Watchdog rule, where files of rules are given: whether our clock can come back in it.

use std::time::Duration;

use super::{Labels, Watchdog, duration};
use crate::config::yaml::Node;
use crate::config::{Problem, Problems};

const SNIPPET: &str = "watchpost snippet rules prints the rule";

/// What the rule gives its alert.
pub(super) struct Rule {
    /// Those with a value that is known before it is evaluated.
    pub(super) labels: Labels,
    /// How often its group is evaluated, when the group says so.
    pub(super) interval: Option<Duration>,
}

/// The rule of a watchdog, checked.
pub(super) fn find(
    files: &[Node],
    watchdog: &Watchdog<'_>,
    problems: &mut Problems,
) -> Option<Rule> {
    let groups =
        files.iter().flat_map(|root| root.get("groups").map(Node::items).unwrap_or_default());
    let rules = groups.flat_map(|group| {
        let rules = group.get("rules").map(Node::items).unwrap_or_default();
        rules.iter().map(move |rule| (group, rule))
    });
    let name = watchdog.rules.alertname.as_str();
    let mut named = rules.filter(|(_, rule)| rule.get("alert").and_then(Node::text) == Some(name));
    let Some((group, rule)) = named.next() else {
        let at = files.first()?.find("groups").at();
        problems.push(Problem::error(format!("no rule is called {name}")).at(at).hint(SNIPPET));
        return None;
    };
    check(rule, watchdog, problems);
    let mut labels = Labels::new();
    for entry in rule.get("labels").map(Node::entries).unwrap_or_default() {
        let value = entry.value.text().unwrap_or_default();
        if !value.contains("{{") {
            labels.insert(entry.name().to_owned(), value.to_owned());
        }
    }
    Some(Rule { labels, interval: duration(group.get("interval"), problems) })
}

fn check(rule: &Node, watchdog: &Watchdog<'_>, problems: &mut Problems) {
    let expression = rule.get("expr").and_then(Node::text).unwrap_or_default().trim();
    if expression.contains("watchpost_clock_seconds") {
        problems.push(
            Problem::warning("without watchpost's clock this alert does not fire, so that nobody learns it from Alertmanager")
                .at(rule.find("expr").at())
                .hint("expr: vector(1)"),
        );
    }
    if duration(rule.get("for"), problems).is_some_and(|time| !time.is_zero()) {
        problems.push(
            Problem::warning("after each restart of Prometheus the Watchdog waits for this time")
                .at(rule.find("for").at())
                .hint("drop for"),
        );
    }
    let name = &watchdog.rules.annotation;
    let annotation = rule.get("annotations").and_then(|it| it.get(name));
    let text = annotation.and_then(Node::text).unwrap_or_default();
    let at = annotation.unwrap_or(rule).at();
    if !text.contains("watchpost_clock_seconds") {
        let what = format!(
            "no clock comes back: the annotation {name} does not print watchpost_clock_seconds"
        );
        problems.push(Problem::error(what).at(at).hint(SNIPPET));
    } else if !text.contains("%.3f") {
        let what =
            "the clock is not printed to the millisecond, and watchpost does not know it again";
        problems.push(Problem::error(what).at(at).hint("{{ printf \"%.3f\" .Value }}"));
    }
    if let Some(label) = &watchdog.rules.source_label
        && rule.get("labels").and_then(|it| it.get(label)).is_none()
    {
        problems.push(
            Problem::error(format!(
                "the rule does not set the label {label}, which tells the sources apart"
            ))
            .at(rule.find("labels").at())
            .hint(SNIPPET),
        );
    }
}
