//! What modules can do beyond blackbox_exporter's: retries, a resolver of their own, source addresses, DNS flags; and
//! facts of certificates that are refused, for every prober that speaks TLS.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::{RData, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use watchpost::model::{Outcome, Phase, family};

use super::support::certs::{Authority, Leaf};
use super::support::dns::{self, NameServer, answer, bytes, framed, reply};
use super::support::peer::{Peer, Tls};
use super::support::run::{has, labels, mistakes, probe, reason};
use super::support::watchpost::PATIENCE;
use super::support::web::{Web, ok, response};

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Deals with the first connections as `bad` says (hang, or close), and answers the others.
async fn moody(bad: usize, hang: bool) -> Peer {
    let seen = Arc::new(AtomicUsize::new(0));
    Peer::new(move |mut stream| {
        let turn = seen.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut asked = [0; 1024];
            if !matches!(stream.read(&mut asked).await, Ok(1..)) {
                return;
            }
            if turn >= bad {
                stream.write_all(PAGE).await.ok();
            } else if hang {
                std::future::pending::<()>().await;
            }
        }
    })
    .await
}

fn attempts(outcome: &Outcome) -> Option<f64> {
    outcome.fact(&family::PROBE_ATTEMPTS)
}

#[tokio::test]
async fn a_retry_passes_and_tells_what_it_took() {
    let peer = moody(2, false).await;
    let spec = json!({"prober": "http", "retries": 3, "retry_backoff": "20ms"});
    let outcome = probe(spec, peer.address.to_string()).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!((attempts(&outcome), peer.accepted()), (Some(3.0), 3));
    assert_eq!(outcome.fact(&family::PROBE_ATTEMPT_FAILURES), Some(2.0));
    let reasons = labels(&outcome, &family::PROBE_ATTEMPT_FAILURES, "reason");
    assert_eq!(reasons, ["connection_closed"]);
    assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(200.0));
    // 20 and 40 ms of waiting are part of the run.
    assert!(outcome.took >= Duration::from_millis(60), "{:?}", outcome.took);
}

#[tokio::test]
async fn the_last_attempts_fault_is_the_runs() {
    let peer = moody(usize::MAX, false).await;
    let spec = json!({"prober": "http", "retries": 2, "retry_backoff": "1ms"});
    let outcome = probe(spec, peer.address.to_string()).await;
    assert_eq!(reason(&outcome), "connection_closed", "{}", outcome.answer);
    assert_eq!((attempts(&outcome), peer.accepted()), (Some(3.0), 3));
    assert_eq!(outcome.fact(&family::PROBE_ATTEMPT_FAILURES), Some(3.0));
}

