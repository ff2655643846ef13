//! The doors for beats: `/ping/…` as Healthchecks has it, and `/alertmanager/<name>`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Beats, Finally, not_recorded, read};
use crate::book::Ping;
use crate::clock;
use crate::deadman::{
    Address, BODY_LIMIT, Beat, BeatMethod, BeatResult, MAX_WEBHOOK_BYTES, Posted, Refused, RunId,
    presented,
};
use crate::web::Site;
use crate::web::peer::Peer;

/// A longer body of a ping is refused; of a shorter one the beginning is kept.
const MAX_PING_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct PingQuery {
    rid: Option<String>,
}

pub(super) async fn ping(
    State(site): State<Arc<Site>>,
    Path(path): Path<String>,
    Query(query): Query<PingQuery>,
    peer: Option<Extension<Peer>>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(method) = BeatMethod::from_name(method.as_str()) else {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "HEAD, GET, POST")], "")
            .into_response();
    };
    let Some(beats) = site.beats() else { return not_recorded() };
    let address = match Address::parse(&path) {
        Ok(address) => address,
        Err(refused) => return refusal(&beats, refused),
    };
    let run = match query.rid.as_deref().map(RunId::parse) {
        Some(None) => return (StatusCode::BAD_REQUEST, "invalid uuid format").into_response(),
        Some(Some(run)) => Some(run),
        None => None,
    };
    // Whoever guesses sends no megabyte first.
    if let Err(refused) = beats.board().is_known(&address) {
        return refusal(&beats, refused);
    }
    let body = match read(body, MAX_PING_BYTES).await {
        Ok(body) => body,
        Err(code) => return code.into_response(),
    };
    let body = body.slice(..body.len().min(BODY_LIMIT));
    let from = site.sender(peer, &headers);
    let beat = Beat { kind: address.kind, run, method, from, body: &body };
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).map(str::to_owned);
    take_ping(&beats, &address, &beat, query.rid, agent).await
}

async fn take_ping(
    beats: &Beats,
    address: &Address<'_>,
    beat: &Beat<'_>,
    rid: Option<String>,
    agent: Option<String>,
) -> Response {
    let now = clock::now();
    let (taken, state) = match beats.board().foretell_ping(address, beat, now) {
        Ok(foretold) => foretold,
        Err(refused) => return refusal(beats, refused),
    };
    let ping = Ping {
        name: taken.name.to_string(),
        source: String::new(),
        kind: taken.result.label().to_owned(),
        at: beats.book.moment(now),
        rid,
        from: beat.from.map(|ip| ip.to_string()),
        agent,
        body: String::from_utf8_lossy(beat.body).into_owned(),
    };
    if taken.result != BeatResult::Ignored {
        let taking = Finally::new(|| {
            let mut board = beats.board();
            // It may have been removed, or its key rotated, in between: then there is nothing to take it.
            board.ping(address, beat, now).ok();
            board.confirm(&taken.name, &state);
        });
        if beats.keep(&taken.name, &state, Some(ping)).await.is_err() {
            taking.call_off();
            beats.meter.beat(&taken.name, BeatResult::NotRecorded);
            return not_recorded();
        }
    }
    beats.meter.beat(&taken.name, taken.result);
    beats.wake();
    let limit = [("ping-body-limit", BODY_LIMIT.to_string())];
    (StatusCode::OK, limit, [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], "OK").into_response()
}

pub(super) async fn alertmanager(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    peer: Option<Extension<Peer>>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], "").into_response();
    }
    let Some(beats) = site.beats() else { return not_recorded() };
    let key = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(presented);
    let is_known = beats.board().spec(&name).is_some_and(|spec| spec.watchdog.is_some());
    if !is_known {
        return refusal(&beats, Refused::NotFound);
    }
    if !beats.board().opens(&name, key.as_deref()) {
        beats.meter.beat(&name, BeatResult::Unauthorised);
        return (StatusCode::UNAUTHORIZED, "the key is missing or wrong\n").into_response();
    }
    let body = match read(body, MAX_WEBHOOK_BYTES).await {
        Ok(body) => body,
        Err(code) => {
            if code == StatusCode::PAYLOAD_TOO_LARGE {
                beats.meter.beat(&name, BeatResult::TooLarge);
            }
            return code.into_response();
        }
    };
    let posted = Posted { body: &body, from: site.sender(peer, &headers) };
    take_webhook(&beats, &name, posted).await
}

async fn take_webhook(beats: &Beats, name: &str, posted: Posted<'_>) -> Response {
    let now = clock::now();
    let Some((receipt, state)) = beats.board().foretell_webhook(name, posted, now) else {
        return refusal(beats, Refused::NotFound);
    };
    let taking = Finally::new(|| {
        let mut board = beats.board();
        board.alertmanager(name, posted, now);
        if receipt.changed {
            board.confirm(name, &state);
        }
    });
    if receipt.changed && beats.keep(name, &state, None).await.is_err() {
        taking.call_off();
        beats.meter.beat(name, BeatResult::NotRecorded);
        return not_recorded();
    }
    drop(taking);
    for result in &receipt.results {
        beats.meter.beat(name, *result);
    }
    for latency in &receipt.latencies {
        beats.meter.latency(name, *latency);
    }
    beats.wake();
    let code = StatusCode::from_u16(receipt.code()).unwrap_or(StatusCode::BAD_REQUEST);
    let words: Vec<&str> = receipt.results.iter().map(|result| result.label()).collect();
    (code, format!("{}\n", words.join(" "))).into_response()
}

/// What is unknown and what is forbidden look the same, and are counted.
fn refusal(beats: &Beats, refused: Refused) -> Response {
    beats.meter.refused(refused);
    let code = StatusCode::from_u16(refused.code()).unwrap_or(StatusCode::NOT_FOUND);
    (code, refused.text()).into_response()
}
