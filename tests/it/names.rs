//! Whom watchpost must reach by name: a dead address or a name that is not there yet delays a page, and loses none.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use watchpost::book::NoteKind;
use watchpost::model::Status;
use watchpost::net::{Resolver, http_client};
use watchpost::notify::Sent;

use crate::notify_delivery::{book, event, start, until};
use crate::notify_receivers::{is_delivered, is_retry, receiver_asking, send};
use crate::resolve::{says, serves};
use crate::support::certs::{Authority, Leaf};
use crate::support::dns::NameServer;
use crate::support::fakes::{Fake, PagerDuty, Reply, Smtp};
use crate::support::peer::{Peer, Tls};

/// Nobody listens at the first.
const DEAD_FIRST: &[&str] = &["127.0.0.2", "127.0.0.1"];

fn asking(server: &NameServer) -> Resolver {
    Resolver::with_servers(vec![server.address])
}

/// `http://host:port`, where the port is that of `url`.
fn at(host: &str, url: &str) -> String {
    format!("http://{host}:{}", url.rsplit_once(':').unwrap().1)
}

/// An error with what led to it.
fn told(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_client_goes_on_to_the_next_address() {
    let names = NameServer::udp(serves(DEAD_FIRST)).await;
    let fake = Fake::start(|_| Reply::text(200, "here")).await;
    let client = http_client(&asking(&names)).no_proxy().build().unwrap();
    let answer = client.get(at("there.example", &fake.url)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "here");
    assert_eq!(names.asked(), 2, "once for each family");
    let host = fake.ledger()[0].headers["host"].to_str().unwrap().to_owned();
    assert!(host.starts_with("there.example:"), "{host}");
    // A literal needs nobody.
    client.get(&fake.url).send().await.unwrap();
    assert_eq!(names.asked(), 2);
}

#[tokio::test]
async fn a_client_says_why_a_name_leads_nowhere() {
    for (code, says_so) in [
        (ResponseCode::NXDomain, "name there.example does not exist"),
        (ResponseCode::NoError, "name there.example has no IP address"),
        (ResponseCode::ServFail, "the resolver failed for there.example: Server Failure"),
    ] {
        let names = NameServer::udp(says(code)).await;
        let client = http_client(&asking(&names)).no_proxy().build().unwrap();
        let error = client.get("http://there.example/").send().await.unwrap_err();
        assert!(error.is_connect() && !error.is_builder(), "{error:?}");
        let text = told(error);
        assert!(text.contains(says_so), "{text}");
    }
}

/// Takes what a SOCKS5 client asks for and goes.
async fn socks(asked: Arc<Mutex<Vec<Vec<u8>>>>) -> Peer {
    Peer::new(move |mut stream| {
        let asked = Arc::clone(&asked);
        async move {
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.write_all(&[5, 0]).await.unwrap();
            let mut request = vec![0; 64];
            let len = stream.read(&mut request).await.unwrap();
            request.truncate(len);
            asked.lock().unwrap().push(request);
        }
    })
    .await
}

#[tokio::test]
async fn proxies_are_found_by_the_same_resolver() {
    let names = NameServer::udp(serves(DEAD_FIRST)).await;
    let proxy = Fake::start(|_| Reply::text(200, "by proxy")).await;
    let through = |url: String| {
        let proxy = reqwest::Proxy::all(url).unwrap();
        http_client(&asking(&names)).proxy(proxy).build().unwrap()
    };
    let client = through(at("proxy.example", &proxy.url));
    let answer = client.get("http://far.example/").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "by proxy");
    assert_eq!(names.asked(), 2, "the far name is the proxy's to find");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let socks = socks(Arc::clone(&asked)).await;
    for (scheme, lookups) in [("socks5h", 2), ("socks5", 4)] {
        let before = names.asked();
        let client = through(format!("{scheme}://proxy.example:{}", socks.port()));
        client.get("http://far.example/").send().await.unwrap_err();
        assert_eq!(names.asked() - before, lookups, "{scheme}");
    }
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[0][..5], [5, 1, 0, 3, 11], "a name of 11 letters");
    assert_eq!(asked[1][..8], [5, 1, 0, 1, 127, 0, 0, 2], "an address");
}

#[tokio::test]
async fn a_page_gets_through_to_the_second_address() {
    let names = NameServer::udp(serves(DEAD_FIRST)).await;
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let url = format!("{}/v2/enqueue", at("pager.example", &pagerduty.http.url));
    let spec = json!({"name": "r", "pagerduty": {"routing_key": "k1", "url": url}});
    let sent = send(&receiver_asking(&asking(&names), spec), NoteKind::Trigger).await;
    assert!(is_delivered(&sent), "{sent:?}");
    assert_eq!(pagerduty.opened(), 1);
}

#[tokio::test]
async fn a_page_waits_for_its_name() {
    let is_there = Arc::new(Mutex::new(false));
    let told = Arc::clone(&is_there);
    let names = NameServer::udp(move |query: &Message| {
        if *told.lock().unwrap() {
            serves(&["127.0.0.1"])(query)
        } else {
            says(ResponseCode::NXDomain)(query)
        }
    })
    .await;
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let url = format!("{}/v2/enqueue", at("pager.example", &pagerduty.http.url));
    let spec = json!({"name": "oncall", "pagerduty": {"routing_key": "k1", "url": url}});
    let receiver = receiver_asking(&asking(&names), spec);
    let Sent::Retry { why, .. } = send(&receiver, NoteKind::Trigger).await else {
        panic!("tried again later")
    };
    assert!(why.contains("name pager.example does not exist"), "{why}");
    let dir = tempfile::tempdir().unwrap();
    let running = start(book(dir.path()), vec![receiver], None);
    let before = names.asked();
    running.handle.change(event("backup", Status::Down));
    until("several tries", || names.asked() >= before + 6).await;
    assert_eq!(pagerduty.opened(), 0);
    *is_there.lock().unwrap() = true;
    until("the page", || pagerduty.opened() == 1).await;
    running.confirmed().await;
    assert_eq!(pagerduty.http.count(), 1);
    running.stop().await;
}

