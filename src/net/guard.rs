//! Which addresses may be asked on demand, by whoever reaches the door.
//!
//! The addresses under which clouds hand out credentials are refused unless the list names them, also without a list.
//! A name is judged by what it resolves to as well: a name that somebody else controls cannot smuggle an address in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::Network;

/// A list that a reload may replace.
pub type Guard = Arc<ArcSwap<AllowList>>;

/// Hosts, networks and ports that may be asked. The default allows everything but metadata addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    patterns: Option<Vec<Pattern>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Host {
        host: HostPattern,
        port: Option<u16>,
    },
    /// A socket in the file system.
    Path(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    Name(String),
    /// With its leading dot.
    Suffix(String),
    Network(Network),
}

/// Where clouds answer questions about credentials.
const METADATA: [Network; 4] = [
    Network::new(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    Network::new(IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    Network::new(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    Network::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 128),
];

impl AllowList {
    /// Reads patterns: `host`, `*.suffix`, an address or network, each also with `:port`, `*`, or a socket's path. The
    /// error is what is wrong with the pattern at that place.
    pub fn parse(patterns: &[String]) -> Result<Self, (usize, String)> {
        let parsed = patterns.iter().enumerate().map(|(at, text)| {
            Pattern::parse(text)
                .ok_or_else(|| (at, format!("{text:?} is no host, network or port")))
        });
        Ok(Self { patterns: Some(parsed.collect::<Result<_, _>>()?) })
    }

    /// Why `host`, which is at `ip`, must not be asked. Without a port, one that fits any is enough.
    pub fn refusal(&self, host: &str, ip: IpAddr, port: Option<u16>) -> Option<String> {
        let ip = ip.to_canonical();
        let patterns = self.patterns.as_deref().unwrap_or_default();
        if METADATA.iter().any(|network| network.contains(ip))
            && !patterns.iter().any(|pattern| pattern.names_metadata(ip, port))
        {
            return Some(format!("{ip} is a link-local or metadata address that nobody allowed"));
        }
        let fits = |pattern: &Pattern| pattern.matches(host, Some(ip), port);
        let refused = self.patterns.as_ref().is_some_and(|list| !list.iter().any(fits));
        refused
            .then(|| format!("{} is not in the list of what may be asked", with_port(host, port)))
    }

    /// Why a name must not be asked, before it is resolved. Networks may still turn out to fit.
    pub fn refusal_of_name(&self, host: &str, port: Option<u16>) -> Option<String> {
        if let Some(ip) = literal(host) {
            return self.refusal(host, ip, port);
        }
        let fits = |pattern: &Pattern| pattern.matches(host, None, port);
        let refused = self.patterns.as_ref().is_some_and(|list| !list.iter().any(fits));
        refused
            .then(|| format!("{} is not in the list of what may be asked", with_port(host, port)))
    }

    /// Why the socket at `path` must not be asked.
    pub fn refusal_of_path(&self, path: &str) -> Option<String> {
        let fits = |pattern: &Pattern| match pattern {
            Pattern::Path(known) => known == path,
            Pattern::Host { .. } => false,
        };
        let refused = self.patterns.as_ref().is_some_and(|list| !list.iter().any(fits));
        refused.then(|| format!("{path} is not in the list of what may be asked"))
    }
}

fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.split_once('%').map_or(bare, |(address, _)| address).parse().ok()
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Some(Self::Path(text.to_owned()));
        }
        let (host, port) = split_port(text)?;
        let host = HostPattern::parse(host)?;
        Some(Self::Host { host, port })
    }

    fn matches(&self, name: &str, ip: Option<IpAddr>, asked: Option<u16>) -> bool {
        let Self::Host { host, port } = self else { return false };
        fits_port(*port, asked) && host.matches(name, ip)
    }

    /// Only a network within a metadata network names one: `0.0.0.0/0` is said too easily.
    fn names_metadata(&self, ip: IpAddr, asked: Option<u16>) -> bool {
        let Self::Host { host: HostPattern::Network(network), port } = self else { return false };
        let inside = METADATA.iter().any(|metadata| network.is_within(metadata));
        inside && network.contains(ip) && fits_port(*port, asked)
    }
}

