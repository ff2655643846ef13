use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::model::Stamp;

fn at(millis: u64) -> Moment {
    let wall = Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(millis).unwrap());
    let boot = Duration::from_secs(1_000) + Duration::from_millis(millis);
    Moment::new(Stamp::new(wall.unwrap(), boot), Arc::from("boot"))
}

fn secs(seconds: u64) -> Moment {
    at(seconds * 1_000)
}

fn limits(_: &str) -> Limits {
    Limits { per_minute: 100, in_flight: 4 }
}

fn row(queue: &mut Queue, receiver: &str, key: &str, kind: NoteKind, now: &Moment) -> Outbox {
    let sequence = queue.next_sequence();
    Outbox {
        id: format!("n{sequence}"),
        sequence,
        episode: Some(key.to_owned()),
        key: key.to_owned(),
        receiver: receiver.to_owned(),
        kind,
        created: now.clone(),
        attempts: 0,
        next_attempt: now.clone(),
        last_error: None,
        refused: false,
        escalated: false,
        route: None,
        payload: serde_json::json!({"kind": kind.label(), "number": sequence}),
    }
}

fn add(queue: &mut Queue, receiver: &str, key: &str, kind: NoteKind, now: &Moment) -> u64 {
    let row = row(queue, receiver, key, kind, now);
    let sequence = row.sequence;
    queue.add(row);
    sequence
}

fn due(queue: &mut Queue, now: &Moment) -> Vec<(String, NoteKind)> {
    queue.due(limits, now).into_iter().map(|r| (r.key, r.kind)).collect()
}

fn kinds(queue: &Queue) -> Vec<NoteKind> {
    queue.rows().map(|r| r.kind).collect()
}

use NoteKind::{Repeat, Resolve, Trigger, Update};

#[test]
fn an_end_never_overtakes_its_beginning() {
    let mut queue = Queue::default();
    let trigger = add(&mut queue, "r", "a", Trigger, &secs(0));
    add(&mut queue, "r", "a", Resolve, &secs(0));
    assert_eq!(due(&mut queue, &secs(0)), [("a".into(), Trigger)]);
    assert_eq!(due(&mut queue, &secs(0)), [], "while the beginning is under way");
    queue.failed(trigger, &Sent::retry(&"no"), &secs(0));
    assert_eq!(due(&mut queue, &at(10)), [], "while the beginning waits for its next attempt");
    assert_eq!(due(&mut queue, &secs(10)), [("a".into(), Trigger)]);
    queue.delivered(trigger);
    assert_eq!(due(&mut queue, &secs(10)), [("a".into(), Resolve)]);
}

#[test]
fn a_slow_receiver_delays_no_other() {
    let mut queue = Queue::default();
    for i in 0..50 {
        add(&mut queue, "black-hole", &format!("k{i}"), Trigger, &secs(0));
    }
    add(&mut queue, "good", "k0", Trigger, &secs(0));
    let first = queue.due(limits, &secs(0));
    assert_eq!(first.iter().filter(|r| r.receiver == "black-hole").count(), 4);
    assert_eq!(first.iter().filter(|r| r.receiver == "good").count(), 1);
}

#[test]
fn unheard_news_gives_way_to_newer_and_the_beginning_stays_one() {
    let mut queue = Queue::default();
    add(&mut queue, "r", "a", Trigger, &secs(0));
    add(&mut queue, "r", "a", Update, &secs(1));
    add(&mut queue, "r", "a", Repeat, &secs(2));
    assert_eq!(kinds(&queue), [Trigger]);
    let row = queue.rows().next().unwrap();
    assert_eq!(row.payload["kind"], "trigger");
    assert_eq!(row.payload["number"], 3);
    assert_eq!(row.created, secs(0), "its patience is that of the first");
}

#[test]
fn flapping_while_the_receiver_is_gone_stays_bounded() {
    let mut queue = Queue::default();
    let first = add(&mut queue, "r", "a", Trigger, &secs(0));
    queue.due(limits, &secs(0));
    queue.delivered(first);
    for i in 0..50 {
        add(&mut queue, "r", "a", Update, &secs(i));
        add(&mut queue, "r", "a", Resolve, &secs(i));
        add(&mut queue, "r", "a", Trigger, &secs(i));
    }
    assert_eq!(kinds(&queue), [Resolve, Trigger]);
    add(&mut queue, "r", "a", Resolve, &secs(60));
    assert_eq!(kinds(&queue), [Resolve, Trigger, Resolve]);
}

#[test]
fn first_messages_go_before_ends_and_news_when_the_rate_is_bounded() {
    let mut queue = Queue::default();
    let narrow = |_: &str| Limits { per_minute: 3, in_flight: 100 };
    add(&mut queue, "r", "old", Update, &secs(0));
    add(&mut queue, "r", "older", Resolve, &secs(0));
    for key in ["a", "b", "c", "d"] {
        add(&mut queue, "r", key, Trigger, &secs(0));
    }
    let keys = |queue: &mut Queue, now| {
        queue.due(narrow, &now).into_iter().map(|r| r.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&mut queue, secs(0)), ["a", "b", "c"]);
    assert!(keys(&mut queue, secs(59)).is_empty());
    assert_eq!(keys(&mut queue, secs(60)), ["d", "older", "old"], "delayed, never dropped");
}

