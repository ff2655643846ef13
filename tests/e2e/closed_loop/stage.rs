//! Everything that takes part: real Prometheis and Alertmanagers, the built watchpost, PagerDuty and Cronitor as they behave.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use watchpost::model::Period;

use super::until;
use super::yml::{self, MONITOR, PAGE, Ports, TICKET, source};
use crate::program::{PATIENCE, Running, free_port, installed};
use crate::support::fakes::{Incident, PagerDuty, Service};
use crate::support::watchpost::{Watchpost, get, run};

/// The name of the alert.
const ALERT: &str = "Watchdog";
/// Between two beats of the heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long recovery may take: the loop, `resolve_after`, and a busy machine.
const RECOVERY: Duration = Duration::from_secs(45);

/// How long a replica waits for each one before it; `yml` tells watchpost.
const PEER_TIMEOUT: &str = "--cluster.peer-timeout=1s";

/// What differs between tests.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) prometheis: usize,
    pub(super) min_sources: usize,
    /// Whether sources are told apart; one that is not is called like the alert.
    pub(super) is_named: bool,
    pub(super) alertmanagers: usize,
    /// In seconds.
    pub(super) max_age: u64,
    /// Prometheus's `--rules.alert.resend-delay`.
    pub(super) resend: &'static str,
    /// `group_interval` and `repeat_interval` of the Watchdog's route.
    pub(super) timing: (&'static str, &'static str),
    /// Whether watchpost's configuration has the timing. It is refused then where `max_age` has no minute to spare.
    pub(super) tells_route: bool,
    pub(super) alert_relabel_configs: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            prometheis: 1,
            min_sources: 1,
            is_named: true,
            alertmanagers: 1,
            max_age: 10,
            resend: "1s",
            timing: ("2s", "1s"),
            tells_route: false,
            alert_relabel_configs: "[]",
        }
    }
}

struct Programs {
    prometheus: PathBuf,
    alertmanager: PathBuf,
}

pub(super) struct Stage {
    pub(super) setup: Setup,
    pub(super) ports: Ports,
    pub(super) watchpost: Option<Watchpost>,
    pub(super) prometheis: Vec<Option<Running>>,
    pub(super) alertmanagers: Vec<Option<Running>>,
    pub(super) pagerduty: PagerDuty,
    pub(super) cronitor: Service,
    programs: Programs,
    folder: TempDir,
}

impl Stage {
    /// Starts everybody. `None` where a program is not installed.
    pub(super) async fn open(setup: Setup) -> Option<Self> {
        Self::open_with(setup, |text| text).await
    }

    /// The same, with another `alertmanager.yml`.
    pub(super) async fn open_with(setup: Setup, edit: impl Fn(String) -> String) -> Option<Self> {
        let programs = Programs {
            prometheus: installed("prometheus")?,
            alertmanager: installed("prometheus-alertmanager")?,
        };
        let free = |count| (0..count).map(|_| free_port()).collect::<Vec<u16>>();
        let ports = Ports {
            watchpost: free_port(),
            prometheis: free(setup.prometheis),
            alertmanagers: free(setup.alertmanagers),
            gossip: free(setup.alertmanagers),
        };
        let mut stage = Self {
            watchpost: None,
            prometheis: Vec::new(),
            alertmanagers: Vec::new(),
            pagerduty: PagerDuty::start(&[PAGE, TICKET]).await,
            cronitor: Service::cronitor(&[MONITOR]).await,
            folder: tempfile::tempdir().unwrap(),
            programs,
            setup,
            ports,
        };
        stage.write_all(&edit);
        stage.start_watchpost();
        for index in 0..stage.setup.alertmanagers {
            let running = stage.start_alertmanager(index);
            stage.alertmanagers.push(Some(running));
        }
        for index in 0..stage.setup.prometheis {
            let running = stage.start_prometheus(index);
            stage.prometheis.push(Some(running));
        }
        Some(stage)
    }

    pub(super) fn rewrite_config(&self) {
        let text = yml::watchpost(&self.setup, &self.ports, &self.pagerduty, &self.cronitor);
        fs::write(self.config(), text).unwrap();
    }

    fn write_all(&self, edit: &impl Fn(String) -> String) {
        self.rewrite_config();
        for index in 0..self.setup.prometheis {
            fs::create_dir_all(self.at(&format!("rules-{index}"))).unwrap();
            fs::write(self.rule_file(index), yml::rule()).unwrap();
            self.write_prometheus(index, true);
        }
        self.write_alertmanager(edit);
    }

