//! Pauses and maintenance: asked for over HTTP, with an end and a reason, in the book before they count.
//!
//! They are served on the main door only. Where `watchpost: {api_key_file: …}` is set they want its key as a bearer token;
//! a page of somebody else's in a browser cannot ask for them.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Beats, Finally, not_recorded, read};
use crate::clock;
use crate::deadman::{Pauses, Planned, Wanted, presented};
use crate::model::Period;
use crate::web::peer::Peer;
use crate::web::{NoFilter, Site};

/// The key of the API, beside `Authorization`.
const API_KEY: &str = "x-api-key";
/// A request for a pause is small.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Requests for pauses are settled one after the other; this long one of them waits.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// What a pause is asked for with. Exactly one end is given, and either a probe or a deadman.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseRequest {
    probe: Option<String>,
    deadman: Option<String>,
    reason: String,
    until: Option<Timestamp>,
    #[serde(rename = "for")]
    lasts: Option<Period>,
    seconds: Option<u64>,
    begins: Option<Timestamp>,
    #[serde(default)]
    begins_in_seconds: u64,
    #[serde(default)]
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeRequest {
    probe: Option<String>,
    deadman: Option<String>,
}

/// What may be paused.
enum What {
    Probe(String),
    Deadman(String),
}

impl What {
    fn of(probe: Option<String>, deadman: Option<String>) -> Result<Self, Refusal> {
        match (probe, deadman) {
            (Some(name), None) => Ok(Self::Probe(name)),
            (None, Some(name)) => Ok(Self::Deadman(name)),
            _ => Err(bad("name either a probe or a deadman")),
        }
    }

    /// The name, if there is such a thing.
    fn known(self, beats: &Beats) -> Result<String, Refusal> {
        let (name, is_known, kind) = match self {
            Self::Probe(name) => {
                let known = beats.probes().iter().any(|probe| **probe == *name);
                (name, known, "probe")
            }
            Self::Deadman(name) => {
                let known = beats.board().spec(&name).is_some();
                (name, known, "deadman")
            }
        };
        let missing = || (StatusCode::NOT_FOUND, format!("there is no {kind} {name:?}"));
        if is_known { Ok(name) } else { Err(missing()) }
    }
}

/// A status, and why.
type Refusal = (StatusCode, String);

fn bad(text: impl std::fmt::Display) -> Refusal {
    (StatusCode::BAD_REQUEST, text.to_string())
}

impl PauseRequest {
    /// When it begins from now on, and how long it lasts.
    fn resolve(&self, now: Timestamp) -> Result<(Duration, Duration), Refusal> {
        let begins_in = match self.begins {
            Some(at) => positive(now, at),
            None => Duration::from_secs(self.begins_in_seconds),
        };
        let begins = now.checked_add(begins_in).map_err(bad)?;
        let lasts = match (self.until, self.lasts, self.seconds) {
            (Some(until), None, None) => positive(begins, until),
            (None, Some(lasts), None) => lasts.get(),
            (None, None, Some(seconds)) => Duration::from_secs(seconds),
            _ => return Err(bad("a pause needs one end: until, for or seconds")),
        };
        Ok((begins_in, lasts))
    }
}

/// From one moment to a later one, in whole seconds; zero to an earlier one.
fn positive(from: Timestamp, to: Timestamp) -> Duration {
    let seconds = to.duration_since(from).as_millis().div_euclid(1_000);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Who asks, and whether they may.
struct Asker {
    beats: Arc<Beats>,
    by: String,
}

async fn admit(
    site: &Site,
    peer: Option<Extension<Peer>>,
    headers: &HeaderMap,
) -> Result<Asker, Response> {
    if is_foreign_page(headers) {
        return Err(said((StatusCode::FORBIDDEN, "not from a page of another site".into())));
    }
    if !site.opens_api(key(headers)).await {
        let wants = [(header::WWW_AUTHENTICATE, "Bearer")];
        let text = "the key of the API is missing or wrong\n";
        return Err((StatusCode::UNAUTHORIZED, wants, text).into_response());
    }
    let Some(beats) = site.beats() else { return Err(not_recorded()) };
    let by = site.sender(peer, headers).map(|ip| ip.to_string()).unwrap_or_default();
    Ok(Asker { beats, by })
}

/// The key that was presented: in a header of its own where `Authorization` is for a user of `--web.config.file`.
fn key(headers: &HeaderMap) -> Option<Vec<u8>> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.as_bytes().to_vec());
    }
    presented(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// Browsers say which site a page that asks is from.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let origin = origin.split_once("://").map_or(origin, |(_, host)| host);
    text(header::HOST) != Some(origin)
}

