//! How many runs go on at once: overall, and for one host.
//!
//! A run passes its host's gate first and the overall one second; who waits is let through in order of arrival. Not for
//! deciding when a run is due.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::phase::mix;

/// How many runs may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub in_flight: usize,
    /// Checks whose targets name the same host share this.
    pub per_host: usize,
}

impl Limits {
    /// Enough for ten thousand targets of which most hang for half of their interval.
    pub const IN_FLIGHT: usize = 8192;
    /// Generous: it keeps one host from taking all, and must not turn "a thousand targets there hang" into "unknown".
    pub const PER_HOST: usize = 2048;

    /// These limits when `lanes` lanes share them. A host belongs to one lane, so its limit stays whole.
    #[must_use]
    pub fn divided(self, lanes: usize) -> Self {
        Self { in_flight: self.in_flight.div_ceil(lanes.max(1)), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: Self::IN_FLIGHT, per_host: Self::PER_HOST }
    }
}

/// Stands for a host: the hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HostKey(u64);

impl HostKey {
    /// The host of an address as written: a URL, `host:port`, or a host.
    pub(super) fn of(address: &str) -> Self {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let bare = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
            Some((literal, _)) => literal,
            // More than one colon without brackets is an IPv6 literal, not a port.
            None => match host.split_once(':') {
                Some((name, port)) if !port.contains(':') => name,
                _ => host,
            },
        };
        let fnv = bare.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mix(fnv))
    }

    pub(super) const fn get(self) -> u64 {
        self.0
    }
}

/// Which limit holds a run back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Host,
    Overall,
}

#[derive(Debug, Default)]
struct Host {
    /// Runs that passed the host's gate: they go on, or wait for the overall gate.
    passed: usize,
    waiting: VecDeque<u32>,
}

/// Both limits, and who waits for them. Runs are known by the number of their slot.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    running: usize,
    hosts: HashMap<HostKey, Host>,
    ready: VecDeque<u32>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        let limits =
            Limits { in_flight: limits.in_flight.max(1), per_host: limits.per_host.max(1) };
        Self { limits, running: 0, hosts: HashMap::new(), ready: VecDeque::new() }
    }

    /// Lets a run through, or queues it and says for which limit.
    pub(super) fn enter(&mut self, slot: u32, host: HostKey) -> Result<(), Limit> {
        let there = self.hosts.entry(host).or_default();
        if there.passed >= self.limits.per_host {
            there.waiting.push_back(slot);
            return Err(Limit::Host);
        }
        there.passed += 1;
        if self.running >= self.limits.in_flight || !self.ready.is_empty() {
            self.ready.push_back(slot);
            return Err(Limit::Overall);
        }
        self.running += 1;
        Ok(())
    }

    /// A run has ended, or did not begin after all. Gives the slot that now waits for the overall limit only.
    pub(super) fn leave(&mut self, host: HostKey) -> Option<u32> {
        self.running -= 1;
        let Entry::Occupied(mut there) = self.hosts.entry(host) else { return None };
        let next = there.get_mut().waiting.pop_front();
        match next {
            Some(slot) => self.ready.push_back(slot),
            None => there.get_mut().passed -= 1,
        }
        if there.get().passed == 0 {
            there.remove();
        }
        next
    }

    /// The next slot that waited and may begin now. It counts as running.
    pub(super) fn admit(&mut self) -> Option<u32> {
        if self.running >= self.limits.in_flight {
            return None;
        }
        let slot = self.ready.pop_front()?;
        self.running += 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart_without_ports_and_paths() {
        let same = ["https://u:p@Shop.example:443/a?b#c", "shop.example", "shop.example:80"];
        assert!(same.iter().all(|a| HostKey::of(a) == HostKey::of("shop.example/x")), "{same:?}");
        assert_eq!(HostKey::of("[::1]:80"), HostKey::of("::1"));
        assert_eq!(HostKey::of("http://[::1]/"), HostKey::of("::1"));
        assert_ne!(HostKey::of("a.example"), HostKey::of("b.example"));
    }

    #[test]
    fn one_host_does_not_take_the_place_of_another() {
        let (a, b) = (HostKey::of("a"), HostKey::of("b"));
        let mut gate = Gate::new(Limits { in_flight: 3, per_host: 2 });
        assert_eq!(gate.enter(1, a), Ok(()));
        assert_eq!(gate.enter(2, a), Ok(()));
        assert_eq!(gate.enter(3, a), Err(Limit::Host));
        assert_eq!(gate.enter(4, b), Ok(()));
        assert_eq!(gate.enter(5, b), Err(Limit::Overall));
        assert_eq!(gate.admit(), None);
        assert_eq!(gate.leave(a), Some(3));
        // In order of arrival at the overall gate.
        assert_eq!(gate.admit(), Some(5));
        assert_eq!(gate.admit(), None);
        assert_eq!(gate.leave(b), None);
        assert_eq!(gate.admit(), Some(3));
        for host in [a, a, b] {
            gate.leave(host);
        }
        assert!(gate.hosts.is_empty());
        assert_eq!(gate.running, 0);
    }
}
