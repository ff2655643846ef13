//! Whole files, and what is said about them.

use super::*;

/// A good file: the Watchdog's route with its timing, a receiver for it, and what else there is.
fn alertmanager(timing: &str, webhook: &str, more: &str) -> String {
    format!(
        "route:
  receiver: people
  routes:
    - receiver: watchpost
      matchers: ['alertname=\"Watchdog\"']
      group_by: ['...']
      {timing}
receivers:
  - name: people
    pagerduty_configs: [{{ routing_key: k }}]
  - name: watchpost
    webhook_configs:
      - url: http://watchpost:9115/alertmanager/alerting
        http_config: {{ authorization: {{ credentials_file: /k }} }}
        {webhook}
{more}
"
    )
}

const FAST: &str = "{ group_wait: 0s, group_interval: 1m, repeat_interval: 50s }";

fn fast() -> String {
    FAST.trim_matches(['{', ' ', '}']).replace(", ", "\n      ")
}

fn spec(text: &str) -> Arc<Spec> {
    Arc::new(serde_json::from_str(text).unwrap())
}

fn three() -> Arc<Spec> {
    spec(
        r#"{"name":"alerting","key":"0123456789abcdef","notify":["x"],
            "watchdog":{"source_label":"prometheus","sources":["p1","p2","p3"]}}"#,
    )
}

fn read(files: &[(&str, &str)], asked: &Asked<'_>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    lint(&paths, asked)
}

/// What is said of one `alertmanager.yml`, each with its line.
fn said(text: &str, spec: Arc<Spec>) -> Vec<(usize, String)> {
    let specs = [spec];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: None };
    let report = read(&[("am.yml", text)], &asked);
    lines(&report)
}

fn lines(report: &Report) -> Vec<(usize, String)> {
    let problems = report.problems.iter();
    problems
        .map(|it| (it.at.as_ref().map_or(0, |at| at.line), format!("{}: {}", it.severity, it.what)))
        .collect()
}

#[track_caller]
fn says(text: &str, line: usize, word: &str) {
    let said = said(text, three());
    assert!(said.iter().any(|(at, what)| *at == line && what.contains(word)), "{word}: {said:#?}");
}

#[test]
fn a_good_file_feeds_every_watchdog() {
    let specs = [three()];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: None };
    let report = read(&[("am.yml", &alertmanager(&fast(), "", ""))], &asked);
    assert_eq!(lines(&report), []);
    let (_, timing) = &report.fed[0];
    assert_eq!(timing.period(), Some(Duration::from_secs(60)));
    assert_eq!(timing.least_max_age(), Some(Duration::from_secs(240)));
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let rows = [
        (
            "group_interval: 1m\n      repeat_interval: 1m",
            8,
            "warning: repeat_interval 1m with group_interval 1m repeats every 2m",
        ),
        ("repeat_interval: 50s", 7, "warning: repeat_interval 50s with group_interval 5m"),
        (
            "group_interval: 5m\n      repeat_interval: 5m",
            8,
            "error: max_age of watchdog \"alerting\": 5m is less than this pipeline needs: scrape 1m + evaluation 1m + repeat 10m",
        ),
        (
            "group_interval: 0s\n      repeat_interval: 50s",
            7,
            "error: Alertmanager refuses a group_interval of 0s",
        ),
        ("group_interval: 1x\n      repeat_interval: 50s", 7, "error: this is no duration"),
        (
            "mute_time_intervals: [night]",
            7,
            "error: Watchdog is muted while one of these holds: night",
        ),
        ("active_time_intervals: [day]", 7, "error: Watchdog is muted outside of these: day"),
    ];
    for (timing, line, word) in rows {
        if word.contains("group_interval 5m") {
            // 50 s in 5 m is one turn: fine by itself, but the turn is inherited and too long.
            says(&alertmanager(timing, "", ""), line, "repeat 5m");
            continue;
        }
        says(&alertmanager(timing, "", ""), line, word);
    }
}

