//! The vocabulary of `heartbeats:` and its rules.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Deserialize;

use crate::model::{Mistakes, Pattern, Period, Secret};

const DEFAULT_INTERVAL: Period = Period::from_secs(60);
const DEFAULT_TIMEOUT: Period = Period::from_secs(10);
/// Gates may be closed this long after start before it is a finding.
const DEFAULT_WARM_UP: Period = Period::from_secs(300);
/// How far what the vendor has recorded may lie behind what it has accepted.
pub(super) const DEFAULT_RECORDED_MAX_LAG: Period = Period::from_secs(180);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CONDITIONS: usize = 32;
/// Beats for which the service should wait at least, before it tells somebody.
const BEATS_EXPECTED: u32 = 2;

/// One heartbeat: to whom, how often, and on what evidence.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub name: String,
    #[serde(default = "interval")]
    pub interval: Period,
    /// Of one try; the tries of one beat stay within the interval.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// All must hold. A healthy book and a fresh pass of the owner are always required.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Send the vendor's failure signal once the gates were closed for this long.
    pub fail_after: Option<Period>,
    /// How long after our last beat the service tells somebody: its interval and its grace, as they are set there. It
    /// changes nothing but what is said about the time to a page.
    pub told_after: Option<Period>,
    /// How long gates may stay closed after start before `fail_after` begins to count.
    #[serde(default = "warm_up")]
    pub warm_up: Period,
    /// A PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<String>,
    pub proxy: Option<String>,

    pub cronitor: Option<Cronitor>,
    pub healthchecks: Option<Healthchecks>,
    pub deadmanssnitch: Option<DeadMansSnitch>,
    pub betterstack: Option<BetterStack>,
    pub uptime_kuma: Option<UptimeKuma>,
    pub opsgenie: Option<Opsgenie>,
    pub jsm: Option<Jsm>,
    pub gatus: Option<Gatus>,
    pub goalert: Option<GoAlert>,
    pub grafana_oncall: Option<GrafanaOncall>,
    pub sentry: Option<Sentry>,
    pub http: Option<HttpBeat>,
}

fn interval() -> Period {
    DEFAULT_INTERVAL
}

fn timeout() -> Period {
    DEFAULT_TIMEOUT
}

fn warm_up() -> Period {
    DEFAULT_WARM_UP
}

fn recorded_max_lag() -> Period {
    DEFAULT_RECORDED_MAX_LAG
}

fn yes() -> bool {
    true
}

/// Evidence that a heartbeat needs: exactly one of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    pub deadman: Option<String>,
    pub probe: Option<String>,
    pub receiver: Option<String>,
}

/// `url` or `url_file`: `https://cronitor.link/p/<api key>/<monitor key>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cronitor {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    /// A key with `monitor:read`, to see whether beats are recorded.
    pub api_key: Option<Secret>,
    pub api_key_file: Option<String>,
    #[serde(default = "cronitor_api")]
    pub api_url: String,
    /// Used in turn with the URL's own host after two tries; empty for none.
    #[serde(default = "cronitor_fallback")]
    pub fallback_url: String,
    /// Cronitor's `env`.
    pub environment: Option<String>,
    #[serde(default = "recorded_max_lag")]
    pub recorded_max_lag: Period,
}

fn cronitor_api() -> String {
    "https://cronitor.io/api/monitors".to_owned()
}

fn cronitor_fallback() -> String {
    "https://cronitor.io".to_owned()
}

/// `url` or `url_file`: `https://hc-ping.com/<uuid>`, or `<endpoint>/<ping key>/<slug>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthchecks {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    /// A read-only key is enough.
    pub api_key: Option<Secret>,
    pub api_key_file: Option<String>,
    #[serde(default = "healthchecks_api")]
    pub api_url: String,
    /// The check's UUID or unique key, where the URL has a slug and so does not tell.
    pub check: Option<String>,
    #[serde(default = "recorded_max_lag")]
    pub recorded_max_lag: Period,
}

fn healthchecks_api() -> String {
    "https://healthchecks.io/api/v3/checks".to_owned()
}

/// `url` or `url_file`: `https://nosnch.in/<token>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadMansSnitch {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    pub api_key: Option<Secret>,
    pub api_key_file: Option<String>,
    #[serde(default = "snitch_api")]
    pub api_url: String,
    #[serde(default = "recorded_max_lag")]
    pub recorded_max_lag: Period,
}

