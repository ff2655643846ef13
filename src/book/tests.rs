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

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
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
    let book = Book::open(dir.path()).unwrap();
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

    let book = Book::open(dir.path()).unwrap();
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
    let book = Book::open(dir.path()).unwrap();
    let pid = Some(std::process::id());
    let Err(BookError::Locked { pid: held_by, .. }) = Book::open(dir.path()) else {
        panic!("opened twice");
    };
    assert_eq!(held_by, pid);
    drop(book);
    Book::open(dir.path()).unwrap();
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("book");
    let book = Book::open(&folder).unwrap();
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
    drop(Book::open(dir.path()).unwrap());
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
        let book = Book::open(dir.path()).unwrap();
        for i in 0..50 {
            book.write(vec![Write::put(row(&book, i))]).await.unwrap();
        }
        drop(book);
        let path = dir.path().join("book.db");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let book = Book::open(dir.path()).unwrap();
        let Found::Corrupt { kept_as, .. } = book.found() else {
            panic!("{name}: {:?}", book.found());
        };
        assert!(kept_as.exists(), "{name}");
        assert!(book.writable(), "{name}");
        assert!(book.outbox().is_empty(), "{name}");
        book.write(vec![Write::put(row(&book, 1))]).await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_row_drops_that_row_alone() {
    let dir = tempfile::tempdir().unwrap();
    let book = Book::open(dir.path()).unwrap();
    book.write(vec![Write::put(row(&book, 1)), Write::put(row(&book, 2))]).await.unwrap();
    drop(book);
    let path = dir.path().join("book.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|w| w == b"hello").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let book = Book::open(dir.path()).unwrap();
    assert_eq!(book.found(), &Found::Existing { unreadable_rows: 1 });
    assert_eq!(book.outbox().len(), 1);
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
    let book = Book::open(dir.path()).unwrap();
    let ids: Vec<_> = book.outbox().into_iter().map(|o| o.id).collect();
    assert_eq!(ids, ["n2"], "written down after the fact");
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
    assert_eq!(Book::open(dir.path()).unwrap().outbox().len(), 1);
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
    assert_eq!(Book::open(&folder).unwrap().outbox().len(), 1);
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
    let book = Book::open(dir.path()).unwrap();
    let writes: Vec<_> = (0..2_000).map(|i| book.write(vec![Write::put(row(&book, i))])).collect();
    for written in futures_util::future::join_all(writes).await {
        written.unwrap();
    }
    drop(book);
    assert_eq!(Book::open(dir.path()).unwrap().outbox().len(), 2_000);
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
            let book = Book::open(dir.path()).unwrap();
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
        let book = Book::open(copy.path()).unwrap();
        let sequences: Vec<_> = book.outbox().iter().map(|o| o.sequence).collect();
        for i in 0..10 {
            prop_assert_eq!(sequences.contains(&i), sequences.contains(&(100 + i)));
        }
    }
}
