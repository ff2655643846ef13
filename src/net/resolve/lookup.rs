//! Asking name servers: which names, which servers, which family, and what to make of their answers.
//!
//! Servers are asked in the system's order. The next one gets its turn when one fails, or stays silent for
//! [`HEAD_START`]: a dead first server costs a second and not the run.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use rustix::io::Errno;
use tokio::time::{Instant, timeout, timeout_at};

use super::runtime::Runtime;
use super::{IpFamily, IpPreference};
use crate::model::{Answer, Fault, Unknown};

/// How long a server may be silent before the next one is asked as well.
const HEAD_START: Duration = Duration::from_secs(1);

/// How long an address of the other family waits for one of the preferred family.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The most servers that are asked; the C library stops at three.
pub(super) const MAX_SERVERS: usize = 8;

/// The most rounds through the servers.
pub(super) const MAX_ROUNDS: usize = 5;

/// The library, asking one server.
type Client = Resolver<Runtime>;

/// The servers of one configuration.
pub(super) struct Servers {
    pub(super) each: Vec<Client>,
    /// Appended to short names, fully qualified.
    pub(super) search: Vec<Name>,
    ndots: usize,
    rounds: usize,
}

/// Why a name has no address for us.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Miss {
    Nxdomain,
    NoAddress,
    /// No server got the question: nobody is there, or no way leads there.
    Unreached(Box<str>),
    /// Every server was silent for as long as the system's configuration waits.
    Silent,
    Failed(Box<str>),
    Ours(Unknown),
}

impl Miss {
    /// Which of two misses says more about why: one that leaves doubt beats one that denies.
    const fn rank(&self) -> u8 {
        match self {
            Self::Nxdomain => 0,
            Self::NoAddress => 1,
            Self::Unreached(_) => 2,
            Self::Silent => 3,
            Self::Failed(_) => 4,
            Self::Ours(_) => 5,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Another server would say the same.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Nxdomain | Self::NoAddress | Self::Ours(_))
    }

    /// Other forms of the name would fare no better.
    pub(super) const fn ends_search(&self) -> bool {
        matches!(self, Self::Unreached(_) | Self::Silent | Self::Ours(_))
    }

    pub(super) fn into_answer(
        self,
        host: &str,
        preference: IpPreference,
        waited: Duration,
    ) -> Answer {
        let name = host.into();
        match self {
            Self::Nxdomain => Fault::ResolveNxdomain { name }.into(),
            Self::NoAddress => no_address(host, preference),
            Self::Unreached(detail) => Unknown::NoResolver(detail).into(),
            Self::Silent => Fault::ResolveTimeout { name, budget: waited }.into(),
            Self::Failed(detail) => Fault::ResolveServfail { name, detail }.into(),
            Self::Ours(unknown) => unknown.into(),
        }
    }
}

pub(super) fn no_address(host: &str, preference: IpPreference) -> Answer {
    let family = if preference.fallback { "IP" } else { preference.family.label() };
    Fault::ResolveNoAddress { name: host.into(), family }.into()
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("each", &self.each.len())
            .field("search", &self.search)
            .finish_non_exhaustive()
    }
}

impl Servers {
    /// `options` carries what `resolv.conf` says: dots, timeout, attempts, EDNS.
    pub(super) fn new(addresses: &[SocketAddr], options: &ResolverOpts) -> Result<Self, String> {
        let each: Result<Vec<_>, _> =
            addresses.iter().take(MAX_SERVERS).map(|address| client(*address, options)).collect();
        let each = each.map_err(|error| error.to_string())?;
        if each.is_empty() {
            return Err("no name server".to_owned());
        }
        let rounds = options.attempts.clamp(1, MAX_ROUNDS);
        Ok(Self { each, search: Vec::new(), ndots: options.ndots, rounds })
    }

