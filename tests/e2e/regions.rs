//! Regions in network namespaces: what each sees, what all say together, and what a cut between them does.

#![expect(clippy::float_cmp, reason = "metrics that are 0 or 1 are exactly that")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::netns::{Cable, Host, World, apart};
use crate::program::{Running, installed};
use crate::prometheus::{Prometheus, value};
use crate::support::fakes::{Incident, PagerDuty};
use crate::support::watchpost::Watchpost;
use crate::support::web::{Web, ok};

/// Name, last part of its addresses, latency one way.
const REGIONS: [(&str, u8, Duration); 3] = [
    ("eu", 11, Duration::from_millis(2)),
    ("us", 12, Duration::from_millis(30)),
    ("ap", 13, Duration::from_millis(80)),
];
/// Recovery takes a few of Prometheus's resends and watchpost's looks at its references.
const SETTLED: Duration = Duration::from_secs(60);

/// A watchpost with one way to the targets and another one to Prometheus.
struct Region {
    host: Host,
    front: Cable,
    back: Cable,
    watchpost: Watchpost,
    /// Ends after the watchpost.
    _folder: TempDir,
}

impl Region {
    fn start(world: &mut World, name: &str, number: u8, latency: Duration, sections: &str) -> Self {
        let host = world.host(name);
        let front = world.plug(&host, "front", &format!("10.0.1.{number}/24"), latency);
        let back = world.plug(&host, "back", &format!("10.0.2.{number}/24"), latency);
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("watchpost.yml");
        fs::write(&config, format!("watchpost: {{ id: {name}-1, region: {name} }}\n{sections}"))
            .unwrap();
        let mut command = host.command(env!("CARGO_BIN_EXE_watchpost"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address=10.0.2.{number}:9115"));
        let watchpost = Watchpost::spawn(&mut command);
        Self { host, front, back, watchpost, _folder: folder }
    }
}

const PROBES: &str = "modules: { page: { prober: http, timeout: 1s } }\n\
    references: ['10.0.1.2:443', '10.0.1.3:443']\n\
    probes:\n\
    \x20 - { name: shop, module: page, interval: 1s, failure_threshold: 2, targets: ['http://10.0.1.20/'] }\n\
    \x20 - { name: news, module: page, interval: 1s, failure_threshold: 2, targets: ['http://10.0.1.21/'] }\n";

/// The shipped rules, as they are but for their `for`: minutes become seconds.
fn hasty_rules(folder: &Path) -> Vec<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/watchpost/rules");
    let files = fs::read_dir(shipped).unwrap().map(|entry| entry.unwrap().path());
    let hasten = |path: PathBuf| {
        let rules = fs::read_to_string(&path).unwrap();
        let lines = rules.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
            Some(_) => line.strip_suffix('m').map_or(line.to_owned(), |whole| format!("{whole}s")),
            None => line.to_owned(),
        });
        let hasty = folder.join(path.file_name().unwrap());
        fs::write(&hasty, lines.collect::<Vec<_>>().join("\n")).unwrap();
        hasty
    };
    files.filter(|path| path.is_file()).map(hasten).collect()
}

/// On a host that reaches nothing but the back doors of the watchposts.
fn prometheus(world: &mut World, program: &Path) -> Prometheus {
    let host = world.host("prom");
    world.plug(&host, "back", "10.0.2.2/24", Duration::ZERO);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let targets: Vec<String> =
        REGIONS.iter().map(|(_, number, _)| format!("10.0.2.{number}:9115")).collect();
    let config = serde_json::json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
        "rule_files": hasty_rules(at),
        "scrape_configs": [{
            "job_name": "watchpost",
            "honor_labels": true,
            "static_configs": [{ "targets": targets }],
        }],
    });
    // JSON is YAML.
    fs::write(at.join("prometheus.yml"), config.to_string()).unwrap();
    let mut command = host.command(program);
    command
        .arg(format!("--config.file={}", at.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", at.join("data").display()))
        .args(["--web.listen-address=10.0.2.2:9090", "--log.level=error"]);
    let running = Running::listening_at(&mut command, "10.0.2.2:9090".parse().unwrap());
    Prometheus { _running: running, _folder: folder, address: "10.0.2.2:9090".to_owned() }
}

/// A page at an address of a host.
fn page(host: &Host, address: &str) -> Web {
    let listener = TcpListener::from_std(host.listen(address)).unwrap();
    Web::on(listener, |_| ok("hello"))
}

fn firing(alert: &str, labels: &str) -> String {
    format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"{labels}}}")
}

