//! What an operator installs: alerting rules, runbooks, the Helm chart, the Debian package and its unit.
//!
//! The tools do the judging: promtool, helm, dpkg, systemd-analyze. helm and cargo-deb come from `scripts/setup-tests`;
//! where they could not be had, their tests say so and pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use watchpost::model::{Reason, family};

const WATCHPOST: &str = env!("CARGO_BIN_EXE_watchpost");
/// helm that was built by `go install` does not know a version of Kubernetes.
const KUBE_VERSION: &str = "1.31.0";
const HEADINGS: [&str; 6] = [
    "## What it means",
    "## The first five minutes",
    "## Telling the causes apart",
    "## Remedies",
    "## Verification",
    "## Escalation",
];
const REGIONS: [&str; 3] = ["eu-west-1", "us-east-1", "ap-southeast-1"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/watchpost")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of a folder with this ending, sorted.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {ending} in {}", folder.display());
    found
}

fn rule_files() -> Vec<PathBuf> {
    files(&chart().join("rules"), ".yml")
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/setup-tests installs it"))
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn passes(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    text(&output)
}

fn fails(command: &mut Command) -> String {
    let output = run(command);
    assert!(!output.status.success(), "{command:?} should fail:\n{}", text(&output));
    text(&output)
}

/// A tool that `scripts/setup-tests` builds, there or in PATH. Absent, the test is left out with a word.
fn tool(name: &str) -> Option<PathBuf> {
    let built = root().join("target/tools/bin").join(name);
    let candidates = [built, PathBuf::from(name)];
    let found =
        candidates.into_iter().find(|path| Command::new(path).arg("--help").output().is_ok());
    if found.is_none() {
        eprintln!("left out: {name} is not here; scripts/setup-tests builds it where it can");
    }
    found
}

// ---- rules

/// Name of each alert, and the lines of its rules.
fn alerts() -> BTreeMap<String, Vec<String>> {
    let mut alerts = BTreeMap::new();
    for file in rule_files() {
        let rules = read(&file);
        for rule in rules.split("\n      - ").skip(1) {
            let Some(rest) = rule.strip_prefix("alert: ") else { continue };
            let (name, body) = rest.split_once('\n').expect("a rule has more than a name");
            alerts.entry(name.to_owned()).or_insert_with(Vec::new).push(body.to_owned());
        }
    }
    assert!(alerts.len() > 30, "only {} alerts were found", alerts.len());
    alerts
}

#[test]
fn promtool_accepts_the_rules() {
    passes(Command::new("promtool").args(["check", "rules"]).args(rule_files()));
}

#[test]
fn every_alert_fires_when_it_should_and_not_otherwise() {
    let runs: Vec<_> = files(&chart().join("rules/tests"), ".yml")
        .into_iter()
        .map(|file| {
            thread::spawn(move || {
                passes(Command::new("promtool").args(["test", "rules"]).arg(file));
            })
        })
        .collect();
    for run in runs {
        run.join().expect("promtool found no difference");
    }
}

/// A test for promtool: for each kind of target and each reason, one target that is down for it.
fn one_target_per_reason() -> String {
    let kinds = [("shop", "http_2xx"), ("exporters", "exporter"), ("grafana", "grafana")];
    let mut series = String::new();
    let mut targets = 0;
    for (job, module) in kinds {
        for reason in Reason::ALL.iter().map(|reason| reason.label()) {
            let labels = format!(
                r#"job="{job}", instance="{reason}", module="{module}", watchpost="a", probe_region="b""#
            );
            for (family, label, value) in [
                ("probe_status", r#"status="up""#, 0),
                ("probe_status", r#"status="down""#, 1),
                ("probe_failure_info", &*format!(r#"reason="{reason}", phase="connect""#), 1),
            ] {
                writeln!(series, "      - series: '{family}{{{labels}, {label}}}'")
                    .expect("a string");
                writeln!(series, "        values: '{value}x9'").expect("a string");
            }
            targets += 1;
        }
    }
    let rules = chart().join("rules");
    format!(
        r#"rule_files: [{0}/recording.yml, {0}/targets.yml, {0}/regions.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
{series}
    promql_expr_test:
      - eval_time: 8m
        expr: 'count by (job, instance) (ALERTS{{alertstate="firing"}}) != 1'
        exp_samples: []
      - eval_time: 8m
        expr: 'count(count by (job, instance) (ALERTS{{alertstate="firing"}}))'
        exp_samples: [{{ labels: '{{}}', value: {targets} }}]
"#,
        rules.display()
    )
}

#[test]
fn every_reason_of_a_target_that_is_down_raises_exactly_one_alert() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("reasons.yml");
    fs::write(&file, one_target_per_reason()).expect("a writable temporary folder");
    passes(Command::new("promtool").args(["test", "rules"]).arg(&file));
}

/// The expression of a recording rule, on one line.
fn recorded(name: &str) -> String {
    let rules = read(&chart().join("rules/recording.yml"));
    let rule =
        rules.split("- record: ").find_map(|rule| rule.strip_prefix(name)?.strip_prefix('\n'));
    let (_, expression) = rule
        .and_then(|rule| rule.split_once("expr: |-\n"))
        .unwrap_or_else(|| panic!("no rule {name}"));
    let lines = expression.lines().take_while(|line| line.starts_with("          "));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// A month at the rules' own pace would take minutes, so the hours are given and the rule is asked what it makes of them.
#[test]
fn the_downtime_of_a_month_is_the_sum_of_its_hours() {
    // 2 h 15 min on the second day, 5 min two weeks later, 1 h thirty-one days ago.
    let hours = "3600x0 0x40 3600 3600 900 0x330 300 0x420";
    let cases = [
        ("sum30d", "700h", "12000"),
        // The oldest hour has left, the others have not.
        ("sum30d", "721h", "8400"),
        ("sum30d", "764h", "300"),
        ("sum1d", "50h", "8100"),
        ("sum1d", "70h", "0"),
    ];
    let mut tests = String::new();
    for (rule, at, seconds) in cases {
        let expression = recorded(&format!("watchpost:target:downtime_seconds:{rule}"));
        assert!(expression.contains("watchpost:target:downtime_seconds:sum1h["), "{expression}");
        let labels = r#"{job="shop", instance="a", module="m"}"#;
        writeln!(
            tests,
            "      - eval_time: {at}\n        expr: '{expression}'\n        exp_samples: [{{ labels: '{labels}', value: {seconds} }}]"
        )
        .expect("a string");
    }
    let text = format!(
        "evaluation_interval: 1h\ntests:\n  - interval: 1h\n    input_series:\n      - series: 'watchpost:target:downtime_seconds:sum1h{{job=\"shop\", instance=\"a\", module=\"m\"}}'\n        values: '{hours}'\n    promql_expr_test:\n{tests}"
    );
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("month.yml");
    fs::write(&file, text).expect("a writable temporary folder");
    passes(Command::new("promtool").args(["test", "rules"]).arg(&file));
}

#[test]
fn every_alert_has_a_firing_and_a_silent_test() {
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files(&chart().join("rules/tests"), ".yml") {
        let tests = read(&file);
        let lines: Vec<_> = tests.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let Some(name) = pair[0].strip_prefix("alertname: ") else { continue };
            match pair[1] {
                "exp_alerts:" => firing.insert(name.to_owned()),
                "exp_alerts: []" => silent.insert(name.to_owned()),
                other => panic!("{}: {name} is followed by {other:?}", file.display()),
            };
        }
    }
    // It always fires: that is its meaning.
    silent.insert("Watchdog".to_owned());
    let alerts: BTreeSet<_> = alerts().into_keys().collect();
    assert_eq!(alerts, firing, "alerts, and alerts with a test in which they fire");
    assert_eq!(alerts, silent, "alerts, and alerts with a test in which they are silent");
}

#[test]
fn every_alert_waits_has_a_severity_and_leads_to_its_runbook() {
    let all: String = rule_files().iter().map(|file| read(file)).collect();
    for (name, rules) in alerts() {
        for rule in rules {
            let severe = rule.contains("severity: critical")
                || rule.contains("severity: warning")
                || rule.contains("severity: none")
                || rule.contains(
                    "severity: '{{ with $labels.severity }}{{ . }}{{ else }}critical{{ end }}'",
                )
                || rule.contains("labels: *severity");
            assert!(severe, "{name} has no known severity:\n{rule}");
            assert!(
                name == "Watchdog" || rule.contains("\n        for: "),
                "{name} has no for:\n{rule}"
            );
        }
        let url = format!("/docs/runbooks/{name}.md");
        assert!(all.contains(&url), "{name} has no runbook_url that ends with {url}");
    }
}

#[test]
fn a_rule_with_a_wrong_label_is_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("self.yml");
    let rules = read(&chart().join("rules/self.yml"));
    fs::write(&file, rules.replacen("severity: critical", "sever-ity: critical", 1))
        .expect("a writable temporary folder");
    let said = fails(Command::new("promtool").args(["check", "rules"]).arg(&file));
    assert!(said.contains("sever-ity"), "{said}");
}

#[test]
fn alerts_and_runbooks_are_the_same_set() {
    let runbooks: BTreeSet<_> = files(&root().join("docs/runbooks"), ".md")
        .iter()
        .map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let alerts: BTreeSet<_> = alerts().into_keys().collect();
    assert_eq!(alerts, runbooks);
}

#[test]
fn every_runbook_has_the_six_parts_and_no_dead_link() {
    for file in files(&root().join("docs/runbooks"), ".md") {
        let page = read(&file);
        let parts: Vec<_> = page.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(parts, HEADINGS, "{}", file.display());
        for part in page.split("\n## ").skip(1) {
            let words = part.split_whitespace().count();
            assert!(words >= 8, "{}: a part is nearly empty: {part}", file.display());
        }
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = file.parent().expect("a folder").join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", file.display());
        }
    }
}

#[test]
fn rules_name_only_families_that_exist() {
    let families: BTreeSet<_> =
        family::RESULTS.iter().chain(family::OWN).map(|family| family.name).collect();
    let mut unknown = BTreeSet::new();
    for file in rule_files() {
        let rules = read(&file);
        let code = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
        for word in code.flat_map(|line| {
            line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        }) {
            let sample =
                word.strip_suffix("_count").filter(|name| families.contains(name)).unwrap_or(word);
            let ours = (word.starts_with("probe_") || word.starts_with("watchpost_"))
                && !word.contains(':');
            let label = ["probe_region", "watchpost_kind"].contains(&word);
            if ours && !label && !families.contains(sample) {
                unknown.insert(word.to_owned());
            }
        }
    }
    assert!(unknown.is_empty(), "rules read families that nobody exports: {unknown:?}");
}

// ---- dashboards

fn dashboards() -> Vec<(String, Value)> {
    let files = files(&chart().join("dashboards"), ".json").into_iter();
    let read = files.map(|file| {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let json = serde_json::from_str(&read(&file));
        (name, json.unwrap_or_else(|e| panic!("{}: {e}", file.display())))
    });
    read.collect()
}

/// Every expression of a dashboard's panels, as a query would be sent: variables replaced by what they stand for.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut found = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().expect("a panel has queries");
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            found.push((title.to_owned(), with_variables(dashboard, expression)));
        }
    }
    found
}

