//! Where a request goes: scheme, host, port and what is written behind them, kept as written.

use std::fmt;
use std::net::IpAddr;

use ::http::uri::PathAndQuery;

/// The longest address that is read, in bytes.
const MAX_LINK_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An `http` or `https` URL. Its path is sent as written; a fragment is dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    pub scheme: Scheme,
    /// Lower case, without brackets.
    pub host: String,
    /// As written; `None` is the scheme's own.
    pub explicit_port: Option<u16>,
    pub path: PathAndQuery,
    /// Name and password, decoded.
    pub userinfo: Option<(String, String)>,
}

impl Link {
    /// Reads a target: without a scheme it is `http`.
    pub fn target(text: &str) -> Option<Self> {
        match split_scheme(text) {
            Some((scheme, rest)) => Self::read(scheme, rest),
            None => Self::read(Scheme::Http, text),
        }
    }

    /// Reads an absolute URL.
    pub fn absolute(text: &str) -> Option<Self> {
        let (scheme, rest) = split_scheme(text)?;
        Self::read(scheme, rest)
    }

    fn read(scheme: Scheme, rest: &str) -> Option<Self> {
        if rest.len() > MAX_LINK_BYTES {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at_checked(end)?;
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(read_userinfo(userinfo)), authority),
            None => (None, authority),
        };
        let (host, explicit_port) = read_authority(authority)?;
        Some(Self { scheme, host, explicit_port, path: read_path(behind)?, userinfo })
    }

    /// The URL that a `Location` header means, seen from this one.
    pub fn join(&self, location: &str) -> Option<Self> {
        if split_scheme(location).is_some() {
            return Self::absolute(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::read(self.scheme, rest);
        }
        if location.starts_with('/') {
            return Some(Self { path: read_path(location)?, ..self.clone() });
        }
        let base = url::Url::parse(&self.to_string()).ok()?;
        let mut joined = Self::absolute(base.join(location).ok()?.as_str())?;
        if joined.scheme == self.scheme && joined.same_authority(self) {
            joined.userinfo.clone_from(&self.userinfo);
        }
        Some(joined)
    }

    pub fn port(&self) -> u16 {
        self.explicit_port.unwrap_or(self.scheme.port())
    }

    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The host if it is an address already.
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host[:port]` as it stands in a `Host` header.
    pub fn authority(&self) -> String {
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        match self.explicit_port {
            Some(port) => format!("{open}{}{close}:{port}", self.host),
            None => format!("{open}{}{close}", self.host),
        }
    }

    pub fn same_authority(&self, other: &Self) -> bool {
        self.host == other.host && self.port() == other.port()
    }
}

/// Without name and password.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    for (prefix, scheme) in [("http://", Scheme::Http), ("https://", Scheme::Https)] {
        if let Some((head, rest)) = text.split_at_checked(prefix.len())
            && head.eq_ignore_ascii_case(prefix)
        {
            return Some((scheme, rest));
        }
    }
    None
}

fn read_userinfo(text: &str) -> (String, String) {
    let (name, password) = text.split_once(':').unwrap_or((text, ""));
    (percent_decode(name), percent_decode(password))
}

pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (literal, behind) = rest.split_once(']')?;
            literal.parse::<std::net::Ipv6Addr>().ok()?;
            (literal, behind)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, text.split_at_checked(text.len() - port.len() - 1)?.1),
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((read_host(host)?, port))
}

fn read_host(host: &str) -> Option<String> {
    if host.is_empty() {
        return None;
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'~');
    if host.bytes().all(plain) {
        return Some(host.to_ascii_lowercase());
    }
    // Letters beyond ASCII: the name that DNS knows.
    url::Host::parse(host).ok().map(|host| host.to_string())
}

/// Path and query as written; what cannot stand in a request line is escaped.
fn read_path(text: &str) -> Option<PathAndQuery> {
    let text = text.split_once('#').map_or(text, |(before, _)| before);
    if text.is_empty() {
        return Some(PathAndQuery::from_static("/"));
    }
    let mut path = String::with_capacity(text.len() + 1);
    if !text.starts_with('/') {
        path.push('/');
    }
    for byte in text.bytes() {
        match byte {
            0..0x20 | 0x7f => return None,
            b' ' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'|' | b'\\' | b'^' | 0x80.. => {
                path.push('%');
                for digit in [byte >> 4, byte & 0xf] {
                    let hex = char::from_digit(u32::from(digit), 16).unwrap_or_default();
                    path.push(hex.to_ascii_uppercase());
                }
            }
            _ => path.push(char::from(byte)),
        }
    }
    PathAndQuery::try_from(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_blackbox_does() {
        for (text, shown, host, port) in [
            ("a.example", "http://a.example/", "a.example", 80),
            ("HTTPS://A.example", "https://a.example/", "a.example", 443),
            ("ftp.example/x y", "http://ftp.example/x%20y", "ftp.example", 80),
            ("http://[::1]:9100/m?q=1#f", "http://[::1]:9100/m?q=1", "::1", 9100),
            ("http://u:p%40@h.example/../a", "http://h.example/../a", "h.example", 80),
            ("127.0.0.1:8080?x", "http://127.0.0.1:8080/?x", "127.0.0.1", 8080),
            (
                "http://bücher.example/é",
                "http://xn--bcher-kva.example/%C3%A9",
                "xn--bcher-kva.example",
                80,
            ),
        ] {
            let link = Link::target(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (link.to_string().as_str(), link.host.as_str(), link.port()),
                (shown, host, port)
            );
        }
        for (text, password) in [("p%40", "p@"), ("100%+5", "100%+5"), ("%", "%"), ("%4", "%4")] {
            let link = Link::target(&format!("http://u:{text}@h.example/")).unwrap();
            assert_eq!(link.userinfo, Some(("u".to_owned(), password.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "http://",
            "http://:80",
            "http://[::1",
            "h:port",
            "h:99999",
            "http://a/\r\nx",
            "[x]",
        ] {
            assert!(Link::target(text).is_none(), "{text}");
        }
    }

    #[test]
    fn locations_are_relative_to_where_they_were_sent() {
        let base = Link::target("http://a.example:81/d/e?q").unwrap();
        for (location, to) in [
            ("/x", "http://a.example:81/x"),
            ("f", "http://a.example:81/d/f"),
            ("?r", "http://a.example:81/d/e?r"),
            ("//b.example/y", "http://b.example/y"),
            ("https://c.example", "https://c.example/"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), to);
        }
        let named = Link::target("http://u:p@a.example/d/e").unwrap();
        for (location, stays) in [
            ("/x", true),
            ("f", true),
            ("?r", true),
            ("//b.example/y", false),
            ("http://b/", false),
        ] {
            let joined = named.join(location).unwrap();
            assert_eq!(joined.userinfo.is_some(), stays, "{location}");
        }
        assert!(base.join("ftp://c.example/").is_none());
        assert!(base.join("http://").is_none());
    }
}
