//! Prometheus's DNS service discovery: the records of a name are targets.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use serde::{Deserialize, Deserializer, de};

use super::{MIN_REFRESH, Question, Remote, Template};
use crate::model::{Mistakes, Period, mistake};
use crate::net::{Deadline, Net, parse_name};
use crate::target::FileGroup;

/// How long name servers may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An item of `dns_sd_configs:`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSd {
    pub names: Vec<String>,
    /// Default SRV.
    #[serde(default, rename = "type")]
    pub kind: RecordKind,
    /// SRV records have their own.
    pub port: Option<u16>,
    /// Default 30s.
    #[serde(default = "default_refresh")]
    pub refresh_interval: Period,
    /// What is asked, with `{}` for `host:port`.
    #[serde(default)]
    pub target: Template,
}

/// Records that make targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordKind {
    #[default]
    Srv,
    A,
    Aaaa,
}

impl RecordKind {
    const fn label(self) -> &'static str {
        match self {
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }
}

const fn default_refresh() -> Period {
    Period::from_secs(30)
}

impl<'de> Deserialize<'de> for RecordKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_uppercase().as_str() {
            "SRV" => Ok(Self::Srv),
            "A" => Ok(Self::A),
            "AAAA" => Ok(Self::Aaaa),
            _ => {
                let what = format_args!("{text:?} is not a type of records that are targets");
                Err(de::Error::custom(mistake(what, "write SRV, A or AAAA")))
            }
        }
    }
}

/// A name that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Records {
    name: String,
    kind: RecordKind,
    port: u16,
}

impl DnsSd {
    /// One source for each name: one that fails does not take the others along.
    pub fn build(self, mistakes: &mut Mistakes) -> Vec<Remote> {
        if self.names.is_empty() {
            mistakes.error("names", "there are no names", "write at least one");
        }
        let port = match (self.kind, self.port) {
            (RecordKind::Srv, None) => 0,
            (RecordKind::Srv, Some(_)) => {
                mistakes.warning("port", "SRV records have ports of their own", "remove it");
                0
            }
            (_, Some(port)) => port,
            (_, None) => {
                mistakes.error("type", "addresses have no port", "say which with the key port");
                0
            }
        };
        let refresh = self.refresh_interval.get().max(MIN_REFRESH);
        let mut remotes = Vec::new();
        for (index, name) in self.names.into_iter().enumerate() {
            if parse_name(&name).is_err() || name.is_empty() {
                mistakes.error(&format!("names.{index}"), format!("{name:?} is no DNS name"), "");
                continue;
            }
            remotes.push(Remote {
                mechanism: "dns",
                name: format!("{} {name}", self.kind.label()),
                question: Question::Dns(Records { name, kind: self.kind, port }),
                template: self.target.clone(),
                refresh,
            });
        }
        remotes
    }
}

impl Records {
    pub(super) async fn ask(&self, net: &Net) -> Result<Vec<FileGroup>, String> {
        let record = match self.kind {
            RecordKind::Srv => RecordType::SRV,
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
        };
        let found = net.resolver.records(&self.name, record, Deadline::after(PATIENCE)).await;
        let mut targets: Vec<String> =
            found?.iter().filter_map(|data| address(data, self.port)).collect();
        // Name servers turn the order with each answer.
        targets.sort_unstable();
        targets.dedup();
        Ok(vec![FileGroup { targets, labels: None }])
    }
}

fn address(data: &RData, port: u16) -> Option<String> {
    match data {
        // A service that is decidedly not there (RFC 2782).
        RData::SRV(srv) if srv.target.is_root() => None,
        RData::SRV(srv) => {
            let host = srv.target.to_ascii();
            Some(format!("{}:{}", host.trim_end_matches('.'), srv.port))
        }
        data => data.ip_addr().map(|ip| match ip {
            IpAddr::V4(ip) => format!("{ip}:{port}"),
            IpAddr::V6(ip) => format!("[{ip}]:{port}"),
        }),
    }
}
