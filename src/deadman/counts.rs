//! How many beats each switch had, by what became of them.
//!
//! Ten thousand switches have a hundred thousand of these numbers, nearly all of them 0. A handle of the registry for each
//! would be the largest part of a start, so they are plain numbers that become samples when somebody looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

use super::ping::BeatResult;
use super::spec::Spec;
use crate::model::family;

/// Made once; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    desc: Desc,
    switches: Arc<Mutex<BTreeMap<String, Switch>>>,
}

#[derive(Debug)]
struct Switch {
    is_watchdog: bool,
    /// In the order of [`BeatResult::ALL`].
    counts: [u64; BeatResult::ALL.len()],
}

impl Switch {
    /// Those that it can have, and those that it had.
    fn shown(&self) -> impl Iterator<Item = (BeatResult, u64)> {
        BeatResult::ALL.into_iter().zip(self.counts).filter(|(result, count)| {
            let fits =
                if self.is_watchdog { result.is_of_watchdog() } else { result.is_of_switch() };
            fits || *count > 0
        })
    }
}

impl Counts {
    pub(super) fn new(registry: &Registry) -> Self {
        family::DEADMAN_BEATS.collector(registry, |desc| Self { desc, switches: Arc::default() })
    }

    fn switches(&self) -> MutexGuard<'_, BTreeMap<String, Switch>> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A switch exists: its numbers begin at zero, or go on.
    pub(super) fn announce(&self, spec: &Spec) {
        let is_watchdog = spec.watchdog.is_some();
        let none = Switch { is_watchdog, counts: [0; BeatResult::ALL.len()] };
        self.switches().entry(spec.name.clone()).or_insert(none).is_watchdog = is_watchdog;
    }

    /// One that is gone is not counted any more.
    pub(super) fn add(&self, name: &str, result: BeatResult) {
        let mut switches = self.switches();
        let place = BeatResult::ALL.iter().position(|known| *known == result);
        let counts = switches.get_mut(name).map(|switch| &mut switch.counts);
        if let Some(count) = counts.zip(place).and_then(|(counts, place)| counts.get_mut(place)) {
            *count += 1;
        }
    }

    pub(super) fn forget(&self, name: &str) {
        self.switches().remove(name);
    }
}

impl Collector for Counts {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let switches = self.switches();
        let metrics = switches
            .iter()
            .flat_map(|(name, switch)| switch.shown().map(|(r, count)| metric(name, r, count)));
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn metric(name: &str, result: BeatResult, count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    let mut metric =
        Metric::from_label(vec![pair("deadman", name), pair("result", result.label())]);
    metric.set_counter(counter);
    metric
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &str) -> Spec {
        serde_json::from_str(&format!("{{\"name\":\"a\"{more}}}")).unwrap()
    }

    fn shown(registry: &Registry) -> Vec<String> {
        let families = registry.gather();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let line = |metric: &Metric| {
            let labels: Vec<&str> = metric.get_label().iter().map(LabelPair::value).collect();
            format!("{} {}", labels.join(" "), metric.get_counter().get_value())
        };
        metrics.map(line).collect()
    }

    #[test]
    fn a_switch_has_its_numbers_from_the_first_look_until_it_is_gone() {
        let registry = Registry::new();
        let counts = Counts::new(&registry);
        assert!(shown(&registry).is_empty());
        let switch = spec(r#","interval":"1h""#);
        counts.announce(&switch);
        counts.add("a", BeatResult::Success);
        counts.add("a", BeatResult::TooLarge);
        counts.add("b", BeatResult::Success);
        // A reload goes on counting.
        counts.announce(&switch);
        let lines = shown(&registry);
        assert_eq!(lines.len(), 9, "{lines:?}");
        for line in ["a success 1", "a start 0", "a not_recorded 0", "a too_large 1"] {
            assert!(lines.iter().any(|it| it == line), "{line}: {lines:?}");
        }
        counts.announce(&spec(r#","watchdog":{"sources":["p"]}"#));
        assert!(shown(&registry).iter().any(|it| it == "a fresh 0"));
        counts.forget("a");
        assert!(shown(&registry).is_empty());
    }
}
