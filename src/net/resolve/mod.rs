//! Names to addresses.
//!
//! Literals, names of the hosts file and `localhost` are known here; the rest is asked of name servers. Which of a name's
//! addresses is taken is blackbox's rule, in [`choose`].

mod all;
mod hosts;
mod lookup;
mod records;
mod runtime;
mod spec;
mod system;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_resolver::config::ResolverOpts;
use serde::{Deserialize, Deserializer};

use self::hosts::Hosts;
pub use self::lookup::parse_name;
use self::lookup::{Servers, no_address};
pub use self::spec::ResolverSpec;
use self::system::{Files, Settings};
use super::{Deadline, Guard, Stopwatch};
use crate::model::{Answer, Fault, Phase, Unknown};

const DNS_PORT: u16 = 53;

/// What `localhost` means where no file says otherwise (RFC 6761).
const LOOPBACK: [IpAddr; 2] = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// blackbox's `preferred_ip_protocol`: `ip6` and nothing mean IPv6, any other text means IPv4.
impl<'de> Deserialize<'de> for IpFamily {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if matches!(text.as_str(), "" | "ip6") { Self::V6 } else { Self::V4 })
    }
}

/// Which of a name's addresses is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPreference {
    pub family: IpFamily,
    /// Whether an address of the other family will do.
    pub fallback: bool,
}

impl Default for IpPreference {
    /// blackbox's default.
    fn default() -> Self {
        Self { family: IpFamily::V6, fallback: true }
    }
}

/// Turns names into addresses. Nothing is cached: each call asks, so that each run tells what is true now. Clones share
/// what they know of files.
#[derive(Debug, Clone)]
pub struct Resolver {
    knows: Arc<Knows>,
    /// What may be asked; everything without one.
    guard: Option<Guard>,
}

#[derive(Debug)]
struct Knows {
    current: ArcSwap<Settings>,
    /// `None` when no file is looked at.
    files: Option<Files>,
}

impl Resolver {
    /// A resolver that does what this machine's files say, also after they change. Files that cannot be used leave it
    /// without servers until they can.
    pub fn from_system() -> Self {
        Self::from_files(Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"))
    }

    /// [`Resolver::from_system`] with files of the caller's choice.
    pub fn from_files(resolv_conf: &Path, hosts: &Path) -> Self {
        let (files, settings) = Files::read(resolv_conf, hosts);
        Self::new(settings, Some(files))
    }

    /// A resolver that asks `servers`, in this order, and reads no file.
    #[expect(clippy::needless_pass_by_value, reason = "callers make the list for this")]
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        let servers = Servers::new(&servers, &ResolverOpts::default());
        let servers = servers.map(Arc::new).map_err(Into::into);
        Self::new(Settings { hosts: Hosts::default(), servers }, None)
    }

    fn new(settings: Settings, files: Option<Files>) -> Self {
        let knows = Knows { current: ArcSwap::from_pointee(settings), files };
        Self { knows: Arc::new(knows), guard: None }
    }

    /// Refuses addresses that `guard` does not allow.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Asks the servers of `other`, and refuses what this one refuses.
    #[must_use]
    pub fn asking(&self, other: &Self) -> Self {
        Self { knows: Arc::clone(&other.knows), guard: self.guard.clone() }
    }

    /// Whether `host` may be asked at `port`, as far as that is known before it is resolved: `ip` is its address where it
    /// was resolved already.
    pub fn permit(&self, host: &str, port: u16, ip: Option<IpAddr>) -> Result<(), Answer> {
        let refusal = |guard: &Guard| match ip {
            Some(ip) => guard.load().refusal(host, ip, Some(port)),
            None => guard.load().refusal_of_name(host, Some(port)),
        };
        match self.guard.as_ref().and_then(refusal) {
            Some(why) => Err(Unknown::NotAllowed(why.into()).into()),
            None => Ok(()),
        }
    }

    /// One address for `host`, in the phase `resolve`. Literals (also in brackets) are taken as they are. An address that
    /// the guard does not allow to be asked at `port` is not given out; without a port, as an echo has none, any fits.
    pub async fn resolve(
        &self,
        (host, port): (&str, Option<u16>),
        preference: IpPreference,
        deadline: Deadline,
        watch: &mut Stopwatch,
    ) -> Result<IpAddr, Answer> {
        let ip = self.resolve_ours(host, preference, deadline, watch).await?;
        match self.guard.as_ref().and_then(|guard| guard.load().refusal(host, ip, port)) {
            Some(why) => Err(Unknown::NotAllowed(why.into()).into()),
            None => Ok(ip),
        }
    }

    /// [`Resolver::resolve`] for a host that the configuration names, such as a proxy: the guard is not asked.
    pub async fn resolve_ours(
        &self,
        host: &str,
        preference: IpPreference,
        deadline: Deadline,
        watch: &mut Stopwatch,
    ) -> Result<IpAddr, Answer> {
        watch.enter(Phase::Resolve);
        let resolved = match literal(host) {
            Some(ip) => choose(&[ip], preference).ok_or_else(|| no_address(host, preference)),
            None => self.look_up(host, preference, deadline).await,
        };
        watch.stop();
        resolved
    }

    /// How names are resolved now.
    async fn settings(&self) -> Arc<Settings> {
        let Knows { current, files } = &*self.knows;
        if let Some(files) = files {
            files.refresh(current).await;
        }
        current.load_full()
    }