fn with_variables(dashboard: &Value, expression: &str) -> String {
    let mut text = expression.replace("$__rate_interval", "5m");
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        text = text.replace(&format!("${name}"), ".*");
    }
    assert!(!text.contains('$'), "a variable that the dashboard has not: {expression}");
    text
}

/// What a query of a variable asks for, as an expression.
fn asked_by_variables(dashboard: &Value) -> Vec<(String, String)> {
    let list = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let queries = list.filter_map(|variable| variable["definition"].as_str());
    let inner = queries.map(|query| {
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(", "));
        let (selector, _) = inner.unwrap_or_else(|| panic!("{query} asks for no label's values"));
        (query.to_owned(), with_variables(dashboard, selector))
    });
    inner.collect()
}

#[test]
fn every_query_of_a_dashboard_is_one_that_prometheus_understands() {
    let mut rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    for (name, dashboard) in dashboards() {
        let all = expressions(&dashboard).into_iter().chain(asked_by_variables(&dashboard));
        for (title, expression) in all {
            // JSON is YAML: no sign of an expression needs thought.
            let rule = serde_json::json!({ "record": "dashboard:query", "expr": expression, "labels": { "dashboard": name, "panel": title } });
            writeln!(rules, "      - {rule}").expect("a string");
        }
    }
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("queries.yml");
    fs::write(&file, &rules).expect("a writable temporary folder");
    let check = || {
        let mut command = Command::new("promtool");
        command.args(["check", "rules", "--lint=none"]).arg(&file);
        command
    };
    let said = passes(&mut check());
    let count = rules.matches("dashboard:query").count();
    assert!(count > 80 && said.contains(&format!("{count} rules found")), "{said}");
    fs::write(&file, rules.replacen("sum by", "sum bye", 1)).expect("a writable temporary folder");
    fails(&mut check());
}

