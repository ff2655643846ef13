//! Counts what an exposition has while it arrives.

use std::ops::ControlFlow;

use ::http::HeaderMap;
use ::http::header::CONTENT_TYPE;

use super::{Read, Requirement, Rules, samples_outside};
use crate::model::{Bounds, Fault};
use crate::probe::exposition::{Format, Invalid, Limits, Reader, Sample};
use crate::probe::http::Sink;

/// How many build informations are told; one process rarely has more than one.
const MAX_EXPORTERS: usize = 8;
/// The longest text taken from an exposition into a label or fault, in characters.
const MAX_TEXT_CHARS: usize = 100;

pub(super) struct Tally<'a> {
    rules: &'a Rules,
    reader: Option<Reader>,
    begun: bool,
    finds: Finds<'a>,
    read: Read,
}

/// What was looked for among the samples.
struct Finds<'a> {
    required: &'a [Requirement],
    seen: Vec<bool>,
    outside: Option<Fault>,
    start_time: Option<f64>,
    exporters: Vec<(Box<str>, Box<str>)>,
    samples: u64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(rules: &'a Rules) -> Self {
        let finds = Finds {
            required: &rules.required,
            seen: vec![false; rules.required.len()],
            outside: None,
            start_time: None,
            exporters: Vec::new(),
            samples: 0,
        };
        Self { rules, reader: None, begun: false, finds, read: Read::default() }
    }

    /// `None` when no answer with a good status came.
    pub(super) fn finish(mut self) -> Option<Read> {
        if !self.begun {
            return None;
        }
        if let Some(reader) = self.reader.take()
            && self.read.invalid.is_none()
        {
            match reader.finish(&mut |sample| self.finds.see(&sample)) {
                Ok(summary) => self.read.families = summary.families,
                Err(invalid) => self.read.invalid = Some(self.fault(&invalid)),
            }
        }
        let Finds { required, seen, outside, start_time, exporters, samples } = self.finds;
        let missing = required.iter().zip(seen).filter(|(_, seen)| !seen);
        Some(Read {
            samples,
            missing: missing.map(|(requirement, _)| requirement.to_string().into()).collect(),
            outside,
            start_time,
            exporters,
            ..self.read
        })
    }

    fn fault(&self, invalid: &Invalid) -> Fault {
        if invalid.kind == crate::probe::exposition::InvalidKind::TooManySamples {
            return samples_outside(self.finds.samples + 1, None, Some(self.rules.max_samples));
        }
        let page = invalid.line <= 1 && invalid.excerpt.trim_start().starts_with('<');
        let page = if page { " (this is a web page)" } else { "" };
        Fault::ExpositionInvalid {
            line: invalid.line,
            detail: format!("{}: {:?}{page}", invalid.kind, invalid.excerpt).into(),
        }
    }
}

impl Sink for Tally<'_> {
    fn begin(&mut self, headers: &HeaderMap) {
        self.begun = true;
        let written = headers.get(CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()));
        let written = written.as_deref().unwrap_or_default();
        let Some(format) = self.rules.format.or_else(|| Format::from_content_type(written)) else {
            self.read.invalid = Some(foreign(written));
            return;
        };
        let limits = Limits { max_samples: self.rules.max_samples, ..Limits::default() };
        self.reader = Some(Reader::new(format, limits));
    }

    fn take(&mut self, piece: &[u8]) -> ControlFlow<()> {
        let Some(reader) = &mut self.reader else { return ControlFlow::Break(()) };
        self.read.bytes += piece.len() as u64;
        let fed = reader.feed(piece, &mut |sample| self.finds.see(&sample));
        match fed {
            Ok(()) => ControlFlow::Continue(()),
            Err(invalid) => {
                self.read.invalid = Some(self.fault(&invalid));
                ControlFlow::Break(())
            }
        }
    }
}

fn foreign(content_type: &str) -> Fault {
    let media_type: String = content_type.chars().take(MAX_TEXT_CHARS).collect();
    let page = content_type.trim_start().to_ascii_lowercase().starts_with("text/html");
    let detail = if page {
        format!("a web page answers here (Content-Type {media_type})")
    } else {
        format!("Content-Type {media_type} is no exposition's; set format if it is one anyway")
    };
    Fault::ExpositionInvalid { line: 0, detail: detail.into() }
}

impl Finds<'_> {
    fn see(&mut self, sample: &Sample<'_>) {
        self.samples += 1;
        for (requirement, seen) in self.required.iter().zip(&mut self.seen) {
            if !requirement.is_met_by(sample) {
                continue;
            }
            *seen = true;
            if self.outside.is_none() {
                self.outside = requirement.broken_by(sample);
            }
        }
        if sample.name == "process_start_time_seconds" && self.start_time.is_none() {
            self.start_time = Some(sample.value);
        }
        if let Some(name) = build_info(sample.name)
            && self.exporters.len() < MAX_EXPORTERS
        {
            let version = sample.labels.get("version").unwrap_or_default();
            let version: String = version.chars().take(MAX_TEXT_CHARS).collect();
            let name: String = name.chars().take(MAX_TEXT_CHARS).collect();
            self.exporters.push((name.into(), version.into()));
        }
    }
}

/// Who exposes `<name>_build_info`; `go_build_info` is about the toolchain.
fn build_info(metric: &str) -> Option<&str> {
    let name = metric.strip_suffix("_build_info").or(match metric {
        "cadvisor_version_info" => Some("cadvisor"),
        _ => None,
    })?;
    (name != "go" && !name.is_empty()).then_some(name)
}

impl Requirement {
    fn is_met_by(&self, sample: &Sample<'_>) -> bool {
        let named = *sample.name == *self.name
            // A histogram is asked for by its family's name.
            || (self.bounds == NO_BOUNDS && *sample.family.name == *self.name);
        named
            && self
                .labels
                .iter()
                .all(|(name, value)| sample.labels.get(name).is_some_and(|v| v == value.as_str()))
    }

    fn broken_by(&self, sample: &Sample<'_>) -> Option<Fault> {
        if self.bounds == NO_BOUNDS || self.bounds.hold(sample.value) {
            return None;
        }
        let (name, value, bounds) = (self.to_string().into(), sample.value, self.bounds);
        Some(Fault::MetricOutOfBounds { name, value, bounds })
    }
}

const NO_BOUNDS: Bounds = Bounds { min: None, max: None };

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        let Some(((name, value), rest)) = self.labels.split_first() else { return Ok(()) };
        write!(f, "{{{name}={value:?}")?;
        for (name, value) in rest {
            write!(f, ",{name}={value:?}")?;
        }
        f.write_str("}")
    }
}
