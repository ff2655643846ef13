//! `/api/v1/status` and `/api/v1/changes`: what the board shows, as JSON.
//!
//! Times are RFC 3339, durations seconds. A value that is not known is `null`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::beats::{self, DeadmanJson};
use super::notices::Notices;
use super::{NoFilter, Site, plain_error};
use crate::board::{Cell, News, Run};
use crate::clock;
use crate::deadman::Planned;
use crate::model::{Headcount, Outcome, RunResult, Stamp, Status, Unknown, View};

/// What `/api/v1/status` may be asked for. Whoever mistypes a word must not read an empty list as good news, nor a full one
/// as what was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only the checks of this probe.
    probe: Option<String>,
    /// Only checks with this status.
    status: Option<Status>,
}

/// `/api/v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    watchpost: String,
    region: Option<String>,
    now: Timestamp,
    ready: bool,
    blind: bool,
    probes: Vec<ProbeJson>,
    checks: Vec<CheckJson>,
    /// Dead man's switches, as in `/api/v1/deadman`.
    deadman: Vec<DeadmanJson>,
    /// Pauses of switches and probes that are not over.
    pauses: Vec<Planned>,
    /// Those that this watchpost sends.
    heartbeats: Vec<crate::heartbeat::View>,
    /// `null` where this watchpost does not notify.
    notifications: Option<Notices>,
}

#[derive(Debug, Serialize)]
struct ProbeJson {
    name: Arc<str>,
    module: Arc<str>,
    status: Status,
    since: Timestamp,
    min_up: Option<usize>,
    targets: Headcount,
}

#[derive(Debug, Serialize)]
struct CheckJson {
    id: String,
    probe: Arc<str>,
    target: String,
    module: Arc<str>,
    prober: &'static str,
    labels: BTreeMap<String, String>,
    status: Status,
    since: Timestamp,
    /// A worse status that is held back while this watchpost is blind.
    held: Option<Status>,
    reason: Option<&'static str>,
    /// The reason in words.
    detail: Option<String>,
    phase: Option<&'static str>,
    last_run: Option<Timestamp>,
    last_success: Option<Timestamp>,
    duration_seconds: Option<f64>,
    timeout_seconds: f64,
    /// Absent where nothing runs by the clock: a dead man's switch.
    interval_seconds: Option<f64>,
    phases_seconds: BTreeMap<&'static str, f64>,
    address: Option<std::net::IpAddr>,
    facts: Vec<FactJson>,
    runs: BTreeMap<&'static str, u64>,
    last_failure: Option<FailureJson>,
    history: Vec<RunJson>,
}

#[derive(Debug, Serialize)]
struct FactJson {
    name: &'static str,
    labels: BTreeMap<String, String>,
    value: Option<f64>,
}

#[derive(Debug, Serialize)]
struct FailureJson {
    at: Timestamp,
    reason: Option<&'static str>,
    detail: String,
}

#[derive(Debug, Serialize)]
struct RunJson {
    at: Timestamp,
    duration_seconds: f64,
    result: RunResult,
    reason: Option<&'static str>,
    early: bool,
}

pub(super) async fn status(
    State(site): State<Arc<Site>>,
    Query(filter): Query<Filter>,
) -> Result<Json<Answer>, Response> {
    let now = clock::now();
    let index = site.board.snapshot();
    // While it starts, nobody knows which there will be.
    if let Some(name) = &filter.probe
        && site.is_ready()
        && !index.groups().iter().any(|group| *group.load().policy.name == **name)
    {
        return Err(plain_error(StatusCode::NOT_FOUND, &format!("there is no probe {name:?}")));
    }
    let about = site.about.load();
    let wanted = |name: &str| filter.probe.as_deref().is_none_or(|probe| probe == name);
    let mut members: HashMap<Arc<str>, Headcount> = HashMap::new();
    for view in index.cells().iter().map(|cell| cell.load()) {
        members.entry(Arc::clone(&view.check.policy.name)).or_default().add(view.status_at(now));
    }
    let probes = index
        .groups()
        .iter()
        .map(|group| group.load())
        .filter(|view| wanted(&view.policy.name))
        .map(|view| {
            let targets = members.get(&view.policy.name).copied().unwrap_or_default();
            ProbeJson {
                name: Arc::clone(&view.policy.name),
                module: Arc::clone(&view.policy.module),
                status: view.status_among(targets),
                since: view.since.wall,
                min_up: view.policy.min_up,
                targets,
            }
        })
        .collect();
    let checks = index
        .cells()
        .iter()
        .map(|cell| (cell, cell.load()))
        .filter(|(_, view)| wanted(&view.check.policy.name))
        .filter(|(_, view)| filter.status.is_none_or(|status| view.status_at(now) == status))
        .map(|(cell, view)| check(cell, &view, now))
        .collect();
    let beats = site.beats();
    Ok(Json(Answer {
        watchpost: about.id.clone(),
        region: about.region.clone(),
        now: now.wall,
        ready: site.is_ready(),
        blind: site.board.is_blind(),
        probes,
        checks,
        deadman: beats.as_deref().map(beats::shown).unwrap_or_default(),
        pauses: beats.as_deref().map(|it| it.board().planned(now)).unwrap_or_default(),
        heartbeats: site.heartbeats(),
        notifications: site.book().map(|book| Notices::of(&book)),
    }))
}