#[test]
fn dashboards_ask_only_for_what_exists() {
    let families: BTreeSet<_> =
        family::RESULTS.iter().chain(family::OWN).map(|family| family.name).collect();
    let recorded: String = read(&chart().join("rules/recording.yml"));
    let foreign =
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"];
    let mut shown = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        let all = expressions(&dashboard).into_iter().chain(asked_by_variables(&dashboard));
        for (title, expression) in all {
            for word in expression.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)))
            {
                let is_metric = ["probe_", "watchpost_", "watchpost:", "process_"]
                    .iter()
                    .any(|start| word.starts_with(start));
                let is_label = word == "probe_region";
                if !is_metric || is_label || word == "probe_" {
                    continue;
                }
                let base =
                    ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end));
                let base = base.filter(|base| families.contains(base)).unwrap_or(word);
                let exists = families.contains(base)
                    || foreign.contains(&word)
                    || recorded.contains(&format!("record: {word}\n"));
                assert!(exists, "{name}, {title}: nobody exports {word}");
                shown.insert(base.to_owned());
            }
        }
    }
    // What an operator looks for must be somewhere.
    for wanted in [
        "probe_status",
        "probe_failures_total",
        "probe_failure_info",
        "probe_ssl_earliest_cert_expiry",
        "watchpost_heartbeat_gate_open",
        "watchpost_deadman_last_beat_timestamp_seconds",
        "watchpost_outbox_depth",
        "watchpost_schedule_lateness_seconds",
        "watchpost_blind",
        "watchpost_discovery_failed",
    ] {
        assert!(shown.contains(wanted), "no dashboard shows {wanted}");
    }
}

