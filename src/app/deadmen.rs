//! Dead man's switches as checks: from configuration to the switchboard, and from what it says to outcomes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::ledger::{Changes, Finished, Ledger};
use crate::clock;
use crate::deadman::{
    At, Configured, Finding, Key, Note, POLLS, Poller, Report, Spec, Verdict, WatchdogSpec, said,
};
use crate::model::{
    Answer, Check, CheckId, Fault, Labels, Outcome, ProbePolicy, Reason, Stamp, Target, Thresholds,
    family,
};
use crate::net::{Resolver, SecretSource};
use crate::web::Beats;

/// The prober of these checks, which nobody schedules.
pub(super) const PROBER: &str = "deadman";
/// The longest time that a switch gets after we were blind.
const LONGEST_SETTLING: Duration = Duration::from_secs(300);
/// Between two looks at files with keys.
const KEYS_EVERY: Duration = Duration::from_secs(30);
/// What is appended to the name of a watchdog for the checks of its Alertmanagers.
const REPLICAS: &str = "/alertmanager";
/// What is left to look at when every Alertmanager is well, has the Watchdog, and does not send it.
const KEPT_BACK: &str = "every Alertmanager is ready, has the Watchdog and does not send it: look at repeat_interval, \
                         mute_time_intervals and the webhook of its route (watchpost lint)";
/// Lines of evidence in a message.
const MAX_LINES: usize = 12;

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
        checks.extend(replicas(spec));
    }
    checks
}

/// The Alertmanagers of a watchdog, as checks of a probe of their own: their findings are told as degraded.
fn replicas(spec: &Spec) -> Vec<Arc<Check>> {
    let Some(watchdog) = &spec.watchdog else { return Vec::new() };
    let policy = Arc::new(ProbePolicy {
        name: replicas_of(&spec.name).into(),
        thresholds: Thresholds { failure: POLLS, success: 1 },
        min_up: None,
        ..policy(spec)
    });
    let checks = watchdog.alertmanagers.iter().map(|url| {
        let target = Target::plain(url.as_str());
        let check = Check::new(Arc::clone(&policy), target, &Labels::default());
        Arc::new(Check { labels: spec.labels.clone(), ..check })
    });
    checks.collect()
}

/// No deadman has this name: a name cannot have a slash.
fn replicas_of(name: &str) -> String {
    format!("{name}{REPLICAS}")
}

/// What is known beside the reason: when the loop was last closed, and what Alertmanagers say.
pub(super) fn evidence(beats: &Beats, probe: &str, target: &str) -> Option<String> {
    if let Some(name) = probe.strip_suffix(REPLICAS) {
        let replicas = beats.replicas(name);
        let replica = replicas.iter().find(|replica| replica.url == target)?;
        return lines(said(std::slice::from_ref(replica)));
    }
    let report = beats.report(probe)?;
    let member = report.members.iter().filter(|(name, _)| **name == *target);
    lines(member.filter_map(|(_, verdict)| last_heard(verdict)).chain(around(beats, &report)))
}

/// The same of a watchdog as a whole, source by source.
pub(super) fn evidence_of_all(beats: &Beats, probe: &str) -> Option<String> {
    let report = beats.report(probe)?;
    let members = report
        .members
        .iter()
        .filter_map(|(name, verdict)| Some(format!("{name}: {}", last_heard(verdict)?)));
    lines(members.chain(around(beats, &report)))
}

fn last_heard(verdict: &Verdict) -> Option<String> {
    verdict.heard.map(|heard| heard.to_string())
}

fn around(beats: &Beats, report: &Report) -> Vec<String> {
    let replicas = beats.replicas(&report.name);
    let mut said = said(&replicas);
    let is_over = report.notes.iter().any(|note| matches!(note, Note::Ended { .. }));
    let is_kept = !is_over && report.members.iter().any(|(_, it)| is_silent(it));
    if said.is_empty() && !replicas.is_empty() && is_kept {
        said.push(KEPT_BACK.to_owned());
    }
    said.extend(report.notes.iter().map(ToString::to_string));
    said
}

