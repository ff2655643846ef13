//! The doors for beats: `/ping/…` as Healthchecks has it, `/alertmanager/<name>`, and what is asked of switches.
//!
//! A beat is in the book before it is answered; one that cannot be recorded is answered with 503, so that whoever sent it
//! tries again. The switchboard is locked for as long as its rules take, never while a disk or a client is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Site;
use crate::book::{Beats as Row, Book, BookError, Ping, Write};
use crate::clock;
use crate::deadman::{
    Address, BODY_LIMIT, Beat, BeatMethod, BeatResult, DeadmanState, MAX_WEBHOOK_BYTES, Meter,
    Pauses, Refused, Report, RunId, Switchboard, Wanted, presented,
};
use crate::model::Stamp;

/// How long a client may take to send a body.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// A longer body of a ping is refused; of a shorter one the beginning is kept.
const MAX_PING_BYTES: usize = 1 << 20;
/// A request for a pause is small.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// The row in which pauses are kept. No switch has this name: it cannot be written.
const PAUSES_ROW: &str = "\u{1}pauses";
/// Where a row keeps what the rules of beats remember.
const STATE: &str = "state";

/// The switches, between those who beat them and the owner, who judges them.
#[derive(Debug)]
pub struct Beats {
    board: Mutex<Switchboard>,
    latest: Mutex<BTreeMap<Arc<str>, Report>>,
    book: Book,
    meter: Meter,
    woken: Notify,
}

impl Beats {
    pub fn new(board: Switchboard, book: Book, meter: Meter) -> Arc<Self> {
        let beats = Self {
            board: Mutex::new(board),
            latest: Mutex::default(),
            book,
            meter,
            woken: Notify::new(),
        };
        Arc::new(beats)
    }

    /// For as long as a rule takes: nobody waits for anything while holding it.
    pub fn board(&self) -> MutexGuard<'_, Switchboard> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Waits until a switch was beaten or paused.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Whoever judges looks at once.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What a switch said when it was last judged, for those who ask.
    pub fn show(&self, report: Report) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.insert(Arc::clone(&report.name), report);
    }

    /// Switches that are gone.
    pub fn forget(&self, names: &[String]) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            latest.remove(name.as_str());
            // Not waited for: a row that stays is dropped by the next start.
            drop(self.book.forget_beats(name));
        }
    }

    /// Writes down what changed by itself, such as a switch that is newly armed. Not waited for.
    pub fn keep_changed(&self) {
        let changed = self.board().take_changed();
        let rows: Vec<Write> =
            changed.iter().map(|(name, state)| Write::put(self.row(name, state))).collect();
        if !rows.is_empty() {
            drop(self.book.write(rows));
        }
    }

    fn row(&self, name: &str, state: &DeadmanState) -> Row {
        let mut row = Row::armed(name, "", self.book.now());
        let state = serde_json::to_value(state).expect("a state is plain data");
        row.extra.insert(STATE.to_owned(), state);
        row
    }

    async fn keep(&self, name: &str, ping: Option<Ping>) -> Result<(), BookError> {
        let state = self.board().state(name);
        let Some(state) = state else { return Ok(()) };
        self.book.record(self.row(name, &state), ping).await
    }

    async fn keep_pauses(&self) -> Result<(), BookError> {
        let pauses = self.board().pauses().clone();
        let mut row = Row::armed(PAUSES_ROW, "", self.book.now());
        let pauses = serde_json::to_value(pauses).expect("pauses are plain data");
        row.extra.insert(STATE.to_owned(), pauses);
        self.book.record(row, None).await
    }

    fn reports(&self) -> Vec<Report> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.values().cloned().collect()
    }
}

/// What the book kept of switches. A row that cannot be read is said and begins anew.
pub fn kept(book: &Book) -> crate::deadman::Kept {
    let mut kept = crate::deadman::Kept::default();
    for mut row in book.beats() {
        let Some(state) = row.extra.remove(STATE) else { continue };
        if row.name == PAUSES_ROW {
            kept.pauses = serde_json::from_value::<Pauses>(state).unwrap_or_else(|error| {
                tracing::error!(%error, "the pauses in the book cannot be read");
                Pauses::default()
            });
            continue;
        }
        match serde_json::from_value::<DeadmanState>(state) {
            Ok(state) => {
                kept.states.insert(row.name, state);
            }
            Err(error) => {
                tracing::error!(deadman = row.name, %error, "its state in the book cannot be read: armed anew");
            }
        }
    }
    kept
}

/// The routes of beats, which may have a door of their own.
pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new().route("/ping/{*path}", any(ping)).route("/alertmanager/{name}", any(alertmanager))
}

/// The routes for people who ask about switches and pause them.
pub(super) fn api() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/v1/deadman", get(list))
        .route("/api/v1/deadman/{name}/pause", post(pause))
        .route("/api/v1/deadman/{name}/resume", post(resume))
}

#[derive(Debug, Deserialize)]
struct PingQuery {
    rid: Option<String>,
}

