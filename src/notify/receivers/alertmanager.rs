//! Alertmanager, API v2: to every replica, told again each minute, since a replica keeps nothing through a restart and
//! shares no alerts with the others.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exchange::Outlet;
use super::{Delivery, Sent};
use crate::model::{Labels, Mistakes, Stamp, shown_url};
use crate::notify::episode::Rule;
use crate::notify::message::Message;

/// How often an alert is sent again.
const RESEND: Duration = Duration::from_secs(60);
/// How long an alert lives that is not sent again.
const ENDS_AFTER: Duration = Duration::from_secs(5 * 60);
/// How long the resolved form is sent again.
const RESOLVED_FOR: Duration = Duration::from_secs(15 * 60);
const MAX_TEXT_BYTES: usize = 16 << 10;
/// How many replicas a receiver may name.
const MAX_REPLICAS: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Base URLs of every replica, never of a load balancer.
    pub urls: Vec<String>,
    /// Labels on every alert, for routing.
    #[serde(default)]
    pub labels: Labels,
}

#[derive(Debug)]
pub(super) struct Receiver {
    urls: Vec<String>,
    labels: Labels,
}

pub(super) fn rule() -> Rule {
    Rule {
        repeat: RESEND,
        update_after: Duration::ZERO,
        resolved_for: Some(RESOLVED_FOR),
        ..Rule::default()
    }
}

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        if spec.urls.is_empty() || spec.urls.len() > MAX_REPLICAS {
            let what = format!("{} Alertmanagers", spec.urls.len());
            mistakes.error("urls", what, format!("name every replica, 1 to {MAX_REPLICAS}"));
            return None;
        }
        for (index, url) in spec.urls.iter().enumerate() {
            if url::Url::parse(url).is_err() {
                let hint = "write http://host:9093";
                mistakes.error(
                    &format!("urls.{index}"),
                    format!("{:?} is not a URL", shown_url(url)),
                    hint,
                );
            }
        }
        let urls = spec.urls.iter();
        let urls = urls.map(|url| format!("{}/api/v2/alerts", url.trim_end_matches('/'))).collect();
        Some(Self { urls, labels: spec.labels })
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        let alerts = json!([self.alert(delivery)]);
        let posts = self.urls.iter().map(|url| post(outlet, url, &alerts, delivery.now));
        let failures: Vec<_> = join_all(posts).await.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() {
            return Sent::delivered();
        }
        let whys: Vec<_> = failures
            .iter()
            .map(|(url, sent)| format!("{}: {}", shown_url(url), sent.why()))
            .collect();
        let whys = whys.join("; ");
        if failures.len() < self.urls.len() {
            return Sent::Delivered { route: None, partly: Some(whys) };
        }
        if failures.iter().all(|(_, sent)| matches!(sent, Sent::Refused { .. })) {
            return Sent::Refused { why: whys };
        }
        Sent::retry(&whys)
    }

    fn alert(&self, delivery: &Delivery<'_>) -> Value {
        let message = delivery.message;
        let mut labels: serde_json::Map<String, Value> =
            self.labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
        let alertname =
            if message.kind.is_test() { "WatchpostTest" } else { "WatchpostNotification" };
        let own = [
            ("alertname", alertname),
            ("job", &message.name),
            ("kind", &message.subject),
            ("instance", message.group.as_deref().unwrap_or_default()),
        ];
        // Labels identify an alert: only what stays the same for the whole episode may be one.
        labels.extend(
            own.into_iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.into(), v.into())),
        );
        let mut annotations = serde_json::Map::new();
        annotations.insert("summary".into(), message.headline().into());
        annotations.insert("description".into(), message.text(MAX_TEXT_BYTES).into());
        annotations.insert("status".into(), message.status.clone().into());
        annotations.insert("severity".into(), message.severity().label().into());
        if let Some(runbook) = &message.runbook {
            annotations.insert("runbook_url".into(), runbook.clone().into());
        }
        json!({
            "labels": labels,
            "annotations": annotations,
            "startsAt": message.opened.min(message.at).min(delivery.now.wall).to_string(),
            "endsAt": ends(message, delivery.now).to_string(),
            "generatorURL": message.url.as_deref().unwrap_or_default(),
        })
    }
}

/// Never before the beginning, or it is refused: where the clock was set back since the alert was opened, neither is told
/// as it was then.
fn ends(message: &Message, now: Stamp) -> jiff::Timestamp {
    if message.is_over() { message.at.min(now.wall) } else { now.plus(ENDS_AFTER).wall }
}

async fn post<'a>(
    outlet: &Outlet,
    url: &'a str,
    alerts: &Value,
    now: Stamp,
) -> Result<(), (&'a str, Sent)> {
    let headers = reqwest::header::HeaderMap::new();
    match outlet.post(url, headers, alerts, now.wall).await {
        Ok(reply) if reply.status == 200 => Ok(()),
        Ok(reply) => Err((url, reply.failure())),
        Err(sent) => Err((url, sent)),
    }
}
