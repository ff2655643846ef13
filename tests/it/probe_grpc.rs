//! The prober `grpc`: health services that serve, do not, do not know, answer late, wrongly or not at all.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use watchpost::model::{Authorization, Outcome, Phase, Secret, Target, family};

use super::support::certs::{Authority, Leaf};
use super::support::grpc::{Answer, Health};
use super::support::peer::{Peer, Tls};
use super::support::run::{has, labels, mistakes, module, probe, reason, run};

const SERVING: u8 = 1;

fn grpc(block: Value) -> Value {
    json!({"prober": "grpc", "timeout": "1s", "grpc": block})
}

fn code(outcome: &Outcome) -> Option<f64> {
    outcome.fact(&family::PROBE_GRPC_STATUS_CODE)
}

/// The states that are 1, and how many there are.
fn states(outcome: &Outcome) -> (Vec<String>, usize) {
    let all: Vec<_> = outcome
        .facts
        .iter()
        .filter(|fact| fact.is(&family::PROBE_GRPC_HEALTHCHECK_RESPONSE))
        .collect();
    let on = all.iter().filter(|fact| fact.value > 0.0);
    let on = on.map(|fact| fact.label_pairs()[0].1.to_owned()).collect();
    (on, all.len())
}

fn phases(outcome: &Outcome) -> Vec<Phase> {
    outcome.phases.iter().map(|(phase, _)| *phase).collect()
}

async fn answered(answer: Answer) -> Outcome {
    let health = Health::new(answer).await;
    probe(grpc(json!({})), health.peer.address.to_string()).await
}

#[tokio::test]
async fn a_server_that_serves_passes_on_both_families() {
    for (bind, protocol) in [("127.0.0.1:0", 4.0), ("[::1]:0", 6.0)] {
        let health = Health::at(bind, None, Answer::serving(SERVING)).await;
        let target = health.peer.address.to_string();
        let outcome = probe(grpc(json!({})), target.clone()).await;
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(protocol));
        assert_eq!((code(&outcome), outcome.fact(&family::PROBE_GRPC_SSL)), (Some(0.0), Some(0.0)));
        assert_eq!(states(&outcome), (vec!["SERVING".to_owned()], 4));
        assert_eq!(phases(&outcome), [Phase::Resolve, Phase::Check]);
        assert!(!has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
        let call = health.last();
        assert_eq!(call.path, "/grpc.health.v1.Health/Check");
        assert_eq!((call.authority, &call.body[..]), (target, &[0_u8; 5][..]));
        assert_eq!(call.headers["te"], "trailers");
        assert_eq!(call.headers["content-type"], "application/grpc");
        assert!(call.headers["user-agent"].to_str().unwrap().starts_with("watchpost/"));
        assert!(call.headers["grpc-timeout"].to_str().unwrap().ends_with('m'));
    }
}

#[tokio::test]
async fn the_preferred_family_is_the_one_that_is_asked() {
    let health = Health::new(Answer::serving(SERVING)).await;
    let target = health.peer.by_name();
    let outcome = probe(grpc(json!({"preferred_ip_protocol": "ip4"})), target.clone()).await;
    assert_eq!(reason(&outcome), "pass");
    assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(4.0));
    // The server is not on ::1; some systems have no such address for the name. What is reported is what was asked.
    let outcome = probe(grpc(json!({})), target).await;
    let wanted = match outcome.fact(&family::PROBE_IP_PROTOCOL) {
        Some(4.0) => ("pass", Some(0.0)),
        _ => ("connect_refused", Some(14.0)),
    };
    assert_eq!((reason(&outcome), code(&outcome)), wanted);
}

