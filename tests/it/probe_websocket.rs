//! The prober `websocket`: servers that switch, refuse, stay silent, lie, flood, or go.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use watchpost::model::{Outcome, Phase, family};

use super::support::certs::{Authority, Leaf};
use super::support::peer::{Peer, Tls, linger};
use super::support::run::{has, mistakes, probe, probe_as, reason};
use super::support::web::{read_request, response};

fn websocket(block: Value) -> Value {
    json!({"prober": "websocket", "timeout": "500ms", "websocket": block})
}

/// Status, upgraded, failed in the dialogue.
fn gauges(outcome: &Outcome) -> [Option<f64>; 3] {
    [
        outcome.fact(&family::PROBE_WEBSOCKET_STATUS_CODE),
        outcome.fact(&family::PROBE_WEBSOCKET_CONNECTION_UPGRADED),
        outcome.fact(&family::PROBE_WEBSOCKET_FAILED_DUE_TO_REGEX),
    ]
}

fn phases(outcome: &Outcome) -> Vec<Phase> {
    outcome.phases.iter().map(|(phase, _)| *phase).collect()
}

const OPENED: [Option<f64>; 3] = [Some(101.0), Some(1.0), Some(0.0)];
const LOST: [Option<f64>; 3] = [Some(101.0), Some(1.0), Some(1.0)];

type Requests = Arc<Mutex<Vec<String>>>;

/// Switches, whatever is asked.
async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    requests: &Requests,
) -> Option<WebSocketStream<S>> {
    let request = read_request(&mut stream).await?;
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    // Some servers and proxies write the list of tokens that the standard allows.
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.trim().as_bytes())
    );
    requests.lock().unwrap().push(request.clone());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    Some(WebSocketStream::from_raw_socket(stream, Role::Server, None).await)
}

/// Greets, sends back what comes, and remembers what it was asked.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, requests: Requests) {
    let Some(mut socket) = accept(stream, &requests).await else { return };
    socket.send(Message::Ping(b"are you there".as_slice().into())).await.ok();
    socket.send(Message::text("hello user 42")).await.ok();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            socket.send(Message::binary(message.into_data())).await.ok();
        }
    }
}

async fn server(bind: &str) -> (Peer, Requests) {
    let requests = Requests::default();
    let kept = Arc::clone(&requests);
    let peer = Peer::at(bind, move |stream| talk(stream, Arc::clone(&kept))).await;
    (peer, requests)
}

