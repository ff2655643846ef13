//! The HTTP doors: page, metrics, API, health, reload.
//!
//! A handler reads snapshots and never waits for a probe. What a handler cannot do itself (a reload) it asks the
//! application for, over a channel. What is served is decided here; what it says is derived from the board.

mod access;
mod api;
mod beats;
mod door;
mod escape;
mod health;
mod heartbeats;
mod leftover;
mod listen;
mod logs;
mod metrics;
mod notices;
mod page;
mod peer;
mod probe;
mod serve;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use prometheus::{Gauge, Histogram, HistogramVec, IntCounterVec, Registry};
use tokio::sync::{mpsc, oneshot, watch};

pub use access::{Access, LoadWebConfig, WebSpec};
pub use beats::{Beats, kept};
pub use door::{Door, Prefix};
pub use listen::{Listeners, LookUp, bind};
pub use probe::ProbeOptions;
pub use serve::serve;

use crate::board::Board;
use crate::book::Book;
use crate::clock;
use crate::deadman::Key;
use crate::heartbeat::View;
use crate::model::{Network, Secret, family};
use crate::probe::OnDemand;
use probe::Probing;

/// Buckets, in seconds, for rendering an answer.
const RENDER_BUCKETS: [f64; 7] = [0.001, 0.005, 0.02, 0.1, 0.25, 1.0, 5.0];

/// A reload that somebody asked for, and where to say how it went.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What the page says about the process as a whole; replaced by a reload.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub id: String,
    pub region: Option<String>,
    /// The configuration as written, secrets masked.
    pub config: String,
    /// Whether any probe has targets that are not this process itself.
    pub has_targets: bool,
    /// Whether a heartbeat tells somebody when this machine dies.
    pub has_heartbeat: bool,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<Network>,
    /// What whoever pauses must present.
    pub api_key_file: Option<PathBuf>,
}

/// What all handlers share.
#[derive(Debug)]
pub struct Site {
    board: Arc<Board>,
    registry: Registry,
    about: ArcSwap<About>,
    ready: AtomicBool,
    reload: mpsc::Sender<ReloadRequest>,
    /// Once it is open.
    book: ArcSwapOption<Book>,
    /// Once the book is open, where there are switches to keep.
    beats: ArcSwapOption<Beats>,
    /// What is known of each heartbeat.
    heartbeats: ArcSwap<Vec<watch::Receiver<View>>>,
    /// Boot time of the last request for `/metrics` by somebody else, in milliseconds; 0 for never.
    scraped: AtomicU64,
    started: crate::model::Stamp,
    scrapes: IntCounterVec,
    rendering: HistogramVec,
    /// The length of the last page of `/metrics`: the next will hardly be longer.
    page_bytes: AtomicUsize,
    /// Our clock as Prometheus sees it, set anew by each scrape.
    clock: Gauge,
    probing: Probing,
}

impl Site {
    pub fn new(
        board: Arc<Board>,
        registry: Registry,
        about: About,
        reload: mpsc::Sender<ReloadRequest>,
        on_demand: Arc<OnDemand>,
        options: ProbeOptions,
    ) -> Arc<Self> {
        let probing = Probing::new(on_demand, options, &registry);
        let scrapes = family::SCRAPES.counters(&registry);
        let rendering = family::SCRAPE_DURATION.histograms(&registry, &RENDER_BUCKETS);
        let clock = family::CLOCK.gauges(&registry).with_label_values(&[&about.id]);
        scrapes.with_label_values(&["/metrics"]);
        rendering.with_label_values(&["/metrics"]);
        Arc::new(Self {
            board,
            registry,
            about: ArcSwap::from_pointee(about),
            ready: AtomicBool::new(false),
            reload,
            book: ArcSwapOption::empty(),
            beats: ArcSwapOption::empty(),
            heartbeats: ArcSwap::default(),
            scraped: AtomicU64::new(0),
            started: clock::now(),
            scrapes,
            rendering,
            page_bytes: AtomicUsize::new(0),
            clock,
            probing,
        })
    }

    /// A reload has been taken over.
    pub fn replace_about(&self, about: About) {
        self.about.store(Arc::new(about));
    }

    /// The book is open: notifications are shown from now on.
    pub fn open_book(&self, book: Book) {
        self.book.store(Some(Arc::new(book)));
    }

    /// Beats are taken from now on.
    pub fn open_beats(&self, beats: Arc<Beats>) {
        self.beats.store(Some(beats));
    }

    /// These are shown from now on.
    pub fn show_heartbeats(&self, heartbeats: Vec<watch::Receiver<View>>) {
        self.heartbeats.store(Arc::new(heartbeats));
    }

    fn heartbeats(&self) -> Vec<View> {
        self.heartbeats.load().iter().map(|seen| seen.borrow().clone()).collect()
    }

    /// Who sent a request, as far as can be trusted.
    fn sender(&self, peer: Option<Extension<peer::Peer>>, headers: &HeaderMap) -> Option<IpAddr> {
        let Extension(peer::Peer(ip)) = peer?;
        Some(peer::sender(ip, headers, &self.about.load().trusted_proxies))
    }

    /// Whether what was presented lets its bearer change something. Without a key everybody whom the door lets in may; a
    /// key that cannot be read lets nobody.
    async fn opens_api(&self, presented: Option<Vec<u8>>) -> bool {
        let Some(path) = self.about.load().api_key_file.clone() else { return true };
        let Some(presented) = presented else { return false };
        match tokio::fs::read_to_string(&path).await {
            Ok(text) if !text.trim().is_empty() => {
                Key::new(&Secret::new(text.trim().to_owned())).matches(&presented)
            }
            Ok(_) => {
                tracing::error!(path = %path.display(), "the key of the API is empty");
                false
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the key of the API cannot be read");
                false
            }
        }
    }

    fn beats(&self) -> Option<Arc<Beats>> {
        self.beats.load_full()
    }

    fn book(&self) -> Option<Arc<Book>> {
        self.book.load_full()
    }

    /// `/-/ready` says so from now on.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn rendering(&self, path: &str) -> Histogram {
        self.rendering.with_label_values(&[path])
    }
}

/// Every route.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(page::show))
        .route("/metrics", get(metrics::show))
        .route("/probe", any(probe::run))
        .route("/logs", any(logs::show))
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .route("/-/reload", any(health::reload))
        .route("/config", get(health::config))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/changes", get(api::changes))
        .route("/api/v1/notifications", get(notices::show))
        .merge(beats::api())
        .merge(beats::routes())
        .with_state(site)
}

/// The parameters of what takes none: who asks for a part is not to take all of it for that.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFilter {}

/// What is said when a request cannot be served: one line that no browser takes for anything else.
fn plain_error(status: StatusCode, text: &str) -> Response {
    let kind = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, kind, format!("{text}\n")).into_response()
}

/// The routes of beats alone, for a door that may be exposed without the rest.
pub fn beats_router(site: Arc<Site>) -> Router {
    beats::routes().with_state(site)
}
