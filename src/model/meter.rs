//! Numbers about ourselves: handles made from the table of families.
//!
//! A stage makes its handles once, when it is built, from the registry that it is handed. A series exists from then on,
//! with zero, so that the first event is an increase.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::Family;

impl Family {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    /// Registers `collector`. A second one of the family is a defect: a stage that is built anew by a reload must keep the
    /// handles of the last one, and so goes on counting where that stopped.
    fn register<C: Collector + Clone + 'static>(&self, registry: &Registry, collector: C) -> C {
        registry
            .register(Box::new(collector.clone()))
            .unwrap_or_else(|error| panic!("{} is registered once: {error}", self.name));
        collector
    }

    /// A collector of one's own, made for this family.
    pub fn collector<C: Collector + Clone + 'static>(
        &self,
        registry: &Registry,
        make: impl FnOnce(Desc) -> C,
    ) -> C {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(self.name.into(), self.help.into(), labels, HashMap::new());
        self.register(registry, make(desc.expect("names in the table are valid")))
    }

    pub fn counter(&self, registry: &Registry) -> IntCounter {
        self.register(
            registry,
            IntCounter::with_opts(self.opts()).expect("names in the table are valid"),
        )
    }

    pub fn counters(&self, registry: &Registry) -> IntCounterVec {
        let vec =
            IntCounterVec::new(self.opts(), self.labels).expect("names in the table are valid");
        self.register(registry, vec)
    }

    pub fn int_gauge(&self, registry: &Registry) -> IntGauge {
        self.register(
            registry,
            IntGauge::with_opts(self.opts()).expect("names in the table are valid"),
        )
    }

    pub fn int_gauges(&self, registry: &Registry) -> IntGaugeVec {
        let vec = IntGaugeVec::new(self.opts(), self.labels).expect("names in the table are valid");
        self.register(registry, vec)
    }

    pub fn gauge(&self, registry: &Registry) -> Gauge {
        self.register(
            registry,
            Gauge::with_opts(self.opts()).expect("names in the table are valid"),
        )
    }

    pub fn gauges(&self, registry: &Registry) -> GaugeVec {
        let vec = GaugeVec::new(self.opts(), self.labels).expect("names in the table are valid");
        self.register(registry, vec)
    }

    pub fn histogram(&self, registry: &Registry, bounds: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(self.name, self.help).buckets(bounds.to_vec());
        self.register(registry, Histogram::with_opts(opts).expect("names in the table are valid"))
    }

    pub fn histograms(&self, registry: &Registry, bounds: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(self.name, self.help).buckets(bounds.to_vec());
        let vec = HistogramVec::new(opts, self.labels).expect("names in the table are valid");
        self.register(registry, vec)
    }
}
