//! The section `watchpost:`: who this process is.

use std::path::PathBuf;

use serde::Deserialize;

use super::yaml::{self, Node, Problem, Problems};
use super::{Environment, File};
use crate::model::Network;
use crate::probe::AllowList;

/// Who this process is, in labels and messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The label `watchpost`: unique for each process.
    pub id: String,
    /// The label `probe_region`.
    pub region: Option<String>,
    /// Where people reach this watchpost's page; in messages.
    pub url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// Default: the host's name.
    id: Option<String>,
    region: Option<String>,
    /// Hosts, networks and ports that `/probe` may ask. Default: all but metadata addresses.
    probe_allow: Option<Vec<String>>,
    url: Option<String>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    #[serde(default)]
    trusted_proxies: Vec<String>,
    /// A file with the key that pausing takes.
    api_key_file: Option<PathBuf>,
    /// Receivers to tell of trouble of this watchpost itself; read where receivers are known.
    #[serde(rename = "notify")]
    _notify: Option<Vec<String>>,
}

/// Who may ask what of whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// What `/probe` may ask.
    pub probe_allow: AllowList,
    /// Proxies that are believed when they say for whom they ask.
    pub proxies: Vec<Network>,
    /// The key that pausing takes; none lets in whom the door lets in.
    pub api_key_file: Option<PathBuf>,
}

pub(super) fn read(
    files: &[File],
    environment: &Environment<'_>,
    problems: &mut Problems,
) -> (Identity, Trust) {
    let mut sections = files.iter().filter_map(|file| file.root.entry("watchpost"));
    let default = Identity { id: environment.host_name.clone(), region: None, url: None };
    let Some(first) = sections.next() else { return (default, Trust::default()) };
    for again in sections {
        problems.push(
            Problem::error("watchpost is defined twice")
                .at(again.key.at())
                .related("first defined here", first.key.at())
                .hint("keep one of the two"),
        );
    }
    let Some(spec) = yaml::decode::<Spec>(&first.value, problems) else {
        return (default, Trust::default());
    };
    if spec.id.as_deref() == Some("") {
        problems.push(
            Problem::error("the id is empty")
                .at(first.value.find("id").at())
                .hint("leave it out for the host's name"),
        );
    }
    let trust = Trust {
        probe_allow: allow_list(spec.probe_allow, &first.value, problems),
        proxies: networks(&spec.trusted_proxies, &first.value, problems),
        api_key_file: spec.api_key_file,
    };
    let id = spec.id.unwrap_or(default.id);
    let region = spec.region.filter(|r| !r.is_empty());
    let url = spec.url.filter(|u| !u.is_empty());
    (Identity { id, region, url }, trust)
}

fn networks(texts: &[String], node: &Node, problems: &mut Problems) -> Vec<Network> {
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => problems.push(
                Problem::error(format!("{text:?} is no address and no network"))
                    .at(node.find(&format!("trusted_proxies.{index}")).at())
                    .hint("such as 10.0.0.0/8 or 192.0.2.1"),
            ),
        }
    }
    networks
}

fn allow_list(patterns: Option<Vec<String>>, node: &Node, problems: &mut Problems) -> AllowList {
    let Some(patterns) = patterns else { return AllowList::default() };
    AllowList::parse(&patterns).unwrap_or_else(|(at, what)| {
        let list = node.find("probe_allow");
        let place = list.items().get(at).unwrap_or(list);
        problems.push(
            Problem::error(what).at(place.at()).hint(
                "write a host, *.suffix, an address or a network, each with :port or without",
            ),
        );
        AllowList::default()
    })
}