#[test]
fn webhooks_are_looked_at() {
    let rows = [
        ("send_resolved: false", 17, "warning: the end of the alert is not sent"),
        ("payload: x", 17, "error: a body of your own"),
    ];
    for (webhook, line, word) in rows {
        says(&alertmanager(&fast(), webhook, ""), line, word);
    }
    let open = alertmanager(&fast(), "", "").replace("http_config", "# http_config");
    says(&open, 15, "error: no credentials are sent: watchpost answers 401");
    let basic =
        open.replace("# http_config: {", "http_config: { basic_auth: { password: x } } # {");
    assert_eq!(said(&basic, three()), []);
    let typed = alertmanager(&fast(), "", "")
        .replace("{ credentials_file", "{ type: Token, credentials_file");
    says(&typed, 16, "error: watchpost takes a bearer token");
    let global =
        format!("global: {{ http_config: {{ authorization: {{ credentials: x }} }} }}\n{open}");
    assert_eq!(said(&global, three()), []);
    let cut = alertmanager(&fast(), "max_alerts: 2", "").replace("['...']", "[alertname]");
    says(&cut, 17, "error: of 3 sources in one group only 2 are sent");
    let other = alertmanager(&fast(), "", "").replace("/alerting", "/altering");
    says(&other, 15, "error: the configuration has no watchdog \"altering\"");
}

#[test]
fn a_watchdog_that_goes_elsewhere_is_followed() {
    let stray = alertmanager(&fast(), "", "").replace("Watchdog", "watchdog");
    says(
        &stray,
        2,
        "error: Watchdog goes to receiver \"people\" (pagerduty), which has no webhook",
    );
    let null = stray.replace("    pagerduty_configs: [{ routing_key: k }]\n", "");
    says(&null, 2, "error: Watchdog is routed to nowhere: receiver \"people\" tells nobody");
    let late = alertmanager(&fast(), "", "").replace(
        "  routes:\n",
        "  routes:\n    - receiver: people\n      match: { severity: none }\n",
    );
    let specs = [three()];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: None };
    let report = read(&[("am.yml", &late)], &asked);
    let found = lines(&report);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, 4);
    let related = &report.problems.iter().next().unwrap().related;
    assert_eq!((related[0].0.as_str(), related[0].1.line), ("this route comes too late", 6));
    assert!(report.fed.is_empty());
    let both = late.replace("{ severity: none }", "{ severity: none }\n      continue: true");
    says(&both, 4, "warning: Watchdog also goes to pagerduty of receiver \"people\"");
    let nobody =
        alertmanager(&fast(), "", "").replace("- receiver: watchpost", "- receiver: watchpots");
    says(&nobody, 4, "error: there is no receiver \"watchpots\"");
}

#[test]
fn old_matchers_and_inheritance_work_as_in_alertmanager() {
    let nested = alertmanager(&fast(), "", "").replace(
        "    - receiver: watchpost\n      matchers: ['alertname=\"Watchdog\"']\n",
        "    - match_re: { alertname: 'Watch.*' }
      group_interval: 1m
      repeat_interval: 30s
      routes:
        - match: { prometheus: p1 }
          receiver: watchpost
        - matchers: ['prometheus=~p[23]']
          receiver: watchpost
      receiver: people\n",
    );
    let nested = nested.replace(&fast(), "group_wait: 0s");
    let found = said(&nested, three());
    let expected = "takes other alerts than Watchdog too";
    assert!(found.iter().all(|(_, what)| what.contains(expected)), "{found:#?}");
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [8, 10]);
    let lost = nested.replace("p[23]", "p[24]");
    says(&lost, 12, "Watchdog goes to receiver \"people\"");
}

#[test]
fn labels_that_nobody_told_are_asked_for() {
    let by_cluster = alertmanager(&fast(), "", "")
        .replace("alertname=\"Watchdog\"'", "alertname=\"Watchdog\"', 'cluster=\"eu\"'");
    says(
        &by_cluster,
        4,
        "warning: whether the Watchdog takes this route depends on its label cluster",
    );
    let specs = [three()];
    let labels = [("cluster".to_owned(), "eu".to_owned())];
    let asked = Asked { specs: &specs, configured: true, labels: &labels, peers: None };
    assert_eq!(lines(&read(&[("am.yml", &by_cluster)], &asked)), []);
    let prometheus = "global: { external_labels: { cluster: eu } }\nscrape_configs:\n  - { job_name: watchpost, honor_labels: true }\n";
    let asked = Asked { labels: &[], ..asked };
    let report = read(&[("am.yml", &by_cluster), ("p.yml", prometheus)], &asked);
    assert_eq!(lines(&report), []);
}

