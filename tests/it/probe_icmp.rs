//! The prober `icmp` against loopback, over whichever kind of socket the kernel grants.

use std::time::Duration;

use serde_json::{Value, json};
use watchpost::model::{Outcome, Phase, family};

use super::support::run::{has, mistakes, probe, reason};

fn icmp(block: Value) -> Value {
    json!({"prober": "icmp", "timeout": "2s", "icmp": block})
}

/// A run, unless the kernel grants neither kind of socket.
async fn ping(block: Value, target: &str) -> Option<Outcome> {
    let outcome = probe(icmp(block), target).await;
    if reason(&outcome) == "no_permission" {
        assert!(outcome.answer.to_string().contains("ping_group_range"), "{}", outcome.answer);
        eprintln!("skipped: the kernel grants no socket for ICMP");
        return None;
    }
    Some(outcome)
}

const BEYOND: [&watchpost::model::Family; 4] = [
    &family::PROBE_ICMP_SENT,
    &family::PROBE_ICMP_RECEIVED,
    &family::PROBE_ICMP_LOSS_RATIO,
    &family::PROBE_ICMP_JITTER,
];

#[tokio::test]
async fn loopback_replies_on_both_families() {
    for (target, protocol) in [("127.0.0.1", 4.0), ("::1", 6.0), ("[::1]", 6.0)] {
        let Some(outcome) = ping(json!({}), target).await else { return };
        assert_eq!(reason(&outcome), "pass", "{target}: {}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(protocol));
        assert_eq!(outcome.fact(&family::PROBE_ICMP_REPLY_HOP_LIMIT), Some(64.0), "{target}");
        for phase in [Phase::Resolve, Phase::Setup, Phase::Rtt] {
            assert!(outcome.phase_took(phase).is_some(), "{phase:?}");
        }
        assert!(outcome.phase_took(Phase::Rtt).unwrap() > Duration::ZERO);
        assert!(BEYOND.iter().all(|family| !has(&outcome, family)));
    }
}

#[tokio::test]
async fn options_are_honoured() {
    for block in [
        json!({"payload_size": 1, "ttl": 0}),
        json!({"payload_size": 9000, "dont_fragment": true}),
        json!({"payload_size": 60_000}),
        json!({"source_ip_address": "127.0.0.2", "ttl": 1}),
    ] {
        let Some(outcome) = ping(block.clone(), "127.0.0.1").await else { return };
        assert_eq!(reason(&outcome), "pass", "{block}: {}", outcome.answer);
    }
    let Some(outcome) = ping(json!({"payload_size": 9000, "ttl": 3}), "::1").await else { return };
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
}

#[tokio::test]
async fn a_packet_too_large_for_one_piece_is_not_sent_in_two() {
    // Loopback takes 65,536 bytes, and the largest packet of IPv4 has one less; so this one fits.
    let largest = json!({"payload_size": 65_507, "dont_fragment": true});
    let Some(outcome) = ping(largest, "127.0.0.1").await else { return };
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    let Some(outcome) = ping(json!({"payload_size": 65_508}), "127.0.0.1").await else { return };
    assert_eq!(reason(&outcome), "setup");
}

#[tokio::test]
async fn several_requests_tell_loss_and_jitter() {
    let block = json!({"count": 5, "interval": "10ms", "max_loss": 0});
    for target in ["127.0.0.1", "::1"] {
        let Some(outcome) = ping(block.clone(), target).await else { return };
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_ICMP_SENT), Some(5.0));
        assert_eq!(outcome.fact(&family::PROBE_ICMP_RECEIVED), Some(5.0));
        assert_eq!(outcome.fact(&family::PROBE_ICMP_LOSS_RATIO), Some(0.0));
        assert!(outcome.fact(&family::PROBE_ICMP_JITTER).unwrap() < 1.0);
        assert!(outcome.took < Duration::from_secs(1), "{:?}", outcome.took);
    }
}

#[tokio::test]
async fn a_long_interval_is_shortened_to_fit() {
    let block = json!({"count": 3, "interval": "1m"});
    let Some(outcome) = ping(block, "127.0.0.1").await else { return };
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert!(outcome.took < Duration::from_millis(1500), "{:?}", outcome.took);
}

#[tokio::test]
async fn runs_at_once_do_not_take_each_others_replies() {
    let runs = (0..50).map(|turn| {
        let block = json!({"count": 3, "interval": "1ms", "payload_size": 28 + turn % 2});
        async move { probe(icmp(block), "127.0.0.1").await }
    });
    for outcome in futures_util::future::join_all(runs).await {
        if reason(&outcome) == "no_permission" {
            return;
        }
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_ICMP_RECEIVED), Some(3.0));
    }
}

#[tokio::test]
async fn what_cannot_be_asked_has_its_phases() {
    let outcome = probe(icmp(json!({"source_ip_address": "192.0.2.1"})), "127.0.0.1").await;
    if reason(&outcome) != "no_permission" {
        assert_eq!(reason(&outcome), "source_address");
    }
    assert!(has(&outcome, &family::PROBE_IP_PROTOCOL));
    for source in ["nonsense", "::1"] {
        let outcome = probe(icmp(json!({"source_ip_address": source})), "127.0.0.1").await;
        assert!(matches!(reason(&outcome), "source_address" | "no_permission"), "{source}");
    }
    let outcome = probe(icmp(json!({})), "").await;
    assert_ne!(reason(&outcome), "pass");
    assert_eq!(outcome.phase_took(Phase::Rtt), Some(Duration::ZERO));
    assert!(outcome.phase_took(Phase::Setup).is_some());
}

#[test]
fn mistakes_are_found_at_load() {
    let keys = |block: Value| -> Vec<(String, bool)> {
        mistakes(icmp(block)).into_iter().map(|m| (m.key, m.warning)).collect()
    };
    assert_eq!(keys(json!({"payload_size": -1})), [("icmp.payload_size".to_owned(), false)]);
    assert_eq!(keys(json!({"payload_size": 70_000})), [("icmp.payload_size".to_owned(), true)]);
    for ttl in [-1, 256] {
        assert_eq!(keys(json!({"ttl": ttl})), [("icmp.ttl".to_owned(), false)]);
    }
    assert_eq!(keys(json!({"count": 0})), [("icmp.count".to_owned(), false)]);
    assert_eq!(keys(json!({"count": 2, "max_loss": 2})), [("icmp.max_loss".to_owned(), false)]);
    assert_eq!(keys(json!({"max_loss": 0.5})), [("icmp.max_loss".to_owned(), true)]);
    assert!(keys(json!({"ttl": 255, "payload_size": 0, "count": 3})).is_empty());
}
