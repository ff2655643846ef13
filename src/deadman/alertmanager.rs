//! What an Alertmanager says when it is asked: whether it is ready, what became of the Watchdog, which of its
//! integrations fail. Pure: answers in, findings out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::spec::WatchdogSpec;
use crate::model::{Answer, Fault};
use crate::probe::exposition::{Format, Limits, Reader};

/// Longest text of somebody else's that a finding carries.
const MAX_TEXT: usize = 300;
/// Integrations whose counters are followed, for each Alertmanager.
const MAX_INTEGRATIONS: usize = 64;
/// When Alertmanager took over its configuration.
const LOADED: &str = "alertmanager_config_last_reload_success_timestamp_seconds";
/// A counters' page may not be longer than this many samples.
const MAX_SAMPLES: u64 = 200_000;

/// Something that a person should know about one Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Unreachable {
        detail: String,
    },
    NotReady {
        detail: String,
    },
    /// The cluster of which it is part has not settled, or it stands alone where it has peers.
    Cluster {
        status: String,
    },
    /// It answers, but not as an Alertmanager does.
    Unreadable {
        detail: String,
    },
    /// No Prometheus sends it the alert of this source.
    Missing {
        source: String,
    },
    Silenced {
        source: String,
        id: String,
        by: String,
        comment: String,
        until: Option<Timestamp>,
    },
    Inhibited {
        source: String,
        /// The alerts that inhibit it, or their fingerprints.
        by: Vec<String>,
    },
    Muted {
        source: String,
        intervals: Vec<String>,
    },
    /// It goes to receivers other than the one by which evidence came, or none of them brought any yet.
    Rerouted {
        source: String,
        to: Vec<String>,
        instead_of: Option<String>,
    },
    /// Notifications of this integration failed since we last looked, and none has succeeded since.
    Failing {
        integration: String,
        failures: u64,
        reasons: Vec<String>,
    },
}

impl Finding {
    /// Whether it is about one integration, about the watchdog, or about the replica: the label `finding`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::NotReady { .. } => "not_ready",
            Self::Cluster { .. } => "cluster",
            Self::Unreadable { .. } => "unreadable",
            Self::Missing { .. } => "missing",
            Self::Silenced { .. } => "silenced",
            Self::Inhibited { .. } => "inhibited",
            Self::Muted { .. } => "muted",
            Self::Rerouted { .. } => "rerouted",
            Self::Failing { .. } => "failing",
        }
    }

    pub const LABELS: [&str; 10] = [
        "unreachable",
        "not_ready",
        "cluster",
        "unreadable",
        "missing",
        "silenced",
        "inhibited",
        "muted",
        "rerouted",
        "failing",
    ];
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { detail } => write!(f, "does not answer: {detail}"),
            Self::NotReady { detail } => write!(f, "is not ready: {detail}"),
            Self::Cluster { status } => write!(f, "cluster is {status}"),
            Self::Unreadable { detail } => write!(f, "answers what no Alertmanager does: {detail}"),
            Self::Missing { source } => write!(f, "has no Watchdog of {source}"),
            Self::Silenced { source, id, by, comment, until } => {
                write!(f, "Watchdog of {source} is silenced by {by}")?;
                if let Some(until) = until {
                    write!(f, " until {until}")?;
                }
                write!(f, " ({comment:?}, silence {id})")
            }
            Self::Inhibited { source, by } => {
                write!(f, "Watchdog of {source} is inhibited by {}", by.join(", "))
            }
            Self::Muted { source, intervals } => {
                write!(f, "Watchdog of {source} is muted by time interval {}", intervals.join(", "))
            }
            Self::Rerouted { source, to, instead_of } => {
                write!(f, "Watchdog of {source} goes to {}, ", to.join(", "))?;
                match instead_of {
                    Some(receiver) => write!(f, "not to {receiver}"),
                    None => f.write_str("which brought no evidence here yet"),
                }
            }
            Self::Failing { integration, failures, reasons } => {
                write!(f, "integration {integration} fails: {failures} attempts without success")?;
                if reasons.is_empty() { Ok(()) } else { write!(f, " ({})", reasons.join(", ")) }
            }
        }
    }
}

/// One Alertmanager, as it was found at the last poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replica {
    pub url: String,
    pub version: Option<String>,
    pub findings: Vec<Finding>,
}

impl Replica {
    pub fn is_up(&self) -> bool {
        !self.findings.iter().any(|it| {
            matches!(
                it,
                Finding::Unreachable { .. } | Finding::NotReady { .. } | Finding::Unreadable { .. }
            )
        })
    }

