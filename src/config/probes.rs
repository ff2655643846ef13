//! The section `probes:`: what is asked, how often, and from when on it counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::File;
use super::modules::{Modules, place};
use super::notify;
use super::receivers::Receivers;
use super::yaml::{self, Node, Position, Problem, Problems};
use crate::model::{
    CheckId, Labels, Mistakes, Notify, Period, ProbePolicy, Target, Thresholds, mistake,
    override_key,
};
use crate::probe::Module;
use crate::target::{self, DnsSd, FileSd, HttpSd, KubernetesSd, Remote};

/// How often a probe runs that does not say.
const DEFAULT_INTERVAL: Period = Period::from_secs(30);
/// The budget of a run where neither probe nor module says; at most the interval.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// A shorter interval is a load test.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// An entry of `probes:`, checked.
#[derive(Debug)]
pub struct Probe {
    pub policy: Arc<ProbePolicy>,
    pub labels: Labels,
    /// Targets written in the configuration.
    pub targets: Vec<Target>,
    /// Files with targets; relative names are already joined with the folder of the configuration.
    pub file_sd: Vec<FileSd>,
    /// Services that know targets.
    pub remotes: Vec<Remote>,
}

impl Probe {
    /// Whether targets come from elsewhere too.
    pub const fn discovers(&self) -> bool {
        !self.file_sd.is_empty() || !self.remotes.is_empty()
    }
}

/// An entry of `probes:`, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// Unique; the label `job`.
    name: String,
    /// A name of `modules:`.
    module: String,
    /// Default 30s.
    interval: Option<Period>,
    /// Default: the module's, or 10s, at most the interval.
    timeout: Option<Period>,
    #[serde(default)]
    labels: Labels,
    /// Runs in a row that must fail before the check is down; default 1.
    failure_threshold: Option<Count>,
    /// Runs in a row that must pass before it is up again; default 1.
    success_threshold: Option<Count>,
    /// Ask again this soon while a threshold is not reached; default: the interval.
    retry_interval: Option<Period>,
    /// How many targets must be up.
    min_up: Option<usize>,
    /// Part of the alerting pipeline: may gate a heartbeat. Never what customers use: its outage is what the pipeline has
    /// to report.
    #[serde(default)]
    pipeline: bool,
    /// Who is told of which status.
    #[serde(default)]
    notify: notify::Spec,
    /// Upper bounds, in seconds, of `probe_run_duration_seconds` as a histogram.
    #[serde(default)]
    histogram: Vec<f64>,
    #[serde(default)]
    targets: Vec<target::Spec>,
    #[serde(default)]
    file_sd_configs: Vec<FileSd>,
    #[serde(default)]
    http_sd_configs: Vec<HttpSd>,
    #[serde(default)]
    dns_sd_configs: Vec<DnsSd>,
    #[serde(default)]
    kubernetes_sd_configs: Vec<KubernetesSd>,
}

impl Spec {
    const fn discovers(&self) -> bool {
        !(self.file_sd_configs.is_empty()
            && self.http_sd_configs.is_empty()
            && self.dns_sd_configs.is_empty()
            && self.kubernetes_sd_configs.is_empty())
    }
}

/// A number of runs: 1 or more.
#[derive(Debug, Clone, Copy)]
struct Count(u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let count = text.parse().ok().filter(|count| *count > 0);
        count.map(Self).ok_or_else(|| {
            let what = format_args!("{text:?} is not a number of runs");
            de::Error::custom(mistake(what, "write a whole number from 1 on"))
        })
    }
}

pub(super) fn read(
    files: &[File],
    modules: &Modules,
    receivers: &Receivers,
    problems: &mut Problems,
) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut names: BTreeMap<String, Position> = BTreeMap::new();
    let mut ids: BTreeMap<CheckId, Position> = BTreeMap::new();
    for file in files {
        let Some(section) = file.section("probes") else { continue };
        for (node, mut spec) in yaml::decode_list::<Spec>(section, problems) {
            let at = node.find("name").at();
            if let Some(first) = names.get(&spec.name) {
                problems.push(
                    Problem::error(format!("probe {:?} is defined twice", spec.name))
                        .at(at)
                        .related("first defined here", first)
                        .hint("rename one of the two"),
                );
                continue;
            }
            names.insert(spec.name.clone(), at.clone());
            let entry = Entry { node, file };
            let whole = spec.min_up.is_some();
            let notify = std::mem::take(&mut spec.notify);
            let notify = notify.read(node.find("notify"), whole, receivers, problems);
            probes.extend(entry.build(spec, notify, modules, &mut ids, problems));
        }
    }
    probes
}

