//! The `http` prober against peers that misbehave: each has a name of its own.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use watchpost::model::{Outcome, Phase, family};

use super::support::peer::{Peer, linger};
use super::support::run::{probe, reason};
use super::support::web::{Web, ok, read_request};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n";

fn quick() -> Value {
    json!({"prober": "http", "timeout": "400ms"})
}

async fn ask(peer: &Peer) -> Outcome {
    probe(quick(), format!("http://{}/", peer.address)).await
}

/// Reads the request, says something, and goes on as told.
async fn after_request<T: Future<Output = ()> + Send + 'static>(
    talk: impl Fn(TcpStream) -> T + Send + Sync + 'static,
) -> Peer {
    let talk = std::sync::Arc::new(talk);
    Peer::new(move |mut stream| {
        let talk = std::sync::Arc::clone(&talk);
        async move {
            if read_request(&mut stream).await.is_some() {
                talk(stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn nothing_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = probe(quick(), format!("http://{address}/")).await;
    assert_eq!(reason(&outcome), "connect_refused");
    assert_eq!(outcome.phase, Some(Phase::Connect));
    assert_eq!(outcome.phases.len(), 5);
    assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(0.0));
}

#[tokio::test]
async fn accepted_and_silent() {
    let peer = after_request(|mut stream| async move { linger(&mut stream).await }).await;
    let outcome = ask(&peer).await;
    assert_eq!(reason(&outcome), "no_response");
    assert_eq!(outcome.phase, Some(Phase::Processing));
}

#[tokio::test]
async fn hung_up_without_a_word() {
    let peer = after_request(|stream| async move { drop(stream) }).await;
    assert_eq!(reason(&ask(&peer).await), "connection_closed");
}

#[tokio::test]
async fn reset_without_a_word() {
    let peer = after_request(|stream| async move {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    assert_eq!(reason(&ask(&peer).await), "connect_reset");
}

#[tokio::test]
async fn another_protocol_answers() {
    for banner in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"220 mail.example ESMTP\r\n", b"\x00\x01\x02"]
    {
        let peer = Peer::saying(banner).await;
        let outcome = ask(&peer).await;
        assert_eq!(reason(&outcome), "protocol_error", "{banner:?}: {}", outcome.answer);
    }
    let peer = Peer::saying(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(ask(&peer).await.answer.to_string().contains("SSH-2.0-OpenSSH_9.2"));
}

/// What comes in pieces is judged by all of them.
#[tokio::test]
async fn a_beginning_in_pieces_is_read_as_a_whole() {
    async fn said(pieces: &'static [&'static str]) -> Outcome {
        let peer = after_request(move |mut stream| async move {
            stream.set_nodelay(true).unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.ok();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        ask(&peer).await
    }
    let outcome = said(&["HT"]).await;
    assert_eq!(reason(&outcome), "connection_closed");
    assert_eq!(outcome.answer.to_string(), "the connection was closed after 2 bytes");
    let outcome = said(&["HT", "TP/1.1 200 OK\r\nX-"]).await;
    assert_eq!(reason(&outcome), "connection_closed", "{}", outcome.answer);
    let outcome = said(&["H", "TML/1.1 200 OK\r\n\r\n"]).await;
    assert!(outcome.answer.to_string().starts_with("unexpected answer: \"H"), "{}", outcome.answer);
}

#[tokio::test]
async fn the_head_stops_or_never_ends() {
    let peer = after_request(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-A: b").await.ok();
        linger(&mut stream).await;
    })
    .await;
    assert_eq!(reason(&ask(&peer).await), "protocol_error");
    let peer = after_request(|mut stream| async move {
        stream.write_all(HEAD).await.ok();
        let mut nth = 0;
        while stream.write_all(format!("X-{nth}: y\r\n").as_bytes()).await.is_ok() {
            nth += 1;
        }
    })
    .await;
    assert_eq!(reason(&ask(&peer).await), "protocol_error");
}

#[tokio::test]
async fn the_body_stalls_trickles_or_never_ends() {
    let peer = after_request(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.ok();
        linger(&mut stream).await;
    })
    .await;
    let outcome = ask(&peer).await;
    assert_eq!(reason(&outcome), "body_timeout");
    assert_eq!(outcome.phase, Some(Phase::Transfer));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH), Some(4.0));
    let peer = after_request(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await.ok();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(reason(&ask(&peer).await), "body_timeout");
    let peer = after_request(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    })
    .await;
    let outcome = ask(&peer).await;
    assert_eq!(reason(&outcome), "body_timeout");
    assert!(outcome.took < Duration::from_millis(800), "{:?}", outcome.took);
    let mut kept = quick();
    kept["http"] = json!({"fail_if_body_matches_regexp": ["y"]});
    kept["timeout"] = json!("20s");
    let outcome = probe(kept, format!("http://{}/", peer.address)).await;
    assert_eq!(reason(&outcome), "body_too_large");
}

#[tokio::test]
async fn the_body_is_cut_or_malformed() {
    for (answer, wanted) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"[..], "body_truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "body_truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n", "protocol_error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhalf", "protocol_error"),
        (b"HTTP/1.1 2xx Fine\r\n\r\n", "protocol_error"),
    ] {
        let web = Web::saying(answer).await;
        let outcome = probe(quick(), web.url("/")).await;
        assert_eq!(reason(&outcome), wanted, "{:?}: {}", answer, outcome.answer);
    }
    let web = Web::saying(&b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"[..]).await;
    let outcome = probe(quick(), web.url("/")).await;
    assert_eq!(outcome.fact(&family::PROBE_HTTP_CONTENT_LENGTH), Some(9.0));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH), Some(4.0));
}

#[tokio::test]
async fn a_bomb_is_defused() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..17 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let web = Web::saying(ok(encoder.finish().unwrap())).await;
    let spec = json!({"prober": "http", "timeout": "20s", "http": {
        "compression": "gzip", "fail_if_body_matches_regexp": ["x"],
    }});
    let outcome = probe(spec, web.url("/")).await;
    assert_eq!(reason(&outcome), "body_too_large");
}

#[tokio::test]
async fn what_is_no_target_is_ours() {
    let outcome = probe(quick(), "http://:80/").await;
    assert_eq!(reason(&outcome), "setup");
    assert!(outcome.phases.is_empty());
    assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(0.0));
    assert_eq!(outcome.fact(&family::PROBE_IP_PROTOCOL), None);
    let spec = json!({"prober": "http", "http": {"body_file": "/no/such/file"}});
    let outcome = probe(spec, "http://127.0.0.1:9/").await;
    assert_eq!(reason(&outcome), "setup");
    assert_eq!(outcome.phases.len(), 1);
}