/// Whether an alert fired at any moment of this test.
async fn ever(prometheus: &Prometheus, series: &str) -> usize {
    prometheus.query(&format!("max_over_time({series}[10m])")).await.len()
}

struct Estate {
    regions: Vec<Region>,
    prometheus: Prometheus,
    site: Host,
    shop: Option<Web>,
    _pages: Vec<Web>,
    _world: World,
}

impl Estate {
    fn start(mut world: World, program: &Path) -> Self {
        world.bridge("front", "10.0.1.1/24");
        world.bridge("back", "10.0.2.1/24");
        let site = world.host("site");
        world.plug(&site, "front", "10.0.1.20/24", Duration::ZERO);
        site.run("ip", "addr add 10.0.1.21/24 dev e0");
        let internet = world.host("internet");
        world.plug(&internet, "front", "10.0.1.2/24", Duration::ZERO);
        internet.run("ip", "addr add 10.0.1.3/24 dev e1");
        let shop = page(&site, "10.0.1.20:80");
        let pages = vec![
            page(&site, "10.0.1.21:80"),
            page(&internet, "10.0.1.2:443"),
            page(&internet, "10.0.1.3:443"),
        ];
        let regions = REGIONS.map(|(name, number, latency)| {
            Region::start(&mut world, name, number, latency, PROBES)
        });
        let prometheus = prometheus(&mut world, program);
        Self {
            regions: regions.into(),
            prometheus,
            site,
            shop: Some(shop),
            _pages: pages,
            _world: world,
        }
    }

    async fn until(&self, expression: &str, count: usize) -> Vec<serde_json::Value> {
        self.prometheus.until(expression, count, SETTLED).await
    }
}

/// Everything is up, and each region has its own latency.
async fn all_is_well(estate: &Estate) {
    estate.until("probe_status{status=\"up\"} == 1", 6).await;
    let mut slowest = 0.0;
    for (region, _, latency) in REGIONS {
        let series = format!("probe_duration_seconds{{job=\"shop\",probe_region=\"{region}\"}}");
        let took = value(&estate.until(&series, 1).await[0]);
        // A handshake, a question and its answer: two ways there and two back.
        assert!(took >= 4.0 * latency.as_secs_f64(), "{region}: {took}");
        assert!(took > slowest, "{region} is not slower than the one before: {took}");
        slowest = took;
    }
}

/// The nearest region loses its way to all targets: it says that it is blind, and accuses nobody.
async fn a_partition_is_not_an_outage(estate: &Estate) {
    estate.regions[0].front.cut();
    estate.until("watchpost_blind == 1", 1).await;
    estate.until(&firing("WatchpostBlind", ",instance=\"10.0.2.11:9115\""), 1).await;
    estate.until("probe_success{probe_region=\"eu\"} == 0", 2).await;
    // Longer than an alert about disagreement would wait.
    let blind_for = "min_over_time(watchpost_blind{instance=\"10.0.2.11:9115\"}[12s]) == 1";
    estate.until(blind_for, 1).await;
    let accused = "max_over_time(probe_status{probe_region=\"eu\",status=\"down\"}[10m]) > 0";
    assert_eq!(estate.prometheus.query(accused).await, Vec::<serde_json::Value>::new());
    for alert in ["WatchpostDownInRegions", "WatchpostRegionsDisagree", "WatchpostTargetDown"] {
        assert_eq!(ever(&estate.prometheus, &firing(alert, "")).await, 0, "{alert}");
    }
}

/// Two of three are left, and both see that the shop is gone.
async fn an_outage_beside_a_partition_is_seen(estate: &mut Estate) {
    estate.shop = None;
    let down = estate.until(&firing("WatchpostDownInRegions", ""), 1).await;
    assert_eq!(down[0]["metric"]["job"], "shop");
    assert_eq!(down[0]["metric"]["severity"], "critical");
    let regions = estate.until("watchpost:target:down_regions{job=\"shop\"}", 1).await;
    assert!(value(&regions[0]) == 2.0, "{regions:?}");
    let text = alert_text(&estate.prometheus, "WatchpostDownInRegions").await;
    assert!(text.contains("us says connect_refused (phase connect)."), "{text}");
    assert!(text.contains("ap says connect_refused (phase connect)."), "{text}");
    // Cut off altogether, the blind one is missed by Prometheus, and the outage stays what it was.
    estate.regions[0].back.cut();
    estate.until(&firing("WatchpostNotScraped", ",instance=\"10.0.2.11:9115\""), 1).await;
    estate.until(&firing("WatchpostDownInRegions", ",job=\"shop\""), 1).await;
}

