//! Any URL that takes JSON: our own form, or that of Alertmanager's webhook so that its receivers can be used.

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use super::exchange::{Outlet, secret_header};
use super::{Delivery, Sent};
use crate::model::{Mistakes, Secret};
use crate::net::SecretSource;
use crate::notify::message::Message;

const MAX_TEXT_BYTES: usize = 64 << 10;
/// The notification's id, the same in every attempt: whoever takes it twice may drop the second.
const ID_HEADER: &str = "watchpost-id";
/// Unix seconds, part of what is signed, so that an old request cannot be replayed for ever.
const TIME_HEADER: &str = "watchpost-timestamp";
/// `v1=` and HMAC-SHA256, in hexadecimal digits, of `TIMESTAMP.BODY`.
const SIGNATURE_HEADER: &str = "watchpost-signature";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    /// Signs every request.
    pub secret: Option<Secret>,
    pub secret_file: Option<String>,
    /// Sent as `Authorization: Bearer …`.
    pub bearer_token: Option<Secret>,
    pub bearer_token_file: Option<String>,
    #[serde(default)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Watchpost,
    /// Alertmanager's webhook, version 4.
    Alertmanager,
}

#[derive(Debug)]
pub(super) struct Receiver {
    url: SecretSource,
    secret: Option<SecretSource>,
    bearer: Option<SecretSource>,
    format: Format,
}

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        let secret = SecretSource::pick("secret", spec.secret, spec.secret_file, mistakes);
        let bearer =
            SecretSource::pick("bearer_token", spec.bearer_token, spec.bearer_token_file, mistakes);
        let url = SecretSource::require("url", spec.url, spec.url_file, mistakes)?;
        Some(Self { url, secret, bearer, format: spec.format })
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        match self.try_send(outlet, delivery).await {
            Ok(sent) | Err(sent) => sent,
        }
    }

    async fn try_send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Result<Sent, Sent> {
        let url = self.url.read().await?;
        let body = match self.format {
            Format::Watchpost => own_form(delivery),
            Format::Alertmanager => alertmanager_form(delivery),
        };
        let body = serde_json::to_vec(&body).expect("a JSON value is written as JSON");
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(ID_HEADER), secret_header(delivery.id)?);
        let seconds = delivery.now.wall.as_second();
        headers.insert(HeaderName::from_static(TIME_HEADER), HeaderValue::from(seconds));
        if let Some(secret) = &self.secret {
            let signature = signature(&secret.read().await?, seconds, &body);
            headers.insert(HeaderName::from_static(SIGNATURE_HEADER), secret_header(&signature)?);
        }
        if let Some(bearer) = &self.bearer {
            let value = format!("Bearer {}", bearer.read().await?.reveal());
            headers.insert(reqwest::header::AUTHORIZATION, secret_header(&value)?);
        }
        let reply = outlet.post_bytes(url.reveal(), headers, body, delivery.now.wall).await?;
        Ok(if (200..300).contains(&reply.status) { Sent::delivered() } else { reply.failure() })
    }
}

fn signature(secret: &Secret, seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    digest.iter().fold(String::from("v1="), |text, byte| format!("{text}{byte:02x}"))
}

const fn state(message: &Message) -> &'static str {
    if message.is_over() { "resolved" } else { "firing" }
}

fn own_form(delivery: &Delivery<'_>) -> Value {
    let message = delivery.message;
    json!({
        "version": 1,
        "id": delivery.id,
        "kind": message.kind.label(),
        "state": state(message),
        "test": message.kind.is_test(),
        "dedup_key": delivery.key,
        "severity": message.severity().label(),
        "headline": message.headline(),
        "text": message.text(MAX_TEXT_BYTES),
        "message": message,
    })
}

fn alertmanager_form(delivery: &Delivery<'_>) -> Value {
    let message = delivery.message;
    let group = json!({"alertname": "WatchpostNotification", "job": message.name});
    let annotations = json!({
        "summary": message.headline(),
        "description": message.text(MAX_TEXT_BYTES),
        "runbook_url": message.runbook,
    });
    let ends =
        if message.is_over() { message.at.to_string() } else { "0001-01-01T00:00:00Z".into() };
    let alert = |instance: &str, status: &str, starts: String| {
        json!({
            "status": state(message),
            "labels": {
                "alertname": "WatchpostNotification",
                "job": message.name,
                "instance": instance,
                "kind": message.subject,
                "status": status,
                "severity": message.severity().label(),
                "watchpost": message.watchpost,
            },
            "annotations": annotations,
            "startsAt": starts,
            "endsAt": ends,
            "generatorURL": message.url.as_deref().unwrap_or_default(),
            "fingerprint": delivery.key,
        })
    };
    let mut alerts: Vec<_> =
        message.members.iter().map(|m| alert(&m.name, &m.status, m.since.to_string())).collect();
    if alerts.is_empty() {
        alerts.push(alert(&message.name, &message.status, message.opened.to_string()));
    }
    let total = if message.is_over() { message.recovered } else { message.in_trouble };
    json!({
        "version": "4",
        "groupKey": delivery.key,
        "truncatedAlerts": total.saturating_sub(message.members.len()),
        "status": state(message),
        "receiver": "watchpost",
        "groupLabels": group,
        "commonLabels": group,
        "commonAnnotations": annotations,
        "externalURL": message.url.as_deref().unwrap_or_default(),
        "alerts": alerts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_reproducible() {
        // echo -n '1700000000.{}' | openssl dgst -sha256 -hmac hunter2
        let text = signature(&Secret::new("hunter2".into()), 1_700_000_000, b"{}");
        assert_eq!(text.len(), 3 + 64);
        assert_ne!(text, signature(&Secret::new("hunter2".into()), 1_700_000_001, b"{}"));
        assert_ne!(text, signature(&Secret::new("hunter3".into()), 1_700_000_000, b"{}"));
    }
}