#[tokio::test]
async fn an_attempt_that_hangs_is_cut_so_that_there_is_another() {
    let peer = moody(1, true).await;
    let spec = json!({
        "prober": "http", "timeout": "20s", "retries": 1, "attempt_timeout": "500ms",
    });
    let outcome = probe(spec, peer.address.to_string()).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(labels(&outcome, &family::PROBE_ATTEMPT_FAILURES, "reason"), ["no_response"]);
    // Without a bound of its own an attempt takes all the time there is, and the run is not longer for it.
    let peer = moody(1, true).await;
    let spec = json!({"prober": "http", "timeout": "400ms", "retries": 5});
    let outcome = probe(spec, peer.address.to_string()).await;
    assert_eq!((reason(&outcome), attempts(&outcome)), ("no_response", Some(1.0)));
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

#[tokio::test]
async fn what_we_cannot_ask_is_not_asked_again() {
    let spec = json!({"prober": "tcp", "retries": 3, "tcp": {"source_ip_address": "192.0.2.1"}});
    let outcome = probe(spec, "127.0.0.1:9").await;
    assert_eq!((reason(&outcome), attempts(&outcome)), ("source_address", Some(1.0)));
    assert!(!has(&outcome, &family::PROBE_ATTEMPT_FAILURES));
    let outcome = probe(json!({"prober": "tcp"}), "127.0.0.1:nowhere").await;
    assert_eq!(attempts(&outcome), None, "only where a module has retries");
    let keys = |spec: Value| -> Vec<_> {
        mistakes(spec).into_iter().map(|mistake| (mistake.key, mistake.warning)).collect()
    };
    assert_eq!(keys(json!({"prober": "tcp", "retries": 11})), [("retries".into(), false)]);
    let lonely = json!({"prober": "tcp", "attempt_timeout": "1s"});
    assert_eq!(keys(lonely), [("attempt_timeout".into(), true)]);
}

/// Knows every name, at 127.0.0.1.
async fn name_server() -> NameServer {
    NameServer::udp(|query| {
        let known = query.queries[0].query_type() == RecordType::A;
        let data = known.then(|| RData::A(A::new(127, 0, 0, 1)));
        vec![bytes(&answer(query, data))]
    })
    .await
}

fn resolved_by(server: &NameServer, mut spec: Value) -> Value {
    spec["resolver"] = json!({"servers": [server.address.to_string()], "timeout": "1s"});
    spec
}

#[tokio::test]
async fn a_modules_resolver_is_asked_for_every_prober() {
    let server = name_server().await;
    let peer = moody(0, false).await;
    let port = peer.port();
    let rows = [
        (json!({"prober": "tcp"}), format!("a.test:{port}")),
        (json!({"prober": "http"}), format!("http://a.test:{port}/")),
        (json!({"prober": "exporter"}), format!("http://a.test:{port}/")),
        (json!({"prober": "tls"}), format!("a.test:{port}")),
        (json!({"prober": "grpc"}), format!("a.test:{port}")),
        (json!({"prober": "websocket"}), format!("ws://a.test:{port}/")),
        (json!({"prober": "udp"}), "a.test:9".to_owned()),
        (json!({"prober": "icmp"}), "a.test".to_owned()),
        (json!({"prober": "dns", "dns": {"query_name": "b.test"}}), server.address.to_string()),
        (
            json!({"prober": "dns", "dns": {"query_name": "b.test"}}),
            format!("a.test:{}", server.address.port()),
        ),
    ];
    for (spec, target) in rows {
        let prober = spec["prober"].clone();
        let before = server.asked();
        let outcome = probe(resolved_by(&server, spec), target.clone()).await;
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(outcome.address, Some(loopback), "{prober} {target}: {}", outcome.answer);
        assert!(server.asked() > before, "{prober} {target}");
    }
}

#[tokio::test]
async fn redirects_are_resolved_by_it_and_its_failures_are_told_as_the_systems() {
    let server = name_server().await;
    let there = Web::saying(ok("here")).await;
    let location = format!("Location: http://b.test:{}/", there.peer.port());
    let here = Web::saying(response("302 Found", &[&location], "")).await;
    let spec = resolved_by(&server, json!({"prober": "http"}));
    let outcome = probe(spec.clone(), format!("http://a.test:{}/", here.peer.port())).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(there.requests().len(), 1);
    // The hosts file still counts, unless the module says otherwise.
    let outcome = probe(spec, format!("http://localhost:{}/", there.peer.port())).await;
    assert_ne!(reason(&outcome), "resolve_nxdomain", "{}", outcome.answer);

    let nobody = NameServer::udp(|query| vec![bytes(&reply(query, ResponseCode::NXDomain))]).await;
    let broken = NameServer::udp(|query| vec![bytes(&reply(query, ResponseCode::ServFail))]).await;
    let silent = NameServer::udp(|_| Vec::new()).await;
    for (server, says) in
        [(&nobody, "resolve_nxdomain"), (&broken, "resolve_servfail"), (&silent, "resolve_timeout")]
    {
        let mut spec = resolved_by(server, json!({"prober": "tcp", "timeout": "500ms"}));
        spec["resolver"]["attempts"] = json!(1);
        let outcome = probe(spec, "a.test:1").await;
        assert_eq!((reason(&outcome), outcome.phase), (says, Some(Phase::Resolve)));
    }
}

#[tokio::test]
async fn every_prober_leaves_from_the_address_that_is_set() {
    let seen: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let peer = Peer::new(move |stream| {
        kept.lock().unwrap().push(stream.peer_addr().unwrap().ip());
        async {}
    })
    .await;
    let address = peer.address;
    let from = "127.0.0.2";
    let source = json!({"source_ip_address": from});
    let query = json!({"source_ip_address": from, "query_name": "a.test"});
    let mut over_tcp = query.clone();
    over_tcp["transport_protocol"] = json!("tcp");
    for (prober, block, key, target) in [
        ("tcp", &source, "tcp", address.to_string()),
        ("tls", &source, "tls", address.to_string()),
        ("http", &source, "http", format!("http://{address}")),
        ("http", &source, "http", format!("https://{address}")),
        ("exporter", &source, "http", format!("http://{address}")),
        ("grpc", &source, "grpc", address.to_string()),
        ("websocket", &source, "websocket", format!("ws://{address}/")),
        ("dns", &over_tcp, "dns", address.to_string()),
    ] {
        let outcome = probe(json!({"prober": prober, key: block}), target).await;
        let end = Instant::now() + PATIENCE;
        while seen.lock().unwrap().is_empty() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let came = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(came, [from.parse::<IpAddr>().unwrap()], "{prober}: {}", outcome.answer);
    }
    for (prober, block) in [("udp", &source), ("dns", &query)] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = socket.local_addr().unwrap().to_string();
        let spec = json!({"prober": prober, "timeout": "300ms", prober: block});
        let mut datagram = [0; 512];
        let (_, received) = tokio::join!(probe(spec, target), socket.recv_from(&mut datagram));
        assert_eq!(received.unwrap().1.ip().to_string(), from, "{prober}");
    }
}