    /// One address of `host`.
    pub(super) async fn lookup(
        &self,
        host: &str,
        preference: IpPreference,
    ) -> Result<IpAddr, Answer> {
        let began = Instant::now();
        let mut miss = Miss::Nxdomain;
        for name in self.candidates(host).unwrap_or_default() {
            match self.address(&name, preference).await {
                Ok(ip) => return Ok(ip),
                Err(found) => miss = miss.or(found),
            }
            if miss.ends_search() {
                break;
            }
        }
        Err(miss.into_answer(host, preference, began.elapsed()))
    }

    /// The names to try, in order; `None` when `host` cannot be a name.
    pub(super) fn candidates(&self, host: &str) -> Option<Vec<Name>> {
        let mut plain = parse_name(host).ok().filter(|name| name.num_labels() > 0)?;
        let qualified = plain.is_fqdn();
        let dots = host.matches('.').count();
        let searched: Vec<_> = if qualified {
            Vec::new()
        } else {
            let relative = plain.clone();
            self.search.iter().filter_map(|s| relative.clone().append_domain(s).ok()).collect()
        };
        plain.set_fqdn(true);
        let mut names = searched;
        let at = if qualified || dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, plain);
        Some(names)
    }

    async fn address(&self, name: &Name, preference: IpPreference) -> Result<IpAddr, Miss> {
        let (wanted, other) = match preference.family {
            IpFamily::V4 => (RecordType::A, RecordType::AAAA),
            IpFamily::V6 => (RecordType::AAAA, RecordType::A),
        };
        if preference.fallback {
            return either(self.ask(name, wanted), self.ask(name, other)).await;
        }
        first(&self.ask(name, wanted).await?)
    }

    /// The addresses that the first server with a say has; never an empty list.
    pub(super) async fn ask(&self, name: &Name, record: RecordType) -> Result<Vec<IpAddr>, Miss> {
        let turns = self.each.len() * self.rounds;
        let mut turn = 0;
        let mut asked = FuturesUnordered::new();
        let mut miss: Option<Miss> = None;
        loop {
            if turn < turns {
                asked.push(ask_one(&self.each[turn % self.each.len()], name, record));
                turn += 1;
            }
            // A second question to a server that has not answered the first would be answered together with it.
            let hurry = turn < self.each.len();
            let next = if hurry {
                timeout(HEAD_START, asked.next()).await
            } else {
                Ok(asked.next().await)
            };
            match next {
                Err(_) => {}
                Ok(None) => return Err(miss.unwrap_or(Miss::Silent)),
                Ok(Some(Ok(found))) => return Ok(found),
                Ok(Some(Err(found))) if found.is_final() => return Err(found),
                Ok(Some(Err(found))) => {
                    miss = Some(match miss {
                        Some(miss) => miss.or(found),
                        None => found,
                    });
                }
            }
        }
    }
}

/// Reads a name as it is written; only names beyond ASCII are put into the form that DNS has for them.
pub fn parse_name(text: &str) -> Result<Name, ProtoError> {
    if text.is_ascii() { Name::from_ascii(text) } else { Name::from_utf8(text) }
}

/// A client of one server; choosing between servers is done here.
fn client(address: SocketAddr, options: &ResolverOpts) -> Result<Client, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = Resolver::builder_with_config(config, Runtime::default());
    let chosen = builder.options_mut();
    chosen.timeout = options.timeout;
    chosen.edns0 = options.edns0;
    chosen.attempts = 0;
    chosen.num_concurrent_reqs = 1;
    chosen.use_hosts_file = ResolveHosts::Never;
    // Each run asks: what a cache remembers says nothing about now.
    chosen.cache_size = 0;
    chosen.positive_max_ttl = Some(Duration::ZERO);
    chosen.negative_max_ttl = Some(Duration::ZERO);
    builder.build()
}

