//! Debian's blackbox_exporter beside watchpost: the same modules, targets and requests, compared family by family.
//!
//! The cases are those of `tests/cases/probe` whose keys that version knows. What differs on purpose, or because
//! blackbox_exporter itself changed since, is listed with its reason in `tests/cases/side_by_side.yml`; each entry of the list
//! must be needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::bench::case::{self, Case, Ready, TIMEOUT_HEADER};
use crate::bench::contract::Contract;
use crate::bench::files::Files;
use crate::bench::keys;
use crate::bench::page::Page;
use crate::netns::apart;
use crate::program::{Running, free_port, installed};
use crate::support::peer::Peer;
use crate::support::watchpost::Watchpost;
use crate::support::web::{Web, ok};

const PROGRAM: &str = "prometheus-blackbox-exporter";
/// Probers that the packaged version has.
const PROBERS: [&str; 5] = ["dns", "grpc", "http", "icmp", "tcp"];
const FEWEST_CASES: usize = 150;
/// Requests at once.
const AT_ONCE: usize = 8;
/// A family that only Go's runtime has a use for.
const NOT_OURS: &str = "process_virtual_memory_max_bytes";
/// A run of the packaged version may outlive its budget.
const PATIENCE: Duration = Duration::from_secs(100);

/// The data file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Keys of modules that the packaged version knows.
    known: Vec<String>,
    left_out: Vec<LeftOut>,
    differences: Vec<Difference>,
}

/// A case that cannot be compared though its keys are known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    case: String,
    #[serde(rename = "why")]
    _why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// How the places of the cases begin; all without it.
    #[serde(default)]
    cases: Vec<String>,
    what: Vec<String>,
    #[serde(rename = "why")]
    _why: String,
}

impl Listed {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/side_by_side.yml");
        case::read(&path)
    }

    fn compares(&self, written: &case::Written) -> bool {
        let is_known = |key: &String| self.known.contains(key);
        PROBERS.contains(&written.prober.as_str())
            && !self.left_out.iter().any(|out| out.case == written.place())
            && keys::used(written.module()).iter().all(is_known)
    }
}

impl Difference {
    fn covers(&self, place: &str, what: &str) -> bool {
        let here = self.cases.is_empty() || self.cases.iter().any(|case| place.starts_with(case));
        here && self.what.iter().any(|listed| listed == what)
    }
}

/// Both programs with the same configuration.
struct Pair {
    watchpost: Watchpost,
    _blackbox: Running,
    blackbox: String,
    _folder: tempfile::TempDir,
}

