//! Expositions as data files: our verdict on each, and that of `promtool`.
//!
//! `NAME.expect` (`NAME_om.expect` for OpenMetrics) holds `line` and `kind` of what is wrong, and
//! `promtool accepts|refuses: WHY` where promtool, whose parser is not the scraper's, sees it
//! otherwise. promtool reads the text format only.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use watchpost::metrics::exposition::{Encoding, Kind, Writer, rendered_labels};
use watchpost::probe::exposition::{Format, Invalid, Limits, Reader, Sample, Summary};

const FEWEST_CASES: usize = 60;

struct Case {
    path: PathBuf,
    bytes: Vec<u8>,
    format: Format,
    is_valid: bool,
    expect: String,
}

impl Case {
    fn load(path: PathBuf, is_valid: bool) -> Option<Self> {
        let (format, suffix) = match path.extension()?.to_str()? {
            "prom" => (Format::Text, ""),
            "om" => (Format::OpenMetrics, "_om"),
            _ => return None,
        };
        let stem = path.file_stem()?.to_str()?;
        let expect = path.with_file_name(format!("{stem}{suffix}.expect"));
        let expect = fs::read_to_string(expect).unwrap_or_default();
        let bytes = fs::read(&path).unwrap();
        Some(Self { path, bytes, format, is_valid, expect })
    }

    fn expected(&self, key: &str) -> Option<&str> {
        self.expect.lines().find_map(|line| line.strip_prefix(key))
    }
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/exposition");
    let mut cases = Vec::new();
    for (folder, is_valid) in [("valid", true), ("invalid", false)] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            cases.extend(Case::load(entry.unwrap().path(), is_valid));
        }
    }
    assert!(cases.len() >= FEWEST_CASES, "{} cases", cases.len());
    cases
}

fn read(format: Format, bytes: &[u8]) -> Result<Summary, Invalid> {
    let mut reader = Reader::new(format, Limits::default());
    let mut sink = |_: Sample<'_>| {};
    reader.feed(bytes, &mut sink)?;
    reader.finish(&mut sink)
}

/// `None` where promtool is not installed.
fn promtool_accepts(bytes: &[u8]) -> Option<bool> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(bytes).unwrap();
    // 1: not parsed. 3: parsed, and something to say about the style.
    Some(child.wait().unwrap().code() != Some(1))
}

#[test]
fn every_case_is_judged_as_prometheus_would() {
    let mut wrong = Vec::new();
    for case in cases() {
        let verdict = read(case.format, &case.bytes).map_err(|e| (e.line, e.kind.label()));
        let line = case.expected("line ").map(|line| line.parse().unwrap());
        let expected = line.zip(case.expected("kind "));
        if verdict.as_ref().err().copied() != expected || case.is_valid != verdict.is_ok() {
            wrong.push(format!("{}: {verdict:?}, expected {expected:?}", case.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn promtool_differs_only_where_a_case_says_so() {
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(|case| case.format == Format::Text) {
        let Some(accepts) = promtool_accepts(&case.bytes) else {
            eprintln!("promtool is not installed: nothing compared");
            return;
        };
        let differs = case.expected("promtool ").is_some();
        if accepts != (case.is_valid != differs) {
            wrong.push(format!("{}: promtool accepts: {accepts}", case.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn page(encoding: Encoding) -> Vec<u8> {
    let labels = rendered_labels([("job", "a\"b\\c\nd"), ("instance", "\u{e9}:1")]);
    let mut writer = Writer::new(encoding);
    writer.family("probe_runs_total", Kind::Counter, "Runs.\nOf \"all\" \\ kinds.");
    writer.sample("", &[&labels, "result=\"pass\""], 1_796_069_439.0);
    writer.family("watchpost_build_info", Kind::Info, "Version.");
    writer.sample("", &["version=\"1\""], 1.0);
    writer.family("probe_seconds", Kind::Histogram, "Time.");
    writer.sample("_bucket", &[&labels, "le=\"0.5\""], 2.0);
    writer.sample("_bucket", &[&labels, "le=\"+Inf\""], 3.0);
    writer.sample("_sum", &[&labels], 1e-5);
    writer.sample("_count", &[&labels], 3.0);
    writer.family("odd", Kind::Unknown, "");
    for (index, value) in [f64::NAN, f64::INFINITY, -f64::INFINITY, -0.0].into_iter().enumerate() {
        writer.sample("", &[&format!("n=\"{index}\"")], value);
    }
    writer.finish()
}

#[test]
fn what_we_write_is_read_by_us_and_by_promtool() {
    let text = page(Encoding::Text004);
    assert_eq!(read(Format::Text, &text).unwrap().samples, 10);
    assert_ne!(promtool_accepts(&text), Some(false));
    let summary = read(Format::OpenMetrics, &page(Encoding::OpenMetrics100)).unwrap();
    assert_eq!((summary.samples, summary.families, summary.has_eof), (10, 4, true));
}
