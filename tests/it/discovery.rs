//! Discovery on real files that change in every way in which writers change them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};
use tempfile::TempDir;
use watchpost::model::{Period, Stamp, Target};
use watchpost::target::{
    Discovery, FileGroup, FileSd, MAX_FILE_BYTES, Meters, Pattern, Snapshot, Sources, Watcher,
};

/// A folder, and the discovery of one probe in it.
struct Estate {
    folder: TempDir,
    discovery: Discovery,
    registry: Registry,
    clock: u64,
}

impl Estate {
    fn new() -> Self {
        let registry = Registry::new();
        let decoder = Arc::new(|_: &Path, bytes: &[u8]| decode(bytes));
        let discovery = Discovery::new(decoder, Meters::new(&registry));
        Self { folder: TempDir::new().unwrap(), discovery, registry, clock: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn now(&mut self) -> Stamp {
        self.clock += 1;
        let wall = Timestamp::from_second(i64::try_from(self.clock).unwrap()).unwrap();
        Stamp::new(wall, Duration::from_secs(self.clock))
    }

    fn sources(&self, patterns: &[&str], fixed: &[&str]) -> Sources {
        let files = patterns.iter().map(|p| Pattern::parse(p).unwrap().within(self.folder.path()));
        let refresh_interval = Period::from_secs(300);
        Sources {
            probe: "p".into(),
            fixed: fixed.iter().map(|t| Target::plain(*t)).collect(),
            files: vec![FileSd { files: files.collect(), refresh_interval }],
            remotes: Vec::new(),
        }
    }

    fn configure(&mut self, patterns: &[&str]) -> Vec<String> {
        let (sources, now) = (self.sources(patterns, &[]), self.now());
        addresses(&self.discovery.configure(vec![sources], now))
    }

    fn look(&mut self) -> Option<Vec<String>> {
        let now = self.now();
        self.discovery.refresh(now).map(|s| addresses(&s))
    }

    /// What is found once nothing changes any more.
    fn settle(&mut self) -> Vec<String> {
        let found = [self.look(), self.look(), self.look()];
        found.into_iter().flatten().next_back().expect("a change is noticed")
    }

    fn failed(&self) -> bool {
        !self.discovery.failures().is_empty()
    }

    /// The value of a series of the source `name`.
    fn metric(&self, family: &str, name: &str) -> Option<f64> {
        let page = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let suffix = format!("{name}\"}}");
        let mut lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        let found =
            lines.find(|(series, _)| series.starts_with(family) && series.ends_with(&suffix));
        found.map(|(_, value)| value.parse().unwrap())
    }
}

/// Stands in for the YAML reader: `- address` on each line.
fn decode(bytes: &[u8]) -> Result<Vec<FileGroup>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let lines = text.lines().filter(|line| *line != "[]");
    let targets = lines
        .map(|line| line.strip_prefix("- ").map(str::to_owned).ok_or("not a list".to_owned()))
        .collect::<Result<_, _>>()?;
    Ok(vec![FileGroup { targets, labels: None }])
}

fn addresses(snapshot: &Snapshot) -> Vec<String> {
    snapshot["p"].targets.iter().map(|t| t.address.clone()).collect()
}

#[test]
fn json_and_yaml_are_read_in_the_order_of_their_names() {
    let mut estate = Estate::new();
    estate.write(
        "b.json",
        r#"[{"targets": ["b:1", "b:2"], "labels": {"team": "x", "__hostname": "h"}}]"#,
    );
    estate.write("a.yml", "- a:1\n");
    estate.write(".hidden.yml", "- hidden:1\n");
    estate.write("c.txt", "- c:1\n");
    assert_eq!(estate.configure(&["*.yml", "*.json"]), ["b:1", "b:2", "a:1"]);
    let now = estate.now();
    let sources = estate.sources(&["*.yml", "*.json"], &[]);
    let snapshot = estate.discovery.configure(vec![sources], now);
    let target = &snapshot["p"].targets[0];
    assert_eq!((target.labels.get("team"), target.hostname.as_deref()), (Some("x"), Some("h")));
    assert!(!estate.failed());
    assert_eq!(estate.metric("watchpost_discovery_targets", "*.json"), Some(2.0));
    assert_eq!(estate.metric("watchpost_discovery_failed", "*.json"), Some(0.0));
    assert!(estate.metric("watchpost_discovery_last_success", "*.json").unwrap() > 0.0);
    assert!(estate.metric("watchpost_discovery_file_mtime", "b.json").unwrap() > 1e9);
    assert_eq!(estate.look(), None);
}

#[test]
fn a_secret_s_file_is_seen_from_the_file_that_names_it() {
    let mut estate = Estate::new();
    let labels =
        |file: &str| format!(r#""labels": {{"__authorization_credentials_file": "{file}"}}"#);
    let (near, far) = (labels("token"), labels("/run/token"));
    let text = format!(r#"[{{"targets": ["a:1"], {near}}}, {{"targets": ["b:1"], {far}}}]"#);
    estate.write("a.json", &text);
    let (sources, now) = (estate.sources(&["a.json"], &[]), estate.now());
    let found = estate.discovery.configure(vec![sources], now);
    let files: Vec<_> = found["p"]
        .targets
        .iter()
        .map(|target| target.authorization.as_ref().unwrap().credentials_file.clone().unwrap())
        .collect();
    assert_eq!(files, [estate.path("token").display().to_string(), "/run/token".to_owned()]);
}

#[test]
fn a_file_written_in_place_is_read_when_it_holds_still() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n- a:2\n- a:3\n");
    assert_eq!(estate.configure(&["a.yml"]).len(), 3);
    // A writer truncates and writes the beginning of the new list, which is a valid list.
    estate.write("a.yml", "- a:1\n");
    assert_eq!(estate.look(), None);
    estate.write("a.yml", "- a:1\n- a:2\n- a:3\n- a:4\n");
    assert_eq!(estate.look(), None);
    assert_eq!(estate.look().unwrap().len(), 4);
    // One that never holds still is read in the end.
    for round in 0..20 {
        estate.write("a.yml", &format!("- a:1\n- a:{round:05}\n{}", "- b:1\n".repeat(round)));
        if estate.look().is_some() {
            return;
        }
    }
    panic!("a busy file was never read");
}

#[test]
fn a_bad_file_keeps_its_last_good_list() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n");
    estate.write("b.json", r#"[{"targets": ["b:1"]}]"#);
    assert_eq!(estate.configure(&["*.yml", "*.json"]), ["b:1", "a:1"]);
    let large = "x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    let bad: [&[u8]; 6] = [
        b"[{\"targets\": [\"b:1\", ",
        b"[{\"targets\": [\"\xff:1\"]}]",
        b"",
        b"[{\"targets\": [\"b:1\"], \"lables\": {}}]",
        b"[{\"targets\": [\"b:1\"], \"labels\": {\"1\": \"\"}}]",
        large.as_bytes(),
    ];
    for content in bad {
        fs::write(estate.path("b.json"), content).unwrap();
        assert_eq!([estate.look(), estate.look(), estate.look()], [None, None, None]);
        assert!(estate.failed());
        assert_eq!(estate.metric("watchpost_discovery_failed", "*.json"), Some(1.0));
        assert_eq!(estate.metric("watchpost_discovery_failed", "*.yml"), Some(0.0));
        assert_eq!(estate.metric("watchpost_discovery_targets", "*.json"), Some(1.0));
    }
    estate.write("b.json", r#"[{"targets": ["b:2"]}]"#);
    assert_eq!(estate.settle(), ["b:2", "a:1"]);
    assert!(!estate.failed());
}

#[test]
fn what_cannot_be_read_is_tried_again_although_it_does_not_change() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n");
    assert_eq!(estate.configure(&["a.yml"]), ["a:1"]);
    fs::rename(estate.path("a.yml"), estate.path("kept")).unwrap();
    fs::create_dir(estate.path("a.yml")).unwrap();
    assert_eq!([estate.look(), estate.look(), estate.look()], [None, None, None]);
    assert!(estate.failed());
    fs::remove_dir(estate.path("a.yml")).unwrap();
    fs::rename(estate.path("kept"), estate.path("a.yml")).unwrap();
    assert_eq!(estate.look(), None);
    assert!(!estate.failed());
}

#[test]
fn a_file_put_in_place_whole_is_read_at_once() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n");
    assert_eq!(estate.configure(&["a.yml"]), ["a:1"]);
    // Same length, same second.
    estate.write("new", "- a:2\n");
    fs::rename(estate.path("new"), estate.path("a.yml")).unwrap();
    assert_eq!(estate.look().unwrap(), ["a:2"]);
}

