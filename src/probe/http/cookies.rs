//! Cookies of one run, from one hop to the next.

use ::http::HeaderMap;
use ::http::header::SET_COOKIE;

use crate::net::http::Link;

/// How many cookies one run keeps.
const MAX_COOKIES: usize = 50;
/// The longest cookie, name and value together.
const MAX_COOKIE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Jar(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    name: String,
    value: String,
    /// The host that set it, or the domain that it named.
    domain: String,
    /// Whether hosts below `domain` get it too.
    below: bool,
    path: String,
    secure: bool,
}

impl Jar {
    /// Takes what a hop's answer sets.
    pub(super) fn keep(&mut self, link: &Link, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let Ok(text) = value.to_str() else { continue };
            let Some((cookie, expired)) = Cookie::read(text, link) else { continue };
            self.0.retain(|known| {
                (&known.name, &known.domain, &known.path)
                    != (&cookie.name, &cookie.domain, &cookie.path)
            });
            if !expired && self.0.len() < MAX_COOKIES {
                self.0.push(cookie);
            }
        }
    }

    /// The value of `Cookie` for a hop.
    pub(super) fn header(&self, link: &Link) -> Option<String> {
        let mut text = String::new();
        for cookie in self.0.iter().filter(|cookie| cookie.belongs(link)) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&cookie.name);
            text.push('=');
            text.push_str(&cookie.value);
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Cookie {
    fn read(text: &str, link: &Link) -> Option<(Self, bool)> {
        let mut parts = text.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() + value.len() > MAX_COOKIE_BYTES {
            return None;
        }
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: link.host.clone(),
            below: false,
            path: default_path(link.path.path()),
            secure: false,
        };
        let mut expired = false;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "domain" if !value.is_empty() => cookie.widen(value, link)?,
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "secure" => cookie.secure = true,
                "max-age" => expired = value.parse::<i64>().is_ok_and(|age| age <= 0),
                _ => {}
            }
        }
        Some((cookie, expired))
    }

    /// A host may set cookies for itself and for the domains above it, but not for a whole top-level domain.
    fn widen(&mut self, domain: &str, link: &Link) -> Option<()> {
        let domain = domain.trim_start_matches('.').to_ascii_lowercase();
        if domain == link.host {
            self.below = link.literal().is_none();
            return Some(());
        }
        let above = link.host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
        if !above || !domain.contains('.') || link.literal().is_some() {
            return None;
        }
        self.domain = domain;
        self.below = true;
        Some(())
    }

    fn belongs(&self, link: &Link) -> bool {
        let host = link.host == self.domain
            || (self.below
                && link.host.strip_suffix(&self.domain).is_some_and(|rest| rest.ends_with('.')));
        let path = link.path.path();
        let inside = path.strip_prefix(self.path.as_str()).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
        });
        host && inside && (!self.secure || link.is_tls())
    }
}

fn default_path(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(set: &[&str], from: &str, to: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for cookie in set {
            headers.append(SET_COOKIE, cookie.parse().unwrap());
        }
        let mut jar = Jar::default();
        jar.keep(&Link::target(from).unwrap(), &headers);
        jar.header(&Link::target(to).unwrap())
    }

    #[test]
    fn cookies_go_back_to_where_they_belong() {
        let all = Some("a=1; b=2".to_owned());
        assert_eq!(sent(&["a=1", "b=2; Path=/"], "a.example/x", "a.example/y"), all);
        assert_eq!(sent(&["a=1"], "a.example/", "b.example/"), None);
        assert_eq!(sent(&["a=1; Path=/deep"], "a.example/", "a.example/"), None);
        assert_eq!(sent(&["a=1; Secure"], "a.example/", "a.example/"), None);
        assert_eq!(sent(&["a=1", "a=; Max-Age=0"], "a.example/", "a.example/"), None);
        let one = Some("a=1".to_owned());
        assert_eq!(sent(&["a=1; Domain=x.example"], "a.x.example/", "b.x.example/"), one);
        assert_eq!(sent(&["a=1; Domain=example"], "a.example/", "b.example/"), None);
        assert_eq!(sent(&["a=1; Domain=other.example"], "a.example/", "other.example/"), None);
    }
}
