//! A switch that the always-firing alert of each Prometheus feeds through Alertmanager's webhook.
//!
//! An alert that keeps firing proves little: Alertmanager repeats that of a dead Prometheus for four more minutes.
//! Evidence is a clock of ours that came back, newer than the last one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::issued::Clocks;
use super::line::{At, Line, Mark};
use super::ping::BeatResult;
use super::silence::Silence;
use super::spec::{Spec, WatchdogSpec};
use super::switch::{Heard, Verdict};
use super::webhook::{Alert, MAX_ALERTS, Payload, Unreadable};
use crate::model::{Answer, Fault, Stamp};

/// What a watchdog remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogState {
    pub armed: Mark,
    #[serde(default)]
    pub sources: BTreeMap<String, SourceState>,
    /// The receiver in Alertmanager by which evidence came last.
    #[serde(default)]
    pub via: Option<String>,
}

/// What it remembers of one Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// When this source was first listed.
    pub armed: Mark,
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// The last alert that was no evidence, and why.
    #[serde(default)]
    pub other: Option<Other>,
    #[serde(default)]
    pub resolved: Option<Resolved>,
    #[serde(default)]
    pub silence: Silence,
}

/// A clock of ours that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Where it was issued, on our own line of time.
    pub issued: Mark,
    pub received: Mark,
    /// When Prometheus evaluated the rule, by its own clock.
    #[serde(default)]
    pub evaluated_ms: Option<i64>,
    /// Which Alertmanager brought it.
    #[serde(default)]
    pub from: Option<IpAddr>,
}

impl Evidence {
    fn heard(&self, line: &Line) -> Heard {
        let (received, issued) = (line.placed(&self.received), line.placed(&self.issued));
        Heard { received, issued: Some(issued), from: self.from }
    }
}

/// What was posted.
#[derive(Debug, Clone, Copy)]
pub struct Posted<'a> {
    pub body: &'a [u8],
    pub from: Option<IpAddr>,
}

impl<'a> From<&'a [u8]> for Posted<'a> {
    fn from(body: &'a [u8]) -> Self {
        Self { body, from: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    pub mark: Mark,
    pub result: BeatResult,
    #[serde(default)]
    pub evaluated_ms: Option<i64>,
}

/// The alert ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub mark: Mark,
    /// By Alertmanager's clock: the same ending told twice is one.
    pub ended_ms: i64,
}

/// What became of one webhook.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Receipt {
    /// One for each alert, and one for what is wrong with the whole.
    pub results: Vec<BeatResult>,
    /// How long each piece of new evidence was on its way.
    pub latencies: Vec<Duration>,
    /// Whether there is something new to keep.
    pub changed: bool,
    from: Option<IpAddr>,
}

impl Receipt {
    fn whole(result: BeatResult) -> Self {
        Self { results: vec![result], ..Self::default() }
    }

