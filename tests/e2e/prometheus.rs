//! Prometheus on watchpost's `/metrics`: samples, queries, staleness; promtool on the page.

use std::fs;
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::demo::Estate;
use crate::program::{PATIENCE, Running, free_port, installed};
use crate::support::watchpost::{Watchpost, get};
use crate::support::web::{Web, ok};

/// Prometheus calls a series stale without a marker after five minutes; with one, at the next scrape.
const AT_ONCE: Duration = Duration::from_secs(30);

pub(crate) struct Prometheus {
    pub(crate) _running: Running,
    pub(crate) _folder: TempDir,
    pub(crate) address: String,
}

impl Prometheus {
    /// Scrapes `watchpost` every second, as `watchpost snippet prometheus` says.
    fn start(program: &Path, watchpost: &str, port: u16) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n\
             \x20 - job_name: watchpost\n    honor_labels: true\n    static_configs: [{{ targets: ['{watchpost}'] }}]\n\
             \x20 - job_name: prometheus\n    static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]\n"
        );
        Self::run(program, &config, port)
    }

    /// With a configuration of the caller's.
    pub(crate) fn with(program: &Path, config: &str) -> Self {
        Self::run(program, config, free_port())
    }

    fn run(program: &Path, config: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("prometheus.yml"), config).unwrap();
        let rules =
            "groups: [{ name: a, interval: 1s, rules: [{ record: one, expr: vector(1) }] }]\n";
        fs::write(at.join("rules.yml"), rules).unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", at.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", at.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error");
        let running = Running::listening(&mut command, port);
        Self { _running: running, _folder: folder, address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let (_, body) = get(&self.url(&format!("/api/v1/query?query={encoded}"))).await;
        // While it is not ready, it says so in words.
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Asks until the number of series is right.
    pub(crate) async fn until(
        &self,
        expression: &str,
        count: usize,
        limit: Duration,
    ) -> Vec<Value> {
        let end = Instant::now() + limit;
        loop {
            let found = self.query(expression).await;
            if found.len() == count {
                return found;
            }
            assert!(Instant::now() < end, "{expression} has not {count} series: {found:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub(crate) fn value(series: &Value) -> f64 {
    series["value"][1].as_str().unwrap().parse().unwrap()
}

/// A page over IPv4, one over IPv6, and a port where nothing listens.
struct Site {
    _webs: [Web; 2],
    targets: [String; 3],
}

impl Site {
    async fn start() -> Self {
        let v4 = Web::saying(ok("hello")).await;
        let v6 = Web::at("[::1]:0", |_| ok("hello")).await;
        assert_eq!(v6.peer.address.ip(), Ipv6Addr::LOCALHOST);
        let dead = format!("http://127.0.0.1:{}/", free_port());
        let targets = [v4.url("/"), v6.url("/"), dead];
        Self { _webs: [v4, v6], targets }
    }

    fn write(&self, folder: &Path, count: usize) {
        let groups = serde_json::json!([{
            "targets": self.targets[self.targets.len() - count..],
            "labels": { "team": "shop" },
        }]);
        fs::write(folder.join("new"), groups.to_string()).unwrap();
        fs::rename(folder.join("new"), folder.join("targets.json")).unwrap();
    }

    fn configuration(&self, folder: &Path, prometheus: u16) -> std::path::PathBuf {
        self.write(folder, 3);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes/prometheus.yml");
        let shipped = fs::read_to_string(shipped).unwrap();
        let (modules, _) = shipped.split_once("\nprobes:\n").unwrap();
        // No Alertmanager runs here.
        let modules =
            modules.replace("alertmanagers_discovered, min: 1", "alertmanagers_discovered");
        let at = format!("http://127.0.0.1:{prometheus}");
        let text = format!(
            "watchpost: {{ id: wp-1, region: here }}\n{modules}\n  page: {{ prober: http, timeout: 1s }}\n\
             probes:\n\
             \x20 - {{ name: web, module: page, interval: 1s, file_sd_configs: [{{ files: [targets.json] }}] }}\n\
             \x20 - {{ name: ready, module: prometheus_ready, interval: 2s, targets: ['{at}/-/ready'] }}\n\
             \x20 - {{ name: rules, module: prometheus_rules, interval: 2s, targets: ['{at}/api/v1/rules'] }}\n\
             \x20 - {{ name: targets, module: prometheus_targets, interval: 2s, targets: ['{at}/api/v1/targets?state=active'] }}\n\
             \x20 - {{ name: metrics, module: prometheus_metrics, interval: 2s, targets: ['{at}/metrics'] }}\n"
        );
        let path = folder.join("watchpost.yml");
        fs::write(&path, text).unwrap();
        path
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_stores_and_answers() {
    let Some(program) = installed("prometheus") else { return };
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let watchpost = Watchpost::start(&site.configuration(folder.path(), port));
    let prometheus = Prometheus::start(&program, &watchpost.address, port);

    // Results keep their own job and instance.
    let success = prometheus.until("probe_success{job=\"web\"}", 3, PATIENCE).await;
    for series in &success {
        let labels = &series["metric"];
        let instance = labels["instance"].as_str().unwrap();
        let expected = f64::from(u8::from(instance != site.targets[2]));
        assert!((value(series) - expected).abs() < 1e-9, "{series}");
        assert!(site.targets.iter().any(|target| target == instance), "{series}");
        assert_eq!(labels["team"], "shop");
        assert_eq!(labels["watchpost"], "wp-1");
        assert_eq!(labels["probe_region"], "here");
        assert!(labels.get("exported_job").is_none(), "{series}");
    }
    prometheus.until("up{job=\"watchpost\"} == 1", 1, PATIENCE).await;
    // Runs happen on watchpost's schedule: about one a second.
    prometheus
        .until("rate(probe_runs_total{job=\"web\",result=\"fail\"}[15s]) > 0.5 < 1.5", 1, PATIENCE)
        .await;
    let joined =
        "(probe_success == 0) * on(job, instance) group_left(reason, phase) probe_failure_info";
    let joined = prometheus.until(joined, 1, PATIENCE).await;
    assert_eq!(joined[0]["metric"]["reason"], "connect_refused");
    assert_eq!(joined[0]["metric"]["phase"], "connect");
    prometheus.until("probe_status{job=\"web\",status=\"down\"} == 1", 1, PATIENCE).await;
    prometheus.until("watchpost_build_info", 1, PATIENCE).await;
    // Prometheus itself is what the shipped definitions say that it is.
    for job in ["ready", "rules", "targets", "metrics"] {
        prometheus.until(&format!("probe_success{{job=\"{job}\"}} == 1"), 1, PATIENCE).await;
    }
    nothing_is_lost_or_doubled(&prometheus).await;
    a_removed_target_ends_at_once(&prometheus, &site, folder.path()).await;
    let page = get(&watchpost.url("/")).await.1;
    assert!(!page.contains("Not scraped by any Prometheus"));
}

async fn nothing_is_lost_or_doubled(prometheus: &Prometheus) {
    let kept = "scrape_samples_post_metric_relabeling{job=\"watchpost\"} == scrape_samples_scraped";
    prometheus.until(kept, 1, PATIENCE).await;
    let (_, own) = get(&prometheus.url("/metrics")).await;
    for family in [
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_order_total",
        "prometheus_target_scrapes_sample_out_of_bounds_total",
    ] {
        assert!(own.contains(&format!("\n{family} 0\n")), "{family}");
    }
}

async fn a_removed_target_ends_at_once(prometheus: &Prometheus, site: &Site, folder: &Path) {
    site.write(folder, 2);
    let gone = &site.targets[0];
    // Stays away: the counters too.
    let all = format!("{{__name__=~\"probe_.+\",job=\"web\",instance=\"{gone}\"}}");
    prometheus.until(&all, 0, AT_ONCE).await;
    assert_eq!(prometheus.query("probe_success{job=\"web\"}").await.len(), 2);
}

/// Runs `promtool check metrics` on a page; what it complains about.
fn promtool(program: &Path, page: &str) -> String {
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!(
        "{}{}",
        if output.status.success() { "" } else { "failed: " },
        String::from_utf8_lossy(&said)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_no_complaint_about_an_estate_with_every_fact() {
    let Some(program) = installed("promtool") else { return };
    let folder = tempfile::tempdir().unwrap();
    let estate = Estate::start(folder.path()).await.unwrap();
    let watchpost = Watchpost::start(&estate.config());
    let checks = estate.scenarios().len() + 1;
    let end = Instant::now() + PATIENCE;
    let page = loop {
        let page = get(&watchpost.url("/metrics")).await.1;
        let ran = page.lines().filter(|line| line.starts_with("probe_success{")).count();
        if ran == checks {
            break page;
        }
        assert!(Instant::now() < end, "{ran} of {checks} ran");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(promtool(&program, &page), "");
    assert_ne!(promtool(&program, "what is this\n"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_openmetrics_for_who_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("watchpost.yml");
    fs::write(&config, "watchpost: { id: a }\n").unwrap();
    let watchpost = Watchpost::start(&config);
    let asked = reqwest::Client::new()
        .get(watchpost.url("/metrics"))
        .header("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let response = asked.send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    assert!(response.text().await.unwrap().ends_with("\n# EOF\n"));
}
