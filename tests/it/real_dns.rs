//! The prober `dns` against unbound and BIND with their own configurations. Without them on this machine the tests say so
//! and end.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use watchpost::model::{Outcome, Phase, family};

use crate::support::dns::{module, probe};

const PATIENT: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(20);

struct Running {
    child: Child,
    dir: TempDir,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    /// Starts `program`, and waits until it answers for the name `ready.test`.
    async fn start(program: &str, arguments: &[&str], dir: TempDir, port: u16) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let running = Self { child, dir, address };
        let began = Instant::now();
        let ready = json!({ "query_name": "ready.test", "query_type": "TXT" });
        while !running.ask(ready.clone()).await.answer.is_success() {
            assert!(began.elapsed() < START, "{program} did not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        running
    }

    async fn ask(&self, keys: Value) -> Outcome {
        probe(&module(keys), &self.address.to_string(), PATIENT).await
    }

    /// Asks over UDP and over TCP and expects the same reason from both.
    async fn expect(&self, keys: Value, reason: Option<&str>) {
        for transport in ["udp", "tcp"] {
            let mut keys = keys.clone();
            keys["transport_protocol"] = transport.into();
            let outcome = self.ask(keys.clone()).await;
            assert_eq!(outcome.answer.reason(), reason, "{keys}: {}", outcome.answer);
        }
    }
}

/// The program, if it is there; the word why not goes to the test's output.
fn installed(path: &'static str) -> Option<&'static str> {
    let there = Path::new(path).exists();
    if !there {
        eprintln!("skipped: {path} is not installed");
    }
    there.then_some(path)
}

/// A port that is free for UDP and TCP now.
fn free_port() -> u16 {
    loop {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if std::net::UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// The server, and where it speaks TLS.
async fn unbound() -> Option<(Running, SocketAddr)> {
    let program = installed("/usr/sbin/unbound")?;
    let (port, tls_port) = (free_port(), free_port());
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["ns.test".to_owned()]).unwrap();
    fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let config = format!(
        r#"server:
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  directory: "{dir}"
  pidfile: ""
  do-not-query-localhost: no
  module-config: "iterator"
  access-control: 127.0.0.0/8 allow
  access-control: 127.0.0.9/32 refuse
  local-zone: "test." nodefault
  interface: 127.0.0.1@{tls_port}
  tls-port: {tls_port}
  tls-service-key: "{dir}/key.pem"
  tls-service-pem: "{dir}/cert.pem"
  local-zone: "ready.test." static
  local-data: "ready.test. 60 IN TXT yes"
  local-zone: "z.test." static
  local-data: "z.test. 3600 IN SOA ns.z.test. root.z.test. 2026112101 60 60 60 60"
  local-data: "www.z.test. 300 IN A 127.0.0.1"
  local-data: "www.z.test. 300 IN A 127.0.0.2"
  local-data: "www.z.test. 300 IN AAAA ::1"
  local-data: 't.z.test. 300 IN TXT "v=1 a;b"'
  local-zone: "no.test." refuse
remote-control:
  control-enable: no
"#,
        dir = dir.path().display()
    );
    let path = dir.path().join("unbound.conf");
    fs::write(&path, config).unwrap();
    let arguments = ["-d", "-c", path.to_str().unwrap()];
    let running = Running::start(program, &arguments, dir, port).await;
    Some((running, SocketAddr::from(([127, 0, 0, 1], tls_port))))
}

#[tokio::test]
async fn unbound_answers_in_every_way() {
    let Some((unbound, _)) = unbound().await else { return };
    let a = |name: &str| json!({ "query_name": name, "query_type": "A" });
    unbound.expect(a("www.z.test"), None).await;
    unbound.expect(a("absent.z.test"), Some("dns_nxdomain")).await;
    unbound.expect(a("x.no.test"), Some("dns_refused")).await;
    let outcome = unbound.ask(json!({ "query_name": "z.test", "query_type": "SOA" })).await;
    assert_eq!(outcome.fact(&family::PROBE_DNS_SERIAL), Some(2_026_112_101.0));
    let outcome = unbound.ask(a("www.z.test")).await;
    assert_eq!(outcome.fact(&family::PROBE_DNS_ANSWER_RRS), Some(2.0));
    let mut refused = a("www.z.test");
    refused["source_ip_address"] = "127.0.0.9".into();
    unbound.expect(refused, Some("dns_refused")).await;
}

#[tokio::test]
async fn unbound_s_records_are_held_against_patterns() {
    let Some((unbound, _)) = unbound().await else { return };
    let with = |rule: &str, pattern: &str| {
        json!({
            "query_name": "t.z.test",
            "query_type": "TXT",
            "validate_answer_rrs": { rule: [pattern] },
        })
    };
    let whole = r#"^t\.z\.test\.\t300\tIN\tTXT\t"v=1 a;b"$"#;
    unbound.expect(with("fail_if_not_matches_regexp", whole), None).await;
    unbound.expect(with("fail_if_all_match_regexp", whole), None).await;
    unbound.expect(with("fail_if_matches_regexp", "v=1"), Some("dns_records")).await;
    unbound.expect(with("fail_if_all_match_regexp", "v=2"), Some("dns_records")).await;
    unbound.expect(with("fail_if_none_matches_regexp", "v=2"), Some("dns_records")).await;
}

#[tokio::test]
async fn unbound_is_asked_over_tls_and_its_certificate_counts() {
    let Some((unbound, address)) = unbound().await else { return };
    let ask = async |settings: Value| {
        let keys = json!({
            "query_name": "www.z.test", "query_type": "A",
            "transport_protocol": "tcp", "dns_over_tls": true, "tls_config": settings,
        });
        probe(&module(keys), &address.to_string(), PATIENT).await
    };
    let ca = unbound.dir.path().join("cert.pem");
    let good = ask(json!({ "ca_file": ca, "server_name": "ns.test" })).await;
    assert!(good.answer.is_success(), "{}", good.answer);
    assert_eq!(good.fact(&family::PROBE_DNS_ANSWER_RRS), Some(2.0));
    assert!(good.fact(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY).is_some());
    assert!(good.phase_took(Phase::Tls).is_some());
    let careless = ask(json!({ "insecure_skip_verify": true })).await;
    assert!(careless.answer.is_success(), "{}", careless.answer);
    let foreign = ask(json!({ "ca_file": ca, "server_name": "other.test" })).await;
    assert_eq!(foreign.answer.reason(), Some("cert_name_mismatch"), "{}", foreign.answer);
    let untrusted = ask(json!({ "server_name": "ns.test" })).await;
    assert_eq!(untrusted.answer.reason(), Some("cert_untrusted"), "{}", untrusted.answer);
    assert!(untrusted.fact(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY).is_some());
}

const ZONE: &str = r#"$TTL 300
@ IN SOA ns.auth.test. root.auth.test. 1000 60 60 60 60
@ IN NS ns
ns IN A 127.0.0.1
www IN A 127.0.0.1
www IN A 127.0.0.2
mail IN MX 10 www
srv IN SRV 1 2 443 www
alias IN CNAME www
text IN TXT "one \"two\"" "three"
caa IN CAA 0 issue "ca.test"
svc IN HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=127.0.0.1,127.0.0.2
tlsa IN TLSA 3 1 1 aabbccddaabbccddaabbccddaabbccddaabbccddaabbccddaabbccddaabbccdd
ssh IN SSHFP 1 1 aabbccddaabbccddaabbccddaabbccddaabbccdd
naptr IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .
ds IN DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
dn IN DNAME www
host IN HINFO "cpu x" "os"
who IN RP root.auth.test. text
spf IN SPF "v=spf1 a"
key IN DNSKEY 257 3 8 AQID
"#;

async fn bind() -> Option<Running> {
    let program = installed("/usr/sbin/named")?;
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let mut zone = ZONE.to_owned();
    for number in 0..60 {
        writeln!(zone, "big IN TXT \"{number:->200}\"").unwrap();
    }
    fs::write(dir.path().join("auth.zone"), zone).unwrap();
    let ready = "$TTL 60\n@ IN SOA @ @ 1 1 1 1 1\n@ IN NS @\n@ IN A 127.0.0.1\n@ IN TXT yes\n";
    fs::write(dir.path().join("ready.zone"), ready).unwrap();
    let config = format!(
        r#"options {{
  directory "{dir}"; pid-file none; session-keyfile none; managed-keys-directory "{dir}";
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; version "named of a test";
}};
controls {{ }};
zone "auth.test" {{ type primary; file "auth.zone"; check-names ignore; }};
zone "broken.test" {{ type primary; file "absent.zone"; }};
zone "ready.test" {{ type primary; file "ready.zone"; }};
"#,
        dir = dir.path().display()
    );
    let path = dir.path().join("named.conf");
    fs::write(&path, config).unwrap();
    let arguments = ["-f", "-c", path.to_str().unwrap()];
    Some(Running::start(program, &arguments, dir, port).await)
}

#[tokio::test]
async fn bind_answers_with_authority() {
    let Some(bind) = bind().await else { return };
    let outcome = bind.ask(json!({ "query_name": "auth.test", "query_type": "SOA" })).await;
    assert_eq!(outcome.fact(&family::PROBE_DNS_SERIAL), Some(1000.0));
    let chaos = json!({
        "query_name": "version.bind", "query_type": "TXT", "query_class": "CH",
        "validate_answer_rrs": { "fail_if_not_matches_regexp": ["\tCH\tTXT\t\"named of a test\"$"] },
    });
    bind.expect(chaos, None).await;
    let a = |name: &str| json!({ "query_name": name, "query_type": "A" });
    bind.expect(a("absent.auth.test"), Some("dns_nxdomain")).await;
    bind.expect(a("elsewhere.example"), Some("dns_refused")).await;
    bind.expect(a("x.broken.test"), Some("dns_servfail")).await;
}

#[tokio::test]
async fn bind_s_big_answer_is_fetched_over_tcp() {
    let Some(bind) = bind().await else { return };
    let big = json!({ "query_name": "big.auth.test", "query_type": "TXT" });
    let outcome = bind.ask(big.clone()).await;
    assert!(outcome.answer.is_success(), "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_DNS_TRUNCATED), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_DNS_ANSWER_RRS), Some(60.0));
    bind.expect(big, None).await;
}

#[tokio::test]
async fn bind_s_records_read_as_in_its_zone_file() {
    let Some(bind) = bind().await else { return };
    for (name, kind, data) in [
        ("mail", "MX", r"10 www\.auth\.test\."),
        ("srv", "SRV", r"1 2 443 www\.auth\.test\."),
        ("alias", "CNAME", r"www\.auth\.test\."),
        ("text", "TXT", r#""one \\"two\\"" "three""#),
        ("caa", "CAA", r#"0 issue "ca\.test""#),
        ("svc", "HTTPS", r#"1 \. alpn="h2,h3" port="8443" ipv4hint="127.0.0.1,127.0.0.2""#),
        ("tlsa", "TLSA", "3 1 1 (aabbccdd){8}"),
        ("ssh", "SSHFP", "1 1 (AABBCCDD){5}"),
        ("naptr", "NAPTR", r#"100 10 "u" "E2U\+sip" "!\^\.\*\$!sip:x@y!" \."#),
        ("ds", "DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"),
        ("dn", "DNAME", r"www\.auth\.test\."),
        ("host", "HINFO", r#""cpu x" "os""#),
        ("who", "RP", r"root\.auth\.test\. text\.auth\.test\."),
        ("spf", "SPF", r#""v=spf1 a""#),
        ("key", "DNSKEY", "257 3 8 AQID"),
    ] {
        let pattern = format!(r"^{name}\.auth\.test\.\t300\tIN\t{kind}\t{data}$");
        let keys = json!({
            "query_name": format!("{name}.auth.test"), "query_type": kind,
            "validate_answer_rrs": { "fail_if_not_matches_regexp": [pattern] },
        });
        bind.expect(keys, None).await;
    }
}
