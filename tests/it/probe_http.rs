//! The `http` prober against servers that keep to HTTP.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchpost::model::{Phase, Secret, Target, family};

use super::support::certs::{Authority, Leaf};
use super::support::peer::{Peer, Tls};
use super::support::run::{has, labels, module, probe, reason, run};
use super::support::web::{Web, ok, read_request, response};

#[tokio::test]
async fn a_plain_answer_passes_with_all_facts() {
    let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    let web = Web::saying(response("200 OK", &[modified], "hello")).await;
    let outcome = probe(json!({"prober": "http"}), web.url("/a?b=c#d")).await;
    assert_eq!(reason(&outcome), "pass");
    for (family, value) in [
        (&family::PROBE_HTTP_STATUS_CODE, 200.0),
        (&family::PROBE_HTTP_CONTENT_LENGTH, 5.0),
        (&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH, 5.0),
        (&family::PROBE_HTTP_REDIRECTS, 0.0),
        (&family::PROBE_HTTP_SSL, 0.0),
        (&family::PROBE_HTTP_VERSION, 1.1),
        (&family::PROBE_FAILED_DUE_TO_REGEX, 0.0),
        (&family::PROBE_HTTP_LAST_MODIFIED, 784_111_777.0),
        (&family::PROBE_IP_PROTOCOL, 4.0),
    ] {
        assert_eq!(outcome.fact(family), Some(value), "{}", family.name);
    }
    assert!(!has(&outcome, &family::PROBE_FAILED_DUE_TO_CEL));
    let phases: Vec<_> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
    let all = [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing, Phase::Transfer];
    assert_eq!(phases, all);
    let request = web.last();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
    assert!(request.contains("user-agent: watchpost/"), "{request}");
    assert!(request.contains("connection: close"), "{request}");
}

#[tokio::test]
async fn ipv6_and_old_versions_work() {
    let web = Web::at("[::1]:0", |_| b"HTTP/1.0 200 OK\r\n\r\nold".to_vec()).await;
    let outcome = probe(json!({"prober": "http"}), web.url("/")).await;
    assert_eq!(reason(&outcome), "pass");
    assert_eq!(outcome.fact(&family::PROBE_HTTP_VERSION), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_CONTENT_LENGTH), Some(-1.0));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH), Some(3.0));
    assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(6.0));
}

#[tokio::test]
async fn informational_answers_are_skipped() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let web = Web::saying([hints.as_bytes(), &ok("x")].concat()).await;
    assert_eq!(reason(&probe(json!({"prober": "http"}), web.url("/")).await), "pass");
}

#[tokio::test]
async fn statuses_have_their_reasons() {
    for (status, wanted) in
        [("503 Gone fishing", "http_status"), ("401 X", "auth_refused"), ("204 X", "pass")]
    {
        let web = Web::saying(response(status, &[], "")).await;
        let outcome = probe(json!({"prober": "http"}), web.url("/")).await;
        assert_eq!(reason(&outcome), wanted, "{status}");
    }
}

#[tokio::test]
async fn bodies_are_held_against_rules() {
    let web = Web::saying(ok(r#"{"status": "degraded", "n": 3}"#)).await;
    for (rules, wanted, due_to_regex, due_to_cel) in [
        (json!({"fail_if_body_matches_regexp": ["degraded"]}), "body_mismatch", 1.0, None),
        (json!({"fail_if_body_not_matches_regexp": ["(?i)DEGRADED"]}), "pass", 0.0, None),
        (
            json!({"fail_if_body_json_not_matches_cel": "body.status == 'ok'"}),
            "json_mismatch",
            0.0,
            Some(1.0),
        ),
        (json!({"fail_if_body_json_matches_cel": "body.n == 4"}), "pass", 0.0, Some(0.0)),
        (
            json!({
                "fail_if_body_not_matches_regexp": ["status"],
                "fail_if_body_json_not_matches_cel": "body.n == 3",
            }),
            "pass",
            0.0,
            Some(0.0),
        ),
    ] {
        let outcome = probe(json!({"prober": "http", "http": rules}), web.url("/")).await;
        assert_eq!(reason(&outcome), wanted, "{rules}");
        assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(due_to_regex));
        assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_CEL), due_to_cel);
    }
    let page = Web::saying(ok("<html>")).await;
    let rule = json!({"fail_if_body_json_matches_cel": "body.n == 4"});
    let outcome = probe(json!({"prober": "http", "http": rule}), page.url("/")).await;
    assert_eq!(reason(&outcome), "json_invalid");
}

