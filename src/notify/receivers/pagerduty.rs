//! PagerDuty, Events API v2.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exchange::Outlet;
use super::{Delivery, Sent, is_end, route};
use crate::model::{Mistakes, Secret};
use crate::net::SecretSource;
use crate::notify::message::{Message, cut, cut_chars};

const DEFAULT_URL: &str = "https://events.pagerduty.com/v2/enqueue";
const MAX_SUMMARY_CHARS: usize = 1024;
/// The whole event may have 512 KiB; a page that long helps nobody.
const MAX_TEXT_BYTES: usize = 32 << 10;
const MAX_SOURCE_CHARS: usize = 255;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The integration key of a service, of type Events API v2.
    pub routing_key: Option<Secret>,
    pub routing_key_file: Option<String>,
    /// Another service region: `https://events.eu.pagerduty.com/v2/enqueue`.
    pub url: Option<String>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    key: SecretSource,
    url: String,
}

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        let key = SecretSource::require(
            "routing_key",
            spec.routing_key,
            spec.routing_key_file,
            mistakes,
        )?;
        Some(Self { key, url: spec.url.unwrap_or_else(|| DEFAULT_URL.into()) })
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        let key = match route(&self.key, delivery).await {
            Ok(key) => key,
            Err(error) => return error.into(),
        };
        let event = event(&key, delivery);
        let headers = reqwest::header::HeaderMap::new();
        match outlet.post(&self.url, headers, &event, delivery.now.wall).await {
            Ok(reply) if reply.status == 202 => Sent::Delivered { route: Some(key), partly: None },
            Ok(reply) => reply.failure(),
            Err(sent) => sent,
        }
    }
}

fn event(key: &Secret, delivery: &Delivery<'_>) -> Value {
    if is_end(delivery.message.kind) {
        return json!({
            "routing_key": key.reveal(),
            "event_action": "resolve",
            "dedup_key": delivery.key,
        });
    }
    let message = delivery.message;
    let mut event = json!({
        "routing_key": key.reveal(),
        "event_action": "trigger",
        "dedup_key": delivery.key,
        "client": format!("watchpost {}", message.watchpost),
        "links": links(message),
        "payload": {
            "summary": cut_chars(&message.headline(), MAX_SUMMARY_CHARS),
            "source": cut_chars(source(message), MAX_SOURCE_CHARS),
            "severity": message.severity().label(),
            "timestamp": message.opened.to_string(),
            "component": message.name,
            "class": message.subject,
            "custom_details": details(message),
        },
    });
    // What is not there is left out: these fields are text, and null is none.
    if let Some(url) = &message.url {
        event["client_url"] = url.as_str().into();
    }
    if let Some(group) = &message.group {
        event["payload"]["group"] = group.as_str().into();
    }
    event
}

fn source(message: &Message) -> &str {
    message.members.first().map_or(&message.name, |m| &m.name)
}

fn links(message: &Message) -> Vec<Value> {
    let runbook = message.runbook.iter().map(|href| json!({"href": href, "text": "Runbook"}));
    let page = message.url.iter().map(|href| json!({"href": href, "text": "watchpost"}));
    runbook.chain(page).collect()
}

fn details(message: &Message) -> Value {
    json!({
        "text": cut(&message.text(MAX_TEXT_BYTES), MAX_TEXT_BYTES),
        "in_trouble": message.in_trouble,
        "recovered": message.recovered,
        "flaps": message.flaps,
        "also_in_trouble": message.also,
        "watchpost": message.watchpost,
        "region": message.region,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::NoteKind;
    use crate::model::Stamp;
    use crate::notify::message::Identity;

    #[test]
    fn what_is_not_there_is_left_out() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let mut message = Message::test(NoteKind::Test, "r", &Identity::default(), at);
        let now = Stamp::new(at, std::time::Duration::ZERO);
        let key = Secret::new("k".into());
        let sent = |message: &Message| {
            event(&key, &Delivery { id: "n1", message, key: "d", route: None, now })
        };
        let without = sent(&message);
        assert!(without.get("client_url").is_none() && without["payload"].get("group").is_none());
        message.url = Some("https://w.example".into());
        message.group = Some("a:443".into());
        let with = sent(&message);
        assert_eq!(with["client_url"], "https://w.example");
        assert_eq!(with["payload"]["group"], "a:443");
    }
}
