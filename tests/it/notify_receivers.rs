//! Each kind of receiver against its vendor: what is sent, and what each answer means.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use watchpost::book::NoteKind;
use watchpost::clock;
use watchpost::model::{Mistakes, Stamp};
use watchpost::net::Resolver;
use watchpost::notify::{Delivery, Identity, Message, Receiver, ReceiverSpec, Sent};

use crate::support::fakes::{Fake, PagerDuty, Received, Reply, Smtp};

const KEY: &str = "watchpost-0123";

pub(crate) fn receiver(spec: serde_json::Value) -> Receiver {
    receiver_asking(&Resolver::with_servers(Vec::new()), spec)
}

/// A receiver that asks `names` for names.
pub(crate) fn receiver_asking(names: &Resolver, spec: serde_json::Value) -> Receiver {
    let spec: ReceiverSpec = serde_json::from_value(spec).unwrap();
    let mut mistakes = Mistakes::default();
    let receiver = spec.build(names, &mut mistakes);
    assert!(!mistakes.has_errors(), "{mistakes:?}");
    receiver.unwrap()
}

fn message(kind: NoteKind) -> Message {
    let at: Timestamp = "2026-01-21T03:04:00Z".parse().unwrap();
    let since: Timestamp = "2026-01-21T03:00:00Z".parse().unwrap();
    let over = kind.ends();
    let member = json!({
        "name": "<a>.example:443", "status": if over { "up" } else { "down" }, "since": since,
        "text": "nothing listens on 10.0.0.1:443", "evidence": null,
    });
    let message = json!({
        "kind": kind.label(), "subject": "probe", "name": "shop", "group": null,
        "status": if over { "up" } else { "down" }, "opened": since, "at": at, "members": [member],
        "in_trouble": u8::from(!over), "recovered": u8::from(over), "flaps": 0, "also": [],
        "also_more": 0, "notes": [], "runbook": "https://runbooks.example/shop",
        "watchpost": "a", "region": null, "url": null, "episode": "e1",
        "number": if over { 2 } else { 1 },
    });
    serde_json::from_value(message).unwrap()
}

pub(crate) async fn send(receiver: &Receiver, kind: NoteKind) -> Sent {
    let message = message(kind);
    let now = clock::now();
    let delivery = Delivery { id: "n1", message: &message, key: KEY, route: None, now };
    receiver.send(&delivery).await
}

pub(crate) fn is_retry(sent: &Sent) -> bool {
    matches!(sent, Sent::Retry { .. })
}

fn is_refused(sent: &Sent) -> bool {
    matches!(sent, Sent::Refused { .. })
}

pub(crate) fn is_delivered(sent: &Sent) -> bool {
    matches!(sent, Sent::Delivered { .. })
}

#[tokio::test]
async fn pagerduty_opens_and_resolves_one_incident() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let spec = json!({"name": "r", "pagerduty": {"routing_key": "k1", "url": pagerduty.url()}});
    let receiver = receiver(spec);
    for kind in [NoteKind::Trigger, NoteKind::Update, NoteKind::Resolve] {
        let sent = send(&receiver, kind).await;
        assert!(is_delivered(&sent), "{sent:?}");
    }
    assert_eq!((pagerduty.opened(), pagerduty.resolved(), pagerduty.open()), (1, 1, 0));
    let event = pagerduty.http.ledger()[0].json();
    assert_eq!(event["payload"]["severity"], "critical");
    assert_eq!(event["payload"]["timestamp"], "2026-01-21T03:00:00Z");
    assert_eq!(event["links"][0]["href"], "https://runbooks.example/shop");
    let text = event["payload"]["custom_details"]["text"].as_str().unwrap();
    assert!(text.contains("nothing listens on 10.0.0.1:443"), "{text}");
}

