//! The Watchdog rule: the one that the chart installs, with the names that a configuration wants.

use std::sync::Arc;

use super::quoted;
use crate::deadman::Spec;

/// The rule as it is shipped.
const SHIPPED: &str = include_str!("../../../charts/watchpost/rules/watchdog.yml");

/// The shipped file, or, where alerts, labels or annotations have other names, one rule for each of them.
pub(super) fn text(watchdogs: &[Arc<Spec>]) -> String {
    let Some(at) = SHIPPED.find(RULE) else { return SHIPPED.to_owned() };
    let (head, rule) = SHIPPED.split_at(at);
    let mut rules: Vec<String> = Vec::new();
    for spec in watchdogs {
        let renamed = renamed(rule, spec);
        if !rules.contains(&renamed) {
            rules.push(renamed);
        }
    }
    format!("{head}{}", rules.concat())
}

/// Where the rule begins.
const RULE: &str = "      - alert: Watchdog\n";
const LABEL: &str = "          prometheus: ";
const CLOCKS: &str = "          clocks: ";

fn renamed(rule: &str, spec: &Spec) -> String {
    let Some(watchdog) = &spec.watchdog else { return rule.to_owned() };
    let mut text = rule.to_owned();
    if watchdog.alertname != "Watchdog" {
        let alert = format!("      - alert: {}\n", quoted(&watchdog.alertname));
        text = text.replacen(RULE, &alert, 1);
    }
    if let Some(label) = watchdog.source_label.as_ref().filter(|label| *label != "prometheus") {
        text = text.replacen(LABEL, &format!("          {}: ", quoted(label)), 1);
    }
    if watchdog.annotation != "clocks" {
        text = text.replacen(CLOCKS, &format!("          {}: ", quoted(&watchdog.annotation)), 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(watchdog: &str) -> Arc<Spec> {
        let text = format!(r#"{{"name":"a","watchdog":{watchdog}}}"#);
        Arc::new(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_snippet_is_what_the_chart_installs() {
        assert_eq!(text(&[Arc::new(Spec::placeholder())]), SHIPPED);
        let usual = spec(r#"{"source_label":"prometheus","sources":["p1"]}"#);
        assert_eq!(text(&[usual.clone(), usual]), SHIPPED);
        for part in [LABEL, CLOCKS, "expr: vector(1)", "watchpost_clock_seconds", "evaluated:"] {
            assert!(SHIPPED.contains(part), "{part}");
        }
    }

    #[test]
    fn other_names_make_another_rule() {
        let own = spec(
            r#"{"alertname":"Dead'man","annotation":"wp","source_label":"replica","sources":["a"]}"#,
        );
        let both = text(&[spec("{}"), own]);
        assert_eq!(both.matches("- alert:").count(), 2);
        assert!(both.contains("- alert: 'Dead''man'\n"), "{both}");
        assert!(both.contains("          'replica': '{{ or"), "{both}");
        assert!(both.contains("          'wp': '{{ range query"), "{both}");
    }
}
