//! What `/probe` is asked: parameters of the query, and the target's spelling.

use url::form_urlencoded;

use crate::model::{MASK, override_key};
use crate::probe::MAX_OVERRIDES;

/// The module that is meant when none is named.
const DEFAULT_MODULE: &str = "http_2xx";
/// Before the name of a key of the module. Other parameters that nobody knows are passed over, as upstream does.
pub(super) const OVERRIDE: &str = "override_";

/// The query of `/probe`, decoded once. Of a repeated parameter the first counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) module: String,
    pub(super) target: String,
    pub(super) hostname: String,
    pub(super) debug: bool,
    /// Keys of the module that are to be set otherwise, each as often as it was given.
    pub(super) overrides: Vec<(String, String)>,
}

impl Parameters {
    pub(super) fn of(query: &str) -> Self {
        let first = |name: &str| first(query, name).unwrap_or_default();
        let module = Some(first("module")).filter(|name| !name.is_empty());
        Self {
            module: module.unwrap_or_else(|| DEFAULT_MODULE.to_owned()),
            target: first("target"),
            hostname: first("hostname"),
            debug: first("debug") == "true",
            overrides: overrides(query),
        }
    }
}

/// Every parameter with the prefix, as few more than are allowed as it takes to see that they are too many.
fn overrides(query: &str) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let ours = pairs.filter_map(|(name, value)| {
        Some((override_key(name.strip_prefix(OVERRIDE)?), value.into_owned()))
    });
    ours.take(MAX_OVERRIDES + 1).collect()
}

/// The first value of a parameter.
pub(in crate::web) fn first(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The target as it may be shown: a password in a URL is for whom it is sent to, and not for logs and pages.
pub(in crate::web) fn masked(target: &str) -> String {
    let begins = target.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = target.split_at(begins);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let named = authority.rsplit_once('@').and_then(|(userinfo, _)| {
        let (name, _) = userinfo.split_once(':')?;
        Some((name, rest.split_at(userinfo.len()).1))
    });
    match named {
        Some((name, behind)) => format!("{scheme}{name}:{MASK}{behind}"),
        None => target.to_owned(),
    }
}

/// The target as a prober can use it: decoded a second time where it was encoded twice, and only there.
///
/// blackbox_exporter decodes every target twice, which turns a `%2F` or a `+` that belongs to a path into something else.
pub(super) fn target(prober: &str, once: String) -> String {
    if is_usable(prober, &once) {
        return once;
    }
    match decode(&once) {
        Some(twice) if is_usable(prober, &twice) => twice,
        _ => once,
    }
}

/// Whether the part that names the peer can be one: no percent sign is left in it.
fn is_usable(prober: &str, target: &str) -> bool {
    if prober == "unix" {
        return target.contains('/') || !target.contains('%');
    }
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.split_at(end).0;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A zone of an IPv6 address is written with a percent sign.
    let behind = if host.starts_with('[') {
        host.rsplit_once(']').map_or(host, |(_, behind)| behind)
    } else if host.contains("::") {
        ""
    } else {
        host
    };
    !behind.contains('%')
}

/// Percent signs with two digits to bytes; `None` where one has none, or where no text comes out.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_in_a_target_is_not_shown() {
        for (target, shown) in [
            ("https://u:p@ss@a.example:8/x?q=u:p@b", "https://u:<secret>@a.example:8/x?q=u:p@b"),
            ("u:p@a.example", "u:<secret>@a.example"),
            ("https://u@a.example/", "https://u@a.example/"),
            ("a.example:25", "a.example:25"),
            ("/run/x:y@z", "/run/x:y@z"),
            ("http://a.example/@:x", "http://a.example/@:x"),
        ] {
            assert_eq!(masked(target), shown);
        }
    }

    #[test]
    fn the_first_of_a_repeated_parameter_counts() {
        let read = Parameters::of("target=a&target=b&module=&debug=TRUE&hostname=h");
        assert_eq!(read.target, "a");
        assert_eq!(read.module, "http_2xx");
        assert_eq!(read.hostname, "h");
        assert!(!read.debug);
        assert!(Parameters::of("debug=true").debug);
        let read = Parameters::of("override_method=GET&override_header_X_A=b%20c&overridden=1");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read.overrides, [pair("method", "GET"), pair("headers.x-a", "b c")]);
        assert_eq!(Parameters::of(""), Parameters { module: "http_2xx".into(), ..<_>::default() });
    }

    #[test]
    fn a_target_that_was_encoded_twice_is_decoded_twice() {
        let url = |query: &str| target("http", Parameters::of(&format!("target={query}")).target);
        // The cases of blackbox_exporter's own test.
        assert_eq!(url("http://127.0.0.1:9"), "http://127.0.0.1:9");
        assert_eq!(url("http://127.0.0.1%253A9"), "http://127.0.0.1:9");
        assert_eq!(url("http://127.0.0.1:9/x%3Ay"), "http://127.0.0.1:9/x:y");
        assert_eq!(url("http%253A%252F%252F127.0.0.1%253A9%252Fa"), "http://127.0.0.1:9/a");
        assert_eq!(target("tcp", "a.example%3A25".into()), "a.example:25");
        assert_eq!(target("unix", "%2Frun%2Fx".into()), "/run/x");
    }

    #[test]
    fn what_can_be_used_is_left_alone() {
        for text in [
            "http://a/x%2Fy?q=a%26b+c",
            "http://u:p%40ss@a/x",
            "a/%2F",
            "http://[fe80::1%25eth0]:80/",
            "a%zz:1",
        ] {
            assert_eq!(target("http", text.into()), text);
        }
        assert_eq!(target("icmp", "fe80::1%eth0".into()), "fe80::1%eth0");
        assert_eq!(target("unix", "/run/a%2Fb".into()), "/run/a%2Fb");
        assert_eq!(target("tcp", "%FF:1".into()), "%FF:1");
    }

    proptest! {
        #[test]
        fn any_query_is_read(query in "\\PC{0,200}", prober in "http|tcp|unix|dns") {
            let read = Parameters::of(&query);
            target(&prober, read.target);
        }
    }
}
