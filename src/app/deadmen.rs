//! Dead man's switches as checks: from configuration to the switchboard, and from what it says to outcomes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::ledger::{Changes, Finished, Ledger};
use crate::clock;
use crate::deadman::{
    Configured, DeadmanState, Finding, Key, KindState, Poller, Report, Spec, WatchdogSpec,
};
use crate::model::{Check, Labels, ProbePolicy, Stamp, Target, Thresholds, family};
use crate::net::SecretSource;
use crate::web::Beats;

/// The prober of these checks, which nobody schedules.
pub(super) const PROBER: &str = "deadman";
/// Between two looks at files with keys.
const KEYS_EVERY: Duration = Duration::from_secs(30);

/// The checks of switches, one for each switch, or for each source of a watchdog.
pub(super) fn checks(specs: &[Arc<Spec>]) -> Vec<Arc<Check>> {
    let mut checks = Vec::new();
    for spec in specs {
        let policy = Arc::new(policy(spec));
        let members = match &spec.watchdog {
            Some(watchdog) => watchdog.source_names(),
            None => vec![spec.name.clone()],
        };
        for member in members {
            let check = Check::new(Arc::clone(&policy), Target::plain(member), &Labels::default());
            checks.push(Arc::new(Check { labels: spec.labels.clone(), ..check }));
        }
    }
    checks
}

fn policy(spec: &Spec) -> ProbePolicy {
    let watchdog = spec.watchdog.as_ref();
    ProbePolicy {
        name: spec.name.as_str().into(),
        module: PROBER.into(),
        prober: PROBER,
        phases: &family::PROBE_TCP_DURATION,
        // Nobody runs it, so it never goes stale: its deadline says when it fails.
        interval: Duration::MAX,
        timeout: Duration::ZERO,
        thresholds: Thresholds::default(),
        retry_interval: None,
        min_up: watchdog.filter(|w| !w.sources.is_empty()).map(WatchdogSpec::min_sources),
        pipeline: watchdog.is_some(),
        notify: spec.notify(),
        histogram: Arc::from([]),
    }
}

/// Switches with their keys. A key that cannot be read keeps its door closed, and is said.
pub(super) async fn configured(specs: &[Arc<Spec>]) -> Vec<Configured> {
    let mut all = Vec::with_capacity(specs.len());
    for spec in specs {
        let source = match (&spec.key, &spec.key_file) {
            (Some(key), _) => Some(SecretSource::Inline(key.clone())),
            (None, Some(path)) => Some(SecretSource::File(path.into())),
            (None, None) => None,
        };
        let key = match source {
            None => None,
            Some(source) => match source.read().await {
                Ok(secret) => Some(Key::new(&secret)),
                Err(error) => {
                    tracing::error!(deadman = spec.name, %error, "its door stays closed");
                    None
                }
            },
        };
        all.push(Configured { spec: Arc::clone(spec), key });
    }
    all
}

/// Takes over other switches, or rotated keys.
pub(super) fn replace(beats: &Beats, before: &[Arc<Spec>], configured: Vec<Configured>) {
    for it in &configured {
        beats.meter().announce(&it.spec);
    }
    let gone = beats.board().reload(configured, clock::now());
    for spec in before.iter().filter(|spec| gone.contains(&spec.name)) {
        beats.meter().forget(spec);
    }
    beats.forget(&gone);
    beats.keep_changed();
    beats.wake();
}

/// Reads keys again, and takes over those that were rotated. Runs until `stop`, which a reload cancels.
pub(super) async fn watch_keys(beats: Arc<Beats>, specs: Vec<Arc<Spec>>, stop: CancellationToken) {
    if specs.iter().all(|spec| spec.key_file.is_none()) {
        return;
    }
    let mut known: Option<Vec<Option<Key>>> = None;
    let mut tick = interval(KEYS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let read = configured(&specs).await;
        let keys: Vec<Option<Key>> = read.iter().map(|it| it.key.clone()).collect();
        if known.as_ref().is_some_and(|known| *known != keys) {
            tracing::info!("keys of dead man's switches were rotated");
            replace(&beats, &specs, read);
        }
        known = Some(keys);
    }
}