#[test]
fn inhibition_is_seen_where_it_can_happen() {
    let rule = |text: &str| alertmanager(&fast(), "", &format!("inhibit_rules:\n  - {text}"));
    for hit in [
        "{ source_matchers: [severity=critical], target_matchers: ['severity!=critical'] }",
        "{ source_match: { alertname: Down }, target_match_re: { severity: none|info } }",
        "{ source_matchers: [alertname=Down], equal: [cluster] }",
    ] {
        says(&rule(hit), 19, "error: this rule silences Watchdog");
    }
    for miss in [
        // As kube-prometheus ships them.
        "{ source_matchers: [severity = critical], target_matchers: ['severity =~ warning|info'], equal: [namespace, alertname] }",
        "{ target_matchers: [alertname = InfoInhibitor] }",
        "{ source_matchers: [severity=critical], target_matchers: ['severity=~.*'], equal: [severity] }",
        "{ source_matchers: [severity=critical], target_matchers: ['severity=~.*'], equal: [alertname] }",
    ] {
        assert_eq!(said(&rule(miss), three()), [], "{miss}");
    }
}

#[test]
fn a_cluster_repeats_more_slowly() {
    let specs = [three()];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: Some(3) };
    let report = read(&[("am.yml", &alertmanager(&fast(), "", ""))], &asked);
    assert_eq!(report.fed[0].1.period(), Some(Duration::from_secs(120)));
    assert_eq!(report.problems.errors(), 0, "{}", report.problems);
    let text = report.problems.to_string();
    assert!(
        text.contains("repeats every 1m, and 2m apart when a member of the cluster of 3 dies"),
        "{text}"
    );
    assert!(text.contains("repeat_interval 20s"), "{text}");
}

#[test]
fn prometheus_is_read_where_it_is_given() {
    let prometheus = "global: { scrape_interval: 30s, evaluation_interval: 15s }
scrape_configs:
  - job_name: watchpost
    scrape_interval: 10s
    metric_relabel_configs:
      - { source_labels: [__name__], regex: 'watchpost_.*', action: drop }
alerting:
  alert_relabel_configs:
    - { action: labeldrop, regex: prometheus }
";
    let specs = [three()];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: None };
    let good = alertmanager(&fast(), "", "");
    let report = read(&[("am.yml", &good), ("p.yml", prometheus)], &asked);
    let found = lines(&report);
    let expected = [
        (3, "warning: without honor_labels"),
        (6, "error: watchpost_clock_seconds is dropped"),
        (9, "error: the label prometheus is taken from alerts"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((line, what), (wanted, word)) in found.iter().zip(expected) {
        assert!(*line == wanted && what.starts_with(word), "{found:#?}");
    }
    let timing = &report.fed[0].1;
    assert_eq!(timing.scrape_interval, Duration::from_secs(10));
    assert_eq!(timing.evaluation_interval, Duration::from_secs(15));
}

#[test]
fn the_rule_is_checked_where_it_is_given() {
    let specs = [three()];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: None };
    let good = alertmanager(&fast(), "", "");
    let shipped = include_str!("../../charts/watchpost/rules/watchdog.yml");
    assert_eq!(lines(&read(&[("am.yml", &good), ("r.yml", shipped)], &asked)), []);
    let rows = [
        (shipped.replace("%.3f", "%.0f"), "error: the clock is not printed to the millisecond"),
        (shipped.replace("watchpost_clock_seconds", "up"), "error: no clock comes back"),
        (
            shipped.replace("prometheus: '", "replica: '"),
            "error: the rule does not set the label prometheus",
        ),
        (shipped.replace("alert: Watchdog", "alert: Dog"), "error: no rule is called Watchdog"),
        (
            shipped.replace("vector(1)", "watchpost_clock_seconds"),
            "warning: without watchpost's clock",
        ),
        (
            shipped.replace("expr: vector(1)", "expr: vector(1)\n        for: 5m"),
            "warning: after each restart",
        ),
    ];
    for (rules, word) in rows {
        let found = lines(&read(&[("am.yml", &good), ("r.yml", &rules)], &asked));
        assert_eq!(found.len(), 1, "{word}: {found:#?}");
        assert!(found[0].1.starts_with(word), "{found:#?}");
    }
}

#[test]
fn secrets_are_not_shown_and_other_files_are_refused() {
    let specs = [three()];
    let asked = Asked { specs: &specs, configured: true, labels: &[], peers: None };
    let leaky = alertmanager(&fast(), "", "").replace("/alerting", "/t0ps3cret");
    let text = read(&[("am.yml", &leaky)], &asked).problems.to_string();
    assert!(!text.contains("http://watchpost:9115"), "{text}");
    assert!(read(&[("x.yml", "a: 1\n")], &asked).unusable);
    assert!(read(&[("p.yml", "scrape_configs: []\n")], &asked).unusable);
    assert!(lint(&[PathBuf::from("/does/not/exist")], &asked).unusable);
}
