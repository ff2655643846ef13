//! Opens the book, and waits for it while it belongs to another process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::book::{Book, BookError, Found};

/// Between two tries for a book that another process has.
const RETRY: Duration = Duration::from_secs(1);

/// The book in `folder`, or one in memory. Fails only with a book that a newer watchpost has written.
pub(super) async fn open(folder: Option<PathBuf>) -> Result<Book, BookError> {
    let Some(folder) = folder else { return Ok(Book::in_memory()) };
    let mut said = false;
    loop {
        match open_once(&folder).await {
            Err(error @ BookError::Locked { .. }) => {
                if !said {
                    tracing::warn!(%error, "not ready: waiting until the other process ends");
                    said = true;
                }
                tokio::time::sleep(RETRY).await;
            }
            Ok(book) => {
                describe(&folder, book.found());
                return Ok(book);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn open_once(folder: &Path) -> Result<Book, BookError> {
    let folder = folder.to_owned();
    let opened = tokio::task::spawn_blocking(move || Book::open(&folder)).await;
    opened.unwrap_or_else(|_| Err(BookError::Disk("opening it panicked".into())))
}

fn describe(folder: &Path, found: &Found) {
    let folder = folder.display();
    match found {
        Found::Nothing => {
            tracing::info!(%folder, "a new book: whatever is configured is armed from now on");
        }
        Found::Existing { unreadable_rows: 0 } => tracing::info!(%folder, "the book is open"),
        Found::Existing { unreadable_rows } => {
            tracing::error!(%folder, unreadable_rows, "the book is damaged: some rows are lost");
        }
        Found::Corrupt { kept_as, why } => {
            let kept_as = kept_as.display();
            tracing::error!(%folder, %kept_as, why, "the book was beyond repair: begun anew");
        }
        Found::Unwritable { why } => {
            tracing::error!(%folder, why, "the book cannot be written: going on from memory");
        }
        Found::NoFolder => {}
    }
}
