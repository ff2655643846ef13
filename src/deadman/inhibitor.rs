//! What holds the Watchdog back by an inhibit rule: Alertmanager tells a fingerprint, a person needs the alert. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::alertmanager::{Finding, short};

/// Labels that are told of an alert, beside its name.
const MAX_LABELS: usize = 8;
/// Longest value of a label that is told.
const MAX_VALUE: usize = 80;

#[derive(Debug, Deserialize)]
struct Fingerprinted {
    fingerprint: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Whether it takes the list of all alerts to name what inhibits.
pub(super) fn is_needed(findings: &[Finding]) -> bool {
    findings.iter().any(|it| matches!(it, Finding::Inhibited { .. }))
}

/// Reads `/api/v2/alerts` of everything, and puts alerts where fingerprints are. One that is not there, which ended just
/// now, stays a fingerprint.
pub(super) fn resolve(body: &[u8], findings: &mut [Finding]) {
    let Ok(alerts) = serde_json::from_slice::<Vec<Fingerprinted>>(body) else { return };
    let by_fingerprint: HashMap<&str, &BTreeMap<String, String>> =
        alerts.iter().map(|it| (it.fingerprint.as_str(), &it.labels)).collect();
    for finding in findings {
        let Finding::Inhibited { by, .. } = finding else { continue };
        for one in by {
            if let Some(labels) = by_fingerprint.get(one.as_str()) {
                *one = told(labels);
            }
        }
    }
}

/// As Prometheus writes a series: `InfoInhibitor{namespace="shop"}`.
fn told(labels: &BTreeMap<String, String>) -> String {
    let name = labels.get("alertname").map_or("an alert without a name", String::as_str);
    let others: Vec<_> = labels.iter().filter(|(name, _)| *name != "alertname").collect();
    let mut parts: Vec<String> = others
        .iter()
        .take(MAX_LABELS)
        .map(|(name, value)| {
            let value: String = value.chars().take(MAX_VALUE).collect();
            format!("{name}={value:?}")
        })
        .collect();
    if others.len() > MAX_LABELS {
        parts.push("…".to_owned());
    }
    if parts.is_empty() { short(name) } else { short(&format!("{name}{{{}}}", parts.join(","))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inhibited(by: &[&str]) -> Finding {
        Finding::Inhibited {
            source: "p1".into(),
            by: by.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    #[test]
    fn an_inhibitor_is_named_by_its_labels() {
        let body = br#"[
          {"fingerprint":"f00","labels":{"severity":"none","alertname":"InfoInhibitor","namespace":"shop"}},
          {"fingerprint":"f01","labels":{"alertname":"Bare"}},
          {"fingerprint":"f02","labels":{"job":"x"}}]"#;
        let mut findings = [Finding::Missing { source: "p2".into() }, inhibited(&["f00", "f01"])];
        assert!(is_needed(&findings) && !is_needed(&findings[..1]));
        resolve(body, &mut findings);
        assert_eq!(
            findings[1].to_string(),
            "Watchdog of p1 is inhibited by InfoInhibitor{namespace=\"shop\",severity=\"none\"}, Bare"
        );
        let mut nameless = [inhibited(&["f02"])];
        resolve(body, &mut nameless);
        assert_eq!(nameless[0], inhibited(&["an alert without a name{job=\"x\"}"]));
    }

    #[test]
    fn what_is_not_listed_stays_a_fingerprint() {
        for body in [&b"[]"[..], b"<html>", br#"[{"fingerprint":"f09","labels":{}}]"#] {
            let mut findings = [inhibited(&["f00"])];
            resolve(body, &mut findings);
            assert_eq!(findings[0], inhibited(&["f00"]));
        }
    }

    #[test]
    fn many_labels_and_long_ones_have_a_bound() {
        let labels: serde_json::Map<String, serde_json::Value> =
            (0..40).map(|n| (format!("l{n:02}"), "x\n".repeat(500).into())).collect();
        let body = serde_json::json!([{ "fingerprint": "f00", "labels": labels }]).to_string();
        let mut findings = [inhibited(&["f00"])];
        resolve(body.as_bytes(), &mut findings);
        let Finding::Inhibited { by, .. } = &findings[0] else { panic!() };
        assert!(by[0].chars().count() <= 300 && !by[0].contains('\n'), "{}", by[0]);
    }
}
