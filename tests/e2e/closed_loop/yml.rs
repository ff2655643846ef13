//! The three configurations, made from the shipped rule and the shipped route.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::stage::Setup;
use crate::support::fakes::{API_KEY, PagerDuty, Service, TELEMETRY_KEY};

/// Of the door at which Alertmanager knocks.
const KEY: &str = "an-opaque-key-0123456789";
/// Routing keys of PagerDuty's two services.
pub(super) const PAGE: &str = "page";
pub(super) const TICKET: &str = "ticket";
/// The heartbeat's monitor.
pub(super) const MONITOR: &str = "pipeline";

/// Where everybody listens.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) watchpost: u16,
    pub(super) prometheis: Vec<u16>,
    pub(super) alertmanagers: Vec<u16>,
    /// Where the members of a cluster gossip.
    pub(super) gossip: Vec<u16>,
}

impl Ports {
    pub(super) fn alertmanager_url(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}", self.alertmanagers[index])
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Replaces what must be there.
pub(super) fn replaced(text: &str, what: &str, by: &str) -> String {
    assert!(text.contains(what), "{what:?} is not in\n{text}");
    text.replace(what, by)
}

/// The name of a source.
pub(super) fn source(index: usize) -> String {
    format!("prom-{}", index + 1)
}

pub(super) fn watchpost(
    setup: &Setup,
    ports: &Ports,
    pagerduty: &PagerDuty,
    cronitor: &Service,
) -> String {
    let alertmanagers: Vec<String> =
        (0..setup.alertmanagers).map(|index| ports.alertmanager_url(index)).collect();
    let mut text = String::from("watchpost: { id: wp-1 }\nreceivers:\n");
    for (name, key) in [("oncall", PAGE), ("tickets", TICKET)] {
        let url = pagerduty.url();
        writeln!(
            text,
            "  - {{ name: {name}, resolve_after: 1s, pagerduty: {{ routing_key: {key}, url: '{url}' }} }}"
        )
        .unwrap();
    }
    write!(
        text,
        "deadman:\n  - name: alerting\n    key: {KEY}\n    notify: {{ down: [oncall], degraded: [tickets] }}\n    \
         runbook: https://runbooks.example/alerting\n    watchdog:\n{}      max_age: {}s\n      resolved_settle: 2s\n      \
         poll_interval: 5s\n      alertmanagers: {alertmanagers:?}\n{}\
         {}",
        sources(setup),
        setup.max_age,
        route(setup),
        heartbeats(cronitor),
    )
    .unwrap();
    text
}

fn sources(setup: &Setup) -> String {
    if !setup.is_named {
        return String::new();
    }
    let sources: Vec<String> = (0..setup.prometheis).map(source).collect();
    format!(
        "      source_label: prometheus\n      sources: {sources:?}\n      min_sources: {}\n",
        setup.min_sources
    )
}

fn heartbeats(cronitor: &Service) -> String {
    let url = &cronitor.http.url;
    format!(
        "heartbeats:\n  - name: pipeline\n    interval: 5s\n    timeout: 2s\n    when: [{{ deadman: alerting }}]\n    cronitor: \
         {{ url: '{url}/p/{TELEMETRY_KEY}/{MONITOR}', api_key: {API_KEY}, api_url: '{url}/api/monitors', fallback_url: '' }}\n"
    )
}

fn route(setup: &Setup) -> String {
    let (group, repeat) = setup.timing;
    if !setup.tells_route {
        return String::new();
    }
    format!(
        "      route: {{ scrape_interval: 1s, evaluation_interval: 1s, resend_delay: {}, peer_timeout: 1s, group_wait: 0s, \
         group_interval: {group}, repeat_interval: {repeat} }}\n",
        setup.resend
    )
}

/// The shipped route, with the timing of the test.
pub(super) fn alertmanager(setup: &Setup, ports: &Ports, folder: &Path) -> String {
    let key = folder.join("key");
    fs::write(&key, KEY).unwrap();
    let text = fs::read_to_string(root("packaging/compose/alertmanager.yml")).unwrap();
    let (group, repeat) = setup.timing;
    let door = format!("http://127.0.0.1:{}/alertmanager/", ports.watchpost);
    let rows = [
        ("http://watchpost:9115/alertmanager/", door),
        ("/run/secrets/watchdog", key.display().to_string()),
        ("group_interval: 1m", format!("group_interval: {group}")),
        ("repeat_interval: 50s", format!("repeat_interval: {repeat}")),
    ];
    rows.iter().fold(text, |text, (what, by)| replaced(&text, what, by))
}

pub(super) fn prometheus(setup: &Setup, ports: &Ports, index: usize, scrapes: bool) -> String {
    let targets: Vec<String> =
        ports.alertmanagers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut text = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n  \
         external_labels: {{ prometheus_replica: {} }}\n\
         rule_files: ['rules-{index}/*.yml']\n\
         alerting:\n  alert_relabel_configs: {}\n  alertmanagers: [{{ static_configs: [{{ targets: {targets:?} }}] }}]\n\
         scrape_configs:\n",
        source(index),
        setup.alert_relabel_configs,
    );
    if scrapes {
        write!(
            text,
            "  - job_name: watchpost\n    honor_labels: true\n    static_configs: [{{ targets: ['127.0.0.1:{}'] }}]\n",
            ports.watchpost
        )
        .unwrap();
    } else {
        text = replaced(&text, "scrape_configs:\n", "scrape_configs: []\n");
    }
    text
}

/// The shipped rule.
pub(super) fn rule() -> String {
    fs::read_to_string(root("charts/watchpost/rules/watchdog.yml")).unwrap()
}
