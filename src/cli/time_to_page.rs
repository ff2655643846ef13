//! How soon somebody is told of each failure of the alerting pipeline, and of a switch that falls silent, as text.

use std::fmt::Write as _;
use std::time::Duration;

use crate::deadman::failures::{Herald, TimeToPage, time_to_page};
use crate::deadman::timing::{RouteTiming, Shown};
use crate::deadman::{SETTLE, Spec, WatchdogSpec};

/// Switches without a table of their own that are listed; estates have hundreds of jobs.
const MAX_SWITCHES: usize = 20;

/// The table of one watchdog; nothing for any other switch. `heralds`: who expects our beats.
pub(super) fn render(spec: &Spec, heralds: &[Herald]) -> String {
    let Some(watchdog) = &spec.watchdog else { return String::new() };
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    writeln!(
        text,
        "\ntime to page of watchdog {:?}: max_age {}, grace {}; {}",
        spec.name,
        watchdog.max_age,
        Shown(spec.grace()),
        pipeline(watchdog)
    )
    .ok();
    let mut rows = vec![["failure", "page", "named", "as", "from"].map(str::to_owned)];
    rows.extend(time_to_page(spec, heralds).iter().map(cells));
    table(&mut text, &rows);
    text
}

/// How soon the silence of each other switch is told, a line for each: another watchpost's `told_after`.
pub(super) fn switches<'a>(specs: impl Iterator<Item = &'a Spec>) -> String {
    let lines: Vec<String> =
        specs.filter(|spec| spec.watchdog.is_none()).filter_map(silence).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = "\ntime to page of the other switches:\n".to_owned();
    for line in lines.iter().take(MAX_SWITCHES) {
        writeln!(text, "  {line}").ok();
    }
    if lines.len() > MAX_SWITCHES {
        writeln!(text, "  and {} more", lines.len() - MAX_SWITCHES).ok();
    }
    text
}

fn silence(spec: &Spec) -> Option<String> {
    let (name, grace) = (&spec.name, spec.grace());
    let settled = |time: Duration| Shown(time.saturating_add(SETTLE));
    let when = match (&spec.interval, &spec.cron) {
        (Some(interval), _) => format!(
            "{} after the last beat (interval {interval} + grace {})",
            settled(interval.get().saturating_add(grace)),
            Shown(grace)
        ),
        (None, Some(_)) => format!("{} after a beat was due", settled(grace)),
        (None, None) => return None,
    };
    if spec.notify.down.is_empty() {
        return Some(format!("{name:?}: nobody is told; notify: is empty"));
    }
    Some(format!("{name:?}: {when}"))
}

fn pipeline(watchdog: &WatchdogSpec) -> String {
    match watchdog.timing() {
        Some(timing) => described(&timing),
        None => {
            "the timing of the route is not told (route:), and these times hold without it".into()
        }
    }
}

/// One pipeline in a sentence.
pub(super) fn described(timing: &RouteTiming) -> String {
    let shown = |time: Option<Duration>| time.map_or("never".into(), |it| Shown(it).to_string());
    let (healthy, worst) = (timing.healthy_period(), timing.period());
    let cluster = match timing.peers {
        0 | 1 => String::new(),
        peers if healthy == worst => format!(" in a cluster of {peers}"),
        peers => format!(" ({} when a member of the cluster of {peers} dies)", shown(worst)),
    };
    format!(
        "a beat every {}{cluster}, max_age at least {}",
        shown(healthy),
        shown(timing.least_max_age())
    )
}

fn cells(row: &TimeToPage) -> [String; 5] {
    let named = if row.finding.is_zero() { "-".to_owned() } else { Shown(row.finding).to_string() };
    [row.failure.into(), row.told.to_string(), named, row.seen_as.into(), row.formula.clone()]
}

/// Columns as wide as their widest cell; the last is not filled up.
fn table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "  {cell:<width$}").ok();
        }
        writeln!(text, "{}", line.trim_end()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_line() {
        let text = r#"{"name":"alerting","notify":["x"],"watchdog":{"max_age":"5m","route":
                      {"scrape_interval":"15s","evaluation_interval":"15s","group_interval":"1m","repeat_interval":"50s"}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let shown = render(&spec, &[]);
        assert!(shown.contains("a beat every 1m, max_age at least 3m"), "{shown}");
        let line = |word: &str| shown.lines().find(|line| line.contains(word)).unwrap();
        assert!(line("Prometheus dies").contains("  5m5s  "), "{shown}");
        assert!(line("this watchpost is dead").contains("  nobody  "), "{shown}");
        assert_eq!(
            render(&serde_json::from_str(r#"{"name":"a","interval":"1m"}"#).unwrap(), &[]),
            ""
        );
    }

    #[test]
    fn other_switches_have_a_line_each() {
        let specs: Vec<Spec> = serde_json::from_str(
            r#"[{"name":"alerting","notify":["x"],"watchdog":{}},
                {"name":"region-us","notify":["x"],"interval":"1m","grace":"4m"},
                {"name":"backup","notify":["x"],"cron":"0 3 * * *","grace":"1h"},
                {"name":"mute","interval":"1m"}]"#,
        )
        .unwrap();
        assert_eq!(
            switches(specs.iter()),
            "\ntime to page of the other switches:\n  \
             \"region-us\": 5m5s after the last beat (interval 1m + grace 4m)\n  \
             \"backup\": 1h5s after a beat was due\n  \
             \"mute\": nobody is told; notify: is empty\n"
        );
        assert_eq!(switches(specs[..1].iter()), "");
        let many = std::iter::repeat_n(&specs[1], MAX_SWITCHES + 3);
        assert!(switches(many).ends_with("\n  and 3 more\n"));
    }
}
