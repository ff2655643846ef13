//! The prober `dns` against servers that misbehave.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData};
use serde_json::json;
use watchpost::model::{Outcome, Phase, family};

use crate::support::dns::{NameServer, Say, answer, bytes, framed, module, probe, reply};

const PATIENT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(300);

fn localhost() -> RData {
    RData::A(A(Ipv4Addr::LOCALHOST))
}

fn right(query: &Message) -> Vec<u8> {
    bytes(&answer(query, [localhost()]))
}

/// Asks a server that says `say` over UDP.
async fn ask(say: impl Say, timeout: Duration) -> Outcome {
    let server = NameServer::udp(say).await;
    probe(&module(json!({})), &server.address.to_string(), timeout).await
}

fn assert_always_there(outcome: &Outcome) {
    for phase in [Phase::Resolve, Phase::Connect, Phase::Request] {
        assert!(outcome.phase_took(phase).is_some(), "{phase:?}");
    }
    for family in [
        &family::PROBE_DNS_ANSWER_RRS,
        &family::PROBE_DNS_AUTHORITY_RRS,
        &family::PROBE_DNS_ADDITIONAL_RRS,
        &family::PROBE_DNS_QUERY_SUCCEEDED,
    ] {
        assert!(outcome.fact(family).is_some(), "{}", family.name);
    }
}

#[track_caller]
fn assert_reason(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.answer.reason(), Some(reason), "{}", outcome.answer);
    assert_always_there(outcome);
}

#[tokio::test]
async fn a_right_answer_passes_and_is_counted() {
    let outcome = ask(|query| vec![right(query)], PATIENT).await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
    assert_always_there(&outcome);
    assert_eq!(outcome.fact(&family::PROBE_DNS_ANSWER_RRS), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_DNS_QUERY_SUCCEEDED), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), Some(0.0));
    assert_eq!(outcome.fact(&family::PROBE_DNS_SERIAL), None, "only for SOA");
    assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(4.0));
    let rcode = outcome.facts.iter().find(|f| f.is(&family::PROBE_DNS_RCODE_INFO)).unwrap();
    assert_eq!(rcode.label_pairs(), [("rcode", "NOERROR")]);
}

#[tokio::test]
async fn the_query_is_blackbox_s() {
    let server = NameServer::udp(|query| {
        assert!(query.metadata.recursion_desired && query.edns.is_none());
        assert!(!query.metadata.checking_disabled && !query.metadata.authentic_data);
        assert_eq!(query.queries.len(), 1);
        let question = &query.queries[0];
        assert_eq!(question.name().to_ascii(), "Www.Example.");
        assert_eq!(u16::from(question.query_type()), 255);
        assert_eq!(u16::from(question.query_class()), 3);
        vec![bytes(&reply(query, ResponseCode::NoError))]
    })
    .await;
    let keys = json!({ "query_name": "Www.Example", "query_type": "", "query_class": "CH" });
    let outcome = probe(&module(keys), &server.address.to_string(), PATIENT).await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
}

#[tokio::test]
async fn recursion_can_be_declined() {
    let server = NameServer::udp(|query| {
        let code = if query.metadata.recursion_desired { 0 } else { 5 };
        vec![bytes(&reply(query, ResponseCode::from(0, code)))]
    })
    .await;
    let module = module(json!({ "recursion_desired": false }));
    let outcome = probe(&module, &server.address.to_string(), PATIENT).await;
    assert_reason(&outcome, "dns_refused");
}

#[tokio::test]
async fn silence_is_a_timeout_within_the_budget() {
    let outcome = ask(|_| Vec::new(), SHORT).await;
    assert_reason(&outcome, "dns_timeout");
    assert_eq!(outcome.phase, Some(Phase::Request));
    assert!(outcome.took >= SHORT && outcome.took < SHORT * 3, "{:?}", outcome.took);
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), None);
}

