//! Slack, incoming webhook. A room, not a pager: no dedup and no resolve, so the end is a message of its own.

use serde_json::json;

use super::exchange::Outlet;
use super::hook::Hook;
pub(super) use super::hook::Spec;
use super::{Delivery, Sent};
use crate::model::Mistakes;
use crate::notify::message::{Message, Severity, cut_chars};

const MAX_HEADLINE_CHARS: usize = 1_000;
/// Slack folds longer texts away.
const MAX_TEXT_BYTES: usize = 7_000;

#[derive(Debug)]
pub(super) struct Receiver(Hook);

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        Hook::build(spec, mistakes).map(Self)
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        let message = delivery.message;
        let headline = escape(&cut_chars(&message.headline(), MAX_HEADLINE_CHARS));
        let body = json!({
            "text": headline,
            "attachments": [{
                "color": color(message),
                "fallback": headline,
                "text": escape(&message.text(MAX_TEXT_BYTES)),
            }],
        });
        match self.0.post(outlet, delivery, &body).await {
            // Only the word says that it was taken.
            Ok(reply) if reply.status == 200 && reply.body.trim() == "ok" => Sent::delivered(),
            Ok(reply) => reply.failure(),
            Err(sent) => sent,
        }
    }
}

fn color(message: &Message) -> &'static str {
    if message.is_over() {
        return "good";
    }
    match message.severity() {
        Severity::Critical | Severity::Error => "danger",
        Severity::Warning => "warning",
        Severity::Info => "#439FE0",
    }
}

/// Names must not become mentions or links.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_mentioned_by_a_target() {
        assert_eq!(escape("<!channel> & co"), "&lt;!channel&gt; &amp; co");
    }
}
