//! The shipped definitions in `probes/`: each loads, and tells a good target from a bad one by the right reason.
//!
//! They are used as an operator uses them: a copy of the folder, a line in each targets file. Only the intervals are
//! shorter.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData};
use serde_json::Value;

use super::support::certs::{Authority, Leaf, Shown};
use super::support::dns::{NameServer, answer, bytes, reply};
use super::support::peer::{Peer, Script, Tls};
use super::support::watchpost::{Watchpost, get, run, sample};
use super::support::web::{Web, ok, response};

/// How long two failures in a row may take to be seen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(45);
/// PostgreSQL's SSLRequest.
const SSL_REQUEST: &[u8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";
const EHLO: &[u8] = b"EHLO watchpost.invalid\r\n";
const SMTP: Script =
    &[(EHLO, b"250-mx\r\n250 STARTTLS\r\n"), (b"STARTTLS\r\n", b"220 go ahead\r\n")];
const IMAP: Script = &[(b"a1 STARTTLS\r\n", b"a1 OK begin\r\n")];

/// A probe of `probes/`, put to a good target and to a bad one.
struct Case {
    probe: &'static str,
    /// Its file in `probes/targets/`.
    file: &'static str,
    good: String,
    bad: String,
    reason: &'static str,
}

/// Servers that live as long as the test, and the cases that use them.
#[derive(Default)]
struct Table {
    cases: Vec<Case>,
    webs: Vec<Web>,
    peers: Vec<Peer>,
    names: Vec<NameServer>,
}

impl Table {
    fn row(
        &mut self,
        (probe, file): (&'static str, &'static str),
        good: impl Into<String>,
        bad: impl Into<String>,
        reason: &'static str,
    ) {
        self.cases.push(Case { probe, file, good: good.into(), bad: bad.into(), reason });
    }

    /// The URL of a server that always says `answer`.
    async fn web(&mut self, path: &str, answer: Vec<u8>) -> String {
        let web = Web::saying(answer).await;
        let url = web.url(path);
        self.webs.push(web);
        url
    }

    fn peer(&mut self, peer: Peer) -> String {
        let at = peer.by_name();
        self.peers.push(peer);
        at
    }

    /// One path, two servers.
    async fn webs(
        &mut self,
        names: (&'static str, &'static str),
        path: &str,
        good: Vec<u8>,
        bad: Vec<u8>,
        reason: &'static str,
    ) {
        let (good, bad) = (self.web(path, good).await, self.web(path, bad).await);
        self.row(names, good, bad, reason);
    }

    async fn prometheus(&mut self) {
        let ready = ok("Prometheus Server is Ready.\n");
        let starting = response("503 Service Unavailable", &[], "Service Unavailable");
        self.webs(("prometheus", "prometheus"), "/-/ready", ready, starting, "http_status").await;
        let target = |health: &str| {
            json(&format!(
                "{{\"status\":\"success\",\"data\":{{\"activeTargets\":[{{\"health\":\"{health}\"}}]}}}}"
            ))
        };
        let names = ("prometheus-targets", "prometheus-targets");
        let path = "/api/v1/targets?state=active";
        self.webs(names, path, target("up"), target("down"), "json_mismatch").await;
        let metrics = |reloaded: u8| {
            exposition(&format!(
                "prometheus_build_info{{version=\"2.42.0\"}} 1\n\
                 prometheus_config_last_reload_successful {reloaded}\n\
                 prometheus_notifications_alertmanagers_discovered 1\n\
                 prometheus_rule_evaluations_total{{rule_group=\"a\"}} 12\n"
            ))
        };
        let names = ("prometheus-metrics", "prometheus-metrics");
        self.webs(names, "/metrics", metrics(1), metrics(0), "metric_out_of_bounds").await;
        let rules = |health: &str| {
            json(&format!(
                "{{\"status\":\"success\",\"data\":{{\"groups\":[{{\"name\":\"a\",\"rules\":[{{\"health\":\"{health}\"}}]}}]}}}}"
            ))
        };
        let names = ("prometheus-rules", "prometheus-rules");
        self.webs(names, "/api/v1/rules", rules("ok"), rules("err"), "json_mismatch").await;
    }

    async fn alertmanager(&mut self) {
        let names = ("alertmanager", "alertmanager");
        let unavailable = response("503 Service Unavailable", &[], "");
        self.webs(names, "/-/ready", ok("OK"), unavailable, "http_status").await;
        let cluster = |status: &str| json(&format!("{{\"cluster\":{{\"status\":\"{status}\"}}}}"));
        let names = ("alertmanager-cluster", "alertmanager-cluster");
        let settling = cluster("settling");
        self.webs(names, "/api/v2/status", cluster("ready"), settling, "json_mismatch").await;
        let metrics = |reloaded: u8| {
            exposition(&format!(
                "alertmanager_build_info{{version=\"0.25.0\"}} 1\nalertmanager_config_last_reload_successful {reloaded}\n"
            ))
        };
        let names = ("alertmanager-metrics", "alertmanager-metrics");
        self.webs(names, "/metrics", metrics(1), metrics(0), "metric_out_of_bounds").await;
    }

    async fn grafana(&mut self) {
        let health = |database: &str| json(&format!("{{\"database\":\"{database}\"}}"));
        let (well, ill) = (health("ok"), health("failing"));
        self.webs(("grafana", "grafana"), "/api/health", well, ill, "json_mismatch").await;
        // The token of the targets file is sent, and the data source's own failure is told from a refused token.
        let web = Web::new(|request| match request.to_ascii_lowercase() {
            r if !r.contains("authorization: bearer the-token") => {
                response("401 Unauthorized", &[], "{}")
            }
            r if r.contains("/uid/good/") => json("{\"message\":\"fine\",\"status\":\"OK\"}"),
            _ => response(
                "400 Bad Request",
                &["Content-Type: application/json"],
                "{\"message\":\"connection refused\",\"status\":\"ERROR\"}",
            ),
        })
        .await;
        let url = |uid: &str| web.url(&format!("/api/datasources/uid/{uid}/health"));
        let names = ("grafana-datasources", "grafana-datasources");
        self.row(names, url("good"), url("dead"), "json_mismatch");
        self.webs.push(web);
    }

    async fn loki(&mut self) {
        let unready = "Ingester not ready: waiting for 15s after being ready\n";
        let unready = response("503 Service Unavailable", &[], unready);
        self.webs(("loki", "loki"), "/ready", ok("ready\n"), unready, "http_status").await;
        let unready = response("503 Service Unavailable", &[], "Alloy is not ready.\n");
        self.webs(("alloy", "alloy"), "/-/ready", ok("Alloy is ready.\n"), unready, "http_status")
            .await;
        let well = ok("All Alloy components are healthy.");
        let ill = "unhealthy components: loki.write.default";
        let ill = response("500 Internal Server Error", &[], ill);
        let names = ("alloy-components", "alloy-components");
        self.webs(names, "/-/healthy", well, ill, "http_status").await;
    }

    async fn services(&mut self) {
        let health = |status: &str| json(&format!("{{\"status\":\"{status}\"}}"));
        let (well, ill) = (health("ok"), health("degraded"));
        self.webs(("health", "health"), "/health", well, ill, "json_mismatch").await;
        let predict = |broken: bool| {
            move |request: &str| match request {
                r if !r.starts_with("POST ") => response("405 Method Not Allowed", &[], ""),
                r if !r.contains("{\"instances\": [[0.0]]}") => {
                    response("400 Bad Request", &[], "")
                }
                _ if broken => json("{\"error\":\"model not loaded\"}"),
                _ => json("{\"predictions\":[[0.7]]}"),
            }
        };
        let (well, ill) = (Web::new(predict(false)).await, Web::new(predict(true)).await);
        let (good, bad) = (well.url("/v1/models/m:predict"), ill.url("/v1/models/m:predict"));
        self.row(("predict", "predict"), good, bad, "json_mismatch");
        self.webs.extend([well, ill]);
        let config = json("{\"features\":{\"checkout\":true}}");
        let page = html("<title>Shop</title>");
        self.webs(("config-api", "config-api"), "/config", config, page, "header_mismatch").await;
        let (page, soft_404) =
            (html("<title>Shop</title>"), html("<title>404 - Not found</title>"));
        self.webs(("frontends", "frontends"), "/", page, soft_404, "body_mismatch").await;
    }

    async fn exporters(&mut self) {
        let metrics = || exposition("process_start_time_seconds 1.7e9\nup 1\n");
        let names = ("exporters", "exporters");
        self.webs(names, "/metrics", metrics(), html("<h1>It works</h1>"), "exposition_invalid")
            .await;
        let node = exposition(
            "node_exporter_build_info{version=\"1.8.2\"} 1\nnode_cpu_seconds_total{cpu=\"0\"} 1\n\
             process_start_time_seconds 1.7e9\n",
        );
        let names = ("node-exporters", "node-exporters");
        let other = exposition("redis_exporter_build_info{version=\"1\"} 1\nup 1\n");
        self.webs(names, "/metrics", node, other, "wrong_exporter").await;
    }

    async fn datastores(&mut self) {
        let redis = Peer::answering(b"+PONG\r\n").await;
        let loading = Peer::answering(b"-LOADING Redis is loading the dataset in memory\r\n").await;
        let (good, bad) = (self.peer(redis), self.peer(loading));
        self.row(("redis", "redis"), good, bad, "expect_mismatch");
        let plain: Script = &[(SSL_REQUEST, b"N")];
        let tls = || Tls::new(Authority::root("any").leaf(&Leaf::default()));
        let postgres = Peer::starttls(tls(), b"", plain).await;
        let mysql = Peer::saying(b"J\0\0\0\n8.0.36\0").await;
        let (good, bad) = (self.peer(postgres), self.peer(mysql));
        self.row(("postgres", "postgres"), good, bad, "expect_mismatch");
        let status = ok("Active connections: 2 \nserver accepts handled requests\n 9 9 9 \n");
        let page = html("<title>Welcome to nginx!</title>");
        self.webs(("nginx", "nginx"), "/nginx_status", status, page, "body_mismatch").await;
    }

    async fn dns(&mut self) {
        let good =
            NameServer::udp(|query| vec![bytes(&answer(query, [RData::A(A::new(192, 0, 2, 1))]))])
                .await;
        let bad = NameServer::udp(|query| vec![bytes(&reply(query, ResponseCode::NXDomain))]).await;
        self.row(("dns", "dns"), good.address.to_string(), bad.address.to_string(), "dns_nxdomain");
        let zone = NameServer::udp(|query| {
            let name = |text| Name::from_ascii(text).unwrap();
            let (first, mail) = (name("ns.example.com."), name("host.example.com."));
            let soa = SOA::new(first, mail, 1, 7200, 900, 86_400, 300);
            vec![bytes(&answer(query, [RData::SOA(soa)]))]
        })
        .await;
        let lame = NameServer::udp(|query| vec![bytes(&reply(query, ResponseCode::Refused))]).await;
        let (at, lame_at) = (zone.address.to_string(), lame.address.to_string());
        self.row(("dns-soa", "dns-soa"), at, lame_at, "dns_refused");
        self.names.extend([good, bad, zone, lame]);
    }

    async fn certificates(&mut self, root: &Authority) {
        let lasting = |days| Tls::new(root.leaf(&Leaf { days, ..Leaf::default() }));
        let fresh = || lasting((-10, 80));
        let (good, bad) = (Peer::tls(fresh()).await, Peer::tls(lasting((-90, -1))).await);
        let (good, bad) = (self.peer(good), self.peer(bad));
        self.row(("certificates", "certificates"), good, bad, "cert_expired");
        let good = Peer::starttls(fresh(), b"220 mx\r\n", SMTP).await;
        let bad = Peer::starttls(lasting((-88, 2)), b"220 mx\r\n", SMTP).await;
        let (good, bad) = (self.peer(good), self.peer(bad));
        self.row(("certificates-smtp", "certificates-smtp"), good, bad, "cert_expires_soon");
        let named: Shown = root.leaf(&Leaf { names: &["imap.example"], ..Leaf::default() });
        let good = Peer::starttls(fresh(), b"* OK ready\r\n", IMAP).await;
        let bad = Peer::starttls(Tls::new(named), b"* OK ready\r\n", IMAP).await;
        let (good, bad) = (self.peer(good), self.peer(bad));
        self.row(("certificates-imap", "certificates-imap"), good, bad, "cert_name_mismatch");
        let foreign = Tls::new(Authority::root("foreign").leaf(&Leaf::default()));
        let postgres: Script = &[(SSL_REQUEST, b"S")];
        let good = Peer::starttls(fresh(), b"", postgres).await;
        let bad = Peer::starttls(foreign, b"", postgres).await;
        let (good, bad) = (self.peer(good), self.peer(bad));
        self.row(("certificates-postgres", "certificates-postgres"), good, bad, "cert_untrusted");
    }

    /// watchpost itself is one of the systems.
    async fn watchpost(&mut self, other: &Watchpost) {
        let stopping = response("503 Service Unavailable", &[], "Not ready\n");
        let bad = self.web("/-/ready", stopping).await;
        self.row(("watchpost-ready", "self"), other.url("/-/ready"), bad, "http_status");
        let bad = self.web("/metrics", exposition("up 1\n")).await;
        let names = ("watchpost-metrics", "self-metrics");
        self.row(names, other.url("/metrics"), bad, "metrics_missing");
    }
}

fn json(body: &str) -> Vec<u8> {
    response("200 OK", &["Content-Type: application/json"], body)
}

fn html(body: &str) -> Vec<u8> {
    response("200 OK", &["Content-Type: text/html; charset=utf-8"], body)
}

fn exposition(body: &str) -> Vec<u8> {
    response("200 OK", &["Content-Type: text/plain; version=0.0.4"], body)
}

/// A copy of `probes/` with shorter intervals.
fn copy(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes");
    fs::create_dir_all(to.join("targets")).unwrap();
    for folder in ["", "targets"] {
        for entry in fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let text = fs::read_to_string(entry.path()).unwrap();
                fs::write(to.join(folder).join(entry.file_name()), hurried(&text)).unwrap();
            }
        }
    }
}

