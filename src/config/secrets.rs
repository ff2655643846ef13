//! Which keys hold secrets, so that neither `/config` nor a problem's excerpt shows one.

use super::yaml::Sight;

/// Keys whose values are never shown, wherever they stand.
const KEYS: [&str; 21] = [
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
    "uuid",
    "bearer",
    "api_token",
    "fail_url",
    "proxy_url",
    "proxy",
    "fallback_url",
];

/// Sections in which a URL is as good as a key.
const SECRET_URLS: [&str; 2] = ["receivers", "heartbeats"];

/// Whether the value under `key` may hold a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    KEYS.contains(&key)
}

/// What may be shown of the value at the end of this path of keys.
pub(super) fn sight(path: &[&str]) -> Sight {
    let Some((key, before)) = path.split_last() else { return Sight::AsWritten };
    let is_url = matches!(*key, "url" | "urls");
    if is_secret_key(key) || (is_url && before.first().is_some_and(|s| SECRET_URLS.contains(s))) {
        Sight::Secret
    } else if is_url || key.ends_with("_url") || matches!(*key, "api_server" | "alertmanagers") {
        Sight::Url
    } else {
        Sight::AsWritten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_no_secrets() {
        assert!(is_secret_key("password"));
        // Whoever goes through a proxy of a heartbeat may need a password for it.
        assert!(is_secret_key("proxy"));
        assert!(!is_secret_key("password_file"));
        assert!(!is_secret_key("key_file"));
    }

    #[test]
    fn the_url_of_a_hook_is_one() {
        assert_eq!(sight(&["receivers", "slack", "url"]), Sight::Secret);
        assert_eq!(sight(&["receivers", "opsgenie", "api_url"]), Sight::Url);
        assert_eq!(sight(&["modules", "a", "http", "oauth2", "token_url"]), Sight::Url);
        assert_eq!(sight(&["modules", "a", "http", "method"]), Sight::AsWritten);
    }
}
