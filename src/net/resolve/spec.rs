//! A resolver of one module: which servers are asked instead of the system's.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::ResolverOpts;
use serde::{Deserialize, Deserializer, de};

use super::hosts::Hosts;
use super::lookup::{MAX_ROUNDS, MAX_SERVERS, Servers, parse_name};
use super::system::{Files, MAX_SEARCH, Settings};
use super::{DNS_PORT, Resolver};
use crate::model::{GoDuration, Mistakes, mistake};

const HOSTS: &str = "/etc/hosts";
/// How long one server has for one answer, where nothing is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A shorter time is a slip of the pen.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// The block `resolver:` of a module.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolverSpec {
    /// Name servers in the order in which they are asked: addresses, with a port where it is not 53.
    #[serde(default)]
    servers: Vec<Server>,
    /// Domains to try for short names. Default: none.
    #[serde(default)]
    search: Vec<String>,
    /// How long one server has for one answer; default 5s.
    timeout: Option<GoDuration>,
    /// Rounds through the servers; default 2.
    attempts: Option<usize>,
    /// Whether the system's hosts file is looked at first; default true.
    use_hosts_file: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Server(SocketAddr);

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text);
        let alone = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        alone.or_else(|_| text.parse()).map(Self).map_err(|_| {
            let what = format_args!("{text:?} is not the address of a name server");
            de::Error::custom(mistake(what, "write an address, as 10.0.0.53 or [fd00::53]:5353"))
        })
    }
}

impl ResolverSpec {
    /// Checks it, and makes it ready to be asked.
    pub fn build(self, mistakes: &mut Mistakes) -> Option<Resolver> {
        let timeout = self.timeout.map_or(Some(DEFAULT_TIMEOUT), GoDuration::positive);
        let Some(timeout) = timeout.filter(|timeout| *timeout >= MIN_TIMEOUT) else {
            mistakes.error("timeout", "no server answers in that time", "write 10ms or more");
            return None;
        };
        let attempts = self.attempts.unwrap_or(2);
        if !(1..=MAX_ROUNDS).contains(&attempts) {
            let what = format!("between 1 and {MAX_ROUNDS} rounds can be made");
            mistakes.error("attempts", what, "leave it out for 2");
            return None;
        }
        if self.servers.is_empty() || self.servers.len() > MAX_SERVERS {
            let what = format!("between 1 and {MAX_SERVERS} name servers can be asked");
            mistakes.error("servers", what, "list their addresses, or drop resolver");
            return None;
        }
        let addresses: Vec<_> = self.servers.iter().map(|server| server.0).collect();
        let mut options = ResolverOpts::default();
        (options.timeout, options.attempts) = (timeout, attempts);
        let mut servers = match Servers::new(&addresses, &options) {
            Ok(servers) => servers,
            Err(why) => {
                mistakes.error("servers", why, "");
                return None;
            }
        };
        servers.search = self.search_list(mistakes)?;
        Some(if self.use_hosts_file.unwrap_or(true) {
            let (files, settings) = Files::beside(servers, Path::new(HOSTS));
            Resolver::new(settings, Some(files))
        } else {
            let servers = Ok(Arc::new(servers));
            Resolver::new(Settings { hosts: Hosts::default(), servers }, None)
        })
    }

    fn search_list(
        &self,
        mistakes: &mut Mistakes,
    ) -> Option<Vec<hickory_resolver::proto::rr::Name>> {
        if self.search.len() > MAX_SEARCH {
            let what = format!("at most {MAX_SEARCH} search domains are tried");
            mistakes.error("search", what, "drop some");
            return None;
        }
        let mut names = Vec::with_capacity(self.search.len());
        for (index, text) in self.search.iter().enumerate() {
            let Ok(mut name) = parse_name(text) else {
                let what = format!("{text:?} is no domain");
                mistakes.error(&format!("search.{index}"), what, "write it as corp.example");
                return None;
            };
            name.set_fqdn(true);
            names.push(name);
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ResolverSpec, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_are_addresses_with_or_without_a_port() {
        let spec = read(
            r#"{"servers": ["10.0.0.53", "10.0.0.54:5353", "::1", "[::1]", "[fd00::53]:54"]}"#,
        );
        let shown: Vec<String> =
            spec.unwrap().servers.iter().map(|server| server.0.to_string()).collect();
        let wanted = ["10.0.0.53:53", "10.0.0.54:5353", "[::1]:53", "[::1]:53", "[fd00::53]:54"];
        assert_eq!(shown, wanted);
        for text in ["dns.example", "10.0.0.53:dns", "", "10.0.0"] {
            let wrong = read(&format!(r#"{{"servers": ["{text}"]}}"#)).unwrap_err();
            assert!(wrong.contains("is not the address of a name server"), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_a_mistake_of_its_key() {
        for (json, key) in [
            ("{}", "servers"),
            (r#"{"servers": ["::1"], "timeout": "1ms"}"#, "timeout"),
            (r#"{"servers": ["::1"], "timeout": "0s"}"#, "timeout"),
            (r#"{"servers": ["::1"], "attempts": 0}"#, "attempts"),
            (r#"{"servers": ["::1"], "attempts": 9}"#, "attempts"),
            (r#"{"servers": ["::1"], "search": ["ok", "a..b"]}"#, "search.1"),
        ] {
            let mut mistakes = Mistakes::default();
            assert!(read(json).unwrap().build(&mut mistakes).is_none(), "{json}");
            assert_eq!(mistakes.into_vec()[0].key, key, "{json}");
        }
    }
}