async fn ask_one(server: &Client, name: &Name, record: RecordType) -> Result<Vec<IpAddr>, Miss> {
    let found = server.lookup(name.clone(), record).await.map_err(|error| understand(&error))?;
    let addresses: Vec<_> = found
        .answers()
        .iter()
        .filter(|answer| answer.record_type() == record)
        .filter_map(|answer| answer.data.ip_addr())
        .collect();
    if addresses.is_empty() { Err(Miss::NoAddress) } else { Ok(addresses) }
}

pub(super) fn understand(error: &NetError) -> Miss {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Miss::Nxdomain,
            ResponseCode::NoError => Miss::NoAddress,
            code => Miss::Failed(code.to_str().into()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Miss::Failed(code.to_str().into()),
        NetError::Timeout => Miss::Silent,
        // What the library makes of a socket's error when it has asked nobody else.
        NetError::NoConnections => {
            Miss::Unreached("nothing takes questions there, or no socket can be had".into())
        }
        NetError::Io(io) => match Errno::from_io_error(io) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                Miss::Ours(Unknown::NoDescriptors)
            }
            Some(Errno::ACCESS | Errno::PERM) => {
                Miss::Ours(Unknown::NoPermission(io.to_string().into()))
            }
            Some(
                Errno::CONNREFUSED
                | Errno::NETUNREACH
                | Errno::HOSTUNREACH
                | Errno::NETDOWN
                | Errno::ADDRNOTAVAIL,
            ) => Miss::Unreached(io.to_string().into()),
            _ => Miss::Failed(io.to_string().into()),
        },
        other => Miss::Failed(other.to_string().into()),
    }
}

fn first(addresses: &[IpAddr]) -> Result<IpAddr, Miss> {
    addresses.first().copied().ok_or(Miss::NoAddress)
}

/// Asks for both families at once: the first address of the wanted one, failing that the last of the other.
async fn either(
    wanted: impl Future<Output = Result<Vec<IpAddr>, Miss>>,
    other: impl Future<Output = Result<Vec<IpAddr>, Miss>>,
) -> Result<IpAddr, Miss> {
    let (wanted, other) = (pin!(wanted), pin!(other));
    let (wanted, other) = match select(wanted, other).await {
        Either::Left((Ok(found), _)) => return first(&found),
        Either::Left((Err(miss), other)) => (Err(miss), other.await),
        Either::Right((Ok(found), wanted)) => {
            // Some servers never answer for the other type; an address in hand is worth more than the wait for it.
            let patience = timeout_at(Instant::now() + PATIENCE, wanted).await;
            (patience.unwrap_or(Err(Miss::Silent)), Ok(found))
        }
        Either::Right((Err(miss), wanted)) => (wanted.await, Err(miss)),
    };
    match (wanted, other) {
        (Ok(found), _) => first(&found),
        (Err(_), Ok(found)) => found.last().copied().ok_or(Miss::NoAddress),
        (Err(miss), Err(other)) => Err(miss.or(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_wanted_family_wins_and_the_other_helps_out() {
        let six = || Ok(ips(&["::1", "::2"]));
        let four = || Ok(ips(&["192.0.2.1", "192.0.2.2"]));
        let ip = |text: &str| Ok(text.parse::<IpAddr>().unwrap());
        assert_eq!(either(ready(six()), ready(four())).await, ip("::1"));
        assert_eq!(either(ready(Err(Miss::NoAddress)), ready(four())).await, ip("192.0.2.2"));
        assert_eq!(either(ready(six()), pending()).await, ip("::1"));
        let failed = Miss::Failed("SERVFAIL".into());
        assert_eq!(either(ready(Err(failed.clone())), ready(four())).await, ip("192.0.2.2"));
        let none = either(ready(Err(Miss::NoAddress)), ready(Err(failed.clone()))).await;
        assert_eq!(none, Err(failed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_is_never_answered_costs_a_second_only() {
        let began = Instant::now();
        let found = either(pending(), ready(Ok(ips(&["192.0.2.1"])))).await;
        assert_eq!(found, Ok("192.0.2.1".parse().unwrap()));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
