//! The switches between those who beat them, the owner who judges them, the book, and people who ask.
//!
//! A beat is in the book before it counts and before it is answered; one that cannot be recorded is answered with 503 and
//! does not count, so that whoever sent it tries again. The switchboard is locked for as long as its rules take, never
//! while a disk or a client is waited for.

mod doors;
mod pauses;
mod section;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http_body_util::BodyExt as _;
use serde::Deserialize as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Site;
use crate::book::{Beats as Row, Book, BookError, Ping, Write};
use crate::deadman::{DeadmanState, Meter, Pauses, Replica, Report, Spec, Switchboard};
pub(super) use section::section;
pub(super) use shown::{DeadmanJson, shown};

/// How long a client may take to send a body.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// The row in which pauses are kept. No switch has this name: it cannot be written.
const PAUSES_ROW: &str = "\u{1}pauses";
/// Where a row keeps what the rules of beats remember.
const STATE: &str = "state";

/// The switches, between those who beat them and the owner, who judges them.
#[derive(Debug)]
pub struct Beats {
    board: Mutex<Switchboard>,
    latest: Mutex<BTreeMap<Arc<str>, Report>>,
    polled: Mutex<Polled>,
    /// Names of probes, which may be paused too.
    probes: Mutex<BTreeSet<Arc<str>>>,
    book: Book,
    meter: Meter,
    woken: Notify,
    /// Requests for pauses take turns: all pauses are one row of the book.
    pausing: tokio::sync::Mutex<()>,
}

/// What Alertmanagers said when they were last asked, by switch.
#[derive(Debug, Default)]
struct Polled {
    replicas: BTreeMap<Arc<str>, Vec<Replica>>,
    /// Not judged yet.
    fresh: BTreeSet<Arc<str>>,
}

impl Beats {
    pub fn new(board: Switchboard, book: Book, meter: Meter) -> Arc<Self> {
        let beats = Self {
            board: Mutex::new(board),
            latest: Mutex::default(),
            polled: Mutex::default(),
            probes: Mutex::default(),
            book,
            meter,
            woken: Notify::new(),
            pausing: tokio::sync::Mutex::default(),
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

    /// What a switch said when it was last judged.
    pub fn report(&self, name: &str) -> Option<Report> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.get(name).cloned()
    }

    fn polled(&self) -> MutexGuard<'_, Polled> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Alertmanagers of a watchdog were asked.
    pub fn show_replicas(&self, name: &str, replicas: Vec<Replica>) {
        let name: Arc<str> = name.into();
        let mut polled = self.polled();
        polled.fresh.insert(Arc::clone(&name));
        polled.replicas.insert(name, replicas);
        drop(polled);
        self.wake();
    }

    pub fn replicas(&self, name: &str) -> Vec<Replica> {
        self.polled().replicas.get(name).cloned().unwrap_or_default()
    }

    /// What an Alertmanager said that nobody asks any more is of no interest.
    pub fn keep_replicas_of(&self, specs: &[Arc<Spec>]) {
        let is_asked = |name: &str, url: &String| {
            let watchdogs = specs.iter().filter(|spec| spec.name == name);
            watchdogs.flat_map(|spec| &spec.watchdog).any(|rules| rules.alertmanagers.contains(url))
        };
        for (name, replicas) in &mut self.polled().replicas {
            replicas.retain(|replica| is_asked(name, &replica.url));
        }
    }

    /// What Alertmanagers said since this was last asked for.
    pub fn take_replicas(&self) -> Vec<(Arc<str>, Vec<Replica>)> {
        let mut polled = self.polled();
        let fresh = std::mem::take(&mut polled.fresh);
        let taken = fresh.into_iter().filter_map(|name| {
            let replicas = polled.replicas.get(&name)?.clone();
            Some((name, replicas))
        });
        taken.collect()
    }

    /// Waits until nobody else changes pauses; `None` when that takes too long.
    async fn turn(&self, wait: Duration) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        timeout(wait, self.pausing.lock()).await.ok()
    }

