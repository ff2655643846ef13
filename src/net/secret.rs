//! Where a secret comes from: written in the configuration, or in a file that is read each time it is needed.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::model::{Mistakes, Secret};

/// How long a secret in a file may be, in bytes.
const MAX_SECRET_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    Inline(Secret),
    /// Read anew for every use, so that a rotated secret needs no reload.
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read {path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("{path} is empty")]
    Empty { path: String },
    #[error("{path} is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong { path: String },
}

impl SecretSource {
    /// One of `key` and `key_file`, as they were written.
    pub fn pick(
        key: &str,
        inline: Option<Secret>,
        file: Option<String>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        match (inline, file) {
            (Some(_), Some(_)) => {
                let what = format!("{key} and {key}_file are both given");
                mistakes.error(&format!("{key}_file"), what, "keep one of them");
                None
            }
            (Some(secret), None) => Some(Self::Inline(secret)),
            (None, Some(path)) => Some(Self::File(path.into())),
            (None, None) => None,
        }
    }

    /// As [`pick`](Self::pick), and an error when neither is there.
    pub fn require(
        key: &str,
        inline: Option<Secret>,
        file: Option<String>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let nothing = inline.is_none() && file.is_none();
        if nothing {
            let hint = format!("give {key}_file, the path of a file that holds it, or {key}");
            mistakes.error("", format!("{key} is missing"), hint);
        }
        Self::pick(key, inline, file, mistakes)
    }

    /// The secret, without white space around it. A file must hold one.
    pub async fn read(&self) -> Result<Secret, SecretError> {
        let secret = self.read_any().await?;
        match self {
            Self::File(path) if secret.reveal().is_empty() => {
                Err(SecretError::Empty { path: path.display().to_string() })
            }
            _ => Ok(secret),
        }
    }

    /// [`SecretSource::read`], where nothing at all may be the secret, as a password can be.
    pub async fn read_any(&self) -> Result<Secret, SecretError> {
        let path = match self {
            Self::Inline(secret) => return Ok(secret.clone()),
            Self::File(path) => path.clone(),
        };
        let shown = path.display().to_string();
        let looked = tokio::task::spawn_blocking(move || look(&path)).await;
        let looked = looked.unwrap_or_else(|ended| Err(std::io::Error::other(ended)));
        let text = looked.map_err(|error| SecretError::Read { path: shown.clone(), error })?;
        if text.len() > MAX_SECRET_BYTES {
            return Err(SecretError::TooLong { path: shown });
        }
        Ok(Secret::new(text.trim().to_owned()))
    }
}

fn look(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SECRET_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read().await, Err(SecretError::Read { .. })));
        std::fs::write(&path, " one\n").unwrap();
        assert_eq!(source.read().await.unwrap().reveal(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(source.read().await.unwrap().reveal(), "two");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(source.read().await, Err(SecretError::Empty { .. })));
        assert_eq!(source.read_any().await.unwrap().reveal(), "");
        std::fs::write(&path, "x".repeat(MAX_SECRET_BYTES + 1)).unwrap();
        assert!(matches!(source.read().await, Err(SecretError::TooLong { .. })));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(source.read_any().await, Err(SecretError::Read { .. })));
    }
}
