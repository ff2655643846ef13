//! The prober `tcp`: connections, TLS, and dialogues with peers that answer late, wrongly, in pieces, or not at all.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use watchpost::model::{Answer, Fault, Outcome, Phase, family};

use super::support::certs::{Authority, Leaf};
use super::support::peer::{Peer, Tls, linger};
use super::support::run::{has, labels, mistakes, probe, probe_as, reason};

fn dialogue(steps: Value) -> Value {
    json!({"prober": "tcp", "timeout": "1s", "tcp": {
        "preferred_ip_protocol": "ip4", "query_response": steps,
    }})
}

async fn say(words: &'static [u8], steps: Value) -> Outcome {
    let peer = Peer::saying(words).await;
    probe(dialogue(steps), peer.address.to_string()).await
}

/// Says it, and closes.
async fn say_and_go(words: &'static [u8], steps: Value) -> Outcome {
    let peer = Peer::new(move |mut stream| async move {
        stream.write_all(words).await.ok();
        stream.shutdown().await.ok();
        linger(&mut stream).await;
    })
    .await;
    probe(dialogue(steps), peer.address.to_string()).await
}

fn flags(outcome: &Outcome) -> (Option<f64>, Option<f64>) {
    (
        outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX),
        outcome.fact(&family::PROBE_FAILED_DUE_TO_BYTES),
    )
}

const NEITHER: (Option<f64>, Option<f64>) = (Some(0.0), Some(0.0));

#[tokio::test]
async fn connecting_is_enough_without_a_dialogue() {
    for (bind, protocol) in [("127.0.0.1:0", 4.0), ("[::1]:0", 6.0)] {
        let peer = Peer::at(bind, |mut stream| async move { linger(&mut stream).await }).await;
        let outcome = probe(json!({"prober": "tcp"}), peer.address.to_string()).await;
        assert_eq!(outcome.answer, Answer::Pass);
        assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(protocol));
        assert_eq!(flags(&outcome), NEITHER);
    }
}

#[tokio::test]
async fn what_never_connected_has_address_metrics_only() {
    let port = {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().port()
    };
    let outcome = probe(dialogue(json!([{"expect": "x"}])), format!("127.0.0.1:{port}")).await;
    assert_eq!((reason(&outcome), outcome.phase), ("connect_refused", Some(Phase::Connect)));
    assert_eq!(flags(&outcome), (None, None));
    assert!(has(&outcome, &family::PROBE_IP_PROTOCOL));
    let outcome = probe(json!({"prober": "tcp"}), "localhost").await;
    assert_eq!(reason(&outcome), "setup");
    assert!(outcome.facts.is_empty());
}

#[tokio::test]
async fn source_addresses_are_used_or_are_our_trouble() {
    let peer = Peer::saying(b"").await;
    let from = |source: &str| json!({"prober": "tcp", "tcp": {"source_ip_address": source}});
    let outcome = probe(from("127.0.0.2"), peer.address.to_string()).await;
    assert_eq!(outcome.answer, Answer::Pass);
    for source in ["nowhere", "192.0.2.1", "::1"] {
        let outcome = probe(from(source), peer.address.to_string()).await;
        assert_eq!(reason(&outcome), "source_address", "{source}");
        assert!(has(&outcome, &family::PROBE_IP_PROTOCOL));
    }
}

#[tokio::test]
async fn a_conversation_with_groups_and_labels() {
    let peer = Peer::new(|stream| async move {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"SSH-2.0-OpenSSH_9.2 Debian\r\nNOISE\nPING 42\n").await.ok();
        let mut line = String::new();
        stream.read_line(&mut line).await.ok();
        let answer: &[u8] = if line == "PONG 42 x\n" { b"fine\n" } else { b"bad\n" };
        stream.write_all(answer).await.ok();
        linger(&mut stream).await;
    })
    .await;
    let steps = json!([
        {"expect": "^SSH-2.0-(?P<soft>[^ ]+) (.*)$", "labels": [
            {"name": "software", "value": "is ${soft}"}, {"name": "comments", "value": "$2"},
        ]},
        {"expect": "^PING ([0-9]+)$", "send": "PONG $1 x"},
        {"expect": "^fine$"},
    ]);
    let outcome = probe(dialogue(steps), peer.address.to_string()).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert_eq!(flags(&outcome), NEITHER);
    assert_eq!(labels(&outcome, &family::PROBE_EXPECT_INFO, "software"), ["is OpenSSH_9.2"]);
    assert_eq!(labels(&outcome, &family::PROBE_EXPECT_INFO, "comments"), ["Debian"]);
    let phases: Vec<Phase> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, [Phase::Resolve, Phase::Connect, Phase::Processing]);
}