#[test]
fn no_window_of_a_minute_has_more_than_the_bound() {
    let mut queue = Queue::default();
    for i in 0..1_000 {
        add(&mut queue, "r", &format!("k{i}"), Trigger, &secs(0));
    }
    let mut sent = Vec::new();
    for second in 0..700 {
        for row in queue.due(|_| Limits { per_minute: 100, in_flight: 100 }, &secs(second)) {
            sent.push(second);
            queue.delivered(row.sequence);
        }
    }
    assert_eq!(sent.len(), 1_000);
    for start in &sent {
        assert!(sent.iter().filter(|s| (*start..*start + 60).contains(*s)).count() <= 100);
    }
}

#[test]
fn waits_double_up_to_five_minutes_and_never_end() {
    let mut queue = Queue::default();
    let sequence = add(&mut queue, "r", "a", Trigger, &secs(0));
    let mut second = 0;
    let mut attempts = Vec::new();
    while second < 2 * 3_600 {
        if !queue.due(limits, &secs(second)).is_empty() {
            attempts.push(second);
            queue.failed(sequence, &Sent::retry(&"status 500"), &secs(second));
        }
        second += 1;
    }
    let gaps: Vec<_> = attempts.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps.iter().all(|g| *g <= 301), "{gaps:?}");
    assert!((20..120).contains(&attempts.len()), "neither a storm nor silence: {}", attempts.len());
    assert!(*attempts.last().unwrap() > 6_800);
}

#[test]
fn jitter_spreads() {
    let waits: Vec<_> =
        (0..100).map(|i| Backoff::default().wait(9, &format!("n{i}")).as_secs()).collect();
    assert!(waits.iter().any(|w| *w < 60) && waits.iter().any(|w| *w > 240), "{waits:?}");
}

#[test]
fn retry_after_holds_the_whole_receiver_up_to_a_cap() {
    let mut queue = Queue::default();
    let first = add(&mut queue, "r", "a", Trigger, &secs(0));
    queue.due(limits, &secs(0));
    let absurd = Some(Duration::from_secs(1_000_000));
    queue.failed(first, &Sent::Retry { why: "429".into(), after: absurd }, &secs(0));
    add(&mut queue, "r", "b", Trigger, &secs(1));
    add(&mut queue, "other", "b", Trigger, &secs(1));
    assert_eq!(queue.due(limits, &secs(1)).len(), 1, "only the other receiver");
    assert!(queue.due(limits, &secs(299)).is_empty());
    assert_eq!(queue.due(limits, &secs(300)).len(), 2);
}

#[test]
fn a_refusal_is_tried_again_slowly_and_with_the_present_key_first() {
    let mut queue = Queue::default();
    let mut pinned = row(&mut queue, "r", "a", Resolve, &secs(0));
    pinned.route = Some("old".into());
    let sequence = pinned.sequence;
    queue.add(pinned);
    queue.due(limits, &secs(0));
    let refused = Sent::Refused { why: "400".into() };
    let row = queue.failed(sequence, &refused, &secs(0)).unwrap();
    assert_eq!((row.route, row.refused), (None, false));
    assert_eq!(queue.due(limits, &secs(2)).len(), 1);
    assert!(queue.failed(sequence, &refused, &secs(2)).unwrap().refused);
    assert!(queue.due(limits, &secs(900)).is_empty());
    assert_eq!(queue.due(limits, &secs(902)).len(), 1);
}

#[test]
fn an_end_is_given_up_after_a_day_and_a_beginning_never() {
    let mut queue = Queue::default();
    add(&mut queue, "r", "open", Trigger, &secs(0));
    add(&mut queue, "r", "over", Trigger, &secs(0));
    add(&mut queue, "r", "over", Resolve, &secs(0));
    assert!(queue.expire(&secs(86_399)).is_empty());
    assert_eq!(queue.expire(&secs(86_400)).len(), 2);
    assert!(queue.expire(&secs(1_000_000)).is_empty());
    assert_eq!(queue.rows().count(), 1);
}

#[test]
fn a_restart_tries_everything_at_once() {
    let mut queue = Queue::default();
    let sequence = add(&mut queue, "r", "a", Trigger, &secs(0));
    queue.due(limits, &secs(0));
    queue.failed(sequence, &Sent::Refused { why: "no".into() }, &secs(0));
    let rows = queue.rows().cloned().collect();
    let mut queue = Queue::restore(rows, Backoff::default(), &secs(30));
    assert_eq!(queue.due(limits, &secs(30)).len(), 1);
    assert_eq!(queue.next_sequence(), sequence + 1);
}
