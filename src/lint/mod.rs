//! Other people's configuration, read as its owner reads it: does Alertmanager bring the Watchdog here, and how often?
//!
//! Files are known by their keys: `alertmanager.yml`, and where they are given `prometheus.yml` and files of rules. What is
//! wrong is a [`Problem`] at its line and column. Not a check of the files for their own sake: `amtool` and `promtool` do
//! that.

mod alertmanager;
mod inhibit;
mod matcher;
mod prometheus;
mod receiver;
mod route;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::yaml::{self, Node, Source};
use crate::config::{Problem, Problems};
use crate::deadman::timing::RouteTiming;
use crate::deadman::{RouteSpec, Spec, WatchdogSpec};
use crate::model::Period;

/// Where `--peers`, the configuration and the files are silent.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// What is to be found out.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The switches that are to be fed; those that are no watchdogs are passed over.
    pub specs: &'a [Arc<Spec>],
    /// Whether the switches are configured, or stand for what will be.
    pub configured: bool,
    /// Labels that the Watchdog has beside those of the rule.
    pub labels: &'a [(String, String)],
    /// Alertmanagers in the cluster.
    pub peers: Option<usize>,
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Problems,
    /// Each watchdog that is fed, with the timing that it really has in its `route`.
    pub fed: Vec<(Spec, RouteTiming)>,
    /// A file could not be read, or is none of those that are understood: nothing was found out.
    pub unusable: bool,
}

/// Reads the files and follows the Watchdog through them.
pub fn lint(paths: &[PathBuf], asked: &Asked<'_>) -> Report {
    let mut report = Report::default();
    let mut files = Files::default();
    for path in paths {
        files.take(path, &mut report);
    }
    if files.alertmanager.is_empty() && !report.unusable {
        report.unusable = true;
        report.problems.push(
            Problem::error("no file is an alertmanager.yml")
                .hint("name the file that has route: and receivers:"),
        );
    }
    if report.unusable {
        return report;
    }
    for spec in asked.specs {
        let Some(rules) = &spec.watchdog else { continue };
        let watchdog = Watchdog { spec, rules, asked };
        follow(&watchdog, &files, &mut report);
    }
    if asked.configured {
        for file in &files.alertmanager {
            receiver::unknown_names(file, asked, &mut report.problems);
        }
    }
    report.problems.sort();
    report
}

/// A switch, and what is asked about it.
struct Watchdog<'a> {
    spec: &'a Spec,
    rules: &'a WatchdogSpec,
    asked: &'a Asked<'a>,
}

impl Watchdog<'_> {
    /// The name that the webhook's URL must end with; `None` when any will do.
    fn name(&self) -> Option<&str> {
        self.asked.configured.then_some(self.spec.name.as_str())
    }

    fn peers(&self) -> usize {
        let told = self.asked.peers.or_else(|| self.rules.route.as_ref()?.peers);
        told.unwrap_or(self.rules.alertmanagers.len()).max(1)
    }
}

/// Labels of an alert, by name.
type Labels = BTreeMap<String, String>;