#[test]
fn dashboards_can_live_side_by_side() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        let uid = dashboard["uid"].as_str().expect("a uid");
        assert_eq!(uid, format!("watchpost-{name}"));
        assert!(uids.insert(uid.to_owned()));
        let panels = dashboard["panels"].as_array().expect("panels");
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: panels share an id");
        let mut taken = BTreeSet::new();
        for panel in panels {
            let place = &panel["gridPos"];
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| place[key].as_u64().expect("a place"));
            assert!(x + w <= 24, "{name}: {} is too wide", panel["title"]);
            for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
                assert!(taken.insert(cell), "{name}: {} covers another panel", panel["title"]);
            }
        }
    }
    let links = read(&chart().join("dashboards/overview.json"));
    assert!(links.contains("/d/watchpost-target?") && uids.contains("watchpost-target"));
}

#[test]
fn the_chart_ships_the_dashboards_where_grafana_looks() {
    let Some(helm) = tool("helm") else { return };
    let only = ["-s", "templates/dashboards.yaml"];
    let values = values("prober");
    let flags = |more: &[&'static str]| {
        let mut flags = vec!["-f".to_owned(), values.clone()];
        flags.extend(only.iter().chain(more).map(|flag| (*flag).to_owned()));
        flags
    };
    let render = |more: &[&'static str]| {
        let flags = flags(more);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        passes(&mut template(&helm, &flags))
    };
    let rendered = render(&[]);
    let maps: Vec<_> =
        rendered.split("\n---\n").filter(|map| map.contains("kind: ConfigMap")).collect();
    assert_eq!(maps.len(), dashboards().len());
    for (map, (name, dashboard)) in maps.iter().zip(dashboards()) {
        assert!(map.contains("grafana_dashboard: \"1\""), "{map}");
        assert!(map.contains("grafana_folder: watchpost"), "{map}");
        let (_, text) = map.split_once(&format!("  watchpost-{name}.json: |\n")).expect("its file");
        let lines: Vec<_> =
            text.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        let shipped: Value = serde_json::from_str(&lines.join("\n")).expect("JSON, as it was");
        assert_eq!(shipped, dashboard);
    }
    let fewer = render(&["--set", "dashboards.disabled={target,itself}"]);
    assert_eq!(fewer.matches("kind: ConfigMap").count(), dashboards().len() - 2);
}

