//! What is told as degraded: a dead replica of three, an integration that fails. And how often Alertmanager really repeats.

use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::{Setup, Stage};
use super::until;
use super::yml::{self, replaced};
use crate::program::free_port;
use crate::support::fakes::{Fake, Received, Reply};

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
}

/// Alertmanager's own way to the pager fails while its webhook works.
#[tokio::test(flavor = "multi_thread")]
async fn an_integration_of_alertmanager_fails() {
    let refused = free_port();
    let Some(stage) = Stage::open_with(Setup::default(), |text| {
        let people = format!(
            "- name: people\n    pagerduty_configs: [{{ routing_key: k, url: 'http://127.0.0.1:{refused}/' }}]"
        );
        let text = replaced(&text, "- name: people", &people);
        replaced(&text, "group_wait: 30s", "group_wait: 0s")
    })
    .await
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
}

/// How often Alertmanager really sends, seen by a second webhook of the same receiver: the longest time between two
/// notifications out of a few.
async fn measured(stage: &Stage, tap: &Fake) -> Duration {
    const TURNS: usize = 3;
    let mut seen = tap.count();
    let mut times = Vec::new();
    let limit = Duration::from_secs(60);
    while times.len() <= TURNS {
        until(limit, async || tap.count() > seen, || stage.say("no notification")).await;
        seen = tap.count();
        times.push(Instant::now());
    }
    // The first may have been brought forward by the reload.
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).skip(1);
    gaps.max().unwrap()
}

/// Equal intervals double the period, as `check-config` says that they do.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_period_is_what_check_config_computes() {
    // A send takes its time. One of less than a millisecond is lost in the drift of Alertmanager's timer.
    let slow = |_: &Received| {
        std::thread::sleep(Duration::from_millis(200));
        Reply::text(200, "")
    };
    let tap = Fake::start(slow).await;
    let tapped = |text: String| {
        let key = "    webhook_configs:\n";
        replaced(&text, key, &format!("{key}      - url: {}\n", tap.url))
    };
    let setup =
        Setup { timing: ("2s", "500ms"), max_age: 70, tells_route: true, ..Setup::default() };
    let Some(mut stage) = Stage::open_with(setup, tapped).await else { return };
    stage.close().await;
    let is_about = |measured: Duration, seconds: f64| {
        assert!((measured.as_secs_f64() - seconds).abs() < 0.9, "{measured:?}, not {seconds} s");
    };
    assert!(stage.checked().contains("a beat every 2s,"), "{}", stage.checked());
    is_about(measured(&stage, &tap).await, 2.0);
    stage.setup.timing = ("2s", "2s");
    stage.rewrite_config();
    stage.reroute(tapped).await;
    let said = stage.checked();
    assert!(said.contains("a beat every 4s,"), "{said}");
    assert!(said.contains("warning") && said.contains("every 4s, not every 2s"), "{said}");
    is_about(measured(&stage, &tap).await, 4.0);
    assert_eq!(stage.told(yml::PAGE), []);
}
