//! The notifier's numbers about itself.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::book::{Book, Outbox, ReceiverState};
use crate::model::{Stamp, family};
use crate::notify::episode::Episodes;
use crate::notify::outbox::Queue;

const RESULTS: [&str; 4] = ["delivered", "partial", "retry", "refused"];

#[derive(Debug)]
pub(super) struct Meters {
    depth: IntGaugeVec,
    oldest: GaugeVec,
    deliveries: IntCounterVec,
    last_success: GaugeVec,
    last_test_success: GaugeVec,
    episodes: IntGaugeVec,
    book_writable: IntGauge,
    book_errors: IntCounter,
}

impl Meters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            depth: family::OUTBOX_DEPTH.int_gauges(registry),
            oldest: family::OUTBOX_OLDEST.gauges(registry),
            deliveries: family::DELIVERIES.counters(registry),
            last_success: family::RECEIVER_LAST_SUCCESS.gauges(registry),
            last_test_success: family::RECEIVER_LAST_TEST_SUCCESS.gauges(registry),
            episodes: family::EPISODES_OPEN.int_gauges(registry),
            book_writable: family::BOOK_WRITABLE.int_gauge(registry),
            book_errors: family::BOOK_ERRORS.counter(registry),
        }
    }

    /// Makes the series of a receiver exist.
    pub(super) fn know(&self, receiver: &str) {
        for result in RESULTS {
            self.deliveries.with_label_values(&[receiver, result]);
        }
        self.depth.with_label_values(&[receiver]);
        self.episodes.with_label_values(&[receiver]);
    }

    pub(super) fn attempt(&self, receiver: &str, result: &'static str) {
        self.deliveries.with_label_values(&[receiver, result]).inc();
    }

    pub(super) fn proof(&self, state: &ReceiverState) {
        let pairs = [
            (&self.last_success, &state.last_success),
            (&self.last_test_success, &state.last_test_success),
        ];
        for (gauge, moment) in pairs {
            if let Some(moment) = moment {
                let seconds = Stamp::new(moment.wall, moment.boot).unix_seconds();
                gauge.with_label_values(&[&state.name]).set(seconds);
            }
        }
    }

    pub(super) fn report(&self, queue: &Queue, episodes: &Episodes, book: &Book) {
        self.report_queue(queue);
        self.episodes.reset_to(episodes.open().map(|e| e.receiver.as_str()));
        self.book_writable.set(i64::from(book.writable()));
        self.book_errors.inc_by(book.errors().saturating_sub(self.book_errors.get()));
    }

    fn report_queue(&self, queue: &Queue) {
        self.depth.reset_to(queue.rows().map(|row| row.receiver.as_str()));
        let mut oldest: BTreeMap<&str, &Outbox> = BTreeMap::new();
        for row in queue.rows() {
            oldest.entry(&row.receiver).or_insert(row);
        }
        self.oldest.reset();
        for (receiver, row) in oldest {
            let created = Stamp::new(row.created.wall, row.created.boot);
            self.oldest.with_label_values(&[receiver]).set(created.unix_seconds());
        }
    }
}

trait ResetTo {
    /// Counts `names`; series that exist and are not named become 0.
    fn reset_to<'a>(&self, names: impl Iterator<Item = &'a str>);
}

impl ResetTo for IntGaugeVec {
    fn reset_to<'a>(&self, names: impl Iterator<Item = &'a str>) {
        use prometheus::core::Collector as _;
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for family in self.collect() {
            for metric in family.get_metric() {
                for label in metric.get_label() {
                    counts.insert(label.value().to_owned(), 0);
                }
            }
        }
        for name in names {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        for (name, count) in counts {
            self.with_label_values(&[&name]).set(count);
        }
    }
}