#[tokio::test]
async fn pagerduty_answers_mean_what_is_documented() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let spec = |key: &str| json!({"name": "r", "timeout": "300ms", "pagerduty": {"routing_key": key, "url": pagerduty.url()}});
    let good = receiver(spec("k1"));
    let replies = [
        Reply::text(200, "a captive portal"),
        Reply::text(500, ""),
        Reply::text(503, "x".repeat(1 << 20).as_str()),
        Reply::Later(429, "7".into()),
        Reply::Later(429, "99999999".into()),
        Reply::Redirect("http://127.0.0.1:1/login".into()),
        Reply::Hang,
    ];
    pagerduty.http.script(replies);
    assert!(is_refused(&send(&good, NoteKind::Trigger).await));
    assert!(is_retry(&send(&good, NoteKind::Trigger).await));
    let Sent::Retry { why, .. } = send(&good, NoteKind::Trigger).await else { panic!("503") };
    assert!(why.len() < 400, "a long answer is cut");
    for seconds in [7, 99_999_999] {
        let sent = send(&good, NoteKind::Trigger).await;
        let Sent::Retry { after, .. } = sent else { panic!("429") };
        assert_eq!(after, Some(Duration::from_secs(seconds)));
    }
    assert!(is_refused(&send(&good, NoteKind::Trigger).await), "a redirect is not followed");
    assert!(is_retry(&send(&good, NoteKind::Trigger).await), "no answer in time");
    let bad = receiver(spec("wrong"));
    let Sent::Refused { why } = send(&bad, NoteKind::Trigger).await else { panic!("400") };
    assert!(why.contains("routing_key"), "{why}");
    assert_eq!(pagerduty.opened(), 0);
}

#[tokio::test]
async fn a_vendor_that_is_gone_is_tried_again() {
    let spec =
        json!({"name": "r", "pagerduty": {"routing_key": "k", "url": "http://127.0.0.1:1/"}});
    let sent = send(&receiver(spec), NoteKind::Trigger).await;
    let Sent::Retry { why, .. } = sent else { panic!("{sent:?}") };
    assert!(!why.contains("127.0.0.1:1/"), "the URL may be a secret: {why}");
}

#[tokio::test]
async fn slack_must_say_ok() {
    let fake = Fake::start(|_| Reply::text(200, "ok")).await;
    let receiver = receiver(json!({"name": "r", "slack": {"url": format!("{}/hook", fake.url)}}));
    assert!(is_delivered(&send(&receiver, NoteKind::Trigger).await));
    let body = fake.ledger()[0].json().to_string();
    assert!(body.contains("&lt;a&gt;.example") && !body.contains("<a>"), "{body}");
    fake.script([
        Reply::text(404, "no_service"),
        Reply::text(410, "channel_is_archived"),
        Reply::text(200, "<html>login</html>"),
        Reply::Later(429, "3".into()),
        Reply::text(500, "rollup_error"),
    ]);
    for refused in [true, true, true, false, false] {
        let sent = send(&receiver, NoteKind::Trigger).await;
        assert_eq!(is_refused(&sent), refused, "{sent:?}");
    }
}

#[tokio::test]
async fn webhooks_are_signed() {
    let fake = Fake::start(|_| Reply::text(204, "")).await;
    let spec = json!({"name": "r", "webhook": {"url": &fake.url, "secret": "s3cret", "bearer_token": "t"}});
    assert!(is_delivered(&send(&receiver(spec), NoteKind::Trigger).await));
    let Received { headers, body, .. } = fake.ledger().remove(0);
    assert_eq!(headers["watchpost-id"], "n1");
    assert_eq!(headers["authorization"], "Bearer t");
    let time = headers["watchpost-timestamp"].to_str().unwrap();
    assert_eq!(headers["watchpost-signature"], expected_signature(time, &body));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["state"], "firing");
    assert_eq!(body["dedup_key"], KEY);
}

/// Made by the library rather than by the code under test.
fn expected_signature(time: &str, body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"s3cret").unwrap();
    mac.update([time.as_bytes(), b".", body].concat().as_slice());
    let digest = mac.finalize().into_bytes();
    digest.iter().fold(String::from("v1="), |text, byte| format!("{text}{byte:02x}"))
}

