use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::model::Secret;

fn quick() -> Options {
    Options { retry_every: Duration::from_millis(20), ..Options::default() }
}

fn beats(book: &Book, name: &str) -> Beats {
    Beats::armed(name, "", book.now())
}

fn ping(book: &Book, name: &str, kind: &str) -> Ping {
    Ping {
        name: name.into(),
        source: String::new(),
        kind: kind.into(),
        at: book.now(),
        rid: None,
        from: Some("127.0.0.1".into()),
        agent: Some("curl/8".into()),
        body: "x".repeat(MAX_PING_BODY_BYTES + 1),
    }
}

fn row(book: &Book, sequence: u64) -> Outbox {
    Outbox {
        id: format!("n{sequence}"),
        sequence,
        episode: None,
        key: "k".into(),
        receiver: "oncall".into(),
        kind: NoteKind::Trigger,
        created: book.now(),
        attempts: 0,
        next_attempt: book.now(),
        last_error: None,
        refused: false,
        escalated: false,
        route: None,
        payload: serde_json::json!({"text": "hello"}),
    }
}

/// Another test that starts a process has our locks in it for a moment, between fork and exec.
fn open(dir: &Path) -> Book {
    for _ in 0..1_000 {
        match Book::open(dir) {
            Err(BookError::Locked { .. }) => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the book stays locked");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    // A shared disk may need seconds for one commit.
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come to hold");
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    assert_eq!(book.found(), &Found::Nothing);
    let armed = beats(&book, "backup");
    for _ in 0..=MAX_PINGS {
        book.record(armed.clone(), Some(ping(&book, "backup", "success"))).await.unwrap();
    }
    let route = Route::new("f1", &Secret::new("key".into()));
    book.write(vec![Write::put(row(&book, 2)), Write::put(row(&book, 1)), Write::put(route)])
        .await
        .unwrap();
    drop(book);

    let book = open(dir.path());
    assert_eq!(book.found(), &Found::Existing { unreadable_rows: 0 });
    assert_eq!(book.beats(), [armed]);
    assert_eq!(book.outbox().iter().map(|o| o.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(book.route("f1").unwrap().key().reveal(), "key");
    let pings = book.pings("backup").await.unwrap();
    assert_eq!(pings.len(), MAX_PINGS as usize);
    assert_eq!(pings[0].body.len(), MAX_PING_BODY_BYTES);
    book.forget_beats("backup").await.unwrap();
    assert!(book.beats().is_empty());
    assert!(book.pings("backup").await.unwrap().is_empty());
}

#[tokio::test]
async fn one_process_owns_it() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    let pid = Some(std::process::id());
    let Err(BookError::Locked { pid: held_by, .. }) = Book::open(dir.path()) else {
        panic!("opened twice");
    };
    assert_eq!(held_by, pid);
    drop(book);
    open(dir.path());
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("book");
    let book = open(&folder);
    book.write(vec![Write::put(beats(&book, "a"))]).await.unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_newer_books_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("book.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(Book::open(dir.path()), Err(BookError::Future { found: 99, .. })));
    assert!(path.exists());
}

/// Damages that a disk does to a file.
#[tokio::test]
async fn a_damaged_file_is_put_aside() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("zero length", Vec::clear),
        ("truncated", |bytes| bytes.truncate(bytes.len() / 3)),
        ("header flipped", |bytes| bytes[3] ^= 0xff),
        ("not a book", |bytes| *bytes = b"hello".repeat(1000)),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let book = open(dir.path());
        for i in 0..50 {
            book.write(vec![Write::put(row(&book, i))]).await.unwrap();
        }
        drop(book);
        let path = dir.path().join("book.db");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let book = open(dir.path());
        let Found::Corrupt { kept_as, .. } = book.found() else {
            panic!("{name}: {:?}", book.found());
        };
        assert!(kept_as.exists(), "{name}");
        assert!(book.writable(), "{name}");
        assert!(book.outbox().is_empty(), "{name}");
        book.write(vec![Write::put(row(&book, 1))]).await.unwrap();
    }
}

/// What waits for company is there in its order when the company is, by itself after a while, and at the end at the latest.
#[tokio::test]
async fn what_rides_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    let status = |status: &str| {
        let since = book.now();
        let (id, status) = ("c1".into(), status.into());
        Write::put(StatusRow { id, status, since, text: None, history: Vec::new() })
    };
    // As a crash would leave it.
    let crashed = || {
        let copy = tempfile::tempdir().unwrap();
        for name in ["book.db", "book.db-wal"] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let book = open(copy.path());
        book.status("c1").map(|row| row.status)
    };
    book.write_later(vec![status("down")]);
    assert_eq!(book.status("c1").unwrap().status, "down", "memory knows at once");
    book.write_later(vec![status("up")]);
    book.write(vec![Write::put(row(&book, 1))]).await.unwrap();
    assert_eq!(crashed().as_deref(), Some("up"), "with what was waited for");
    book.write_later(vec![status("degraded")]);
    until("it is written by itself", || crashed().as_deref() == Some("degraded")).await;
    book.write_later(vec![status("paused")]);
    drop(book);
    let book = open(dir.path());
    assert_eq!(book.status("c1").unwrap().status, "paused", "at the end");
}

#[tokio::test]
async fn a_flipped_bit_in_a_row_drops_that_row_alone() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    book.write(vec![Write::put(row(&book, 1)), Write::put(row(&book, 2))]).await.unwrap();
    drop(book);
    let path = dir.path().join("book.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|w| w == b"hello").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let book = open(dir.path());
    assert_eq!(book.found(), &Found::Existing { unreadable_rows: 1 });
    assert_eq!(book.outbox().len(), 1);
    drop(book);

    // What is lost is said once; who wants to look has a copy.
    let book = Book::open(dir.path()).unwrap();
    assert_eq!(book.found(), &Found::Existing { unreadable_rows: 0 });
    assert_eq!(book.outbox().len(), 1);
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let copies: Vec<_> = names.filter(|p| p.display().to_string().contains(".damaged-")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(fs::metadata(&copies[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read(&copies[0]).unwrap().windows(4).any(|w| w == b"ello"));
}

#[tokio::test]
async fn what_waited_in_a_full_queue_does_not_undo_what_came_later() {
    use futures_util::FutureExt as _;

    let dir = tempfile::tempdir().unwrap();
    let options = quick();
    let failpoint = Arc::clone(&options.failpoint);
    let book = Book::open_with(dir.path(), options).unwrap();
    failpoint.set_stalled(true);
    let attempts = (0..100_000).find(|attempts| {
        let row = Outbox { attempts: *attempts, ..row(&book, 1) };
        book.write(vec![Write::put(row)]).now_or_never() == Some(Err(BookError::Busy))
    });
    failpoint.set_stalled(false);
    until("a disk", || book.writable()).await;
    // Behind it, nothing of before waits any more.
    book.write(vec![Write::put(row(&book, 2))]).await.unwrap();
    drop(book);
    let book = Book::open(dir.path()).unwrap();
    assert_eq!(Some(book.outbox()[0].attempts), attempts);
}

#[tokio::test]
async fn a_full_disk_is_told_and_caught_up_with() {
    let dir = tempfile::tempdir().unwrap();
    let options = quick();
    let failpoint = Arc::clone(&options.failpoint);
    let book = Book::open_with(dir.path(), options).unwrap();
    book.write(vec![Write::put(row(&book, 1))]).await.unwrap();
    failpoint.set_full(true);
    let refused = book.write(vec![Write::put(row(&book, 2))]).await;
    assert!(matches!(refused, Err(BookError::Disk(_))), "{refused:?}");
    assert!(!book.writable());
    assert!(book.errors() > 0);
    assert!(book.write(vec![Write::Delete(Table::Outbox, "n1".into())]).await.is_err());
    assert_eq!(book.outbox().len(), 1, "memory goes on");
    failpoint.set_full(false);
    until("writable", || book.writable()).await;
    drop(book);
    let book = open(dir.path());
    let ids: Vec<_> = book.outbox().into_iter().map(|o| o.id).collect();
    assert_eq!(ids, ["n2"], "written down after the fact");
}

/// What was deleted while the disk was full stays deleted, also where the file could not even be opened for a while, and the
/// book stays ours meanwhile.
#[tokio::test]
async fn a_file_that_cannot_be_opened_for_a_while_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = quick();
    let failpoint = Arc::clone(&options.failpoint);
    let book = Book::open_with(dir.path(), options).unwrap();
    book.write(vec![Write::put(row(&book, 1)), Write::put(row(&book, 2))]).await.unwrap();
    failpoint.set_full(true);
    assert!(book.write(vec![Write::Delete(Table::Outbox, "n1".into())]).await.is_err());
    let before = book.errors();
    until("the file is closed", || book.errors() > before + 1).await;
    let (path, aside) = (dir.path().join("book.db"), dir.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    failpoint.set_full(false);
    let before = book.errors();
    until("it cannot be opened", || book.errors() > before + 1).await;
    assert!(matches!(Book::open(dir.path()), Err(BookError::Locked { .. })), "it is ours");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    until("writable", || book.writable()).await;
    let ids = |book: &Book| book.outbox().into_iter().map(|o| o.id).collect::<Vec<_>>();
    assert_eq!(ids(&book), ["n2"]);
    drop(book);
    assert_eq!(ids(&open(dir.path())), ["n2"]);
}

/// Nobody writes, and the book knows all the same.
#[tokio::test]
async fn a_disk_that_nobody_writes_to_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { prove_every: Duration::from_millis(20), ..quick() };
    let failpoint = Arc::clone(&options.failpoint);
    let book = Book::open_with(dir.path(), options).unwrap();
    book.write(vec![Write::put(row(&book, 1))]).await.unwrap();
    let log = || fs::metadata(dir.path().join("book.db-wal")).unwrap().len();
    let before = log();
    until("a page more in the log", || log() > before).await;
    assert!(book.writable());
    failpoint.set_full(true);
    until("not writable", || !book.writable()).await;
    failpoint.set_full(false);
    until("writable", || book.writable()).await;
    drop(book);
    assert_eq!(Book::open(dir.path()).unwrap().outbox().len(), 1);
}

#[tokio::test]
async fn a_disk_that_hangs_is_not_writable() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { prove_every: Duration::from_millis(20), ..quick() };
    let failpoint = Arc::clone(&options.failpoint);
    let book = Book::open_with(dir.path(), options).unwrap();
    failpoint.set_stalled(true);
    until("not writable", || !book.writable()).await;
    failpoint.set_stalled(false);
    until("writable", || book.writable()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_disk_does_not_hold_callers_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let options = quick();
    let failpoint = Arc::clone(&options.failpoint);
    let book = Book::open_with(dir.path(), options).unwrap();
    failpoint.set_stalled(true);
    assert_eq!(book.write(vec![Write::put(row(&book, 1))]).await, Err(BookError::Slow));
    assert_eq!(book.outbox().len(), 1);
    failpoint.set_stalled(false);
    drop(book);
    assert_eq!(open(dir.path()).outbox().len(), 1);
}

#[tokio::test]
async fn what_was_delivered_before_the_file_could_be_opened_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let book = Book::open(dir.path()).unwrap();
    book.write(vec![Write::put(row(&book, 1)), Write::put(row(&book, 2))]).await.unwrap();
    drop(book);
    let lock = dir.path().join("book.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let book = Book::open_with(dir.path(), quick()).unwrap();
    assert!(matches!(book.found(), Found::Unwritable { .. }));
    assert_eq!(book.outbox().len(), 2, "it can be read");
    book.write(vec![Write::Delete(Table::Outbox, "n1".into())]).await.unwrap_err();
    fs::remove_dir(&lock).unwrap();
    until("a disk", || book.writable()).await;
    assert_eq!(book.outbox().iter().map(|o| o.sequence).collect::<Vec<_>>(), [2]);
    drop(book);
    let book = Book::open(dir.path()).unwrap();
    assert_eq!(book.outbox().iter().map(|o| o.sequence).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_leaves_memory() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "in the way").unwrap();
    let folder = blocked.join("book");
    let book = Book::open_with(&folder, quick()).unwrap();
    assert!(matches!(book.found(), Found::Unwritable { .. }));
    assert!(book.write(vec![Write::put(row(&book, 1))]).await.is_err());
    assert_eq!(book.outbox().len(), 1);
    // The operator clears the way.
    fs::remove_file(&blocked).unwrap();
    until("writable", || book.writable()).await;
    drop(book);
    assert_eq!(open(&folder).outbox().len(), 1);
}

#[tokio::test]
async fn without_a_folder_nothing_is_durable() {
    let book = Book::in_memory();
    assert!(!book.writable());
    let refused = book.write(vec![Write::put(row(&book, 1))]).await;
    assert_eq!(refused, Err(BookError::MemoryOnly));
    assert_eq!(book.outbox().len(), 1);
}

#[tokio::test]
async fn many_callers_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    let writes: Vec<_> = (0..2_000).map(|i| book.write(vec![Write::put(row(&book, i))])).collect();
    for written in futures_util::future::join_all(writes).await {
        written.unwrap();
    }
    drop(book);
    assert_eq!(open(dir.path()).outbox().len(), 2_000);
}

/// A row of this version, so large that it needs pages of its own.
fn large(book: &Book, sequence: u64, version: u64, bytes: usize) -> Write {
    let payload = serde_json::json!({ "version": version, "text": "x".repeat(bytes) });
    Write::put(Outbox { payload, ..row(book, sequence) })
}

fn version(book: &Book, sequence: u64) -> Option<u64> {
    let rows = book.outbox();
    let row = rows.iter().find(|row| row.sequence == sequence)?;
    row.payload["version"].as_u64()
}

/// Not a failpoint: SQLite has no page left.
#[tokio::test]
async fn f7_a_file_that_cannot_grow_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = quick();
    let book = Book::open_with(dir.path(), options.clone()).unwrap();
    book.write(vec![large(&book, 1, 1, 10)]).await.unwrap();
    options.failpoint.set_pages(Some(1));
    let refused = book.write(vec![large(&book, 1, 2, 10), large(&book, 2, 2, 200_000)]).await;
    assert_eq!(refused, Err(BookError::Disk("database or disk is full".into())));
    assert!(!book.writable());
    assert_eq!((version(&book, 1), version(&book, 2)), (Some(2), Some(2)), "in memory");
    drop(book);

    // Neither of the two is on disk, and what was confirmed is.
    let book = Book::open_with(dir.path(), options.clone()).unwrap();
    assert_eq!((version(&book, 1), version(&book, 2)), (Some(1), None));
    assert!(book.write(vec![large(&book, 3, 3, 200_000)]).await.is_err());
    options.failpoint.set_pages(None);
    until("the book to be written down", || book.writable()).await;
    drop(book);
    let book = Book::open(dir.path()).unwrap();
    assert_eq!((version(&book, 1), version(&book, 3)), (Some(1), Some(3)));
}

/// What happens to a book in a file that may not always grow.
#[derive(Debug, Clone)]
enum Step {
    /// Two rows, at once.
    Write(u64, usize),
    /// No page more than now, or as many as it likes.
    Full(bool),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..6, 10_usize..30_000).prop_map(|(row, bytes)| Step::Write(row, bytes)),
        2 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::Reopen),
    ]
}