/// Whether a URL says `user:password@host`.
fn has_password(address: &str) -> bool {
    let Some((_, rest)) = address.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// One entry with its place.
struct Entry<'a> {
    node: &'a Node,
    file: &'a File,
}

impl Entry<'_> {
    fn build(
        &self,
        mut spec: Spec,
        notify: Notify,
        modules: &Modules,
        ids: &mut BTreeMap<CheckId, Position>,
        problems: &mut Problems,
    ) -> Option<Probe> {
        self.check_name(&spec, problems);
        let module = self.module(&spec, modules, problems)?;
        let policy = Arc::new(self.policy(&spec, notify, &module, problems));
        let targets = self.targets(&spec, ids, problems);
        self.check_overrides(&targets, &module, problems);
        self.check_targets(&spec, problems);
        let remotes = self.remotes(&mut spec, problems);
        let file_sd = spec.file_sd_configs.into_iter().map(|c| self.join_folder(c)).collect();
        Some(Probe { policy, labels: spec.labels, targets, file_sd, remotes })
    }

    fn error(&self, key: &str, what: String, hint: &str, problems: &mut Problems) {
        problems.push(Problem::error(what).at(self.node.find(key).at()).hint(hint));
    }

    fn check_name(&self, spec: &Spec, problems: &mut Problems) {
        if spec.name.is_empty() {
            self.error("name", "the name is empty".into(), "it becomes the label job", problems);
        }
    }

    fn module(
        &self,
        spec: &Spec,
        modules: &Modules,
        problems: &mut Problems,
    ) -> Option<Arc<Module>> {
        if let Some(module) = modules.ready.get(spec.module.as_str()) {
            return Some(Arc::clone(module));
        }
        // A module that could not be built has been reported where it stands.
        if !modules.named.contains_key(&spec.module) {
            let known: Vec<&str> = modules.named.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => "define it under modules".to_owned(),
                known => yaml::did_you_mean(&spec.module, known, "modules"),
            };
            self.error("module", format!("there is no module {:?}", spec.module), &hint, problems);
        }
        None
    }

    fn policy(
        &self,
        spec: &Spec,
        notify: Notify,
        module: &Module,
        problems: &mut Problems,
    ) -> ProbePolicy {
        let interval = spec.interval.unwrap_or(DEFAULT_INTERVAL).get();
        if interval < MIN_INTERVAL {
            self.error("interval", "an interval below 100ms".into(), "use 100ms or more", problems);
        }
        let written = spec.timeout.map(Period::get).or(module.timeout);
        let timeout = written.unwrap_or(DEFAULT_TIMEOUT).min(interval);
        if spec.timeout.is_some_and(|t| t.get() > interval) {
            self.error(
                "timeout",
                "the timeout is longer than the interval".into(),
                "a run never overlaps itself: make it shorter, or the interval longer",
                problems,
            );
        }
        if spec.timeout.is_some_and(|t| t.get().is_zero()) {
            self.error(
                "timeout",
                "a timeout of zero".into(),
                "no target can answer in no time",
                problems,
            );
        }
        self.check_retry(spec, interval, problems);
        self.check_histogram(&spec.histogram, problems);
        ProbePolicy {
            name: spec.name.as_str().into(),
            module: Arc::clone(&module.name),
            prober: module.prober.kind(),
            phases: module.phases_family(),
            interval,
            timeout,
            thresholds: Thresholds {
                failure: spec.failure_threshold.map_or(1, |count| count.0),
                success: spec.success_threshold.map_or(1, |count| count.0),
            },
            retry_interval: spec.retry_interval.map(Period::get).filter(|r| *r < interval),
            min_up: spec.min_up,
            pipeline: spec.pipeline,
            notify,
            histogram: spec.histogram.as_slice().into(),
        }
    }

    fn check_retry(&self, spec: &Spec, interval: Duration, problems: &mut Problems) {
        let Some(retry) = spec.retry_interval.map(Period::get) else { return };
        if retry < MIN_INTERVAL {
            let what = "a retry_interval below 100ms".into();
            self.error("retry_interval", what, "use 100ms or more", problems);
        } else if retry > interval {
            let place = self.node.find("retry_interval").at();
            problems.push(
                Problem::warning(
                    "the retry_interval is longer than the interval: it has no effect",
                )
                .at(place)
                .hint("it is how soon to ask again while a threshold is not reached"),
            );
        }
    }

    fn check_histogram(&self, bounds: &[f64], problems: &mut Problems) {
        if bounds.iter().any(|b| !b.is_finite()) || bounds.windows(2).any(|w| w[0] >= w[1]) {
            self.error(
                "histogram",
                "the bounds of the histogram do not rise".into(),
                "write upper bounds in seconds from small to large, such as [0.1, 0.5, 1, 5]",
                problems,
            );
        }
    }

    fn targets(
        &self,
        spec: &Spec,
        ids: &mut BTreeMap<CheckId, Position>,
        problems: &mut Problems,
    ) -> Vec<Target> {
        let targets: Vec<Target> = spec.targets.iter().map(|t| t.0.clone()).collect();
        for (index, target) in targets.iter().enumerate() {
            let at = self.node.find(&format!("targets.{index}")).at();
            let id = CheckId::of(&spec.name, target);
            if let Some(first) = ids.get(&id) {
                problems.push(
                    Problem::error(format!("target {:?} stands here twice", target.address))
                        .at(at)
                        .related("first here", first)
                        .hint("remove one; targets differ by address, hostname, headers or authorization"),
                );
            }
            ids.entry(id).or_insert_with(|| at.clone());
        }
        targets
    }

    /// What a target sets otherwise is tried with the module now, so that it is wrong here and not in each run.
    fn check_overrides(&self, targets: &[Target], module: &Module, problems: &mut Problems) {
        for (index, target) in targets.iter().enumerate().filter(|(_, t)| !t.overrides.is_empty()) {
            let Err(refused) = module.remade(&target.overrides) else { continue };
            let node = self.node.find(&format!("targets.{index}.overrides"));
            let key = refused.key.as_deref().unwrap_or_default();
            let entry = node.entries().iter().find(|entry| override_key(entry.name()) == key);
            let at = entry.map_or_else(|| node.at(), |entry| entry.key.at());
            let hint = "the module's allow_overrides says what may be set";
            problems.push(Problem::error(refused.what).at(at).hint(hint));
        }
    }

    fn check_targets(&self, spec: &Spec, problems: &mut Problems) {
        for (index, target) in spec.targets.iter().enumerate() {
            if has_password(&target.0.address) {
                problems.push(
                    Problem::warning("the target has a password in it")
                        .at(self.node.find(&format!("targets.{index}")).at())
                        .hint("it is shown in metrics, on the page and in messages: use basic_auth in the module, or authorization"),
                );
            }
        }
        if spec.targets.is_empty() && !spec.discovers() {
            problems.push(
                Problem::warning(format!("probe {:?} has no targets", spec.name))
                    .at(self.node.find("name").at())
                    .hint("give it targets, or file_sd_configs, http_sd_configs, dns_sd_configs or kubernetes_sd_configs"),
            );
        }
        let fixed = !spec.discovers();
        if spec.min_up.is_some_and(|min_up| min_up == 0 || (fixed && min_up > spec.targets.len())) {
            let what = format!("min_up does not fit {} targets", spec.targets.len());
            self.error(
                "min_up",
                what,
                "it is how many targets must be up: 1 to all of them",
                problems,
            );
        }
    }

    fn remotes(&self, spec: &mut Spec, problems: &mut Problems) -> Vec<Remote> {
        let mut mistakes = Mistakes::default();
        let mut remotes = Vec::new();
        for (index, config) in std::mem::take(&mut spec.http_sd_configs).into_iter().enumerate() {
            let key = format!("http_sd_configs.{index}");
            mistakes.within(&key, |mistakes| remotes.extend(config.build(mistakes)));
        }
        for (index, config) in std::mem::take(&mut spec.dns_sd_configs).into_iter().enumerate() {
            let key = format!("dns_sd_configs.{index}");
            mistakes.within(&key, |mistakes| remotes.extend(config.build(mistakes)));
        }
        let kubernetes = std::mem::take(&mut spec.kubernetes_sd_configs);
        for (index, config) in kubernetes.into_iter().enumerate() {
            let key = format!("kubernetes_sd_configs.{index}");
            mistakes.within(&key, |mistakes| remotes.extend(config.build(mistakes)));
        }
        for mistake in mistakes.into_vec() {
            problems.push(place(mistake, self.node));
        }
        remotes
    }

    fn join_folder(&self, mut config: FileSd) -> FileSd {
        for pattern in &mut config.files {
            *pattern = pattern.within(self.file.folder());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_seen_where_it_would_be_shown() {
        for shown in ["http://u:p@a/", "https://u:@a:1", "http://u:p@b@a?x"] {
            assert!(has_password(shown), "{shown}");
        }
        for plain in ["http://a:1/x:y@z", "u:p@a", "http://u@a/", "a:1", "http://[::1]:1/?a:b@c"] {
            assert!(!has_password(plain), "{plain}");
        }
    }
}
