//! Services that keep a dead man's switch for us, as they behave: what they accept is not what they record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::json;

use super::http::{Fake, Received, Reply};

/// One switch at the service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Monitor {
    /// Beats that were recorded.
    pub(crate) beats: usize,
    /// Signals of failure that were recorded.
    pub(crate) failures: usize,
    pub(crate) last: Option<Timestamp>,
    pub(crate) paused: bool,
}

/// How the service misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mood {
    /// Takes beats and throws them away: a rate limit, a mode that ignores our method.
    pub(crate) forgets: bool,
}

#[derive(Debug, Default)]
struct State {
    monitors: BTreeMap<String, Monitor>,
    mood: Mood,
}

/// Cronitor, Healthchecks or Dead Man's Snitch.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) http: Fake,
    state: Arc<Mutex<State>>,
}

/// Cronitor's key for telemetry, and the one for reading.
pub(crate) const TELEMETRY_KEY: &str = "telemetry-key";
pub(crate) const API_KEY: &str = "api-key";

impl Service {
    async fn start(monitors: &[&str], answer: fn(&mut State, &Received) -> Reply) -> Self {
        let monitors = monitors.iter().map(|name| ((*name).to_owned(), Monitor::default()));
        let state = State { monitors: monitors.collect(), mood: Mood::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let http = Fake::start(move |request| answer(&mut shared.lock().unwrap(), request)).await;
        Self { http, state }
    }

    /// 200 to every beat, also with a wrong key, which records nothing; an unknown monitor is made on the fly.
    pub(crate) async fn cronitor(monitors: &[&str]) -> Self {
        Self::start(monitors, cronitor).await
    }

    /// The hosted service: 200 also to what it does not know, or throws away.
    pub(crate) async fn healthchecks(checks: &[&str]) -> Self {
        Self::start(checks, healthchecks).await
    }

    pub(crate) async fn snitch(tokens: &[&str]) -> Self {
        Self::start(tokens, snitch).await
    }

    pub(crate) fn monitor(&self, name: &str) -> Monitor {
        self.state.lock().unwrap().monitors.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn beats(&self, name: &str) -> usize {
        self.monitor(name).beats
    }

    pub(crate) fn set_paused(&self, name: &str, paused: bool) {
        self.state.lock().unwrap().monitors.get_mut(name).unwrap().paused = paused;
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }
}

impl State {
    fn record(&mut self, name: &str, is_failure: bool) {
        let Some(monitor) = self.monitors.get_mut(name) else { return };
        if self.mood.forgets {
            return;
        }
        if is_failure {
            monitor.failures += 1;
        } else {
            monitor.beats += 1;
        }
        monitor.last = Some(Timestamp::now());
    }
}

fn basic_key(request: &Received) -> Option<String> {
    let header = request.headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = base64::engine::general_purpose::STANDARD.decode(header).ok()?;
    Some(String::from_utf8(pair).ok()?.split(':').next()?.to_owned())
}

fn cronitor(state: &mut State, request: &Received) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match steps.as_slice() {
        ["p", key, monitor] => {
            if *key == TELEMETRY_KEY {
                state.monitors.entry((*monitor).to_owned()).or_default();
                state.record(monitor, query.contains("state=fail"));
            }
            Reply::text(200, "OK")
        }
        ["api", "monitors", _] if basic_key(request).as_deref() != Some(API_KEY) => {
            Reply::text(403, "{}")
        }
        ["api", "monitors", name] => {
            let Some(monitor) = state.monitors.get(*name) else { return Reply::text(404, "{}") };
            let seconds = monitor.last.map(|at| at.as_duration().as_secs_f64());
            let event = seconds.map(|stamp| json!({ "stamp": stamp, "event": "tick" }));
            let page = json!({
                "key": name, "type": "heartbeat", "passing": true, "paused": monitor.paused,
                "disabled": false, "latest_event": event,
            });
            Reply::Text(200, page.to_string())
        }
        _ => Reply::text(404, "not found"),
    }
}

fn healthchecks(state: &mut State, request: &Received) -> Reply {
    let steps: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match steps.as_slice() {
        ["api", "v3", "checks", _]
            if request.headers.get("x-api-key").is_none_or(|key| key != API_KEY) =>
        {
            Reply::text(401, "{\"error\": \"wrong api key\"}")
        }
        ["api", "v3", "checks", name] => {
            let Some(monitor) = state.monitors.get(*name) else { return Reply::text(404, "{}") };
            let status = if monitor.paused { "paused" } else { "up" };
            let last = monitor.last.map(|at| at.to_string().replace('Z', "+00:00"));
            let page = json!({ "name": name, "status": status, "n_pings": monitor.beats, "last_ping": last });
            Reply::Text(200, page.to_string())
        }
        [check] | [check, "fail"] => {
            if !state.monitors.contains_key(*check) {
                return Reply::text(200, "OK (not found)");
            }
            state.record(check, steps.len() == 2);
            Reply::text(200, "OK")
        }
        _ => Reply::text(400, "invalid url format"),
    }
}

fn snitch(state: &mut State, request: &Received) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match steps.as_slice() {
        ["v1", "snitches", _] if basic_key(request).as_deref() != Some(API_KEY) => {
            Reply::text(401, "{\"type\": \"api_key_invalid\"}")
        }
        ["v1", "snitches", token] => {
            let Some(monitor) = state.monitors.get(*token) else { return Reply::text(404, "{}") };
            let status = if monitor.paused { "paused" } else { "healthy" };
            let last = monitor.last.map(|at| at.to_string());
            let page = json!({ "token": token, "status": status, "checked_in_at": last });
            Reply::Text(200, page.to_string())
        }
        [token] if state.monitors.contains_key(*token) => {
            let is_failure = query.split('&').any(|pair| pair == "s=1");
            state.record(token, is_failure);
            Reply::text(202, "Got it, thanks!")
        }
        _ => Reply::text(404, "not found"),
    }
}
