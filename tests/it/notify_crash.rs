//! Death at every step of a page, and what a restart makes of it.
//!
//! The process does not die here: the notifier stops where it would, and the book's files are copied as they are on disk
//! at that moment, unflushed and unclosed. That copy is what the next process opens.

use std::fs;
use std::path::Path;

use watchpost::book::Book;
use watchpost::model::Status;
use watchpost::notify::Boundary;

use crate::notify_delivery::{book, event, oncall, start, until};
use crate::support::fakes::{PagerDuty, Reply};

const BOUNDARIES: [Boundary; 5] =
    [Boundary::Decided, Boundary::Written, Boundary::Sent, Boundary::Answered, Boundary::Confirmed];

/// What a `kill -9` leaves behind.
fn remains(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["book.db", "book.db-wal"] {
        drop(fs::copy(from.join(name), to.path().join(name)));
    }
    to
}

/// The deadman's owner tells the present status after a start: it is still silent.
#[tokio::test(flavor = "multi_thread")]
async fn no_death_loses_a_page() {
    for boundary in BOUNDARIES {
        let dir = tempfile::tempdir().unwrap();
        let pagerduty = PagerDuty::start(&["k1"]).await;
        let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], Some(boundary));
        running.handle.change(event("backup", Status::Down));
        running.tasks.wait().await;
        let left = remains(dir.path());

        let running = start(book(left.path()), vec![oncall(&pagerduty, "k1")], None);
        running.handle.change(event("backup", Status::Down));
        until(&format!("{boundary:?}: an incident"), || pagerduty.open() == 1).await;
        until("a confirmation", || running.handle.snapshot().outbox.is_empty()).await;
        assert_eq!(pagerduty.opened(), 1, "{boundary:?}: one incident");
        assert_eq!(running.handle.snapshot().episodes.len(), 1, "{boundary:?}: one episode");
        running.stop().await;
    }
}

/// Once it is written, a page needs nobody to tell it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_sent_by_the_next_process_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    let died = Some(Boundary::Written);
    let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], died);
    running.handle.change(event("backup", Status::Down));
    running.tasks.wait().await;
    assert_eq!(pagerduty.http.count(), 0);
    let left = remains(dir.path());
    let running = start(book(left.path()), vec![oncall(&pagerduty, "k1")], None);
    until("an incident", || pagerduty.open() == 1).await;
    running.stop().await;
}

/// The status that was entered and the page about it are one transaction: either a restart knows both or neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_never_known_without_its_page() {
    for (boundary, is_known) in [(Boundary::Decided, false), (Boundary::Written, true)] {
        let dir = tempfile::tempdir().unwrap();
        let pagerduty = PagerDuty::start(&["k1"]).await;
        let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], Some(boundary));
        running.handle.change(event("backup", Status::Down));
        running.tasks.wait().await;
        let left = remains(dir.path());
        let book = Book::open(left.path()).unwrap();
        assert_eq!(book.status("deadman-backup").is_some(), is_known);
        assert_eq!(book.outbox().len(), usize::from(is_known));
        assert_eq!(book.episodes().len(), usize::from(is_known));
    }
}

/// Death at every step of the end as well: it is told, and told with the key that opened it.
#[tokio::test(flavor = "multi_thread")]
async fn no_death_loses_an_end() {
    for boundary in BOUNDARIES {
        let dir = tempfile::tempdir().unwrap();
        let pagerduty = PagerDuty::start(&["old", "new"]).await;
        let running = start(book(dir.path()), vec![oncall(&pagerduty, "old")], None);
        running.handle.change(event("backup", Status::Down));
        until("an incident", || pagerduty.open() == 1).await;
        until("a confirmation", || running.handle.snapshot().outbox.is_empty()).await;
        running.stop().await;

        // A pause ends an episode without waiting.
        let running = start(book(dir.path()), vec![oncall(&pagerduty, "new")], Some(boundary));
        running.handle.change(event("backup", Status::Paused));
        running.tasks.wait().await;
        let left = remains(dir.path());
        let running = start(book(left.path()), vec![oncall(&pagerduty, "new")], None);
        running.handle.change(event("backup", Status::Paused));
        until(&format!("{boundary:?}: an end"), || pagerduty.open() == 0).await;
        running.stop().await;
    }
}

/// A crash loop: every process gets one attempt out, and a restart does not make it wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_still_pages() {
    let mut dir = tempfile::tempdir().unwrap();
    let pagerduty = PagerDuty::start(&["k1"]).await;
    pagerduty.http.script(std::iter::repeat_n(Reply::text(500, ""), 3));
    for _ in 0..4 {
        let died = Some(Boundary::Confirmed);
        let running = start(book(dir.path()), vec![oncall(&pagerduty, "k1")], died);
        running.handle.change(event("backup", Status::Down));
        running.tasks.wait().await;
        dir = remains(dir.path());
    }
    assert_eq!((pagerduty.http.count(), pagerduty.opened()), (4, 1));
}