#[test]
fn a_config_map_s_symlinks_are_followed() {
    let mut estate = Estate::new();
    for (version, text) in [("..v1", "- a:1\n"), ("..v2", "- a:2\n")] {
        fs::create_dir(estate.path(version)).unwrap();
        estate.write(&format!("{version}/a.yml"), text);
    }
    symlink("..v1", estate.path("..data")).unwrap();
    symlink("..data/a.yml", estate.path("a.yml")).unwrap();
    assert_eq!(estate.configure(&["*.yml"]), ["a:1"]);
    symlink("..v2", estate.path("..tmp")).unwrap();
    fs::rename(estate.path("..tmp"), estate.path("..data")).unwrap();
    fs::remove_dir_all(estate.path("..v1")).unwrap();
    assert_eq!(estate.look().unwrap(), ["a:2"]);
}

#[test]
fn a_deleted_file_takes_its_targets_along_and_the_last_one_does_not() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n");
    estate.write("b.yml", "- b:1\n");
    assert_eq!(estate.configure(&["*.yml"]), ["a:1", "b:1"]);
    fs::remove_file(estate.path("a.yml")).unwrap();
    // A writer that renames may leave a gap for a moment.
    assert_eq!(estate.look(), None);
    assert_eq!(estate.look().unwrap(), ["b:1"]);
    assert_eq!(estate.metric("watchpost_discovery_file_mtime", "a.yml"), None);
    fs::remove_file(estate.path("b.yml")).unwrap();
    assert_eq!([estate.look(), estate.look(), estate.look()], [None, None, None]);
    assert!(estate.failed());
    assert_eq!(estate.metric("watchpost_discovery_targets", "*.yml"), Some(0.0));
    assert_eq!(estate.metric("watchpost_discovery_failed", "*.yml"), Some(1.0));
    // Also when the folder goes away, and over a reload.
    let here = ["b:1"];
    assert_eq!(estate.configure(&["*.yml"]), here);
    estate.write("c.yml", "- c:1\n");
    assert_eq!(estate.settle(), ["c:1"]);
    assert!(!estate.failed());
}