    fn write_prometheus(&self, index: usize, scrapes: bool) {
        let text = yml::prometheus(&self.setup, &self.ports, index, scrapes);
        fs::write(self.at(&format!("prometheus-{index}.yml")), text).unwrap();
    }

    fn write_alertmanager(&self, edit: &impl Fn(String) -> String) {
        let text = edit(yml::alertmanager(&self.setup, &self.ports, self.folder.path()));
        fs::write(self.at("alertmanager.yml"), text).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.at("watchpost.yml")
    }

    pub(super) fn rule_file(&self, index: usize) -> PathBuf {
        self.at(&format!("rules-{index}/watchdog.yml"))
    }

    pub(super) fn start_watchpost(&mut self) {
        // The first address is for the test, the second is where the others expect it also after a restart.
        let listen = format!("--web.listen-address=127.0.0.1:{}", self.ports.watchpost);
        let book = format!("--storage.path={}", self.at("book").display());
        self.watchpost = Some(Watchpost::start_with(&self.config(), &[&listen, &book]));
    }

    pub(super) fn start_prometheus(&self, index: usize) -> Running {
        let port = self.ports.prometheis[index];
        let mut command = Command::new(&self.programs.prometheus);
        command
            .arg(flag("config.file", &self.at(&format!("prometheus-{index}.yml"))))
            .arg(flag("storage.tsdb.path", &self.at(&format!("tsdb-{index}"))))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--rules.alert.resend-delay={}", self.setup.resend))
            .args(["--web.enable-lifecycle", "--log.level=warn"]);
        Running::listening_with_log(
            &mut command,
            port,
            &self.at(&format!("prometheus-{index}.log")),
        )
    }

    pub(super) fn start_alertmanager(&self, index: usize) -> Running {
        let port = self.ports.alertmanagers[index];
        let mut command = Command::new(&self.programs.alertmanager);
        command
            .arg(flag("config.file", &self.at("alertmanager.yml")))
            .arg(flag("storage.path", &self.at(&format!("alertmanager-{index}"))))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        if self.setup.alertmanagers == 1 {
            command.arg("--cluster.listen-address=");
        } else {
            command
                .arg(format!("--cluster.listen-address=127.0.0.1:{}", self.ports.gossip[index]))
                .args(["--cluster.gossip-interval=50ms", "--cluster.pushpull-interval=1s"])
                .args([PEER_TIMEOUT, "--cluster.settle-timeout=5s"])
                .args(["--cluster.probe-interval=500ms", "--cluster.probe-timeout=200ms"]);
            let others = self.ports.gossip.iter().enumerate().filter(|(other, _)| *other != index);
            command.args(others.map(|(_, port)| format!("--cluster.peer=127.0.0.1:{port}")));
        }
        Running::listening_with_log(
            &mut command,
            port,
            &self.at(&format!("alertmanager-{index}.log")),
        )
    }

    pub(super) fn kill_prometheus(&mut self, index: usize) {
        self.prometheis[index].take().unwrap().kill();
    }

    pub(super) fn kill_alertmanager(&mut self, index: usize) {
        self.alertmanagers[index].take().unwrap().kill();
    }

    /// Gives Prometheus other rules or targets.
    pub(super) fn bring_prometheus_back(&mut self, index: usize) {
        self.prometheis[index] = Some(self.start_prometheus(index));
    }

    pub(super) fn bring_alertmanager_back(&mut self, index: usize) {
        self.alertmanagers[index] = Some(self.start_alertmanager(index));
    }

    pub(super) async fn reload_prometheus(&self, index: usize) {
        self.post(&format!("http://127.0.0.1:{}/-/reload", self.ports.prometheis[index]), None)
            .await;
    }

    pub(super) async fn set_scraping(&self, index: usize, scrapes: bool) {
        self.write_prometheus(index, scrapes);
        self.reload_prometheus(index).await;
    }

    /// Prometheus drops other labels than before on the way to Alertmanager.
    pub(super) async fn relabel(&mut self, alert_relabel_configs: &'static str) {
        self.setup.alert_relabel_configs = alert_relabel_configs;
        for index in 0..self.setup.prometheis {
            self.set_scraping(index, true).await;
        }
    }

    /// Prometheus sends alerts to where nobody listens.
    pub(super) async fn cut_from_alertmanager(&self, index: usize) {
        let ports = Ports { alertmanagers: vec![free_port()], ..self.ports.clone() };
        let text = yml::prometheus(&self.setup, &ports, index, true);
        fs::write(self.at(&format!("prometheus-{index}.yml")), text).unwrap();
        self.reload_prometheus(index).await;
    }