async fn alert_text(prometheus: &Prometheus, name: &str) -> String {
    let (_, body) = crate::support::watchpost::get(&prometheus.url("/api/v1/alerts")).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let alerts = body["data"]["alerts"].as_array().unwrap();
    let alert = alerts.iter().find(|alert| alert["labels"]["alertname"] == name).unwrap();
    alert["annotations"]["description"].as_str().unwrap().to_owned()
}

async fn all_is_joined_again(estate: &mut Estate) {
    let region = &estate.regions[0];
    region.back.join();
    region.front.join();
    estate.shop = Some(page(&estate.site, "10.0.1.20:80"));
    estate.until("watchpost_blind == 0", 3).await;
    estate.until("probe_status{status=\"up\"} == 1", 6).await;
    estate.until("ALERTS{alertname=~\"Watchpost(DownInRegions|Blind|NotScraped)\"}", 0).await;
}

/// One region cannot reach one target: news for the day, nobody is woken.
async fn one_region_alone_disagrees(estate: &Estate) {
    let far = &estate.regions[2];
    far.host.run("ip", "route add unreachable 10.0.1.21/32");
    let found = estate.until(&firing("WatchpostRegionsDisagree", ""), 1).await;
    assert_eq!(found[0]["metric"]["job"], "news");
    assert_eq!(found[0]["metric"]["severity"], "warning");
    far.watchpost.until("watchpost_blind", &[], |blind| blind == 0.0).await;
    for alert in ["WatchpostDownInRegions", "WatchpostTargetDown"] {
        let series = firing(alert, ",job=\"news\"");
        assert_eq!(ever(&estate.prometheus, &series).await, 0, "{alert}");
    }
}

#[test]
fn an_outage_is_seen_by_k_of_n_regions_and_a_partition_is_not_an_outage() {
    let Some(program) = installed("prometheus") else { return };
    let name = "regions::an_outage_is_seen_by_k_of_n_regions_and_a_partition_is_not_an_outage";
    apart(name, |world| async move {
        let mut estate = Estate::start(world, &program);
        all_is_well(&estate).await;
        a_partition_is_not_an_outage(&estate).await;
        an_outage_beside_a_partition_is_seen(&mut estate).await;
        all_is_joined_again(&mut estate).await;
        one_region_alone_disagrees(&estate).await;
        // One page for one outage, whoever saw it.
        let paged = firing("WatchpostDownInRegions", "");
        assert_eq!(ever(&estate.prometheus, &paged).await, 1);
    });
}

// ---- two regions that watch each other

/// Of each region: its name, the last part of its address, and the switch that its peer keeps for it.
const PEERS: [(&str, u8, &str); 2] = [
    ("eu", 11, "8f1f9bd4-7a35-4d1e-9a61-0f8f6c1a2b01"),
    ("us", 12, "8f1f9bd4-7a35-4d1e-9a61-0f8f6c1a2b02"),
];
/// The switch that both keep for a job.
const BACKUP: &str = "8f1f9bd4-7a35-4d1e-9a61-0f8f6c1a2b03";
const PAGER: &str = "10.0.1.90:8080";
/// The switches wait for 5 + 10 s, a cut is blindness after some 8 s, pages that failed are tried again.
const PAGED: Duration = Duration::from_secs(90);

struct Peers {
    hosts: Vec<(Host, Cable, Watchpost)>,
    job: (Host, Vec<Running>),
    pagerduty: PagerDuty,
    _folders: Vec<TempDir>,
    _page: Web,
    _world: World,
}