#[test]
fn an_empty_list_is_reported_and_not_followed() {
    let mut estate = Estate::new();
    estate.write("a.json", r#"[{"targets": ["a:1"]}]"#);
    assert_eq!(estate.configure(&["a.json"]), ["a:1"]);
    estate.write("a.json", "[]");
    assert_eq!([estate.look(), estate.look(), estate.look()], [None, None, None]);
    assert!(estate.failed());
    assert_eq!(estate.metric("watchpost_discovery_targets", "a.json"), Some(0.0));
    // Where there never was one, there is nothing to keep.
    let mut fresh = Estate::new();
    fresh.write("a.json", "[]");
    assert!(fresh.configure(&["a.json"]).is_empty());
    assert_eq!(fresh.metric("watchpost_discovery_targets", "a.json"), Some(0.0));
    assert!(fresh.configure(&["none.yml", "nowhere/*.yml"]).is_empty());
    assert_eq!(fresh.discovery.failures().len(), 2);
    assert_eq!(fresh.metric("watchpost_discovery_targets", "a.json"), None);
}

#[test]
fn of_equal_targets_the_first_wins() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n- b:1\n- a:1\n");
    let sources = estate.sources(&["a.yml"], &["b:1"]);
    let now = estate.now();
    let snapshot = estate.discovery.configure(vec![sources], now);
    assert_eq!(addresses(&snapshot), ["b:1", "a:1"]);
    assert_eq!(estate.metric("watchpost_discovery_duplicate_targets", "p"), Some(2.0));
}

#[test]
fn an_unchanged_list_keeps_its_identity() {
    let mut estate = Estate::new();
    estate.write("a.yml", "- a:1\n");
    let sources = estate.sources(&["a.yml"], &[]);
    let now = estate.now();
    let first = estate.discovery.configure(vec![sources.clone()], now);
    estate.write("new", "- a:1\n");
    fs::rename(estate.path("new"), estate.path("a.yml")).unwrap();
    assert_eq!(estate.look(), None);
    let now = estate.now();
    let second = estate.discovery.configure(vec![sources], now);
    assert!(Arc::ptr_eq(&first["p"].targets, &second["p"].targets));
    let now = estate.now();
    assert!(estate.discovery.configure(Vec::new(), now).is_empty());
    assert_eq!(estate.metric("watchpost_discovery_targets", "a.yml"), None);
}

#[tokio::test]
async fn the_watcher_publishes_what_changes() {
    let estate = Estate::new();
    estate.write("a.yml", "- a:1\n");
    let sources = estate.sources(&["*.yml"], &["fixed:1"]);
    let (folder, discovery) = (estate.folder, estate.discovery);
    let watcher = Watcher::start(discovery, Duration::from_millis(10)).unwrap();
    let snapshot = watcher.configure(vec![sources]).await.unwrap();
    assert_eq!(addresses(&snapshot), ["fixed:1", "a:1"]);
    let mut snapshots = watcher.snapshots();
    snapshots.borrow_and_update();
    fs::write(folder.path().join("b.yml"), "- b:1\n").unwrap();
    let wait = tokio::time::timeout(Duration::from_secs(20), snapshots.changed());
    wait.await.unwrap().unwrap();
    assert_eq!(addresses(&snapshots.borrow()), ["fixed:1", "a:1", "b:1"]);
    drop(watcher);
    let closed = tokio::time::timeout(Duration::from_secs(20), snapshots.changed());
    assert!(closed.await.unwrap().is_err());
}