/// Sends these after the switch, and waits.
async fn sending(messages: Vec<Message>) -> Peer {
    Peer::new(move |stream| {
        let messages = messages.clone();
        async move {
            let Some(mut socket) = accept(stream, &Requests::default()).await else { return };
            for message in messages {
                socket.send(message).await.ok();
            }
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await
}

fn url(peer: &Peer) -> String {
    format!("ws://{}/chat?room=1", peer.address)
}

#[tokio::test]
async fn a_switch_is_enough_without_a_dialogue() {
    for (bind, protocol) in [("127.0.0.1:0", 4.0), ("[::1]:0", 6.0)] {
        let (peer, requests) = server(bind).await;
        let outcome = probe(websocket(json!({})), url(&peer)).await;
        assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
        assert_eq!(gauges(&outcome), OPENED);
        assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), Some(protocol));
        assert_eq!(phases(&outcome), [Phase::Resolve, Phase::Connect, Phase::Processing]);
        let request = requests.lock().unwrap().pop().unwrap();
        assert!(request.starts_with("GET /chat?room=1 HTTP/1.1\r\nhost: "), "{request}");
        assert!(request.contains("user-agent: watchpost/"), "{request}");
        assert!(!request.to_ascii_lowercase().contains("origin:"), "{request}");
    }
}

#[tokio::test]
async fn a_dialogue_takes_one_message_for_each_expect() {
    let (peer, _) = server("127.0.0.1:0").await;
    let steps = json!([
        {"expect": "^hello user ([0-9]+)$", "send": "login ${1}"},
        {"expect": "^login 42$"},
        {"send": "costs $1"},
        {"expect": "^costs \\$1$"},
    ]);
    let outcome = probe(websocket(json!({"query_response": steps})), url(&peer)).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(gauges(&outcome), OPENED);
    let all = [Phase::Resolve, Phase::Connect, Phase::Processing, Phase::Transfer];
    assert_eq!(phases(&outcome), all);
    let steps = json!([{"expect": "hello"}, {"send": "b"}, {"expect": "^a$"}]);
    let outcome = probe(websocket(json!({"query_response": steps})), url(&peer)).await;
    assert_eq!(reason(&outcome), "expect_mismatch");
    assert_eq!(gauges(&outcome), LOST);
}

#[tokio::test]
async fn the_deadline_holds_after_the_switch() {
    let peer = sending(Vec::new()).await;
    let steps = json!([{"expect": "x"}]);
    let outcome = probe(websocket(json!({"query_response": steps})), url(&peer)).await;
    assert_eq!((reason(&outcome), outcome.phase), ("expect_timeout", Some(Phase::Transfer)));
    assert_eq!(gauges(&outcome), LOST);
    assert!(outcome.took < Duration::from_millis(900), "{:?}", outcome.took);
}

#[tokio::test]
async fn messages_that_are_too_large_or_broken_end_the_run() {
    let spec = || websocket(json!({"query_response": [{"expect": "x"}]}));
    let huge = sending(vec![Message::binary(vec![b'x'; 5 << 20])]).await;
    let outcome = probe(spec(), url(&huge)).await;
    assert_eq!((reason(&outcome), gauges(&outcome)), ("body_too_large", LOST));
    let closing = sending(vec![Message::Close(None)]).await;
    assert_eq!(reason(&probe(spec(), url(&closing)).await), "connection_closed");
    let garbage = Peer::new(|stream| async move {
        if let Some(socket) = accept(stream, &Requests::default()).await {
            let mut stream = socket.into_inner();
            stream.write_all(&[0xff; 64]).await.ok();
            linger(&mut stream).await;
        }
    })
    .await;
    assert_eq!(reason(&probe(spec(), url(&garbage)).await), "protocol_error");
    let gone = Peer::new(|stream| async move {
        accept(stream, &Requests::default()).await;
    })
    .await;
    assert_eq!(reason(&probe(spec(), url(&gone)).await), "connection_closed");
    // What came is counted: the head of the switch, and half a frame.
    let half = Peer::new(|stream| async move {
        if let Some(socket) = accept(stream, &Requests::default()).await {
            let mut stream = socket.into_inner();
            stream.write_all(b"\x81\x64half of what was promised").await.ok();
        }
    })
    .await;
    let outcome = probe(spec(), url(&half)).await;
    assert_eq!(reason(&outcome), "connection_closed");
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
                Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let came = head.len() + 2 + "half of what was promised".len();
    let text = outcome.answer.to_string();
    assert_eq!(text, format!("the connection was closed after {came} bytes"));
}

#[tokio::test]
async fn servers_that_do_not_switch_are_told_apart() {
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n";
    for (answer, fault, status) in [
        (response("200 OK", &[], "x"), "upgrade_refused", 200.0),
        (response("302 Found", &["Location: /"], ""), "upgrade_refused", 302.0),
        (response("404 Not Found", &[], ""), "upgrade_refused", 404.0),
        (response("401 Unauthorized", &[], ""), "auth_refused", 401.0),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), "protocol_error", 101.0),
        (
            format!("{upgrade}Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n").into(),
            "protocol_error",
            101.0,
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "protocol_error", 0.0),
        (b"HTTP/1.1 101 Sw".to_vec(), "connection_closed", 0.0),
        (Vec::new(), "connection_closed", 0.0),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let answer = Arc::new(answer);
        let peer = Peer::new(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                if read_request(&mut stream).await.is_some() {
                    stream.write_all(&answer).await.ok();
                }
            }
        })
        .await;
        let outcome =
            probe(websocket(json!({"query_response": [{"expect": "x"}]})), url(&peer)).await;
        assert_eq!(reason(&outcome), fault, "{shown}");
        assert_eq!(gauges(&outcome), [Some(status), Some(0.0), Some(0.0)], "{shown}");
        assert_eq!(phases(&outcome), [Phase::Resolve, Phase::Connect, Phase::Processing]);
    }
}

#[tokio::test]
async fn silence_and_floods_end_with_the_deadline_or_a_bound() {
    let silent = Peer::new(|mut stream| async move {
        let mut ignored = [0; 4096];
        while let Ok(1..) = stream.read(&mut ignored).await {}
    })
    .await;
    let outcome = probe(websocket(json!({})), url(&silent)).await;
    assert_eq!((reason(&outcome), outcome.phase), ("no_response", Some(Phase::Processing)));
    assert!(outcome.took < Duration::from_millis(900), "{:?}", outcome.took);
    let half = Peer::saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgr").await;
    assert_eq!(reason(&probe(websocket(json!({})), url(&half)).await), "protocol_error");
    let flood = Peer::new(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 101 x\r\n").await.ok();
        while stream.write_all(b"a: b\r\n").await.is_ok() {}
    })
    .await;
    let outcome = probe(websocket(json!({})), url(&flood)).await;
    assert_eq!(reason(&outcome), "protocol_error", "{}", outcome.answer);
}

