//! Secrets that stand in the configuration or in a file that is read again when it changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::model::{Answer, Secret, Unknown};
use crate::net::Deadline;

/// The largest file that is read as a secret.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Where a secret comes from.
#[derive(Debug)]
pub(super) enum SecretSource {
    Inline(Arc<Secret>),
    File(SecretFile),
}

/// A file with a secret; white space around it does not count.
#[derive(Debug)]
pub(super) struct SecretFile {
    path: PathBuf,
    last: Mutex<Option<(SystemTime, u64, Arc<Secret>)>>,
}

impl SecretSource {
    pub(super) fn inline(secret: Secret) -> Self {
        Self::Inline(Arc::new(secret))
    }

    pub(super) fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(SecretFile { path: path.into(), last: Mutex::new(None) })
    }

    /// The secret as it is now.
    pub(super) async fn read(&self, deadline: Deadline) -> Result<Arc<Secret>, Answer> {
        match self {
            Self::Inline(secret) => Ok(Arc::clone(secret)),
            Self::File(file) => file.read(deadline).await,
        }
    }
}

impl SecretFile {
    async fn read(&self, deadline: Deadline) -> Result<Arc<Secret>, Answer> {
        let path = self.path.clone();
        let known = self.lock().as_ref().map(|(at, length, _)| (*at, *length));
        let looked = tokio::task::spawn_blocking(move || look(&path, known));
        let looked = deadline.limit(looked).await.map_err(|_| self.unusable("reading it hangs"))?;
        let looked = looked.map_err(|_| Answer::from(Unknown::Defect))?;
        match looked.map_err(|error| self.unusable(&error.to_string()))? {
            Looked::Unchanged => {}
            Looked::Read(at, length, text) => {
                let text = String::from_utf8(text).map_err(|_| self.unusable("it is not text"))?;
                let secret = Arc::new(Secret::new(text.trim().to_owned()));
                *self.lock() = Some((at, length, secret));
            }
        }
        let kept = self.lock().as_ref().map(|(_, _, secret)| Arc::clone(secret));
        kept.ok_or_else(|| Unknown::Defect.into())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(SystemTime, u64, Arc<Secret>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self, why: &str) -> Answer {
        Unknown::Setup(format!("{}: {why}", self.path.display()).into()).into()
    }
}

enum Looked {
    Unchanged,
    Read(SystemTime, u64, Vec<u8>),
}

fn look(path: &PathBuf, known: Option<(SystemTime, u64)>) -> std::io::Result<Looked> {
    let metadata = std::fs::metadata(path)?;
    let (at, length) = (metadata.modified()?, metadata.len());
    if known == Some((at, length)) {
        return Ok(Looked::Unchanged);
    }
    if length > MAX_SECRET_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(Looked::Read(at, length, std::fs::read(path)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretSource::file(&path);
        let deadline = Deadline::after(Duration::from_secs(5));
        let missing = source.read(deadline).await.unwrap_err();
        assert_eq!(missing.reason(), Some("setup"));
        for text in ["one", "three\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(source.read(deadline).await.unwrap().reveal(), text.trim());
            assert_eq!(source.read(deadline).await.unwrap().reveal(), text.trim());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(source.read(deadline).await.is_err());
    }
}
