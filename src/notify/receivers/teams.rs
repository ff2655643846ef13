//! Microsoft Teams: a workflow's URL (202) or an older incoming webhook (200 with the body `1`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::exchange::{Outlet, Reply};
use super::{Delivery, Sent};
use crate::model::{Mistakes, Secret};
use crate::net::SecretSource;
use crate::notify::message::{Message, Severity};

/// A card may have 28 KiB.
const MAX_TEXT_BYTES: usize = 16 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    url: SecretSource,
}

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        SecretSource::require("url", spec.url, spec.url_file, mistakes).map(|url| Self { url })
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        let url = match self.url.read().await {
            Ok(url) => url,
            Err(error) => return error.into(),
        };
        let headers = reqwest::header::HeaderMap::new();
        let card = card(delivery.message);
        match outlet.post(url.reveal(), headers, &card, delivery.now.wall).await {
            Ok(reply) => classify(&reply),
            Err(sent) => sent,
        }
    }
}

fn classify(reply: &Reply) -> Sent {
    match (reply.status, reply.body.trim()) {
        (202, _) | (200, "" | "1") => Sent::delivered(),
        // The older hooks put a limit that was hit into the body of a 200.
        (200, other) => Sent::retry(&format_args!("status 200 with {other:?}")),
        _ => reply.failure(),
    }
}

fn card(message: &Message) -> Value {
    let mut actions = Vec::new();
    for (title, url) in [("Runbook", &message.runbook), ("watchpost", &message.url)] {
        actions.extend(
            url.iter().map(|u| json!({"type": "Action.OpenUrl", "title": title, "url": u})),
        );
    }
    let lines = message.text(MAX_TEXT_BYTES);
    let lines = lines
        .lines()
        .map(|line| json!({"type": "TextBlock", "text": line, "wrap": true, "spacing": "None"}));
    let headline = json!({
        "type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true,
        "color": color(message), "text": message.headline(),
    });
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": std::iter::once(headline).chain(lines).collect::<Vec<_>>(),
                "actions": actions,
            },
        }],
    })
}

fn color(message: &Message) -> &'static str {
    if message.is_over() {
        return "Good";
    }
    match message.severity() {
        Severity::Critical | Severity::Error => "Attention",
        Severity::Warning => "Warning",
        Severity::Info => "Accent",
    }
}