fn fits_port(allowed: Option<u16>, asked: Option<u16>) -> bool {
    match (allowed, asked) {
        (Some(allowed), Some(asked)) => allowed == asked,
        _ => true,
    }
}

/// `host:port`, `[v6]:port`, or either alone; a bare IPv6 network has no port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { None } else { Some(port(rest.strip_prefix(':')?)?) };
        return Some((host, port));
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, rest)) => Some((host, Some(port(rest)?))),
        None => Some((text, None)),
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

impl HostPattern {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(network) = Network::parse(text) {
            return Some(Self::Network(network));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        let (name, is_suffix) = match name.strip_prefix('*') {
            Some(suffix) => (suffix.strip_prefix('.')?.to_owned(), true),
            None => (name, false),
        };
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        Some(if is_suffix { Self::Suffix(format!(".{name}")) } else { Self::Name(name) })
    }

    fn matches(&self, name: &str, ip: Option<IpAddr>) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Name(known) => *known == name,
            Self::Suffix(suffix) => name.ends_with(suffix.as_str()),
            // Without an address nobody knows yet.
            Self::Network(network) => ip.is_none_or(|ip| network.contains(ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> AllowList {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        AllowList::parse(&patterns).unwrap()
    }

    fn refused(list: &AllowList, host: &str, ip: &str, port: u16) -> bool {
        list.refusal(host, ip.parse().unwrap(), Some(port)).is_some()
    }

    #[test]
    fn without_a_list_only_metadata_is_refused() {
        let open = AllowList::default();
        assert!(!refused(&open, "a", "10.0.0.1", 80));
        for ip in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            assert!(refused(&open, "a", ip, 80), "{ip}");
        }
        assert!(refused(&open, "a", "100.100.100.200", 80), "Alibaba's");
        assert!(!refused(&open, "a", "100.100.100.201", 80));
        assert!(!refused(&open, "a", "fd00:ec2::253", 80));
        assert!(open.refusal_of_name("169.254.169.254", None).is_some());
        assert!(open.refusal_of_name("[fe80::1%eth0]", None).is_some());
        assert!(open.refusal_of_name("a.example", None).is_none());
        assert!(open.refusal_of_path("/run/x.sock").is_none());
    }

    #[test]
    fn names_networks_and_ports_are_told_apart() {
        let some = list(&["a.example", "*.b.example:443", "10.0.0.0/8", "[fd00::/8]:22", "/run/x"]);
        assert!(!refused(&some, "A.example.", "192.0.2.1", 80));
        assert!(!refused(&some, "x.b.example", "192.0.2.1", 443));
        assert!(refused(&some, "x.b.example", "192.0.2.1", 80));
        assert!(refused(&some, "b.example", "192.0.2.1", 443));
        assert!(!refused(&some, "any", "10.255.0.1", 1));
        assert!(refused(&some, "any", "11.0.0.1", 1));
        assert!(!refused(&some, "any", "fd12::1", 22));
        assert!(refused(&some, "any", "fd12::1", 23));
        assert!(some.refusal_of_path("/run/x").is_none());
        assert!(some.refusal_of_path("/run/y").is_some());
        // A network may still fit once the name is resolved.
        assert!(some.refusal_of_name("later.example", Some(80)).is_none());
        assert!(list(&["a.example"]).refusal_of_name("b.example", Some(80)).is_some());
    }

    #[test]
    fn metadata_must_be_named_by_itself() {
        assert!(refused(&list(&["*", "0.0.0.0/0"]), "a", "169.254.169.254", 80));
        assert!(!refused(&list(&["169.254.169.254:80"]), "a", "169.254.169.254", 80));
        assert!(refused(&list(&["169.254.169.254:80"]), "a", "169.254.169.254", 81));
        assert!(!refused(&list(&["169.254.0.0/16"]), "a", "169.254.1.1", 80));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for text in ["", "a b", "10.0.0.0/33", "a:0", "a:x", "[::1", "http://a", "*x"] {
            let parsed = AllowList::parse(&["ok".to_owned(), text.to_owned()]);
            assert_eq!(parsed.unwrap_err().0, 1, "{text}");
        }
        assert!(refused(&list(&[]), "a", "10.0.0.1", 80), "an empty list allows nothing");
    }
}
