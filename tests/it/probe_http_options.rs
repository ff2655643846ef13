//! Options of the `http` prober that take a second party: proxies, token endpoints, servers that want a certificate.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use rustls::crypto::aws_lc_rs;
use rustls::{SignatureScheme, version};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use watchpost::clock;
use watchpost::model::{Outcome, Phase, Target, family};
use watchpost::net::Net;
use watchpost::probe as probing;

use super::support::certs::{Authority, Leaf};
use super::support::peer::{Peer, Tls};
use super::support::quic::demanding;
use super::support::run::{module, probe, reason, run};
use super::support::web::{Web, ok, read_request, response};

/// An https server on `localhost`.
async fn https(acceptor: TlsAcceptor, body: &'static str) -> Peer {
    Peer::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if read_request(&mut stream).await.is_some() {
                stream.write_all(&ok(body)).await.ok();
                stream.shutdown().await.ok();
            }
        }
    })
    .await
}

/// What is asked of a proxy, up to the empty line and not beyond.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Opens a tunnel to whatever a CONNECT with the header `X-Connect: c` names.
async fn tunnel(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let head = head(&mut stream).await;
    let to = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let Some(to) = to.filter(|_| head.contains("\r\nX-Connect: c\r\n")) else {
        stream.write_all(b"HTTP/1.1 403 No\r\n\r\n").await.ok();
        return;
    };
    let Ok(mut onward) = TcpStream::connect(to).await else { return };
    stream.write_all(b"HTTP/1.1 200 Go on\r\nX: y\r\n\r\n").await.unwrap();
    tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok();
}

fn tunnelled(root: &Authority, proxy: &str) -> Value {
    json!({"prober": "http", "http": {
        "proxy_url": proxy, "proxy_connect_header": {"X-Connect": ["c"]},
        "preferred_ip_protocol": "ip4", "fail_if_not_ssl": true,
        "tls_config": {"ca": root.pem()},
    }})
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let root = Authority::root("root");
    let target = https(Tls::new(root.leaf(&Leaf::default())).acceptor(), "behind").await;
    let proxy = Peer::new(tunnel).await;
    let spec = tunnelled(&root, &format!("http://{}", proxy.address));
    let outcome = probe(spec, format!("https://{}/", target.by_name())).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH), Some(6.0));
    assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), Some(1.0));
    assert_eq!((proxy.accepted(), target.accepted()), (1, 1));
}

#[tokio::test]
async fn a_tunnel_can_be_inside_tls() {
    let root = Authority::root("root");
    let target = https(Tls::new(root.leaf(&Leaf::default())).acceptor(), "behind").await;
    let acceptor = Tls::new(root.leaf(&Leaf::default())).acceptor();
    let proxy = Peer::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                tunnel(stream).await;
            }
        }
    })
    .await;
    let url = format!("https://localhost:{}", proxy.port());
    let outcome = probe(tunnelled(&root, &url), format!("https://{}/", target.by_name())).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!((proxy.accepted(), target.accepted()), (1, 1));

    let stranger = Authority::root("stranger");
    let outcome = probe(tunnelled(&stranger, &url), format!("https://{}/", target.by_name())).await;
    assert_eq!(reason(&outcome), "proxy_refused", "{}", outcome.answer);
    assert_eq!(target.accepted(), 1);
}

#[tokio::test]
async fn an_https_proxy_takes_plain_requests() {
    let root = Authority::root("root");
    let proxy = https(Tls::new(root.leaf(&Leaf::default())).acceptor(), "from the proxy").await;
    let spec = json!({"prober": "http", "http": {
        "proxy_url": format!("https://localhost:{}", proxy.port()),
        "skip_resolve_phase_with_proxy": true, "preferred_ip_protocol": "ip4",
        "tls_config": {"ca": root.pem()},
    }});
    let outcome = probe(spec, "http://no-such-host.example/path").await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    // TLS to the proxy is not TLS to the target.
    assert_eq!(outcome.fact(&family::PROBE_HTTP_SSL), Some(0.0));
}

#[tokio::test]
async fn a_silent_proxy_ends_with_the_budget() {
    let proxy = Peer::new(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.ok();
    })
    .await;
    let spec = json!({"prober": "http", "timeout": "300ms", "http": {
        "proxy_url": format!("http://{}", proxy.address),
    }});
    let outcome = probe(spec, "https://127.0.0.1:9/").await;
    assert_eq!(reason(&outcome), "proxy_refused");
    assert_eq!(outcome.phase, Some(Phase::Connect));
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
}

async fn with_environment(spec: Value, target: &str, variables: &[(&str, String)]) -> Outcome {
    let net = Net::from_system(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    });
    let target = Target::plain(target);
    let timeout = Duration::from_secs(10);
    probing::run(&module(spec), &target, timeout, &net, clock::now()).await
}

