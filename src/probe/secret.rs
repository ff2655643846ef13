//! Secrets within a run: reading one takes of its time, and one that cannot be read is our trouble, not the target's.

use crate::model::{Answer, Secret, Unknown};
use crate::net::{Deadline, SecretSource};

/// The secret as it is now. A file is read in each run, so that a rotated secret needs no reload.
pub(super) async fn read(source: &SecretSource, deadline: Deadline) -> Result<Secret, Answer> {
    let read = deadline.limit(source.read_any()).await;
    let wrong = match read {
        Ok(Ok(secret)) => return Ok(secret),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "reading a secret hangs".to_owned(),
    };
    Err(Unknown::Setup(wrong.into()).into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_and_a_missing_one_is_our_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretSource::File(path.clone());
        let deadline = Deadline::after(Duration::from_secs(5));
        assert_eq!(read(&source, deadline).await.unwrap_err().reason(), Some("setup"));
        for text in ["one", "two\n", ""] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&source, deadline).await.unwrap().reveal(), text.trim());
        }
    }
}
