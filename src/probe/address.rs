//! Choosing the address to ask, and the facts about that choice.

use std::net::IpAddr;

use super::{Ask, Report};
use crate::model::{Answer, Phase, family};
use crate::net::{IpPreference, fnv1a, services};

/// Splits `host:port`; IPv6 literals stand in brackets. The port must be there, as a number or a service's name.
pub(super) fn host_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match bare {
        Some(literal) => literal,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, services::port(port)?))
}

/// Resolves the host and records lookup time, family and hash, also when it fails. The port is what will be asked there.
pub(super) async fn resolve(
    ask: &Ask<'_>,
    (host, port): (&str, Option<u16>),
    preference: IpPreference,
    report: &mut Report,
) -> Result<IpAddr, Answer> {
    report.set(&family::PROBE_IP_PROTOCOL, 0.0);
    report.set(&family::PROBE_IP_ADDR_HASH, 0.0);
    let before = report.watch.took(Phase::Resolve).unwrap_or_default();
    let resolved =
        ask.net.resolver.resolve((host, port), preference, ask.deadline, &mut report.watch).await;
    report.watch.stop();
    let took = report.watch.took(Phase::Resolve).unwrap_or_default().saturating_sub(before);
    report.set(&family::PROBE_DNS_LOOKUP_TIME, took.as_secs_f64());
    let ip = resolved?;
    report.address = Some(ip);
    report.set(&family::PROBE_IP_PROTOCOL, if ip.is_ipv4() { 4.0 } else { 6.0 });
    report.set(&family::PROBE_IP_ADDR_HASH, f64::from(fnv1a(ip)));
    report.note(|| format!("resolved {host} to {ip}"));
    Ok(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_need_brackets() {
        assert_eq!(host_port("a.example:25"), Some(("a.example", 25)));
        assert_eq!(host_port("[::1]:25"), Some(("::1", 25)));
        assert_eq!(host_port("::1:25"), None);
        assert_eq!(host_port("[::1]:https"), Some(("::1", 443)));
        assert_eq!(host_port("a.example:smtp"), Some(("a.example", 25)));
        assert_eq!(host_port("a.example:"), None);
        assert_eq!(host_port("a.example"), None);
        assert_eq!(host_port("a.example:99999"), None);
    }
}