#[tokio::test]
async fn the_environment_names_proxies_and_exemptions() {
    let proxy = Web::saying(ok("from the proxy")).await;
    let url = format!("http://{}", proxy.peer.address);
    let spec = json!({"prober": "http", "http": {
        "proxy_from_environment": true, "skip_resolve_phase_with_proxy": true,
    }});
    let target = "http://no-such-host.example/x";
    for name in ["HTTP_PROXY", "http_proxy"] {
        let outcome = with_environment(spec.clone(), target, &[(name, url.clone())]).await;
        assert_eq!(reason(&outcome), "pass", "{name}: {}", outcome.answer);
    }
    assert_eq!(proxy.requests().len(), 2);
    assert!(proxy.last().starts_with("GET http://no-such-host.example/x HTTP/1.1"));

    // Our own machine is asked directly, and so is what is exempt.
    let web = Web::saying(ok("direct")).await;
    let all = [("HTTP_PROXY", url.clone()), ("NO_PROXY", "127.0.0.0/8".to_owned())];
    for variables in [&all[..1], &all] {
        let spec = json!({"prober": "http", "http": {"proxy_from_environment": true}});
        let outcome = with_environment(spec, &web.url("/"), variables).await;
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    }
    assert_eq!((web.requests().len(), proxy.requests().len()), (2, 2));
}

#[tokio::test]
async fn no_proxy_exempts_and_a_fixed_proxy_does_not() {
    let proxy = Web::saying(ok("from the proxy")).await;
    let web = Web::saying(ok("direct")).await;
    let url = format!("http://{}", proxy.peer.address);
    let exempt = json!({"prober": "http", "http": {"proxy_url": url, "no_proxy": "127.0.0.1"}});
    assert_eq!(reason(&probe(exempt, web.url("/")).await), "pass");
    assert_eq!((web.requests().len(), proxy.requests().len()), (1, 0));
    let through = json!({"prober": "http", "http": {"proxy_url": url}});
    assert_eq!(reason(&probe(through, web.url("/")).await), "pass");
    assert_eq!((web.requests().len(), proxy.requests().len()), (1, 1));
}

#[tokio::test]
async fn socks_resolves_names_when_it_is_left_to() {
    let web = Web::saying(ok("")).await;
    let to = web.peer.address;
    let proxy = Peer::new(move |mut stream| async move {
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        stream.write_all(&[5, 0]).await.unwrap();
        let mut wanted = [0; 5 + 20 + 2];
        stream.read_exact(&mut wanted).await.unwrap();
        assert_eq!(&wanted[..5], [5, 1, 0, 3, 20]);
        assert_eq!(&wanted[5..25], b"no-such-host.example");
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut onward = TcpStream::connect(to).await.unwrap();
        tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok();
    })
    .await;
    let spec = json!({"prober": "http", "http": {
        "proxy_url": format!("socks5://{}", proxy.address), "skip_resolve_phase_with_proxy": true,
    }});
    assert_eq!(reason(&probe(spec, "http://no-such-host.example/").await), "pass");
    assert!(web.last().contains("host: no-such-host.example\r\n"), "{}", web.last());

    let refusing = Peer::answering(&[5, 0xff]).await;
    let spec = json!({"prober": "http", "http": {
        "proxy_url": format!("socks5://{}", refusing.address),
    }});
    assert_eq!(reason(&probe(spec, web.url("/")).await), "proxy_refused");
}

fn deflated(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn brotlied(text: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    brotli::CompressorWriter::new(&mut packed, 4096, 5, 20).write_all(text).unwrap();
    packed
}

#[tokio::test]
async fn packed_bodies_are_unpacked_as_told() {
    let text = "hello hello hello hello";
    for (coding, packed) in
        [("br", brotlied(text.as_bytes())), ("deflate", deflated(text.as_bytes()))]
    {
        let wire_length = packed.len();
        let encoding = format!("Content-Encoding: {coding}");
        let web = Web::saying(response("200 OK", &[&encoding], &packed)).await;
        let spec = |compression: &str| {
            json!({"prober": "http", "http": {
                "compression": compression, "headers": {"Accept-Encoding": compression},
                "fail_if_body_not_matches_regexp": ["^hello hello"],
            }})
        };
        let outcome = probe(spec(coding), web.url("/")).await;
        assert_eq!(reason(&outcome), "pass", "{coding}: {}", outcome.answer);
        let length = outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH);
        assert_eq!(length, Some(23.0));
        let declared = outcome.fact(&family::PROBE_HTTP_CONTENT_LENGTH);
        assert_eq!(declared, Some(f64::from(u32::try_from(wire_length).unwrap())));
        assert!(web.last().contains(&format!("accept-encoding: {coding}")));
        assert_eq!(reason(&probe(spec("gzip"), web.url("/")).await), "body_encoding");

        let cut = Web::saying(response("200 OK", &[], &packed[..wire_length - 3])).await;
        assert_eq!(reason(&probe(spec(coding), cut.url("/")).await), "body_encoding", "{coding}");
    }
}