    /// These probes exist, and no others: pauses of those that are gone are forgotten.
    pub fn know_probes(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let names: BTreeSet<Arc<str>> = names.into_iter().collect();
        let changed = {
            let mut board = self.board();
            let switches: BTreeSet<String> = board.names().map(str::to_owned).collect();
            board.keep_pauses_of(|name| names.contains(name) || switches.contains(name))
        };
        *self.probes.lock().unwrap_or_else(PoisonError::into_inner) = names;
        if changed {
            let pauses = self.board().pauses().clone();
            // Not waited for: the next start forgets them again.
            drop(self.book.record(self.row_of_pauses(&pauses), None));
        }
    }

    /// Names of probes, for the pauses that they may have.
    pub fn probes(&self) -> Vec<Arc<str>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Switches that are gone: one of the same name that comes later begins anew.
    pub fn forget(&self, names: &[String]) {
        let mut polled = self.polled();
        polled.replicas.retain(|name, _| !names.iter().any(|gone| **gone == **name));
        drop(polled);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            latest.remove(name.as_str());
            // Not waited for: whoever starts with a configuration without it forgets it again.
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

    /// Writes down what a beat would make of a switch. On failure the book goes back to what the switch remembers.
    async fn keep(
        &self,
        name: &str,
        state: &DeadmanState,
        ping: Option<Ping>,
    ) -> Result<(), BookError> {
        let kept = self.book.record(self.row(name, state), ping).await;
        if kept.is_err()
            && let Some(state) = self.board().state(name)
        {
            drop(self.book.write(vec![Write::put(self.row(name, &state))]));
        }
        kept
    }

    /// The same for pauses.
    pub(crate) async fn keep_pauses(&self, pauses: &Pauses) -> Result<(), BookError> {
        let kept = self.book.record(self.row_of_pauses(pauses), None).await;
        if kept.is_err() {
            let pauses = self.board().pauses().clone();
            drop(self.book.record(self.row_of_pauses(&pauses), None));
        }
        kept
    }

    fn row_of_pauses(&self, pauses: &Pauses) -> Row {
        let mut row = Row::armed(PAUSES_ROW, "", self.book.now());
        let pauses = serde_json::to_value(pauses).expect("pauses are plain data");
        row.extra.insert(STATE.to_owned(), pauses);
        row
    }

    fn reports(&self) -> Vec<Report> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.values().cloned().collect()
    }
}

/// What the book kept of switches. A row that cannot be read is said and begins anew.
pub fn kept(book: &Book) -> crate::deadman::Kept {
    let mut kept = crate::deadman::Kept::default();
    book.each_beats(|row| {
        let Some(state) = row.extra.get(STATE) else { return };
        if row.name == PAUSES_ROW {
            kept.pauses = Pauses::deserialize(state).unwrap_or_else(|error| {
                tracing::error!(%error, "the pauses in the book cannot be read");
                Pauses::default()
            });
            return;
        }
        match DeadmanState::deserialize(state) {
            Ok(state) => {
                kept.states.insert(row.name.clone(), state);
            }
            Err(error) => {
                tracing::error!(deadman = row.name, %error, "its state in the book cannot be read: armed anew");
            }
        }
    });
    kept
}

/// The routes of beats, which may have a door of their own.
pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/ping/{*path}", any(doors::ping))
        .route("/alertmanager/{name}", any(doors::alertmanager))
}

/// The routes for people who ask about switches, and who pause switches and probes. Never on the door of beats.
pub(super) fn api() -> Router<Arc<Site>> {
    Router::new()
        .route("/api/v1/deadman", get(shown::list))
        .route("/api/v1/deadman/{name}/pause", post(pauses::pause_deadman))
        .route("/api/v1/deadman/{name}/resume", post(pauses::resume_deadman))
        .route("/api/v1/pauses", get(pauses::list))
        .route("/api/v1/pause", post(pauses::pause))
        .route("/api/v1/resume", post(pauses::resume))
}

fn not_recorded() -> Response {
    let later = [(header::RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, later, "this cannot be recorded now\n").into_response()
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

/// Does its work when it is dropped, also by a client that went away, unless it is called off.
struct Finally<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Finally<F> {
    const fn new(work: F) -> Self {
        Self(Some(work))
    }

    fn call_off(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Finally<F> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}
