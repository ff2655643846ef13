//! The hosts file: names whose addresses are known without asking anybody.

use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses by name, in the order in which the file lists them.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    by_name: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Hosts {
    /// Reads what can be read; a line that is no entry is passed over, as the C library does.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut hosts = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            hosts.add(line.trim_start_matches('\u{feff}'));
        }
        hosts
    }

    fn add(&mut self, line: &str) {
        let entry = line.split_once('#').map_or(line, |(entry, _)| entry);
        let mut words = entry.split_whitespace();
        // A link-local address may carry its interface, which an `IpAddr` cannot hold.
        let address = words.next().and_then(|word| word.split('%').next()?.parse().ok());
        let Some(ip) = address else { return };
        for name in words {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let known = self.by_name.entry(name.into()).or_default();
            if !known.contains(&ip) {
                known.push(ip);
            }
        }
    }

    /// `name` is in lower case and has no dot at its end.
    pub(super) fn lookup(&self, name: &str) -> Option<&[IpAddr]> {
        self.by_name.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_the_rest_is_passed_over() {
        let hosts = Hosts::parse(
            b"\xef\xbb\xbf127.0.0.1 localhost\n# 1.1.1.1 no\n10.0.0.1\tA.Example. b # c\n\
              10.0.0.2 a.example\nnonsense x\n10.0.0.1 b\n\xff\xfe\nfe80::1%eth0 link\n::1",
        );
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(hosts.lookup("localhost"), Some(&[ip("127.0.0.1")][..]));
        assert_eq!(hosts.lookup("a.example"), Some(&[ip("10.0.0.1"), ip("10.0.0.2")][..]));
        assert_eq!(hosts.lookup("b"), Some(&[ip("10.0.0.1")][..]));
        assert_eq!(hosts.lookup("link"), Some(&[ip("fe80::1")][..]));
        for absent in ["no", "c", "x", ""] {
            assert_eq!(hosts.lookup(absent), None, "{absent}");
        }
    }
}