#[tokio::test]
async fn redirects_are_followed_with_cookies_and_credentials() {
    let web = Web::new(|request| {
        if request.starts_with("POST /start") {
            response("302 Found", &["Location: /end", "Set-Cookie: sid=7"], "")
        } else {
            ok("done")
        }
    })
    .await;
    let spec = json!({"prober": "http", "http": {
        "method": "POST", "body": "payload", "bearer_token": "t0ken",
    }});
    let outcome = probe(spec, web.url("/start")).await;
    assert_eq!(reason(&outcome), "pass");
    assert_eq!(outcome.fact(&family::PROBE_HTTP_REDIRECTS), Some(1.0));
    let requests = web.requests();
    assert!(requests[0].ends_with("\r\n\r\npayload"), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /end "), "{}", requests[1]);
    assert!(requests[1].contains("cookie: sid=7"), "{}", requests[1]);
    assert!(requests[1].contains("authorization: Bearer t0ken"), "{}", requests[1]);
}

#[tokio::test]
async fn credentials_do_not_leave_for_another_host() {
    let other = Web::saying(ok("")).await;
    let location = format!("Location: http://localhost:{}/x", other.peer.port());
    let web = Web::new(move |_| response("307 X", &[&location], "")).await;
    let spec = json!({"prober": "http", "http": {
        "basic_auth": {"username": "u", "password": "p"},
        "headers": {"Cookie": "a=b", "X-Plain": "stays"},
        "http_headers": {"X-Key": {"secrets": ["k"]}},
        "preferred_ip_protocol": "ip4",
    }});
    assert_eq!(reason(&probe(spec, web.url("/")).await), "pass");
    assert!(web.last().contains("authorization: Basic dTpw"), "{}", web.last());
    assert!(web.last().contains("x-key: k"), "{}", web.last());
    let seen = other.last();
    for gone in ["authorization", "cookie", "x-key"] {
        assert!(!seen.contains(gone), "{seen}");
    }
    assert!(seen.contains("x-plain: stays"), "{seen}");
}

#[tokio::test]
async fn redirects_that_do_not_end_or_are_not_wanted() {
    let web = Web::new(|_| response("302 Found", &["Location: /again"], "moved")).await;
    let outcome = probe(json!({"prober": "http"}), web.url("/")).await;
    assert_eq!(reason(&outcome), "redirect_loop");
    assert_eq!(outcome.fact(&family::PROBE_HTTP_REDIRECTS), Some(11.0));
    assert_eq!(web.requests().len(), 11);
    let spec = json!({"prober": "http", "http": {
        "follow_redirects": false, "valid_status_codes": ["3xx"],
        "fail_if_body_not_matches_regexp": ["moved"],
    }});
    let outcome = probe(spec, web.url("/")).await;
    assert_eq!(reason(&outcome), "pass");
    assert_eq!(outcome.fact(&family::PROBE_HTTP_REDIRECTS), Some(1.0));
    let web = Web::saying(response("302 Found", &["Location: ftp://x/"], "")).await;
    let outcome = probe(json!({"prober": "http"}), web.url("/")).await;
    assert_eq!(reason(&outcome), "redirect_refused");
}

#[tokio::test]
async fn compressed_bodies_are_decoded_within_the_limit() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&vec![b'x'; 1 << 20]).unwrap();
    let web = Web::saying(ok(encoder.finish().unwrap())).await;
    let rules = json!({"compression": "gzip", "fail_if_body_not_matches_regexp": ["^x+$"]});
    let outcome = probe(json!({"prober": "http", "http": rules}), web.url("/")).await;
    assert_eq!(reason(&outcome), "pass");
    let length = outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH);
    assert_eq!(length, Some(1_048_576.0));
    let rules = json!({"compression": "gzip", "body_size_limit": "1KB"});
    let outcome = probe(json!({"prober": "http", "http": rules}), web.url("/")).await;
    assert_eq!(reason(&outcome), "body_too_large");
    let length = outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH);
    assert_eq!(length, Some(1024.0));
    let rules = json!({"compression": "br"});
    let outcome = probe(json!({"prober": "http", "http": rules}), web.url("/")).await;
    assert_eq!(reason(&outcome), "body_encoding");
}

#[tokio::test]
async fn files_are_sent_in_chunks_and_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (body, token) = (folder.path().join("body"), folder.path().join("token"));
    std::fs::write(&body, vec![b'Q'; 40_000]).unwrap();
    let web = Web::saying(ok("")).await;
    let module = module(json!({"prober": "http", "http": {
        "method": "PUT", "body_file": body, "bearer_token_file": token,
    }}));
    let target = Target::plain(web.url("/"));
    let outcome = run(&module, &target).await;
    assert_eq!(reason(&outcome), "setup");
    std::fs::write(&token, "first\n").unwrap();
    assert_eq!(reason(&run(&module, &target).await), "pass");
    let request = web.last();
    assert!(request.contains("transfer-encoding: chunked"), "{request}");
    assert_eq!(request.bytes().filter(|b| *b == b'Q').count(), 40_000);
    assert!(request.contains("authorization: Bearer first"));
    std::fs::write(&token, "second token").unwrap();
    assert_eq!(reason(&run(&module, &target).await), "pass");
    assert!(web.last().contains("authorization: Bearer second token"));
}