#[tokio::test]
async fn metadata_service_and_the_targets_own_are_sent() {
    let health = Health::new(Answer::serving(SERVING)).await;
    let spec = grpc(json!({"service": "shop", "source_ip_address": "127.0.0.2", "metadata": {
        "x-twice": ["a", "b"], "token-bin": ["\u{1}\u{2}"], "authorization": ["Bearer module"],
    }}));
    let target = Target {
        hostname: Some("shop.example".into()),
        headers: [("X-Own".to_owned(), Secret::new("mine".into()))].into(),
        authorization: Some(Authorization {
            scheme: "Bearer".into(),
            credentials: Some(Secret::new("target".into())),
            credentials_file: None,
        }),
        ..Target::plain(health.peer.address.to_string())
    };
    let outcome = run(&module(spec), &target).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    let call = health.last();
    assert_eq!(&call.body[..], b"\0\0\0\0\x06\x0a\x04shop");
    assert_eq!(call.authority, "shop.example");
    let twice: Vec<_> = call.headers.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["a", "b"]);
    assert_eq!(call.headers["token-bin"], "AQI");
    assert_eq!(call.headers["authorization"], "Bearer target");
    assert_eq!(call.headers["x-own"], "mine");
}

#[tokio::test]
async fn states_that_are_not_serving_fail_with_code_0() {
    for (number, state) in [(0, "UNKNOWN"), (2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN")] {
        let outcome = answered(Answer::serving(number)).await;
        assert_eq!((reason(&outcome), code(&outcome)), ("grpc_not_serving", Some(0.0)));
        assert_eq!(states(&outcome), (vec![state.to_owned()], 4));
        assert_eq!(outcome.phase, Some(Phase::Check));
    }
    let outcome = answered(Answer::serving(9)).await;
    assert_eq!((reason(&outcome), states(&outcome)), ("grpc_not_serving", (vec![], 4)));
}

#[tokio::test]
async fn calls_that_end_badly_keep_their_code() {
    for (text, number) in [("5", 5.0), ("12", 12.0), ("16", 16.0)] {
        let outcome = answered(Answer::failing(text, "unknown%20service")).await;
        assert_eq!((reason(&outcome), code(&outcome)), ("grpc_status", Some(number)));
        assert_eq!(states(&outcome), (vec![], 4));
        assert_eq!(outcome.answer.to_string(), format!("gRPC status {text}: unknown service"));
    }
}

#[tokio::test]
async fn what_does_not_speak_grpc_is_told_apart() {
    let web = Answer { content_type: Some("text/html"), ..Answer::serving(SERVING) };
    let outcome = answered(web).await;
    assert_eq!((reason(&outcome), code(&outcome)), ("protocol_error", Some(2.0)));
    for (http, fault, number) in [(401, "auth_refused", 16.0), (503, "http_status", 14.0)] {
        let outcome = answered(Answer { http: Some(http), ..Answer::default() }).await;
        assert_eq!((reason(&outcome), code(&outcome)), (fault, Some(number)), "{http}");
    }
    let no_status = Answer { trailers: Vec::new(), ..Answer::serving(SERVING) };
    let outcome = answered(no_status).await;
    assert_eq!((reason(&outcome), code(&outcome)), ("protocol_error", Some(13.0)));
    let huge = Answer { body: vec![0; 1 << 20], ..Answer::serving(SERVING) };
    let outcome = answered(huge).await;
    assert_eq!((reason(&outcome), code(&outcome)), ("body_too_large", Some(8.0)));
}

#[tokio::test]
async fn the_deadline_holds_for_late_answers_and_for_silence() {
    let late = Health::new(Answer { after: Duration::from_secs(5), ..Answer::serving(1) }).await;
    let silent = Peer::new(|mut stream| async move {
        let mut ignored = [0; 4096];
        while let Ok(1..) = stream.read(&mut ignored).await {}
    })
    .await;
    for address in [late.peer.address, silent.address] {
        let outcome = probe(grpc(json!({})), address.to_string()).await;
        assert_eq!((reason(&outcome), code(&outcome)), ("no_response", Some(4.0)));
        assert!(outcome.took < Duration::from_millis(1400), "{:?}", outcome.took);
        assert_eq!(states(&outcome), (vec![], 4));
    }
}

#[tokio::test]
async fn servers_that_hang_up_or_greet_are_unavailable() {
    let rude = Peer::new(|_| async {}).await;
    let ssh = Peer::saying(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    for peer in [rude, ssh] {
        let outcome = probe(grpc(json!({})), peer.address.to_string()).await;
        assert!(outcome.answer.fault().is_some(), "{}", outcome.answer);
        assert_eq!(code(&outcome), Some(14.0), "{}", outcome.answer);
    }
}

fn tls_server(authority: &Authority, names: &[&str]) -> Tls {
    let shown = authority.leaf(&Leaf { names, ..Leaf::default() });
    Tls { alpn: vec![b"h2"], ..Tls::new(shown) }
}

#[tokio::test]
async fn tls_is_told_of_when_the_call_went_well() {
    let authority = Authority::root("root");
    let server = tls_server(&authority, &["localhost"]);
    let health = Health::at("127.0.0.1:0", Some(server), Answer::serving(SERVING)).await;
    let config = json!({"ca": authority.pem()});
    let spec = json!({"tls": true, "tls_config": config, "preferred_ip_protocol": "ip4"});
    let outcome = probe(grpc(spec), health.peer.by_name()).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_GRPC_SSL), Some(1.0));
    assert_eq!(labels(&outcome, &family::PROBE_TLS_VERSION_INFO, "version"), ["TLS 1.3"]);
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert!(has(&outcome, &family::PROBE_SSL_LAST_CHAIN_INFO));
    assert!(!has(&outcome, &family::PROBE_SSL_LAST_CHAIN_EXPIRY));
}

