//! Who sent a request: the peer, or whom a proxy that we trust names.

use std::net::IpAddr;

use axum::http::HeaderMap;

use crate::model::Network;

const FORWARDED: &str = "x-forwarded-for";
/// Proxies in a row that are looked at.
const MAX_HOPS: usize = 16;

/// The address at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The sender. Whoever is not trusted can write into the header what they like, so it is read from its end, and only as
/// long as those who wrote it are trusted.
pub(super) fn sender(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let values = headers.get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut sender = peer;
    for name in named.iter().rev().take(MAX_HOPS) {
        let Ok(ip) = name.parse::<IpAddr>() else { break };
        sender = ip.to_canonical();
        if !is_trusted(sender) {
            break;
        }
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        let trusted: Vec<Network> =
            trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        sender(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_proxies_that_are_trusted_are_believed() {
        assert_eq!(of("10.0.0.1", &["192.0.2.7"], &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["192.0.2.7"], &["10.0.0.0/8"]), "192.0.2.7");
        // The first entry may be a lie; the last untrusted one was written by our own proxy.
        assert_eq!(of("10.0.0.1", &["1.1.1.1, 192.0.2.7, 10.0.0.2"], &["10.0.0.0/8"]), "192.0.2.7");
        assert_eq!(of("10.0.0.1", &["1.1.1.1", "192.0.2.7"], &["10.0.0.0/8"]), "192.0.2.7");
        assert_eq!(of("192.0.2.9", &["10.0.0.2"], &["10.0.0.0/8"]), "192.0.2.9");
        assert_eq!(of("10.0.0.1", &["nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(of("::ffff:10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
    }
}