    async fn look_up(
        &self,
        host: &str,
        preference: IpPreference,
        deadline: Deadline,
    ) -> Result<IpAddr, Answer> {
        let lookup = async {
            let settings = self.settings().await;
            if let Some(addresses) = known(host, &settings.hosts, preference) {
                return choose(addresses, preference).ok_or_else(|| no_address(host, preference));
            }
            match &settings.servers {
                Ok(servers) => servers.lookup(host, preference).await,
                Err(why) => Err(Unknown::Setup(why.clone()).into()),
            }
        };
        match deadline.limit(lookup).await {
            Ok(found) => found,
            Err(expired) => {
                Err(Fault::ResolveTimeout { name: host.into(), budget: expired.budget }.into())
            }
        }
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// The addresses of a name that needs no server.
fn known<'a>(host: &str, hosts: &'a Hosts, preference: IpPreference) -> Option<&'a [IpAddr]> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let listed = hosts.lookup(&name);
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let will_do = listed.is_some_and(|addresses| choose(addresses, preference).is_some());
    if is_local && !will_do { Some(&LOOPBACK) } else { listed }
}

/// The first address of the preferred family; failing that, the last of the other, as blackbox does.
fn choose(addresses: &[IpAddr], preference: IpPreference) -> Option<IpAddr> {
    let wanted = addresses.iter().find(|ip| IpFamily::of(**ip) == preference.family);
    wanted.or(if preference.fallback { addresses.last() } else { None }).copied()
}

/// FNV-1a, 32 bits, over the bytes of an address: the value of `probe_ip_addr_hash`.
pub fn fnv1a(ip: IpAddr) -> u32 {
    let hash = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    };
    match ip {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::AllowList;

    #[test]
    fn hashes_are_blackbox_s() {
        assert_eq!(fnv1a("127.0.0.1".parse().unwrap()), 3_668_918_509);
        assert_eq!(fnv1a("::1".parse().unwrap()), 1_751_717_746);
    }

    #[test]
    fn the_other_family_is_taken_last_first() {
        let four: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let chosen = choose(&four, IpPreference::default());
        assert_eq!(chosen, Some(four[1]));
        let strict = IpPreference { family: IpFamily::V6, fallback: false };
        assert_eq!(choose(&four, strict), None);
    }

    #[test]
    fn literals_are_read_with_and_without_brackets() {
        for text in ["::1", "[::1]", "127.0.0.1"] {
            assert!(literal(text).is_some(), "{text}");
        }
        for text in ["", "[]", "a.example", "1.2.3", "127.0.0.1:53"] {
            assert!(literal(text).is_none(), "{text}");
        }
    }

    #[test]
    fn localhost_is_known_in_both_families_and_the_file_comes_first() {
        let only = |family| IpPreference { family, fallback: false };
        let four = Hosts::parse(b"127.0.0.1 localhost\n10.0.0.1 one");
        let ip = |text: &str| Some(Some(text.parse().unwrap()));
        let known = |host, hosts, preference| {
            known(host, hosts, preference).map(|addresses| choose(addresses, preference))
        };
        assert_eq!(known("localhost", &four, IpPreference::default()), ip("127.0.0.1"));
        assert_eq!(known("LOCALHOST.", &four, only(IpFamily::V6)), ip("::1"));
        let empty = Hosts::default();
        assert_eq!(known("localhost", &empty, only(IpFamily::V4)), ip("127.0.0.1"));
        assert_eq!(known("a.localhost", &empty, IpPreference::default()), ip("::1"));
        assert_eq!(known("one", &four, only(IpFamily::V6)), Some(None));
        assert_eq!(known("two", &four, IpPreference::default()), None);
    }

    #[tokio::test]
    async fn a_literal_of_the_other_family_is_no_address() {
        let resolver = Resolver::with_servers(Vec::new());
        let strict = IpPreference { family: IpFamily::V6, fallback: false };
        let deadline = Deadline::after(std::time::Duration::from_secs(1));
        let mut watch = Stopwatch::default();
        let answer =
            resolver.resolve(("127.0.0.1", None), strict, deadline, &mut watch).await.unwrap_err();
        assert_eq!(answer.to_string(), "name 127.0.0.1 has no IPv6 address");
        let answer =
            resolver.resolve(("a.example", None), strict, deadline, &mut watch).await.unwrap_err();
        assert_eq!(answer.reason(), Some("setup"));
    }

    #[tokio::test]
    async fn a_name_that_is_allowed_at_one_port_is_not_at_another() {
        let patterns = ["localhost:443", "10.0.0.0/8"].map(str::to_owned);
        let guard = Guard::new(ArcSwap::from_pointee(AllowList::parse(&patterns).unwrap()));
        let resolver = Resolver::with_servers(Vec::new()).guarded(guard);
        // The network may still turn out to fit, so the name alone decides nothing.
        assert!(resolver.permit("localhost", 22, None).is_ok());
        assert!(resolver.permit("localhost", 22, Some(LOOPBACK[1])).is_err());
        let deadline = Deadline::after(std::time::Duration::from_secs(1));
        for (port, allowed) in [(443, true), (22, false)] {
            let mut watch = Stopwatch::default();
            let to = ("localhost", Some(port));
            let found = resolver.resolve(to, IpPreference::default(), deadline, &mut watch).await;
            assert_eq!(found.is_ok(), allowed, "{port}: {found:?}");
        }
    }
}
