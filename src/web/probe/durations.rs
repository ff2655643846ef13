//! How long runs take, by module. A module that a reload took away takes its series along.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{HistogramVec, Registry};

use crate::model::family;

/// Buckets, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

#[derive(Debug)]
pub(super) struct Durations {
    histograms: HistogramVec,
    /// The modules that have series.
    shown: Mutex<BTreeSet<Arc<str>>>,
}

impl Durations {
    pub(super) fn new(registry: &Registry) -> Self {
        let histograms = family::PROBE_REQUEST_DURATION.histograms(registry, &BUCKETS);
        Self { histograms, shown: Mutex::default() }
    }

    pub(super) fn observe(&self, module: &Arc<str>, seconds: f64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.histograms.with_label_values(&[module]).observe(seconds);
        if !shown.contains(module) {
            shown.insert(Arc::clone(module));
        }
    }

    /// Drops the series of modules that are not listed any more. A run that outlives its module may make them once more,
    /// so this is asked before each scrape and not at a reload.
    pub(super) fn keep(&self, is_listed: impl Fn(&str) -> bool) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|module| {
            let listed = is_listed(module);
            if !listed {
                // It is there: nobody else takes it away.
                self.histograms.remove_label_values(&[module]).ok();
            }
            listed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_gone_has_no_series_until_it_comes_back() {
        let registry = Registry::new();
        let durations = Durations::new(&registry);
        let series = || -> Vec<u64> {
            let families = registry.gather();
            let metrics = families.iter().flat_map(|family| family.get_metric().to_vec());
            metrics.map(|metric| metric.get_histogram().get_sample_count()).collect()
        };
        for module in ["gone", "kept", "kept"] {
            durations.observe(&module.into(), 0.1);
        }
        durations.keep(|_| true);
        assert_eq!(series().len(), 2);
        durations.keep(|module| module == "kept");
        assert_eq!(series(), [2]);
        durations.observe(&"gone".into(), 0.1);
        durations.keep(|_| true);
        assert_eq!(series(), [1, 2], "it begins anew");
    }
}