#[tokio::test]
async fn webhooks_speak_alertmanagers_form_when_asked() {
    let fake = Fake::start(|_| Reply::text(200, "")).await;
    let spec = json!({"name": "r", "webhook": {"url": &fake.url, "format": "alertmanager"}});
    let receiver = receiver(spec);
    for (kind, status) in [(NoteKind::Trigger, "firing"), (NoteKind::Resolve, "resolved")] {
        assert!(is_delivered(&send(&receiver, kind).await));
        let body = fake.ledger().pop().unwrap().json();
        assert_eq!(body["version"], "4");
        assert_eq!(body["status"], status);
        assert_eq!(body["alerts"][0]["status"], status);
        assert_eq!(body["alerts"][0]["labels"]["instance"], "<a>.example:443");
        assert_eq!(body["truncatedAlerts"], 0);
    }
}

#[tokio::test]
async fn every_alertmanager_is_told_and_one_is_enough() {
    let good = Fake::start(|_| Reply::text(200, "")).await;
    let bad = Fake::start(|_| Reply::text(500, "broken")).await;
    let spec = json!({"name": "r", "alertmanager": {"urls": [&good.url, &bad.url], "labels": {"team": "x"}}});
    let receiver = receiver(spec);
    let Sent::Delivered { partly: Some(why), .. } = send(&receiver, NoteKind::Trigger).await else {
        panic!("partly delivered");
    };
    assert!(why.contains("500"), "{why}");
    let request = good.ledger().remove(0);
    assert_eq!(request.path, "/api/v2/alerts");
    let alert = request.json()[0].clone();
    assert_eq!(alert["labels"]["alertname"], "WatchpostNotification");
    assert_eq!(alert["labels"]["team"], "x");
    let ends: Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
    let left = clock::now().wall.duration_until(ends).as_secs();
    assert!((280..=300).contains(&left), "{left}");
    good.script([Reply::text(500, "")]);
    assert!(is_retry(&send(&receiver, NoteKind::Resolve).await), "none took it");
    let ends = good.ledger().pop().unwrap().json()[0]["endsAt"].clone();
    assert_eq!(ends, "2026-01-21T03:04:00Z");
}

/// Alertmanager refuses an alert that ends before it begins.
#[tokio::test]
async fn a_clock_that_was_set_back_does_not_end_an_alert_before_it_begins() {
    let fake = Fake::start(|_| Reply::text(200, "")).await;
    let receiver = receiver(json!({"name": "r", "alertmanager": {"urls": [&fake.url]}}));
    for kind in [NoteKind::Trigger, NoteKind::Resolve] {
        let message = message(kind);
        let wall = "2026-01-20T03:00:00Z".parse().unwrap();
        let now = Stamp::new(wall, Duration::from_secs(1));
        let delivery = Delivery { id: "n1", message: &message, key: KEY, route: None, now };
        assert!(is_delivered(&receiver.send(&delivery).await));
        let alert = fake.ledger().pop().unwrap().json()[0].clone();
        let time = |key: &str| alert[key].as_str().unwrap().parse::<Timestamp>().unwrap();
        assert!(time("startsAt") <= time("endsAt"), "{alert}");
    }
}