fn follow(watchdog: &Watchdog<'_>, files: &Files, report: &mut Report) {
    let mut labels: Labels = [("severity", "none"), ("origin", "watchpost")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut interval = None;
    if !files.rules.is_empty()
        && let Some(rule) = rules::find(&files.rules, watchdog, &mut report.problems)
    {
        labels = rule.labels;
        interval = rule.interval;
    }
    labels.insert("alertname".to_owned(), watchdog.rules.alertname.clone());
    let turn = prometheus::turn(&files.prometheus, watchdog, &mut labels, &mut report.problems);
    for (name, value) in watchdog.asked.labels {
        labels.insert(name.clone(), value.clone());
    }
    let told = watchdog.rules.route.as_ref();
    let or = |told: Option<Period>| told.map_or(DEFAULT_INTERVAL, Period::get);
    let mut turn = turn.unwrap_or(prometheus::Turn {
        scrape: or(told.map(|route| route.scrape_interval)),
        evaluation: or(told.map(|route| route.evaluation_interval)),
    });
    turn.evaluation = interval.unwrap_or(turn.evaluation);
    for file in &files.alertmanager {
        let mut slowest: Option<RouteTiming> = None;
        for labels in of_each_source(watchdog, &labels) {
            let timing = alertmanager::follow(file, watchdog, &labels, turn, &mut report.problems);
            slowest = [slowest, timing].into_iter().flatten().max_by_key(RouteTiming::period);
        }
        if let Some(timing) = slowest {
            report.fed.push((timed(watchdog, &timing), timing));
        }
    }
}

/// The labels of the alert of each Prometheus.
fn of_each_source(watchdog: &Watchdog<'_>, labels: &Labels) -> Vec<Labels> {
    let Some(label) = &watchdog.rules.source_label else { return vec![labels.clone()] };
    let with = |source: &String| {
        let mut labels = labels.clone();
        labels.insert(label.clone(), source.clone());
        labels
    };
    watchdog.rules.sources.iter().map(with).collect()
}

/// The switch with the route that it really has.
fn timed(watchdog: &Watchdog<'_>, timing: &RouteTiming) -> Spec {
    let period =
        |time: Duration| Period::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let route = RouteSpec {
        scrape_interval: period(timing.scrape_interval),
        evaluation_interval: period(timing.evaluation_interval),
        group_wait: period(timing.group_wait),
        group_interval: period(timing.group_interval),
        repeat_interval: period(timing.repeat_interval),
        resend_delay: period(timing.resend_delay),
        peers: Some(timing.peers),
        peer_timeout: period(timing.peer_timeout),
    };
    let rules = WatchdogSpec { route: Some(route), ..watchdog.rules.clone() };
    Spec { watchdog: Some(rules), ..watchdog.spec.clone() }
}

/// The files by what they are.
#[derive(Debug, Default)]
struct Files {
    alertmanager: Vec<Node>,
    prometheus: Vec<Node>,
    rules: Vec<Node>,
}

impl Files {
    fn take(&mut self, path: &Path, report: &mut Report) {
        let source = match Source::read(path) {
            Ok(source) => source.with_secret_keys(is_secret),
            Err(problem) => {
                report.problems.push(problem);
                report.unusable = true;
                return;
            }
        };
        let Some(root) = yaml::parse(source, &mut report.problems) else {
            report.unusable = true;
            return;
        };
        let has = |keys: &[&str]| keys.iter().any(|key| root.get(key).is_some());
        if has(&["route", "receivers", "inhibit_rules"]) {
            self.alertmanager.push(root);
        } else if has(&["scrape_configs", "rule_files", "alerting"]) {
            self.prometheus.push(root);
        } else if has(&["groups"]) {
            self.rules.push(root);
        } else {
            report.unusable = true;
            report.problems.push(
                Problem::error("this is no configuration of Alertmanager or Prometheus")
                    .at(root.at())
                    .hint("name alertmanager.yml, and beside it prometheus.yml and files of rules"),
            );
        }
    }
}

/// Keys of Alertmanager and Prometheus whose values are never shown. The URL of a hook is as good as a key.
fn is_secret(key: &str) -> bool {
    const KEYS: [&str; 16] = [
        "url",
        "api_url",
        "webhook_url",
        "password",
        "credentials",
        "bearer_token",
        "client_secret",
        "auth_password",
        "auth_secret",
        "smtp_auth_password",
        "smtp_auth_secret",
        "routing_key",
        "service_key",
        "api_key",
        "token",
        "bot_token",
    ];
    KEYS.contains(&key) || key.ends_with("_api_url") || key.ends_with("_api_key")
}

/// A duration that may be missing or wrong; what is wrong is said.
fn duration(node: Option<&Node>, problems: &mut Problems) -> Option<Duration> {
    let node = node.filter(|node| !node.is_null())?;
    let period = Period::parse(node.text().unwrap_or_default()).ok().map(Period::get);
    if period.is_none() {
        let problem = Problem::error("this is no duration").at(node.at());
        problems.push(problem.hint("such as 50s or 1m30s"));
    }
    period
}

fn is_true(node: Option<&Node>) -> Option<bool> {
    let text = node?.text()?;
    match text {
        "true" | "True" | "TRUE" | "yes" | "on" => Some(true),
        "false" | "False" | "FALSE" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