#[tokio::test]
async fn a_target_may_have_its_own_name_headers_and_credentials() {
    let web = Web::saying(ok("")).await;
    let module = module(json!({"prober": "http", "http": {
        "headers": {"X-Instance": "module"}, "bearer_token": "module",
    }}));
    let headers = BTreeMap::from([("X-Instance".to_owned(), Secret::new("3".into()))]);
    let authorization =
        serde_json::from_value(json!({"type": "Token", "credentials": "own"})).unwrap();
    let target = Target {
        hostname: Some("shop.example".into()),
        headers,
        authorization: Some(authorization),
        ..Target::plain(web.url("/"))
    };
    assert_eq!(reason(&run(&module, &target).await), "pass");
    let request = web.last();
    for line in ["host: shop.example\r\n", "x-instance: 3\r\n", "authorization: Token own\r\n"] {
        assert!(request.contains(line), "{request}");
    }
}

#[tokio::test]
async fn tokens_are_fetched_kept_and_replaced() {
    let tokens = Web::new(|request| {
        if request.contains("authorization: Basic") {
            return response("401 X", &[], "");
        }
        ok(r#"{"access_token": "abc", "token_type": "bearer", "expires_in": 3600}"#)
    })
    .await;
    let web =
        Web::new(
            |request| {
                if request.contains("Bearer abc") { ok("") } else { response("403 X", &[], "") }
            },
        )
        .await;
    let module = module(json!({"prober": "http", "http": {"oauth2": {
        "client_id": "me", "client_secret": "s", "token_url": tokens.url("/token"),
        "scopes": ["a", "b"], "endpoint_params": {"p": "q"},
    }}}));
    for _ in 0..2 {
        assert_eq!(reason(&run(&module, &Target::plain(web.url("/"))).await), "pass");
    }
    assert_eq!(tokens.requests().len(), 2);
    let form = tokens.last();
    assert!(form.contains("grant_type=client_credentials"), "{form}");
    assert!(form.contains("client_id=me&client_secret=s&scope=a+b&p=q"), "{form}");
}

#[tokio::test]
async fn a_silent_token_endpoint_ends_with_the_budget() {
    let silent = Peer::new(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.ok();
    })
    .await;
    let spec = json!({"prober": "http", "timeout": "300ms", "http": {"oauth2": {
        "client_id": "me", "client_secret": "s", "token_url": format!("http://{}/", silent.address),
    }}});
    let outcome = probe(spec, "http://127.0.0.1:9/").await;
    assert_eq!(reason(&outcome), "setup");
    assert!(outcome.took.as_millis() < 800, "{:?}", outcome.took);
}

#[tokio::test]
async fn http_goes_through_proxies() {
    let proxy = Web::saying(ok("from the proxy")).await;
    let url = format!("http://u:p@{}", proxy.peer.address);
    let spec = json!({"prober": "http", "http": {
        "proxy_url": url, "skip_resolve_phase_with_proxy": true,
    }});
    let outcome = probe(spec, "http://no-such-host.example/path").await;
    assert_eq!(reason(&outcome), "pass");
    let request = proxy.last();
    assert!(request.starts_with("GET http://no-such-host.example/path HTTP/1.1"), "{request}");
    assert!(request.contains("proxy-authorization: Basic dTpw"), "{request}");
    assert!(!has(&outcome, &family::PROBE_IP_PROTOCOL));

    let refusing = Web::saying(response("407 X", &[], "")).await;
    let url = format!("http://{}", refusing.peer.address);
    let spec = json!({"prober": "http", "http": {
        "proxy_url": url, "proxy_connect_header": {"X-Connect": ["c"]},
    }});
    let outcome = probe(spec, "https://127.0.0.1:9/").await;
    assert_eq!(reason(&outcome), "proxy_refused");
    let request = refusing.last();
    assert!(request.starts_with("CONNECT 127.0.0.1:9 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("X-Connect: c\r\n"), "{request}");
}

#[tokio::test]
async fn http_goes_through_socks() {
    let web = Web::saying(ok("")).await;
    let to = web.peer.address;
    let proxy = Peer::new(move |mut stream| async move {
        let mut hello = [0; 4];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 2, 0, 2]);
        stream.write_all(&[5, 2]).await.unwrap();
        let mut login = [0; 5];
        stream.read_exact(&mut login).await.unwrap();
        assert_eq!(&login, b"\x01\x01u\x01p");
        stream.write_all(&[1, 0]).await.unwrap();
        let mut wanted = [0; 10];
        stream.read_exact(&mut wanted).await.unwrap();
        assert_eq!(wanted[..4], [5, 1, 0, 1]);
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut onward = tokio::net::TcpStream::connect(to).await.unwrap();
        tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok();
    })
    .await;
    let spec =
        json!({"prober": "http", "http": {"proxy_url": format!("socks5://u:p@{}", proxy.address)}});
    assert_eq!(reason(&probe(spec, web.url("/")).await), "pass");
    assert!(web.last().starts_with("GET / HTTP/1.1"));
}