// ---- compose

#[test]
fn the_compose_files_are_valid() {
    let compose = root().join("packaging/compose");
    passes(
        Command::new("promtool")
            .args(["check", "config", "--syntax-only"])
            .arg(compose.join("prometheus.yml")),
    );
    passes(Command::new("amtool").arg("check-config").arg(compose.join("alertmanager.yml")));
}

/// What is in comments behind `# heartbeats:`, without the marks.
fn without_marks(config: &str) -> String {
    let (live, marked) = config.split_once("# heartbeats:\n").expect("an example of heartbeats");
    let marked = marked.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    format!("{live}heartbeats:\n{}\n", marked.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_packaged_configurations_pass_check_config() {
    let folder = TempDir::new().expect("a temporary folder");
    let packaging = root().join("packaging");
    let compose = read(&packaging.join("compose/watchpost.yml"));
    let file = folder.path().join("watchpost.yml");
    for config in
        [compose.clone(), without_marks(&compose), read(&packaging.join("debian/watchpost.yml"))]
    {
        fs::write(&file, &config).expect("a writable temporary folder");
        passes(Command::new(WATCHPOST).arg("check-config").arg(&file));
    }
}

/// Every flag in what starts watchpost is one that it knows.
#[test]
fn units_images_and_charts_use_flags_that_exist() {
    let help = passes(Command::new(WATCHPOST).args(["run", "--help"]));
    let mut flags = 0;
    for file in [
        "packaging/systemd/watchpost.service",
        "packaging/debian/watchpost.default",
        "packaging/compose/compose.yml",
        "Dockerfile",
        "charts/watchpost/templates/statefulset.yaml",
    ] {
        let text = read(&root().join(file));
        for rest in text.split("--").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || matches!(c, '.' | '-'))
                .collect();
            // The flags of others have no dot: docker's, cargo's, setcap's.
            if name.contains('.') || name == "shard" {
                assert!(
                    help.contains(&format!("--{name}")),
                    "{file}: there is no --{name}\n{help}"
                );
                flags += 1;
            }
        }
    }
    assert!(flags >= 15, "only {flags} flags were found");
}

// ---- chart

fn template(helm: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(helm);
    command.arg("template").arg("release").arg(chart());
    command.args(["--kube-version", KUBE_VERSION, "--namespace", "monitoring"]);
    command.args(arguments);
    command
}

fn values(name: &str) -> String {
    chart().join("ci").join(format!("{name}-values.yaml")).display().to_string()
}

/// Every values file, and every region of the example with its common file.
fn shapes() -> Vec<Vec<String>> {
    let ci = files(&chart().join("ci"), "-values.yaml");
    let mut shapes: Vec<_> =
        ci.iter().map(|file| vec!["-f".to_owned(), file.display().to_string()]).collect();
    for region in REGIONS {
        let folder = chart().join("examples/three-regions");
        let names = ["common".to_owned(), region.to_owned()];
        let flags = names.iter().flat_map(|name| {
            ["-f".to_owned(), folder.join(format!("{name}.yaml")).display().to_string()]
        });
        shapes.push(flags.collect());
    }
    shapes
}