/// Follows the Alertmanagers of one watchdog. Runs until `stop`.
pub(super) async fn poll(beats: Arc<Beats>, spec: Arc<Spec>, stop: CancellationToken) {
    let Some(rules) = spec.watchdog.clone().filter(|rules| !rules.alertmanagers.is_empty()) else {
        return;
    };
    let every = rules.poll_interval.get();
    let mut poller = match Poller::new(Arc::new(rules)) {
        Ok(poller) => poller,
        Err(error) => {
            tracing::error!(deadman = spec.name, %error, "its Alertmanagers are not asked");
            return;
        }
    };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said: HashMap<String, String> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let replicas = tokio::select! {
            () = stop.cancelled() => return,
            replicas = poller.poll() => replicas,
        };
        for replica in &replicas {
            beats.meter().replica(&spec.name, replica);
            let findings: Vec<&str> = replica.findings.iter().map(Finding::label).collect();
            let findings = findings.join(" ");
            let before = said.insert(replica.url.clone(), findings.clone()).unwrap_or_default();
            if before != findings {
                tracing::warn!(
                    deadman = spec.name,
                    alertmanager = replica.url,
                    findings,
                    "what an Alertmanager says has changed"
                );
            }
        }
    }
}

fn beaten(name: &str, state: DeadmanState) -> Vec<String> {
    match state.kind {
        KindState::Switch(state) => state.last.map(|_| name.to_owned()).into_iter().collect(),
        KindState::Watchdog(state) => {
            let sources = state.sources.into_iter().filter(|(_, source)| source.evidence.is_some());
            sources.map(|(source, _)| source).collect()
        }
    }
}

/// Judges what is due, as outcomes like any other. Every change comes back.
#[derive(Debug)]
pub(super) struct Judging {
    beats: Arc<Beats>,
    paused: HashMap<Arc<str>, bool>,
    /// Members of each switch that were beaten at all: one that is armed and still waits for its first beat does not fail,
    /// and proves nothing either.
    beaten: HashMap<Arc<str>, Vec<String>>,
}

impl Judging {
    pub(super) fn new(beats: Arc<Beats>) -> Self {
        Self { beats, paused: HashMap::new(), beaten: HashMap::new() }
    }

    /// Whether a member of a switch was ever beaten.
    pub(super) fn is_beaten(&self, deadman: &str, member: &str) -> bool {
        self.beaten.get(deadman).is_some_and(|members| members.iter().any(|m| m == member))
    }

    pub(super) async fn woken(&self) {
        self.beats.woken().await;
    }

    /// Switches whose time has come, or that were beaten.
    pub(super) fn due(&mut self, ledger: &mut Ledger, now: Stamp) -> Vec<Changes> {
        let reports = self.beats.board().due(now);
        let mut changes = Vec::new();
        for report in reports {
            changes.extend(self.take(report, ledger, now));
        }
        self.beats.keep_changed();
        changes
    }

    /// All of them: what was held back while we were blind is looked at anew.
    pub(super) fn all(&mut self, ledger: &mut Ledger, now: Stamp) -> Vec<Changes> {
        let names: Vec<String> = self.beats.board().names().map(str::to_owned).collect();
        let mut changes = Vec::new();
        for name in names {
            let report = self.beats.board().evaluate(&name, now);
            if let Some(report) = report {
                changes.extend(self.take(report, ledger, now));
            }
        }
        self.beats.keep_changed();
        changes
    }

    fn take(&mut self, report: Report, ledger: &mut Ledger, now: Stamp) -> Vec<Changes> {
        let mut changes = Vec::new();
        let is_paused = report.paused.is_some();
        let was_paused = self.paused.insert(Arc::clone(&report.name), is_paused);
        for (target, outcome) in report.outcomes(now) {
            let id = crate::model::CheckId::of(&report.name, &Target::plain(&**target));
            if is_paused != was_paused.unwrap_or_default() {
                let change = if is_paused { ledger.pause(id, now) } else { ledger.resume(id, now) };
                changes.push(change);
            }
            changes.push(ledger.record(Finished { id, outcome, early: false }, now).changes);
        }
        {
            let board = self.beats.board();
            let state = board.state(&report.name);
            self.beats.meter().report(&report, state.as_ref(), board.line(), now);
            let members = state.map(|state| beaten(&report.name, state)).unwrap_or_default();
            self.beaten.insert(Arc::clone(&report.name), members);
        }
        self.beats.show(report);
        changes
    }
}