#[tokio::test]
async fn text_without_an_expect_is_sent_as_it_is() {
    let peer = Peer::new(|mut stream| async move { linger(&mut stream).await }).await;
    let steps = json!([{"send": "costs $1 ${x}"}, {"expect": "^costs \\$1 \\$\\{x\\}$"}, {}]);
    let outcome = probe(dialogue(steps), peer.address.to_string()).await;
    assert_eq!(outcome.answer, Answer::Pass);
}

#[tokio::test]
async fn the_end_of_the_stream_without_a_match_sets_the_gauge() {
    let outcome = say_and_go(b"ERROR :closing link\n", json!([{}, {"expect": "001"}])).await;
    let wanted = Fault::ExpectMismatch {
        step: 2,
        expected: "001".into(),
        got: "ERROR :closing link".into(),
    };
    assert_eq!(outcome.answer, Answer::Fail(wanted));
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(1.0));

    let outcome = say_and_go(b"", json!([{"expect": "."}])).await;
    assert_eq!(reason(&outcome), "connection_closed");
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(1.0));
    // An unterminated last line counts.
    assert_eq!(say_and_go(b"last", json!([{"expect": "^last$"}])).await.answer, Answer::Pass);
    // An empty expression is one, and matches the first line.
    assert_eq!(say(b"\r\n", json!([{"expect": ""}])).await.answer, Answer::Pass);
}

#[tokio::test]
async fn silence_ends_in_time_and_is_no_mismatch() {
    let outcome = say(b"something else\n", json!([{"expect": "^220"}])).await;
    assert!(matches!(outcome.answer, Answer::Fail(Fault::ExpectTimeout { step: 1, .. })));
    assert_eq!(flags(&outcome), NEITHER);
    assert!(outcome.took < Duration::from_millis(1450), "{:?}", outcome.took);
    assert_eq!(outcome.phase, Some(Phase::Processing));
}

#[tokio::test]
async fn a_line_has_a_bound() {
    let peer =
        Peer::new(
            |mut stream| async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} },
        )
        .await;
    let outcome = probe(dialogue(json!([{"expect": "y"}])), peer.address.to_string()).await;
    assert_eq!(reason(&outcome), "protocol_error");
    assert_eq!(flags(&outcome), NEITHER);
}