    /// Gives every Alertmanager another configuration.
    pub(super) async fn reroute(&self, edit: impl Fn(String) -> String) {
        self.write_alertmanager(&edit);
        for index in 0..self.alertmanagers.len() {
            let url = format!("{}/-/reload", self.ports.alertmanager_url(index));
            self.post(&url, None).await;
        }
    }

    pub(super) async fn post(&self, url: &str, body: Option<Value>) -> Value {
        let request = reqwest::Client::new().post(url);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Tells the first Alertmanager of an alert that fires for a while.
    pub(super) async fn fire(&self, labels: Value) {
        self.fire_until(labels, jiff::Timestamp::now() + Duration::from_secs(600)).await;
    }

    /// Tells it that the alert is over.
    pub(super) async fn calm(&self, labels: Value) {
        self.fire_until(labels, jiff::Timestamp::now()).await;
    }

    async fn fire_until(&self, labels: Value, end: jiff::Timestamp) {
        let alerts = json!([{ "labels": labels, "endsAt": end.to_string() }]);
        self.post(&format!("{}/api/v2/alerts", self.ports.alertmanager_url(0)), Some(alerts)).await;
    }

    pub(super) fn wp(&self) -> &Watchpost {
        self.watchpost.as_ref().unwrap()
    }

    /// What `check-config` says.
    pub(super) fn checked(&self) -> String {
        let (code, output, errors) = run(&["check-config", &self.config().display().to_string()]);
        assert_eq!(code, 0, "{output}{errors}");
        format!("{output}{errors}")
    }

    /// The time to page that `check-config` computes for a failure.
    pub(super) fn bound(&self, failure: &str) -> Duration {
        let said = self.checked();
        let row = said.lines().find(|line| line.trim_start().starts_with(failure));
        let row = row.unwrap_or_else(|| panic!("no row {failure:?} in\n{said}"));
        let mut cells = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        let page = cells.nth(1).unwrap();
        let page: Period = serde_json::from_value(json!(page)).unwrap();
        page.get()
    }

    /// Waits until evidence of every source has come round twice, and a beat was sent because of that.
    pub(super) async fn close(&self) {
        let closed = async || {
            let page = get(&self.wp().url("/metrics")).await.1;
            let name = |index| if self.setup.is_named { source(index) } else { ALERT.to_owned() };
            (0..self.setup.prometheis).all(|index| is_up(&page, &name(index)))
        };
        until(PATIENCE, closed, || self.say("the loop does not close")).await;
        until(PATIENCE, async || self.beats() > 0, || self.say("no heartbeat")).await;
        assert_eq!(self.told(PAGE), [], "{}", self.say("nothing is wrong yet"));
    }

    /// Beats that Cronitor has recorded.
    pub(super) fn beats(&self) -> usize {
        self.cronitor.beats(MONITOR)
    }

    /// Triggers that PagerDuty took for a service.
    pub(super) fn triggers(&self, service: &str) -> Vec<Value> {
        let ledger = self.pagerduty.http.ledger();
        let events = ledger.iter().map(crate::support::fakes::Received::json);
        let ours =
            events.filter(|it| it["routing_key"] == service && it["event_action"] == "trigger");
        ours.collect()
    }

    /// Incidents of a service, opened and resolved.
    pub(super) fn told(&self, service: &str) -> Vec<Incident> {
        let is_of = |incident: &Incident| match incident {
            Incident::Opened { routing_key, .. } | Incident::Resolved { routing_key, .. } => {
                routing_key == service
            }
        };
        self.pagerduty.history().into_iter().filter(is_of).collect()
    }

    /// Waits for the page that must follow what was broken at `since`, and reads it.
    pub(super) async fn paged(&self, since: Instant, failure: &str) -> Page {
        let bound = self.bound(failure);
        let is_told = async || !self.told(PAGE).is_empty();
        until(bound.saturating_sub(since.elapsed()), is_told, || {
            self.say(&format!("no page within {bound:?}"))
        })
        .await;
        let after = since.elapsed();
        let event = self.triggers(PAGE).remove(0);
        let payload = &event["payload"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let page = Page {
            at: Instant::now(),
            after,
            summary: text(&payload["summary"]),
            text: text(&payload["custom_details"]["text"]),
            severity: text(&payload["severity"]),
        };
        eprintln!(
            "{failure}: paged after {after:.1?} of {bound:?}\n{}\n{}",
            page.summary, page.text
        );
        assert_eq!(page.severity, "critical");
        page.says("[DOWN] deadman alerting");
        page.says("runbook: https://runbooks.example/alerting");
        page
    }

    /// Waits until the tickets' service is told something with these words.
    pub(super) async fn ticketed(&self, limit: Duration, words: &[&str]) -> String {
        let find = || {
            let mut texts = self.triggers(TICKET).into_iter().map(|event| {
                let payload = &event["payload"];
                format!("{}\n{}", payload["summary"], payload["custom_details"]["text"])
            });
            texts.find(|text| words.iter().all(|word| text.contains(word)))
        };
        until(limit, async || find().is_some(), || self.say(&format!("no ticket with {words:?}")))
            .await;
        find().unwrap()
    }

    /// No beat is sent once the page is out: waits longer than the next one would take.
    pub(super) async fn heartbeat_stays_away(&self, page: &Page) {
        let last = self.beats();
        while page.at.elapsed() < HEARTBEAT + Duration::from_secs(1) {
            assert_eq!(self.beats(), last, "{}", self.say("a beat after the page"));
            tokio::time::sleep(super::LOOK).await;
        }
    }

    /// Waits for the end of the episode after a repair: the same key, one page, one end, beats again.
    pub(super) async fn recovers(&self) {
        let known = self.beats();
        self.ends(PAGE).await;
        let beats = async || self.beats() > known;
        until(RECOVERY, beats, || self.say("no heartbeat after the recovery")).await;
        // Nobody was told more meanwhile.
        assert_eq!(self.told(PAGE).len(), 2, "{}", self.say("not one episode"));
    }

    /// Waits until the incidents of a service are over: each was opened once and ended once, by its own key.
    pub(super) async fn ends(&self, service: &str) {
        let is_over = async || {
            let (opened, resolved) = self.keys(service);
            !opened.is_empty() && opened.len() <= resolved.len()
        };
        until(RECOVERY, is_over, || self.say("it is not over")).await;
        let (mut opened, resolved) = self.keys(service);
        assert_eq!(opened, resolved, "{}", self.say("not each its own end"));
        opened.dedup();
        assert_eq!(opened.len(), resolved.len(), "{}", self.say("not one episode each"));
    }

    /// The keys of what was opened, and of what was ended.
    fn keys(&self, service: &str) -> (Vec<String>, Vec<String>) {
        let (mut opened, mut resolved) = (Vec::new(), Vec::new());
        for incident in self.told(service) {
            match incident {
                Incident::Opened { key, .. } => opened.push(key),
                Incident::Resolved { key, .. } => resolved.push(key),
            }
        }
        opened.sort_unstable();
        resolved.sort_unstable();
        (opened, resolved)
    }

    /// Everything that explains a failed test.
    pub(super) fn say(&self, what: &str) -> String {
        let mut said = format!("{what}\n--- told: {:#?}\n", self.pagerduty.history());
        for event in self.triggers(PAGE).iter().chain(&self.triggers(TICKET)) {
            writeln!(said, "--- {}", event["payload"]["custom_details"]["text"]).unwrap();
        }
        if let Some(watchpost) = &self.watchpost {
            write!(said, "--- watchpost\n{}", watchpost.log()).unwrap();
        }
        for entry in fs::read_dir(self.folder.path()).unwrap().filter_map(Result::ok) {
            if entry.path().extension().is_some_and(|it| it == "log") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                write!(said, "--- {}\n{text}", entry.file_name().display()).unwrap();
            }
        }
        said
    }
}

/// What woke somebody.
pub(super) struct Page {
    at: Instant,
    pub(super) after: Duration,
    pub(super) summary: String,
    pub(super) text: String,
    severity: String,
}

impl Page {
    pub(super) fn says(&self, words: &str) {
        let all = format!("{}\n{}", self.summary, self.text);
        assert!(all.contains(words), "{words:?} is not in\n{all}");
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn is_up(page: &str, source: &str) -> bool {
    let value = |name: &str, labels: &[&str]| crate::support::watchpost::sample(page, name, labels);
    let instance = format!("instance=\"{source}\"");
    let up = ["job=\"alerting\"", instance.as_str(), "status=\"up\""];
    value("probe_status", &up) == Some(1.0)
        && value("watchpost_deadman_beats_total", &["result=\"fresh\""]).is_some_and(|it| it >= 2.0)
}
