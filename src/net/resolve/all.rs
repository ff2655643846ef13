//! All addresses of a name, in the order in which they are worth a try: for whoever must get through rather than measure.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout};

use super::lookup::{Miss, PATIENCE, Servers};
use super::{Deadline, IpFamily, IpPreference, Resolver, known, literal};
use crate::model::{Answer, Fault, Unknown};

/// The most addresses of a name that are tried. The time for connecting is divided among them.
const MAX_ADDRESSES: usize = 8;

/// How long a name that does not exist for one family may still exist for the other: some servers lie about IPv6. With
/// search domains this is waited for several times.
const DOUBT: Duration = Duration::from_millis(250);

type Found = Result<Vec<IpAddr>, Miss>;

impl Resolver {
    /// The addresses of a host that the configuration names: never an empty list, IPv6 first, families in turn (RFC 8305).
    /// Literals (also in brackets) are taken as they are; the guard is not asked.
    pub async fn addresses(&self, host: &str, deadline: Deadline) -> Result<Vec<IpAddr>, Answer> {
        if let Some(ip) = literal(host) {
            return Ok(vec![ip]);
        }
        let lookup = async {
            let settings = self.settings().await;
            if let Some(addresses) = known(host, &settings.hosts, IpPreference::default()) {
                return Ok(in_turn(addresses));
            }
            match &settings.servers {
                Ok(servers) => servers.addresses(host).await,
                Err(why) => Err(Unknown::Setup(why.clone()).into()),
            }
        };
        let late = |budget| Fault::ResolveTimeout { name: host.into(), budget }.into();
        deadline.limit(lookup).await.unwrap_or_else(|expired| Err(late(expired.budget)))
    }
}

impl Servers {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Answer> {
        let began = Instant::now();
        let mut miss = Miss::Nxdomain;
        for name in self.candidates(host).unwrap_or_default() {
            match self.both(&name).await {
                Ok(found) => return Ok(in_turn(&found)),
                Err(found) => miss = miss.or(found),
            }
            if miss.ends_search() {
                break;
            }
        }
        Err(miss.into_answer(host, IpPreference::default(), began.elapsed()))
    }

    async fn both(&self, name: &Name) -> Found {
        join(self.ask(name, RecordType::AAAA), self.ask(name, RecordType::A)).await
    }
}

/// What both say. Once one has said enough, the other has a little time only: some servers never answer for one type.
async fn join(one: impl Future<Output = Found>, other: impl Future<Output = Found>) -> Found {
    match select(pin!(one), pin!(other)).await {
        Either::Left((first, second)) => merge(first, second).await,
        Either::Right((first, second)) => merge(first, second).await,
    }
}

async fn merge(first: Found, second: impl Future<Output = Found>) -> Found {
    let patience = match &first {
        Ok(_) => Some(PATIENCE),
        Err(Miss::Nxdomain) => Some(DOUBT),
        Err(_) => None,
    };
    let second = match patience {
        Some(patience) => timeout(patience, second).await.ok(),
        None => Some(second.await),
    };
    match (first, second) {
        (Ok(mut found), Some(Ok(more))) => {
            found.extend(more);
            Ok(found)
        }
        (Ok(found), _) | (Err(_), Some(Ok(found))) => Ok(found),
        (Err(miss), Some(Err(other))) => Err(miss.or(other)),
        (Err(miss), None) => Err(miss),
    }
}

/// IPv6 first, then one of each family in turn, in the order given.
fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let of = |family| addresses.iter().copied().filter(move |ip| IpFamily::of(*ip) == family);
    let (mut six, mut four) = (of(IpFamily::V6), of(IpFamily::V4));
    let mut ordered = Vec::with_capacity(addresses.len().min(MAX_ADDRESSES));
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::net::SocketAddr;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let mixed = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "::1", "::2"]);
        assert_eq!(in_turn(&mixed), ips(&["::1", "192.0.2.1", "::2", "192.0.2.2", "192.0.2.3"]));
        assert_eq!(in_turn(&ips(&["192.0.2.1"])), ips(&["192.0.2.1"]));
        let many: Vec<IpAddr> = (0..=255).map(|n| [192, 0, 2, n].into()).collect();
        assert_eq!(in_turn(&many), many[..MAX_ADDRESSES]);
    }

    #[tokio::test(start_paused = true)]
    async fn both_families_are_told_whichever_comes_first() {
        let later = async |found: Found| {
            tokio::time::sleep(PATIENCE / 2).await;
            found
        };
        let (six, four) = (|| Ok(ips(&["::1"])), || Ok(ips(&["192.0.2.1"])));
        let all = Ok(ips(&["192.0.2.1", "::1"]));
        assert_eq!(join(later(six()), ready(four())).await, all);
        assert_eq!(join(ready(four()), later(six())).await, all);
        assert_eq!(join(ready(Err(Miss::NoAddress)), later(four())).await, four());
        assert_eq!(join(later(four()), ready(Err(Miss::NoAddress))).await, four());
        assert_eq!(join(ready(Err(Miss::Nxdomain)), ready(four())).await, four(), "a lie");
        let failed = Miss::Failed("SERVFAIL".into());
        let none = join(ready(Err(Miss::NoAddress)), later(Err(failed.clone()))).await;
        assert_eq!(none, Err(failed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_is_never_answered_costs_little() {
        let began = Instant::now();
        assert_eq!(join(pending(), ready(Ok(ips(&["::1"])))).await, Ok(ips(&["::1"])));
        assert_eq!(began.elapsed(), PATIENCE);
        let began = Instant::now();
        assert_eq!(join(pending(), ready(Err(Miss::Nxdomain))).await, Err(Miss::Nxdomain));
        assert_eq!(began.elapsed(), DOUBT);
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_server() {
        let nobody = Resolver::with_servers(Vec::<SocketAddr>::new());
        let deadline = || Deadline::after(Duration::from_secs(1));
        for (host, expected) in [
            ("192.0.2.1", &["192.0.2.1"][..]),
            ("[2001:db8::1]", &["2001:db8::1"]),
            ("localhost", &["::1", "127.0.0.1"]),
        ] {
            assert_eq!(nobody.addresses(host, deadline()).await, Ok(ips(expected)), "{host}");
        }
        let answer = nobody.addresses("a.example", deadline()).await.unwrap_err();
        assert_eq!(answer.reason(), Some("setup"));
    }
}