fn check(cell: &Cell, view: &View, now: Stamp) -> CheckJson {
    let fresh = view.fresh(now);
    let policy = &view.check.policy;
    CheckJson {
        id: view.check.id.to_string(),
        probe: Arc::clone(&policy.name),
        target: view.check.target.address.clone(),
        module: Arc::clone(&policy.module),
        prober: policy.prober,
        labels: pairs(view.check.labels.iter()),
        status: view.status_at(now),
        since: view.since_at(now).wall,
        held: view.held,
        reason: view.reason_at(now),
        detail: fresh.filter(|o| o.answer.reason().is_some()).map(|o| o.answer.to_string()),
        phase: fresh.and_then(|o| o.phase).map(crate::model::Phase::label),
        last_run: view.last_run().map(|stamp| stamp.wall),
        last_success: view.last_success.map(|stamp| stamp.wall),
        duration_seconds: fresh.map(|o| o.took.as_secs_f64()),
        timeout_seconds: policy.timeout.as_secs_f64(),
        interval_seconds: (policy.interval < Duration::MAX).then(|| policy.interval.as_secs_f64()),
        phases_seconds: fresh.map(phases).unwrap_or_default(),
        address: fresh.and_then(|o| o.address),
        facts: fresh.map(facts).unwrap_or_default(),
        runs: RunResult::ALL.iter().map(|r| (r.label(), view.tally.runs(*r))).collect(),
        last_failure: view.last_failure.as_deref().map(|outcome| FailureJson {
            at: outcome.started.wall,
            reason: outcome.answer.reason(),
            detail: outcome.answer.to_string(),
        }),
        history: cell.history().recent().into_iter().map(RunJson::from).collect(),
    }
}

impl From<Run> for RunJson {
    fn from(run: Run) -> Self {
        Self {
            at: run.started,
            duration_seconds: run.took.as_secs_f64(),
            result: run.result,
            reason: run.reason.map(crate::model::Reason::label),
            early: run.early,
        }
    }
}

fn phases(outcome: &Outcome) -> BTreeMap<&'static str, f64> {
    outcome.phases.iter().map(|(phase, took)| (phase.label(), took.as_secs_f64())).collect()
}

fn facts(outcome: &Outcome) -> Vec<FactJson> {
    let facts = outcome.facts.iter().map(|fact| FactJson {
        name: fact.family.name,
        labels: pairs(fact.label_pairs().into_iter()),
        value: Some(fact.value).filter(|value| value.is_finite()),
    });
    facts.collect()
}

fn pairs<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// One change of `/api/v1/changes`, the newest first.
#[derive(Debug, Serialize)]
pub(super) struct ChangeJson {
    at: Timestamp,
    probe: String,
    /// Absent when the probe as a whole changed.
    target: Option<String>,
    check: Option<String>,
    from: Status,
    to: Status,
    /// How long the status that ended had held.
    held_seconds: f64,
    reason: Option<&'static str>,
    detail: Option<String>,
}

pub(super) async fn changes(
    State(site): State<Arc<Site>>,
    Query(NoFilter {}): Query<NoFilter>,
) -> Json<Vec<ChangeJson>> {
    Json(site.board.changes().iter().map(|news| change(news)).collect())
}

fn change(news: &News) -> ChangeJson {
    let (from, to) = news.statuses();
    let base = ChangeJson {
        at: news.at().wall,
        probe: news.probe().to_owned(),
        target: None,
        check: None,
        from,
        to,
        held_seconds: 0.0,
        reason: None,
        detail: None,
    };
    match news {
        News::Check { check, change } => {
            let unknown = change.unknown.as_ref();
            ChangeJson {
                target: Some(check.target.address.clone()),
                check: Some(check.id.to_string()),
                held_seconds: change.at.since(change.held_since).as_secs_f64(),
                reason: change
                    .fault
                    .as_ref()
                    .map(|f| f.reason().label())
                    .or(unknown.map(Unknown::label)),
                detail: change
                    .fault
                    .as_ref()
                    .map(ToString::to_string)
                    .or(unknown.map(ToString::to_string)),
                ..base
            }
        }
        News::Group(change) => {
            let missing: Vec<String> = change
                .missing
                .iter()
                .map(|(check, status)| format!("{} is {}", check.target.address, status.label()))
                .collect();
            ChangeJson {
                held_seconds: change.at.since(change.held_since).as_secs_f64(),
                detail: (!missing.is_empty()).then(|| missing.join(", ")),
                ..base
            }
        }
    }
}