#[tokio::test]
async fn what_never_connected_has_fewer_facts() {
    for target in ["http://127.0.0.1/", "127.0.0.1:80", ""] {
        let outcome = probe(websocket(json!({})), target).await;
        assert_eq!(reason(&outcome), "setup", "{target}");
        assert!(outcome.facts.is_empty() && outcome.phases.is_empty());
    }
    let missing = json!({"http_config": {"tls_config": {"ca_file": "/nonexistent"}}});
    let outcome = probe(websocket(missing), "ws://127.0.0.1:1/").await;
    assert_eq!((reason(&outcome), outcome.phases.len()), ("setup", 0));
    assert!(!has(&outcome, &family::PROBE_IP_PROTOCOL));
    let port = {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().port()
    };
    let outcome = probe(websocket(json!({})), format!("ws://127.0.0.1:{port}/")).await;
    assert_eq!(reason(&outcome), "connect_refused");
    assert_eq!(phases(&outcome), [Phase::Resolve, Phase::Processing]);
    assert_eq!(gauges(&outcome), [Some(0.0); 3]);
}

#[tokio::test]
async fn credentials_and_headers_are_sent() {
    let (peer, requests) = server("127.0.0.1:0").await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "from a file").unwrap();
    let path = file.path().to_str().unwrap();
    let headers = json!({
        "X-Many": {"values": ["one"], "secrets": ["two"], "files": [path]},
        "User-Agent": {"values": ["tester"]},
        "Host": {"values": ["shop.example"]},
    });
    let basic = json!({"basic_auth": {"username": "u", "password": "p"}});
    let spec = websocket(json!({
        "headers": headers, "http_config": basic, "source_ip_address": "127.0.0.2",
    }));
    let outcome = probe(spec, url(&peer)).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    let request = requests.lock().unwrap().pop().unwrap();
    for line in [
        "authorization: Basic dTpw\r\n",
        "x-many: one\r\nx-many: two\r\nx-many: from a file\r\n",
        "user-agent: tester\r\n",
        "host: shop.example\r\n",
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
    assert_eq!(request.matches("host: ").count(), 1);
    for config in [json!({"bearer_token": "t"}), json!({"authorization": {"credentials": "t"}})] {
        probe(websocket(json!({"http_config": config})), url(&peer)).await;
        let request = requests.lock().unwrap().pop().unwrap();
        assert!(request.contains("authorization: Bearer t\r\n"), "{request}");
    }
}

#[tokio::test]
async fn wss_verifies_and_tells_of_what_it_refuses() {
    let authority = Authority::root("root");
    let shown = authority.leaf(&Leaf { names: &["shop.example"], ..Leaf::default() });
    let acceptor = Tls::new(shown).acceptor();
    let peer = Peer::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                talk(stream, Requests::default()).await;
            }
        }
    })
    .await;
    let target = format!("WSS://{}/", peer.address);
    let spec = |config: Value| {
        websocket(json!({"http_config": {"tls_config": config},
            "query_response": [{"expect": "hello"}]}))
    };
    let trusted = json!({"ca": authority.pem()});
    let outcome = probe_as(spec(trusted.clone()), &target, "shop.example").await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert!(!has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert_eq!(reason(&probe(spec(json!({"insecure_skip_verify": true})), &target).await), "pass");
    let outcome = probe(spec(trusted), &target).await;
    assert_eq!((reason(&outcome), gauges(&outcome)), ("cert_name_mismatch", [Some(0.0); 3]));
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
}

#[test]
fn mistakes_are_found_at_load() {
    let keys = |block: Value| -> Vec<(String, bool)> {
        mistakes(websocket(block)).into_iter().map(|m| (m.key, m.warning)).collect()
    };
    let unused = json!({"query_response": [{"expect": "a"}, {"starttls": true}]});
    assert_eq!(keys(unused), [("websocket.query_response.1.starttls".to_owned(), true)]);
    let handshake = json!({"headers": {"Upgrade": {"values": ["x"]}}});
    assert_eq!(keys(handshake), [("websocket.headers".to_owned(), false)]);
    let proxied = json!({"http_config": {"proxy_url": "http://127.0.0.1:1"}});
    assert_eq!(keys(proxied), [("websocket.http_config.proxy_url".to_owned(), true)]);
    let both = json!({"http_config": {"bearer_token": "a", "basic_auth": {"username": "b"}}});
    assert!(keys(both).iter().any(|(_, warning)| !warning));
}