#[tokio::test]
async fn a_closed_port_is_refused_at_once() {
    let server = NameServer::udp(|_| Vec::new()).await;
    let address = server.address.to_string();
    drop(server);
    // The task that holds the socket ends after the drop; until then the port is silent and not closed.
    for _ in 0..20 {
        let outcome = probe(&module(json!({})), &address, SHORT).await;
        if outcome.answer.reason() == Some("connect_refused") {
            return assert_always_there(&outcome);
        }
    }
    panic!("never refused");
}

#[tokio::test]
async fn replies_to_others_are_skipped() {
    let outcome = ask(
        |query| {
            let mut other_id = query.clone();
            other_id.metadata.id ^= 0x55;
            let mut other_name = answer(query, [localhost()]);
            other_name.queries[0].set_name(Name::from_ascii("b.example.").unwrap());
            vec![right(&other_id), bytes(&other_name), Vec::new(), vec![1], right(query)]
        },
        PATIENT,
    )
    .await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
}

#[tokio::test]
async fn only_replies_to_others_are_no_answer() {
    let wrong_id = |query: &Message| {
        let mut other = query.clone();
        other.metadata.id ^= 1;
        vec![right(&other)]
    };
    let outcome = ask(wrong_id, SHORT).await;
    assert_reason(&outcome, "dns_malformed");
    assert!(outcome.took >= SHORT, "waited for the right one: {:?}", outcome.took);
    let wrong_question = |query: &Message| {
        let mut other = answer(query, [localhost()]);
        other.queries[0].set_query_type(hickory_proto::rr::RecordType::AAAA);
        vec![bytes(&other)]
    };
    let outcome = ask(wrong_question, SHORT).await;
    assert_reason(&outcome, "dns_malformed");
}

#[tokio::test]
async fn garbage_under_our_id_is_malformed() {
    let outcome = ask(
        |query| {
            let mut garbage = right(query);
            // Five answers are announced, one and a half are there.
            garbage[7] = 5;
            garbage.extend_from_slice(b"\xc0\x0c\x00");
            vec![garbage]
        },
        PATIENT,
    )
    .await;
    assert_reason(&outcome, "dns_malformed");
    assert_eq!(outcome.fact(&family::PROBE_DNS_QUERY_SUCCEEDED), Some(0.0));
    let outcome = ask(|query| vec![bytes(query)], PATIENT).await;
    assert_reason(&outcome, "dns_malformed");
    assert!(outcome.answer.to_string().contains("our own query"), "{}", outcome.answer);
    let outcome = ask(|query| vec![right(query)[..7].to_vec()], PATIENT).await;
    assert_reason(&outcome, "dns_malformed");
}

#[tokio::test]
async fn every_response_code_has_its_reason() {
    for (code, reason) in (1..=15_u8).map(|code| match code {
        2 => (code, "dns_servfail"),
        3 => (code, "dns_nxdomain"),
        5 => (code, "dns_refused"),
        _ => (code, "dns_rcode"),
    }) {
        let say = move |query: &Message| vec![bytes(&reply(query, ResponseCode::from(0, code)))];
        let outcome = ask(say, PATIENT).await;
        assert_reason(&outcome, reason);
        assert_eq!(outcome.fact(&family::PROBE_DNS_QUERY_SUCCEEDED), Some(1.0), "{code}");
    }
    let outcome = ask(|q| vec![bytes(&reply(q, ResponseCode::NotImp))], PATIENT).await;
    assert_eq!(outcome.answer.to_string(), "server answered NOTIMP");
}

#[tokio::test]
async fn listed_codes_pass_and_others_do_not() {
    let say = |query: &Message| vec![bytes(&reply(query, ResponseCode::NXDomain))];
    let server = NameServer::udp(say).await;
    let target = server.address.to_string();
    let listed = module(json!({ "valid_rcodes": ["SERVFAIL", "NXDOMAIN"] }));
    assert!(probe(&listed, &target, PATIENT).await.answer.is_success());
    let none = module(json!({ "valid_rcodes": [] }));
    assert_reason(&probe(&none, &target, PATIENT).await, "dns_nxdomain");
    let unknown = module(json!({ "valid_rcodes": ["NXDOMAIN", "nope"] }));
    let outcome = probe(&unknown, &target, PATIENT).await;
    assert_reason(&outcome, "setup");
    let succeeded = outcome.fact(&family::PROBE_DNS_QUERY_SUCCEEDED);
    assert_eq!(succeeded, Some(1.0), "noticed with an answer at hand, as upstream does");
}

