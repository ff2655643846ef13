//! Microsoft Teams: a workflow's URL (202) or an older incoming webhook (200 with the body `1`).

use serde_json::{Value, json};

use super::exchange::{Outlet, Reply};
use super::hook::Hook;
pub(super) use super::hook::Spec;
use super::{Delivery, Sent};
use crate::model::Mistakes;
use crate::notify::message::{Message, Severity, cut_chars};

/// A card may have 28 KiB, what is around it included; a larger one is refused.
const MAX_CARD_BYTES: usize = 27 << 10;
/// The longest text to try. A line of it costs more in a card than it has letters.
const MAX_TEXT_BYTES: usize = 16 << 10;
const MAX_HEADLINE_CHARS: usize = 1_000;

#[derive(Debug)]
pub(super) struct Receiver(Hook);

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        Hook::build(spec, mistakes).map(Self)
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        let card = card(delivery.message);
        match self.0.post(outlet, delivery, &card).await {
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

/// The card with as much text as one takes.
fn card(message: &Message) -> Value {
    let mut limit = MAX_TEXT_BYTES;
    loop {
        let card = card_of(message, limit);
        if card.to_string().len() <= MAX_CARD_BYTES || limit == 0 {
            return card;
        }
        limit /= 2;
    }
}

/// A line as it is: a text block would take the names of targets and what jobs have said for Markdown.
fn line(text: &str) -> Value {
    json!({
        "type": "RichTextBlock", "spacing": "None",
        "inlines": [{ "type": "TextRun", "text": text }],
    })
}

fn card_of(message: &Message, limit: usize) -> Value {
    let mut actions = Vec::new();
    for (title, url) in [("Runbook", &message.runbook), ("watchpost", &message.url)] {
        actions.extend(
            url.iter().map(|u| json!({"type": "Action.OpenUrl", "title": title, "url": u})),
        );
    }
    let text = message.text(limit);
    let lines = text.lines().map(line);
    let headline = json!({
        "type": "RichTextBlock",
        "inlines": [{
            "type": "TextRun", "size": "Medium", "weight": "Bolder", "color": color(message),
            "text": cut_chars(&message.headline(), MAX_HEADLINE_CHARS),
        }],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::NoteKind;
    use crate::notify::message::{Identity, Line};

    fn message() -> Message {
        let at = jiff::Timestamp::UNIX_EPOCH;
        Message::test(NoteKind::Test, "r", &Identity::default(), at)
    }

    #[test]
    fn a_card_with_many_lines_fits() {
        let line = |index: usize| Line {
            name: format!("host-{index}"),
            status: "down".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            text: "\"refused\"".repeat(40),
            evidence: Some(["it \"said\" so"; 60].join("\n    ")),
        };
        let message = Message { members: (0..20).map(line).collect(), in_trouble: 20, ..message() };
        let card = card(&message);
        let length = card.to_string().len();
        assert!(length <= MAX_CARD_BYTES, "{length}");
        assert!(length > MAX_CARD_BYTES / 3, "{length}");
    }

    #[test]
    fn a_name_is_no_markup() {
        let message = Message { notes: vec!["[all is well](https://x) a_b_c".into()], ..message() };
        let body = card(&message)["attachments"][0]["content"]["body"].clone();
        assert!(body.to_string().contains("[all is well](https://x) a_b_c"));
        for block in body.as_array().unwrap() {
            assert_eq!(block["type"], "RichTextBlock");
        }
    }
}
