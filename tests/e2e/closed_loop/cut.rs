//! Regions that are cut off: the one with Prometheus and Alertmanager, and then this watchpost's own. What `check-config`
//! says of our own death is what the watchpost elsewhere does.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;

use super::stage::Setup;
use super::until;
use super::yml::{self, Ports, replaced};
use crate::netns::{Cable, Host, World, apart};
use crate::program::{PATIENCE, Running, installed};
use crate::support::fakes::{Incident, PagerDuty};
use crate::support::watchpost::{Watchpost, run};

/// The switch that the other watchpost keeps for this one.
const SWITCH: &str = "8f1f9bd4-7a35-4d1e-9a61-0f8f6c1a2b04";
/// Routing keys of the two.
const HERE: &str = "here";
const THERE: &str = "there";
/// A message is on its way for a moment.
const DELIVERY: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(60);

/// Where Prometheus and Alertmanager are, this watchpost, and the other one.
struct Estate {
    monitoring: Cable,
    ours: Cable,
    here: Watchpost,
    there: Watchpost,
    pagerduty: PagerDuty,
    folder: TempDir,
    _programs: [Running; 2],
    _reference: TcpListener,
    _world: World,
}

impl Estate {
    async fn start(mut world: World) -> Self {
        world.bridge("net", "10.0.3.1/24");
        let reference = TcpListener::bind("10.0.3.1:443").await.unwrap();
        let pager = TcpListener::bind("10.0.3.1:8080").await.unwrap();
        let pagerduty = PagerDuty::on(pager, &[HERE, THERE]);
        let mut plug = |name: &str, number: u8| {
            let host = world.host(name);
            let address = format!("10.0.3.{number}/24");
            let cable = world.plug(&host, "net", &address, Duration::ZERO);
            (host, cable)
        };
        let (mon, monitoring) = plug("mon", 10);
        let (home, ours) = plug("home", 11);
        let (away, _) = plug("away", 12);
        let folder = tempfile::tempdir().unwrap();
        let url = pagerduty.url();
        let there = watchpost(&away, 12, folder.path(), THERE, &there_yml(&url));
        let here = watchpost(&home, 11, folder.path(), HERE, &here_yml(&url));
        let programs = monitoring_programs(&mon, folder.path());
        Self {
            monitoring,
            ours,
            here,
            there,
            pagerduty,
            folder,
            _programs: programs,
            _reference: reference,
            _world: world,
        }
    }

    /// How often a key was told of something with these words, and how often it ended.
    fn told(&self, key: &str, words: &str) -> (usize, usize) {
        let history = self.pagerduty.history();
        let opened: Vec<&String> = history
            .iter()
            .filter_map(|incident| match incident {
                Incident::Opened { key: dedup, summary, routing_key }
                    if routing_key == key && summary.contains(words) =>
                {
                    Some(dedup)
                }
                _ => None,
            })
            .collect();
        let ended = history.iter().filter(|incident| {
            matches!(incident, Incident::Resolved { key: dedup, .. } if opened.contains(&dedup))
        });
        (opened.len(), ended.count())
    }

    async fn until_told(&self, key: &str, words: &str, times: (usize, usize), limit: Duration) {
        let is_so = async || self.told(key, words) == times;
        until(limit, is_so, || {
            self.say(&format!("{key}: {words:?} is {:?}, not {times:?}", self.told(key, words)))
        })
        .await;
    }

    /// Beats that the other watchpost took from this one.
    async fn beats(&self) -> f64 {
        let labels = ["deadman=\"region-here\"", "result=\"success\""];
        self.there.metric("watchpost_deadman_beats_total", &labels).await.unwrap_or_default()
    }

    async fn beats_again(&self) {
        let known = self.beats().await;
        let more = async || self.beats().await > known;
        until(RECOVERY, more, || self.say("no beat")).await;
    }

    /// The cell `page` of a failure, as `check-config` prints it.
    fn page(&self, failure: &str) -> String {
        let said = self.checked(HERE);
        let row = said.lines().find(|line| line.trim_start().starts_with(failure)).unwrap();
        let mut cells = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.nth(1).unwrap().to_owned()
    }

    fn checked(&self, name: &str) -> String {
        let path = self.folder.path().join(format!("{name}.yml"));
        let (code, output, errors) = run(&["check-config", &path.display().to_string()]);
        assert_eq!(code, 0, "{output}{errors}");
        output
    }

    fn say(&self, what: &str) -> String {
        format!(
            "{what}\n--- told: {:#?}\n--- here\n{}\n--- there\n{}",
            self.pagerduty.history(),
            self.here.log(),
            self.there.log()
        )
    }
}

fn there_yml(pager: &str) -> String {
    format!(
        "watchpost: {{ id: there }}\n\
         receivers:\n  - {{ name: oncall, timeout: 2s, resolve_after: 1s, pagerduty: {{ routing_key: {THERE}, url: '{pager}' }} }}\n\
         deadman:\n  - {{ name: region-here, interval: 6s, grace: 8s, uuid: {SWITCH}, notify: [oncall] }}\n"
    )
}

