//! Opsgenie alerts, and their successor in Jira Service Management, which has the same shape under another URL.

use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};

use super::exchange::{Outlet, secret_header};
use super::{Delivery, Sent, is_end, route};
use crate::model::{Mistakes, Secret};
use crate::net::SecretSource;
use crate::notify::message::{Message, Severity, cut_chars};

const DEFAULT_URL: &str = "https://api.opsgenie.com";
const MAX_MESSAGE_CHARS: usize = 130;
const MAX_DESCRIPTION_BYTES: usize = 15_000;
const MAX_TAG_CHARS: usize = 50;
const MAX_ENTITY_CHARS: usize = 512;
const MAX_SOURCE_CHARS: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub api_key: Option<Secret>,
    pub api_key_file: Option<String>,
    /// `https://api.eu.opsgenie.com`, or `https://api.atlassian.com/jsm/ops/integration` for Jira Service Management.
    pub api_url: Option<String>,
    /// Teams that are responsible, by name.
    #[serde(default)]
    pub teams: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    key: SecretSource,
    url: String,
    teams: Vec<String>,
    tags: Vec<String>,
}

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        let key = SecretSource::require("api_key", spec.api_key, spec.api_key_file, mistakes)?;
        let url = spec.api_url.unwrap_or_else(|| DEFAULT_URL.into());
        let url = url.trim_end_matches('/').to_owned();
        Some(Self { key, url, teams: spec.teams, tags: spec.tags })
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        let key = match route(&self.key, delivery).await {
            Ok(key) => key,
            Err(error) => return error.into(),
        };
        let mut headers = HeaderMap::new();
        match secret_header(&format!("GenieKey {}", key.reveal())) {
            Ok(value) => drop(headers.insert(AUTHORIZATION, value)),
            Err(sent) => return sent,
        }
        let (url, body) = self.request(delivery);
        match outlet.post(&url, headers, &body, delivery.now.wall).await {
            Ok(reply) if reply.status == 202 => Sent::Delivered { route: Some(key), partly: None },
            Ok(reply) => reply.failure(),
            Err(sent) => sent,
        }
    }

    fn request(&self, delivery: &Delivery<'_>) -> (String, Value) {
        let message = delivery.message;
        let source = cut_chars(&format!("watchpost {}", message.watchpost), MAX_SOURCE_CHARS);
        if is_end(message.kind) {
            // The alias is ours, and needs no escaping: letters, digits and dashes.
            let url = format!("{}/v2/alerts/{}/close?identifierType=alias", self.url, delivery.key);
            return (url, json!({"source": source, "note": message.headline()}));
        }
        let responders: Vec<_> =
            self.teams.iter().map(|name| json!({"type": "team", "name": name})).collect();
        let tags: Vec<_> = self.tags.iter().map(|t| cut_chars(t, MAX_TAG_CHARS)).collect();
        let body = json!({
            "message": cut_chars(&message.headline(), MAX_MESSAGE_CHARS),
            "alias": delivery.key,
            "description": message.text(MAX_DESCRIPTION_BYTES),
            "responders": responders,
            "tags": tags,
            "entity": cut_chars(&message.name, MAX_ENTITY_CHARS),
            "source": source,
            "priority": priority(message),
            "details": details(message),
        });
        (format!("{}/v2/alerts", self.url), body)
    }
}

fn priority(message: &Message) -> &'static str {
    match message.severity() {
        Severity::Critical => "P1",
        Severity::Error => "P2",
        Severity::Warning => "P3",
        Severity::Info => "P5",
    }
}

/// Opsgenie takes text values only.
fn details(message: &Message) -> Value {
    let mut details = serde_json::Map::new();
    details.insert("in_trouble".into(), message.in_trouble.to_string().into());
    details.insert("flaps".into(), message.flaps.to_string().into());
    for (name, value) in [("runbook", &message.runbook), ("status_page", &message.url)] {
        if let Some(value) = value {
            details.insert(name.into(), value.clone().into());
        }
    }
    details.into()
}
