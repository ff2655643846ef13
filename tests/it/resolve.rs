//! Resolving names with name servers that misbehave.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::time::Instant;
use watchpost::model::{Answer, Fault, Phase};
use watchpost::net::{Deadline, IpFamily, IpPreference, Resolver, Stopwatch};

use crate::support::dns::{NameServer, answer, bytes, framed, reply};

const EITHER: IpPreference = IpPreference { family: IpFamily::V6, fallback: true };
const ONLY_V4: IpPreference = IpPreference { family: IpFamily::V4, fallback: false };
const ONLY_V6: IpPreference = IpPreference { family: IpFamily::V6, fallback: false };

async fn resolve(
    servers: Vec<SocketAddr>,
    host: &str,
    preference: IpPreference,
    budget: Duration,
) -> Result<IpAddr, Answer> {
    let mut watch = Stopwatch::default();
    let resolver = Resolver::with_servers(servers);
    let result =
        resolver.resolve((host, None), preference, Deadline::after(budget), &mut watch).await;
    assert!(watch.took(Phase::Resolve).is_some());
    result
}

async fn ask(server: &NameServer, preference: IpPreference) -> Result<IpAddr, Answer> {
    resolve(vec![server.address], "a.example", preference, Duration::from_secs(5)).await
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Answers with those of `addresses` that are of the family asked for.
fn with(query: &Message, addresses: &[&str]) -> Message {
    let kind = query.queries[0].query_type();
    let of_kind = addresses
        .iter()
        .map(|text| RData::from(ip(text)))
        .filter(|data| data.record_type() == kind);
    answer(query, of_kind)
}

pub(crate) fn serves(addresses: &'static [&'static str]) -> impl Fn(&Message) -> Vec<Vec<u8>> {
    move |query| vec![bytes(&with(query, addresses))]
}

pub(crate) fn says(code: ResponseCode) -> impl Fn(&Message) -> Vec<Vec<u8>> {
    move |query| vec![bytes(&reply(query, code))]
}

#[tokio::test]
async fn the_preferred_family_first_and_the_last_of_the_other() {
    let both = NameServer::udp(serves(&["192.0.2.1", "2001:db8::1", "2001:db8::2"])).await;
    assert_eq!(ask(&both, EITHER).await, Ok(ip("2001:db8::1")));
    assert_eq!(ask(&both, ONLY_V4).await, Ok(ip("192.0.2.1")));
    let four = NameServer::udp(serves(&["192.0.2.1", "192.0.2.2"])).await;
    assert_eq!(ask(&four, EITHER).await, Ok(ip("192.0.2.2")));
    assert_eq!(ask(&four, ONLY_V6).await.unwrap_err().reason(), Some("resolve_no_address"));
    let six = NameServer::udp(serves(&["2001:db8::1"])).await;
    assert_eq!(ask(&six, EITHER).await, Ok(ip("2001:db8::1")));
    let v4_first = IpPreference { family: IpFamily::V4, fallback: true };
    assert_eq!(ask(&six, v4_first).await, Ok(ip("2001:db8::1")));
    assert_eq!(ask(&six, ONLY_V4).await.unwrap_err().reason(), Some("resolve_no_address"));
}