#[test]
fn helm_lints_and_renders_every_shape() {
    let Some(helm) = tool("helm") else { return };
    for shape in shapes() {
        let mut lint = Command::new(&helm);
        lint.arg("lint").arg(chart()).args(["--strict", "--kube-version", KUBE_VERSION]);
        passes(lint.args(&shape));
        let flags: Vec<_> = shape.iter().map(String::as_str).collect();
        let rendered = passes(&mut template(&helm, &flags));
        assert!(rendered.contains("kind: StatefulSet"), "{rendered}");
        assert!(rendered.contains("runAsNonRoot: true"), "{rendered}");
    }
}

#[test]
fn the_chart_gives_rights_for_icmp_only_where_icmp_is_used() {
    let Some(helm) = tool("helm") else { return };
    let render = |name: &str| passes(&mut template(&helm, &["-f", &values(name)]));
    let plain = render("prober");
    assert!(!plain.contains("NET_RAW") && !plain.contains("ping_group_range"));
    let grouped = render("icmp");
    assert!(!grouped.contains("NET_RAW") && grouped.contains("ping_group_range"));
    let raw = render("icmp-raw");
    assert!(raw.contains("add: [NET_RAW]") && raw.contains("runAsNonRoot: true"));
}

/// The kubelet has neither password nor certificate: a door that asks for them would have it restart the pod for ever.
#[test]
fn a_door_with_users_is_looked_at_by_its_port() {
    let Some(helm) = tool("helm") else { return };
    let web = ["--set", "webConfig.secretName=web"];
    let open = passes(&mut template(&helm, &web));
    assert!(open.contains("path: /-/healthy") && !open.contains("tcpSocket"), "{open}");
    let flags = [&web[..], &["--set", "webConfig.tcpProbes=true"]].concat();
    let users = passes(&mut template(&helm, &flags));
    assert_eq!(users.matches("tcpSocket").count(), 2, "{users}");
    assert!(!users.contains("httpGet"), "{users}");
}

#[test]
fn the_ingress_leads_to_the_beats_door_only() {
    let Some(helm) = tool("helm") else { return };
    let flags = ["-f", &values("heartbeats"), "-s", "templates/ingress.yaml"];
    let ingress = passes(&mut template(&helm, &flags));
    let paths: Vec<_> =
        ingress.lines().filter_map(|line| line.trim().strip_prefix("- path: ")).collect();
    assert_eq!(paths, ["/ping", "/alertmanager"]);
    assert!(!ingress.contains("name: http"), "{ingress}");
}

#[test]
fn the_rendered_rules_pass_promtool_with_the_changes_of_the_values() {
    let Some(helm) = tool("helm") else { return };
    let base = "prometheusRule.runbookBaseUrl=https://wiki.example/run/";
    let flags = [
        "-f",
        &values("prober"),
        "-s",
        "templates/prometheusrule.yaml",
        "--set",
        base,
        "--set-json",
        "prometheusRule.objective=0.99",
        "--set",
        "prometheusRule.regionsQuorum=3",
    ];
    let rendered = passes(&mut template(&helm, &flags));
    let (_, groups) = rendered.split_once("\nspec:\n").expect("a PrometheusRule has a spec");
    let groups: Vec<_> =
        groups.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("rules.yml");
    fs::write(&file, groups.join("\n")).expect("a writable temporary folder");
    passes(Command::new("promtool").args(["check", "rules"]).arg(&file));
    for wanted in [
        "runbook_url: https://wiki.example/run/WatchpostBlind.md",
        "(1 - 0.99)",
        ">= (3)",
        "team: observability",
        "for: 10m",
    ] {
        assert!(rendered.contains(wanted), "{wanted} is not in the rendered rules");
    }
    assert!(!rendered.contains("github.com/watchpost/watchpost/blob"), "a runbook_url was left");
    assert!(!rendered.contains("alert: WatchpostTargetDegraded"), "a disabled alert was left");
}

