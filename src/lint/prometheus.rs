//! What `prometheus.yml` says about the loop: how often watchpost is scraped, how often rules are evaluated, and whether
//! the Watchdog leaves with its labels.

use std::time::Duration;

use regex::Regex;

use super::{DEFAULT_INTERVAL, Labels, Watchdog, duration, is_true};
use crate::config::yaml::Node;
use crate::config::{Problem, Problems};

const CLOCK: &str = "watchpost_clock_seconds";

/// How fast one Prometheus turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) scrape: Duration,
    pub(super) evaluation: Duration,
}

/// The slowest of the files; `None` without any. External labels are added to `labels`.
pub(super) fn turn(
    files: &[Node],
    watchdog: &Watchdog<'_>,
    labels: &mut Labels,
    problems: &mut Problems,
) -> Option<Turn> {
    let mut slowest: Option<Turn> = None;
    for root in files {
        let global = root.get("global");
        let mut of_global = |key: &str| duration(global.and_then(|it| it.get(key)), problems);
        let scrape = of_global("scrape_interval").unwrap_or(DEFAULT_INTERVAL);
        let evaluation = of_global("evaluation_interval").unwrap_or(DEFAULT_INTERVAL);
        let scrape = scrape_of(root, scrape, problems);
        let external = global.and_then(|it| it.get("external_labels"));
        for entry in external.map(Node::entries).unwrap_or_default() {
            let value = entry.value.text().unwrap_or_default().to_owned();
            labels.entry(entry.name().to_owned()).or_insert(value);
        }
        relabelled(root, watchdog, labels, problems);
        slowest = Some(slowest.map_or(Turn { scrape, evaluation }, |before| Turn {
            scrape: before.scrape.max(scrape),
            evaluation: before.evaluation.max(evaluation),
        }));
    }
    slowest
}

/// How often watchpost is scraped, and whether its clock gets through.
fn scrape_of(root: &Node, global: Duration, problems: &mut Problems) -> Duration {
    let jobs = root.get("scrape_configs").map(Node::items).unwrap_or_default();
    let is_ours = |job: &&Node| {
        job.get("job_name").and_then(Node::text).is_some_and(|it| it.contains("watchpost"))
    };
    let Some(job) = jobs.iter().find(is_ours) else {
        problems.push(
            Problem::warning("no scrape job is called watchpost: its clock may never get here")
                .at(root.find("scrape_configs").at())
                .hint("watchpost snippet prometheus prints one"),
        );
        return global;
    };
    if is_true(job.get("honor_labels")) != Some(true) {
        problems.push(
            Problem::warning("without honor_labels results have watchpost's own job and instance")
                .at(job.at())
                .hint("honor_labels: true"),
        );
    }
    for rule in job.get("metric_relabel_configs").map(Node::items).unwrap_or_default() {
        let action = rule.get("action").and_then(Node::text).unwrap_or("replace");
        let hits = hits(rule, &|name| if name == "__name__" { CLOCK } else { "" });
        if (action == "drop" && hits) || (action == "keep" && !hits) {
            problems.push(
                Problem::error(format!("{CLOCK} is dropped: there will be no evidence"))
                    .at(rule.at())
                    .hint("keep it"),
            );
        }
    }
    duration(job.get("scrape_interval"), problems).unwrap_or(global)
}

/// Relabelling of alerts may take the Watchdog's labels, or the Watchdog.
fn relabelled(root: &Node, watchdog: &Watchdog<'_>, labels: &Labels, problems: &mut Problems) {
    let rules = root.get("alerting").and_then(|it| it.get("alert_relabel_configs"));
    for rule in rules.map(Node::items).unwrap_or_default() {
        let action = rule.get("action").and_then(Node::text).unwrap_or("replace");
        let regex = regex(rule);
        let source = watchdog.rules.source_label.as_deref();
        let loses = match action {
            "labeldrop" => source.is_some_and(|label| regex.is_match(label)),
            "labelkeep" => source.is_some_and(|label| !regex.is_match(label)),
            _ => false,
        };
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        let hits = hits(rule, &value);
        let what = if loses {
            format!(
                "the label {} is taken from alerts: no source can be told from another",
                source.unwrap_or_default()
            )
        } else if (action == "drop" && hits) || (action == "keep" && !hits) {
            format!("{} is dropped before it is sent", watchdog.rules.alertname)
        } else {
            continue;
        };
        let hint =
            "the shipped rule has the replica in a label of its own for that reason: leave it";
        problems.push(Problem::error(what).at(rule.at()).hint(hint));
    }
}

fn regex(rule: &Node) -> Regex {
    let text = rule.get("regex").and_then(Node::text).unwrap_or(".*");
    Regex::new(&format!("^(?s:{text})$"))
        .unwrap_or_else(|_| Regex::new("^$").expect("a constant expression"))
}

fn hits<'a>(rule: &'a Node, value: &dyn Fn(&'a str) -> &'a str) -> bool {
    let names = rule.get("source_labels").map(Node::items).unwrap_or_default();
    let separator = rule.get("separator").and_then(Node::text).unwrap_or(";");
    let values: Vec<&str> = names.iter().filter_map(Node::text).map(value).collect();
    regex(rule).is_match(&values.join(separator))
}
