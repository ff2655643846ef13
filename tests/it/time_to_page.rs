//! `docs/time-to-page.md` is made from the code that `check-config` uses, and each of its rows names a test that breaks
//! the real thing.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use watchpost::deadman::Spec;
use watchpost::deadman::failures::{Herald, TimeToPage, time_to_page};
use watchpost::deadman::timing::{PEER_TIMEOUT, RouteTiming, Shown};

/// Set this variable to write the document instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";

/// What stands in the document, and is loaded here.
const ONE: &str = "\
receivers:
  - { name: oncall, pagerduty: { routing_key: k } }
deadman:
  - name: alerting
    key: an-opaque-key-0123456789
    notify: [oncall]
    watchdog:
      max_age: 5m
      alertmanagers: ['http://am:9093']
      route: { scrape_interval: 15s, evaluation_interval: 15s, group_interval: 1m, repeat_interval: 50s }
";
const THREE: &str = "\
receivers:
  - { name: oncall, pagerduty: { routing_key: k } }
  - { name: tickets, pagerduty: { routing_key: l } }
deadman:
  - name: alerting
    key: an-opaque-key-0123456789
    notify: { down: [oncall], degraded: [tickets] }
    watchdog:
      source_label: prometheus
      sources: [prom-1, prom-2, prom-3]
      min_sources: 2
      max_age: 5m
      alertmanagers: ['http://am-1:9093', 'http://am-2:9093', 'http://am-3:9093']
      route: { scrape_interval: 15s, evaluation_interval: 15s, group_interval: 1m, repeat_interval: 20s }
";

const TWO_REGIONS: &str = "\
receivers:
  - { name: oncall, test_interval: 7d, pagerduty: { routing_key: k } }
deadman:
  - name: alerting
    key: an-opaque-key-0123456789
    notify: [oncall]
    watchdog: { max_age: 5m, alertmanagers: ['http://am:9093'] }
  - { name: region-us, interval: 1m, grace: 4m, uuid: c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11, notify: [oncall] }
heartbeats:
  - name: to-us
    interval: 1m
    told_after: 5m                      # interval + grace of region-eu in us
    healthchecks: { url: 'https://beats.us.example/ping/c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f12' }
    when: [{ receiver: oncall }]
  - name: to-cronitor
    interval: 1m
    cronitor: { url: 'https://cronitor.link/p/key/alerting' }
    when: [{ deadman: alerting }, { receiver: oncall }]
";

/// Failures by the beginning of their row, and the tests that confirm them.
const CONFIRMED: &[(&str, &[&str])] = &[
    ("Prometheus dies", &["prometheus_is_killed"]),
    ("so many Prometheis die", &["one_of_two_prometheis_dies_and_then_the_other"]),
    ("Prometheus cannot reach Alertmanager", &["prometheus_cannot_reach_alertmanager"]),
    ("Prometheus does not scrape watchpost", &["prometheus_does_not_scrape_watchpost"]),
    ("the Watchdog rule is removed", &["the_rule_is_removed"]),
    (
        "all Alertmanagers are dead",
        &["alertmanager_is_killed", "watchpost_is_restarted_during_the_silence"],
    ),
    ("the Watchdog is silenced", &["the_watchdog_is_silenced"]),
    ("the Watchdog is inhibited", &["the_watchdog_is_inhibited"]),
    ("the Watchdog is muted", &["the_watchdog_is_muted_by_a_time_interval"]),
    ("the Watchdog's route leads elsewhere", &["the_route_leads_nowhere"]),
    ("the Watchdog was never routed here", &["the_watchdog_was_never_routed_here"]),
    ("Alertmanager repeats the Watchdog too rarely", &["alertmanager_repeats_too_rarely"]),
    (
        "one of several Prometheis dies",
        &[
            "one_of_two_prometheis_dies_and_then_the_other",
            "one_of_two_prometheis_without_their_replica_label_dies",
        ],
    ),
    ("one of several Alertmanagers is dead", &["one_of_three_alertmanagers_dies"]),
    ("an integration of Alertmanager fails", &["an_integration_of_alertmanager_fails"]),
    ("the region of Prometheus and Alertmanager", &["a_region_is_cut_off_and_then_watchpost"]),
    (
        "this watchpost is dead",
        &["the_other_region_pages_when_this_one_dies", "a_region_is_cut_off_and_then_watchpost"],
    ),
];

/// Where those tests are.
const TESTS: [&str; 3] = ["tests/e2e/closed_loop", "tests/e2e", "tests/it"];

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The first deadman, and who expects our beats.
fn loaded(text: &str) -> (Spec, Vec<Herald>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchpost.yml");
    std::fs::write(&path, text).unwrap();
    let config = crate::config::load(&[path]).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    (Spec::clone(&config.deadman[0]), config.heralds())
}

fn rows(text: &str) -> Vec<TimeToPage> {
    let (spec, heralds) = loaded(text);
    time_to_page(&spec, &heralds)
}

fn confirmed(row: &TimeToPage) -> Option<&'static [&'static str]> {
    let found = CONFIRMED.iter().find(|(failure, _)| row.failure.starts_with(failure));
    found.map(|(_, tests)| *tests)
}