impl Peers {
    fn start(mut world: World) -> Self {
        world.bridge("front", "10.0.1.1/24");
        let pager = world.host("pager");
        world.plug(&pager, "front", "10.0.1.90/24", Duration::ZERO);
        let listener = TcpListener::from_std(pager.listen(PAGER)).unwrap();
        let pagerduty = PagerDuty::on(listener, &["k1"]);
        let internet = world.host("internet");
        world.plug(&internet, "front", "10.0.1.2/24", Duration::ZERO);
        let reference = page(&internet, "10.0.1.2:443");
        let mut folders = Vec::new();
        let hosts = PEERS.map(|(name, number, _)| {
            let host = world.host(name);
            let latency = Duration::from_millis(5);
            let cable = world.plug(&host, "front", &format!("10.0.1.{number}/24"), latency);
            let folder = tempfile::tempdir().unwrap();
            let watchpost = Self::watchpost(&host, name, number, folder.path());
            folders.push(folder);
            (host, cable, watchpost)
        });
        let job = world.host("job");
        world.plug(&job, "front", "10.0.1.30/24", Duration::ZERO);
        let pings = PEERS.map(|(_, number, _)| ping_for_ever(&job, number)).into();
        Self {
            hosts: hosts.into(),
            job: (job, pings),
            pagerduty,
            _folders: folders,
            _page: reference,
            _world: world,
        }
    }