async fn https(shown: super::support::certs::Shown, alpn: Vec<&'static [u8]>) -> Peer {
    let acceptor = Tls { alpn, ..Tls::new(shown) }.acceptor();
    Peer::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let service = hyper::service::service_fn(|_| async {
                    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"two"));
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                let server = hyper::server::conn::http2::Builder::new(executor);
                server.serve_connection(io, service).await.ok();
            } else if read_request(&mut stream).await.is_some() {
                stream.write_all(&ok("tls")).await.ok();
                stream.shutdown().await.ok();
            }
        }
    })
    .await
}

#[tokio::test]
async fn https_speaks_both_versions() {
    let root = Authority::root("root");
    for (alpn, http2, version) in [
        (vec![&b"h2"[..], b"http/1.1"], true, 2.0),
        (vec![&b"h2"[..], b"http/1.1"], false, 1.1),
        (vec![], true, 1.1),
    ] {
        let shown = root.leaf(&Leaf { names: &["localhost"], ..Leaf::default() });
        let peer = https(shown, alpn).await;
        let spec = json!({"prober": "http", "http": {
            "enable_http2": http2, "fail_if_not_ssl": true, "preferred_ip_protocol": "ip4",
            "tls_config": {"ca": root.pem()},
        }});
        let outcome = probe(spec, format!("https://{}/", peer.by_name())).await;
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
        assert_eq!(outcome.fact(&family::PROBE_HTTP_VERSION), Some(version));
        assert_eq!(outcome.fact(&family::PROBE_HTTP_SSL), Some(1.0));
        assert_eq!(outcome.fact(&family::PROBE_HTTP_CONTENT_LENGTH), Some(3.0));
        assert_eq!(labels(&outcome, &family::PROBE_TLS_VERSION_INFO, "version"), ["TLS 1.3"]);
    }
}

/// Answers over HTTP/2 with a head, and with a body a while after it.
async fn late(shown: super::support::certs::Shown) -> Peer {
    let acceptor = Tls { alpn: vec![&b"h2"[..]], ..Tls::new(shown) }.acceptor();
    Peer::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(|_| async {
                let pieces = futures_util::stream::unfold(0, |sent| async move {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    let data = bytes::Bytes::from_static(b"late");
                    let frame = hyper::body::Frame::data(data);
                    (sent < 3).then(|| (Ok::<_, std::convert::Infallible>(frame), sent + 1))
                });
                let body = http_body_util::StreamBody::new(pieces);
                Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper::server::conn::http2::Builder::new(executor);
            server.serve_connection(io, service).await.ok();
        }
    })
    .await
}

#[tokio::test]
async fn a_body_over_http2_may_come_long_after_the_head() {
    let root = Authority::root("root");
    let shown = root.leaf(&Leaf { names: &["localhost"], ..Leaf::default() });
    let peer = late(shown).await;
    let spec = json!({"prober": "http", "http": {
        "preferred_ip_protocol": "ip4", "valid_http_versions": ["HTTP/2.0"],
        "fail_if_body_not_matches_regexp": ["^(late){3}$"], "tls_config": {"ca": root.pem()},
    }});
    let outcome = probe(spec, format!("https://{}/", peer.by_name())).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
}

#[tokio::test]
async fn a_bad_certificate_fails_with_its_facts() {
    let root = Authority::root("root");
    let shown = root.leaf(&Leaf { names: &["other.example"], ..Leaf::default() });
    let peer = https(shown, vec![]).await;
    let spec = json!({"prober": "http", "http": {
        "preferred_ip_protocol": "ip4", "tls_config": {"ca": root.pem()},
    }});
    let outcome = probe(spec, format!("https://{}/", peer.by_name())).await;
    assert_eq!(reason(&outcome), "cert_name_mismatch");
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(0.0));
}

#[tokio::test]
async fn slow_answers_warn_or_fail() {
    let web = Web::saying(ok("")).await;
    for (key, wanted) in [("warn_if_slower_than", true), ("fail_if_slower_than", false)] {
        let spec = json!({"prober": "http", "http": {key: "0"}});
        let outcome = probe(spec, web.url("/")).await;
        assert_eq!(reason(&outcome), "too_slow");
        assert_eq!(outcome.answer.is_success(), wanted);
    }
}