#[tokio::test]
async fn a_refused_certificate_is_told_of_by_every_prober() {
    let root = Authority::root("nobody's");
    let leaf = root.leaf(&Leaf { days: (-20, -2), ..Leaf::default() });
    let peer = Peer::tls(Tls::new(leaf)).await;
    let address = peer.by_name();
    let ip4 = json!({"preferred_ip_protocol": "ip4"});
    let with = |keys: Value| {
        let mut block = ip4.clone();
        block.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        block
    };
    let over_tls = json!({
        "query_name": "a.test", "dns_over_tls": true, "transport_protocol": "tcp",
    });
    for (prober, key, block, target) in [
        ("tcp", "tcp", with(json!({"tls": true})), address.clone()),
        ("tls", "tls", with(json!({})), address.clone()),
        ("http", "http", with(json!({})), format!("https://{address}")),
        ("exporter", "http", with(json!({})), format!("https://{address}")),
        ("grpc", "grpc", with(json!({"tls": true})), address.clone()),
        ("websocket", "websocket", with(json!({})), format!("wss://{address}/")),
        ("dns", "dns", with(over_tls), address.clone()),
    ] {
        let outcome = probe(json!({"prober": prober, key: block}), target).await;
        assert!(reason(&outcome).starts_with("cert_"), "{prober}: {}", outcome.answer);
        // Some have upstream's phases, which know of no handshake.
        let phase = match prober {
            "grpc" => Phase::Check,
            "websocket" => Phase::Processing,
            _ => Phase::Tls,
        };
        assert_eq!(outcome.phase, Some(phase), "{prober}");
        assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), Some(0.0), "{prober}");
        for family in [
            &family::PROBE_SSL_EARLIEST_CERT_EXPIRY,
            &family::PROBE_SSL_CERT_NOT_AFTER,
            &family::PROBE_SSL_LAST_CHAIN_INFO,
            &family::PROBE_TLS_VERSION_INFO,
        ] {
            assert!(has(&outcome, family), "{prober} {}", family.name);
        }
    }
}

/// Answers with AA and AD, its name, and what the query wished for as its class.
fn wishes(query: &Message) -> Vec<Vec<u8>> {
    let edns = query.edns.as_ref();
    let said = [
        query.metadata.authentic_data,
        query.metadata.checking_disabled,
        edns.is_some_and(|edns| edns.flags().dnssec_ok),
        edns.is_some_and(|edns| edns.option(EdnsCode::NSID).is_some()),
    ];
    let [ad, cd, dnssec, nsid] = said.map(u8::from);
    let mut reply = answer(query, [RData::A(A::new(ad, cd, dnssec, nsid))]);
    reply.metadata.authoritative = true;
    reply.metadata.authentic_data = query.metadata.authentic_data;
    if nsid == 1 {
        let mut edns = Edns::new();
        edns.set_max_payload(1400);
        let name = NSIDPayload::new(b"ns7.test".to_vec()).unwrap();
        edns.options_mut().insert(EdnsOption::NSID(name));
        reply.set_edns(edns);
    }
    vec![bytes(&reply)]
}