    /// The status to answer, once it is recorded. Alertmanager does not retry 4xx, so it is for what a retry cannot mend.
    pub fn code(&self) -> u16 {
        match self.results.as_slice() {
            [BeatResult::TooLarge] => 413,
            [BeatResult::Malformed | BeatResult::ForeignPayload] => 400,
            _ => 200,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Watchdog {
    spec: Arc<Spec>,
    rules: Arc<WatchdogSpec>,
    state: WatchdogState,
    stranger: Option<(At, Stranger)>,
}

/// Whose alert came that no source is known for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stranger {
    /// The label that tells sources apart.
    pub label: String,
    /// Its value; `None` where the alert does not have it.
    pub value: Option<String>,
}

/// Longest value of a label that is told.
const MAX_VALUE: usize = 80;

impl Watchdog {
    /// `None` when the spec is not one of a watchdog.
    pub fn new(
        spec: Arc<Spec>,
        kept: Option<WatchdogState>,
        now: Stamp,
        line: &Line,
    ) -> Option<Self> {
        let rules = Arc::new(spec.watchdog.clone()?);
        let mark = line.mark(now);
        let mut state = kept.unwrap_or_else(|| WatchdogState::armed(mark.clone()));
        let names = rules.source_names();
        state.sources.retain(|name, _| names.contains(name));
        for name in names {
            // A source that is new in the list has its own first deadline.
            state.sources.entry(name).or_insert_with(|| SourceState::armed(mark.clone()));
        }
        Some(Self { spec, rules, state, stranger: None })
    }

    pub const fn state(&self) -> &WatchdogState {
        &self.state
    }

    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    pub fn rules(&self) -> &WatchdogSpec {
        &self.rules
    }

    /// Takes a webhook. `id` is our own name, under which our clock comes back.
    pub fn receive<'b>(
        &mut self,
        posted: impl Into<Posted<'b>>,
        id: &str,
        clocks: &Clocks,
        now: Stamp,
        line: &Line,
    ) -> Receipt {
        let posted = posted.into();
        let payload = match Payload::read(posted.body) {
            Ok(payload) => payload,
            Err(Unreadable::TooLarge) => return Receipt::whole(BeatResult::TooLarge),
            Err(Unreadable::Malformed) => return Receipt::whole(BeatResult::Malformed),
            Err(Unreadable::Foreign) => return Receipt::whole(BeatResult::ForeignPayload),
        };
        let mut receipt = Receipt { from: posted.from, ..Receipt::default() };
        if payload.truncated > 0 || payload.alerts.len() > MAX_ALERTS {
            receipt.results.push(BeatResult::Truncated);
        }
        for alert in payload.alerts.iter().take(MAX_ALERTS) {
            let result = self.take(alert, id, clocks, now, line, &mut receipt);
            receipt.results.push(result);
        }
        if receipt.results.contains(&BeatResult::Fresh) {
            self.state.via = Some(payload.receiver);
        }
        if receipt.results.is_empty() {
            receipt.results.push(BeatResult::ForeignAlert);
        }
        receipt
    }

    fn take(
        &mut self,
        alert: &Alert,
        id: &str,
        clocks: &Clocks,
        now: Stamp,
        line: &Line,
        receipt: &mut Receipt,
    ) -> BeatResult {
        if alert.labels.get("alertname") != Some(&self.rules.alertname) {
            return BeatResult::ForeignAlert;
        }
        let max_age = self.rules.max_age.get();
        let limit = self.limit_of(alert, line);
        let clock = alert.clock(&self.rules.annotation, id);
        let Some(source) = self.source_of(alert) else {
            self.stranger = self.stranger_in(alert).map(|stranger| (At::of(now), stranger));
            return BeatResult::UnknownSource;
        };
        if alert.is_resolved() {
            receipt.changed |= source.resolve(alert, now, line);
            return BeatResult::Resolved;
        }
        let Some(millis) = clock else {
            return self.note(alert, BeatResult::NotScraped, now, line, receipt);
        };
        let Some(issued) = clocks.find(millis, now) else {
            return self.note(alert, BeatResult::ForeignClock, now, line, receipt);
        };
        let last = source.evidence.as_ref().map(|evidence| line.place(&evidence.issued));
        if let Some(last) = last
            && issued <= last
        {
            let result = if issued == last { BeatResult::Duplicate } else { BeatResult::Replayed };
            return self.note(alert, result, now, line, receipt);
        }
        let age = At::of(now).since(issued);
        source.evidence = Some(Evidence {
            issued: line.mark_at(issued, millis),
            received: line.mark(now),
            evaluated_ms: alert.evaluated_ms(),
            from: receipt.from,
        });
        receipt.changed = true;
        receipt.latencies.push(age);
        if age > max_age {
            return self.note(alert, BeatResult::Stale, now, line, receipt);
        }
        source.silence.beaten(limit.is_none_or(|limit| At::of(now) < limit));
        source.other = None;
        BeatResult::Fresh
    }

    /// Remembers why an alert was no evidence; the page will want to say it.
    fn note(
        &mut self,
        alert: &Alert,
        result: BeatResult,
        now: Stamp,
        line: &Line,
        receipt: &mut Receipt,
    ) -> BeatResult {
        if let Some(source) = self.source_of(alert) {
            // Only a new reason is worth a write.
            receipt.changed |= source.other.as_ref().is_none_or(|other| other.result != result);
            let evaluated_ms = alert.evaluated_ms();
            source.other = Some(Other { mark: line.mark(now), result, evaluated_ms });
        }
        result
    }

    fn source_name(&self, alert: &Alert) -> Option<String> {
        match &self.rules.source_label {
            Some(label) => alert.labels.get(label).cloned(),
            None => Some(self.rules.alertname.clone()),
        }
    }

    fn source_of(&mut self, alert: &Alert) -> Option<&mut SourceState> {
        let name = self.source_name(alert)?;
        self.state.sources.get_mut(&name)
    }

    fn stranger_in(&self, alert: &Alert) -> Option<Stranger> {
        let label = self.rules.source_label.clone()?;
        let value = alert.labels.get(&label);
        let value = value.map(|value| value.chars().take(MAX_VALUE).collect());
        Some(Stranger { label, value })
    }

    /// Sources whose alert has ended, as Alertmanager says.
    pub fn ended(&self, line: &Line) -> Vec<String> {
        let ended = self.state.sources.iter().filter(|(_, source)| source.open_end(line).is_some());
        ended.map(|(name, _)| name.clone()).collect()
    }

    /// Who came lately and is not listed. Not kept: it comes again.
    pub fn stranger(&self, now: Stamp) -> Option<&Stranger> {
        let (at, stranger) = self.stranger.as_ref()?;
        (At::of(now).since(*at) <= self.rules.max_age.get()).then_some(stranger)
    }

    fn limit_of(&self, alert: &Alert, line: &Line) -> Option<At> {
        let source = self.state.sources.get(&self.source_name(alert)?)?;
        Some(self.limit(source, line))
    }

    /// When a source fails unless new evidence comes.
    fn limit(&self, source: &SourceState, line: &Line) -> At {
        self.due(source, line).plus(self.spec.grace())
    }

    fn due(&self, source: &SourceState, line: &Line) -> At {
        let base = source.evidence.as_ref().map_or(&source.armed, |evidence| &evidence.issued);
        let due = line.place(base).plus(self.rules.max_age.get());
        match source.open_end(line) {
            Some(end) => due.min(end.plus(self.rules.resolved_settle.get())),
            None => due,
        }
    }

    pub fn wake(&mut self, now: Stamp, line: &Line) -> bool {
        let limits: Vec<At> =
            self.state.sources.values().map(|source| self.limit(source, line)).collect();
        let mut changed = false;
        for (source, limit) in self.state.sources.values_mut().zip(limits) {
            changed |= source.silence.hold(limit, now, line);
        }
        changed
    }

    /// What each source says now, by name; true when there is something new to keep.
    pub fn evaluate(&mut self, now: Stamp, line: &Line) -> (BTreeMap<String, Verdict>, bool) {
        let verdicts: BTreeMap<String, Verdict> = self
            .state
            .sources
            .iter()
            .map(|(name, source)| (name.clone(), self.judge(name, source, now, line)))
            .collect();
        let mut changed = false;
        for (name, source) in &mut self.state.sources {
            let fails = verdicts.get(name).is_some_and(|it| matches!(it.answer, Answer::Fail(_)));
            changed |= source.silence.set_down(fails, now, line);
        }
        (verdicts, changed)
    }

    fn judge(&self, name: &str, source: &SourceState, now: Stamp, line: &Line) -> Verdict {
        let at = At::of(now);
        let due = self.due(source, line);
        let proven = self.limit(source, line);
        let limit = source.silence.limit(proven, line);
        let flaps = source.silence.flapping(self.rules.max_age.get(), now, line);
        let answer = if limit <= at {
            Answer::Fail(self.why(name, source, now, line))
        } else if due <= at {
            Answer::Warn(self.why(name, source, now, line))
        } else if let Some(count) = flaps {
            let detail = format!("flapping: failed {count} times lately, not steady yet");
            Answer::Warn(Fault::ReportedFailure { detail: detail.into() })
        } else {
            Answer::Pass
        };
        let deadline = (limit > at).then_some(limit);
        let next = [due, limit].into_iter().filter(|it| *it > at).min();
        let heard = source.evidence.as_ref().map(|evidence| evidence.heard(line));
        let proves_until = heard.map(|_| proven);
        Verdict { answer, deadline, next, flaps, heard, proves_until }
    }

    /// What is known about a source that has no fresh evidence.
    fn why(&self, name: &str, source: &SourceState, now: Stamp, line: &Line) -> Fault {
        let max_age = self.rules.max_age.get();
        let since = source.evidence.as_ref().map(|evidence| evidence.received.wall());
        let silent = Fault::Silent { since, allowed: max_age.saturating_add(self.spec.grace()) };
        let Some(other) = &source.other else { return silent };
        if At::of(now).since(line.place(&other.mark)) > max_age
            || source.has_ended_since(other, line)
        {
            return silent;
        }
        match (other.result, &source.evidence) {
            (BeatResult::NotScraped, _) | (_, None) => Fault::NotScraped { source: name.into() },
            (_, Some(evidence)) if other.is_evaluated_since(evidence, max_age / 3) => {
                Fault::NotScraped { source: name.into() }
            }
            (_, Some(evidence)) => Fault::StaleEvidence {
                source: name.into(),
                age: At::of(now).since(line.place(&evidence.issued)),
            },
        }
    }

    /// The newest arrival of evidence from any source.
    pub fn last_evidence(&self, line: &Line) -> Option<&Mark> {
        let sources = self.state.sources.values();
        let received = sources.filter_map(|source| Some(&source.evidence.as_ref()?.received));
        received.max_by_key(|mark| line.place(mark))
    }

    /// All sources taken together, by `min_sources`.
    pub fn answer(&self, verdicts: &BTreeMap<String, Verdict>) -> Answer {
        let failing: Vec<(&String, &Fault)> = verdicts
            .iter()
            .filter_map(|(name, verdict)| match &verdict.answer {
                Answer::Fail(fault) => Some((name, fault)),
                _ => None,
            })
            .collect();
        let working = verdicts.len().saturating_sub(failing.len());
        if failing.is_empty() {
            let warned = verdicts.values().find(|it| matches!(it.answer, Answer::Warn(_)));
            return warned.map_or(Answer::Pass, |verdict| verdict.answer.clone());
        }
        let fault = match failing.as_slice() {
            [(_, fault)] if verdicts.len() == 1 => (*fault).clone(),
            _ => Fault::SourceMissing {
                sources: failing.iter().map(|(name, _)| name.as_str().into()).collect(),
            },
        };
        if working >= self.rules.min_sources() { Answer::Warn(fault) } else { Answer::Fail(fault) }
    }
}

impl Other {
    /// Prometheus goes on evaluating with a clock that stands still: it lives, and has not asked us for a new one. It keeps
    /// showing the last one for minutes after the scrape was removed.
    fn is_evaluated_since(&self, evidence: &Evidence, least: Duration) -> bool {
        let (Some(before), Some(now)) = (evidence.evaluated_ms, self.evaluated_ms) else {
            return false;
        };
        let moved = u64::try_from(now.saturating_sub(before)).unwrap_or_default();
        Duration::from_millis(moved) >= least
    }
}

impl SourceState {
    const fn armed(mark: Mark) -> Self {
        Self { armed: mark, evidence: None, other: None, resolved: None, silence: Silence::NONE }
    }

