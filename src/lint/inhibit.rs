//! Rules by which one alert keeps another quiet. None may reach the Watchdog.

use super::matcher::{self, Matcher};
use super::{Labels, Watchdog};
use crate::config::yaml::Node;
use crate::config::{Problem, Problems};

const SOURCE: [&str; 3] = ["source_match", "source_match_re", "source_matchers"];
const TARGET: [&str; 3] = ["target_match", "target_match_re", "target_matchers"];

pub(super) fn check(
    root: &Node,
    watchdog: &Watchdog<'_>,
    labels: &Labels,
    problems: &mut Problems,
) {
    for rule in root.get("inhibit_rules").map(Node::items).unwrap_or_default() {
        let target = matcher::read(rule, TARGET, problems);
        let source = matcher::read(rule, SOURCE, problems);
        let equal = rule.get("equal").map(Node::items).unwrap_or_default();
        let is_hit = target.iter().all(|matcher| matcher.matches(labels));
        if !is_hit || !may_fire(&source, equal, labels) {
            continue;
        }
        let place = TARGET.iter().find_map(|key| rule.get(key)).unwrap_or(rule);
        problems.push(
            Problem::error(format!(
                "this rule silences {} while an alert of its source fires: outages of what it reports would page as a \
                 dead pipeline",
                watchdog.rules.alertname
            ))
            .at(place.at())
            .hint(format!("add 'alertname!=\"{}\"' to target_matchers", watchdog.rules.alertname)),
        );
    }
}

/// Whether another alert can be the source: it has the Watchdog's own labels wherever they must be equal. One that is a
/// Watchdog itself, by its name, is not another one.
fn may_fire(source: &[Matcher], equal: &[Node], labels: &Labels) -> bool {
    let names: Vec<&str> = equal.iter().filter_map(Node::text).collect();
    if names.contains(&"alertname") {
        return false;
    }
    let mut shared = source.iter().filter(|matcher| names.contains(&matcher.name.as_str()));
    shared.all(|matcher| matcher.matches(labels))
}
