//! The `http` prober over QUIC.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use watchpost::model::{Authorization, Phase, Secret, Target, family};

use super::support::certs::{Authority, Leaf, Shown, self_signed};
use super::support::quic::{Quic3, Reply, Shake, says, status};
use super::support::run::{has, labels, mistakes, module, probe, probe_as, reason, run};

/// Long enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Estate {
    root: Authority,
}

impl Estate {
    fn new() -> Self {
        Self { root: Authority::root("root") }
    }

    fn shown(&self) -> Shown {
        self.root.leaf(&Leaf::default())
    }

    /// A module that trusts the estate; `more` has keys of `http`.
    fn spec(&self, more: Value) -> Value {
        let mut http = json!({
            "enable_http3": true, "enable_http2": false, "preferred_ip_protocol": "ip4",
            "tls_config": {"ca": self.root.pem()},
        });
        http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"prober": "http", "timeout": "10s", "http": http})
    }

    /// For what only the deadline ends.
    fn brief(&self, more: Value) -> Value {
        let mut spec = self.spec(more);
        spec["timeout"] = "500ms".into();
        spec
    }
}

#[tokio::test]
async fn an_answer_over_quic_has_all_facts() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| {
        status(
            200,
            &[("content-length", "5"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            "hello",
        )
    })
    .await;
    let spec = estate.spec(json!({
        "valid_http_versions": ["HTTP/3.0"], "fail_if_not_ssl": true,
        "fail_if_body_not_matches_regexp": ["^hello$"],
    }));
    let outcome = probe(spec, peer.url("/a?b=c#d")).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    for (family, value) in [
        (&family::PROBE_HTTP_STATUS_CODE, 200.0),
        (&family::PROBE_HTTP_CONTENT_LENGTH, 5.0),
        (&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH, 5.0),
        (&family::PROBE_HTTP_REDIRECTS, 0.0),
        (&family::PROBE_HTTP_SSL, 1.0),
        (&family::PROBE_HTTP_VERSION, 3.0),
        (&family::PROBE_FAILED_DUE_TO_REGEX, 0.0),
        (&family::PROBE_HTTP_LAST_MODIFIED, 784_111_777.0),
        (&family::PROBE_IP_PROTOCOL, 4.0),
        (&family::PROBE_SSL_VERIFIED, 1.0),
    ] {
        assert_eq!(outcome.fact(family), Some(value), "{}", family.name);
    }
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert!(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY).unwrap() > 0.0);
    assert_eq!(labels(&outcome, &family::PROBE_TLS_VERSION_INFO, "version"), ["TLS 1.3"]);
    let cipher = labels(&outcome, &family::PROBE_TLS_CIPHER_INFO, "cipher");
    assert!(cipher[0].starts_with("TLS_"), "{cipher:?}");
    assert_eq!(labels(&outcome, &family::PROBE_TLS_ALPN_INFO, "protocol"), ["h3"]);
    let phases: Vec<_> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
    let all = [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing, Phase::Transfer];
    assert_eq!(phases, all);
    for (phase, took) in &outcome.phases {
        assert!(!took.is_zero(), "{phase:?}");
    }
    let asked = peer.last();
    assert!(asked.starts_with(&format!("GET {} HTTP/3", peer.url("/a?b=c"))), "{asked}");
    assert!(asked.contains("user-agent: watchpost/"), "{asked}");
    assert!(!asked.contains("connection:"), "{asked}");
}

#[tokio::test]
async fn a_finished_run_says_goodbye() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| says("")).await;
    assert_eq!(reason(&probe(estate.spec(json!({})), peer.url("/")).await), "pass");
    let began = Instant::now();
    while peer.ends().is_empty() {
        assert!(began.elapsed() < PATIENCE, "the server was not told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(peer.ends()[0].contains("closed by peer"), "{:?}", peer.ends());
}

#[tokio::test]
async fn targets_without_tls_are_asked_over_it() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| says("")).await;
    let port = peer.address.port();
    for target in [format!("HtTp://localhost:{port}/"), format!("localhost:{port}/")] {
        let outcome = probe(estate.spec(json!({})), target.as_str()).await;
        assert_eq!(reason(&outcome), "pass", "{target}: {}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_HTTP_SSL), Some(1.0));
    }
}