#[tokio::test]
async fn no_error_that_is_not_listed_fails() {
    let server = NameServer::udp(|query| vec![right(query)]).await;
    let module = module(json!({ "valid_rcodes": ["NXDOMAIN"] }));
    let outcome = probe(&module, &server.address.to_string(), PATIENT).await;
    assert_reason(&outcome, "dns_rcode");
}

#[tokio::test]
async fn large_datagrams_are_taken() {
    let outcome = ask(
        |query| {
            let text = || RData::TXT(TXT::new(vec!["x".repeat(250)]));
            vec![bytes(&answer(query, (0..100).map(|_| text())))]
        },
        PATIENT,
    )
    .await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_DNS_ANSWER_RRS), Some(100.0));
}

fn truncated(query: &Message) -> Vec<Vec<u8>> {
    let mut short = reply(query, ResponseCode::NoError);
    short.metadata.truncation = true;
    vec![bytes(&short)]
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = NameServer::both(truncated, |query| vec![framed(&right(query))]).await;
    let outcome = probe(&module(json!({})), &server.address.to_string(), PATIENT).await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_DNS_ANSWER_RRS), Some(1.0));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_truncated_answer_without_tcp_is_its_own_reason() {
    let outcome = ask(truncated, PATIENT).await;
    assert_reason(&outcome, "dns_truncated");
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), Some(1.0));
    let server = NameServer::both(truncated, |_| Vec::new()).await;
    let outcome = probe(&module(json!({})), &server.address.to_string(), SHORT).await;
    assert_reason(&outcome, "dns_truncated");
}

/// Asks a server that says `say` over TCP.
async fn ask_tcp(say: impl Say, timeout: Duration) -> Outcome {
    let server = NameServer::tcp(say).await;
    let module = module(json!({ "transport_protocol": "tcp" }));
    probe(&module, &server.address.to_string(), timeout).await
}

#[tokio::test]
async fn tcp_answers_may_come_in_pieces() {
    let outcome = ask_tcp(
        |query| {
            let whole = framed(&right(query));
            let (head, rest) = whole.split_at(1);
            vec![head.to_vec(), rest.to_vec()]
        },
        PATIENT,
    )
    .await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
    assert_always_there(&outcome);
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), None, "only over UDP");
}

