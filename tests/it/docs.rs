//! The reference of metrics and reasons is made from the tables in the code.

use std::fmt::Write as _;
use std::path::Path;

use watchpost::model::{Family, Kind, Reason, family};

/// Set this variable to write the reference instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn the_reference_of_metrics_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let expected = reference();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/metrics.md is out of date: run the tests with {UPDATE}=1");
}

fn reference() -> String {
    let mut text = String::from(
        "# Metrics and reasons\n\nMade from the tables in `src/model/`; `UPDATE_DOCS=1 cargo test --test it docs` writes it anew.\n\n\
         ## Results\n\nEach carries `job` (the probe), `instance` (the target), `module`, `watchpost`, `probe_region` where one is \
         configured, and the labels of probe and target. Scrape with `honor_labels: true`. A gauge that was not measured in the \
         last run is absent. Seconds, bytes and unix time throughout.\n\n",
    );
    table(&mut text, family::RESULTS);
    text.push_str("\n## watchpost itself\n\n");
    table(&mut text, family::OWN);
    text.push_str("\n## watchpost itself, as blackbox_exporter names it\n\n");
    table(&mut text, family::COMPAT);
    text.push_str(
        "\n## Reasons\n\nThe label `reason` of `probe_failures_total` and `probe_failure_info`: a closed list.\n\n| reason | meaning |\n| --- | --- |\n",
    );
    for reason in Reason::ALL {
        writeln!(text, "| `{}` | {} |", reason.label(), reason.meaning().trim()).unwrap();
    }
    text.push_str(
        "\n`probe_failure_info` also shows why a run could not ask at all, which says nothing about the target: \
         `no_descriptors`, `no_permission`, `source_address`, `no_resolver`, `blind`, `stale`, `shutting_down`, `not_allowed` (what `/probe` may not ask), `setup` (a file that the module \
         needs cannot be used) and `defect` (of watchpost itself).\n",
    );
    text
}

fn table(text: &mut String, families: &[&Family]) {
    text.push_str("| family | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for family in families {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary or histogram",
            Kind::Info => "info",
            Kind::StateSet => "state set",
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help)
            .unwrap();
    }
}
