//! A disk that is full or read-only, and a book that is damaged: beats are refused with 503, pages go out, and people are
//! told.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::notify_delivery::until;
use crate::support::fakes::{Incident, PagerDuty};
use crate::support::watchpost::{Watchpost, get, run};

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";

/// A small file system of its own. None where the test may not mount.
pub(crate) struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"];
        if !mount(&options, folder.path()) {
            eprintln!("skipped: mounting a small file system is not allowed here");
            return None;
        }
        Some(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn fill(&self) {
        let mut file = fs::File::create(self.path().join("ballast")).unwrap();
        let block = [0_u8; 4096];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..1]).is_ok() {}
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.path()).status().ok();
    }
}

pub(crate) fn mount(options: &[&str], path: &Path) -> bool {
    let mounted = Command::new("mount").args(options).arg(path).output();
    mounted.is_ok_and(|output| output.status.success())
}

fn config(pagerduty: &PagerDuty) -> String {
    format!(
        "watchpost: {{ id: here }}\n\
         receivers:\n  - {{ name: oncall, resolve_after: 1s, pagerduty: {{ routing_key: k1, url: '{}' }} }}\n\
         deadman:\n\
         \x20 - {{ name: backup, interval: 1h, uuid: {UUID}, notify: [oncall] }}\n\
         \x20 - {{ name: short, interval: 10s, grace: 0s, uuid: c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f12, notify: [oncall] }}\n",
        pagerduty.url()
    )
}

fn start(folder: &Path, book: &Path, pagerduty: &PagerDuty) -> Watchpost {
    let path = folder.join("w.yml");
    fs::write(&path, config(pagerduty)).unwrap();
    Watchpost::start_with(&path, &[&format!("--storage.path={}", book.display())])
}

async fn ping(watchpost: &Watchpost) -> u16 {
    get(&watchpost.url(&format!("/ping/{UUID}"))).await.0
}

