//! The vocabulary of `deadman:` and its rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::cron::{CronText, Schedule};
use super::timing::{PEER_TIMEOUT, RouteTiming, check_without_route};
use crate::model::{Labels, Mistakes, Notify, Period, Secret, Status, mistake, shown_url};

/// Lateness that is forgiven when `grace` is not given.
pub(super) const DEFAULT_GRACE: Duration = Duration::from_secs(300);
/// Evidence of a watchdog may be this old when `max_age` is not given.
pub(super) const DEFAULT_MAX_AGE: Period = Period::from_secs(300);
/// A `resolved` Watchdog counts as silence after this long, when `resolved_settle` is not given.
pub(super) const DEFAULT_RESOLVED_SETTLE: Period = Period::from_secs(60);
/// How often each Alertmanager is asked when `poll_interval` is not given.
pub(super) const DEFAULT_POLL_INTERVAL: Period = Period::from_secs(30);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 86_400);
const SHORTEST_KEY: usize = 16;
const MAX_NAME_BYTES: usize = 200;
const MAX_SOURCES: usize = 200;
const MAX_ALERTMANAGERS: usize = 20;

/// One dead man's switch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub name: String,
    /// A beat is expected this long after the last one.
    pub interval: Option<Period>,
    /// Beats are expected at these times.
    pub cron: Option<CronText>,
    /// The IANA zone of `cron`; UTC when absent.
    pub timezone: Option<String>,
    /// Fed by Alertmanager's webhook.
    pub watchdog: Option<WatchdogSpec>,
    /// How late a beat may be before somebody is told; 5m for beats, 0s for a watchdog.
    pub grace: Option<Period>,
    /// Longest time between start and success; `grace` when absent.
    pub max_runtime: Option<Period>,
    /// The secret path of `/ping/<uuid>`.
    pub uuid: Option<PingId>,
    /// The secret of `/ping/<key>/<slug>` and of `/alertmanager/<name>`.
    pub key: Option<Secret>,
    pub key_file: Option<String>,
    /// The name of `/ping/<key>/<slug>`; made from `name` when absent.
    pub slug: Option<Slug>,
    /// What may carry a beat; HEAD, GET and POST when absent.
    pub methods: Option<Vec<BeatMethod>>,
    /// Receivers for `down`, or lists of them by status.
    #[serde(default)]
    pub notify: NotifySpec,
    /// Tell again after this long while it lasts.
    pub repeat: Option<Period>,
    pub runbook: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub labels: Labels,
}

/// A switch that the always-firing alert of each Prometheus feeds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogSpec {
    #[serde(default = "watchdog")]
    pub alertname: String,
    /// The label whose value tells one Prometheus from another.
    pub source_label: Option<String>,
    /// Its expected values. Each is a check of its own.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Fewer than these is down, fewer than all degraded; all when absent.
    pub min_sources: Option<usize>,
    /// How old the evidence of a source may be, counted from when we issued it.
    #[serde(default = "default_max_age")]
    pub max_age: Period,
    #[serde(default = "default_resolved_settle")]
    pub resolved_settle: Period,
    /// The annotation in which clocks come back.
    #[serde(default = "clocks")]
    pub annotation: String,
    /// Every replica's own URL, never a load balancer's.
    #[serde(default)]
    pub alertmanagers: Vec<String>,
    #[serde(default = "default_poll_interval")]
    pub poll_interval: Period,
    /// A PEM file of authorities to trust when asking the Alertmanagers.
    pub alertmanager_ca_file: Option<String>,
    /// A file with the bearer token for the Alertmanagers.
    pub alertmanager_token_file: Option<String>,
    /// The timing of the pipeline, from which the time to page is computed.
    pub route: Option<RouteSpec>,
}

/// How fast the pipeline turns, as Prometheus and Alertmanager are configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    #[serde(default = "one_minute")]
    pub scrape_interval: Period,
    #[serde(default = "one_minute")]
    pub evaluation_interval: Period,
    #[serde(default = "zero")]
    pub group_wait: Period,
    #[serde(default = "five_minutes")]
    pub group_interval: Period,
    #[serde(default = "four_hours")]
    pub repeat_interval: Period,
    /// Prometheus's `--rules.alert.resend-delay`.
    #[serde(default = "one_minute")]
    pub resend_delay: Period,
    /// Alertmanagers in the cluster; as many as `alertmanagers` lists when absent.
    pub peers: Option<usize>,
    /// Alertmanager's `--cluster.peer-timeout`.
    #[serde(default = "default_peer_timeout")]
    pub peer_timeout: Period,
}