#[tokio::test]
async fn each_way_to_fail_has_its_reason() {
    for (code, reason) in [
        (ResponseCode::NXDomain, "resolve_nxdomain"),
        (ResponseCode::NoError, "resolve_no_address"),
        (ResponseCode::ServFail, "resolve_servfail"),
        (ResponseCode::Refused, "resolve_servfail"),
    ] {
        let server = NameServer::udp(says(code)).await;
        for preference in [EITHER, ONLY_V4] {
            let answer = ask(&server, preference).await.unwrap_err();
            assert_eq!(answer.reason(), Some(reason), "{code:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn silence_takes_the_budget_and_names_it() {
    let server = NameServer::udp(|_| Vec::new()).await;
    let budget = Duration::from_millis(400);
    let began = Instant::now();
    let answer = resolve(vec![server.address], "a.example", EITHER, budget).await.unwrap_err();
    assert!(began.elapsed() < budget * 3);
    let Answer::Fail(Fault::ResolveTimeout { name, budget: told }) = answer else {
        panic!("{answer}")
    };
    assert_eq!(&*name, "a.example");
    assert!(told <= budget && told > budget / 2, "{told:?}");
}

#[tokio::test]
async fn a_type_that_is_never_answered_does_not_take_the_name_away() {
    let server = NameServer::udp(|query| match query.queries[0].query_type() {
        RecordType::AAAA => Vec::new(),
        _ => vec![bytes(&with(query, &["192.0.2.1"]))],
    })
    .await;
    let began = Instant::now();
    assert_eq!(ask(&server, EITHER).await, Ok(ip("192.0.2.1")));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_dead_or_failing_first_server_does_not_take_the_name_away() {
    let dead = NameServer::udp(|_| Vec::new()).await;
    let failing = NameServer::udp(says(ResponseCode::ServFail)).await;
    let good = NameServer::udp(serves(&["192.0.2.1"])).await;
    let five = Duration::from_secs(5);
    for bad in [&dead, &failing] {
        let servers = vec![bad.address, good.address];
        assert_eq!(resolve(servers, "a.example", ONLY_V4, five).await, Ok(ip("192.0.2.1")));
        assert!(bad.asked() > 0, "in the given order");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_our_trouble_and_the_next_one_helps() {
    // Connected to somebody else, it takes nothing from us, and nobody else gets its port meanwhile.
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    gone.connect("127.0.0.1:9").unwrap();
    let gone = (gone.local_addr().unwrap(), gone);
    let five = Duration::from_secs(5);
    let began = Instant::now();
    for preference in [EITHER, ONLY_V4] {
        let answer = resolve(vec![gone.0], "a.example", preference, five).await.unwrap_err();
        assert!(matches!(answer, Answer::Unknown(_)), "{answer}");
        assert_eq!(answer.reason(), Some("no_resolver"));
    }
    assert!(began.elapsed() < five, "nobody was waited for");
    let good = NameServer::udp(serves(&["192.0.2.1"])).await;
    let servers = vec![gone.0, good.address];
    assert_eq!(resolve(servers, "a.example", ONLY_V4, five).await, Ok(ip("192.0.2.1")));
    // Who is silent was asked.
    let silent = NameServer::udp(|_| Vec::new()).await;
    let second = Duration::from_secs(1);
    let servers = vec![gone.0, silent.address];
    let answer = resolve(servers, "a.example", ONLY_V4, second).await.unwrap_err();
    assert_eq!(answer.reason(), Some("resolve_timeout"));
}

#[tokio::test]
async fn the_first_server_s_denial_stands() {
    let denies = NameServer::udp(says(ResponseCode::NXDomain)).await;
    let other = NameServer::udp(serves(&["192.0.2.1"])).await;
    let servers = vec![denies.address, other.address];
    let answer = resolve(servers, "a.example", ONLY_V4, Duration::from_secs(5)).await;
    assert_eq!(answer.unwrap_err().reason(), Some("resolve_nxdomain"));
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn nothing_is_remembered() {
    let server = NameServer::udp(serves(&["192.0.2.1"])).await;
    let resolver = Resolver::with_servers(vec![server.address]);
    for run in 1..=3 {
        let deadline = Deadline::after(Duration::from_secs(5));
        let mut watch = Stopwatch::default();
        let found = resolver.resolve(("a.example", None), ONLY_V4, deadline, &mut watch).await;
        assert_eq!(found, Ok(ip("192.0.2.1")));
        assert_eq!(server.asked(), run);
    }
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_over_tcp() {
    let truncated = |query: &Message| {
        let mut short = reply(query, ResponseCode::NoError);
        short.metadata.truncation = true;
        vec![bytes(&short)]
    };
    let whole = |query: &Message| vec![framed(&bytes(&with(query, &["192.0.2.1"])))];
    let server = NameServer::both(truncated, whole).await;
    assert_eq!(ask(&server, ONLY_V4).await, Ok(ip("192.0.2.1")));
}

#[tokio::test]
async fn literals_and_local_names_ask_nobody() {
    let server = NameServer::udp(says(ResponseCode::ServFail)).await;
    for (host, preference, expected) in [
        ("192.0.2.1", EITHER, "192.0.2.1"),
        ("[2001:db8::1]", EITHER, "2001:db8::1"),
        ("localhost", ONLY_V4, "127.0.0.1"),
        ("localhost", ONLY_V6, "::1"),
    ] {
        let found = resolve(vec![server.address], host, preference, Duration::ZERO).await;
        assert_eq!(found, Ok(ip(expected)), "{host}");
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn names_of_the_hosts_file_ask_nobody_and_the_file_is_the_system_s() {
    let dir = tempfile::tempdir().unwrap();
    let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    std::fs::write(&conf, "not a configuration\n").unwrap();
    std::fs::write(&hosts, "192.0.2.7 a.example b\n").unwrap();
    let resolver = Resolver::from_files(&conf, &hosts);
    let ask = async |host: &str, preference| {
        let mut watch = Stopwatch::default();
        let deadline = Deadline::after(Duration::from_secs(1));
        resolver.resolve((host, None), preference, deadline, &mut watch).await
    };
    assert_eq!(ask("A.Example.", EITHER).await, Ok(ip("192.0.2.7")));
    assert_eq!(ask("b", ONLY_V6).await.unwrap_err().reason(), Some("resolve_no_address"));
    assert_eq!(ask("c.example", EITHER).await.unwrap_err().reason(), Some("setup"));
}

#[tokio::test]
async fn what_cannot_be_a_name_does_not_exist() {
    let server = NameServer::udp(says(ResponseCode::ServFail)).await;
    for host in ["", "a..example", ".", &"a".repeat(64)] {
        let five = Duration::from_secs(5);
        let answer = resolve(vec![server.address], host, EITHER, five).await.unwrap_err();
        assert_eq!(answer.reason(), Some("resolve_nxdomain"), "{host:?}");
    }
    assert_eq!(server.asked(), 0);
}

async fn all(servers: &[&NameServer], host: &str) -> Result<Vec<IpAddr>, Answer> {
    let resolver = Resolver::with_servers(servers.iter().map(|server| server.address).collect());
    resolver.addresses(host, Deadline::after(Duration::from_secs(5))).await
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

#[tokio::test]
async fn all_addresses_of_a_name_come_with_the_families_in_turn() {
    let both = serves(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]);
    let both = NameServer::udp(both).await;
    let wanted = ips(&["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]);
    assert_eq!(all(&[&both], "a.example").await, Ok(wanted));
    let four = NameServer::udp(serves(&["192.0.2.1", "192.0.2.2"])).await;
    assert_eq!(all(&[&four], "a.example").await, Ok(ips(&["192.0.2.1", "192.0.2.2"])));
    let six = NameServer::udp(serves(&["2001:db8::1"])).await;
    assert_eq!(all(&[&six], "a.example").await, Ok(ips(&["2001:db8::1"])));
}

#[tokio::test]
async fn all_addresses_are_told_although_a_server_is_dead_or_one_family_is_not_served() {
    let dead = NameServer::udp(|_| Vec::new()).await;
    let failing = NameServer::udp(says(ResponseCode::ServFail)).await;
    let both = NameServer::udp(serves(&["192.0.2.1", "2001:db8::1"])).await;
    let wanted = ips(&["2001:db8::1", "192.0.2.1"]);
    for bad in [&dead, &failing] {
        assert_eq!(all(&[bad, &both], "a.example").await, Ok(wanted.clone()));
    }
    for (silent, left) in [(RecordType::AAAA, "192.0.2.1"), (RecordType::A, "2001:db8::1")] {
        let half = NameServer::udp(move |query| {
            let asked = query.queries[0].query_type();
            if asked == silent { Vec::new() } else { vec![bytes(&with(query, &[left]))] }
        })
        .await;
        let began = Instant::now();
        assert_eq!(all(&[&half], "a.example").await, Ok(ips(&[left])));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    // Some servers say for IPv6 that there is no such name.
    let liar = NameServer::udp(|query| match query.queries[0].query_type() {
        RecordType::AAAA => vec![bytes(&reply(query, ResponseCode::NXDomain))],
        _ => vec![bytes(&with(query, &["192.0.2.1"]))],
    })
    .await;
    assert_eq!(all(&[&liar], "a.example").await, Ok(ips(&["192.0.2.1"])));
}

#[tokio::test]
async fn each_way_to_have_no_addresses_has_its_reason() {
    for (code, reason) in [
        (ResponseCode::NXDomain, "resolve_nxdomain"),
        (ResponseCode::NoError, "resolve_no_address"),
        (ResponseCode::Refused, "resolve_servfail"),
    ] {
        let server = NameServer::udp(says(code)).await;
        let answer = all(&[&server], "a.example").await.unwrap_err();
        assert_eq!(answer.reason(), Some(reason), "{code:?}: {answer}");
    }
    let silent = NameServer::udp(|_| Vec::new()).await;
    let resolver = Resolver::with_servers(vec![silent.address]);
    let deadline = Deadline::after(Duration::from_millis(300));
    let answer = resolver.addresses("a.example", deadline).await.unwrap_err();
    assert_eq!(answer.reason(), Some("resolve_timeout"), "{answer}");
}

#[tokio::test]
async fn all_addresses_are_looked_up_in_the_hosts_file_and_the_search_domains() {
    let dir = tempfile::tempdir().unwrap();
    let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    std::fs::write(&conf, "not a configuration\n").unwrap();
    std::fs::write(&hosts, "192.0.2.7 a.example b\n2001:db8::7 b\n127.0.0.1 localhost\n").unwrap();
    let resolver = Resolver::from_files(&conf, &hosts);
    let ask =
        async |host: &str| resolver.addresses(host, Deadline::after(Duration::from_secs(1))).await;
    assert_eq!(ask("A.Example.").await, Ok(ips(&["192.0.2.7"])));
    assert_eq!(ask("b").await, Ok(ips(&["2001:db8::7", "192.0.2.7"])));
    assert_eq!(ask("localhost").await, Ok(ips(&["127.0.0.1"])));
    assert_eq!(ask("x.localhost").await, Ok(ips(&["::1", "127.0.0.1"])));
    assert_eq!(ask("c.example").await.unwrap_err().reason(), Some("setup"));
    let server = NameServer::udp(|query| {
        let is_known = query.queries[0].name().to_ascii() == "short.corp.example.";
        if is_known {
            return vec![bytes(&with(query, &["192.0.2.9"]))];
        }
        vec![bytes(&reply(query, ResponseCode::NXDomain))]
    })
    .await;
    let spec = serde_json::json!({
        "servers": [server.address], "search": ["none.example", "corp.example"],
    });
    let spec: watchpost::net::ResolverSpec = serde_json::from_value(spec).unwrap();
    let resolver = spec.build(&mut watchpost::model::Mistakes::default()).unwrap();
    let found = resolver.addresses("short", Deadline::after(Duration::from_secs(5))).await;
    assert_eq!(found, Ok(ips(&["192.0.2.9"])));
}
