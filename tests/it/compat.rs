//! The acceptance suite: each prober, each option and each way to fail, asked through `/probe` of the built binary.

pub(crate) mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::bench::case::{self, Ready, TIMEOUT_HEADER};
use self::bench::contract::{ALWAYS, Contract};
use self::bench::files::Files;
use self::bench::keys;
use self::bench::page::Page;
use crate::support::watchpost::Watchpost;

const FEWEST_CASES: usize = 650;
/// Requests at once.
const AT_ONCE: usize = 16;
/// No case may take longer, on a busy machine too: none has more than two seconds to wait for.
const SLOWEST: Duration = Duration::from_secs(20);

/// How long a peer may take to note what it heard.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cases whose process is the same, and the process.
struct Group {
    watchpost: Watchpost,
    _folder: tempfile::TempDir,
}

type GroupKey = (BTreeMap<String, String>, Vec<String>, String);

fn start_group(key: &GroupKey, modules: &str) -> Group {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("blackbox.yml");
    std::fs::write(&config, format!("{}modules:\n{modules}", key.2)).unwrap();
    let variables: Vec<(&str, &str)> =
        key.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let arguments: Vec<&str> = key.1.iter().map(String::as_str).collect();
    let watchpost = Watchpost::start_in(&config, &arguments, &variables);
    Group { watchpost, _folder: folder }
}

/// What is wrong with one case; empty when all is well.
async fn judge(
    ready: &Ready,
    module: &str,
    watchpost: &Watchpost,
    contract: &Contract,
) -> Vec<String> {
    let case = &ready.case;
    let url = watchpost.url(&format!("/probe?{}", case.query(module)));
    let mut request = reqwest::Client::new().get(url);
    if let Some(granted) = case.granted() {
        request = request.header(TIMEOUT_HEADER, granted);
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(problem) => return vec![format!("no answer: {problem}")],
    };
    let status = response.status().as_u16();
    let text = response.text().await.unwrap_or_default();
    let mut flaws = Vec::new();
    if status != case.status.unwrap_or(200) {
        flaws.push(format!("status {status}: {text}"));
        return flaws;
    }
    for part in &case.body {
        if !text.contains(part) {
            flaws.push(format!("{part:?} is not in the body: {text}"));
        }
    }
    if status == 200 && case.body.is_empty() {
        match Page::parse(&text) {
            Ok(page) => flaws.extend(judge_page(ready, &page, contract)),
            Err(problem) => flaws.push(problem),
        }
    }
    all_noted(ready).await;
    flaws.extend(judge_ledgers(ready));
    flaws
}

fn judge_page(ready: &Ready, page: &Page, contract: &Contract) -> Vec<String> {
    let case = &ready.case;
    let mut flaws = page.flaws();
    flaws.extend(contract.flaws(&ready.written.prober, page));
    for (series, wanted) in &case.expect {
        let found = page.value(series);
        if !wanted.is_met(found) {
            let found = found.map_or("absent".to_owned(), |value| value.to_string());
            let family = series.split('{').next().unwrap_or_default();
            let labels = page.family(family).filter(|_| series.contains('{'));
            let labels = labels.map(|family| format!(", of {:?}", family.series));
            flaws.push(format!(
                "{series}: expected {wanted}, found {found}{}",
                labels.unwrap_or_default()
            ));
        }
    }
    if let Some(only) = &case.only {
        let wanted = contract.unfold(only);
        let names = page.families.iter().map(|family| family.name.as_str());
        let found: BTreeSet<&str> = names
            .filter(|name| !contract.is_ours(&ready.written.prober, name))
            .filter(|name| !ALWAYS.contains(name))
            .collect();
        for name in wanted.difference(&found) {
            flaws.push(format!("{name} is missing"));
        }
        for name in found.difference(&wanted) {
            flaws.push(format!("{name} should not be there"));
        }
    }
    if let Some(phases) = &case.phases {
        let wanted: BTreeSet<&str> = phases.iter().map(String::as_str).collect();
        if page.phases() != wanted {
            flaws.push(format!("phases: expected {wanted:?}, found {:?}", page.phases()));
        }
    }
    let passed = page.value("probe_success") == Some(1.0);
    let says_why = page.family("probe_failure_info").is_some();
    if !passed && !says_why {
        flaws.push("a failure without its reason".to_owned());
    }
    if !flaws.is_empty()
        && let Some(why) = page.family("probe_failure_info")
    {
        flaws.push(format!("(reason: {:?})", why.series));
    }
    flaws
}