#[test]
fn the_table_of_times_to_page_is_current() {
    let path = root("docs/time-to-page.md");
    let expected = document();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/time-to-page.md is out of date: run the tests with {UPDATE}=1"
    );
}

#[test]
fn each_row_has_a_test_that_exists() {
    let files = TESTS.iter().flat_map(|folder| std::fs::read_dir(root(folder)).unwrap());
    let sources: String = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for row in [ONE, THREE, TWO_REGIONS].iter().flat_map(|text| rows(text)) {
        let tests = confirmed(&row).unwrap_or_default();
        assert!(!tests.is_empty(), "{row:?}");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}()")), "{test}");
        }
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Time to page\n\n\
         How soon somebody is told of each failure of the alerting pipeline, and as what. Made from the code behind\n\
         `watchpost check-config`, which prints the same table for your own configuration;\n\
         `UPDATE_DOCS=1 cargo test --test it time_to_page` writes it anew. The tests named in the last column, most\n\
         of them in `tests/e2e/closed_loop`, break a real Prometheus and Alertmanager with the shipped rule and route and with shorter times.\n\
         They fail when the message does not come within the time that `check-config` prints, comes twice, or when the heartbeat\n\
         goes on.\n\n\
         What is measured is the age of the evidence: the time since watchpost issued the newest clock that came back through\n\
         scrape, rule, Alertmanager and webhook. No clock that is issued after a break can come back, so `max_age + grace` holds\n\
         for every failure, however the pipeline is timed. Five seconds are added for what queued up while nobody looked.\n\n\
         *told* is when the message is sent at the latest: to `notify.down`, or to `notify.degraded` where the row says degraded.\n\
         Where it is nothing of ours that tells, it says who does: those to whom `heartbeats:` go, `told_after` the last beat, or in\n\
         their own time where `told_after` does not say what is set there.\n\
         *named* is when it is in the metrics, on the page and in `/api/v1/deadman`.\n",
    );
    for (title, config) in [
        ("One Prometheus, one Alertmanager", ONE),
        ("Three of each, of which two must work", THREE),
        ("Two regions that watch each other, and a service beside them", TWO_REGIONS),
    ] {
        let (spec, _) = loaded(config);
        write!(text, "\n## {title}\n\n```yaml\n{config}```\n\n").unwrap();
        if let Some(described) = described(&spec) {
            writeln!(text, "{described}\n").unwrap();
        }
        text.push_str("| failure | seen as | told | named | from | confirmed by |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for row in rows(config) {
            line(&mut text, &row);
        }
    }
    text.push_str(PERIODS);
    for (group, repeat) in [(300, 14_400), (300, 300), (60, 60), (60, 50), (30, 15)] {
        let [group, repeat] = [group, repeat].map(Duration::from_secs);
        let timing = |peers| RouteTiming {
            scrape_interval: Duration::from_secs(15),
            evaluation_interval: Duration::from_secs(15),
            resend_delay: Duration::from_secs(60),
            group_wait: Duration::ZERO,
            group_interval: group,
            repeat_interval: repeat,
            peers,
            peer_timeout: PEER_TIMEOUT,
        };
        let shown = |time: Option<Duration>| Shown(time.unwrap()).to_string();
        let (one, three) = (timing(1), timing(3));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            Shown(group),
            Shown(repeat),
            shown(one.period()),
            shown(one.least_max_age()),
            shown(three.period()),
            shown(three.least_max_age())
        )
        .unwrap();
    }
    text.push_str(
        "\n`the_real_period_is_what_check_config_computes` measures it: equal intervals double the period. So does\n\
         `the_real_period_of_a_cluster_is_what_check_config_computes` with three: while all live, they repeat as often as one alone\n\
         does. The E of three is for when the member that sends dies, and the next one waited for it.\n",
    );
    text
}

const PERIODS: &str = "
## How often Alertmanager really repeats

E = group_interval × (⌊(repeat_interval + delay) / group_interval⌋ + 1). The delay is 1 s for the send, and 15 s more
(`peer_timeout`) for each further member of a cluster, which waits for those before it. A `max_age` below the least one is refused.

| group_interval | repeat_interval | E | least max_age | E of three | least max_age |
| --- | --- | --- | --- | --- | --- |
";

fn described(spec: &Spec) -> Option<String> {
    let timing = spec.watchdog.as_ref().and_then(watchpost::deadman::WatchdogSpec::timing)?;
    let shown = |time: Option<Duration>| Shown(time.unwrap()).to_string();
    Some(format!(
        "A beat every {}; `max_age` must be at least {}.",
        shown(timing.period()),
        shown(timing.least_max_age())
    ))
}

fn line(text: &mut String, row: &TimeToPage) {
    let named = if row.finding.is_zero() { "-".to_owned() } else { Shown(row.finding).to_string() };
    let tests = confirmed(row).unwrap_or_default();
    let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
    let tests = if tests.is_empty() { "-".to_owned() } else { tests.join(", ") };
    writeln!(
        text,
        "| {} | {} | {} | {named} | {} | {tests} |",
        row.failure, row.seen_as, row.told, row.formula
    )
    .unwrap();
}
