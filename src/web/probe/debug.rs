//! The page that `debug=true` and `/logs` show about one run: its log, its metrics, its module.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::history::{Asked, Entry};
use crate::metrics::exposition::{Encoding, Writer};
use crate::metrics::render_outcome;

/// What stands between the parts, after the end of a line.
const GAP: &str = "\n\n\n";

/// The whole page. Without `notes` the log has only how the run failed.
pub(in crate::web) fn page(entry: &Entry, notes: bool) -> String {
    let mut text = String::from("Logs for the probe:\n");
    log(&mut text, entry, notes);
    text.push_str(GAP);
    text.push_str("Metrics that would have been returned:\n");
    let mut writer = Writer::new(Encoding::Text004);
    render_outcome(&entry.outcome, entry.asked.phases, &mut writer);
    text.push_str(&String::from_utf8_lossy(&writer.finish()));
    text.push_str(GAP);
    text.push_str("Module configuration:\n");
    module(&mut text, &entry.asked);
    text
}

fn log(text: &mut String, entry: &Entry, notes: bool) {
    let outcome = &entry.outcome;
    let mut line = |at: Duration, level: &str, message: &str, fields: &[(&str, &str)]| {
        let time = outcome
            .started
            .wall
            .saturating_add(jiff::SignedDuration::try_from(at).unwrap_or_default());
        let time = time.unwrap_or(outcome.started.wall);
        // Writing to a `String` cannot fail.
        write!(text, "time={time:.3} level={level} msg={}", Value(message)).ok();
        let asked = [("module", &*entry.asked.module), ("target", &*entry.asked.target)];
        for (name, value) in asked.iter().chain(fields) {
            write!(text, " {name}={}", Value(value)).ok();
        }
        text.push('\n');
    };
    let timeout = outcome.timeout.as_secs_f64().to_string();
    let took = outcome.took.as_secs_f64().to_string();
    if notes {
        let fields = [("probe", entry.asked.prober), ("timeout_seconds", timeout.as_str())];
        line(Duration::ZERO, "info", "Beginning probe", &fields);
        for (at, note) in entry.trace.notes() {
            line(*at, "info", note, &[]);
        }
    }
    let duration = ("duration_seconds", took.as_str());
    let Some(reason) = outcome.answer.reason() else {
        if notes {
            line(outcome.took, "info", "Probe succeeded", &[duration]);
        }
        return;
    };
    let phase = outcome.phase.map_or("", crate::model::Phase::label);
    let detail = outcome.answer.to_string();
    let fields = [("reason", reason), ("phase", phase), ("detail", &detail), duration];
    if outcome.answer.is_success() {
        line(outcome.took, "warn", "Probe succeeded with a warning", &fields);
    } else {
        line(outcome.took, "error", "Probe failed", &fields);
    }
}

/// The module as written, and what this request added to it.
fn module(text: &mut String, asked: &Asked) {
    text.push_str(&asked.shown);
    for (key, value) in &asked.overrides {
        writeln!(text, "# by the parameter override_{key}: {value:?}").ok();
    }
    if let Some(hostname) = &asked.hostname {
        let key = match asked.prober {
            "tcp" | "tls" => "tls_config.server_name",
            _ => "headers.Host",
        };
        writeln!(text, "# by the parameter hostname, where it is not set: {key}: {hostname:?}")
            .ok();
    }
}

/// A value of logfmt, quoted where it must be.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
        if self.0.is_empty() || self.0.contains(odd) {
            write!(f, "{:?}", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}
