//! The prober `unix`: sockets that talk, stay silent, are not there, or accept nothing.

#![expect(clippy::disallowed_methods, reason = "test servers are spawned")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use watchpost::model::{Phase, family};

use super::support::certs::{Authority, Leaf};
use super::support::peer::{Tls, linger};
use super::support::run::{has, labels, mistakes, probe, probe_as, reason};

/// A server on a socket of its own, which is gone when it is dropped.
struct Local {
    path: PathBuf,
    _folder: TempDir,
    accepting: JoinHandle<()>,
}

impl Local {
    fn new<F, T>(talk: F) -> Self
    where
        F: Fn(UnixStream) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream));
            }
        });
        Self { path, _folder: folder, accepting }
    }

    fn target(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn unix(block: Value) -> Value {
    json!({"prober": "unix", "timeout": "500ms", "unix": block})
}

#[tokio::test]
async fn connecting_is_enough_without_a_dialogue() {
    let local = Local::new(|mut stream| async move { linger(&mut stream).await });
    let outcome = probe(json!({"prober": "unix"}), local.target()).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(0.0));
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_BYTES), Some(0.0));
    assert!(!has(&outcome, &family::PROBE_IP_PROTOCOL));
    assert!(!has(&outcome, &family::PROBE_DNS_LOOKUP_TIME));
}

#[tokio::test]
async fn sockets_that_take_no_connection_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let outcome = probe(unix(json!({})), inside("nothing")).await;
    assert_eq!((reason(&outcome), outcome.phase), ("connect_unreachable", Some(Phase::Connect)));
    assert!(outcome.facts.is_empty());
    std::fs::write(inside("file"), "").unwrap();
    assert_eq!(reason(&probe(unix(json!({})), inside("file")).await), "connect_refused");
    drop(UnixListener::bind(inside("left")).unwrap());
    let outcome = probe(unix(json!({})), inside("left")).await;
    assert_eq!(outcome.answer.to_string(), format!("nothing listens on {}", inside("left")));
    for target in [String::new(), inside(&"x".repeat(200))] {
        let outcome = probe(unix(json!({})), target).await;
        assert_eq!(reason(&outcome), "setup");
        assert!(outcome.facts.is_empty());
    }
}

#[tokio::test]
async fn a_socket_that_accepts_nothing_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    // Until the queue is full.
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), UnixStream::connect(&path)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 1000);
    }
    let outcome = probe(unix(json!({})), path.to_str().unwrap()).await;
    assert_eq!(reason(&outcome), "connect_timeout");
    assert!(outcome.took < Duration::from_millis(900), "{:?}", outcome.took);
}

#[tokio::test]
async fn names_of_the_abstract_namespace_work() {
    let name = format!("watchpost-test-{}", std::process::id());
    let _listener = UnixListener::bind(format!("\0{name}")).unwrap();
    let outcome = probe(unix(json!({})), format!("@{name}")).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
}

#[tokio::test]
async fn a_conversation_is_held() {
    let local = Local::new(|mut stream| async move {
        stream.write_all(b"hello 42\n").await.ok();
        let mut asked = [0; 4];
        if stream.read_exact(&mut asked).await.is_ok() && &asked == b"got\x20" {
            stream.write_all(b"bytes").await.ok();
        }
        linger(&mut stream).await;
    });
    let steps = json!([
        {"expect": "^hello ([0-9]+)$", "send": "got $1", "labels": [{"name": "n", "value": "$1"}]},
        {"expect_bytes": "bytes"},
    ]);
    let outcome = probe(unix(json!({"query_response": steps})), local.target()).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(labels(&outcome, &family::PROBE_EXPECT_INFO, "n"), ["42"]);
}

#[tokio::test]
async fn dialogues_fail_by_their_rules() {
    let silent = Local::new(|mut stream| async move { linger(&mut stream).await });
    let steps = |expect: &str| unix(json!({"query_response": [{"expect": expect}]}));
    let outcome = probe(steps("x"), silent.target()).await;
    assert_eq!(reason(&outcome), "expect_timeout");
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(0.0));
    let rude = Local::new(|mut stream| async move {
        stream.write_all(b"other\n").await.ok();
    });
    let outcome = probe(steps("x"), rude.target()).await;
    assert_eq!(reason(&outcome), "expect_mismatch");
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_REGEX), Some(1.0));
    let bytes = unix(json!({"query_response": [{"expect_bytes": "OTHER\n"}]}));
    let outcome = probe(bytes, rude.target()).await;
    assert_eq!(outcome.fact(&family::PROBE_FAILED_DUE_TO_BYTES), Some(1.0));
}

#[tokio::test]
async fn tls_is_spoken_on_a_socket() {
    let authority = Authority::root("root");
    let shown = authority.leaf(&Leaf { names: &["db.example"], ..Leaf::default() });
    let acceptor = Tls::new(shown).acceptor();
    let local = Local::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                linger(&mut stream).await;
            }
        }
    });
    let config = json!({"ca": authority.pem()});
    let spec = unix(json!({
        "tls": true, "tls_config": config,
        "query_response": [{"send": "ping"}, {"expect": "^ping$"}],
    }));
    let outcome = probe_as(spec.clone(), local.target(), "db.example").await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert!(has(&outcome, &family::PROBE_TLS_VERSION_INFO));
    let outcome = probe(spec, local.target()).await;
    assert_eq!(reason(&outcome), "cert_name_mismatch");
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert!(!has(&outcome, &family::PROBE_FAILED_DUE_TO_REGEX));
    let unusable = unix(json!({"tls": true, "tls_config": {"ca_file": "/nonexistent"}}));
    let outcome = probe(unusable, local.target()).await;
    assert_eq!(reason(&outcome), "setup");
}

#[tokio::test]
async fn starttls_upgrades_a_socket() {
    let authority = Authority::root("root");
    let acceptor = Tls::new(authority.leaf(&Leaf::default())).acceptor();
    let local = Local::new(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut asked = [0; 9];
            if stream.read_exact(&mut asked).await.is_ok() {
                stream.write_all(b"go on\n").await.ok();
            }
            if let Ok(mut stream) = acceptor.accept(stream).await {
                linger(&mut stream).await;
            }
        }
    });
    let spec = unix(json!({"tls_config": {"ca": authority.pem()}, "query_response": [
        {"send": "STARTTLS"}, {"expect": "^go on$", "starttls": true},
        {"send": "echo"}, {"expect": "^echo$"},
    ]}));
    let outcome = probe(spec, local.target()).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert!(has(&outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
}

#[test]
fn what_clashes_is_refused_at_load() {
    let found = mistakes(unix(json!({"tls": true, "query_response": [{"starttls": true}]})));
    assert_eq!(found[0].key, "unix.query_response");
    let found = mistakes(unix(json!({"tls_config": {"key": "k"}})));
    assert_eq!(found[0].key, "unix.tls_config.key");
}