fn said((code, text): Refusal) -> Response {
    (code, format!("{text}\n")).into_response()
}

async fn request<T: DeserializeOwned>(body: Body) -> Result<T, Response> {
    let body = read(body, MAX_REQUEST_BYTES).await.map_err(IntoResponse::into_response)?;
    serde_json::from_slice(&body).map_err(|error| said(bad(error)))
}

pub(super) async fn pause_deadman(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let asker = admit(&site, peer, &headers).await?;
    let order = request::<PauseRequest>(body).await?;
    paused(&asker, What::Deadman(name), &order).await?;
    Ok("OK\n".into_response())
}

pub(super) async fn pause(
    State(site): State<Arc<Site>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let asker = admit(&site, peer, &headers).await?;
    let order = request::<PauseRequest>(body).await?;
    let what = What::of(order.probe.clone(), order.deadman.clone()).map_err(said)?;
    let planned = paused(&asker, what, &order).await?;
    Ok(axum::Json(planned).into_response())
}

async fn paused(asker: &Asker, what: What, order: &PauseRequest) -> Result<Vec<Planned>, Response> {
    let beats = &*asker.beats;
    let name = what.known(beats).map_err(said)?;
    let _turn = beats.turn(TURN_WAIT).await.ok_or_else(not_recorded)?;
    let now = clock::now();
    let (begins_in, lasts) = order.resolve(now.wall).map_err(said)?;
    let by = if order.by.is_empty() { asker.by.as_str() } else { order.by.as_str() };
    let wanted = Wanted { begins_in, lasts, reason: &order.reason, by };
    let pauses =
        beats.board().foretell_pause(&name, wanted, now).map_err(|error| said(bad(error)))?;
    let taking = Finally::new(|| {
        // What was foretold a moment ago holds: nobody else pauses meanwhile.
        beats.board().pause(&name, wanted, now).ok();
    });
    settle(beats, &pauses, taking).await?;
    tracing::info!(name, reason = order.reason, by, seconds = lasts.as_secs(), "paused");
    Ok(of(beats, &name))
}

/// Writes the pauses down. They hold from then on, and not if they cannot be written.
async fn settle<F: FnOnce()>(
    beats: &Beats,
    pauses: &Pauses,
    taking: Finally<F>,
) -> Result<(), Response> {
    if let Err(error) = beats.keep_pauses(pauses).await {
        taking.call_off();
        return Err(said((StatusCode::SERVICE_UNAVAILABLE, error.to_string())));
    }
    drop(taking);
    beats.wake();
    Ok(())
}

pub(super) async fn resume_deadman(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let asker = admit(&site, peer, &headers).await?;
    resumed(&asker, What::Deadman(name)).await?;
    Ok("OK\n".into_response())
}

pub(super) async fn resume(
    State(site): State<Arc<Site>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let asker = admit(&site, peer, &headers).await?;
    let order = request::<ResumeRequest>(body).await?;
    let what = What::of(order.probe, order.deadman).map_err(said)?;
    let ended = resumed(&asker, what).await?;
    Ok(axum::Json(serde_json::json!({ "ended": ended })).into_response())
}

/// Ends the pauses that hold now. How many.
async fn resumed(asker: &Asker, what: What) -> Result<usize, Response> {
    let beats = &*asker.beats;
    let name = what.known(beats).map_err(said)?;
    let _turn = beats.turn(TURN_WAIT).await.ok_or_else(not_recorded)?;
    let now = clock::now();
    let (pauses, ended) = beats.board().foretell_resume(&name, now);
    if ended == 0 {
        return Ok(0);
    }
    let taking = Finally::new(|| {
        beats.board().resume(&name, now);
    });
    settle(beats, &pauses, taking).await?;
    tracing::info!(name, by = asker.by, "resumed");
    Ok(ended)
}

fn of(beats: &Beats, name: &str) -> Vec<Planned> {
    let planned = beats.board().planned(clock::now());
    planned.into_iter().filter(|pause| pause.name == name).collect()
}

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Query(NoFilter {}): Query<NoFilter>,
) -> Response {
    let planned = site.beats().map(|beats| beats.board().planned(clock::now()));
    axum::Json(planned.unwrap_or_default()).into_response()
}