async fn ping(
    State(site): State<Arc<Site>>,
    Path(path): Path<String>,
    Query(query): Query<PingQuery>,
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
        Err(refused) => return refusal(refused),
    };
    let run = match query.rid.as_deref().map(RunId::parse) {
        Some(None) => return (StatusCode::BAD_REQUEST, "invalid uuid format").into_response(),
        Some(Some(run)) => Some(run),
        None => None,
    };
    let body = match read(body, MAX_PING_BYTES).await {
        Ok(body) => body,
        Err(code) => return code.into_response(),
    };
    let body = body.slice(..body.len().min(BODY_LIMIT));
    let now = clock::now();
    let beat = Beat { kind: address.kind, run, method, from: None, body: &body };
    let taken = match beats.board().ping(&address, &beat, now) {
        Ok(taken) => taken,
        Err(refused) => return refusal(refused),
    };
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let ping = Ping {
        name: taken.name.to_string(),
        source: String::new(),
        kind: taken.result.label().to_owned(),
        at: beats.book.moment(now),
        rid: query.rid,
        from: None,
        agent: text(header::USER_AGENT),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    if taken.result != BeatResult::Ignored && beats.keep(&taken.name, Some(ping)).await.is_err() {
        beats.meter.beat(&taken.name, BeatResult::NotRecorded);
        return not_recorded();
    }
    beats.meter.beat(&taken.name, taken.result);
    beats.wake();
    let limit = [("ping-body-limit", BODY_LIMIT.to_string())];
    (StatusCode::OK, limit, [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], "OK").into_response()
}

async fn alertmanager(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
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
        return refusal(Refused::NotFound);
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
    let Some(receipt) = beats.board().alertmanager(&name, &body, clock::now()) else {
        return refusal(Refused::NotFound);
    };
    if receipt.changed && beats.keep(&name, None).await.is_err() {
        beats.meter.beat(&name, BeatResult::NotRecorded);
        return not_recorded();
    }
    for result in &receipt.results {
        beats.meter.beat(&name, *result);
    }
    for latency in &receipt.latencies {
        beats.meter.latency(&name, *latency);
    }
    beats.wake();
    let code = StatusCode::from_u16(receipt.code()).unwrap_or(StatusCode::BAD_REQUEST);
    let words: Vec<&str> = receipt.results.iter().map(|result| result.label()).collect();
    (code, format!("{}\n", words.join(" "))).into_response()
}

fn refusal(refused: Refused) -> Response {
    let code = StatusCode::from_u16(refused.code()).unwrap_or(StatusCode::NOT_FOUND);
    (code, refused.text()).into_response()
}

fn not_recorded() -> Response {
    let later = [(header::RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, later, "the beat cannot be recorded now\n").into_response()
}

/// A body of at most so many bytes, within [`BODY_WAIT`].
async fn read(body: Body, limit: usize) -> Result<Bytes, StatusCode> {
    let limited = http_body_util::Limited::new(body, limit);
    match timeout(BODY_WAIT, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        }
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// One switch of `/api/v1/deadman`.
#[derive(Debug, Serialize)]
struct DeadmanJson {
    name: String,
    last_beat: Option<Timestamp>,
    deadline: Option<Timestamp>,
    ok: bool,
    /// Why, in words, when it fails.
    reason: Option<String>,
    paused: Option<String>,
    notes: Vec<String>,
    members: Vec<MemberJson>,
}

#[derive(Debug, Serialize)]
struct MemberJson {
    name: String,
    ok: bool,
    reason: Option<String>,
}

impl From<Report> for DeadmanJson {
    fn from(report: Report) -> Self {
        let why = |answer: &crate::model::Answer| answer.reason().map(|_| answer.to_string());
        let members = report.members.iter().map(|(name, verdict)| MemberJson {
            name: name.to_string(),
            ok: verdict.answer.is_success(),
            reason: why(&verdict.answer),
        });
        let wall = |stamp: Option<Stamp>| stamp.map(|stamp| stamp.wall);
        Self {
            members: members.collect(),
            name: report.name.to_string(),
            last_beat: wall(report.last_beat),
            deadline: wall(report.deadline),
            ok: report.answer.is_success(),
            reason: why(&report.answer),
            paused: report.paused.map(|pause| pause.reason),
            notes: report.notes.iter().map(ToString::to_string).collect(),
        }
    }
}

async fn list(State(site): State<Arc<Site>>) -> Response {
    let reports = site.beats().map(|beats| beats.reports()).unwrap_or_default();
    axum::Json(reports.into_iter().map(DeadmanJson::from).collect::<Vec<_>>()).into_response()
}

/// What a pause is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseRequest {
    seconds: u64,
    reason: String,
    #[serde(default)]
    begins_in_seconds: u64,
    #[serde(default)]
    by: String,
}

async fn pause(State(site): State<Arc<Site>>, Path(name): Path<String>, body: Body) -> Response {
    let Some(beats) = site.beats() else { return not_recorded() };
    if beats.board().spec(&name).is_none() {
        return refusal(Refused::NotFound);
    }
    let body = match read(body, MAX_REQUEST_BYTES).await {
        Ok(body) => body,
        Err(code) => return code.into_response(),
    };
    let request: PauseRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let wanted = Wanted {
        begins_in: Duration::from_secs(request.begins_in_seconds),
        lasts: Duration::from_secs(request.seconds),
        reason: &request.reason,
        by: &request.by,
    };
    let paused = beats.board().pause(&name, wanted, clock::now());
    if let Err(error) = paused {
        return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
    }
    confirmed(&beats).await
}

async fn resume(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Response {
    let Some(beats) = site.beats() else { return not_recorded() };
    if beats.board().spec(&name).is_none() {
        return refusal(Refused::NotFound);
    }
    beats.board().resume(&name, clock::now());
    confirmed(&beats).await
}

async fn confirmed(beats: &Beats) -> Response {
    let kept = beats.keep_pauses().await;
    beats.wake();
    match kept {
        Ok(()) => "OK\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
