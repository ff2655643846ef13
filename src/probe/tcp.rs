//! `tcp`: does something accept a connection?

use serde::Deserialize;

use super::{Ask, Blocks, Report, Verdict, address};
use crate::model::{Mistakes, Unknown};
use crate::net::{IpFamily, IpPreference, dial};

/// The block `tcp:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
}

#[derive(Debug)]
pub struct Prober {
    preference: IpPreference,
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, _: &mut Mistakes) -> Option<Self> {
        let spec = blocks.tcp.take().unwrap_or_default();
        let preference = IpPreference {
            family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
            fallback: spec.ip_protocol_fallback.unwrap_or(true),
        };
        Some(Self { preference })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let Some((host, port)) = address::host_port(&ask.target.address) else {
            let detail = format!("{:?} is not host:port", ask.target.address);
            return Err(Unknown::Setup(detail.into()).into());
        };
        let ip = address::resolve(ask, host, self.preference, report).await?;
        dial(ip, port, None, ask.deadline, &mut report.watch).await?;
        Ok(())
    }
}