/// A relay at two addresses with one port; what is at the first is the caller's business.
async fn relay_at_two(tls: Option<Tls>) -> (SocketAddr, Smtp) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (SocketAddr::from(([127, 0, 0, 2], port)), Smtp::on(listener, tls))
}

fn email(first: SocketAddr, more: serde_json::Value) -> serde_json::Value {
    let mut email = json!({
        "to": ["oncall@team.example"], "from": "watchpost@team.example",
        "smarthost": format!("relay.example:{}", first.port()), "require_tls": false,
    });
    email.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": "r", "email": email})
}

#[tokio::test]
async fn mail_goes_to_the_address_that_greets() {
    let names = NameServer::udp(serves(DEAD_FIRST)).await;
    let (first, smtp) = relay_at_two(None).await;
    let receiver = receiver_asking(&asking(&names), email(first, json!({})));
    let sent = send(&receiver, NoteKind::Trigger).await;
    assert!(is_delivered(&sent), "refused: {sent:?}");
    // The kernel accepts and nobody says a word.
    let mute = TcpListener::bind(first).await.unwrap();
    let sent = send(&receiver, NoteKind::Trigger).await;
    assert!(is_delivered(&sent), "mute: {sent:?}");
    drop(mute);
    let busy = Peer::at(&first.to_string(), |mut stream| async move {
        stream.write_all(b"554 not today\r\n").await.ok();
    })
    .await;
    let sent = send(&receiver, NoteKind::Trigger).await;
    assert!(is_delivered(&sent), "busy: {sent:?}");
    assert_eq!((busy.accepted(), smtp.messages().len()), (1, 3), "each once");
}

#[tokio::test]
async fn mail_that_a_relay_may_have_taken_goes_to_no_other_address() {
    let names = NameServer::udp(serves(DEAD_FIRST)).await;
    let (first, second) = relay_at_two(None).await;
    let first_relay = Smtp::on(TcpListener::bind(first).await.unwrap(), None);
    let receiver = receiver_asking(&asking(&names), email(first, json!({})));
    for verdict in ["451 later", "garbage"] {
        first_relay.set_verdict(verdict);
        let sent = send(&receiver, NoteKind::Trigger).await;
        assert!(is_retry(&sent), "{verdict}: {sent:?}");
    }
    first_relay.set_verdict("250 taken");
    assert!(is_delivered(&send(&receiver, NoteKind::Trigger).await));
    assert_eq!((first_relay.messages().len(), second.messages().len()), (1, 0));
}

#[tokio::test]
async fn mail_that_no_address_takes_is_tried_again_and_says_why() {
    let names = NameServer::udp(serves(&["127.0.0.2", "127.0.0.3"])).await;
    let (first, _) = relay_at_two(None).await;
    let receiver = receiver_asking(&asking(&names), email(first, json!({})));
    let Sent::Retry { why, .. } = send(&receiver, NoteKind::Trigger).await else {
        panic!("tried again later")
    };
    assert!(why.contains("127.0.0.2:") && why.contains("127.0.0.3:"), "{why}");
    let nowhere = NameServer::udp(says(ResponseCode::NXDomain)).await;
    let receiver = receiver_asking(&asking(&nowhere), email(first, json!({})));
    let Sent::Retry { why, .. } = send(&receiver, NoteKind::Trigger).await else {
        panic!("tried again later")
    };
    assert_eq!(why, "name relay.example does not exist");
}

#[tokio::test]
async fn a_relay_s_certificate_is_that_of_its_name() {
    let names = NameServer::udp(serves(DEAD_FIRST)).await;
    let root = Authority::root("root");
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, root.pem()).unwrap();
    for (shown, is_taken) in [("relay.example", true), ("127.0.0.1", false)] {
        let leaf = root.leaf(&Leaf { names: &[shown], ..Leaf::default() });
        let (first, smtp) = relay_at_two(Some(Tls::new(leaf))).await;
        let mut spec = email(first, json!({"require_tls": true}));
        spec["ca_file"] = json!(ca_file);
        let sent = send(&receiver_asking(&asking(&names), spec), NoteKind::Trigger).await;
        assert_eq!(is_delivered(&sent), is_taken, "{shown}: {sent:?}");
        assert_eq!(smtp.messages().len(), usize::from(is_taken));
    }
}

#[tokio::test]
async fn a_relay_that_never_says_goodbye_gets_each_message_once() {
    let names = NameServer::udp(serves(&["127.0.0.1"])).await;
    let talk = |mut stream: tokio::net::TcpStream| async move {
        let script: [(&[u8], &[u8]); 5] = [
            (b"220 hello\r\n", b"\r\n"),
            (b"250 hello\r\n", b"\r\n"),
            (b"250 ok\r\n", b"\r\n"),
            (b"250 ok\r\n", b"\r\n"),
            (b"354 go on\r\n", b"\r\n.\r\n"),
        ];
        for (says, awaits) in script {
            stream.write_all(says).await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(awaits) {
                heard.push(stream.read_u8().await.unwrap());
            }
        }
        stream.write_all(b"250 taken\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    };
    let relay = Peer::new(talk).await;
    let receiver = receiver_asking(&asking(&names), email(relay.address, json!({})));
    let sent = send(&receiver, NoteKind::Trigger).await;
    assert!(is_delivered(&sent), "{sent:?}");
}