impl RouteSpec {
    /// `listed`: how many Alertmanagers are asked.
    pub fn timing(&self, listed: usize) -> RouteTiming {
        RouteTiming {
            scrape_interval: self.scrape_interval.get(),
            evaluation_interval: self.evaluation_interval.get(),
            resend_delay: self.resend_delay.get(),
            group_wait: self.group_wait.get(),
            group_interval: self.group_interval.get(),
            repeat_interval: self.repeat_interval.get(),
            peers: self.peers.unwrap_or(listed).max(1),
            peer_timeout: self.peer_timeout.get(),
        }
    }
}

fn watchdog() -> String {
    "Watchdog".to_owned()
}

fn clocks() -> String {
    "clocks".to_owned()
}

fn default_peer_timeout() -> Period {
    Period::from_secs(PEER_TIMEOUT.as_secs())
}

const fn default_max_age() -> Period {
    DEFAULT_MAX_AGE
}

const fn default_resolved_settle() -> Period {
    DEFAULT_RESOLVED_SETTLE
}

const fn default_poll_interval() -> Period {
    DEFAULT_POLL_INTERVAL
}

const fn zero() -> Period {
    Period::from_secs(0)
}

const fn one_minute() -> Period {
    Period::from_secs(60)
}

const fn five_minutes() -> Period {
    Period::from_secs(300)
}

const fn four_hours() -> Period {
    Period::from_secs(4 * 3600)
}

/// What may carry a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BeatMethod {
    Head,
    Get,
    Post,
}

impl BeatMethod {
    pub const ALL: [Self; 3] = [Self::Head, Self::Get, Self::Post];

    /// `None`: a method that never carries a beat.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "HEAD" => Some(Self::Head),
            "GET" => Some(Self::Get),
            "POST" => Some(Self::Post),
            _ => None,
        }
    }
}

/// The id in `/ping/<uuid>`: 128 random bits, so whoever knows it may beat. Printed masked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PingId(u128);

impl PingId {
    /// The hyphenated form, in either case of letters.
    pub fn parse(text: &str) -> Option<Self> {
        const HYPHENS: [usize; 4] = [8, 13, 18, 23];
        if text.len() != 36 {
            return None;
        }
        let mut value: u128 = 0;
        for (at, byte) in text.bytes().enumerate() {
            if HYPHENS.contains(&at) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16)?;
            value = (value << 4) | u128::from(digit);
        }
        Some(Self(value))
    }

    pub(super) const fn bits(self) -> u128 {
        self.0
    }

    pub(super) fn text(self) -> String {
        let hex = format!("{:032x}", self.0);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

impl fmt::Debug for PingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::model::MASK)
    }
}

impl<'de> Deserialize<'de> for PingId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(mistake("this is not a UUID", "make one with uuidgen"))
        })
    }
}

/// The name in `/ping/<key>/<slug>`: small letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Slug(String);

impl Slug {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        fits.then(|| Self(text.to_owned()))
    }

    /// A name as a slug: `Nightly Backup` is `nightly-backup`.
    pub fn of(name: &str) -> Option<Self> {
        let mut slug = String::new();
        for c in name.chars() {
            match c {
                'A'..='Z' | 'a'..='z' | '0'..='9' | '_' => slug.push(c.to_ascii_lowercase()),
                _ if !slug.ends_with('-') && !slug.is_empty() => slug.push('-'),
                _ => {}
            }
        }
        Self::parse(slug.trim_end_matches('-'))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(mistake(
                format_args!("{text:?} is not a slug"),
                "use small letters, digits, - and _",
            ))
        })
    }
}

/// `[oncall]`, which means for down, or `{ down: [oncall], degraded: [tickets] }`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotifySpec {
    pub down: Vec<String>,
    pub degraded: Vec<String>,
}

impl NotifySpec {
    pub fn receivers(&self) -> impl Iterator<Item = &str> {
        self.down.iter().chain(&self.degraded).map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for NotifySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NotifyVisitor)
    }
}

struct NotifyVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByStatus {
    #[serde(default)]
    down: Vec<String>,
    #[serde(default)]
    degraded: Vec<String>,
}

