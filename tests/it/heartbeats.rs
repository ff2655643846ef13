//! Heartbeats through the built binary: no beat without evidence, whatever the evidence is and however the service behaves.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpListener;

use crate::notify_delivery::until;
use crate::support::fakes::{API_KEY, Mood, PagerDuty, Service, TELEMETRY_KEY};
use crate::support::watchpost::{Watchpost, get};

pub(crate) const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";
pub(crate) const CHECK: &str = "1a2b3c4d-8b67-4c5f-9d43-0b5a2d0b7f12";
/// Longer than any two beats of these tests are apart.
const LONGER_THAN_A_BEAT: Duration = Duration::from_secs(7);

/// Everything that evidence comes from, and a service.
pub(crate) struct Estate {
    pub(crate) pagerduty: PagerDuty,
    /// What the probe of the pipeline asks.
    pub(crate) part: Option<TcpListener>,
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Estate {
    pub(crate) async fn start() -> Self {
        let part = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = part.local_addr().unwrap().to_string();
        let pagerduty = PagerDuty::start(&["k1"]).await;
        Self { pagerduty, part: Some(part), address, folder: tempfile::tempdir().unwrap() }
    }

    /// A configuration with these heartbeats, each gated on all evidence there is.
    pub(crate) fn config(&self, heartbeats: &[String]) -> String {
        let when = "when: [{ deadman: alerting }, { probe: part }, { receiver: oncall }]";
        let beats: String = heartbeats
            .iter()
            .map(|beat| format!("  - {{ {beat}, {when} }}\n"))
            .collect::<Vec<_>>()
            .concat();
        format!(
            "watchpost: {{ id: here }}\n\
             modules: {{ open: {{ prober: tcp, timeout: 1s }} }}\n\
             receivers:\n  - {{ name: oncall, test_interval: 1h, pagerduty: {{ routing_key: k1, url: '{}' }} }}\n\
             deadman:\n  - {{ name: alerting, interval: 1h, grace: 1h, uuid: {UUID}, notify: [oncall] }}\n\
             probes:\n  - {{ name: part, module: open, interval: 1s, pipeline: true, targets: ['{}'] }}\n\
             heartbeats:\n{beats}",
            self.pagerduty.url(),
            self.address,
        )
    }

    pub(crate) fn run(&self, config: &str, more: &[&str]) -> Watchpost {
        let path = self.folder.path().join("w.yml");
        std::fs::write(&path, config).unwrap();
        self.run_file(&path, more)
    }

    /// With the book in another place.
    pub(crate) fn run_in(&self, book: &Path, config: &str) -> Watchpost {
        let path = self.folder.path().join("w.yml");
        std::fs::write(&path, config).unwrap();
        Watchpost::start_with(&path, &[&format!("--storage.path={}", book.display())])
    }

    fn run_file(&self, path: &Path, more: &[&str]) -> Watchpost {
        let storage = format!("--storage.path={}", self.folder.path().join("book").display());
        let arguments: Vec<&str> =
            std::iter::once(storage.as_str()).chain(more.iter().copied()).collect();
        Watchpost::start_with(path, &arguments)
    }
}

/// `beat: hc` for a check of the service.
pub(crate) fn healthchecks(name: &str, service: &Service, check: &str) -> String {
    format!(
        "name: {name}, interval: 5s, timeout: 2s, healthchecks: {{ url: '{}/{check}' }}",
        service.http.url
    )
}

/// The same at Cronitor, with read-back.
pub(crate) fn cronitor(name: &str, service: &Service, key: &str, monitor: &str) -> String {
    let url = &service.http.url;
    format!(
        "name: {name}, interval: 5s, timeout: 2s, cronitor: {{ url: '{url}/p/{key}/{monitor}', api_key: {API_KEY}, \
         api_url: '{url}/api/monitors', fallback_url: '', recorded_max_lag: 6s }}"
    )
}

fn snitch(name: &str, service: &Service, token: &str) -> String {
    let url = &service.http.url;
    format!(
        "name: {name}, interval: 5s, timeout: 2s, deadmanssnitch: {{ url: '{url}/{token}', api_key: {API_KEY}, \
         api_url: '{url}/v1/snitches', recorded_max_lag: 6s }}"
    )
}

pub(crate) async fn ping(watchpost: &Watchpost, tail: &str) {
    assert_eq!(get(&watchpost.url(&format!("/ping/{UUID}{tail}"))).await.0, 200);
}

pub(crate) async fn gate(watchpost: &Watchpost, gate: &str, open: f64) {
    let label = format!("gate=\"{gate}\"");
    watchpost.until("watchpost_heartbeat_gate_open", &[&label], |value| value == open).await;
}

/// Watches for longer than a beat takes to come, after giving one that was on its way the time to arrive.
pub(crate) async fn no_more_beats(service: &Service) {
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = service.http.count();
    tokio::time::sleep(LONGER_THAN_A_BEAT).await;
    assert_eq!(service.http.count(), before, "{:?}", service.http.ledger().last());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_needs_evidence_and_ends_with_it() {
    let estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let config = estate.config(&[healthchecks("pipeline", &service, CHECK)]);
    let mut watchpost = estate.run(&config, &[]);
    // All but one hold: a switch that is armed and was never beaten does not fail, and is no evidence.
    gate(&watchpost, "probe:part", 1.0).await;
    gate(&watchpost, "receiver:oncall", 1.0).await;
    gate(&watchpost, "book", 1.0).await;
    let why = ["gate=\"deadman:alerting\"", "reason=\"no_evidence\""];
    watchpost.until("watchpost_heartbeat_gate_closed_info", &why, |v| v == 1.0).await;
    no_more_beats(&service).await;
    assert_eq!(service.http.count(), 0);
    ping(&watchpost, "").await;
    until("two beats", || service.beats(CHECK) >= 2).await;
    ping(&watchpost, "/fail").await;
    gate(&watchpost, "deadman:alerting", 0.0).await;
    no_more_beats(&service).await;
    ping(&watchpost, "").await;
    let before = service.beats(CHECK);
    until("another beat", || service.beats(CHECK) > before).await;

    // The evidence outlives a restart, and what has to be seen anew is.
    watchpost.signal(Signal::TERM);
    watchpost.wait();
    drop(watchpost);
    let second = estate.run(&config, &[]);
    let before = service.beats(CHECK);
    until("a beat after the restart", || service.beats(CHECK) > before).await;
    let page = get(&second.url("/")).await.1;
    assert!(page.contains("Heartbeats") && page.contains("beating"), "{page}");
}

/// What is accepted and not recorded shows in a metric, and what is recorded too.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_is_not_recorded() {
    let estate = Estate::start().await;
    let (good, wrong_key, made, paused, missing) = (
        Service::cronitor(&["m"]).await,
        Service::cronitor(&["m"]).await,
        Service::cronitor(&[]).await,
        Service::snitch(&["t"]).await,
        Service::healthchecks(&[]).await,
    );
    paused.set_paused("t", true);
    let config = estate.config(&[
        cronitor("good", &good, TELEMETRY_KEY, "m"),
        cronitor("wrong key", &wrong_key, "a-wrong-one", "m"),
        cronitor("misspelt", &made, TELEMETRY_KEY, "n"),
        snitch("paused", &paused, "t"),
        healthchecks("missing", &missing, CHECK),
    ]);
    let watchpost = estate.run(&config, &[]);
    ping(&watchpost, "").await;
    let is_recorded = |name: &'static str, value: f64| {
        let watchpost = &watchpost;
        async move {
            let label = format!("heartbeat=\"{name}\"");
            watchpost.until("watchpost_heartbeat_recorded_ok", &[&label], |v| v == value).await;
        }
    };
    is_recorded("good", 1.0).await;
    let name = ["heartbeat=\"good\""];
    watchpost.until("watchpost_heartbeat_recorded_timestamp_seconds", &name, |v| v > 1e9).await;
    is_recorded("wrong key", 0.0).await;
    assert!(wrong_key.http.count() > 2);
    assert_eq!(wrong_key.beats("m"), 0);
    is_recorded("misspelt", 0.0).await;
    is_recorded("paused", 0.0).await;
    let unexpected = ["heartbeat=\"missing\"", "result=\"unexpected_body\""];
    watchpost.until("watchpost_heartbeat_sends_total", &unexpected, |v| v > 0.0).await;
    let page = get(&watchpost.url("/")).await.1;
    for part in ["not recorded", "not accepted", "made one of its own", "status is paused"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for secret in [TELEMETRY_KEY, API_KEY, "a-wrong-one"] {
        assert!(!page.contains(secret) && !watchpost.log().contains(secret), "{secret}");
    }

    // A service that was good begins to throw away what it takes.
    good.set_mood(Mood { forgets: true });
    is_recorded("good", 0.0).await;
    good.set_mood(Mood::default());
    is_recorded("good", 1.0).await;
}

/// Every part of the evidence, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn every_gate_stops_the_beat() {
    let mut estate = Estate::start().await;
    let service = Service::healthchecks(&[CHECK]).await;
    let config = estate.config(&[healthchecks("pipeline", &service, CHECK)]);
    let watchpost = estate.run(&config, &[]);
    ping(&watchpost, "").await;
    until("a beat", || service.beats(CHECK) >= 1).await;
    // A part of the pipeline dies, and comes back.
    drop(estate.part.take());
    gate(&watchpost, "probe:part", 0.0).await;
    no_more_beats(&service).await;
    let log = watchpost.log();
    assert!(log.contains("beat withheld") && log.contains("probe:part"), "{log}");
    estate.part = Some(TcpListener::bind(&estate.address).await.unwrap());
    gate(&watchpost, "probe:part", 1.0).await;
    let before = service.beats(CHECK);
    until("a beat after the part came back", || service.beats(CHECK) > before).await;
    // The switch is paused: nobody is told when it falls silent, so it is no evidence.
    let pause = watchpost.url("/api/v1/deadman/alerting/pause");
    let body = "{\"seconds\": 3600, \"reason\": \"new rules\"}";
    let answer = reqwest::Client::new().post(pause).body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    gate(&watchpost, "deadman:alerting", 0.0).await;
    no_more_beats(&service).await;
}