fn snitch_api() -> String {
    "https://api.deadmanssnitch.com/v1/snitches".to_owned()
}

/// `url` or `url_file`: `https://uptime.betterstack.com/api/v1/heartbeat/<token>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetterStack {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
}

/// `url` or `url_file`: `https://kuma.example/api/push/<token>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UptimeKuma {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
}

/// Ends on 2027-04-05 by Atlassian's plan; [`Jsm`] is its successor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opsgenie {
    pub heartbeat: String,
    pub api_key: Option<Secret>,
    pub api_key_file: Option<String>,
    /// `https://api.eu.opsgenie.com` in the EU.
    #[serde(default = "opsgenie_api")]
    pub api_url: String,
}

fn opsgenie_api() -> String {
    "https://api.opsgenie.com".to_owned()
}

/// Jira Service Management Operations.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jsm {
    pub cloud_id: String,
    pub team_id: String,
    pub heartbeat: String,
    pub email: String,
    pub api_token: Option<Secret>,
    pub api_token_file: Option<String>,
    #[serde(default = "jsm_api")]
    pub api_url: String,
}

fn jsm_api() -> String {
    "https://api.atlassian.com/jsm/ops/api".to_owned()
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gatus {
    /// `https://status.example`.
    pub url: String,
    /// `<group>_<name>` of the external endpoint.
    pub endpoint: String,
    pub token: Option<Secret>,
    pub token_file: Option<String>,
}

/// `url` or `url_file`: `https://goalert.example/api/v2/heartbeat/<uuid>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoAlert {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
}

/// `url` or `url_file`: the integration's URL with `/heartbeat/`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrafanaOncall {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
}

/// `url` or `url_file`: `https://<ingest>/api/<project>/cron/<slug>/<public key>/`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentry {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    pub environment: Option<String>,
}

/// Anything else that takes a request for a beat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpBeat {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    /// Where the failure signal goes; none is sent without it.
    pub fail_url: Option<Secret>,
    pub fail_url_file: Option<String>,
    #[serde(default = "post")]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    #[serde(default)]
    pub auth: Auth,
    /// `{name}`, `{status}` (ok, fail) and `{message}` are filled in, escaped for JSON when the body is JSON.
    pub body: Option<String>,
    /// Any 2xx when empty.
    #[serde(default)]
    pub accepted_codes: Vec<u16>,
    /// What the answer must contain.
    pub accepted_body: Option<Pattern>,
    /// Send no faster than this, whatever happens.
    pub min_interval: Option<Period>,
    pub read_back: Option<ReadBackSpec>,
}

fn post() -> String {
    "POST".to_owned()
}

/// How the sender shows who it is: at most one of bearer and basic.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    pub bearer: Option<Secret>,
    pub bearer_file: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<String>,
}

/// Where the vendor says when it saw the last beat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBackSpec {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    #[serde(default)]
    pub auth: Auth,
    /// RFC 6901, to a time in RFC 3339 or in seconds since 1970: `/latest_event/stamp`.
    pub pointer: String,
    /// How far the record may lie behind the last accepted beat.
    #[serde(default = "recorded_max_lag")]
    pub max_lag: Period,
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Condition {
    /// Which key is set, and its value; `None` unless exactly one is.
    pub fn subject(&self) -> Option<(&'static str, &str)> {
        let keys =
            [("deadman", &self.deadman), ("probe", &self.probe), ("receiver", &self.receiver)];
        let mut set = keys.iter().filter_map(|(key, name)| Some((*key, name.as_deref()?)));
        let only = set.next()?;
        set.next().is_none().then_some(only)
    }
}

