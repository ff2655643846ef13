//! The estate of the demonstration: each of its incidents is named, by its right reason, within fifteen seconds.

use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../../examples/demo/estate.rs"]
mod demo;

use self::demo::{DISCOVERED, Estate, GROUPS, Says, Scenario};
use super::support::watchpost::{PATIENCE, Watchpost, get};

/// What the demonstration promises.
const PROMISED: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

async fn estate() -> (TempDir, Estate) {
    let folder = tempfile::tempdir().unwrap();
    let estate = Estate::start(folder.path()).await.unwrap();
    (folder, estate)
}

async fn status(watchpost: &Watchpost) -> Value {
    serde_json::from_str(&get(&watchpost.url("/api/v1/status")).await.1).unwrap()
}

/// Asks until `wrong` finds nothing wrong, or the time is up: then what is wrong last.
async fn within(limit: Duration, watchpost: &Watchpost, wrong: impl Fn(&Value) -> String) {
    let end = Instant::now() + limit;
    loop {
        let found = wrong(&status(watchpost).await);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{found}\n{}", watchpost.log());
        tokio::time::sleep(POLL).await;
    }
}

/// What is said about a scenario, if it is not what it should be.
fn wrong(scenario: &Scenario, status: &Value) -> Option<String> {
    let checks = status["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["probe"] == scenario.probe && check["target"] == scenario.target)?;
    assert_eq!(check["labels"]["incident"], scenario.incident);
    let (expected, reason, phase) = match scenario.says {
        Says::Up => ("up", None, None),
        Says::Degraded(reason, phase) => ("degraded", Some(reason), phase),
        Says::Down(reason, phase) => ("down", Some(reason), phase),
    };
    let phase_is_right = phase.is_none_or(|phase| check["phase"] == phase);
    let right = check["status"] == expected && check["reason"].as_str() == reason && phase_is_right;
    (!right).then(|| {
        format!(
            "{} {}: {} {} {} {}; expected {:?}\n",
            scenario.probe,
            scenario.incident,
            check["status"],
            check["reason"],
            check["phase"],
            check["detail"],
            scenario.says
        )
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_incident_is_named() {
    let (_folder, estate) = estate().await;
    let watchpost = Watchpost::start(&estate.config());
    within(PROMISED, &watchpost, |status| {
        let checks = status["checks"].as_array().unwrap().len();
        // The discovered one is a check more.
        assert_eq!(checks, estate.scenarios().len() + 1);
        estate.scenarios().iter().filter_map(|scenario| wrong(scenario, status)).collect()
    })
    .await;
    within(PATIENCE, &watchpost, |status| {
        let of = |name: &str| {
            let probes = status["probes"].as_array().unwrap();
            let probe = probes.iter().find(|probe| probe["name"] == name).unwrap();
            probe["status"].as_str().unwrap().to_owned()
        };
        let wrong = GROUPS.iter().filter(|(probe, status)| of(probe) != *status);
        wrong.map(|(probe, status)| [*probe, " is not ", *status, "\n"].concat()).collect()
    })
    .await;
    metrics_name_them_too(&estate, &watchpost).await;
}

async fn metrics_name_them_too(estate: &Estate, watchpost: &Watchpost) {
    let page = get(&watchpost.url("/metrics")).await.1;
    for scenario in estate.scenarios() {
        let reason = match scenario.says {
            Says::Up => continue,
            Says::Degraded(reason, _) | Says::Down(reason, _) => reason,
        };
        let parts = [
            format!("job=\"{}\"", scenario.probe),
            format!("incident=\"{}\"", scenario.incident),
            format!("reason=\"{reason}\""),
        ];
        let named = page.lines().any(|line| {
            line.starts_with("probe_failure_info{")
                && line.ends_with(" 1")
                && parts.iter().all(|part| line.contains(part))
        });
        assert!(named, "{parts:?} in\n{page}");
    }
    let html = get(&watchpost.url("/")).await.1;
    for scenario in estate.scenarios() {
        assert!(html.contains(&format!("incident={}", scenario.incident)), "{scenario:?}");
    }
    // The time of expiry is known whatever is wrong with the certificate.
    for scenario in estate.scenarios().iter().filter(|s| s.probe == "certificates") {
        let expiry = format!("incident=\"{}\"", scenario.incident);
        let known = page.lines().any(|line| {
            line.starts_with("probe_ssl_earliest_cert_expiry{") && line.contains(&expiry)
        });
        assert!(known, "{expiry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_counted_while_every_probe_passes() {
    let (_folder, estate) = estate().await;
    let watchpost = Watchpost::start(&estate.config());
    let labels = ["job=\"exporters\"", "incident=\"restarting\""];
    watchpost.until("probe_exporter_restarts_total", &labels, |count| count >= 2.0).await;
    let down = ["job=\"exporters\"", "incident=\"restarting\"", "result=\"fail\""];
    assert_eq!(watchpost.metric("probe_runs_total", &down).await, Some(0.0));
    assert!(get(&watchpost.url("/")).await.1.contains("restarts seen: "));
    let healthy = ["job=\"exporters\"", "incident=\"healthy\""];
    assert_eq!(watchpost.metric("probe_exporter_restarts_total", &healthy).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_yields_nothing_any_more_is_reported_and_its_last_list_kept() {
    let (_folder, estate) = estate().await;
    let watchpost = Watchpost::start(&estate.config());
    let job = format!("job=\"{DISCOVERED}\"");
    let probe = format!("probe=\"{DISCOVERED}\"");
    watchpost.until("probe_success", &[&job], |value| value == 1.0).await;
    assert_eq!(watchpost.metric("watchpost_discovery_failed", &[&probe]).await, Some(0.0));
    estate.empty_discovery().unwrap();
    watchpost.until("watchpost_discovery_failed", &[&probe], |value| value == 1.0).await;
    assert_eq!(watchpost.metric("watchpost_discovery_targets", &[&probe]).await, Some(0.0));
    assert_eq!(watchpost.metric("probe_success", &[&job]).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blind_watchpost_accuses_nobody() {
    let (_folder, estate) = estate().await;
    let watchpost = Watchpost::start(&estate.blind_config());
    within(PATIENCE, &watchpost, |status| {
        let blind = status["blind"] == true;
        let check = &status["checks"][0];
        let held = check["held"] == "down" && check["status"] != "down";
        if blind && held { String::new() } else { status.to_string() }
    })
    .await;
    assert!(get(&watchpost.url("/")).await.1.contains("blind"));
    assert_eq!(watchpost.metric("watchpost_blind", &[]).await, Some(1.0));
}