impl Pair {
    fn start(program: &Path, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("blackbox.yml");
        std::fs::write(&path, config).unwrap();
        let flag = format!("--config.file={}", path.display());
        let checked = Command::new(program).args([&flag, "--config.check"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{said}\n{}", numbered(config));
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.arg(flag).arg(format!("--web.listen-address={address}"));
        let blackbox = Running::listening(&mut command, port);
        let watchpost = Watchpost::start(&path);
        Self { watchpost, _blackbox: blackbox, blackbox: address, _folder: folder }
    }

    fn urls(&self, path: &str) -> [String; 2] {
        [self.watchpost.url(path), format!("http://{}{path}", self.blackbox)]
    }
}

fn numbered(text: &str) -> String {
    let mut numbered = String::new();
    for (number, line) in text.lines().enumerate() {
        writeln!(numbered, "{:4} {line}", number + 1).unwrap();
    }
    numbered
}

/// An answer; nothing where the connection was closed.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    kind: String,
    headers: HeaderMap,
    text: String,
}

async fn ask(url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = reqwest::Client::new().get(url).timeout(PATIENCE);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let Ok(response) = request.send().await else { return Answer::default() };
    let kind = response.headers().get("content-type");
    Answer {
        status: response.status().as_u16(),
        kind: kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap_or_default(),
    }
}

/// How the answers of both to one case differ: what, and the details for a report.
async fn compare(
    pair: &Pair,
    case: &Case,
    module: &str,
    prober: &str,
    contract: &Contract,
) -> BTreeMap<String, String> {
    let [ours, theirs] = pair.urls(&format!("/probe?{}", case.query(module)));
    let header = case.granted().map(|granted| (TIMEOUT_HEADER, granted));
    let headers: Vec<(&str, &str)> = header.into_iter().collect();
    let (ours, theirs) = (ask(&ours, &headers).await, ask(&theirs, &headers).await);
    let mut found = BTreeMap::new();
    if ours.status != theirs.status {
        found.insert("status".to_owned(), format!("{} and {}", ours.status, theirs.status));
        return found;
    }
    if ours.status != 200 {
        return found;
    }
    let (ours, theirs) = (Page::parse(&ours.text).unwrap(), Page::parse(&theirs.text).unwrap());
    compare_pages(&ours, &theirs, prober, contract)
}

fn compare_pages(
    ours: &Page,
    theirs: &Page,
    prober: &str,
    contract: &Contract,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let names = ours.families.iter().chain(&theirs.families).map(|family| family.name.as_str());
    let names: BTreeSet<&str> = names.filter(|name| !contract.is_ours(prober, name)).collect();
    for name in names {
        if let Some((what, detail)) = compare_family(ours, theirs, name) {
            found.insert(what, detail);
        }
    }
    if let Some(why) = ours.family("probe_failure_info").filter(|_| !found.is_empty()) {
        found.insert("(why)".to_owned(), format!("{:?}", why.series));
    }
    found
}

fn compare_family(ours: &Page, theirs: &Page, name: &str) -> Option<(String, String)> {
    let (ours, theirs) = match (ours.family(name), theirs.family(name)) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (Some(ours), None) => {
            return Some((format!("only here: {name}"), format!("{:?}", ours.series)));
        }
        (None, Some(theirs)) => {
            return Some((format!("only there: {name}"), format!("{:?}", theirs.series)));
        }
        (None, None) => return None,
    };
    let both = |what: &str| {
        Some((format!("{what} of {name}"), format!("{:?} and {:?}", ours.series, theirs.series)))
    };
    if ours.kind != theirs.kind || ours.help.is_none() || theirs.help.is_none() {
        return both("type");
    }
    if ours.label_names() != theirs.label_names() {
        return both("labels");
    }
    let is_time = name.ends_with("_duration_seconds") || name == "probe_dns_lookup_time_seconds";
    let series = |family: &crate::bench::page::Family| {
        let mut series: Vec<_> = family
            .series
            .iter()
            .map(|(labels, value)| {
                // A step that was not reached took no time in both.
                let is_zero = *value == 0.0;
                (labels.clone(), if is_time { f64::from(u8::from(is_zero)) } else { *value })
            })
            .collect();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        series
    };
    let (ours, theirs) = (series(ours), series(theirs));
    let labels = |series: &[(_, f64)]| {
        series.iter().map(|(labels, _): &(Vec<_>, _)| labels.clone()).collect::<Vec<_>>()
    };
    if labels(&ours) != labels(&theirs) {
        return Some((format!("series of {name}"), format!("{ours:?} and {theirs:?}")));
    }
    if is_time && name != "probe_http_duration_seconds" {
        return None;
    }
    (ours != theirs).then(|| (format!("value of {name}"), format!("{ours:?} and {theirs:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_that_both_know_is_answered_alike() {
    let Some(program) = installed(PROGRAM) else { return };
    let listed = Listed::read();
    let files = Files::new();
    let contract = Arc::new(Contract::read());
    let only = std::env::var("CASE").unwrap_or_default();
    let all = case::all();
    for out in &listed.left_out {
        assert!(all.iter().any(|written| written.place() == out.case), "no case {}", out.case);
    }
    let written =
        all.into_iter().filter(|case| listed.compares(case) && case.place().contains(&only));
    let ready: Vec<Ready> = written.map(|case| case.start(&files)).collect();
    // Other processes, and addresses that are not on this machine, are not for this comparison.
    let alike = |ready: &Ready| {
        let case = &ready.case;
        case.variables.is_empty()
            && case.arguments.is_empty()
            && case.sections.is_empty()
            && case.status != Some(403)
    };
    let ready: Vec<(String, Ready)> = ready
        .into_iter()
        .filter(alike)
        .enumerate()
        .map(|(number, ready)| (format!("case_{number}"), ready))
        .collect();
    let modules: String = ready.iter().map(|(name, ready)| ready.module(name)).collect();
    let pair = Arc::new(Pair::start(&program, &format!("modules:\n{modules}")));
    let count = ready.len();
    let doors = Arc::new(Semaphore::new(AT_ONCE));
    let mut comparing = JoinSet::new();
    for (name, ready) in ready {
        let (pair, contract, doors) = (pair.clone(), contract.clone(), doors.clone());
        comparing.spawn(async move {
            let _door = doors.acquire().await.unwrap();
            // The servers run as long as the whole of it is kept.
            let ready = ready;
            let prober = ready.written.prober.clone();
            let found = compare(&pair, &ready.case, &name, &prober, &contract).await;
            (ready.written.place(), found)
        });
    }
    let mut needed = BTreeSet::new();
    let mut report = String::new();
    while let Some(compared) = comparing.join_next().await {
        let (place, found) = compared.unwrap();
        let mut unlisted = Vec::new();
        for (what, detail) in &found {
            let mut covered = what == "(why)";
            for (at, difference) in listed.differences.iter().enumerate() {
                if difference.covers(&place, what) {
                    covered = true;
                    needed.insert((at, what.clone()));
                }
            }
            if !covered {
                unlisted.push(format!("{what}: {detail}"));
            }
        }
        if !unlisted.is_empty() {
            unlisted.extend(found.get("(why)").cloned());
            writeln!(report, "{place}\n    {}", unlisted.join("\n    ")).unwrap();
        }
    }
    eprintln!("{count} cases were put to both");
    assert!(report.is_empty(), "of {count} cases these differ, here and there:\n{report}");
    if !only.is_empty() {
        return;
    }
    assert!(count >= FEWEST_CASES, "only {count} cases are compared");
    for (at, difference) in listed.differences.iter().enumerate() {
        for what in &difference.what {
            let is_needed = needed.contains(&(at, what.clone()));
            assert!(is_needed, "no case differs any more as {difference:?} says: {what}");
        }
    }
}

/// Modules for everything that is not about a prober.
const MODULES: &str = "\
modules:
  http_2xx: { prober: http, timeout: 5s, http: { basic_auth: { username: u, password: hunter2 } } }
  hosted: { prober: http, http: { headers: { Host: a.example } } }
  tcp: { prober: tcp, timeout: 5s }
";

/// A request beside `/probe?module=…`, and the statuses here and there.
type Row<'a> = (&'a str, String, &'a [(&'a str, &'a str)], [u16; 2]);

/// What is there and not here is written down in `docs/migration.md`.
const ALIKE: [u16; 2] = [200, 200];
const BAD: [u16; 2] = [400, 400];

fn rows<'a>(target: &str) -> Vec<Row<'a>> {
    let probe = |query: &str| format!("/probe?{query}&target={target}");
    let none: &[(&str, &str)] = &[];
    let soon: &[(&str, &str)] = &[(TIMEOUT_HEADER, "soon")];
    let open: &[(&str, &str)] = &[("Accept", "application/openmetrics-text;version=1.0.0")];
    let gzip: &[(&str, &str)] = &[("Accept-Encoding", "gzip")];
    vec![
        ("an unknown module", probe("module=nobody"), none, BAD),
        ("no target", "/probe?module=tcp".to_owned(), none, BAD),
        ("an empty target", "/probe?target=".to_owned(), none, BAD),
        ("another host", probe("module=hosted&hostname=b"), none, BAD),
        ("no number", probe(""), soon, [500, 500]),
        ("an unknown module before no number", probe("module=nobody"), soon, BAD),
        ("the default module", probe(""), none, ALIKE),
        ("an empty module", probe("module="), none, ALIKE),
        ("a module twice", probe("module=http_2xx&module=nobody"), none, ALIKE),
        ("an unknown parameter", probe("x=y"), none, ALIKE),
        ("the debug page", probe("debug=true"), none, ALIKE),
        ("metrics in text for who wants OpenMetrics", probe(""), open, ALIKE),
        ("compressed", probe(""), gzip, ALIKE),
        ("healthy", "/-/healthy".to_owned(), none, ALIKE),
        ("reload by GET", "/-/reload".to_owned(), none, [405, 405]),
        ("logs without a question", "/logs".to_owned(), none, [400, 500]),
        ("logs of nobody", "/logs?id=99".to_owned(), none, [404, 404]),
        ("the configuration", "/config".to_owned(), none, ALIKE),
        ("the first page", "/".to_owned(), none, ALIKE),
        ("own numbers", "/metrics".to_owned(), none, ALIKE),
        ("a page that there is not", "/nowhere".to_owned(), none, [404, 200]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_formats_are_answered_alike() {
    let Some(program) = installed(PROGRAM) else { return };
    let pair = Pair::start(&program, MODULES);
    let web = Web::saying(ok("hello")).await;
    let mut wrong = Vec::new();
    for (name, path, headers, statuses) in rows(&web.url("/")) {
        let [ours, theirs] = pair.urls(&path);
        let (ours, theirs) = (ask(&ours, headers).await, ask(&theirs, headers).await);
        if [ours.status, theirs.status] != statuses {
            wrong.push(format!("{name}: {} here, {} there", ours.status, theirs.status));
        }
        let essence = |kind: &str| kind.split(';').next().unwrap_or_default().to_owned();
        let is_open = headers.iter().any(|(_, value)| value.contains("openmetrics"));
        if is_open {
            // Where it is asked for it is answered: as the newer of the two has it, and ours.
            assert!(ours.kind.starts_with("application/openmetrics-text"), "{}", ours.kind);
            assert!(theirs.kind.starts_with("text/plain"), "{}", theirs.kind);
        } else if ours.status == theirs.status && essence(&ours.kind) != essence(&theirs.kind) {
            wrong.push(format!("{name}: {} here, {} there", ours.kind, theirs.kind));
        }
        for header in ["x-content-type-options", "content-encoding"] {
            let (here, there) = (ours.headers.get(header), theirs.headers.get(header));
            if there.is_some() && here != there {
                wrong.push(format!("{name}: {header} is {here:?} here, {there:?} there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_pages_and_own_numbers_are_alike() {
    let Some(program) = installed(PROGRAM) else { return };
    let pair = Pair::start(&program, MODULES);
    let [ours, theirs] = pair.urls("/-/healthy");
    let (ours, theirs) = (ask(&ours, &[]).await, ask(&theirs, &[]).await);
    assert_eq!(ours.text, theirs.text);

    // A silent peer: how long it takes is the budget.
    let silent = Peer::new(|stream| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(stream);
    })
    .await;
    let path = format!("/probe?module=http_2xx&target=http://{}/", silent.address);
    for header in ["1.5", "0x1p0", "0.4"] {
        let [ours, theirs] = pair.urls(&path);
        let headers = [(TIMEOUT_HEADER, header)];
        let (ours, theirs) = tokio::join!(ask(&ours, &headers), ask(&theirs, &headers));
        let took = |answer: &Answer| {
            Page::parse(&answer.text).unwrap().value("probe_duration_seconds").unwrap()
        };
        let (ours, theirs) = (took(&ours), took(&theirs));
        assert!((ours - theirs).abs() < 1.0, "{header}: {ours} here, {theirs} there");
    }

    let [ours, theirs] = pair.urls("/config");
    let (ours, theirs) = (ask(&ours, &[]).await.text, ask(&theirs, &[]).await.text);
    for text in [&ours, &theirs] {
        assert!(text.contains("password: <secret>") && !text.contains("hunter2"), "{text}");
        for module in ["http_2xx:", "hosted:", "tcp:"] {
            assert!(text.contains(module), "{text}");
        }
    }
    let [ours, theirs] = pair.urls("/metrics");
    let (ours, theirs) = (ask(&ours, &[]).await.text, ask(&theirs, &[]).await.text);
    let kinds = |page: &str| -> BTreeMap<String, String> {
        let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let pairs = lines.filter_map(|line| line.split_once(' '));
        pairs.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    };
    let (ours, theirs) = (kinds(&ours), kinds(&theirs));
    let own = theirs.iter().filter(|(name, _)| {
        ["blackbox_", "process_"].iter().any(|prefix| name.starts_with(prefix))
    });
    let own = own.filter(|(name, _)| *name != NOT_OURS);
    let missing: Vec<_> = own.filter(|(name, kind)| ours.get(*name) != Some(kind)).collect();
    assert!(missing.is_empty(), "{missing:?} of {theirs:?}");
}

/// In a world where no host answers an echo request.
#[test]
fn a_ping_without_an_answer_is_answered_alike() {
    const MODULES: &str = "\
modules:
  four: { prober: icmp, timeout: 1s, icmp: { preferred_ip_protocol: ip4 } }
  six: { prober: icmp, timeout: 1s, icmp: { preferred_ip_protocol: ip6 } }
";
    let Some(program) = installed(PROGRAM) else { return };
    apart("side_by_side::a_ping_without_an_answer_is_answered_alike", |_world| async move {
        for family in ["ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"] {
            std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
        }
        let (contract, listed) = (Contract::read(), Listed::read());
        let pair = Pair::start(&program, MODULES);
        for (module, target, protocol) in [("four", "127.0.0.1", 4.0), ("six", "::1", 6.0)] {
            let [ours, theirs] = pair.urls(&format!("/probe?module={module}&target={target}"));
            let (ours, theirs) = tokio::join!(ask(&ours, &[]), ask(&theirs, &[]));
            assert_eq!((ours.status, theirs.status), (200, 200));
            let pages = [ours, theirs].map(|answer| Page::parse(&answer.text).unwrap());
            let [ours, theirs] = &pages;
            let mut differences = compare_pages(ours, theirs, "icmp", &contract);
            differences.retain(|what, _| {
                what != "(why)" && !listed.differences.iter().any(|d| d.covers("icmp", what))
            });
            assert!(differences.is_empty(), "{module}: {differences:#?}");
            assert_eq!(ours.flaws(), Vec::<String>::new());
            for page in &pages {
                assert_eq!(page.value("probe_success"), Some(0.0));
                assert_eq!(page.value("probe_ip_protocol"), Some(protocol));
                let took = page.value("probe_duration_seconds").unwrap();
                assert!((0.9..10.0).contains(&took), "{took} s of a budget of 1 s");
            }
            let why = "probe_failure_info{reason=\"no_reply\"}";
            assert_eq!(ours.value(why), Some(1.0), "{ours:?}");
        }
    });
}