#[tokio::test]
async fn versions_and_tls_are_held_against_rules() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| says(r#"{"status": "degraded"}"#)).await;
    for (rules, wanted) in [
        (json!({"valid_http_versions": []}), "pass"),
        (json!({"valid_http_versions": ["HTTP/3.0"]}), "pass"),
        (json!({"valid_http_versions": ["HTTP/1.0"]}), "http_version"),
        (json!({"fail_if_ssl": true}), "tls_policy"),
        (json!({"fail_if_body_matches_regexp": ["degraded"]}), "body_mismatch"),
        (json!({"fail_if_body_json_not_matches_cel": "body.status == 'ok'"}), "json_mismatch"),
        (
            json!({"fail_if_header_not_matches": [{"header": "X-A", "regexp": "b"}]}),
            "header_mismatch",
        ),
        (json!({"body_size_limit": "4B"}), "body_too_large"),
        (json!({"valid_status_codes": [418]}), "http_status"),
        (json!({"fail_if_slower_than": "0"}), "too_slow"),
    ] {
        let outcome = probe(estate.spec(rules.clone()), peer.url("/")).await;
        assert_eq!(reason(&outcome), wanted, "{rules}: {}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_HTTP_VERSION), Some(3.0), "{rules}");
    }
}

#[tokio::test]
async fn requests_carry_headers_credentials_and_bodies() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |request| {
        let code = if request.method() == "HEAD" { 204 } else { 200 };
        status(code, &[], "")
    })
    .await;
    let spec = estate.spec(json!({
        "method": "POST", "body": "ping", "headers": {"X-A": "1", "Host": "shop.example"},
        "http_headers": {"X-B": {"values": ["2"]}}, "basic_auth": {"username": "u", "password": "p"},
        "tls_config": {"ca": estate.root.pem(), "server_name": "localhost"},
    }));
    assert_eq!(reason(&probe(spec, peer.url("/post")).await), "pass");
    let asked = peer.last();
    assert!(asked.starts_with("POST https://shop.example/post HTTP/3"), "{asked}");
    for line in ["x-a: 1\n", "x-b: 2\n", "authorization: Basic dTpw\n", "content-length: 4\nping"] {
        assert!(asked.contains(line), "{line}: {asked}");
    }
    let authorization = Authorization {
        scheme: "Token".into(),
        credentials: Some(Secret::new("own".to_owned())),
        credentials_file: None,
    };
    let target = Target { authorization: Some(authorization), ..Target::plain(peer.url("/")) };
    let head = module(estate.spec(json!({"method": "HEAD"})));
    assert_eq!(reason(&run(&head, &target).await), "pass");
    assert!(peer.last().contains("authorization: Token own"), "{}", peer.last());
}

#[tokio::test]
async fn a_file_is_sent_whole() {
    let estate = Estate::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "x".repeat(100_000)).unwrap();
    let peer = Quic3::new(estate.shown(), |_| says("")).await;
    let spec = estate.spec(json!({"method": "PUT", "body_file": file.path()}));
    assert_eq!(reason(&probe(spec, peer.url("/")).await), "pass");
    assert!(peer.last().ends_with(&"x".repeat(100_000)));
}

#[tokio::test]
async fn informational_answers_are_skipped_over_quic() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| Reply::Hints).await;
    let outcome = probe(estate.spec(json!({})), peer.url("/")).await;
    assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(200.0), "{}", outcome.answer);
}

#[tokio::test]
async fn redirects_stay_on_quic() {
    let estate = Estate::new();
    let other = Quic3::new(estate.shown(), |_| says("there")).await;
    let there = other.url("/there");
    let peer = Quic3::new(estate.shown(), move |request| match request.uri().path() {
        "/away" => status(302, &[("location", &there)], ""),
        "/plain" => status(302, &[("location", "http://localhost:1/")], ""),
        "/loop" => status(302, &[("location", "/loop")], ""),
        "/near" => status(307, &[("location", "/end")], ""),
        _ => says("end"),
    })
    .await;
    for (path, wanted, redirects) in [
        ("/near", "pass", 1.0),
        ("/away", "pass", 1.0),
        ("/loop", "redirect_loop", 11.0),
        ("/plain", "redirect_refused", 0.0),
    ] {
        let outcome = probe(estate.spec(json!({})), peer.url(path)).await;
        assert_eq!(reason(&outcome), wanted, "{path}: {}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_HTTP_REDIRECTS), Some(redirects), "{path}");
    }
    assert_eq!(other.asked().len(), 1);
    let spec = estate.spec(json!({"follow_redirects": false, "valid_status_codes": [307]}));
    assert_eq!(reason(&probe(spec, peer.url("/near")).await), "pass");
}

#[tokio::test]
async fn certificates_are_judged_and_told() {
    let estate = Estate::new();
    for (shown, wanted) in [
        (estate.root.leaf(&Leaf { days: (-90, -1), ..Leaf::default() }), "cert_expired"),
        (estate.root.leaf(&Leaf { days: (1, 90), ..Leaf::default() }), "cert_not_yet_valid"),
        (
            estate.root.leaf(&Leaf { names: &["other.example"], ..Leaf::default() }),
            "cert_name_mismatch",
        ),
        (self_signed(&["localhost"], false), "cert_untrusted"),
    ] {
        let peer = Quic3::new(shown, |_| says("")).await;
        let outcome = probe(estate.spec(json!({})), peer.url("/")).await;
        assert_eq!(reason(&outcome), wanted, "{}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), Some(0.0));
        assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY), "{wanted}");
        assert!(has(&outcome, &family::PROBE_TLS_CIPHER_INFO), "{wanted}");
        assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(0.0));
        assert!(peer.asked().is_empty(), "nothing is asked of somebody unknown");
        let careless = estate.spec(json!({"tls_config": {"insecure_skip_verify": true}}));
        assert_eq!(reason(&probe(careless, peer.url("/")).await), "pass", "{wanted}");
    }
}