impl<'de> de::Visitor<'de> for NotifyVisitor {
    type Value = NotifySpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of receivers, or lists of them by status")
    }

    fn visit_unit<E: de::Error>(self) -> Result<NotifySpec, E> {
        Ok(NotifySpec::default())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<NotifySpec, A::Error> {
        let down = Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
        Ok(NotifySpec { down, degraded: Vec::new() })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<NotifySpec, A::Error> {
        let ByStatus { down, degraded } =
            ByStatus::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(NotifySpec { down, degraded })
    }
}

impl Spec {
    /// A watchdog with every default, called as in the documentation, for where there is no configuration yet.
    pub fn placeholder() -> Self {
        serde_json::from_str(r#"{"name":"alerting","watchdog":{}}"#).expect("a good spec")
    }

    /// When beats are due; `None` for a watchdog and for a spec that [`Spec::check`] refuses.
    pub fn schedule(&self) -> Option<Schedule> {
        match (&self.interval, &self.cron) {
            (Some(interval), None) => Some(Schedule::Every(interval.get())),
            (None, Some(cron)) => Some(Schedule::Cron(Box::new(cron.clone()), self.zone()?)),
            _ => None,
        }
    }

    fn zone(&self) -> Option<TimeZone> {
        match &self.timezone {
            Some(name) => TimeZone::get(name).ok(),
            None => Some(TimeZone::UTC),
        }
    }

    pub fn grace(&self) -> Duration {
        let default = if self.watchdog.is_some() { Duration::ZERO } else { DEFAULT_GRACE };
        self.grace.map_or(default, Period::get)
    }

    pub fn max_runtime(&self) -> Duration {
        self.max_runtime.map_or_else(|| self.grace(), Period::get)
    }

    pub fn slug(&self) -> Option<Slug> {
        self.slug.clone().or_else(|| Slug::of(&self.name))
    }

    pub fn accepts(&self, method: BeatMethod) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(&method))
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some() || self.key_file.is_some()
    }

    /// The policy of its checks.
    pub fn notify(&self) -> Notify {
        let mut receivers = BTreeMap::new();
        for (status, names) in
            [(Status::Down, &self.notify.down), (Status::Degraded, &self.notify.degraded)]
        {
            if !names.is_empty() {
                receivers.insert(status, names.clone());
            }
        }
        Notify {
            receivers,
            by_target: false,
            repeat: self.repeat.map(Period::get),
            runbook: self.runbook.clone(),
        }
    }

    /// Everything that is wrong with it, by itself.
    pub fn check(&self, mistakes: &mut Mistakes) {
        self.check_name(mistakes);
        self.check_schedule(mistakes);
        self.check_doors(mistakes);
        if let Some(watchdog) = &self.watchdog {
            mistakes.within("watchdog", |m| watchdog.check(m));
        }
    }

    fn check_name(&self, mistakes: &mut Mistakes) {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES || self.name.contains('/') {
            mistakes.error(
                "name",
                format!("{:?} cannot be the name of a deadman", self.name),
                format!("use 1 to {MAX_NAME_BYTES} bytes without a slash"),
            );
        }
        if self.notify.receivers().next().is_none() {
            mistakes.warning(
                "notify",
                "nobody is told when this falls silent",
                "list receivers under notify",
            );
        }
    }

    fn check_schedule(&self, mistakes: &mut Mistakes) {
        let ways = [self.interval.is_some(), self.cron.is_some(), self.watchdog.is_some()];
        if ways.iter().filter(|is| **is).count() != 1 {
            mistakes.error(
                "name",
                "a deadman needs exactly one of interval, cron and watchdog",
                "interval for what beats regularly, cron for a job, watchdog for Alertmanager",
            );
        }
        if let Some(interval) = self.interval
            && !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval.get())
        {
            mistakes.error("interval", format!("{interval} is out of range"), "5s to 366d");
        }
        if self.timezone.is_some() && self.cron.is_none() {
            mistakes.error("timezone", "only a cron line has a time zone", "drop it");
        }
        if let Some(name) = &self.timezone
            && TimeZone::get(name).is_err()
        {
            mistakes.error(
                "timezone",
                format!("there is no time zone {name:?}"),
                "use an IANA name such as Europe/Paris",
            );
        }
        if self.watchdog.is_some() && self.max_runtime.is_some() {
            mistakes.error("max_runtime", "a watchdog has no runs", "drop it");
        }
    }

    fn check_doors(&self, mistakes: &mut Mistakes) {
        if self.key.is_some() && self.key_file.is_some() {
            mistakes.error("key_file", "both key and key_file are given", "keep one of them");
        }
        if let Some(key) = &self.key
            && key.reveal().len() < SHORTEST_KEY
        {
            mistakes.error(
                "key",
                format!("the key is shorter than {SHORTEST_KEY} characters"),
                "make one with: openssl rand -hex 16",
            );
        }
        if self.watchdog.is_some() {
            if self.uuid.is_some() || self.slug.is_some() || self.methods.is_some() {
                mistakes.error(
                    "watchdog",
                    "a watchdog has no ping URL",
                    "drop uuid, slug and methods; Alertmanager posts to /alertmanager/<name>",
                );
            }
            if !self.has_key() {
                mistakes.warning(
                    "watchdog",
                    "whoever reaches /alertmanager may send evidence",
                    "set key_file, and the same as credentials_file in Alertmanager's http_config",
                );
            }
            return;
        }
        if self.uuid.is_none() && !self.has_key() {
            mistakes.error(
                "name",
                "nobody can beat a deadman without uuid and without key",
                "set uuid for /ping/<uuid>, or key_file for /ping/<key>/<slug>",
            );
        }
        if self.has_key() && self.slug().is_none() {
            mistakes.error("name", "no slug can be made from this name", "set slug");
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            mistakes.error("methods", "no method is allowed", "methods: [POST]");
        }
    }
}