#[tokio::test]
async fn opsgenie_is_opened_and_closed_by_alias() {
    let fake = Fake::start(|request| match request.headers.get("authorization") {
        Some(key) if key == "GenieKey k1" => Reply::text(202, r#"{"requestId":"1"}"#),
        _ => Reply::text(403, r#"{"message":"Could not authenticate"}"#),
    })
    .await;
    let spec = |key: &str| json!({"name": "r", "opsgenie": {"api_key": key, "api_url": format!("{}/", fake.url)}});
    let good = receiver(spec("k1"));
    assert!(is_delivered(&send(&good, NoteKind::Trigger).await));
    assert!(is_delivered(&send(&good, NoteKind::Resolve).await));
    let ledger = fake.ledger();
    assert_eq!(ledger[0].path, "/v2/alerts");
    assert_eq!(ledger[0].json()["alias"], KEY);
    assert_eq!(ledger[0].json()["priority"], "P1");
    assert!(ledger[0].json()["message"].as_str().unwrap().chars().count() <= 130);
    assert_eq!(ledger[1].path, format!("/v2/alerts/{KEY}/close?identifierType=alias"));
    assert!(is_refused(&send(&receiver(spec("no")), NoteKind::Trigger).await));
}

#[tokio::test]
async fn teams_has_two_ways_of_saying_yes() {
    let fake = Fake::start(|_| Reply::text(202, "")).await;
    let receiver = receiver(json!({"name": "r", "teams": {"url": &fake.url}}));
    fake.script([
        Reply::text(202, ""),
        Reply::text(200, "1"),
        Reply::text(200, "Webhook message delivery failed with error: 429"),
        Reply::text(403, ""),
    ]);
    assert!(is_delivered(&send(&receiver, NoteKind::Trigger).await));
    assert!(is_delivered(&send(&receiver, NoteKind::Trigger).await));
    assert!(is_retry(&send(&receiver, NoteKind::Trigger).await));
    assert!(is_refused(&send(&receiver, NoteKind::Trigger).await));
}

#[tokio::test]
async fn mail_of_one_episode_is_one_thread() {
    let smtp = Smtp::start().await;
    let spec = json!({"name": "r", "email": {
        "to": ["oncall@team.example"], "from": "Watchpost <watchpost@team.example>",
        "smarthost": &smtp.address, "require_tls": false,
    }});
    let receiver = receiver(spec);
    assert!(is_delivered(&send(&receiver, NoteKind::Trigger).await));
    assert!(is_delivered(&send(&receiver, NoteKind::Resolve).await));
    let messages = smtp.messages();
    assert!(messages[0].contains("Message-ID: <e1@team.example>"), "{}", messages[0]);
    assert!(messages[0].contains("Subject: [DOWN] probe shop"), "{}", messages[0]);
    assert!(messages[1].contains("References: <e1@team.example>"), "{}", messages[1]);
    smtp.set_verdict("451 try later");
    assert!(is_retry(&send(&receiver, NoteKind::Trigger).await));
    smtp.set_verdict("550 no such user");
    assert!(is_refused(&send(&receiver, NoteKind::Trigger).await));
}

#[tokio::test]
async fn a_mailbox_that_is_gone_keeps_nobody_else_from_being_told() {
    let smtp = Smtp::start().await;
    smtp.set_gone("left@");
    let spec = |to: &[&str]| {
        json!({"name": "r", "email": {
            "to": to, "from": "w@b.example", "smarthost": &smtp.address, "require_tls": false,
        }})
    };
    let both = receiver(spec(&["left@b.example", "oncall@b.example"]));
    let Sent::Delivered { partly: Some(why), .. } = send(&both, NoteKind::Trigger).await else {
        panic!("partly delivered");
    };
    assert!(why.contains("left@b.example") && why.contains("550"), "{why}");
    assert_eq!(smtp.recipients(), ["<oncall@b.example>"]);
    assert!(is_refused(&send(&receiver(spec(&["left@b.example"])), NoteKind::Trigger).await));
}

#[tokio::test]
async fn mail_is_not_sent_in_the_clear_unless_allowed() {
    let smtp = Smtp::start().await;
    let spec = json!({"name": "r", "email": {
        "to": ["a@b.example"], "from": "c@b.example", "smarthost": &smtp.address,
    }});
    assert!(!is_delivered(&send(&receiver(spec), NoteKind::Trigger).await));
    assert!(smtp.messages().is_empty());
}

#[tokio::test]
async fn a_test_is_marked_everywhere() {
    let fake = Fake::start(|_| Reply::text(200, "ok")).await;
    let message = Message::test(NoteKind::Test, "r", &Identity::default(), clock::now().wall);
    let receiver = receiver(json!({"name": "r", "slack": {"url": &fake.url}}));
    let now = clock::now();
    let delivery = Delivery { id: "n", message: &message, key: KEY, route: None, now };
    assert!(is_delivered(&receiver.send(&delivery).await));
    assert!(fake.ledger()[0].json()["text"].as_str().unwrap().starts_with("[TEST]"));
}