fn hurried(definitions: &str) -> String {
    let mut text = String::new();
    for line in definitions.lines() {
        match line.trim_start() {
            key if key.starts_with("interval: ") => text.push_str("    interval: 2s"),
            key if key.starts_with("retry_interval: ") => {
                text.push_str("    retry_interval: 500ms");
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Adds lines below the ones of a targets file, as its comment shows.
fn add_targets(folder: &Path, case: &Case) {
    let path = folder.join("targets").join(format!("{}.yml", case.file));
    let text = fs::read_to_string(&path).unwrap();
    let kept: String = text
        .lines()
        .filter(|l| !l.contains("localhost:9115"))
        .fold(String::new(), |text, line| text + line + "\n");
    let lines = format!("    - {:?}\n    - {:?}\n", case.good, case.bad);
    let token = folder.join("token");
    let text = (kept + &lines).replace("/etc/watchpost/grafana-token", token.to_str().unwrap());
    fs::write(path, text).unwrap();
}

fn wrong(case: &Case, status: &Value) -> Option<String> {
    let of = |target: &str| {
        let checks = status["checks"].as_array().unwrap();
        let found = checks.iter().find(|c| c["probe"] == case.probe && c["target"] == target);
        let check = found.cloned().unwrap_or_default();
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("detail"))
    };
    let (good, bad) = (of(&case.good), of(&case.bad));
    let right = good.0 == "up" && bad.0 == "down" && bad.1 == case.reason;
    (!right).then(|| format!("{}: {good:?}, {bad:?}; expected {}\n", case.probe, case.reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shipped_probe_tells_good_from_bad() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    copy(at);
    fs::write(at.join("token"), "the-token\n").unwrap();
    let plain = at.join("plain.yaml.txt");
    fs::write(&plain, "watchpost: { id: other }\n").unwrap();
    let other = Watchpost::start(&plain);
    let root = Authority::root("root");
    fs::write(at.join("root.pem"), root.pem()).unwrap();
    let mut table = Table::default();
    table.prometheus().await;
    table.alertmanager().await;
    table.grafana().await;
    table.loki().await;
    table.services().await;
    table.exporters().await;
    table.datastores().await;
    table.dns().await;
    table.certificates(&root).await;
    table.watchpost(&other).await;
    for case in &table.cases {
        add_targets(at, case);
    }
    let trust = at.join("root.pem");
    let watchpost = Watchpost::start_in(at, &[], &[("SSL_CERT_FILE", trust.to_str().unwrap())]);
    let end = Instant::now() + PATIENCE;
    loop {
        let text = get(&watchpost.url("/api/v1/status")).await.1;
        let status: Value = serde_json::from_str(&text).unwrap();
        for probe in status["probes"].as_array().unwrap() {
            let name = probe["name"].as_str().unwrap();
            assert!(table.cases.iter().any(|case| case.probe == name), "{name} has no case");
        }
        let wrong: String = table.cases.iter().filter_map(|case| wrong(case, &status)).collect();
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{wrong}\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn the_shipped_folder_has_no_problem() {
    let (code, out, errors) = run(&["check-config", "probes"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    // Every targets file is named by a probe, and the other way round.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes");
    let definitions: String = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for entry in fs::read_dir(root.join("targets")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(definitions.contains(&format!("[targets/{name}]")), "{name} is used by no probe");
    }
    for used in definitions.split("[targets/").skip(1).filter_map(|rest| rest.split(']').next()) {
        assert!(root.join("targets").join(used).exists(), "probes/targets/{used} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_start_is_green_and_says_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    copy(folder.path());
    // Its own port is not the usual one here.
    for file in ["self.yml", "self-metrics.yml"] {
        fs::write(folder.path().join("targets").join(file), "[]\n").unwrap();
    }
    let watchpost = Watchpost::start(folder.path());
    let own = format!("- targets: ['{}']\n", watchpost.url("/-/ready"));
    fs::write(folder.path().join("targets/self.yml"), own).unwrap();
    watchpost.until("probe_success", &["job=\"watchpost-ready\""], |value| value == 1.0).await;
    let (_, metrics) = get(&watchpost.url("/metrics")).await;
    let failed: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("watchpost_discovery_failed{") && !line.ends_with(" 0"))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(!watchpost.log().contains("level=warn"), "{}", watchpost.log());
    assert_eq!(sample(&metrics, "watchpost_checks", &["status=\"down\""]), Some(0.0));
    let (_, page) = get(&watchpost.url("/")).await;
    assert!(page.contains("No targets of yours yet"), "{page}");
    assert!(page.contains("No heartbeat"), "{page}");
    // A file that loses its targets later is a failure.
    let own = folder.path().join("targets/self.yml");
    fs::write(own, "- targets:\n    # - http://localhost:9115/-/ready\n").unwrap();
    let failed = ["probe=\"watchpost-ready\""];
    watchpost.until("watchpost_discovery_failed", &failed, |value| value == 1.0).await;
}
