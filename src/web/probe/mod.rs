//! `/probe`: one run now, answered as blackbox_exporter answers it.
//!
//! It leaves the board alone. How many runs go on at once is bounded; who comes too many is told to come again. A run
//! ends when whoever asked for it goes away.

mod debug;
mod durations;
mod history;
mod request;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};
use tokio::sync::{Semaphore, SemaphorePermit};

pub(super) use debug::page;
pub(super) use history::{Entry, History};
pub(super) use request::{first, masked};

use self::durations::Durations;
use self::history::Asked;
use self::request::Parameters;
use super::{Site, metrics, plain_error};
use crate::clock;
use crate::metrics::exposition::{Encoding, Writer};
use crate::metrics::render_outcome;
use crate::model::{Answer, Outcome, Overrides, Target, family};
use crate::probe::{Listed, MAX_OVERRIDES, Module, OnDemand};

const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
/// Seconds after which somebody who was refused may come again.
const RETRY_AFTER: &str = "1";

/// How `/probe` is to behave.
#[derive(Debug, Clone, Copy)]
pub struct ProbeOptions {
    /// Seconds that are kept from the scraper's timeout for the way back.
    pub timeout_offset: f64,
    pub history_limit: usize,
    pub max_in_flight: usize,
    /// Whether notes of a run are shown, or only how it failed.
    pub notes: bool,
    /// Whether durations are counted by module.
    pub histogram: bool,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            timeout_offset: 0.5,
            history_limit: 100,
            max_in_flight: 2000,
            notes: true,
            histogram: false,
        }
    }
}

/// What requests for `/probe` share.
#[derive(Debug)]
pub(super) struct Probing {
    on_demand: Arc<OnDemand>,
    options: ProbeOptions,
    free: Semaphore,
    pub(super) history: History,
    module_unknown: IntCounter,
    in_flight: IntGauge,
    refused: IntCounterVec,
    durations: Option<Durations>,
}

impl Probing {
    pub(super) fn new(
        on_demand: Arc<OnDemand>,
        options: ProbeOptions,
        registry: &Registry,
    ) -> Self {
        let limit = options.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let shown = i64::try_from(limit).unwrap_or(i64::MAX);
        family::PROBE_REQUESTS_LIMIT.int_gauge(registry).set(shown);
        let refused = family::PROBE_REQUESTS_REFUSED.counters(registry);
        for cause in ["in_flight", "not_allowed"] {
            refused.with_label_values(&[cause]);
        }
        Self {
            on_demand,
            options,
            free: Semaphore::new(limit),
            history: History::new(options.history_limit),
            module_unknown: family::BLACKBOX_MODULE_UNKNOWN.counter(registry),
            in_flight: family::PROBE_REQUESTS.int_gauge(registry),
            refused,
            durations: options.histogram.then(|| Durations::new(registry)),
        }
    }

    pub(super) const fn shows_notes(&self) -> bool {
        self.options.notes
    }

    /// Room for one more run.
    fn begin(&self) -> Option<Running<'_>> {
        let permit = self.free.try_acquire().ok()?;
        self.in_flight.inc();
        Some(Running { in_flight: &self.in_flight, _permit: permit })
    }

    /// Drops what is counted for modules that a reload took away.
    pub(super) fn forget_removed(&self) {
        if let Some(durations) = &self.durations {
            durations.keep(|module| self.on_demand.lists(module));
        }
    }

    fn record(&self, asked: &Asked, outcome: &Outcome) {
        let took = outcome.took.as_secs_f64();
        if let Some(durations) = &self.durations {
            durations.observe(&asked.module, took);
        }
        let Some(reason) = outcome.answer.reason() else { return };
        if !outcome.answer.is_success() {
            tracing::warn!(
                target: "prober",
                module = &*asked.module,
                target = &*asked.target,
                reason,
                detail = outcome.answer.to_string(),
                duration_seconds = took,
                "probe failed"
            );
        }
    }
}

/// A run that goes on; dropping it makes room.
struct Running<'a> {
    in_flight: &'a IntGauge,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

