//! Prometheus fails, or its rule, or its scrape.

use std::fs;
use std::time::{Duration, Instant};

use super::stage::{Setup, Stage};
use super::yml;

/// Alertmanager keeps the alert for 4 × 4 s after it came last, and so beyond `max_age`.
fn outlasting() -> Setup {
    Setup { resend: "4s", max_age: 13, ..Setup::default() }
}

/// Alertmanager goes on repeating the alert of a dead Prometheus; the clock in it does not move.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_killed() {
    let Some(mut stage) = Stage::open(outlasting()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.kill_prometheus(0);
    let page = stage.paged(broken, "Prometheus dies").await;
    page.says("prom-1 is down (evidence from prom-1 has not moved for 13");
    page.says("prom-1: last evidence 20");
    assert!(page.after < Duration::from_secs(16), "Alertmanager's word would lapse first");
    let reason = ["job=\"alerting\"", "instance=\"prom-1\"", "reason=\"stale_evidence\""];
    stage.wp().until("probe_failure_info", &reason, |value| value > 0.0).await;
    stage.heartbeat_stays_away(&page).await;
    stage.bring_prometheus_back(0);
    stage.recovers().await;
}

/// Nobody says that a rule is gone: Prometheus's last word lapses, and Alertmanager says `resolved`.
#[tokio::test(flavor = "multi_thread")]
async fn the_rule_is_removed() {
    let setup = Setup { max_age: 70, tells_route: true, ..Setup::default() };
    let Some(stage) = Stage::open(setup).await else { return };
    stage.close().await;
    let broken = Instant::now();
    fs::remove_file(stage.rule_file(0)).unwrap();
    stage.reload_prometheus(0).await;
    let page = stage.paged(broken, "the Watchdog rule is removed").await;
    page.says("prom-1 is down (no beat since 20");
    page.says("prom-1: last evidence 20");
    page.says("Alertmanager said that the Watchdog of prom-1 is over");
    let resolved = ["deadman=\"alerting\"", "result=\"resolved\""];
    stage.wp().until("watchpost_deadman_beats_total", &resolved, |value| value >= 1.0).await;
    stage.heartbeat_stays_away(&page).await;
    fs::write(stage.rule_file(0), yml::rule()).unwrap();
    stage.reload_prometheus(0).await;
    stage.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_does_not_scrape_watchpost() {
    // A reload takes seconds, during which nothing is evaluated: the alert must outlast it.
    let Some(stage) = Stage::open(outlasting()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.set_scraping(0, false).await;
    let page = stage.paged(broken, "Prometheus does not scrape watchpost").await;
    page.says("prom-1 is down (prom-1 does not scrape this watchpost)");
    page.says("prom-1: last evidence 20");
    let reason = ["job=\"alerting\"", "reason=\"not_scraped\""];
    stage.wp().until("probe_failure_info", &reason, |value| value > 0.0).await;
    stage.heartbeat_stays_away(&page).await;
    stage.set_scraping(0, true).await;
    stage.recovers().await;
}

/// As by a firewall between the two, or a wrong address.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_cannot_reach_alertmanager() {
    let Some(stage) = Stage::open(outlasting()).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.cut_from_alertmanager(0).await;
    let page = stage.paged(broken, "Prometheus cannot reach Alertmanager").await;
    page.says("prom-1 is down (evidence from prom-1 has not moved for 13");
    page.says("prom-1: last evidence 20");
    stage.heartbeat_stays_away(&page).await;
    stage.set_scraping(0, true).await;
    stage.recovers().await;
}

/// With `min_sources: 1` of two, the first is a ticket and the second a page.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_prometheis_dies_and_then_the_other() {
    let setup = Setup { prometheis: 2, min_sources: 1, ..Setup::default() };
    let Some(mut stage) = Stage::open(setup).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.kill_prometheus(1);
    let bound = stage.bound("one of several Prometheis dies");
    let words = ["[DEGRADED] deadman alerting", "1 of 2 sources up", "prom-2 is down"];
    let ticket = stage.ticketed(bound - broken.elapsed(), &words).await;
    assert!(!ticket.contains("prom-1 is"), "{ticket}");
    assert!(ticket.contains("prom-2: last evidence 20"), "{ticket}");
    // The pipeline works: no page, and beats go on.
    let known = stage.beats();
    super::until(
        Duration::from_secs(15),
        async || stage.beats() > known,
        || stage.say("no beat although one Prometheus works"),
    )
    .await;
    assert_eq!(stage.told(yml::PAGE), []);
    let broken = Instant::now();
    stage.kill_prometheus(0);
    let page = stage.paged(broken, "so many Prometheis die that too few are left").await;
    page.says("0 of 2 sources up, at least 1 must be: prom-1 is down (");
    page.says("prom-2 is down (");
    stage.heartbeat_stays_away(&page).await;
    stage.bring_prometheus_back(0);
    stage.recovers().await;
    stage.bring_prometheus_back(1);
    stage.ends(yml::TICKET).await;
    assert_eq!(stage.told(yml::PAGE).len(), 2, "{}", stage.say("another page"));
}

/// Replicas whose external label is dropped on the way to Alertmanager send one and the same alert for every rule but this.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_prometheis_without_their_replica_label_dies() {
    let setup = Setup {
        prometheis: 2,
        min_sources: 2,
        alert_relabel_configs: "[{ regex: prometheus_replica, action: labeldrop }]",
        ..Setup::default()
    };
    let Some(mut stage) = Stage::open(setup).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.kill_prometheus(0);
    let page = stage.paged(broken, "one of several Prometheis dies").await;
    page.says("1 of 2 sources up, at least 2 must be: prom-1 is down (");
    assert!(!page.text.contains("prom-2 is"), "{}", page.text);
    stage.heartbeat_stays_away(&page).await;
    stage.bring_prometheus_back(0);
    stage.recovers().await;
}

/// The label that the rule itself writes is dropped, so that the Watchdogs of both are one alert, and nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_own_label_is_dropped() {
    let setup = Setup { prometheis: 2, min_sources: 1, ..Setup::default() };
    let Some(mut stage) = Stage::open(setup).await else { return };
    stage.close().await;
    let broken = Instant::now();
    stage.relabel("[{ regex: 'prometheus|prometheus_replica', action: labeldrop }]").await;
    let page = stage.paged(broken, "so many Prometheis die that too few are left").await;
    page.says("0 of 2 sources up, at least 1 must be: prom-1 is down (");
    page.says("a Watchdog without the label prometheus comes, and nobody knows whose: look at alert_relabel_configs");
    let unknown = ["deadman=\"alerting\"", "result=\"unknown_source\""];
    stage.wp().until("watchpost_deadman_beats_total", &unknown, |value| value >= 1.0).await;
    stage.heartbeat_stays_away(&page).await;
    stage.relabel("[]").await;
    stage.recovers().await;
}