#[tokio::test]
async fn a_refused_certificate_is_told_of() {
    let authority = Authority::root("root");
    let server = tls_server(&authority, &["other.example"]);
    let health = Health::at("127.0.0.1:0", Some(server), Answer::serving(SERVING)).await;
    let spec = json!({"tls": true, "tls_config": {"ca": authority.pem()}});
    let outcome = probe(grpc(spec), health.peer.address.to_string()).await;
    assert_eq!((reason(&outcome), code(&outcome)), ("cert_name_mismatch", Some(14.0)));
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert_eq!(outcome.fact(&family::PROBE_GRPC_SSL), Some(0.0));
}

#[tokio::test]
async fn tls_to_a_plain_server_is_code_14() {
    let health = Health::new(Answer::serving(SERVING)).await;
    let spec = json!({"tls": true, "tls_config": {"insecure_skip_verify": true}});
    let outcome = probe(grpc(spec), health.peer.address.to_string()).await;
    assert_eq!(code(&outcome), Some(14.0), "{}", outcome.answer);
    assert_eq!(reason(&outcome), "tls_handshake");
    for absent in [
        &family::PROBE_SSL_EARLIEST_CERT_EXPIRY,
        &family::PROBE_TLS_VERSION_INFO,
        &family::PROBE_SSL_LAST_CHAIN_INFO,
    ] {
        assert!(!has(&outcome, absent), "{}", absent.name);
    }
}

#[tokio::test]
async fn what_never_came_to_a_call_has_fewer_facts() {
    let outcome = probe(grpc(json!({})), "no:port").await;
    assert_eq!((reason(&outcome), code(&outcome)), ("setup", Some(0.0)));
    assert_eq!(phases(&outcome), [Phase::Resolve]);
    assert!(!has(&outcome, &family::PROBE_IP_PROTOCOL));
    assert_eq!(states(&outcome), (vec![], 0));
    let missing = json!({"tls_config": {"ca_file": "/nonexistent/ca.pem"}});
    let outcome = probe(grpc(missing), "127.0.0.1:1").await;
    assert_eq!(reason(&outcome), "setup");
    assert!(!has(&outcome, &family::PROBE_IP_PROTOCOL));
    let upper = json!({"metadata": {"Upper": ["x"]}});
    assert!(mistakes(grpc(upper.clone())).iter().all(|mistake| mistake.warning));
    let outcome = probe(grpc(upper), "127.0.0.1:1").await;
    assert_eq!((reason(&outcome), code(&outcome)), ("setup", Some(13.0)));
}
