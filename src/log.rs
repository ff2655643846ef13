//! Logs on standard error, as logfmt or JSON lines.
//!
//! Spans say who, events say what in fields. Info: the operator did something, or a status changed. Warn: odd, and we
//! carried on. Error: somebody must act.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Logfmt,
    Json,
}

/// From which level on events are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Threshold {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl From<Threshold> for LevelFilter {
    fn from(threshold: Threshold) -> Self {
        match threshold {
            Threshold::Debug => Self::DEBUG,
            Threshold::Info => Self::INFO,
            Threshold::Warn => Self::WARN,
            Threshold::Error => Self::ERROR,
        }
    }
}

/// Starts logging for the whole process; `prober` is for what is said about single runs of `/probe`. A second call changes nothing.
pub fn start(threshold: Threshold, prober: Threshold, format: Format) {
    // Libraries speak at warn and above: their chatter about single connections is not ours to show.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("watchpost", threshold)
        .with_target("prober", prober);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        Format::Logfmt => {
            tracing_subscriber::registry().with(filter).with(layer.event_format(Logfmt)).try_init()
        }
        Format::Json => tracing_subscriber::registry()
            .with(filter)
            .with(layer.json().flatten_event(true).with_target(false).with_timer(Rfc3339))
            .try_init(),
    };
    // Tests start several times in one process.
    started.ok();
}

struct Rfc3339;

impl tracing_subscriber::fmt::time::FormatTime for Rfc3339 {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", now())
    }
}

fn now() -> impl fmt::Display {
    let now = crate::clock::now().wall;
    now.round(jiff::Unit::Millisecond).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `time=… level=info msg="…" key=value`: the form of Prometheus and its exporters.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        write!(writer, "time={} level={level} msg=", now())?;
        quoted(&mut writer, &line.message)?;
        writeln!(writer, "{}", line.fields)
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let name = field.name();
        // Writing to a `String` cannot fail.
        write!(self.fields, " {name}=").ok();
        quoted(&mut self.fields, value).ok();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn quoted(out: &mut impl fmt::Write, value: &str) -> fmt::Result {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\'));
    if plain { out.write_str(value) } else { write!(out, "{value:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_when_they_must_be() {
        let text = |value| {
            let mut out = String::new();
            quoted(&mut out, value).unwrap();
            out
        };
        assert_eq!(text("plain:9115"), "plain:9115");
        assert_eq!(text("two words"), "\"two words\"");
        assert_eq!(text("line\nbreak"), "\"line\\nbreak\"");
        assert_eq!(text(""), "\"\"");
    }
}
