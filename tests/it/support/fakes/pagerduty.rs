//! PagerDuty's Events API v2: keys, dedup keys, incidents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::net::TcpListener;

use super::http::{Fake, Received, Reply};

#[derive(Clone)]
pub(crate) struct PagerDuty {
    pub(crate) http: Fake,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    keys: BTreeSet<String>,
    /// Open incidents by routing key and dedup key, with the number of triggers merged into each.
    open: BTreeMap<(String, String), u32>,
    /// Incidents opened and resolved, in order.
    history: Vec<Incident>,
    /// Answers 202 and loses the event.
    drops: bool,
}

/// Something that a person would see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incident {
    Opened { routing_key: String, key: String, summary: String },
    Resolved { routing_key: String, key: String },
}

impl PagerDuty {
    pub(crate) async fn start(keys: &[&str]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), keys)
    }

    /// At a socket that is there already.
    pub(crate) fn on(listener: TcpListener, keys: &[&str]) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        state.lock().unwrap().keys = keys.iter().map(|k| (*k).to_owned()).collect();
        let shared = Arc::clone(&state);
        let http = Fake::on(listener, move |request| shared.lock().unwrap().take(request));
        Self { http, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/v2/enqueue", self.http.url)
    }

    pub(crate) fn set_keys(&self, keys: &[&str]) {
        self.state.lock().unwrap().keys = keys.iter().map(|k| (*k).to_owned()).collect();
    }

    pub(crate) fn set_drops(&self, drops: bool) {
        self.state.lock().unwrap().drops = drops;
    }

    pub(crate) fn open(&self) -> usize {
        self.state.lock().unwrap().open.len()
    }

    pub(crate) fn history(&self) -> Vec<Incident> {
        self.state.lock().unwrap().history.clone()
    }

    pub(crate) fn opened(&self) -> usize {
        self.history().iter().filter(|i| matches!(i, Incident::Opened { .. })).count()
    }

    pub(crate) fn resolved(&self) -> usize {
        self.history().iter().filter(|i| matches!(i, Incident::Resolved { .. })).count()
    }
}

impl State {
    fn take(&mut self, request: &Received) -> Reply {
        let invalid = |why: &str| {
            let body = json!({"status": "invalid event", "message": "Event object is invalid", "errors": [why]});
            Reply::Text(400, body.to_string())
        };
        if request.path != "/v2/enqueue" {
            return Reply::text(404, "not found");
        }
        let Ok(event) = serde_json::from_slice::<serde_json::Value>(&request.body) else {
            return invalid("not JSON");
        };
        let text =
            |pointer: &str| event.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default();
        let routing_key = text("/routing_key").to_owned();
        let key = text("/dedup_key").to_owned();
        if !self.keys.contains(&routing_key) {
            return invalid("'routing_key' is invalid");
        }
        if key.is_empty() || key.len() > 255 {
            return invalid("'dedup_key' is invalid");
        }
        let slot = (routing_key.clone(), key.clone());
        match text("/event_action") {
            "trigger" => {
                let summary = text("/payload/summary");
                let severity = text("/payload/severity");
                let is_complete = !text("/payload/source").is_empty()
                    && (1..=1024).contains(&summary.chars().count())
                    && ["critical", "error", "warning", "info"].contains(&severity);
                if !is_complete {
                    return invalid("'payload' is incomplete");
                }
                if !self.drops {
                    let merged = self.open.entry(slot).or_default();
                    *merged += 1;
                    if *merged == 1 {
                        let summary = summary.to_owned();
                        self.history.push(Incident::Opened {
                            routing_key,
                            key: key.clone(),
                            summary,
                        });
                    }
                }
            }
            // Without an open incident it is dropped, and still accepted.
            "resolve" if !self.drops => {
                if self.open.remove(&slot).is_some() {
                    self.history.push(Incident::Resolved { routing_key, key: key.clone() });
                }
            }
            "resolve" => {}
            _ => return invalid("'event_action' is invalid"),
        }
        let body = json!({"status": "success", "message": "Event processed", "dedup_key": key});
        Reply::Text(202, body.to_string())
    }
}