impl WatchdogSpec {
    pub fn min_sources(&self) -> usize {
        self.min_sources.unwrap_or(self.sources.len().max(1))
    }

    /// Names of the sources; one unnamed source is called like the alert.
    pub fn source_names(&self) -> Vec<String> {
        if self.sources.is_empty() { vec![self.alertname.clone()] } else { self.sources.clone() }
    }

    /// The timing of the pipeline, where it is told.
    pub fn timing(&self) -> Option<RouteTiming> {
        Some(self.route.as_ref()?.timing(self.alertmanagers.len()))
    }

    fn check(&self, mistakes: &mut Mistakes) {
        self.check_sources(mistakes);
        if self.alertmanagers.len() > MAX_ALERTMANAGERS {
            mistakes.error(
                "alertmanagers",
                format!("more than {MAX_ALERTMANAGERS} Alertmanagers"),
                "list the replicas of one cluster",
            );
        }
        for (index, address) in self.alertmanagers.iter().enumerate() {
            check_alertmanager(&format!("alertmanagers.{index}"), address, mistakes);
        }
        if self.poll_interval.get() < SHORTEST_INTERVAL {
            mistakes.error("poll_interval", "shorter than 5s", "30s is good");
        }
        match self.timing() {
            Some(timing) => timing.check(self.max_age.get(), mistakes),
            None => check_without_route(self.max_age.get(), mistakes),
        }
    }

    fn check_sources(&self, mistakes: &mut Mistakes) {
        if self.source_label.is_some() == self.sources.is_empty() {
            mistakes.error(
                "sources",
                "source_label and sources belong together",
                "give both, or neither when there is one Prometheus",
            );
        }
        if self.sources.len() > MAX_SOURCES {
            mistakes.error("sources", format!("more than {MAX_SOURCES} sources"), "");
        }
        let mut seen = HashSet::new();
        for source in &self.sources {
            if !seen.insert(source) {
                mistakes.error("sources", format!("{source:?} is listed twice"), "drop one");
            }
        }
        let all = self.sources.len().max(1);
        if !(1..=all).contains(&self.min_sources()) {
            mistakes.error(
                "min_sources",
                format!("{} of {all} sources", self.min_sources()),
                format!("use 1 to {all}"),
            );
        }
        if self.alertname.is_empty() {
            mistakes.error("alertname", "the name of the alert is empty", "Watchdog");
        }
    }
}

fn check_alertmanager(key: &str, address: &str, mistakes: &mut Mistakes) {
    let url = url::Url::parse(address).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        None => {
            let what = format!("{:?} is not an http URL", shown_url(address));
            mistakes.error(key, what, "such as http://alertmanager-1:9093");
        }
        Some(url)
            if !url.username().is_empty() || url.password().is_some() || url.query().is_some() =>
        {
            mistakes.error(
                key,
                "the URL of an Alertmanager has credentials or a query in it",
                "it is shown on the page and in metrics: use alertmanager_token_file",
            );
        }
        Some(_) => {}
    }
}

/// What is wrong between switches: names, ids and slugs used twice. Keys are indices, `3.uuid`.
pub fn check_all(specs: &[Spec], mistakes: &mut Mistakes) {
    let mut seen: HashMap<(&str, String), usize> = HashMap::new();
    for (index, spec) in specs.iter().enumerate() {
        let uuid = spec.uuid.map(PingId::text);
        let slug = (spec.watchdog.is_none() && spec.has_key())
            .then(|| spec.slug().map(|slug| slug.as_str().to_owned()))
            .flatten();
        let names = [("name", Some(spec.name.clone())), ("uuid", uuid), ("slug", slug)];
        for (key, value) in names {
            let Some(value) = value else { continue };
            if let Some(first) = seen.insert((key, value), index) {
                mistakes.error(
                    &format!("{index}.{key}"),
                    format!("{:?} has the {key} of {:?}", spec.name, specs[first].name),
                    "give each deadman its own",
                );
            }
        }
    }
}
