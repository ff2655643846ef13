//! Alertmanager fails, or keeps the Watchdog to itself; watchpost is away meanwhile.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::json;

use super::stage::{Setup, Stage};
use super::yml::{self, replaced};

const ROUTE: &str = "receiver: watchpost\n      matchers";

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_is_killed() {
    let Some(mut stage) = Stage::open(Setup::default()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.kill_alertmanager(0);
    let page = stage.paged(broken, "all Alertmanagers are dead").await;
    page.says("prom-1 is down (no beat since 20");
    page.says("prom-1: last evidence 20");
    page.says(&format!("Alertmanager {} does not answer", stage.ports.alertmanager_url(0)));
    stage.heartbeat_stays_away(&page).await;
    stage.bring_alertmanager_back(0);
    stage.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_silenced() {
    let Some(stage) = Stage::open(Setup::default()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    let url = stage.ports.alertmanager_url(0);
    let silence = json!({
        "matchers": [{ "name": "alertname", "value": ".+", "isRegex": true, "isEqual": true }],
        "startsAt": Timestamp::now().to_string(),
        "endsAt": (Timestamp::now() + Duration::from_secs(3_600)).to_string(),
        "createdBy": "alice", "comment": "silence everything",
    });
    let made = stage.post(&format!("{url}/api/v2/silences"), Some(silence)).await;
    let id = made["silenceID"].as_str().unwrap().to_owned();
    let page = stage.paged(broken, "the Watchdog is silenced").await;
    page.says("prom-1 is down (no beat since 20");
    page.says("Watchdog of prom-1 is silenced by alice until 20");
    page.says(&format!("\"silence everything\", silence {id}"));
    let finding = ["finding=\"silenced\""];
    stage.wp().until("watchpost_alertmanager_finding", &finding, |value| value > 0.0).await;
    stage.heartbeat_stays_away(&page).await;
    let gone = reqwest::Client::new().delete(format!("{url}/api/v2/silence/{id}")).send().await;
    assert!(gone.unwrap().status().is_success());
    stage.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_inhibited() {
    let Some(stage) = Stage::open_with(Setup::default(), |text| {
        let rule = "inhibit_rules:\n  - source_matchers: ['alertname=\"InfoInhibitor\"']\n    \
                    target_matchers: ['severity=\"none\"']\n";
        replaced(&text, "inhibit_rules:\n", rule)
    })
    .await
    else {
        return;
    };
    stage.close().await;
    let broken = Instant::now();
    let inhibitor = json!({ "alertname": "InfoInhibitor", "namespace": "shop" });
    stage.fire(inhibitor.clone()).await;
    let page = stage.paged(broken, "the Watchdog is inhibited").await;
    page.says("prom-1 is down (no beat since 20");
    // Alertmanager tells a fingerprint only.
    page.says("Watchdog of prom-1 is inhibited by InfoInhibitor{namespace=\"shop\"}");
    stage.heartbeat_stays_away(&page).await;
    stage.calm(inhibitor).await;
    stage.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_leads_nowhere() {
    let Some(stage) = Stage::open(Setup::default()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.reroute(|text| replaced(&text, ROUTE, "receiver: people\n      matchers")).await;
    let page = stage.paged(broken, "the Watchdog's route leads elsewhere").await;
    page.says("prom-1 is down (no beat since 20");
    page.says("Watchdog of prom-1 goes to people, not to watchpost");
    stage.heartbeat_stays_away(&page).await;
    stage.reroute(|text| text).await;
    stage.recovers().await;
}

/// Armed by configuration: what never came is missed too.
#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_was_never_routed_here() {
    // Two polls after the alert has come, on a busy machine too.
    let setup = Setup { max_age: 14, ..Setup::default() };
    let begun = Instant::now();
    let Some(stage) =
        Stage::open_with(setup, |text| replaced(&text, ROUTE, "receiver: people\n      matchers"))
            .await
    else {
        return;
    };
    let page = stage.paged(begun, "the Watchdog was never routed here").await;
    page.says("prom-1 is down (never a beat, within 14 s)");
    page.says("Watchdog of prom-1 goes to people, which brought no evidence here yet");
    assert_eq!(stage.beats(), 0, "a beat without evidence");
    stage.reroute(|text| text).await;
    stage.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_muted_by_a_time_interval() {
    let Some(stage) = Stage::open(Setup::default()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage
        .reroute(|text| {
            let muted = replaced(&text, ROUTE, &format!("mute_time_intervals: [always]\n      {ROUTE}"));
            format!("{muted}time_intervals: [{{ name: always, time_intervals: [{{ years: ['2000:2999'] }}] }}]\n")
        })
        .await;
    let page = stage.paged(broken, "the Watchdog is muted").await;
    page.says("prom-1 is down (no beat since 20");
    page.says("prom-1: last evidence 20");
    // 0.25 does not tell what is muted.
    page.says("look at repeat_interval, mute_time_intervals and the webhook");
    stage.heartbeat_stays_away(&page).await;
    stage.reroute(|text| text).await;
    stage.recovers().await;
}

/// The first notification comes, and the next one hours later: Alertmanager's own defaults.
#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_repeats_too_rarely() {
    let setup = Setup { is_named: false, ..Setup::default() };
    let Some(stage) = Stage::open(setup).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage
        .reroute(|text| {
            replaced(&text, "group_interval: 2s\n      repeat_interval: 1s", "repeat_interval: 4h")
        })
        .await;
    let page = stage.paged(broken, "Alertmanager repeats the Watchdog too rarely").await;
    page.says("[DOWN] deadman alerting (Watchdog): no beat since 20");
    page.says("    last evidence 20");
    page.says("look at repeat_interval");
    stage.heartbeat_stays_away(&page).await;
    stage.reroute(|text| text).await;
    stage.recovers().await;
}

/// A process that dies during the silence moves no deadline.
#[tokio::test(flavor = "multi_thread")]
async fn watchpost_is_restarted_during_the_silence() {
    let Some(mut stage) = Stage::open(Setup::default()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.kill_alertmanager(0);
    let deadline = "watchpost_deadman_deadline_timestamp_seconds";
    let mut before = 0.0;
    let stands_still = async || {
        // The last evidence may be on its way still.
        let now = stage.wp().metric(deadline, &[]).await.unwrap();
        std::mem::replace(&mut before, now).to_bits() == now.to_bits()
    };
    super::until(Duration::from_secs(5), stands_still, || stage.say("evidence goes on")).await;
    let mut first = stage.watchpost.take().unwrap();
    first.signal(Signal::KILL);
    first.wait();
    stage.start_watchpost();
    let after = stage.wp().until(deadline, &[], |_| true).await;
    assert!((before - after).abs() < 0.5, "{before} {after}");
    let page = stage.paged(broken, "all Alertmanagers are dead").await;
    let late = Timestamp::now().as_duration().as_secs_f64() - after;
    assert!(late < 5.0, "{late} s after the original deadline");
    page.says("prom-1 is down (no beat since 20");
    stage.heartbeat_stays_away(&page).await;
    assert_eq!(stage.told(yml::PAGE).len(), 1);
    stage.bring_alertmanager_back(0);
    stage.recovers().await;
}