/// Values that must be refused, and what the message must say.
const REFUSED: [(&str, &[&str], &str); 20] = [
    ("default", &["--set", "shards=two"], "/shards"),
    ("default", &["--set", "replicaCount=0"], "/replicaCount"),
    ("default", &["--set", "colour=red"], "colour"),
    ("default", &["--set", "book.accessMode=ReadWriteMany"], "/book/accessMode"),
    ("default", &["--set", "serviceMonitor.interval=often"], "/serviceMonitor/interval"),
    ("default", &["--set", "prometheusRule.alertLabels.a-b=c"], "a-b"),
    ("default", &["--set-json", "prometheusRule.objective=99.9"], "/prometheusRule/objective"),
    ("prober", &["--set", "prometheusRule.disabled={Nope}"], "is no alert of the files"),
    ("heartbeats", &["--set", "shards=2"], "2 pods cannot share one book: set shards=1"),
    ("heartbeats", &["--set", "replicaCount=3"], "3 pods cannot share one book: set shards=1"),
    ("heartbeats", &["--set", "book.enabled=false"], "set book.enabled=true"),
    ("heartbeats", &["--set-json", "secrets=[]"], "no entry of secrets mounts it"),
    ("shards", &["--set", "replicaCount=2"], "only one of them may be more than 1"),
    ("shards", &["--set", "id=one"], "put $(POD_NAME) into it"),
    ("default", &["--set", "beats.enabled=true"], "set book.enabled=true"),
    ("default", &["--set", "config.watchpost.id=x"], "set the values region and id"),
    ("default", &["--set", "watchpost.id=x"], "/watchpost"),
    (
        "default",
        &["--set", "watchpost.api_key_file=/run/secrets/watchpost/api/key"],
        "no entry of secrets mounts it",
    ),
    ("icmp", &["--set", "hostNetwork=true"], "may not set net.ipv4.ping_group_range"),
    ("kubernetes", &["--set", "rbac.create=false"], "set rbac.create=true"),
];

#[test]
fn the_chart_refuses_wrong_values_and_says_what_to_do() {
    let Some(helm) = tool("helm") else { return };
    for (base, flags, message) in REFUSED {
        let file = values(base);
        let arguments: Vec<_> = ["-f", &file].into_iter().chain(flags.iter().copied()).collect();
        let said = fails(&mut template(&helm, &arguments));
        assert!(said.contains(message), "{flags:?} on {base} should say {message:?}:\n{said}");
    }
}

/// The files of the rendered ConfigMap.
fn config_map(helm: &Path, shape: &[String]) -> BTreeMap<String, String> {
    let mut flags: Vec<_> = shape.iter().map(String::as_str).collect();
    flags.extend(["-s", "templates/configmap.yaml"]);
    let rendered = passes(&mut template(helm, &flags));
    let (_, data) = rendered.split_once("\ndata:\n").expect("a ConfigMap has data");
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut name = String::new();
    for line in data.lines() {
        if let Some(key) = line.trim().strip_suffix(": |").filter(|_| !line.starts_with("    ")) {
            key.clone_into(&mut name);
        } else {
            let file = files.entry(name.clone()).or_default();
            file.push_str(line.strip_prefix("    ").unwrap_or(line));
            file.push('\n');
        }
    }
    files
}

/// Secrets that a configuration names, made in `folder`, and the configuration with their paths in it.
fn with_secrets(config: &str, folder: &Path) -> String {
    const MOUNT: &str = "/run/secrets/watchpost/";
    for rest in config.split(MOUNT).skip(1) {
        let end =
            rest.find(|c: char| c.is_whitespace() || "\"',}".contains(c)).unwrap_or(rest.len());
        let (name, _) = rest.split_at(end);
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable temporary folder");
        fs::write(path, "https://receiver.example/0123456789abcdef0123456789abcdef\n")
            .expect("a writable temporary folder");
    }
    config.replace(MOUNT, &format!("{}/", folder.display()))
}

fn check_config(folder: &Path) -> Command {
    let mut command = Command::new(WATCHPOST);
    command.env("POD_NAME", "watchpost-0").arg("check-config");
    command.args([folder.join("identity.yml"), folder.join("watchpost.yml")]);
    command
}

