//! One discovery file: noticing that it changed, reading it, keeping its last good list.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Decoder, FileGroup, targets_of};
use crate::model::{Stamp, Target};

/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// A file is taken for deleted when this many looks in a row miss it: writers that rename leave a gap.
const LOOKS_UNTIL_GONE: u32 = 2;
/// A file that is written in place again and again is read after this many looks, whether it holds still or not.
const LOOKS_UNTIL_READ: u32 = 5;

/// What changes when a file's content does. Seen through symlinks, so that swapping one changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// How a file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not there, or not looked at yet.
    Absent,
    Good,
    /// Cannot be read or understood; an earlier list is in use, if there was one.
    Bad(String),
}

/// What was logged about a file last, so that it is said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    None,
    /// The way to the file.
    Path,
    /// The file as it was then.
    Content(Fingerprint),
}

#[derive(Debug)]
pub(super) struct WatchedFile {
    path: Arc<Path>,
    state: State,
    /// The last good list.
    targets: Arc<[Target]>,
    /// What the file was like when it was last read, well or not.
    read: Option<Fingerprint>,
    read_at: Duration,
    /// What it was like at the last look.
    seen: Option<Fingerprint>,
    unsettled: u32,
    missed: u32,
    complained: Complaint,
}

impl WatchedFile {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            state: State::Absent,
            targets: [].into(),
            read: None,
            read_at: Duration::ZERO,
            seen: None,
            unsettled: 0,
            missed: 0,
            complained: Complaint::None,
        }
    }

    pub(super) const fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    pub(super) const fn targets(&self) -> &Arc<[Target]> {
        &self.targets
    }

    /// When the content that was last read was written, as unix time.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    pub(super) fn modified(&self) -> Option<f64> {
        let (seconds, nanos) = self.read?.modified;
        Some(seconds as f64 + nanos as f64 / 1e9)
    }

    /// Looks at the file, and reads it when it changed or was not read for `refresh`.
    pub(super) fn look(&mut self, now: Stamp, refresh: Duration, decoder: &Decoder) {
        match fs::metadata(&self.path) {
            Ok(metadata) => self.found(&metadata, now, refresh, decoder),
            Err(error) if is_absent(&error) => self.not_found(),
            Err(error) => self.unreadable(&error, None),
        }
    }

    /// Not there, as far as is known.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Absent && self.missed > 0
    }

    fn not_found(&mut self) {
        self.missed += 1;
        if self.state == State::Absent || self.missed < LOOKS_UNTIL_GONE {
            return;
        }
        tracing::warn!(file = %self.path.display(), targets = self.targets.len(), "discovery file is gone");
        self.state = State::Absent;
        self.targets = [].into();
        self.read = None;
        self.seen = None;
        self.complained = Complaint::None;
    }

    fn found(&mut self, metadata: &Metadata, now: Stamp, refresh: Duration, decoder: &Decoder) {
        self.missed = 0;
        let print = Fingerprint::of(metadata);
        let changed = self.read != Some(print);
        if !changed && now.boot.saturating_sub(self.read_at) < refresh {
            return;
        }
        if changed && !self.is_settled(print) {
            return;
        }
        let content = read(&self.path, metadata);
        match content {
            Ok((content, after)) => {
                // Somebody wrote while we read.
                if after != print && self.unsettled < LOOKS_UNTIL_READ {
                    self.seen = None;
                    self.unsettled += 1;
                    return;
                }
                self.take(&content, print, decoder);
            }
            Err(error) => return self.unreadable(&error, Some(print)),
        }
        self.unsettled = 0;
        self.read_at = now.boot;
        self.read = Some(print);
    }

    /// What kept the file from being read may be over at the next look without a change of the file.
    fn unreadable(&mut self, error: &io::Error, print: Option<Fingerprint>) {
        self.bad(&error.to_string(), print);
        self.read = None;
        self.unsettled = 0;
    }

    /// Whether the file holds still. One that was put in place whole does; one that is written in place must look the
    /// same twice, as half of a list may well be a valid list.
    fn is_settled(&mut self, print: Fingerprint) -> bool {
        let in_place = self.read.is_some_and(|read| read.is_same_file(&print));
        let still = self.seen == Some(print);
        self.seen = Some(print);
        if !in_place || still || self.unsettled >= LOOKS_UNTIL_READ {
            return true;
        }
        self.unsettled += 1;
        false
    }

    fn take(&mut self, content: &[u8], print: Fingerprint, decoder: &Decoder) {
        match decode(&self.path, content, decoder) {
            Ok(targets) => {
                if self.state != State::Good || *self.targets != *targets {
                    tracing::info!(file = %self.path.display(), targets = targets.len(), "read discovery file");
                }
                self.state = State::Good;
                self.complained = Complaint::None;
                if *self.targets != *targets {
                    self.targets = targets.into();
                }
            }
            Err(wrong) => self.bad(&wrong, Some(print)),
        }
    }

    /// Keeps the last good list, and says so once for each change of the file.
    fn bad(&mut self, wrong: &str, print: Option<Fingerprint>) {
        let complaint = print.map_or(Complaint::Path, Complaint::Content);
        if std::mem::replace(&mut self.complained, complaint) != complaint {
            let (file, kept) = (self.path.display(), self.targets.len());
            tracing::warn!(%file, kept, error = wrong, "discovery file cannot be used; its last good list is kept");
        }
        self.state = State::Bad(wrong.to_owned());
    }
}

/// A folder on the way that is a file is as absent as a missing one.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The content, and what the file was like after it was read.
fn read(path: &Path, metadata: &Metadata) -> io::Result<(Vec<u8>, Fingerprint)> {
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let too_large = || io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes"));
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut file = File::open(path)?;
    let mut content = Vec::new();
    (&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    Ok((content, Fingerprint::of(&file.metadata()?)))
}

fn decode(path: &Path, content: &[u8], decoder: &Decoder) -> Result<Vec<Target>, String> {
    let text = std::str::from_utf8(content)
        .map_err(|wrong| format!("not UTF-8 at byte {}", wrong.valid_up_to()))?;
    // An empty list is written `[]`; a file without anything is one that is being written.
    if text.trim().is_empty() {
        return Err("the file is empty; an empty list is written []".to_owned());
    }
    let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let groups: Vec<FileGroup> = if is_json {
        serde_json::from_str(text).map_err(|wrong| wrong.to_string())?
    } else {
        decoder(path, content)?
    };
    let mut targets = targets_of(groups).map_err(|wrong| wrong.to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for authorization in targets.iter_mut().filter_map(|target| target.authorization.as_mut()) {
        if let Some(file) = &mut authorization.credentials_file {
            *file = folder.join(&*file).to_string_lossy().into_owned();
        }
    }
    Ok(targets)
}