impl Spec {
    /// The key of the service.
    pub fn service(&self) -> &'static str {
        self.vendors().first().copied().unwrap_or_default()
    }

    /// How soon after evidence went missing the service is told; `None` where it is not.
    pub fn failed_after(&self) -> Option<Duration> {
        let after = self.fail_after.filter(|_| super::vendor::has_failure_signal(self))?;
        // Nothing is sent sooner than an interval after the last beat.
        Some(after.get().max(self.interval.get()))
    }

    /// Whether beats go to the same place in the same way.
    pub fn goes_where(&self, other: &Self) -> bool {
        let plain = |spec: &Self| Self {
            name: String::new(),
            interval: DEFAULT_INTERVAL,
            when: Vec::new(),
            fail_after: None,
            told_after: None,
            warm_up: DEFAULT_WARM_UP,
            ..spec.clone()
        };
        plain(self) == plain(other)
    }

    /// The keys of the vendors that are set.
    fn vendors(&self) -> Vec<&'static str> {
        let rows = [
            ("cronitor", self.cronitor.is_some()),
            ("healthchecks", self.healthchecks.is_some()),
            ("deadmanssnitch", self.deadmanssnitch.is_some()),
            ("betterstack", self.betterstack.is_some()),
            ("uptime_kuma", self.uptime_kuma.is_some()),
            ("opsgenie", self.opsgenie.is_some()),
            ("jsm", self.jsm.is_some()),
            ("gatus", self.gatus.is_some()),
            ("goalert", self.goalert.is_some()),
            ("grafana_oncall", self.grafana_oncall.is_some()),
            ("sentry", self.sentry.is_some()),
            ("http", self.http.is_some()),
        ];
        rows.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect()
    }

    /// Everything that is wrong with it, by itself. Whether what `when` names exists is for who knows all of it.
    pub fn check(&self, mistakes: &mut Mistakes) {
        if self.name.is_empty() {
            mistakes.error("name", "the name is empty", "");
        }
        let vendors = self.vendors();
        if vendors.len() != 1 {
            mistakes.error(
                "name",
                format!("a heartbeat needs exactly one service, not {}", vendors.len()),
                "cronitor, healthchecks, deadmanssnitch, betterstack, uptime_kuma, opsgenie, jsm, gatus, goalert, grafana_oncall, sentry, or http for any other",
            );
        }
        self.check_when(mistakes);
        self.check_times(mistakes);
        for key in vendors {
            mistakes.within(key, |m| self.check_vendor(key, m));
        }
    }

    fn check_when(&self, mistakes: &mut Mistakes) {
        if self.when.is_empty() {
            mistakes.error(
                "when",
                "a beat without evidence is worth nothing",
                "list what must hold, such as - deadman: alerting",
            );
        }
        if self.when.len() > MAX_CONDITIONS {
            mistakes.error("when", format!("more than {MAX_CONDITIONS} conditions"), "");
        }
        let mut seen = HashSet::new();
        for (index, condition) in self.when.iter().enumerate() {
            if condition.subject().is_none() {
                mistakes.error(
                    &format!("when.{index}"),
                    "a condition has exactly one of deadman, probe and receiver",
                    "write - deadman: NAME",
                );
            }
            if !seen.insert(condition) {
                mistakes.error(&format!("when.{index}"), "the same condition twice", "drop one");
            }
        }
    }

    fn check_times(&self, mistakes: &mut Mistakes) {
        if self.interval.get() < SHORTEST_INTERVAL {
            mistakes.error("interval", format!("{} is too often", self.interval), "5s or more");
        }
        let timeout = self.timeout.get();
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT || timeout >= self.interval.get() {
            mistakes.error(
                "timeout",
                format!("{} does not fit", self.timeout),
                "more than 0s, at most 30s, and less than the interval",
            );
        }
        let fastest = super::vendor::min_interval(self);
        if self.interval.get() < fastest {
            mistakes.error(
                "interval",
                format!("{} is faster than the service takes beats", self.interval),
                format!("use {}s or more", fastest.as_secs()),
            );
        }
        if let Some(told_after) = self.told_after
            && told_after.get() < self.interval.get().saturating_mul(BEATS_EXPECTED)
        {
            mistakes.warning(
                "told_after",
                format!(
                    "a service that waits for {told_after} tells somebody when one beat is late"
                ),
                "let it wait for at least three intervals, and write here how long it waits",
            );
        }
        if let Some(proxy) = &self.proxy
            && url::Url::parse(proxy).is_err()
        {
            mistakes.error("proxy", "this is not a URL", "http://proxy.example:3128");
        }
    }

    fn check_vendor(&self, key: &str, mistakes: &mut Mistakes) {
        super::vendor::check(self, key, mistakes);
    }
}
