//! What is told as degraded: a dead replica of three, an integration that fails. And how often Alertmanager really repeats.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::{Setup, Stage};
use super::until;
use super::yml::{self, replaced};
use crate::program::free_port;
use crate::support::fakes::{Fake, Received, Reply};
use crate::support::watchpost::{get, sample};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_alertmanagers_dies() {
    let setup = Setup { alertmanagers: 3, max_age: 15, ..Setup::default() };
    let Some(mut stage) = Stage::open(setup).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.kill_alertmanager(0);
    let dead = stage.ports.alertmanager_url(0);
    let bound = stage.bound("one of several Alertmanagers is dead");
    let words = [
        "[DEGRADED] deadman alerting/alertmanager",
        &format!("Alertmanager {dead} does not answer"),
    ];
    stage.ticketed(bound.saturating_sub(broken.elapsed()), &words).await;
    let url = format!("alertmanager=\"{dead}\"");
    stage.wp().until("watchpost_alertmanager_up", &[&url], |value| value < 1.0).await;
    let known = stage.beats();
    // Longer than evidence may be old: the other two carry it.
    while broken.elapsed() < Duration::from_secs(stage.setup.max_age + 5) {
        assert_eq!(stage.told(yml::PAGE), [], "{}", stage.say("a page"));
        tokio::time::sleep(super::LOOK).await;
    }
    assert!(stage.beats() > known, "{}", stage.say("the heartbeat has stopped"));
    stage.bring_alertmanager_back(0);
    stage.ends(yml::TICKET).await;
    assert_eq!(stage.told(yml::PAGE), [], "{}", stage.say("a page"));
}

/// Alertmanager's own way to the pager fails while its webhook works.
#[tokio::test(flavor = "multi_thread")]
async fn an_integration_of_alertmanager_fails() {
    let refused = free_port();
    let refused = format!("http://127.0.0.1:{refused}");
    let Some(stage) = Stage::open_with(Setup::default(), |text| people(&text, &refused)).await
    else {
        return;
    };
    stage.close().await;
    let broken = Instant::now();
    stage.fire(json!({ "alertname": "ShopIsDown", "job": "shop" })).await;
    let bound = stage.bound("an integration of Alertmanager fails");
    let words = ["[DEGRADED] deadman alerting/alertmanager", "integration pagerduty fails"];
    stage.ticketed(bound.saturating_sub(broken.elapsed()), &words).await;
    let finding = ["finding=\"failing\""];
    stage.wp().until("watchpost_alertmanager_finding", &finding, |value| value > 0.0).await;
    assert_eq!(stage.told(yml::PAGE), [], "the Watchdog gets through");
    let known = stage.beats();
    // The pager answers again, at another address: Alertmanager tries anew.
    let pager = Fake::start(|_| Reply::text(202, "{}")).await;
    stage.reroute(|text| people(&text, &pager.url)).await;
    stage.ends(yml::TICKET).await;
    assert!(pager.count() > 0, "{}", stage.say("nobody told the pager"));
    let beats = async || stage.beats() > known;
    until(Duration::from_secs(15), beats, || stage.say("the heartbeat has stopped")).await;
}

/// Alertmanager's own way to people, at once.
fn people(text: &str, url: &str) -> String {
    let people =
        format!("- name: people\n    pagerduty_configs: [{{ routing_key: k, url: '{url}/' }}]");
    let text = replaced(text, "- name: people", &people);
    replaced(&text, "group_wait: 30s", "group_wait: 0s")
}