async fn ping_until(watchpost: &Watchpost, code: u16) {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let got = ping(watchpost).await;
        if got == code {
            return;
        }
        assert!(Instant::now() < end, "{got}, not {code}\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn was_told(pagerduty: &PagerDuty, of: &str) -> bool {
    let history = pagerduty.history();
    history.iter().any(|it| matches!(it, Incident::Opened { summary, .. } if summary.contains(of)))
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_a_full_disk_refuses_beats_and_pages_all_the_same() {
    let Some(disk) = Tmpfs::mount() else { return };
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path(), &disk.path().join("book"), &pagerduty);
    assert_eq!(ping(&watchpost).await, 200);
    disk.fill();
    ping_until(&watchpost, 503).await;
    watchpost.until("watchpost_book_writable", &[], |v| v == 0.0).await;
    let refused = ["backup", "result=\"not_recorded\""];
    watchpost.until("watchpost_deadman_beats_total", &refused, |v| v >= 1.0).await;
    until("a page of the silent one", || was_told(&pagerduty, "short")).await;
    until("a page about the book", || was_told(&pagerduty, "book")).await;
    disk.make_room();
    ping_until(&watchpost, 200).await;
    watchpost.until("watchpost_book_writable", &[], |v| v == 1.0).await;
    // What was decided meanwhile is on disk.
    let mut watchpost = watchpost;
    watchpost.signal(Signal::KILL);
    watchpost.wait();
    let second = start(folder.path(), &disk.path().join("book"), &pagerduty);
    second.until("watchpost_episodes_open", &["oncall"], |v| v >= 1.0).await;
    assert_eq!(
        pagerduty
            .history()
            .iter()
            .filter(
                |it| matches!(it, Incident::Opened { summary, .. } if summary.contains("short"))
            )
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_a_read_only_disk_is_read_and_pages_go_out() {
    let Some(disk) = Tmpfs::mount() else { return };
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = disk.path().join("book");
    let mut first = start(folder.path(), &book, &pagerduty);
    assert_eq!(ping(&first).await, 200);
    first.signal(Signal::TERM);
    first.wait();
    assert!(mount(&["-o", "remount,ro"], disk.path()));
    let second = start(folder.path(), &book, &pagerduty);
    assert_eq!(ping(&second).await, 503);
    let name = ["deadman=\"backup\""];
    let family = "watchpost_deadman_last_beat_timestamp_seconds";
    second.until(family, &name, |_| true).await;
    until("a page of the silent one", || was_told(&pagerduty, "short")).await;
    assert!(mount(&["-o", "remount,rw"], disk.path()));
    ping_until(&second, 200).await;
}

/// Starts it so that writing more than it may is an error of the disk, and not a deadly signal.
fn start_bounded(folder: &Path, book: &Path, pagerduty: &PagerDuty) -> Watchpost {
    let path = folder.join("w.yml");
    fs::write(&path, config(pagerduty)).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#, env!("CARGO_BIN_EXE_watchpost")])
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.path={}", book.display()))
        .arg("--web.listen-address=127.0.0.1:0");
    Watchpost::spawn(&mut command)
}

/// How large a file of this process may become.
fn bound_files(watchpost: &Watchpost, bytes: Option<u64>) {
    let pid = Pid::from_raw(watchpost.pid());
    let now = getrlimit(Resource::Fsize);
    let limit = Rlimit { current: bytes.or(now.maximum), maximum: now.maximum };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

/// Every write to a file fails, and not because the disk is full: the kernel refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn f7_an_error_of_the_disk_refuses_beats_and_pages_all_the_same() {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let mut first = start_bounded(folder.path(), &book, &pagerduty);
    assert_eq!(ping(&first).await, 200);
    bound_files(&first, Some(0));
    ping_until(&first, 503).await;
    first.until("watchpost_book_writable", &[], |v| v == 0.0).await;
    assert!(first.log().contains("disk I/O error"), "{}", first.log());
    until("a page of the silent one", || was_told(&pagerduty, "short")).await;
    until("a page about the book", || was_told(&pagerduty, "book")).await;
    bound_files(&first, None);
    ping_until(&first, 200).await;
    first.until("watchpost_book_writable", &[], |v| v == 1.0).await;
    // What was decided meanwhile is on disk.
    first.signal(Signal::KILL);
    first.wait();
    let second = start(folder.path(), &book, &pagerduty);
    second.until("watchpost_episodes_open", &["oncall"], |v| v >= 1.0).await;
}

/// Damages a book, in which there is a beat, and looks at what the next process makes of it.
async fn damaged(how: &str, damage: impl FnOnce(&Path)) {
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let mut first = start(folder.path(), &book, &pagerduty);
    assert_eq!(ping(&first).await, 200);
    // In good order, so that everything is in one file.
    first.signal(Signal::TERM);
    first.wait();
    damage(&book.join("book.db"));
    let second = start(folder.path(), &book, &pagerduty);
    until(&format!("{how}: a page about the book"), || was_told(&pagerduty, "damaged book")).await;
    assert_eq!(ping(&second).await, 200, "{how}: it is armed and writable");
    until(&format!("{how}: a page of the silent one"), || was_told(&pagerduty, "short")).await;
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f8_a_truncated_book_is_told_of_and_switches_are_armed() {
    damaged("truncated", |path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(fs::metadata(path).unwrap().len() / 2).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f8_an_empty_book_is_told_of_and_switches_are_armed() {
    damaged("zero length", |path| drop(fs::File::create(path).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f8_a_flipped_bit_is_told_of_and_the_rest_is_kept() {
    damaged("one bit", |path| {
        let bytes = fs::read(path).unwrap();
        let needle = b"\"armed\"";
        let at = bytes.windows(needle.len()).position(|part| part == needle).unwrap();
        overwrite(path, at as u64 + 2, &[bytes[at + 2] ^ 1]);
    })
    .await;
}

/// Written by a newer version: left alone, and the start says so.
#[test]
fn f8_a_book_of_a_newer_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    fs::create_dir(&book).unwrap();
    let connection = rusqlite::Connection::open(book.join("book.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let path = folder.path().join("w.yml");
    fs::write(&path, format!("deadman:\n  - {{ name: a, interval: 1h, uuid: {UUID} }}\n")).unwrap();
    let (code, _, errors) = run(&[
        "run",
        &format!("--config.file={}", path.display()),
        &format!("--storage.path={}", book.display()),
        "--web.listen-address=127.0.0.1:0",
    ]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("version 99"), "{errors}");
}
