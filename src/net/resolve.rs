//! Names to addresses.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use super::{Deadline, Stopwatch};
use crate::model::{Answer, Fault, Phase};

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

/// The system's resolver.
#[derive(Debug)]
pub struct Resolver {}

impl Resolver {
    pub fn from_system() -> Self {
        Self {}
    }

    /// One address for `host`, in the phase `resolve`. Literals (also in brackets) are taken as they are.
    pub async fn resolve(
        &self,
        host: &str,
        preference: IpPreference,
        deadline: Deadline,
        watch: &mut Stopwatch,
    ) -> Result<IpAddr, Answer> {
        watch.enter(Phase::Resolve);
        let looked_up =
            deadline.limit(tokio::net::lookup_host((host, 0))).await.map_err(|expired| {
                Fault::ResolveTimeout { name: host.into(), budget: expired.budget }
            })?;
        watch.stop();
        let addresses: Vec<IpAddr> = looked_up
            .map_err(|_| Fault::ResolveNxdomain { name: host.into() })?
            .map(|a| a.ip())
            .collect();
        choose(&addresses, preference).ok_or_else(|| {
            Fault::ResolveNoAddress { name: host.into(), family: preference.family.label() }.into()
        })
    }
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
}