fn flags(outcome: &Outcome) -> Vec<(String, f64)> {
    let facts = outcome.facts.iter().filter(|fact| fact.is(&family::PROBE_DNS_FLAG));
    facts.map(|fact| (fact.label_pairs()[0].1.to_owned(), fact.value)).collect()
}

#[tokio::test]
async fn dns_asks_with_flags_and_edns_and_tells_what_comes() {
    let server = NameServer::udp(wishes).await;
    let target = server.address.to_string();
    let rows = [
        (json!({}), "A\t0.0.0.0$"),
        (json!({"authentic_data": true, "checking_disabled": true}), "A\t1.1.0.0$"),
        (json!({"dnssec_ok": true}), "A\t0.0.1.0$"),
        (json!({"nsid": true, "require_flags": ["aa", "ra"]}), "A\t0.0.0.1$"),
        (json!({"edns_buffer_size": 4096}), "A\t0.0.0.0$"),
    ];
    for (mut keys, expected) in rows {
        keys["validate_answer_rrs"] = json!({"fail_if_not_matches_regexp": [expected]});
        let shown = keys.to_string();
        let outcome = dns::probe(&dns::module(keys), &target, Duration::from_secs(5)).await;
        assert_eq!(reason(&outcome), "pass", "{shown}: {}", outcome.answer);
        let names: Vec<String> = flags(&outcome).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["aa", "ad", "ra", "tc"]);
        assert_eq!(flags(&outcome)[0].1, 1.0, "{shown}");
        assert_eq!(flags(&outcome)[3].1, 0.0, "{shown}");
        let nsid = labels(&outcome, &family::PROBE_DNS_NSID_INFO, "nsid");
        assert_eq!(nsid == ["ns7.test"], shown.contains("nsid"), "{shown}");
        let told = outcome.fact(&family::PROBE_DNS_EDNS_BUFFER);
        assert_eq!(told == Some(1400.0), shown.contains("nsid"), "{shown} {told:?}");
    }
    let strict = dns::module(json!({"require_flags": ["ad"]}));
    let outcome = dns::probe(&strict, &target, Duration::from_secs(5)).await;
    assert_eq!(reason(&outcome), "dns_records");
    assert_eq!(outcome.answer.to_string(), "the response has no flag ad");
}

#[tokio::test]
async fn a_truncated_answer_is_told_of_although_tcp_had_all_of_it() {
    let cut = |query: &Message| {
        let mut cut = reply(query, ResponseCode::NoError);
        cut.metadata.truncation = true;
        vec![bytes(&cut)]
    };
    let whole = |query: &Message| vec![framed(&wishes(query)[0])];
    let server = NameServer::both(cut, whole).await;
    let module = dns::module(json!({"edns_buffer_size": 512}));
    let outcome = dns::probe(&module, &server.address.to_string(), Duration::from_secs(5)).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(flags(&outcome)[3], ("tc".to_owned(), 1.0));
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), Some(1.0));
    for size in [0, 511, 65_536] {
        let spec = json!({"query_name": "a.test", "edns_buffer_size": size});
        let found = mistakes(json!({"prober": "dns", "dns": spec}));
        assert_eq!(found[0].key, "dns.edns_buffer_size");
    }
}

#[tokio::test]
async fn ports_may_be_names_of_services() {
    // Nobody needs to listen there: what is asked is told by the fault.
    let outcome = probe(json!({"prober": "tcp"}), "127.0.0.1:tcpmux").await;
    if !outcome.answer.is_success() {
        assert_eq!(outcome.answer.to_string(), "nothing listens on 127.0.0.1:1");
    }
    let outcome = probe(json!({"prober": "tcp"}), "127.0.0.1:no-such-service").await;
    assert_eq!(reason(&outcome), "setup");
    // A URL has numbers only, as in Go.
    let outcome = probe(json!({"prober": "http"}), "http://127.0.0.1:http/").await;
    assert_eq!(reason(&outcome), "setup");
}
