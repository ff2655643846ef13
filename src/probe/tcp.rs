//! `tcp`: does something accept a connection, speak TLS, and say what is expected?

use std::net::IpAddr;

use serde::Deserialize;

use super::dialogue::{self, Dialogue, Setting, StepSpec};
use super::{Ask, Blocks, Report, Verdict, address};
use crate::model::{Answer, Mistakes, Unknown};
use crate::net::{IpFamily, IpPreference, Source, TlsClient, TlsSettings, dial};

/// The block `tcp:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// The address that the connection leaves from.
    pub source_ip_address: Option<String>,
    /// What is said and expected, in this order. Nothing: a connection is all that is asked for.
    pub query_response: Option<Vec<StepSpec>>,
    /// Speak TLS from the beginning.
    #[serde(default)]
    pub tls: bool,
    pub tls_config: Option<TlsSettings>,
}

#[derive(Debug)]
pub struct Prober {
    preference: IpPreference,
    source: Option<String>,
    dialogue: Dialogue,
    tls: bool,
    client: TlsClient,
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.tcp.take().unwrap_or_default();
        let settings = spec.tls_config.unwrap_or_default();
        let steps = spec.query_response.unwrap_or_default();
        let mut dialogue = Dialogue::default();
        mistakes.within("tcp", |mistakes| {
            mistakes.within("tls_config", |mistakes| settings.check(mistakes));
            dialogue = dialogue::build(steps, spec.tls, mistakes);
        });
        let preference = IpPreference {
            family: spec.preferred_ip_protocol.unwrap_or(IpFamily::V6),
            fallback: spec.ip_protocol_fallback.unwrap_or(true),
        };
        Some(Self {
            preference,
            source: spec.source_ip_address.filter(|source| !source.is_empty()),
            dialogue,
            tls: spec.tls,
            client: TlsClient::new(settings),
        })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let Some((host, port)) = address::host_port(&ask.target.address) else {
            let detail = format!("{:?} is not host:port", ask.target.address);
            return Err(Unknown::Setup(detail.into()).into());
        };
        let ip = address::resolve(ask, (host, Some(port)), self.preference, report).await?;
        let source = source_address(self.source.as_deref())?;
        if self.tls {
            self.client.prepare(ask.deadline).await?;
        }
        let stream = dial(ip, port, source, ask.deadline, &mut report.watch).await?;
        report.note(|| format!("connected to {ip} port {port}"));
        let server_name = ask.target.hostname.as_deref().unwrap_or(host);
        let setting = Setting { tls: &self.client, server_name, deadline: ask.deadline };
        self.dialogue.hold(stream, self.tls, setting, report).await
    }
}

/// Reads `source_ip_address`. Upstream reads it at the run too: a wrong one is no mistake of the configuration.
pub(super) fn source_address(text: Option<&str>) -> Result<Source, Answer> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = text.parse::<IpAddr>();
    parsed
        .map(Some)
        .map_err(|_| Unknown::SourceAddress(format!("{text:?} is not an IP address").into()).into())
}
