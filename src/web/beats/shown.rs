//! Switches as JSON: `/api/v1/deadman`, and a part of `/api/v1/status`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use super::Beats;
use crate::clock;
use crate::deadman::{Replica, Report};
use crate::model::{Answer, Stamp};
use crate::web::Site;

/// One switch of `/api/v1/deadman`.
#[derive(Debug, Serialize)]
pub(in crate::web) struct DeadmanJson {
    pub(super) name: String,
    pub(super) last_beat: Option<Timestamp>,
    /// The address that the last beat came from.
    pub(super) last_from: Option<IpAddr>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) ok: bool,
    /// Why, in words, when it fails.
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
    pub(super) ok: bool,
    pub(super) reason: Option<String>,
    /// The last that was heard of it, in words.
    pub(super) heard: Option<String>,
}

impl From<Report> for DeadmanJson {
    fn from(report: Report) -> Self {
        let why = |answer: &Answer| answer.reason().map(|_| answer.to_string());
        let members = report.members.iter().map(|(name, verdict)| MemberJson {
            name: name.to_string(),
            ok: verdict.answer.is_success(),
            reason: why(&verdict.answer),
            heard: verdict.heard.map(|heard| heard.to_string()),
        });
        let wall = |stamp: Option<Stamp>| stamp.map(|stamp| stamp.wall);
        let newest = report.members.iter().filter_map(|(_, verdict)| verdict.heard);
        let newest = newest.max_by_key(|heard| heard.received);
        Self {
            members: members.collect(),
            name: report.name.to_string(),
            last_from: newest.and_then(|heard| heard.from),
            last_beat: wall(report.last_beat),
            deadline: wall(report.deadline),
            ok: report.answer.is_success(),
            reason: why(&report.answer),
            paused: report.paused.map(|pause| pause.reason),
            paused_until: None,
            notes: report.notes.iter().map(ToString::to_string).collect(),
            alertmanagers: Vec::new(),
        }
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

pub(super) async fn list(State(site): State<Arc<Site>>) -> Response {
    let rows = site.beats().map(|beats| shown(&beats)).unwrap_or_default();
    axum::Json(rows).into_response()
}
