//! `exporter`: an HTTP exchange whose body must be an exposition, and the right one.
//!
//! The exchange is the `http` prober's with the module's `http:` block. The body is read as it arrives; nothing of it is
//! kept but what was asked for.

mod spec;
mod tally;

use ::http::header::{ACCEPT, ACCEPT_ENCODING};
use ::http::{HeaderName, HeaderValue};

pub use spec::{Requirement, Spec};

use self::tally::Tally;
use super::http::{self, Overrides};
use super::{Ask, Blocks, Report, Verdict};
use crate::model::{Answer, Bounds, Fact, Fault, Mistakes, family};
use crate::probe::exposition::{Format, MAX_SAMPLES};

/// What Prometheus asks for, without its binary format.
const PROMETHEUS_ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
     text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
);
const HEADERS: [(HeaderName, HeaderValue); 2] =
    [(ACCEPT, PROMETHEUS_ACCEPT), (ACCEPT_ENCODING, HeaderValue::from_static("gzip"))];

#[derive(Debug)]
pub struct Prober {
    http: http::Prober,
    rules: Rules,
}

/// What must be in the exposition.
#[derive(Debug)]
struct Rules {
    required: Vec<Requirement>,
    min_samples: u64,
    max_samples: u64,
    expected: Option<Box<str>>,
    /// `None`: as `Content-Type` says.
    format: Option<Format>,
}

impl Prober {
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let overrides = Overrides { headers: &HEADERS, by_content_encoding: true };
        let exchange = blocks.http.take().unwrap_or_default();
        let http = http::Prober::from_spec(exchange, &overrides, mistakes);
        let spec = blocks.exporter.take().unwrap_or_default();
        let rules = Rules::build(spec, mistakes);
        Some(Self { http: http?, rules: rules? })
    }

    pub(super) fn configured_host(&self) -> Option<&str> {
        self.http.configured_host()
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let mut tally = Tally::new(&self.rules);
        let asked = self.http.run_with(ask, report, Some(&mut tally)).await;
        let read = tally.finish();
        match &read {
            Some(_) if asked.as_ref().is_err_and(is_cut_short) => {
                // Prometheus drops such a scrape, and counts of its beginning are no measure of it.
                report.set_flag(&family::PROBE_EXPORTER_VALID, false);
            }
            Some(read) => read.tell(report),
            None => {}
        }
        if let Err(answer @ (Answer::Fail(_) | Answer::Unknown(_))) = asked {
            return Err(answer);
        }
        // The sink saw every answer with a good status; without one the exchange has failed above.
        if let Some(read) = read {
            read.judge(&self.rules)?;
        }
        asked
    }
}

impl Rules {
    fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        let min_samples = spec.min_samples.unwrap_or(1);
        let max_samples = spec.max_samples.unwrap_or(MAX_SAMPLES).min(MAX_SAMPLES);
        let required = spec.require_metrics.unwrap_or_default();
        let mut sound = true;
        if min_samples > max_samples {
            mistakes.error(
                "exporter.min_samples",
                format!("min_samples {min_samples} is above max_samples {max_samples}"),
                "swap them, or drop one",
            );
            sound = false;
        }
        for requirement in &required {
            if let Bounds { min: Some(min), max: Some(max) } = requirement.bounds
                && min > max
            {
                mistakes.error(
                    "exporter.require_metrics",
                    format!("{}: min {min} is above max {max}", requirement.name),
                    "swap them, or drop one",
                );
                sound = false;
            }
        }
        let expected = spec.expect_exporter.filter(|name| !name.is_empty()).map(Into::into);
        let format = spec.format.and_then(spec::FormatSpec::format);
        sound.then_some(Self { required, min_samples, max_samples, expected, format })
    }
}

/// What an exposition turned out to be.
#[derive(Debug, Default)]
struct Read {
    samples: u64,
    families: u64,
    bytes: u64,
    invalid: Option<Fault>,
    start_time: Option<f64>,
    /// Who exposes this, with the version, by its build information.
    exporters: Vec<(Box<str>, Box<str>)>,
    missing: Vec<Box<str>>,
    outside: Option<Fault>,
}

impl Read {
    #[expect(clippy::cast_precision_loss, reason = "counts are shown as doubles")]
    fn tell(&self, report: &mut Report) {
        report.set_flag(&family::PROBE_EXPORTER_VALID, self.invalid.is_none());
        report.set(&family::PROBE_EXPORTER_SAMPLES, self.samples as f64);
        report.set(&family::PROBE_EXPORTER_FAMILIES, self.families as f64);
        report.set(&family::PROBE_EXPORTER_BYTES, self.bytes as f64);
        if let Some(started) = self.start_time {
            report.set(&family::PROBE_EXPORTER_START_TIME, started);
        }
        if let Some((name, version)) = self.exporters.first() {
            let labels = [("exporter".into(), name.clone()), ("version".into(), version.clone())];
            report.add(Fact::info(&family::PROBE_EXPORTER_INFO, labels));
        }
    }

    /// The worst first: no exposition, somebody else's, not enough of it, wrong values.
    fn judge(self, rules: &Rules) -> Verdict {
        if let Some(invalid) = self.invalid {
            return Err(invalid.into());
        }
        if let Some(expected) = &rules.expected
            && !self.exporters.iter().any(|(name, _)| same_exporter(name, expected))
        {
            let found: Vec<&str> = self.exporters.iter().map(|(name, _)| &**name).collect();
            let found = match found.as_slice() {
                [] if self.samples == 0 => "an empty exposition".to_owned(),
                [] => "an exporter without build information".to_owned(),
                found => found.join(", "),
            };
            let (expected, found) = (expected.clone(), found.into());
            return Err(Fault::WrongExporter { expected, found }.into());
        }
        if !self.missing.is_empty() {
            return Err(Fault::MetricsMissing { names: self.missing }.into());
        }
        if self.samples < rules.min_samples {
            return Err(samples_outside(self.samples, Some(rules.min_samples), None).into());
        }
        self.outside.map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// Whether the body did not come to its end.
const fn is_cut_short(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Fail(
            Fault::BodyTimeout { .. }
                | Fault::BodyTruncated { .. }
                | Fault::BodyTooLarge { .. }
                | Fault::BodyEncoding { .. }
                | Fault::ProtocolError { .. }
        )
    )
}

/// `kube-state-metrics` calls itself `kube_state_metrics` in its metrics.
fn same_exporter(found: &str, expected: &str) -> bool {
    let plain = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    found.chars().map(plain).eq(expected.chars().map(plain))
}

#[expect(clippy::cast_precision_loss, reason = "counts are shown as doubles")]
fn samples_outside(samples: u64, min: Option<u64>, max: Option<u64>) -> Fault {
    Fault::MetricOutOfBounds {
        name: "number of samples".into(),
        value: samples as f64,
        bounds: Bounds { min: min.map(|m| m as f64), max: max.map(|m| m as f64) },
    }
}