    /// When the alert ended, if it has not fired since.
    fn open_end(&self, line: &Line) -> Option<At> {
        let resolved = line.place(&self.resolved.as_ref()?.mark);
        let received = self.evidence.as_ref().map(|evidence| line.place(&evidence.received));
        received.is_none_or(|received| received < resolved).then_some(resolved)
    }

    fn has_ended_since(&self, other: &Other, line: &Line) -> bool {
        self.open_end(line).is_some_and(|end| line.place(&other.mark) < end)
    }

    fn resolve(&mut self, alert: &Alert, now: Stamp, line: &Line) -> bool {
        let ended_ms = alert.ended_ms();
        if self.resolved.as_ref().is_some_and(|it| ended_ms <= it.ended_ms) {
            return false;
        }
        self.resolved = Some(Resolved { mark: line.mark(now), ended_ms });
        true
    }

    fn marks(&self) -> impl Iterator<Item = &Mark> {
        [&self.armed]
            .into_iter()
            .chain(self.evidence.iter().map(|it| &it.received))
            .chain(self.resolved.iter().map(|it| &it.mark))
            .chain(self.silence.marks())
    }
}

impl WatchdogState {
    const fn armed(mark: Mark) -> Self {
        Self { armed: mark, sources: BTreeMap::new(), via: None }
    }

    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        [&self.armed].into_iter().chain(self.sources.values().flat_map(SourceState::marks))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(second: i64) -> Stamp {
        let boot = Duration::from_secs(u64::try_from(1_000 + second).unwrap());
        Stamp::new(Timestamp::from_second(START + second).unwrap(), boot)
    }

