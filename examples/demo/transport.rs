//! Certificates and names: what must be right before a service can be.

use std::error::Error;
use std::fs;

use super::certificates::Authority;
use super::names::{self, Manner};
use super::{Estate, Says};

pub(super) async fn start(estate: &mut Estate) -> Result<(), Box<dyn Error>> {
    certificates(estate).await?;
    dns(estate).await
}

async fn certificates(estate: &mut Estate) -> Result<(), Box<dyn Error>> {
    let root = Authority::root("Demo root")?;
    fs::write(estate.folder.join("ca.pem"), root.pem())?;
    let issuing = root.intermediate("Demo issuing")?;
    let fresh = issuing.server("localhost", (-10, 80))?;
    let soon = issuing.server("localhost", (-77, 13))?;
    let expired = issuing.server("localhost", (-92, -2))?;
    let other = issuing.server("www.elsewhere.example", (-10, 80))?;
    let foreign = Authority::root("Somebody else's root")?.server("localhost", (-10, 80))?;
    let incomplete =
        root.intermediate("Forgotten issuing")?.forgotten().server("localhost", (-10, 80))?;
    for (incident, acceptor, says) in [
        ("healthy", fresh, Says::Up),
        ("expires-in-13-days", soon, Says::Degraded("cert_expires_soon", None)),
        ("expired", expired, Says::Down("cert_expired", Some("tls"))),
        ("another-name", other, Says::Down("cert_name_mismatch", Some("tls"))),
        ("untrusted", foreign, Says::Down("cert_untrusted", Some("tls"))),
        ("incomplete-chain", incomplete, Says::Down("cert_untrusted", Some("tls"))),
    ] {
        let address = estate.servers.tls(acceptor).await?;
        estate.add("certificates", incident, format!("localhost:{}", address.port()), says);
    }
    Ok(())
}

async fn dns(estate: &mut Estate) -> Result<(), Box<dyn Error>> {
    for (incident, manner, says) in [
        ("healthy", Manner::Right, Says::Up),
        ("nxdomain", Manner::NoSuchName, Says::Down("dns_nxdomain", None)),
        ("servfail", Manner::Failing, Says::Down("dns_servfail", None)),
        ("wrong-answer", Manner::Outdated, Says::Down("dns_records", None)),
        ("truncated", Manner::Truncated, Says::Down("dns_truncated", None)),
        ("silent", Manner::Silent, Says::Down("dns_timeout", None)),
    ] {
        let address = names::serve(&mut estate.servers, manner).await?;
        estate.add("dns", incident, address.to_string(), says);
    }
    Ok(())
}
