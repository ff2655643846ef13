//! Which keys hold secrets, so that neither `/config` nor a problem's excerpt shows one.

/// Keys whose values are never shown, wherever they stand.
const KEYS: [&str; 14] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "client_certificate_key",
    "key",
    "secrets",
    "proxy_connect_header",
    "routing_key",
    "api_key",
    "token",
    "secret",
    "url_secret",
    "headers",
];

/// Whether the value under `key` may hold a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    KEYS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_no_secrets() {
        assert!(is_secret_key("password"));
        assert!(!is_secret_key("password_file"));
        assert!(!is_secret_key("key_file"));
    }
}