    struct Bench {
        watchdog: Watchdog,
        clocks: Clocks,
        line: Line,
    }

    impl Bench {
        fn new() -> Self {
            let spec = r#"{"name":"alerting","watchdog":{"source_label":"p","sources":["p1"],"max_age":"60s"}}"#;
            let spec: Spec = serde_json::from_str(spec).unwrap();
            let line = Line::start(at(0), "boot", []);
            let watchdog = Watchdog::new(Arc::new(spec), None, at(0), &line).unwrap();
            Self { watchdog, clocks: Clocks::new(&line), line }
        }

        /// A webhook at a moment: the clock in it, and when the rule was evaluated.
        fn hear(&mut self, now: i64, clock: Option<f64>, evaluated: i64) -> BeatResult {
            let clock = clock.map(|clock| format!("wp={clock:.3} ")).unwrap_or_default();
            let body = serde_json::json!({
                "version": "4", "receiver": "watchpost",
                "alerts": [{
                    "status": "firing", "labels": { "alertname": "Watchdog", "p": "p1" },
                    "annotations": { "clocks": clock, "evaluated": format!("{}.000", START + evaluated) },
                }],
            });
            let body = body.to_string();
            let receipt =
                self.watchdog.receive(body.as_bytes(), "wp", &self.clocks, at(now), &self.line);
            receipt.results[0]
        }