/// A second webhook of the Watchdog's receiver: sees how often Alertmanager really sends.
struct Tap {
    fake: Fake,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Tap {
    async fn start() -> Self {
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let fake = Fake::start(move |_: &Received| {
            seen.lock().unwrap().push(Instant::now());
            // A send takes its time. One of less than a millisecond is lost in the drift of Alertmanager's timer.
            std::thread::sleep(Duration::from_millis(200));
            Reply::text(200, "")
        })
        .await;
        Self { fake, times }
    }

    fn put_into_route(&self, text: &str) -> String {
        let key = "    webhook_configs:\n";
        replaced(text, key, &format!("{key}      - url: {}\n", self.fake.url))
    }

    fn count(&self) -> usize {
        self.times.lock().unwrap().len()
    }

    /// The longest time between two of so many notifications, counted from one of them.
    async fn longest(&self, stage: &Stage, from: usize, turns: usize) -> Duration {
        let limit = Duration::from_secs(90);
        let enough = async || self.count() > from + turns;
        until(limit, enough, || stage.say("no notification")).await;
        let times = self.times.lock().unwrap();
        times[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }

    /// The same, beginning with the next but one: a reload may have brought the next one forward.
    async fn measured(&self, stage: &Stage) -> Duration {
        self.longest(stage, self.count() + 1, 3).await
    }
}

/// Equal intervals double the period, as `check-config` says that they do.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_period_is_what_check_config_computes() {
    let tap = Tap::start().await;
    let tapped = |text: String| tap.put_into_route(&text);
    let setup =
        Setup { timing: ("2s", "500ms"), max_age: 70, tells_route: true, ..Setup::default() };
    let Some(mut stage) = Stage::open_with(setup, tapped).await else { return };
    stage.close().await;
    let is_about = |measured: Duration, seconds: f64| {
        assert!((measured.as_secs_f64() - seconds).abs() < 0.9, "{measured:?}, not {seconds} s");
    };
    assert!(stage.checked().contains("a beat every 2s,"), "{}", stage.checked());
    is_about(tap.measured(&stage).await, 2.0);
    stage.setup.timing = ("2s", "2s");
    stage.rewrite_config();
    stage.reroute(tapped).await;
    let said = stage.checked();
    assert!(said.contains("a beat every 4s,"), "{said}");
    assert!(said.contains("warning") && said.contains("every 4s, not every 2s"), "{said}");
    is_about(tap.measured(&stage).await, 4.0);
    assert_eq!(stage.told(yml::PAGE), []);
}

/// Three that share a cluster: while all live, one sends and the others see that it did. When the one that sends dies, the
/// next one may have waited for it, and sends within the longer period that `check-config` computes.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_period_of_a_cluster_is_what_check_config_computes() {
    let tap = Tap::start().await;
    let setup = Setup {
        alertmanagers: 3,
        timing: ("3s", "1s"),
        max_age: 75,
        tells_route: true,
        ..Setup::default()
    };
    let Some(mut stage) = Stage::open_with(setup, |text| tap.put_into_route(&text)).await else {
        return;
    };
    stage.close().await;
    // 3 s × (⌊(1 s + 1 s + 2 × 1 s) / 3 s⌋ + 1), and without the waiting half of it.
    let said = stage.checked();
    assert!(
        said.contains("a beat every 3s (6s when a member of the cluster of 3 dies),"),
        "{said}"
    );
    let healthy = tap.longest(&stage, tap.count() + 1, 5).await;
    eprintln!("a healthy cluster of three repeats within {healthy:.1?}");
    assert!(healthy < Duration::from_millis(3_900), "{healthy:?}");
    for _ in 0..2 {
        let sender = sender(&stage).await;
        let last = tap.count() - 1;
        stage.kill_alertmanager(sender);
        let worst = tap.longest(&stage, last, 2).await;
        eprintln!("after the death of the one that sends, within {worst:.1?}");
        assert!(worst < Duration::from_millis(6_900), "{worst:?}");
    }
    assert_eq!(stage.told(yml::PAGE), []);
}

/// The member that has sent most by webhook.
async fn sender(stage: &Stage) -> usize {
    let mut sent = Vec::new();
    for (index, _) in stage.alertmanagers.iter().enumerate().filter(|(_, it)| it.is_some()) {
        let page = get(&format!("{}/metrics", stage.ports.alertmanager_url(index))).await.1;
        let labels = ["integration=\"webhook\""];
        let count = sample(&page, "alertmanager_notifications_total", &labels).unwrap();
        sent.push((count, index));
    }
    sent.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
}