#[test]
fn the_rendered_configuration_passes_check_config() {
    let Some(helm) = tool("helm") else { return };
    let mut checked = 0;
    for shape in shapes() {
        let folder = TempDir::new().expect("a temporary folder");
        let files = config_map(&helm, &shape);
        if !files.contains_key("watchpost.yml") {
            continue; // made elsewhere: existingConfig
        }
        for (name, content) in &files {
            let content = with_secrets(content, folder.path());
            fs::write(folder.path().join(name), content).expect("a writable temporary folder");
        }
        passes(&mut check_config(folder.path()));
        checked += 1;

        let broken = read(&folder.path().join("watchpost.yml")) + "colour: red\n";
        fs::write(folder.path().join("watchpost.yml"), broken)
            .expect("a writable temporary folder");
        let said = fails(&mut check_config(folder.path()));
        assert!(said.contains("colour"), "{said}");
    }
    assert!(checked >= 8, "only {checked} configurations were checked");
}

// ---- plain machines

fn deb(cargo_deb: &Path, folder: &Path) -> PathBuf {
    let package = folder.join("watchpost.deb");
    // The binary that cargo built for these tests: an optimised one tells nothing more about the package.
    let profile = if WATCHPOST.contains("/release/") { "release" } else { "dev" };
    passes(
        Command::new(cargo_deb)
            .current_dir(root())
            .args(["--no-build", "--no-strip", "--profile", profile, "--output"])
            .arg(&package),
    );
    package
}

fn install(package: &Path, into: &Path) {
    let admin = into.join("var/lib/dpkg");
    for folder in ["updates", "info", "triggers"] {
        fs::create_dir_all(admin.join(folder)).expect("a writable temporary folder");
    }
    for file in ["status", "available"] {
        fs::write(admin.join(file), "").expect("a writable temporary folder");
    }
    // Nothing else is installed there: neither libc nor a shell for the scripts.
    passes(
        Command::new("dpkg")
            .arg(format!("--root={}", into.display()))
            .args(["--force-depends", "--force-script-chrootless", "--log=/dev/null", "-i"])
            .arg(package),
    );
}

fn is_root() -> bool {
    passes(Command::new("id").arg("-u")).trim() == "0"
}

#[test]
fn the_debian_package_installs_into_an_empty_root_and_its_unit_is_sound() {
    let Some(cargo_deb) = tool("cargo-deb") else { return };
    let folder = TempDir::new().expect("a temporary folder");
    let package = deb(&cargo_deb, folder.path());
    let into = folder.path().join("root");
    if is_root() {
        install(&package, &into);
        let accounts = read(&into.join("etc/passwd"));
        assert!(accounts.contains("watchpost:"), "no user was made: {accounts}");
        assert!(read(&into.join("var/lib/dpkg/status")).contains("Status: install ok installed"));
        let conf = "etc/systemd/system/multi-user.target.wants/watchpost.service";
        assert!(fs::symlink_metadata(into.join(conf)).is_ok(), "the unit was not enabled");
    } else {
        eprintln!("without root, dpkg does not install: the package is only unpacked");
        passes(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&into));
    }
    for file in [
        "etc/watchpost/watchpost.yml",
        "etc/default/watchpost",
        "usr/lib/sysusers.d/watchpost.conf",
    ] {
        assert!(into.join(file).is_file(), "{file} is not in the package");
    }
    verify_unit(&into, folder.path());
}

fn verify_unit(installed: &Path, folder: &Path) {
    let unit = read(&installed.join("usr/lib/systemd/system/watchpost.service"));
    let binary = installed.join("usr/bin/watchpost");
    assert!(binary.is_file(), "no binary in the package");
    // systemd looks for the binary in this machine's root.
    let here = folder.join("watchpost.service");
    fs::write(&here, unit.replace("/usr/bin/watchpost", &binary.display().to_string()))
        .expect("a writable temporary folder");
    let said = passes(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&here));
    assert!(!said.contains("watchpost.service"), "systemd-analyze has remarks:\n{said}");
    // 0 is a unit that may do nothing, 100 one without any hardening.
    passes(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=25", "--no-pager"])
            .arg(&here),
    );
}
