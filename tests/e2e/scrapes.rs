//! The scrape configurations that people bring along, as they stand in `examples/prometheus`, with real Prometheus.

use std::path::Path;

use crate::program::{PATIENCE, installed};
use crate::prometheus::{Prometheus, value};
use crate::support::watchpost::Watchpost;
use crate::support::web::{Web, ok, response};

/// A target for each of the names in the examples, and both watchposts.
struct Scene {
    web: Web,
    watchpost: Watchpost,
    protected: Watchpost,
    _folder: tempfile::TempDir,
}

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

impl Scene {
    async fn start() -> Self {
        let web = Web::new(|request| {
            // Only one of the targets is presented with another name.
            if request.contains("www.shop.example") {
                response("201 as told", &[], "")
            } else {
                ok("shop")
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("blackbox.yml");
        std::fs::write(&config, example("modules.yml")).unwrap();
        let users = folder.path().join("web.yml");
        let hash = bcrypt::hash("sesame", 4).unwrap();
        std::fs::write(&users, format!("basic_auth_users: {{ prometheus: '{hash}' }}\n")).unwrap();
        let watchpost = Watchpost::start(&config);
        let flag = format!("--web.config.file={}", users.display());
        let protected = Watchpost::start_with(&config, &[&flag]);
        Self { web, watchpost, protected, _folder: folder }
    }

    /// An example with addresses of this machine, and shorter intervals.
    fn here(&self, name: &str) -> String {
        let address = self.web.peer.address.to_string();
        let text = example(name);
        let replaced = [
            ("protected-watchpost:9115", self.protected.address.as_str()),
            ("watchpost.monitoring.svc:9115", &self.watchpost.address),
            ("watchpost:9115", &self.watchpost.address),
            ("shop.example/", &format!("{address}/")),
            ("mail.example:25", &address),
            ("scrape_interval: 30s", "scrape_interval: 1s"),
        ];
        let text = replaced.into_iter().fold(text, |text, (from, to)| text.replace(from, to));
        assert!(!text.contains(":9115") && !text.contains("shop.example/"), "{text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_target_scrapes_go_on_as_before() {
    let Some(program) = installed("prometheus") else { return };
    let scene = Scene::start().await;
    let prometheus = Prometheus::with(&program, &scene.here("multi-target.yml"));
    let url = scene.web.url("/");
    let success = format!("probe_success{{job=\"websites\",instance=\"{url}\"}} == 1");
    prometheus.until(&success, 1, PATIENCE).await;
    for (job, count) in [("websites", 1), ("mixed", 2), ("protected", 1)] {
        prometheus.until(&format!("up{{job=\"{job}\"}} == 1"), count, PATIENCE).await;
        let all = format!("probe_success{{job=\"{job}\"}} == 1");
        let found = prometheus.until(&all, count, PATIENCE).await;
        for series in &found {
            assert!(series["metric"].get("exported_job").is_none(), "{series}");
            assert!((value(series) - 1.0).abs() < f64::EPSILON, "{series}");
        }
    }
    let presented = "probe_http_status_code{job=\"mixed\",module=\"http_2xx\"} == 201";
    prometheus.until(presented, 1, PATIENCE).await;
    prometheus.until("probe_http_status_code{job=\"websites\"} == 200", 1, PATIENCE).await;
    // What blackbox_exporter's mixins and dashboards ask for.
    for expression in [
        "avg by (instance) (probe_duration_seconds{job=\"websites\"})",
        "sum by (instance) (probe_http_duration_seconds{job=\"websites\",phase!=\"resolve\"})",
        "up{job=\"watchpost\"} == 1",
        "blackbox_exporter_config_last_reload_successful == 1",
        "count by (version) (blackbox_exporter_build_info)",
    ] {
        prometheus.until(expression, 1, PATIENCE).await;
    }
    // A door that stays shut without the password.
    let (status, _) = crate::support::watchpost::get(&scene.protected.url("/probe")).await;
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_the_operator_is_scraped() {
    let Some(program) = installed("prometheus") else { return };
    let scene = Scene::start().await;
    let prometheus = Prometheus::with(&program, &scene.here("operator-probe.yml"));
    let found = prometheus.until("probe_success == 1", 1, PATIENCE).await;
    let labels = &found[0]["metric"];
    assert_eq!(labels["job"], "shop");
    assert_eq!(labels["namespace"], "sales");
    assert_eq!(labels["team"], "shop");
    assert_eq!(labels["instance"], scene.web.url("/"));
    prometheus.until("up{job=\"shop\",namespace=\"sales\"} == 1", 1, PATIENCE).await;
    prometheus.until("probe_http_status_code{namespace=\"sales\"} == 200", 1, PATIENCE).await;
}
