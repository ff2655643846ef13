//! Numbers about ourselves, out of the registry in which the stages made their handles.

use prometheus::Registry;
use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::exposition::{self, Writer, rendered_labels};
use super::page::kind_of;
use super::results::bound_label;
use crate::model::family;

/// Writes every family of the registry, by name. Type and help are those of the table; a family that is not in it is
/// told as the registry has it.
pub fn render_own(registry: &Registry, writer: &mut Writer) {
    for family in registry.gather() {
        if family.get_metric().is_empty() {
            continue;
        }
        let (kind, help) = described(&family);
        writer.family(family.name(), kind, help);
        for metric in family.get_metric() {
            write_metric(metric, family.get_field_type(), writer);
        }
    }
}

fn described(family: &MetricFamily) -> (exposition::Kind, &str) {
    let known = family::OWN.iter().chain(family::COMPAT).find(|known| known.name == family.name());
    known.map_or_else(
        || (told_kind(family.get_field_type()), family.help()),
        |known| (kind_of(known.kind), known.help),
    )
}

const fn told_kind(told: MetricType) -> exposition::Kind {
    match told {
        MetricType::COUNTER => exposition::Kind::Counter,
        MetricType::GAUGE => exposition::Kind::Gauge,
        MetricType::HISTOGRAM => exposition::Kind::Histogram,
        MetricType::SUMMARY => exposition::Kind::Summary,
        MetricType::UNTYPED => exposition::Kind::Unknown,
    }
}

fn write_metric(metric: &Metric, told: MetricType, writer: &mut Writer) {
    let pairs = metric.get_label().iter().map(|pair: &LabelPair| (pair.name(), pair.value()));
    let labels = rendered_labels(pairs);
    match told {
        MetricType::COUNTER => writer.sample("", &[&labels], metric.get_counter().get_value()),
        MetricType::GAUGE => writer.sample("", &[&labels], metric.get_gauge().get_value()),
        MetricType::HISTOGRAM => write_histogram(metric.get_histogram(), &labels, writer),
        MetricType::SUMMARY => {
            let summary = metric.get_summary();
            writer.sample("_sum", &[&labels], summary.sample_sum());
            writer.sample("_count", &[&labels], number_of(summary.sample_count()));
        }
        // No handle of ours is untyped, and the crate offers no way to make one.
        MetricType::UNTYPED => {}
    }
}

fn write_histogram(histogram: &Histogram, labels: &str, writer: &mut Writer) {
    for bucket in histogram.get_bucket() {
        if bucket.upper_bound().is_finite() {
            let bound = bound_label(bucket.upper_bound(), writer.encoding());
            writer.sample("_bucket", &[labels, &bound], number_of(bucket.cumulative_count()));
        }
    }
    let count = number_of(histogram.get_sample_count());
    writer.sample("_bucket", &[labels, "le=\"+Inf\""], count);
    writer.sample("_sum", &[labels], histogram.get_sample_sum());
    writer.sample("_count", &[labels], count);
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn number_of(count: u64) -> f64 {
    count as f64
}
