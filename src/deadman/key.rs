//! Keys that are compared without telling how much of them was right.

use sha2::{Digest, Sha256};

use crate::model::Secret;

/// The digest of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(crate::model::MASK)
    }
}

impl Key {
    pub fn new(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.reveal().as_bytes()).into())
    }

    /// Takes the same time for every wrong key of the same length.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let differences = self.0.iter().zip(presented).fold(0_u8, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differences) == 0
    }
}

/// The key in an `Authorization` header: a bearer token, or the password of basic credentials.
pub fn presented(authorization: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;

    let (scheme, rest) = authorization.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair.get(colon + 1..)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_matches() {
        let key = Key::new(&Secret::new("0123456789abcdef".into()));
        assert!(key.matches(b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcde", b"0123456789abcdef ", b"0123456789ABCDEF"] {
            assert!(!key.matches(wrong));
        }
        assert_eq!(format!("{key:?}"), "<secret>");
    }

    #[test]
    fn keys_come_as_token_or_as_password() {
        assert_eq!(presented("Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(presented("bearer  abc "), Some(b"abc".to_vec()));
        assert_eq!(presented("Basic dXNlcjphOmI="), Some(b"a:b".to_vec()));
        assert_eq!(presented("Basic ???"), None);
        assert_eq!(presented("Digest x"), None);
        assert_eq!(presented("abc"), None);
    }
}
