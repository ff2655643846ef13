//! Switches as JSON: `/api/v1/deadman`, and a part of `/api/v1/status`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use super::Beats;
use crate::clock;
use crate::deadman::{Replica, Report};
use crate::model::{Answer, Stamp, Status};
use crate::web::{NoFilter, Site};

const WAITS: &str = "waits for its first beat";

/// One switch of `/api/v1/deadman`.
#[derive(Debug, Serialize)]
pub(in crate::web) struct DeadmanJson {
    pub(super) name: String,
    pub(super) last_beat: Option<Timestamp>,
    /// The address that the last beat came from.
    pub(super) last_from: Option<IpAddr>,
    pub(super) deadline: Option<Timestamp>,
    /// `unknown` while it waits for its first beat.
    pub(super) status: Status,
    /// Not known of one that was never beaten, unless it fails.
    pub(super) ok: Option<bool>,
    /// Why, in words, when it fails or is late, and what it waits for.
    pub(super) reason: Option<String>,
    /// Why it is paused, while it is.
    pub(super) paused: Option<String>,
    pub(super) paused_until: Option<Timestamp>,
    pub(super) notes: Vec<String>,
    pub(super) members: Vec<MemberJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) alertmanagers: Vec<AlertmanagerJson>,
}

/// One Alertmanager, as it was found when it was last asked.
#[derive(Debug, Serialize)]
pub(super) struct AlertmanagerJson {
    pub(super) url: String,
    version: Option<String>,
    up: bool,
    pub(super) findings: Vec<String>,
}

impl From<Replica> for AlertmanagerJson {
    fn from(replica: Replica) -> Self {
        Self {
            up: replica.is_up(),
            findings: replica.findings.iter().map(ToString::to_string).collect(),
            url: replica.url,
            version: replica.version,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct MemberJson {
    pub(super) name: String,
    pub(super) ok: Option<bool>,
    pub(super) reason: Option<String>,
    /// The last that was heard of it, in words.
    pub(super) heard: Option<String>,
}

impl From<Report> for DeadmanJson {
    fn from(report: Report) -> Self {
        let members = report.members.iter().map(|(name, verdict)| MemberJson {
            name: name.to_string(),
            ok: is_ok(&verdict.answer, verdict.heard.is_some()),
            reason: if verdict.waits() { Some(WAITS.to_owned()) } else { why(&verdict.answer) },
            heard: verdict.heard.map(|heard| heard.to_string()),
        });
        let wall = |stamp: Option<Stamp>| stamp.map(|stamp| stamp.wall);
        let newest = report.members.iter().filter_map(|(_, verdict)| verdict.heard);
        let newest = newest.max_by_key(|heard| heard.received.wall);
        // Of those that fail, the answer says whether the others are enough.
        let mut others =
            report.members.iter().filter(|(_, it)| !matches!(it.answer, Answer::Fail(_)));
        let all_heard = others.all(|(_, verdict)| verdict.heard.is_some());
        Self {
            status: report.status(),
            members: members.collect(),
            name: report.name.to_string(),
            last_from: newest.and_then(|heard| heard.from),
            last_beat: wall(report.last_beat),
            deadline: wall(report.deadline),
            ok: is_ok(&report.answer, all_heard),
            reason: why(&report.answer).or_else(|| waits_for(&report)),
            paused: report.paused.map(|pause| pause.reason),
            paused_until: None,
            notes: report.notes.iter().map(ToString::to_string).collect(),
            alertmanagers: Vec::new(),
        }
    }
}

/// Works, fails, or neither: what was never heard of cannot work.
fn is_ok(answer: &Answer, is_heard: bool) -> Option<bool> {
    match answer {
        Answer::Fail(_) => Some(false),
        Answer::Pass | Answer::Warn(_) => is_heard.then_some(true),
        Answer::Unknown(_) => None,
    }
}

fn why(answer: &Answer) -> Option<String> {
    answer.reason().map(|_| answer.to_string())
}

fn waits_for(report: &Report) -> Option<String> {
    let waiting: Vec<&str> = report.waiting().map(|name| &**name).collect();
    match waiting.as_slice() {
        [] => None,
        [name] if *name == &*report.name => Some(WAITS.to_owned()),
        names => Some(format!("nothing was heard yet of {}", names.join(", "))),
    }
}

/// Every switch, as it was when it was last judged.
pub(in crate::web) fn shown(beats: &Beats) -> Vec<DeadmanJson> {
    let planned = beats.board().planned(clock::now());
    let rows = beats.reports().into_iter().map(|report| {
        let replicas = beats.replicas(&report.name);
        let alertmanagers = replicas.into_iter().map(AlertmanagerJson::from).collect();
        let holding = planned.iter().filter(|pause| pause.holds && *pause.name == *report.name);
        let paused_until = holding.map(|pause| pause.until).max();
        DeadmanJson { paused_until, alertmanagers, ..DeadmanJson::from(report) }
    });
    rows.collect()
}

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Query(NoFilter {}): Query<NoFilter>,
) -> Response {
    let rows = site.beats().map(|beats| shown(&beats)).unwrap_or_default();
    axum::Json(rows).into_response()
}