    /// What it says as a check of its own. Nothing here is worse than a warning: whether alerts still get through is for
    /// the evidence to say.
    pub fn answer(&self) -> Answer {
        let Some(first) = self.findings.first() else { return Answer::Pass };
        let more = self.findings.len() - 1;
        let mut detail = format!("Alertmanager {} {first}", self.url);
        if more > 0 {
            detail = format!("{detail}, and {more} more");
        }
        Answer::Warn(Fault::ReportedFailure { detail: detail.into() })
    }
}

/// What all of them say, one line for each finding, with those who say it.
pub fn said(replicas: &[Replica]) -> Vec<String> {
    let mut by_finding: Vec<(String, Vec<&str>)> = Vec::new();
    for replica in replicas {
        for finding in &replica.findings {
            let text = finding.to_string();
            match by_finding.iter_mut().find(|(known, _)| *known == text) {
                Some((_, urls)) => urls.push(&replica.url),
                None => by_finding.push((text, vec![&replica.url])),
            }
        }
    }
    by_finding
        .into_iter()
        .map(|(text, urls)| format!("Alertmanager {} {text}", urls.join(", ")))
        .collect()
}

pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[derive(Debug, Deserialize)]
struct StatusPage {
    cluster: Cluster,
    #[serde(rename = "versionInfo")]
    version: Option<VersionInfo>,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    status: String,
    #[serde(default)]
    peers: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct VersionInfo {
    version: String,
}

/// Reads `/api/v2/status`. `replicas`: how many there should be.
pub(super) fn read_status(body: &[u8], replicas: usize) -> (Option<String>, Vec<Finding>) {
    let page: StatusPage = match serde_json::from_slice(body) {
        Ok(page) => page,
        Err(error) => return (None, vec![unreadable("/api/v2/status", &error)]),
    };
    let version = page.version.map(|info| short(&info.version));
    let peers = page.cluster.peers.len();
    let finding = match page.cluster.status.as_str() {
        "ready" if replicas > 1 && peers < replicas => {
            Some(format!("ready, with {peers} of {replicas} members"))
        }
        "ready" => None,
        "disabled" if replicas > 1 => Some("disabled, so every replica sends on its own".into()),
        "disabled" => None,
        other => Some(short(other)),
    };
    (version, finding.map(|status| Finding::Cluster { status }).into_iter().collect())
}

fn unreadable(path: &str, error: &serde_json::Error) -> Finding {
    Finding::Unreadable { detail: format!("{path}: {}", short(&error.to_string())) }
}

#[derive(Debug, Deserialize)]
struct ListedAlert {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    receivers: Vec<Named>,
    status: AlertStatus,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "Alertmanager's own names")]
struct AlertStatus {
    #[serde(default, rename = "silencedBy")]
    silenced_by: Vec<String>,
    #[serde(default, rename = "inhibitedBy")]
    inhibited_by: Vec<String>,
    #[serde(default, rename = "mutedBy")]
    muted_by: Vec<String>,
}

/// Reads `/api/v2/alerts` for the Watchdog. A silence's author is filled in by [`read_silence`], what inhibits by
/// [`inhibitor::resolve`](super::inhibitor::resolve). `via` is the receiver by
/// which evidence came last.
pub(super) fn read_alerts(body: &[u8], rules: &WatchdogSpec, via: Option<&str>) -> Vec<Finding> {
    let alerts: Vec<ListedAlert> = match serde_json::from_slice(body) {
        Ok(alerts) => alerts,
        Err(error) => return vec![unreadable("/api/v2/alerts", &error)],
    };
    let mut findings = Vec::new();
    for source in rules.source_names() {
        let is_of_source = |alert: &&ListedAlert| {
            alert.labels.get("alertname") == Some(&rules.alertname)
                && rules
                    .source_label
                    .as_ref()
                    .is_none_or(|label| alert.labels.get(label) == Some(&source))
        };
        let of_source: Vec<&ListedAlert> = alerts.iter().filter(is_of_source).collect();
        if of_source.is_empty() {
            findings.push(Finding::Missing { source: source.clone() });
        }
        for alert in &of_source {
            findings.extend(suppressed(&source, &alert.status));
        }
        findings.extend(rerouted(&source, &of_source, via));
    }
    findings
}