    fn watchpost(host: &Host, name: &str, number: u8, folder: &Path) -> Watchpost {
        let (peer, address, _) = PEERS.into_iter().find(|peer| peer.0 != name).unwrap();
        let [ours, theirs] =
            [name, peer].map(|who| PEERS.into_iter().find(|row| row.0 == who).unwrap().2);
        let config = folder.join("watchpost.yml");
        let text = format!(
            "watchpost: {{ id: {name}-1, region: {name} }}\n\
             modules: {{ open: {{ prober: tcp, timeout: 1s }} }}\n\
             references: ['10.0.1.2:443']\n\
             probes:\n  - {{ name: own-door, module: open, interval: 1s, pipeline: true, targets: ['10.0.1.{number}:9116'] }}\n\
             deadman:\n\
             \x20 - {{ name: region-{peer}, interval: 5s, grace: 10s, uuid: {theirs}, notify: [oncall] }}\n\
             \x20 - {{ name: backup, interval: 5s, grace: 10s, uuid: {BACKUP}, notify: [oncall] }}\n\
             heartbeats:\n\
             \x20 - name: to-{peer}\n    interval: 5s\n    timeout: 2s\n\
             \x20   healthchecks: {{ url: 'http://10.0.1.{address}:9116/ping/{ours}' }}\n\
             \x20   when: [{{ probe: own-door }}]\n\
             receivers:\n  - {{ name: oncall, timeout: 2s, resolve_after: 1s, pagerduty: {{ routing_key: k1, url: 'http://{PAGER}/v2/enqueue' }} }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = host.command(env!("CARGO_BIN_EXE_watchpost"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.join("book").display()))
            .arg(format!("--web.listen-address=10.0.1.{number}:9115"))
            .arg(format!("--beats.listen-address=10.0.1.{number}:9116"));
        Watchpost::spawn(&mut command)
    }

    /// Everything that a person was told of, in short: what opened and has not ended.
    fn open(&self) -> Vec<String> {
        let mut open: BTreeMap<String, String> = BTreeMap::new();
        for incident in self.pagerduty.history() {
            match incident {
                Incident::Opened { key, summary, .. } => drop(open.insert(key, summary)),
                Incident::Resolved { key, .. } => drop(open.remove(&key)),
            }
        }
        open.into_values().collect()
    }

    /// Waits until exactly these are open: for each a word of its summary.
    async fn until_open(&self, words: &[&str]) {
        eprintln!("waiting until these are open: {words:?}");
        let end = Instant::now() + PAGED;
        loop {
            let open = self.open();
            let named = words.iter().all(|word| open.iter().any(|summary| summary.contains(word)));
            if named && open.len() == words.len() {
                return;
            }
            assert!(
                Instant::now() < end,
                "not {words:?} but {open:?}\n{:#?}\n{}\n{}",
                self.pagerduty.history(),
                self.hosts[0].2.log(),
                self.hosts[1].2.log(),
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How often incidents with this word in their summary were opened.
    fn opened(&self, word: &str) -> usize {
        let history = self.pagerduty.history();
        let opened = history.iter().filter(
            |incident| matches!(incident, Incident::Opened { summary, .. } if summary.contains(word)),
        );
        opened.count()
    }
}

/// A job far away that tells a region every second that it is well.
fn ping_for_ever(job: &Host, number: u8) -> Running {
    let mut command = job.command("sh");
    let url = format!("http://10.0.1.{number}:9116/ping/{BACKUP}");
    command.args(["-c", "while :; do curl -fsS -m 1 -o /dev/null \"$0\"; sleep 1; done", &url]);
    Running::start(&mut command)
}

/// No way between the two, and every other way open: each says that the other is silent, and nothing else.
async fn peers_apart(peers: &Peers) {
    for (index, (host, _, _)) in peers.hosts.iter().enumerate() {
        let other = PEERS[1 - index].1;
        host.run("ip", &format!("route add unreachable 10.0.1.{other}/32"));
    }
    peers.until_open(&["region-us", "region-eu"]).await;
    for (index, (host, _, watchpost)) in peers.hosts.iter().enumerate() {
        watchpost.until("watchpost_blind", &[], |blind| blind == 0.0).await;
        let other = PEERS[1 - index].1;
        host.run("ip", &format!("route del unreachable 10.0.1.{other}/32"));
    }
    peers.until_open(&[]).await;
    assert_eq!((peers.opened("region-us"), peers.opened("region-eu")), (1, 1));
    assert_eq!(peers.opened("backup"), 0);
}

/// The job reaches one of the two: one incident, from the one that misses it, and no word from the other.
async fn subject_reachable_from_one(peers: &Peers) {
    let (job, _) = &peers.job;
    job.run("ip", "route add unreachable 10.0.1.11/32");
    peers.until_open(&["backup"]).await;
    let up = ["job=\"backup\"", "status=\"up\""];
    peers.hosts[1].2.until("probe_status", &up, |up| up == 1.0).await;
    job.run("ip", "route del unreachable 10.0.1.11/32");
    peers.until_open(&[]).await;
    assert_eq!(peers.opened("backup"), 1);
}

/// The job is dead, and both say so: one incident.
async fn subject_dead(peers: &mut Peers) {
    peers.job.1.clear();
    peers.until_open(&["backup"]).await;
    for (_, _, watchpost) in &peers.hosts {
        let down = ["job=\"backup\"", "status=\"down\""];
        watchpost.until("probe_status", &down, |down| down == 1.0).await;
        let sent = ["receiver=\"oncall\""];
        watchpost.until("watchpost_outbox_depth", &sent, |depth| depth == 0.0).await;
    }
    assert_eq!(peers.opened("backup"), 2, "one before, and one for both");
    let pings = PEERS.map(|(_, number, _)| ping_for_ever(&peers.job.0, number));
    peers.job.1.extend(pings);
    peers.until_open(&[]).await;
}

/// A region that is cut off altogether falls silent and is missed by the other. It holds back what it cannot know, and
/// when it is joined again it tells of itself only.
async fn all_cut(peers: &Peers) {
    let (_, cable, watchpost) = &peers.hosts[0];
    let before = peers.opened("backup");
    cable.cut();
    peers.until_open(&["region-eu"]).await;
    let page = peers.hosts[0].0.command("curl");
    until_inside(page, "watchpost_blind 1").await;
    // Long enough for its own switches to have run out.
    tokio::time::sleep(Duration::from_secs(20)).await;
    cable.join();
    watchpost.until("watchpost_blind", &[], |blind| blind == 0.0).await;
    peers.until_open(&[]).await;
    assert_eq!(peers.opened("region-eu"), 2, "once when apart, once now");
    assert_eq!(peers.opened("region-us"), 1, "the blind one accuses nobody");
    assert_eq!(peers.opened("backup"), before, "nor the job");
    assert!(peers.opened("blind") <= 1, "{:?}", peers.pagerduty.history());
}

/// Asks a watchpost inside of its own host, where no cable is needed.
async fn until_inside(mut curl: std::process::Command, line: &str) {
    curl.args(["-fsS", "-m", "2", "http://10.0.1.11:9115/metrics"]);
    let end = Instant::now() + PAGED;
    loop {
        let page = curl.output().unwrap();
        let page = String::from_utf8_lossy(&page.stdout).into_owned();
        if page.contains(line) {
            return;
        }
        assert!(Instant::now() < end, "no {line} in\n{page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn two_regions_are_cut_apart_and_joined_again() {
    if installed("curl").is_none() {
        return;
    }
    apart("regions::two_regions_are_cut_apart_and_joined_again", |world| async move {
        let mut peers = Peers::start(world);
        for (_, _, watchpost) in &peers.hosts {
            for job in ["job=\"backup\"", "job=\"region-"] {
                let up = [job, "status=\"up\""];
                watchpost.until("probe_status", &up, |up| up == 1.0).await;
            }
        }
        peers_apart(&peers).await;
        subject_reachable_from_one(&peers).await;
        subject_dead(&mut peers).await;
        all_cut(&peers).await;
    });
}
