//! Basic authentication with bcrypt: one hash at a time, results kept, and the same work for names that nobody has.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Answers that are kept, of right and of wrong passwords each.
const MAX_KEPT: usize = 100;
/// Requests that may wait for their password to be looked at.
const MAX_WAITING: usize = 64;

type Key = [u8; 32];

/// What came of a look at a request's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    Right,
    Wrong,
    /// Too many others wait.
    Busy,
}

/// Answers that were worked out before.
#[derive(Debug)]
pub(super) struct Checker {
    right: Mutex<HashSet<Key>>,
    wrong: Mutex<HashSet<Key>>,
    waiting: Semaphore,
    working: Semaphore,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            right: Mutex::default(),
            wrong: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
            working: Semaphore::new(1),
        }
    }
}

impl Checker {
    pub(super) async fn check(
        &self,
        users: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Credentials {
        let Some((name, password)) = basic(headers) else { return Credentials::Wrong };
        let known = users.get(&name);
        // Whoever guesses a name waits as long as somebody who knows one.
        let Some(hash) = known.or_else(|| slowest(users)) else { return Credentials::Wrong };
        let key = key(&name, hash, &password);
        if known.is_some() && kept(&self.right, &key) {
            return Credentials::Right;
        }
        if kept(&self.wrong, &key) {
            return Credentials::Wrong;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Credentials::Busy };
        let Ok(_turn) = self.working.acquire().await else { return Credentials::Busy };
        if known.is_some() && kept(&self.right, &key) {
            return Credentials::Right;
        }
        let hash = hash.clone();
        let verified =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let right = verified.await.unwrap_or(false) && known.is_some();
        keep(if right { &self.right } else { &self.wrong }, key);
        if right { Credentials::Right } else { Credentials::Wrong }
    }
}

fn kept(answers: &Mutex<HashSet<Key>>, key: &Key) -> bool {
    answers.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
}

fn keep(answers: &Mutex<HashSet<Key>>, key: Key) {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    if answers.len() >= MAX_KEPT {
        // Whichever comes first in a hash set is as good as chosen at random.
        let any = answers.iter().next().copied();
        if let Some(any) = any {
            answers.remove(&any);
        }
    }
    answers.insert(key);
}

fn slowest(users: &BTreeMap<String, String>) -> Option<&String> {
    let cost = |hash: &&String| hash.get(4..6).and_then(|cost| cost.parse::<u8>().ok());
    users.values().max_by_key(cost)
}

fn key(name: &str, hash: &str, password: &[u8]) -> Key {
    let mut digest = Sha256::new();
    for part in [name.as_bytes(), hash.as_bytes(), password] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

fn basic(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    Some((String::from_utf8(name.to_vec()).ok()?, password.get(1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(name: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_the_right_password_of_the_right_name_is_right() {
        let hash = bcrypt::hash("open: sesame", 4).unwrap();
        let users = BTreeMap::from([("ali".to_owned(), hash)]);
        let checker = Checker::default();
        for _ in 0..2 {
            let answer = checker.check(&users, &asking("ali", "open: sesame")).await;
            assert_eq!(answer, Credentials::Right);
            for (name, password) in [("ali", "open"), ("baba", "open: sesame"), ("", "")] {
                let answer = checker.check(&users, &asking(name, password)).await;
                assert_eq!(answer, Credentials::Wrong, "{name}");
            }
        }
        assert_eq!(checker.check(&users, &HeaderMap::new()).await, Credentials::Wrong);
        assert_eq!(checker.right.lock().unwrap().len(), 1);
        // Another hash for the name: what was right is looked at again.
        let users = BTreeMap::from([("ali".to_owned(), bcrypt::hash("new", 4).unwrap())]);
        let answer = checker.check(&users, &asking("ali", "open: sesame")).await;
        assert_eq!(answer, Credentials::Wrong);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let answers = Mutex::default();
        for number in 0..1000_u32 {
            keep(&answers, key(&number.to_string(), "", b""));
        }
        assert_eq!(answers.lock().unwrap().len(), MAX_KEPT);
    }
}