#[tokio::test]
async fn tcp_fails_in_its_own_ways() {
    assert_reason(&ask_tcp(|_| Vec::new(), SHORT).await, "dns_timeout");
    let cut = |query: &Message| {
        let whole = framed(&right(query));
        vec![whole[..whole.len() - 3].to_vec()]
    };
    assert_reason(&ask_tcp(cut, PATIENT).await, "connection_closed");
    let wrong_id = |query: &Message| {
        let mut other = query.clone();
        other.metadata.id ^= 1;
        vec![framed(&right(&other))]
    };
    assert_reason(&ask_tcp(wrong_id, PATIENT).await, "dns_malformed");
    assert_reason(&ask_tcp(|_| vec![framed(&[])], PATIENT).await, "dns_malformed");
    let still_truncated = |query: &Message| truncated(query).iter().map(|m| framed(m)).collect();
    assert_reason(&ask_tcp(still_truncated, PATIENT).await, "dns_truncated");
    let udp_only = NameServer::udp(|query| vec![right(query)]).await;
    let module = module(json!({ "transport_protocol": "tcp" }));
    let outcome = probe(&module, &udp_only.address.to_string(), PATIENT).await;
    assert_reason(&outcome, "connect_refused");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_fails_the_handshake() {
    let server = NameServer::tcp(|query| vec![framed(&right(query))]).await;
    let module = module(json!({ "transport_protocol": "tcp", "dns_over_tls": true }));
    let outcome = probe(&module, &server.address.to_string(), SHORT).await;
    assert_eq!(outcome.phase, Some(Phase::Tls), "{}", outcome.answer);
    assert!(!outcome.answer.is_success());
    assert_always_there(&outcome);
}

#[tokio::test]
async fn the_serial_is_the_last_one_of_the_answer() {
    let server = NameServer::udp(|query| {
        let soa = |serial| RData::SOA(SOA::new(Name::root(), Name::root(), serial, 1, 2, 3, 4));
        vec![bytes(&answer(query, [soa(7), soa(4_000_000_000)]))]
    })
    .await;
    let module = module(json!({ "query_type": "SOA" }));
    let outcome = probe(&module, &server.address.to_string(), PATIENT).await;
    assert_eq!(outcome.fact(&family::PROBE_DNS_SERIAL), Some(4e9));
}

#[tokio::test]
async fn records_are_held_against_the_rules() {
    let server = NameServer::udp(|query| vec![right(query)]).await;
    let target = server.address.to_string();
    let with = |keys| {
        let target = target.clone();
        async move { probe(&module(keys), &target, PATIENT).await }
    };
    let full = r"^a\.example\.\t60\tIN\tA\t127\.0\.0\.1$";
    let good = with(json!({ "validate_answer_rrs": { "fail_if_not_matches_regexp": [full] } }));
    let good = good.await;
    assert!(good.answer.is_success(), "{}", good.answer);
    let bad = with(json!({ "validate_answer_rrs": { "fail_if_matches_regexp": ["127"] } })).await;
    assert_reason(&bad, "dns_records");
    assert!(bad.answer.to_string().contains("answer section"), "{}", bad.answer);
    assert_eq!(bad.fact(&family::PROBE_DNS_QUERY_SUCCEEDED), Some(1.0));
    let none = json!({ "validate_additional_rrs": { "fail_if_none_matches_regexp": ["."] } });
    assert_reason(&with(none).await, "dns_records");
}

#[tokio::test]
async fn the_source_address_is_used_or_its_absence_is_ours() {
    let server = NameServer::udp(|query| vec![right(query)]).await;
    let target = server.address.to_string();
    let ours = module(json!({ "source_ip_address": "127.0.0.2" }));
    assert!(probe(&ours, &target, PATIENT).await.answer.is_success());
    for foreign in ["192.0.2.1", "::1", "nonsense"] {
        for transport in ["udp", "tcp"] {
            let module =
                module(json!({ "source_ip_address": foreign, "transport_protocol": transport }));
            assert_reason(&probe(&module, &target, PATIENT).await, "source_address");
        }
    }
}

#[tokio::test]
async fn ipv6_servers_are_asked_with_and_without_fallback() {
    let server = NameServer::udp_at("::1".parse().unwrap(), |query| vec![right(query)]).await;
    let target = server.address.to_string();
    let outcome = probe(&module(json!({})), &target, PATIENT).await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(6.0));
    let four = module(json!({ "preferred_ip_protocol": "ip4", "ip_protocol_fallback": false }));
    let outcome = probe(&four, &target, PATIENT).await;
    assert_reason(&outcome, "resolve_no_address");
    assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(0.0));
}

#[tokio::test]
async fn a_target_without_a_server_is_ours() {
    for target in ["", ":53", "127.0.0.1:", "127.0.0.1:x"] {
        let outcome = probe(&module(json!({})), target, SHORT).await;
        assert_reason(&outcome, "setup");
        assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), None);
    }
}

/// The bound of the design is 2.5 times a bare exchange, in CPU; a debug build and other load are far from that, so this
/// only notices when something grows by an order of magnitude.
#[tokio::test]
async fn a_thousand_exchanges_are_cheap() {
    let server = NameServer::udp(|query| vec![right(query)]).await;
    let module = module(json!({}));
    let target = server.address.to_string();
    let began = tokio::time::Instant::now();
    for _ in 0..1000 {
        assert!(probe(&module, &target, PATIENT).await.answer.is_success());
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(server.asked(), 1000);
}
