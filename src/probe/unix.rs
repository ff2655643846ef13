//! `unix`: does something accept a connection on a Unix socket, speak TLS, and say what is expected?

use serde::Deserialize;

use super::dialogue::{self, Dialogue, Setting, StepSpec};
use super::{Ask, Blocks, Report, Verdict};
use crate::model::{Mistakes, Unknown};
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
        let setting = Setting { tls: &self.client, server_name, deadline: ask.deadline };
        self.dialogue.hold(stream, self.tls, setting, report).await
    }
}