async fn take(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let options = quick();
    let mut book = Book::open_with(dir.path(), options.clone()).unwrap();
    let mut confirmed = [0; 6];
    let mut written = [0; 6];
    for (number, step) in (1..).zip(steps.into_iter().chain([Step::Full(false), Step::Reopen])) {
        match step {
            Step::Write(row, bytes) => {
                let pair =
                    [large(&book, row, number, bytes), large(&book, 100 + row, number, bytes)];
                let index = usize::try_from(row).unwrap();
                written[index] = number;
                if book.write(pair.into()).await.is_ok() {
                    confirmed[index] = number;
                }
            }
            Step::Full(is_full) => options.failpoint.set_pages(is_full.then_some(1)),
            Step::Reopen => {
                drop(book);
                book = Book::open_with(dir.path(), options.clone()).unwrap();
                for row in 0..6 {
                    let found = version(&book, row);
                    assert_eq!(found, version(&book, 100 + row), "both of row {row} or none");
                    let index = usize::try_from(row).unwrap();
                    let found = found.unwrap_or_default();
                    assert!((confirmed[index]..=written[index]).contains(&found), "row {row}");
                    (confirmed[index], written[index]) = (found, found);
                }
            }
        }
    }
    assert_eq!(confirmed, written);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever prefix of the write-ahead log a crash leaves behind, every confirmed transaction that it covers is
    /// whole: both of its rows are there, or neither.
    #[test]
    fn a_torn_log_leaves_whole_transactions(cut in 0.0_f64..1.0) {
        let dir = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let book = open(dir.path());
            for i in 0..10 {
                let mut second = row(&book, 100 + i);
                second.key = "pair".into();
                book.write(vec![Write::put(row(&book, i)), Write::put(second)]).await.unwrap();
            }
            // As a crash would leave it: not closed, not checkpointed.
            for name in ["book.db", "book.db-wal"] {
                fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
            }
        });
        let wal = copy.path().join("book.db-wal");
        let bytes = fs::read(&wal).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a fraction of a small file")]
        let keep = (bytes.len() as f64 * cut) as usize;
        fs::write(&wal, &bytes[..keep]).unwrap();
        let book = open(copy.path());
        let sequences: Vec<_> = book.outbox().iter().map(|o| o.sequence).collect();
        for i in 0..10 {
            prop_assert_eq!(sequences.contains(&i), sequences.contains(&(100 + i)));
        }
    }

    /// Whatever fails because SQLite is full is whole or not there, and what was confirmed is there.
    #[test]
    fn f7_a_full_file_loses_nothing_that_was_confirmed(
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(take(steps));
    }
}