#[tokio::test]
async fn bytes_are_awaited_in_full() {
    let pieces = Peer::new(|mut stream| async move {
        stream.set_nodelay(true).ok();
        for piece in [&b"banner\nHE"[..], b"LL", b"O"] {
            stream.write_all(piece).await.ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        linger(&mut stream).await;
    })
    .await;
    // The bytes behind the line were read ahead with it, and are not lost.
    let steps = json!([{"expect": "^banner$"}, {"expect_bytes": "HELLO"}]);
    let outcome = probe(dialogue(steps), pieces.address.to_string()).await;
    assert_eq!(outcome.answer, Answer::Pass);

    let outcome = say(b"HELPO", json!([{"expect_bytes": "HELLO"}])).await;
    assert_eq!(reason(&outcome), "expect_mismatch");
    assert_eq!(flags(&outcome), (Some(0.0), Some(1.0)));
    let outcome = say(b"HEL", json!([{"expect_bytes": "HELLO"}])).await;
    assert_eq!((reason(&outcome), flags(&outcome)), ("expect_timeout", NEITHER));
    let outcome = say(b"NO", json!([{"expect_bytes": "HELLO"}])).await;
    assert_eq!((reason(&outcome), flags(&outcome)), ("expect_mismatch", NEITHER));
    let outcome = say_and_go(b"HEL", json!([{"expect_bytes": "HELLO"}])).await;
    assert_eq!((reason(&outcome), flags(&outcome)), ("connection_closed", NEITHER));
}

fn encrypted(ca: &str, steps: Value) -> Value {
    let mut spec = dialogue(steps);
    spec["timeout"] = "5s".into();
    spec["tcp"]["tls"] = true.into();
    spec["tcp"]["tls_config"] = json!({"ca": ca});
    spec
}

#[tokio::test]
async fn tls_comes_with_upstream_s_metrics() {
    let root = Authority::root("root");
    let peer = Peer::tls(Tls::new(root.leaf(&Leaf::default()))).await;
    let steps = json!([{"send": "echo"}, {"expect": "^echo$"}]);
    let outcome = probe(encrypted(&root.pem(), steps.clone()), peer.by_name()).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert_eq!(flags(&outcome), NEITHER);
    assert_eq!(labels(&outcome, &family::PROBE_TLS_VERSION_INFO, "version"), ["TLS 1.3"]);
    assert!(has(&outcome, &family::PROBE_SSL_LAST_CHAIN_INFO));
    assert!(!has(&outcome, &family::PROBE_TLS_CIPHER_INFO));
    assert!(!has(&outcome, &family::PROBE_SSL_CERT_INFO));

    // The address is not in the certificate; the parameter `hostname` names what is.
    let target = peer.address.to_string();
    let outcome = probe(encrypted(&root.pem(), steps.clone()), target.clone()).await;
    assert_eq!(reason(&outcome), "cert_name_mismatch");
    assert_eq!(flags(&outcome), (None, None));
    assert!(has(&outcome, &family::PROBE_SSL_CERT_NOT_AFTER));
    let outcome = probe_as(encrypted(&root.pem(), steps), target, "localhost").await;
    assert_eq!(outcome.answer, Answer::Pass);
}

#[tokio::test]
async fn missing_files_are_found_before_anybody_is_asked() {
    let peer = Peer::saying(b"").await;
    let mut spec = encrypted("", json!([]));
    spec["tcp"]["tls_config"] = json!({"ca_file": "/does/not/exist"});
    let outcome = probe(spec, peer.by_name()).await;
    assert_eq!(reason(&outcome), "setup");
    assert!(has(&outcome, &family::PROBE_IP_PROTOCOL));
    assert_eq!(flags(&outcome), (None, None));
    assert_eq!(peer.accepted(), 0);
}

#[tokio::test]
async fn a_mail_dialogue_upgrades_in_its_middle() {
    let root = Authority::root("root");
    let acceptor = Tls::new(root.leaf(&Leaf::default())).acceptor();
    let peer = Peer::new(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            stream.write_all(b"220 mx ready\r\n").await.ok();
            let mut hello = [0; 12];
            stream.read_exact(&mut hello).await.ok();
            stream.write_all(b"250-mx\r\n250-STARTTLS\r\n250 HELP\r\n").await.ok();
            let mut start = [0; 9];
            stream.read_exact(&mut start).await.ok();
            stream.write_all(b"220 go\r\n").await.ok();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                linger(&mut stream).await;
            }
        }
    })
    .await;
    let mut spec = dialogue(json!([
        {"expect": "^220 ([^ ]+) ready$"},
        {"send": "EHLO prober"},
        {"expect": "^250-STARTTLS"},
        {"send": "STARTTLS"},
        {"expect": "^220"},
        {"starttls": true},
        {"send": "QUIT"},
        {"expect": "^QUIT$"},
    ]));
    spec["tcp"]["tls_config"] = json!({"ca": root.pem()});
    let outcome = probe(spec.clone(), peer.by_name()).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    let phases: Vec<Phase> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, [Phase::Resolve, Phase::Connect, Phase::Processing, Phase::Tls]);

    spec["tcp"]["tls_config"] = json!({"ca": Authority::root("other").pem()});
    let outcome = probe(spec, peer.by_name()).await;
    assert_eq!((reason(&outcome), outcome.phase), ("cert_untrusted", Some(Phase::Tls)));
    assert!(has(&outcome, &family::PROBE_SSL_CERT_NOT_AFTER));
}

#[test]
fn modules_that_made_upstream_panic_are_refused() {
    let spec =
        json!({"prober": "tcp", "tcp": {"tls": true, "query_response": [{"starttls": true}]}});
    let found = mistakes(spec);
    assert_eq!(found[0].key, "tcp.query_response");
    assert!(!found[0].warning);
}