fn rerouted(source: &str, alerts: &[&ListedAlert], via: Option<&str>) -> Option<Finding> {
    let names = || alerts.iter().flat_map(|alert| &alert.receivers).map(|it| it.name.as_str());
    if names().next().is_none() || names().any(|name| Some(name) == via) {
        return None;
    }
    let to = names().take(5).map(short).collect();
    Some(Finding::Rerouted { source: source.to_owned(), to, instead_of: via.map(short) })
}

fn suppressed(source: &str, status: &AlertStatus) -> Vec<Finding> {
    let source = source.to_owned();
    let mut findings: Vec<Finding> = status
        .silenced_by
        .iter()
        .take(3)
        .map(|id| Finding::Silenced {
            source: source.clone(),
            id: short(id),
            by: "somebody".to_owned(),
            comment: String::new(),
            until: None,
        })
        .collect();
    let some =
        |names: &[String]| -> Vec<String> { names.iter().take(5).map(|it| short(it)).collect() };
    if !status.inhibited_by.is_empty() {
        findings
            .push(Finding::Inhibited { source: source.clone(), by: some(&status.inhibited_by) });
    }
    if !status.muted_by.is_empty() {
        findings.push(Finding::Muted { source, intervals: some(&status.muted_by) });
    }
    findings
}

#[derive(Debug, Deserialize)]
struct SilencePage {
    #[serde(default, rename = "createdBy")]
    created_by: String,
    #[serde(default)]
    comment: String,
    #[serde(default, rename = "endsAt")]
    ends_at: Option<Timestamp>,
}

/// Reads `/api/v2/silence/<id>` into the finding that named the id.
pub(super) fn read_silence(body: &[u8], finding: &mut Finding) {
    let Ok(page) = serde_json::from_slice::<SilencePage>(body) else { return };
    if let Finding::Silenced { by, comment, until, .. } = finding {
        *by = short(&page.created_by);
        *comment = short(&page.comment);
        *until = page.ends_at;
    }
}

/// What an Alertmanager's counters said at the last poll.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    by_integration: BTreeMap<String, Counter>,
    /// When its configuration was loaded last, by its own clock.
    loaded: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Counter {
    /// Notifications that were begun, and those that were given up.
    begun: f64,
    failed: f64,
    /// Single requests, of which a notification may take several. They count when they end, so they are news minutes
    /// before a notification is given up, and one that is under way is not taken for a success.
    requests: Option<f64>,
    requests_failed: f64,
    by_reason: BTreeMap<String, f64>,
    /// Failures since the last success, with what was behind them.
    open: Option<(u64, Vec<String>)>,
}

impl Counters {
    /// Reads `/metrics`, compares with what was there before, and keeps the result.
    pub(super) fn read(&mut self, body: &[u8], format: Format) -> Vec<Finding> {
        let (now, loaded) = match count(body, format) {
            Ok(now) => now,
            Err(detail) => return vec![Finding::Unreadable { detail }],
        };
        let is_reloaded = self.loaded.is_some() && self.loaded != loaded;
        self.loaded = loaded;
        let before = std::mem::take(&mut self.by_integration);
        let is_first = before.is_empty();
        for (name, mut counter) in now {
            let last = before.get(&name);
            counter.open = match last {
                Some(last) => counter.compared(last, is_reloaded),
                // A counter that appears later began at zero.
                None if !is_first => counter.compared(&Counter::default(), is_reloaded),
                None => None,
            };
            self.by_integration.insert(name, counter);
        }
        let failing = self.by_integration.iter().filter_map(|(name, counter)| {
            let (failures, reasons) = counter.open.clone()?;
            Some(Finding::Failing { integration: short(name), failures, reasons })
        });
        failing.collect()
    }
}

impl Counter {
    /// Failures that nothing made good yet. A restart of Alertmanager starts its counters anew. A reload gives up what was
    /// under way and sends it again at once; the one who repaired it must not wait for the next alert to see that.
    fn compared(&self, last: &Self, is_reloaded: bool) -> Option<(u64, Vec<String>)> {
        let is_restarted = self.begun < last.begun || self.failed < last.failed;
        let zero = Self::default();
        let base = if is_restarted { &zero } else { last };
        let given_up = self.failed - base.failed;
        let (failed, succeeded) = match self.requests {
            Some(requests) => {
                let failed = self.requests_failed - base.requests_failed;
                (failed, requests - base.requests.unwrap_or_default() - failed)
            }
            None => (given_up, self.begun - base.begun - given_up),
        };
        if is_reloaded && succeeded > 0.0 {
            return None;
        }
        // What was tried again and went through is no news.
        if given_up > 0.0 || (failed > 0.0 && succeeded <= 0.0) {
            let before = last.open.as_ref().map_or(0, |(failures, _)| *failures);
            let failures = before.saturating_add(whole(failed.max(given_up)));
            return Some((failures, self.reasons_since(base)));
        }
        if succeeded > 0.0 { None } else { last.open.clone() }
    }

