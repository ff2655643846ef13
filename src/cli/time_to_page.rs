//! How soon somebody is told of each failure of the alerting pipeline, as a table.

use std::fmt::Write as _;
use std::time::Duration;

use crate::deadman::failures::{TimeToPage, time_to_page};
use crate::deadman::timing::{RouteTiming, Shown};
use crate::deadman::{Spec, WatchdogSpec};

/// The table of one watchdog; nothing for any other switch.
pub(super) fn render(spec: &Spec) -> String {
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
    rows.extend(time_to_page(spec).iter().map(cells));
    table(&mut text, &rows);
    text
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
    let cluster =
        if timing.peers > 1 { format!(" in a cluster of {}", timing.peers) } else { String::new() };
    format!(
        "a beat every {}{cluster}, max_age at least {}",
        shown(timing.period()),
        shown(timing.least_max_age())
    )
}

fn cells(row: &TimeToPage) -> [String; 5] {
    let page = row.page.map_or("nobody".to_owned(), |page| Shown(page).to_string());
    let named = if row.finding.is_zero() { "-".to_owned() } else { Shown(row.finding).to_string() };
    [row.failure.into(), page, named, row.seen_as.into(), row.formula.into()]
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
        let shown = render(&spec);
        assert!(shown.contains("a beat every 1m, max_age at least 3m"), "{shown}");
        let line = |word: &str| shown.lines().find(|line| line.contains(word)).unwrap();
        assert!(line("Prometheus dies").contains("  5m5s  "), "{shown}");
        assert!(line("this watchpost is dead").contains("  nobody  "), "{shown}");
        assert_eq!(render(&serde_json::from_str(r#"{"name":"a","interval":"1m"}"#).unwrap()), "");
    }
}
