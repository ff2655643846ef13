//! The prober `udp`: services that answer, answer wrongly, late or never, and ports that nobody listens on.

#![expect(clippy::disallowed_methods, reason = "test servers are spawned")]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use watchpost::model::{Phase, family};

use super::support::run::{has, mistakes, probe, reason};

/// Answers each datagram with these, one after the other; `None` is the question itself.
async fn echo(bind: &str, answers: &'static [Option<&'static [u8]>]) -> SocketAddr {
    let socket = UdpSocket::bind(bind).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = vec![0; 70_000];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            for answer in answers {
                socket.send_to(answer.unwrap_or(&bytes[..length]), from).await.ok();
            }
        }
    });
    address
}

fn udp(block: Value) -> Value {
    json!({"prober": "udp", "timeout": "500ms", "udp": block})
}

#[tokio::test]
async fn an_answer_that_matches_passes_on_both_families() {
    for (bind, protocol) in [("127.0.0.1:0", 4.0), ("[::1]:0", 6.0)] {
        let address = echo(bind, &[None]).await;
        let spec = udp(json!({"send": "ping 7", "expect": "^ping [0-9]$"}));
        let outcome = probe(spec, address.to_string()).await;
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(protocol));
        assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(0.0));
        let phases: Vec<Phase> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(phases, [Phase::Resolve, Phase::Connect, Phase::Processing]);
    }
}

#[tokio::test]
async fn bytes_are_compared_as_a_whole() {
    let address = echo("127.0.0.1:0", &[Some(b"pong!")]).await.to_string();
    let spec = |bytes: &str| udp(json!({"send": "x", "expect_bytes": bytes}));
    assert_eq!(reason(&probe(spec("pong!"), &address).await), "pass");
    let outcome = probe(spec("pong"), &address).await;
    assert_eq!(reason(&outcome), "expect_mismatch");
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_BYTES), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(0.0));
}

#[tokio::test]
async fn datagrams_are_taken_until_one_matches() {
    let address = echo("127.0.0.1:0", &[Some(b"noise"), Some(b""), Some(b"signal")]).await;
    let spec = |expect: &str| udp(json!({"expect": expect}));
    assert_eq!(reason(&probe(spec("^signal$"), address.to_string()).await), "pass");
    let outcome = probe(spec("^never$"), address.to_string()).await;
    assert_eq!(reason(&outcome), "expect_mismatch");
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(1.0));
    assert!(outcome.answer.to_string().contains("signal"), "{}", outcome.answer);
}

#[tokio::test]
async fn silence_is_a_fault_only_where_an_answer_is_expected() {
    let address = echo("127.0.0.1:0", &[]).await.to_string();
    let outcome = probe(udp(json!({"send": "x"})), &address).await;
    assert_eq!(reason(&outcome), "pass");
    let outcome = probe(udp(json!({"send": "x", "expect": "y"})), &address).await;
    assert_eq!(reason(&outcome), "no_response");
    assert!(outcome.took < Duration::from_millis(900), "{:?}", outcome.took);
}

#[tokio::test]
async fn a_closed_port_refuses() {
    // Not a port that was free a moment ago: another test may have it by now.
    for address in ["127.77.0.1:9", "[::1]:9"] {
        for block in [json!({"send": "x"}), json!({"send": "x", "expect": "y"})] {
            assert_eq!(reason(&probe(udp(block), address).await), "connect_refused");
        }
    }
}

#[tokio::test]
async fn targets_and_sources_that_cannot_be_used_are_ours() {
    let outcome = probe(udp(json!({})), "localhost").await;
    assert_eq!(reason(&outcome), "setup");
    assert!(outcome.facts.is_empty());
    let outcome = probe(udp(json!({"source_ip_address": "192.0.2.1"})), "127.0.0.1:9").await;
    assert_eq!(reason(&outcome), "source_address");
    assert!(has(&outcome, &family::PROBE_IP_PROTOCOL));
    let address = echo("127.0.0.1:0", &[None]).await;
    let spec = udp(json!({"source_ip_address": "127.0.0.2", "send": "x", "expect": "x"}));
    assert_eq!(reason(&probe(spec, address.to_string()).await), "pass");
}

#[test]
fn what_clashes_is_refused_at_load() {
    let found = mistakes(udp(json!({"expect": "a", "expect_bytes": "b"})));
    assert_eq!(found[0].key, "udp.expect_bytes");
    let found = mistakes(udp(json!({"send": "x".repeat(70_000)})));
    assert_eq!(found[0].key, "udp.send");
}