#[tokio::test]
async fn names_come_from_the_target_the_hostname_or_the_module() {
    let estate = Estate::new();
    let shown = estate.root.leaf(&Leaf { names: &["shop.example"], ..Leaf::default() });
    let peer = Quic3::new(shown, |_| says("")).await;
    let wrong = probe(estate.spec(json!({})), peer.url("/")).await;
    assert_eq!(reason(&wrong), "cert_name_mismatch");
    let named = probe_as(estate.spec(json!({})), peer.url("/"), "shop.example").await;
    assert_eq!(reason(&named), "pass", "{}", named.answer);
    assert!(peer.last().starts_with("GET https://shop.example/ "), "{}", peer.last());
    let spec = estate.spec(json!({"tls_config": {
        "ca": estate.root.pem(), "server_name": "shop.example",
    }}));
    assert_eq!(reason(&probe(spec, peer.url("/")).await), "pass");
}

#[tokio::test]
async fn client_certificates_are_shown_or_missed() {
    let estate = Estate::new();
    let clients = Authority::root("clients");
    let shake = Shake { clients_of: Some(&clients), ..Shake::default() };
    let peer = Quic3::shaking(estate.shown(), &shake, |_| says("")).await;
    let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
    let own = clients.leaf(&Leaf { usage, ..Leaf::default() });
    let spec = estate.spec(json!({"tls_config": {
        "ca": estate.root.pem(), "cert": own.pem, "key": own.key_pem,
    }}));
    let outcome = probe(spec, peer.url("/")).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    let outcome = probe(estate.spec(json!({})), peer.url("/")).await;
    assert_eq!(reason(&outcome), "tls_handshake", "{}", outcome.answer);
    assert!(outcome.answer.to_string().contains("certificate_required"), "{}", outcome.answer);
}

#[tokio::test]
async fn a_closed_port_refuses_over_quic() {
    let estate = Estate::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let outcome = probe(estate.spec(json!({})), format!("https://localhost:{port}/")).await;
    assert_eq!(reason(&outcome), "connect_refused", "{}", outcome.answer);
    assert_eq!(outcome.phase, Some(Phase::Connect));
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
    assert_eq!(outcome.phases.len(), 5);
    // One that speaks only TCP is no different.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    assert_eq!(reason(&probe(estate.spec(json!({})), url).await), "connect_refused");
}

#[tokio::test]
async fn a_silent_port_is_a_timeout_of_connecting() {
    let estate = Estate::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", socket.local_addr().unwrap().port());
    let outcome = probe(estate.brief(json!({})), url).await;
    assert_eq!(reason(&outcome), "connect_timeout");
    assert_eq!(outcome.phase, Some(Phase::Connect));
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
}

#[tokio::test]
async fn somebody_else_on_the_port_is_no_quic() {
    let estate = Estate::new();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", socket.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut space = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut space).await {
            socket.send_to(b"this is not QUIC", from).await.ok();
        }
    });
    let outcome = probe(estate.brief(json!({})), url).await;
    assert_eq!(reason(&outcome), "tls_timeout");
    assert_eq!(outcome.phase, Some(Phase::Tls));
}

#[tokio::test]
async fn handshakes_that_are_refused_say_why() {
    let estate = Estate::new();
    for (shake, words) in [
        (Shake { alpn: b"doq", ..Shake::default() }, "no_application_protocol"),
        (Shake { refuses: true, ..Shake::default() }, "CONNECTION_REFUSED"),
    ] {
        let peer = Quic3::shaking(estate.shown(), &shake, |_| says("")).await;
        let outcome = probe(estate.spec(json!({})), peer.url("/")).await;
        assert_eq!(reason(&outcome), "tls_handshake", "{}", outcome.answer);
        assert!(outcome.answer.to_string().contains(words), "{}", outcome.answer);
        assert_eq!(outcome.phase, Some(Phase::Tls));
    }
}