fn is_silent(verdict: &Verdict) -> bool {
    matches!(&verdict.answer, Answer::Fail(Fault::Silent { .. }))
}

fn lines(lines: impl IntoIterator<Item = String>) -> Option<String> {
    let lines: Vec<String> = lines.into_iter().take(MAX_LINES).collect();
    (!lines.is_empty()).then(|| lines.join("\n    "))
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
                    tracing::error!(
                        deadman = spec.name,
                        %error,
                        "no key: its door keeps the one that it had, or stays closed"
                    );
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
    let kept: Vec<Arc<Spec>> = configured.iter().map(|it| Arc::clone(&it.spec)).collect();
    let gone = beats.board().reload(configured, clock::now());
    for after in &kept {
        if let Some(spec) = before.iter().find(|spec| spec.name == after.name) {
            beats.meter().forget_parts(spec, after);
        }
    }
    beats.keep_replicas_of(&kept);
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
    let mut tick = interval(KEYS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        for it in configured(&specs).await {
            let Some(key) = it.key else { continue };
            // Nothing but the key: these switches may be others by now.
            if it.spec.key_file.is_some() && beats.board().set_key(&it.spec.name, key) {
                tracing::info!(deadman = it.spec.name, "its key was rotated");
            }
        }
    }
}

/// Follows the Alertmanagers of one watchdog. Runs until `stop`.
pub(super) async fn poll(
    beats: Arc<Beats>,
    spec: Arc<Spec>,
    names: Resolver,
    stop: CancellationToken,
) {
    let Some(rules) = spec.watchdog.clone().filter(|rules| !rules.alertmanagers.is_empty()) else {
        return;
    };
    let every = rules.poll_interval.get();
    let mut poller = match Poller::new(Arc::new(rules), &names) {
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
        let via = beats.board().via(&spec.name);
        let replicas = tokio::select! {
            () = stop.cancelled() => return,
            replicas = poller.poll(via.as_deref()) => replicas,
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
        beats.show_replicas(&spec.name, replicas);
    }
}

fn proofs(report: &Report) -> Vec<(Arc<str>, At)> {
    let members = report.members.iter();
    members.filter_map(|(name, it)| Some((Arc::clone(name), it.proves_until?))).collect()
}

/// How long a switch may stay silent after we were blind: until its next beat must have come, but not for ever.
fn settling(spec: &Spec) -> Duration {
    let next = spec.interval.map(|interval| interval.get().saturating_add(spec.grace()));
    next.map_or(LONGEST_SETTLING, |next| next.min(LONGEST_SETTLING))
}

/// Whether something is missing, which may have been lost on the way to us. What was told is not.
fn is_silence(answer: &Answer) -> bool {
    answer.fault().is_some_and(|fault| fault.reason() != Reason::ReportedFailure)
}

/// Judges what is due, as outcomes like any other. Every change comes back.
#[derive(Debug)]
pub(super) struct Judging {
    beats: Arc<Beats>,
    /// Probes that are paused, as far as the ledger knows.
    paused: BTreeSet<Arc<str>>,
    /// Until when each member of a switch proves that all is well. Only what was heard proves anything: not a switch that is
    /// armed and waits for its first beat, and not one whose limit has passed, however long we bear with it.
    proofs: HashMap<Arc<str>, Vec<(Arc<str>, At)>>,
    /// When sight last returned.
    sighted: Option<Stamp>,
    /// Silent since then, and given time.
    unsettled: BTreeSet<Arc<str>>,
}

impl Judging {
    pub(super) fn new(beats: Arc<Beats>) -> Self {
        Self {
            beats,
            paused: BTreeSet::new(),
            proofs: HashMap::new(),
            sighted: None,
            unsettled: BTreeSet::new(),
        }
    }

    /// Whether a member of a switch was beaten in time. Also where its time ran out and nobody has judged it since.
    pub(super) fn is_proven(&self, deadman: &str, member: &str, now: Stamp) -> bool {
        let now = At::of(now);
        let Some(members) = self.proofs.get(deadman) else { return false };
        members.iter().any(|(name, until)| **name == *member && now < *until)
    }

    pub(super) async fn woken(&self) {
        self.beats.woken().await;
    }

    /// What was sent while we were cut off was lost on the way to us: everybody has time to beat again.
    pub(super) const fn see_again(&mut self, now: Stamp) {
        self.sighted = Some(now);
    }

    /// Switches whose time after blindness is over.
    pub(super) fn settled(&mut self, ledger: &mut Ledger, now: Stamp) -> Vec<Changes> {
        let over: Vec<Arc<str>> =
            self.unsettled.iter().filter(|name| !self.is_settling(name, now)).cloned().collect();
        let mut changes = Vec::new();
        for name in over {
            self.unsettled.remove(&name);
            let report = self.beats.board().evaluate(&name, now);
            if let Some(report) = report {
                changes.extend(self.take(report, ledger, now));
            }
        }
        changes
    }

    fn is_settling(&self, name: &str, now: Stamp) -> bool {
        let Some(sighted) = self.sighted else { return false };
        let spec = self.beats.board().spec(name).cloned();
        let settle = spec.as_deref().map_or(Duration::ZERO, settling);
        now.boot < sighted.boot.saturating_add(settle)
    }

    /// Switches whose time has come, or that were beaten.
    pub(super) fn due(&mut self, ledger: &mut Ledger, now: Stamp) -> Vec<Changes> {
        let mut changes = self.hold(ledger, now);
        let reports = self.beats.board().due(now);
        for (name, replicas) in self.beats.take_replicas() {
            let name = replicas_of(&name);
            changes.extend(replicas.iter().map(|replica| {
                let id = CheckId::of(&name, &Target::plain(replica.url.as_str()));
                let outcome = Outcome::judged(replica.answer(), now);
                ledger.record(Finished { id, outcome, early: false }, now).changes
            }));
        }
        for report in reports {
            changes.extend(self.take(report, ledger, now));
        }
        self.beats.keep_changed();
        changes
    }

    /// Pauses the probes whose pause has begun, with whatever checks they have by now, and lets go on those whose pause is
    /// over.
    pub(super) fn hold(&mut self, ledger: &mut Ledger, now: Stamp) -> Vec<Changes> {
        let mut until = BTreeMap::new();
        {
            let board = self.beats.board();
            for probe in self.beats.probes() {
                if let Some(pause) = board.paused(&probe, now) {
                    let end = board.line().stamp(pause.ends(board.line()), now);
                    until.insert(probe, end);
                }
            }
        }
        let over: Vec<Arc<str>> =
            self.paused.iter().filter(|probe| !until.contains_key(*probe)).cloned().collect();
        self.paused = until.keys().cloned().collect();
        let mut changes = Vec::new();
        for probe in over {
            self.beats.meter().probe_paused(&probe, None);
            changes.push(ledger.set_paused(&probe, false, now));
        }
        for (probe, end) in until {
            self.beats.meter().probe_paused(&probe, Some(end));
            changes.push(ledger.set_paused(&probe, true, now));
        }
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
        for probe in [&*report.name, &*replicas_of(&report.name)] {
            changes.push(ledger.set_paused(probe, is_paused, now));
        }
        let line = self.beats.board().line().clone();
        let id_of = |target: &str| CheckId::of(&report.name, &Target::plain(target));
        for target in report.waiting() {
            changes.push(ledger.wait(id_of(target), now));
        }
        for (target, outcome, heard) in report.outcomes(now) {
            let heard = heard.map(|heard| line.stamp(heard.received.at, now));
            if is_silence(&outcome.answer) && self.is_settling(&report.name, now) {
                self.unsettled.insert(Arc::clone(&report.name));
                changes.push(ledger.hold(id_of(target), outcome, heard, now));
                continue;
            }
            changes.push(ledger.judge(id_of(target), outcome, heard, now));
        }
        self.beats.meter().report(&report, &line, now);
        self.proofs.insert(Arc::clone(&report.name), proofs(&report));
        self.beats.show(report);
        changes
    }
}