#[tokio::test]
async fn a_missing_client_certificate_is_a_failed_handshake() {
    let root = Authority::root("root");
    let clients = Authority::root("clients");
    for (versions, alpn) in [
        (vec![&version::TLS12], vec![]),
        (vec![&version::TLS13], vec![]),
        (vec![&version::TLS13], vec![&b"h2"[..]]),
    ] {
        let speaks_h2 = !alpn.is_empty();
        let tls = Tls {
            versions: versions.clone(),
            alpn,
            clients: Some(demanding(&clients)),
            ..Tls::new(root.leaf(&Leaf::default()))
        };
        let peer = https(tls.acceptor(), "for members").await;
        let spec = |more: Value| {
            let mut tls = json!({"ca": root.pem()});
            tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"prober": "http", "timeout": "10s", "http": {
                "preferred_ip_protocol": "ip4", "tls_config": tls,
            }})
        };
        let url = format!("https://{}/", peer.by_name());
        let outcome = probe(spec(json!({})), url.as_str()).await;
        let text = outcome.answer.to_string();
        assert_eq!(reason(&outcome), "tls_handshake", "{versions:?}: {text}");
        assert!(text.contains("alert"), "{text}");
        if speaks_h2 {
            continue;
        }
        let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
        let own = clients.leaf(&Leaf { usage, ..Leaf::default() });
        let outcome = probe(spec(json!({"cert": own.pem, "key": own.key_pem})), url).await;
        assert_eq!(reason(&outcome), "pass", "{versions:?}: {}", outcome.answer);
    }
}

/// The three parts of a token in its compact form.
fn parts(token: &str) -> (Value, Value, Vec<u8>) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || parts.next().unwrap();
    let (header, claims) = (next(), next());
    let read = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    (read(header), read(claims), next())
}

#[tokio::test]
async fn tokens_are_bought_with_a_signed_assertion() {
    let tokens = Web::new(|request| {
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        if request.contains("\r\nauthorization:") || !request.contains(grant) {
            return response("400 X", &[], "");
        }
        ok(r#"{"access_token": "abc", "token_type": "bearer", "expires_in": "3600"}"#)
    })
    .await;
    let web = Web::new(|request| {
        if request.contains("authorization: Bearer abc") {
            ok("")
        } else {
            response("401 X", &[], "")
        }
    })
    .await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    for (algorithm, scheme) in [
        ("RS256", SignatureScheme::RSA_PKCS1_SHA256),
        ("RS384", SignatureScheme::RSA_PKCS1_SHA384),
        ("RS512", SignatureScheme::RSA_PKCS1_SHA512),
    ] {
        let module = module(json!({"prober": "http", "http": {"oauth2": {
            "client_id": "me", "token_url": tokens.url("/token"), "scopes": ["a", "b"],
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "client_certificate_key": key.serialize_pem(), "client_certificate_key_id": "k1",
            "signature_algorithm": algorithm, "audience": "them", "claims": {"tenant": 7},
        }}}));
        let before = clock::now().wall.as_second();
        for _ in 0..2 {
            let outcome = run(&module, &Target::plain(web.url("/"))).await;
            assert_eq!(reason(&outcome), "pass", "{algorithm}: {}", outcome.answer);
        }
        let form = tokens.last();
        let token = form.split("assertion=").nth(1).unwrap().split('&').next().unwrap();
        let (header, claims, signature) = parts(token);
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT", "kid": "k1"}));
        for (name, value) in [("iss", "me"), ("sub", "me"), ("aud", "them"), ("scope", "a b")] {
            assert_eq!(claims[name], value, "{claims}");
        }
        assert_eq!(claims["tenant"], 7);
        let issued = claims["iat"].as_i64().unwrap();
        assert!((before..before + 60).contains(&issued), "{claims}");
        assert!(claims["exp"].as_i64().unwrap() > issued);
        let signed = token.rsplit_once('.').unwrap().0;
        let provider = aws_lc_rs::default_provider();
        let mapping = provider.signature_verification_algorithms.mapping;
        let (_, algorithms) = mapping.iter().find(|(known, _)| *known == scheme).unwrap();
        let public = rcgen::PublicKeyData::der_bytes(&key);
        assert!(
            algorithms
                .iter()
                .any(|a| a.verify_signature(public, signed.as_bytes(), &signature).is_ok()),
            "{algorithm}"
        );
    }
    assert_eq!(tokens.requests().len(), 3, "a token is kept");
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_ours() {
    let tokens = Web::saying(ok("{}")).await;
    let spec = |key: String| {
        json!({"prober": "http", "http": {"oauth2": {
            "client_id": "me", "token_url": tokens.url("/"), "client_certificate_key": key,
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        }}})
    };
    let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for key in [elliptic, "nonsense".to_owned()] {
        assert_eq!(reason(&probe(spec(key), "http://127.0.0.1:9/").await), "setup");
    }
    assert!(tokens.requests().is_empty());
}
