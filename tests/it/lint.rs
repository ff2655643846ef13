//! `watchpost lint`, `watchpost snippet` and the times of `check-config` through the built binary.

use std::path::{Path, PathBuf};

use crate::support::watchpost::run;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn config(watchdog: &str) -> String {
    format!(
        "receivers:\n  - {{ name: oncall, pagerduty: {{ routing_key: k }} }}\n\
         deadman:\n  - name: alerting\n    key: an-opaque-key-0123456789\n    notify: [oncall]\n    \
         watchdog:\n      source_label: prometheus\n      sources: [p1, p2]\n{watchdog}"
    )
}

/// What is printed for pasting passes our own check, with a configuration and without.
#[test]
fn the_snippet_passes_the_lint() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(
        folder.path(),
        "w.yml",
        &config("      alertmanagers: ['http://a', 'http://b', 'http://c']\n"),
    );
    let named = format!("--config.file={}", config.display());
    for more in [vec![], vec![named.as_str()]] {
        let arguments = |kind| [vec!["snippet", kind], more.clone()].concat();
        let (code, route, errors) = run(&arguments("alertmanager"));
        assert_eq!(code, 0, "{errors}");
        let (_, rules, _) = run(&arguments("rules"));
        assert!(route.ends_with(&format!("---\n{rules}")), "{route}");
        let (whole, _) = route.split_once("---\n").unwrap();
        let whole = write(folder.path(), "am.yml", whole);
        let rules = write(folder.path(), "rules.yml", &rules);
        let files = [whole.to_str().unwrap(), rules.to_str().unwrap()];
        let (code, output, errors) = run(&[vec!["lint"], files.to_vec(), more.clone()].concat());
        assert_eq!(code, 0, "{output}{errors}");
        assert!(output.starts_with("0 errors, 0 warnings\n"), "{output}{errors}");
        assert!(output.contains("a beat every 1m"), "{output}");
    }
}

#[test]
fn a_bad_route_is_refused_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(folder.path(), "w.yml", &config(""));
    let bad = write(
        folder.path(),
        "am.yml",
        "route:\n  receiver: nobody\n  group_interval: 5m\n  repeat_interval: 12h\nreceivers:\n  - name: nobody\n",
    );
    let named = format!("--config={}", config.display());
    let (code, _, errors) = run(&["lint", bad.to_str().unwrap(), &named]);
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("Watchdog is routed to nowhere: receiver \"nobody\" tells nobody"),
        "{errors}"
    );
    assert!(errors.contains(&format!("{}:2:13", bad.display())), "{errors}");
    assert!(errors.contains("watchpost snippet alertmanager"), "{errors}");
    assert_eq!(run(&["lint", "/does/not/exist"]).0, 2);
    assert_eq!(run(&["lint"]).0, 2);
    // The whole file that is shipped with the compose example.
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/compose/alertmanager.yml");
    let (code, output, errors) = run(&["lint", shipped]);
    assert_eq!(code, 0, "{output}{errors}");
}

#[test]
fn check_config_prints_the_time_to_page() {
    let folder = tempfile::tempdir().unwrap();
    let route = "      max_age: 5m\n      route: { scrape_interval: 15s, evaluation_interval: 15s, group_interval: 1m, repeat_interval: 50s }\n";
    let good = write(folder.path(), "w.yml", &config(route));
    let (code, output, errors) = run(&["check-config", good.to_str().unwrap()]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        output.contains(
            "time to page of watchdog \"alerting\": max_age 5m, grace 0s; a beat every 1m"
        ),
        "{output}"
    );
    for failure in [
        "the Watchdog rule is removed",
        "all Alertmanagers are dead",
        "one of several Prometheis dies",
    ] {
        assert!(output.contains(failure), "{output}");
    }
    let short = write(folder.path(), "w.yml", &config(&route.replace("5m\n", "2m\n")));
    let (code, _, errors) = run(&["check-config", short.to_str().unwrap()]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("write max_age: 3m"), "{errors}");
    assert!(errors.contains("w.yml:10:16"), "{errors}");
}
