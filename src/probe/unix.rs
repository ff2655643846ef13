//! `unix`: does something accept a connection on a Unix socket, speak TLS, and say what is expected?

use serde::Deserialize;
use tokio::net::UnixStream;

use super::dialogue::{self, Dialogue, Setting, StepSpec};
use super::wire::Channel;
use super::{Ask, Blocks, Report, Verdict, certificates};
use crate::model::{Answer, Mistakes, Unknown};
use crate::net::{TlsClient, TlsSettings, dial_unix};

/// The name to ask for and to verify where neither target nor `tls_config` has one: a socket is on this host.
const SERVER_NAME: &str = "localhost";

/// The block `unix:` of a module. The target is the path of the socket.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What is said and expected, in this order. Nothing: a connection is all that is asked for.
    pub query_response: Option<Vec<StepSpec>>,
    /// Speak TLS from the beginning.
    #[serde(default)]
    pub tls: bool,
    pub tls_config: Option<TlsSettings>,
}

#[derive(Debug)]
pub struct Prober {
    dialogue: Dialogue,
    tls: bool,
    client: TlsClient,
}

impl Prober {
    #[expect(clippy::unnecessary_wraps, reason = "the table's contract")]
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = blocks.unix.take().unwrap_or_default();
        let settings = spec.tls_config.unwrap_or_default();
        let steps = spec.query_response.unwrap_or_default();
        let mut dialogue = Dialogue::default();
        mistakes.within("unix", |mistakes| {
            mistakes.within("tls_config", |mistakes| settings.check(mistakes));
            dialogue = dialogue::build(steps, spec.tls, mistakes);
        });
        Some(Self { dialogue, tls: spec.tls, client: TlsClient::new(settings) })
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        let path = ask.target.address.as_str();
        if path.is_empty() {
            return Err(Unknown::Setup("the target is no path of a socket".into()).into());
        }
        if self.tls {
            self.client.prepare(ask.deadline).await?;
        }
        let stream = dial_unix(path, ask.deadline, &mut report.watch).await?;
        report.note(|| format!("connected to {path}"));
        let server_name = ask.target.hostname.as_deref().unwrap_or(SERVER_NAME);
        let channel = self.channel(stream, server_name, ask, report).await?;
        let setting = Setting { tls: &self.client, server_name, deadline: ask.deadline };
        self.dialogue.hold(channel, setting, report).await
    }

    async fn channel(
        &self,
        stream: UnixStream,
        server_name: &str,
        ask: &Ask<'_>,
        report: &mut Report,
    ) -> Result<Channel<UnixStream>, Answer> {
        if !self.tls {
            return Ok(Channel::Plain(stream));
        }
        let shaken =
            self.client.handshake(stream, server_name, &[], ask.deadline, &mut report.watch).await;
        let (stream, session) = shaken?;
        certificates::tls_facts(report, &session);
        certificates::require_verified(&session)?;
        Ok(Channel::Tls(Box::new(stream)))
    }
}