#[tokio::test]
async fn answers_that_go_wrong_have_their_reasons() {
    let estate = Estate::new();
    for (reply, wanted, phase) in [
        (Reply::Silent, "no_response", Phase::Processing),
        (Reply::Resets, "protocol_error", Phase::Processing),
        (Reply::Closes(0x100), "connection_closed", Phase::Processing),
        (Reply::Closes(0x102), "protocol_error", Phase::Processing),
        (Reply::Stalls, "body_timeout", Phase::Transfer),
        (Reply::BreaksOff, "body_truncated", Phase::Transfer),
        (Reply::TooShort, "body_truncated", Phase::Transfer),
    ] {
        let peer = Quic3::new(estate.shown(), {
            let reply = reply.clone();
            move |_| reply.clone()
        })
        .await;
        let ends_by_itself = !matches!(reply, Reply::Silent | Reply::Stalls);
        let spec = if ends_by_itself { estate.spec(json!({})) } else { estate.brief(json!({})) };
        let outcome = probe(spec, peer.url("/")).await;
        assert_eq!(reason(&outcome), wanted, "{reply:?}: {}", outcome.answer);
        assert_eq!(outcome.phase, Some(phase), "{reply:?}");
        assert!(outcome.took < Duration::from_secs(8), "{reply:?}: {:?}", outcome.took);
    }
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_time() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| Reply::Endless).await;
    let outcome = probe(estate.spec(json!({"body_size_limit": "64KB"})), peer.url("/")).await;
    assert_eq!(reason(&outcome), "body_too_large", "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH), Some(65536.0));
    let outcome = probe(estate.brief(json!({})), peer.url("/")).await;
    assert_eq!(reason(&outcome), "body_timeout", "{}", outcome.answer);
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let estate = Estate::new();
    let body = "y".repeat(3 << 20);
    let peer = Quic3::new(estate.shown(), move |_| says(&body)).await;
    let outcome = probe(estate.spec(json!({})), peer.url("/")).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    let length = outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH);
    assert_eq!(length, Some(f64::from(3 << 20)));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_CONTENT_LENGTH), Some(-1.0));
}

#[tokio::test]
async fn a_foreign_source_address_is_ours() {
    let estate = Estate::new();
    let peer = Quic3::new(estate.shown(), |_| says("")).await;
    let spec = estate.spec(json!({"source_ip_address": "192.0.2.1"}));
    assert_eq!(reason(&probe(spec, peer.url("/")).await), "source_address");
    let spec = estate.spec(json!({"source_ip_address": "127.0.0.2"}));
    assert_eq!(reason(&probe(spec, peer.url("/")).await), "pass");
}

#[test]
fn a_module_that_cannot_work_is_told_at_load() {
    for (http, key, is_warning) in [
        (json!({"enable_http3": true}), "http.enable_http3", false),
        (json!({"enable_http3": true, "enable_http2": true}), "http.enable_http3", false),
        (json!({"valid_http_versions": ["HTTP/3.0"]}), "http.valid_http_versions", false),
        (
            json!({"enable_http3": true, "enable_http2": false, "valid_http_versions": ["HTTP/1.1"]}),
            "http.valid_http_versions",
            false,
        ),
        (
            json!({"enable_http3": true, "enable_http2": false, "valid_http_versions": ["HTTP/2.0"]}),
            "http.valid_http_versions",
            false,
        ),
        (
            json!({"enable_http3": true, "enable_http2": false, "proxy_url": "http://p"}),
            "http.proxy_url",
            true,
        ),
        (
            json!({"enable_http3": true, "enable_http2": false,
                "tls_config": {"max_version": "TLS12"}}),
            "http.tls_config.max_version",
            true,
        ),
    ] {
        let found = mistakes(json!({"prober": "http", "http": http}));
        let found: Vec<_> = found.iter().map(|m| (m.key.as_str(), m.warning)).collect();
        assert!(found.contains(&(key, is_warning)), "{http}: {found:?}");
    }
    for versions in [json!([]), json!(["HTTP/3.0"]), json!(["HTTP/1.0"])] {
        let http = json!({
            "enable_http3": true, "enable_http2": false, "valid_http_versions": versions,
        });
        assert_eq!(mistakes(json!({"prober": "http", "http": http})), [], "{versions}");
    }
}