pub(super) async fn run(State(site): State<Arc<Site>>, uri: Uri, headers: HeaderMap) -> Response {
    let asked = Parameters::of(uri.query().unwrap_or_default());
    let debug = asked.debug;
    let order = match Order::read(asked, &headers, &site.probing) {
        Ok(order) => order,
        Err(refusal) => return refusal.into_response(),
    };
    let probing = &site.probing;
    let Some(running) = probing.begin() else {
        probing.refused.with_label_values(&["in_flight"]).inc();
        let text = format!("{} probes are in flight already", probing.options.max_in_flight);
        let mut response = plain_error(StatusCode::SERVICE_UNAVAILABLE, &text);
        let value = header::HeaderValue::from_static(RETRY_AFTER);
        response.headers_mut().insert(header::RETRY_AFTER, value);
        return response;
    };
    let (outcome, trace) =
        Box::pin(probing.on_demand.run(&order.module, &order.target, order.budget, clock::now()))
            .await;
    drop(running);
    for (at, note) in trace.notes() {
        tracing::debug!(
            target: "prober",
            module = &*order.asked.module,
            target = &*order.asked.target,
            at_seconds = at.as_secs_f64(),
            note
        );
    }
    probing.record(&order.asked, &outcome);
    let entry = probing.history.add(order.asked, outcome, trace);
    if debug {
        return plain(page(&entry, probing.options.notes));
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut writer = Writer::new(Encoding::negotiate(accept));
    render_outcome(&entry.outcome, entry.asked.phases, &mut writer);
    metrics::respond(&headers, writer.encoding(), writer.finish())
}

pub(super) fn plain(text: String) -> Response {
    let kind = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (kind, text).into_response()
}

/// A request that can be run.
struct Order {
    module: Arc<Module>,
    target: Target,
    budget: Duration,
    asked: Asked,
}

/// A request that cannot be run, and what is said about it.
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    fn into_response(self) -> Response {
        plain_error(self.0, &self.1)
    }
}

impl Order {
    /// The order of the checks is blackbox_exporter's.
    fn read(asked: Parameters, headers: &HeaderMap, probing: &Probing) -> Result<Self, Refusal> {
        let Some(Listed { module, shown }) = probing.on_demand.find(&asked.module) else {
            probing.module_unknown.inc();
            return Err(Refusal::bad(format!("Unknown module {:?}", asked.module)));
        };
        let granted = granted(headers)?;
        if asked.target.is_empty() {
            return Err(Refusal::bad("Target parameter is missing"));
        }
        let Some(module) = module else {
            return Err(Refusal::bad("Unknown prober \"\""));
        };
        let overrides = overrides(asked.overrides)?;
        let module = probing.on_demand.variant(&module, &overrides).map_err(|why| {
            probing.refused.with_label_values(&["not_allowed"]).inc();
            Refusal::bad(why.to_string())
        })?;
        let prober = module.prober.kind();
        let hostname = hostname(&module, asked.hostname)?;
        let address = request::target(prober, asked.target);
        if let Some(why) = probing.on_demand.refusal(&module, &address) {
            probing.refused.with_label_values(&["not_allowed"]).inc();
            return Err(Refusal(StatusCode::FORBIDDEN, why));
        }
        let budget = timeout::budget(granted, module.timeout, probing.options.timeout_offset);
        let asked = Asked {
            module: Arc::clone(&module.name),
            prober,
            phases: module.phases_family(),
            target: masked(&address).into(),
            hostname: hostname.as_deref().map(Into::into),
            overrides,
            shown,
        };
        let target = Target { hostname, ..Target::plain(address) };
        Ok(Self { module, target, budget, asked })
    }
}

/// Each key once: of two values nobody could say which is meant.
fn overrides(given: Vec<(String, String)>) -> Result<Overrides, Refusal> {
    if given.len() > MAX_OVERRIDES {
        return Err(Refusal::bad(format!("more than {MAX_OVERRIDES} overrides")));
    }
    let mut overrides = Overrides::new();
    for (key, value) in given {
        if overrides.insert(key.clone(), value).is_some() {
            return Err(Refusal::bad(format!("{key:?} is overridden twice")));
        }
    }
    Ok(overrides)
}

/// Seconds that the scraper grants; 0 when it does not say.
fn granted(headers: &HeaderMap) -> Result<f64, Refusal> {
    let Some(value) = headers.get(TIMEOUT_HEADER).filter(|value| !value.is_empty()) else {
        return Ok(0.0);
    };
    let read = value.to_str().ok().and_then(|text| timeout::parse_float(text.trim()));
    read.ok_or_else(|| {
        let text = format!("X-Prometheus-Scrape-Timeout-Seconds is not a number: {value:?}");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}

/// The name to present. Probers that upstream gives none take none.
fn hostname(module: &Module, given: String) -> Result<Option<String>, Refusal> {
    if given.is_empty() {
        return Ok(None);
    }
    match module.configured_host() {
        Some(host) if host != given => Err(Refusal::bad(format!(
            "Host header {host:?} of module {:?} conflicts with the parameter hostname={given:?}",
            module.name
        ))),
        _ => {
            let takes = matches!(module.prober.kind(), "http" | "exporter" | "tcp" | "tls");
            Ok(takes.then_some(given))
        }
    }
}

/// Whether a run of the history did not pass.
pub(super) fn is_failure(entry: &Entry) -> bool {
    !matches!(entry.outcome.answer, Answer::Pass | Answer::Warn(_))
}