/// A peer may have heard something and not noted it yet.
async fn all_noted(ready: &Ready) {
    let end = Instant::now() + PATIENCE;
    let is_noted = || {
        let mut texts = ready.case.seen.iter().flat_map(|(server, texts)| {
            let told = ready.running[server].told();
            texts.iter().map(move |text| told.contains(text))
        });
        texts.all(|noted| noted)
    };
    while !is_noted() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn judge_ledgers(ready: &Ready) -> Vec<String> {
    let mut flaws = Vec::new();
    let told = |server: &str| ready.running[server].told();
    for (server, texts) in &ready.case.seen {
        for text in texts.iter().filter(|text| !told(server).contains(*text)) {
            flaws.push(format!("{server} was not told {text:?} but {:?}", told(server)));
        }
    }
    for (server, texts) in &ready.case.unseen {
        for text in texts.iter().filter(|text| told(server).contains(*text)) {
            flaws.push(format!("{server} was told {text:?}: {:?}", told(server)));
        }
    }
    for (server, count) in &ready.case.asked {
        let asked = ready.running[server].asked();
        if asked != *count {
            flaws.push(format!("{server} was asked {asked} times, not {count}"));
        }
    }
    flaws
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_every_prober_answers_as_written() {
    let files = Files::new();
    let contract = Arc::new(Contract::read());
    let only = std::env::var("CASE").unwrap_or_default();
    let cases = case::all().into_iter().filter(|case| case.place().contains(&only));
    let mut groups: BTreeMap<GroupKey, Vec<(String, Ready)>> = BTreeMap::new();
    for (number, written) in cases.enumerate() {
        let ready = written.start(&files);
        let case = &ready.case;
        let key = (case.variables.clone(), case.arguments.clone(), case.sections.clone());
        groups.entry(key).or_default().push((format!("case_{number}"), ready));
    }
    let doors = Arc::new(Semaphore::new(AT_ONCE));
    let mut judging = JoinSet::new();
    let mut count = 0;
    for (key, cases) in groups {
        let modules: String = cases.iter().map(|(name, ready)| ready.module(name)).collect();
        let group = Arc::new(start_group(&key, &modules));
        for (name, ready) in cases {
            count += 1;
            let (group, contract, doors) = (group.clone(), contract.clone(), doors.clone());
            judging.spawn(async move {
                let _door = doors.acquire().await.unwrap();
                let began = Instant::now();
                let mut flaws = judge(&ready, &name, &group.watchpost, &contract).await;
                if began.elapsed() > SLOWEST {
                    flaws.push(format!("it took {:?}", began.elapsed()));
                }
                (ready.written.place(), flaws)
            });
        }
    }
    let mut wrong = BTreeMap::new();
    while let Some(judged) = judging.join_next().await {
        let (place, flaws) = judged.unwrap();
        if !flaws.is_empty() {
            wrong.insert(place, flaws);
        }
    }
    let mut report = String::new();
    for (place, flaws) in &wrong {
        writeln!(report, "{place}\n    {}", flaws.join("\n    ")).unwrap();
    }
    assert!(wrong.is_empty(), "{} of {count} cases are wrong:\n{report}", wrong.len());
    assert!(count >= FEWEST_CASES || !only.is_empty(), "only {count} cases");
}

/// Keys of modules that no case can show, with the reason.
const NOT_SHOWN: [(&str, &str); 0] = [];

#[test]
fn every_key_of_every_prober_is_in_a_case() {
    let mut used = BTreeSet::new();
    for case in case::all() {
        used.extend(keys::used(case.module()));
    }
    let mut missing = Vec::new();
    let mut known = 0;
    for (keys, paths) in keys::tables() {
        for key in keys {
            known += 1;
            let full = |path: &String| {
                if path.is_empty() { (*key).to_owned() } else { format!("{path}.{key}") }
            };
            let shown = paths.iter().any(|path| used.contains(&full(path)));
            if !shown && !NOT_SHOWN.iter().any(|(name, _)| *name == full(&paths[0])) {
                missing.push(full(&paths[0]));
            }
        }
    }
    assert!(known > 150, "only {known} keys were found");
    assert!(missing.is_empty(), "no case in tests/cases/probe has {missing:#?}");
    // A table that stands in several blocks must be used in each.
    let blocks = keys::tables().into_values().flatten().filter(|path| !path.is_empty());
    let unused: Vec<String> = blocks.filter(|path| !used.contains(path)).collect();
    assert!(unused.is_empty(), "no case in tests/cases/probe has {unused:#?}");
    assert!(Path::new(&case::folder()).is_dir());
}
