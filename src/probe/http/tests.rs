//! What is checked when a module is loaded.

use super::*;

fn found(json: &str) -> Vec<(String, bool)> {
    let spec: Spec = serde_json::from_str(json).unwrap();
    let mut mistakes = Mistakes::default();
    let built = Prober::from_spec(spec, &Overrides::default(), &mut mistakes);
    assert_eq!(built.is_none(), mistakes.has_errors(), "{json}");
    mistakes.into_vec().into_iter().map(|m| (m.key, m.warning)).collect()
}

#[test]
fn keys_that_exclude_each_other_are_named() {
    for (json, key) in [
        (r#"{"body": "a", "body_file": "b"}"#, "http.body_file"),
        (r#"{"basic_auth": {}, "bearer_token": "x"}"#, "http.bearer_token"),
        (r#"{"basic_auth": {}, "authorization": {}}"#, "http.authorization"),
        (r#"{"bearer_token": "x", "bearer_token_file": "y"}"#, "http.bearer_token_file"),
        (r#"{"authorization": {"type": "BASIC"}}"#, "http.authorization.type"),
        (r#"{"basic_auth": {"password": "x", "password_file": "y"}}"#, "http.basic_auth.password"),
        (
            r#"{"proxy_url": "http://p", "proxy_from_environment": true}"#,
            "http.proxy_from_environment",
        ),
        (r#"{"no_proxy": "x"}"#, "http.no_proxy"),
        (r#"{"proxy_connect_header": {"A": ["b"]}}"#, "http.proxy_connect_header"),
        (r#"{"http_headers": {"Host": {"values": ["x"]}}}"#, "http.http_headers"),
        (r#"{"oauth2": {"token_url": "http://a"}}"#, "http.oauth2.client_id"),
        (r#"{"enable_http3": true}"#, "http.enable_http3"),
        (r#"{"valid_http_versions": ["HTTP/3.0"]}"#, "http.valid_http_versions"),
        (
            r#"{"compression": "gzip", "headers": {"accept-encoding": "br, gzip;q=0"}}"#,
            "http.compression",
        ),
        (r#"{"tls_config": {"cert": "x"}}"#, "http.tls_config.cert"),
    ] {
        assert!(found(json).contains(&(key.to_owned(), false)), "{json}: {:?}", found(json));
    }
}

#[test]
fn what_upstream_loads_is_loaded() {
    for json in [
        "{}",
        r#"{"authorization": {}}"#,
        r#"{"valid_http_versions": ["HTTP/1.1", "HTTP/2.0"]}"#,
        r#"{"compression": "gzip", "headers": {"Accept-Encoding": "*;q=0.5"}}"#,
        r#"{"proxy_url": "socks5://u:p@proxy.example", "no_proxy": "localhost"}"#,
        r#"{"proxy_from_environment": true, "proxy_connect_header": {"A": ["b"]}}"#,
    ] {
        assert_eq!(found(json), [], "{json}");
    }
    for json in
        [r#"{"method": "G T"}"#, r#"{"compression": "zip"}"#, r#"{"no_follow_redirects": true}"#]
    {
        assert!(found(json).iter().all(|(_, warning)| *warning), "{json}");
    }
}

#[test]
fn dates_have_three_forms() {
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ] {
        assert_eq!(http_date(text).map(Timestamp::as_second), Some(784_111_777), "{text}");
    }
    assert_eq!(http_date("yesterday"), None);
}