    fn reasons_since(&self, base: &Self) -> Vec<String> {
        let grown = |(reason, count): (&String, &f64)| {
            (*count > base.by_reason.get(reason).copied().unwrap_or_default())
                .then(|| short(reason))
        };
        self.by_reason.iter().filter_map(grown).collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter's growth, saturating"
)]
const fn whole(growth: f64) -> u64 {
    growth as u64
}

/// The counters, and when the configuration was loaded last.
type Counted = (BTreeMap<String, Counter>, Option<f64>);

fn count(body: &[u8], format: Format) -> Result<Counted, String> {
    let mut counters: BTreeMap<String, Counter> = BTreeMap::new();
    let mut loaded = None;
    let mut take = |sample: crate::probe::exposition::Sample<'_>| {
        if sample.name == LOADED {
            loaded = Some(sample.value);
            return;
        }
        let Some(name) = sample.name.strip_prefix("alertmanager_notification") else { return };
        if !["s_total", "s_failed_total", "_requests_total", "_requests_failed_total"]
            .contains(&name)
        {
            return;
        }
        let (mut integration, mut reason) = (None, None);
        for (name, value) in sample.labels.iter() {
            match &*name {
                "integration" => integration = Some(value.to_string()),
                "reason" => reason = Some(value.to_string()),
                _ => {}
            }
        }
        let Some(integration) = integration else { return };
        if counters.len() >= MAX_INTEGRATIONS && !counters.contains_key(&integration) {
            return;
        }
        let counter = counters.entry(integration).or_default();
        match name {
            "s_total" => counter.begun += sample.value,
            "_requests_total" => *counter.requests.get_or_insert_default() += sample.value,
            "_requests_failed_total" => counter.requests_failed += sample.value,
            _ => {
                counter.failed += sample.value;
                if let Some(reason) = reason {
                    *counter.by_reason.entry(reason).or_default() += sample.value;
                }
            }
        }
    };
    let limits = Limits { max_samples: MAX_SAMPLES, ..Limits::default() };
    let mut reader = Reader::new(format, limits);
    let read = reader.feed(body, &mut take).and_then(|()| reader.finish(&mut take));
    read.map_err(|invalid| format!("/metrics: {invalid}"))?;
    Ok((counters, loaded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> WatchdogSpec {
        serde_json::from_str(r#"{"source_label":"prometheus","sources":["p1","p2"]}"#).unwrap()
    }

    #[test]
    fn a_suppressed_watchdog_is_named() {
        let body = br#"[
          {"labels":{"alertname":"Watchdog","prometheus":"p1"},
           "status":{"state":"suppressed","silencedBy":["id-1"],"inhibitedBy":["f00"],"mutedBy":["night"]}},
          {"labels":{"alertname":"Other","prometheus":"p2"},"status":{"state":"active"}}]"#;
        let mut findings = read_alerts(body, &rules(), None);
        let labels: Vec<_> = findings.iter().map(Finding::label).collect();
        assert_eq!(labels, ["silenced", "inhibited", "muted", "missing"]);
        let silence = br#"{"createdBy":"alice","comment":"silence --all","endsAt":"2026-01-01T00:00:00.000Z"}"#;
        read_silence(silence, &mut findings[0]);
        assert_eq!(
            findings[0].to_string(),
            "Watchdog of p1 is silenced by alice until 2026-01-01T00:00:00Z (\"silence --all\", silence id-1)"
        );
    }

    #[test]
    fn a_watchdog_that_goes_elsewhere_is_named() {
        let body = br#"[
          {"labels":{"alertname":"Watchdog","prometheus":"p1"},"receivers":[{"name":"null"}],
           "status":{"state":"active"}},
          {"labels":{"alertname":"Watchdog","prometheus":"p2"},"receivers":[{"name":"people"},{"name":"wp"}],
           "status":{"state":"active"}}]"#;
        let found = |via| {
            let found = read_alerts(body, &rules(), via);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(Some("wp")), ["Watchdog of p1 goes to null, not to wp"]);
        assert_eq!(
            found(None),
            [
                "Watchdog of p1 goes to null, which brought no evidence here yet",
                "Watchdog of p2 goes to people, wp, which brought no evidence here yet"
            ]
        );
    }

    #[test]
    fn what_replicas_agree_on_is_said_once() {
        let finding = || Finding::Cluster { status: "settling".into() };
        let replica = |url: &str, findings| Replica { url: url.into(), version: None, findings };
        let all = [
            replica("http://a", vec![finding()]),
            replica("http://b", vec![finding(), Finding::Missing { source: "p1".into() }]),
        ];
        assert_eq!(
            said(&all),
            [
                "Alertmanager http://a, http://b cluster is settling",
                "Alertmanager http://b has no Watchdog of p1"
            ]
        );
    }

    #[test]
    fn a_request_under_way_is_no_success() {
        let page = |begun: u64, failed: u64, requests: u64, requests_failed: u64| {
            format!(
                "{}alertmanager_notification_requests_total{{integration=\"pagerduty\"}} {requests}\n\
                 alertmanager_notification_requests_failed_total{{integration=\"pagerduty\"}} {requests_failed}\n",
                metrics(begun, failed)
            )
        };
        let mut counters = Counters::default();
        let mut step = |page: String| {
            let found = counters.read(page.as_bytes(), Format::Text);
            match found.first() {
                Some(Finding::Failing { failures, .. }) => *failures,
                _ => 0,
            }
        };
        assert_eq!(step(page(5, 0, 5, 0)), 0);
        assert_eq!(step(page(6, 0, 8, 3)), 3, "seen before the notification is given up");
        assert_eq!(step(page(6, 1, 10, 5)), 5);
        assert_eq!(step(page(7, 1, 10, 5)), 5, "the next one has begun");
        assert_eq!(step(page(7, 1, 12, 6)), 0, "it went through at the second try");
        assert_eq!(step(page(8, 1, 14, 7)), 0, "and so did this one");
    }

    #[test]
    fn what_a_reload_repaired_is_over() {
        let page = |sent: u64, failed: u64, loaded: u64| {
            format!("{}{LOADED} {loaded}\n", metrics(sent, failed))
        };
        let mut counters = Counters::default();
        let mut fails = |page: String| !counters.read(page.as_bytes(), Format::Text).is_empty();
        assert!(!fails(page(5, 0, 100)));
        assert!(fails(page(6, 1, 100)));
        assert!(fails(page(7, 2, 200)), "reloaded, and nothing went through");
        assert!(fails(page(9, 3, 200)), "somebody got through, somebody was given up");
        assert!(!fails(page(11, 4, 300)), "given up by the reload, and sent again");
    }

    #[test]
    fn a_cluster_that_lost_a_member_is_named() {
        let page = |status: &str, peers: usize| {
            let peers = vec!["{}"; peers].join(",");
            format!(
                r#"{{"cluster":{{"status":"{status}","peers":[{peers}]}},"versionInfo":{{"version":"0.27.0"}}}}"#
            )
        };
        for (status, peers, replicas, expected) in [
            ("ready", 3, 3, 0),
            ("ready", 2, 3, 1),
            ("settling", 3, 3, 1),
            ("disabled", 0, 1, 0),
            ("disabled", 0, 2, 1),
        ] {
            let (version, findings) = read_status(page(status, peers).as_bytes(), replicas);
            assert_eq!(findings.len(), expected, "{status} {peers}/{replicas}");
            assert_eq!(version.as_deref(), Some("0.27.0"));
        }
        let (_, findings) = read_status(b"<html>", 1);
        assert_eq!(findings[0].label(), "unreadable");
    }

    fn metrics(sent: u64, failed: u64) -> String {
        format!(
            "alertmanager_notifications_total{{integration=\"pagerduty\"}} {sent}\n\
             alertmanager_notifications_failed_total{{integration=\"pagerduty\",reason=\"serverError\"}} {failed}\n"
        )
    }

    #[test]
    fn an_integration_fails_until_it_succeeds() {
        let mut counters = Counters::default();
        let mut step = |sent, failed| {
            let found = counters.read(metrics(sent, failed).as_bytes(), Format::Text);
            match found.first() {
                Some(Finding::Failing { failures, .. }) => *failures,
                _ => 0,
            }
        };
        assert_eq!(step(100, 7), 0, "what was before we looked is history");
        assert_eq!(step(101, 8), 1);
        assert_eq!(step(101, 8), 1, "nothing was sent since");
        assert_eq!(step(103, 10), 3);
        assert_eq!(step(104, 10), 0, "one went through");
        assert_eq!(step(1, 1), 1, "restarted");
    }
}
