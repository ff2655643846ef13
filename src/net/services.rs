//! Names of ports: what `/etc/services` says, and the few that are known without it.

use std::collections::HashMap;
use std::sync::OnceLock;

const FILE: &str = "/etc/services";

/// What Go's dialer knows on a machine without the file.
const KNOWN: [(&str, u16); 15] = [
    ("domain", 53),
    ("ftp", 21),
    ("ftps", 990),
    ("gopher", 70),
    ("http", 80),
    ("https", 443),
    ("imap2", 143),
    ("imap3", 220),
    ("imaps", 993),
    ("pop3", 110),
    ("pop3s", 995),
    ("smtp", 25),
    ("ssh", 22),
    ("submissions", 465),
    ("telnet", 23),
];

/// The port that `text` means: a number, or the name of a service in any case.
pub fn port(text: &str) -> Option<u16> {
    static SERVICES: OnceLock<HashMap<String, u16>> = OnceLock::new();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let services =
        SERVICES.get_or_init(|| read(&std::fs::read_to_string(FILE).unwrap_or_default()));
    services.get(&text.to_ascii_lowercase()).copied()
}

/// Names and aliases with their ports. The file comes before what is known, and TCP before UDP.
fn read(file: &str) -> HashMap<String, u16> {
    let mut services = HashMap::new();
    for wanted in ["tcp", "udp"] {
        for line in file.lines() {
            let entry = line.split_once('#').map_or(line, |(entry, _)| entry);
            let mut words = entry.split_whitespace();
            let (Some(name), Some(place)) = (words.next(), words.next()) else { continue };
            let Some((port, protocol)) = place.split_once('/') else { continue };
            let Some(port) = port.parse().ok().filter(|_| protocol == wanted) else { continue };
            for name in words.chain([name]) {
                services.entry(name.to_ascii_lowercase()).or_insert(port);
            }
        }
    }
    for (name, port) in KNOWN {
        services.entry(name.to_owned()).or_insert(port);
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_ports() {
        for (text, expected) in [
            ("80", Some(80)),
            ("0", Some(0)),
            ("https", Some(443)),
            ("DOMAIN", Some(53)),
            ("smtp", Some(25)),
            ("", None),
            ("65536", None),
            ("-1", None),
            ("+80", None),
            ("no-such-service", None),
        ] {
            assert_eq!(port(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_file_says_more_and_wins() {
        let file = "# no\nhttp 8080/tcp www WWW2 # web\nsyslog 514/udp\nshell 514/tcp\nhttp 81/udp\nbad x/tcp\nodd\n";
        let services = read(file);
        for (name, port) in
            [("http", 8080), ("www2", 8080), ("syslog", 514), ("shell", 514), ("https", 443)]
        {
            assert_eq!(services.get(name), Some(&port), "{name}");
        }
        assert!(!services.contains_key("bad") && !services.contains_key("no"));
        assert_eq!(read("")["domain"], 53);
    }
}