fn here_yml(pager: &str) -> String {
    format!(
        "watchpost: {{ id: here }}\n\
         references: ['10.0.3.1:443']\n\
         receivers:\n  - {{ name: oncall, timeout: 2s, resolve_after: 1s, pagerduty: {{ routing_key: {HERE}, url: '{pager}' }} }}\n\
         deadman:\n  - name: alerting\n    key: an-opaque-key-0123456789\n    notify: [oncall]\n\
         \x20   watchdog: {{ max_age: 10s, resolved_settle: 2s, poll_interval: 5s, alertmanagers: ['http://10.0.3.10:9093'] }}\n\
         heartbeats:\n  - name: to-there\n    interval: 5s\n    timeout: 2s\n    told_after: 19s\n    when: [{{ deadman: alerting }}]\n\
         \x20   healthchecks: {{ url: 'http://10.0.3.12:9115/ping/{SWITCH}' }}\n"
    )
}

fn watchpost(host: &Host, number: u8, folder: &Path, name: &str, text: &str) -> Watchpost {
    let config = folder.join(format!("{name}.yml"));
    fs::write(&config, text).unwrap();
    let mut command = host.command(env!("CARGO_BIN_EXE_watchpost"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", folder.join(format!("book-{name}")).display()))
        .arg(format!("--web.listen-address=10.0.3.{number}:9115"));
    Watchpost::spawn(&mut command)
}

/// Both on one host, with the shipped rule and route.
fn monitoring_programs(host: &Host, folder: &Path) -> [Running; 2] {
    let setup = Setup { is_named: false, ..Setup::default() };
    let ports = Ports {
        watchpost: 9115,
        prometheis: vec![9090],
        alertmanagers: vec![9093],
        gossip: Vec::new(),
    };
    let elsewhere = |text: String| replaced(&text, "127.0.0.1:9115", "10.0.3.11:9115");
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        format!("--config.file={}", path.display())
    };
    fs::create_dir(folder.join("rules-0")).unwrap();
    fs::write(folder.join("rules-0/watchdog.yml"), yml::rule()).unwrap();
    let mut alertmanager = host.command(installed("prometheus-alertmanager").unwrap());
    alertmanager
        .arg(write("alertmanager.yml", elsewhere(yml::alertmanager(&setup, &ports, folder))))
        .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
        .args(["--web.listen-address=:9093", "--cluster.listen-address="]);
    let mut prometheus = host.command(installed("prometheus").unwrap());
    prometheus
        .arg(write("prometheus.yml", elsewhere(yml::prometheus(&setup, &ports, 0, true))))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .args(["--web.listen-address=:9090", "--rules.alert.resend-delay=1s", "--log.level=error"]);
    let address = |port: u16| ([10, 0, 3, 10], port).into();
    [
        Running::listening_at(&mut alertmanager, address(9093)),
        Running::listening_at(&mut prometheus, address(9090)),
    ]
}

/// Ours says so first, stops its beat, and the other one says that too. Joined again, both end, each by its own key.
async fn the_pipeline_is_cut_off(estate: &Estate) {
    let limit = estate.page("the region of Prometheus and Alertmanager is cut off");
    assert_eq!(limit, "15s", "10 s and 5 s");
    estate.monitoring.cut();
    let limit = Duration::from_secs(15) + DELIVERY;
    estate.until_told(HERE, "alerting", (1, 0), limit).await;
    assert_eq!(estate.told(THERE, "region-here"), (0, 0), "{}", estate.say("too early"));
    let limit = Duration::from_secs(19) + DELIVERY;
    estate.until_told(THERE, "region-here", (1, 0), limit).await;
    estate.monitoring.join();
    estate.until_told(HERE, "alerting", (1, 1), RECOVERY).await;
    estate.until_told(THERE, "region-here", (1, 1), RECOVERY).await;
    estate.beats_again().await;
}

/// Who is cut off cannot say anything, and accuses nobody when it is back.
async fn ours_is_cut_off(estate: &Estate) {
    let failure = "this watchpost is dead, or its region is cut off";
    assert_eq!(estate.page(failure), "19s by healthchecks (to-there)");
    let promised = "\"region-here\": 19s after the last beat (interval 6s + grace 8s)";
    let said = estate.checked(THERE);
    assert!(said.contains(promised), "{said}");
    let cut = Instant::now();
    estate.ours.cut();
    let limit = Duration::from_secs(19) + DELIVERY;
    estate.until_told(THERE, "region-here", (2, 1), limit).await;
    eprintln!("told after {:.1?} of 19 s", cut.elapsed());
    estate.ours.join();
    estate.until_told(THERE, "region-here", (2, 2), RECOVERY).await;
    estate.beats_again().await;
    assert_eq!(estate.told(HERE, "alerting"), (1, 1), "{}", estate.say("it accuses"));
}

#[test]
fn a_region_is_cut_off_and_then_watchpost() {
    if ["prometheus", "prometheus-alertmanager"].iter().any(|it| installed(it).is_none()) {
        return;
    }
    apart("closed_loop::cut::a_region_is_cut_off_and_then_watchpost", |world| async move {
        let estate = Estate::start(world).await;
        let first = async || estate.beats().await >= 2.0;
        until(PATIENCE, first, || estate.say("the loop does not close")).await;
        the_pipeline_is_cut_off(&estate).await;
        ours_is_cut_off(&estate).await;
    });
}