        fn reason(&mut self, now: i64) -> String {
            let (verdicts, _) = self.watchdog.evaluate(at(now), &self.line);
            verdicts["p1"].answer.reason().unwrap_or("pass").to_owned()
        }
    }

    #[test]
    fn who_comes_without_its_label_is_remembered_for_a_while() {
        let mut bench = Bench::new();
        let mut hear = |now: i64, labels: serde_json::Value| {
            let body = serde_json::json!({
                "version": "4", "receiver": "watchpost",
                "alerts": [{ "status": "firing", "labels": labels, "annotations": {} }],
            });
            let body = body.to_string();
            let receipt =
                bench.watchdog.receive(body.as_bytes(), "wp", &bench.clocks, at(now), &bench.line);
            assert_eq!(receipt.results, [BeatResult::UnknownSource]);
            bench.watchdog.stranger(at(now)).cloned().unwrap()
        };
        let without = hear(1, serde_json::json!({ "alertname": "Watchdog" }));
        assert_eq!(without, Stranger { label: "p".into(), value: None });
        let other = hear(2, serde_json::json!({ "alertname": "Watchdog", "p": "p9" }));
        assert_eq!(other.value.as_deref(), Some("p9"));
        assert_eq!(bench.watchdog.stranger(at(63)), None);
    }

    #[test]
    fn a_clock_that_stands_still_is_told_from_a_prometheus_that_stands_still() {
        let mut bench = Bench::new();
        let clock = bench.clocks.issue(at(10));
        assert_eq!(bench.hear(12, Some(clock), 11), BeatResult::Fresh);
        assert_eq!(bench.watchdog.state().via.as_deref(), Some("watchpost"));
        // Alertmanager repeats what it had last.
        for now in [20, 40, 60] {
            assert_eq!(bench.hear(now, Some(clock), 16), BeatResult::Duplicate);
        }
        assert_eq!(bench.reason(69), "pass");
        assert_eq!(bench.reason(70), "stale_evidence");

        let mut bench = Bench::new();
        let clock = bench.clocks.issue(at(10));
        bench.hear(12, Some(clock), 11);
        // It evaluates, and the last scrape is all that it has.
        for now in [20, 40, 60] {
            assert_eq!(bench.hear(now, Some(clock), now - 1), BeatResult::Duplicate);
        }
        assert_eq!(bench.reason(70), "not_scraped");

        let mut bench = Bench::new();
        let clock = bench.clocks.issue(at(10));
        bench.hear(12, Some(clock), 11);
        assert_eq!(bench.hear(60, None, 59), BeatResult::NotScraped);
        assert_eq!(bench.reason(70), "not_scraped");
    }
}
