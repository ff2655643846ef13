//! The section `watchpost:`: who this process is.

use serde::Deserialize;

use super::yaml::{self, Node, Problem, Problems};
use super::{Environment, File};
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
    /// Receivers to tell of trouble of this watchpost itself; read where receivers are known.
    #[serde(rename = "notify")]
    _notify: Option<Vec<String>>,
}

pub(super) fn read(
    files: &[File],
    environment: &Environment<'_>,
    problems: &mut Problems,
) -> (Identity, AllowList) {
    let mut sections = files.iter().filter_map(|file| file.root.entry("watchpost"));
    let default = Identity { id: environment.host_name.clone(), region: None, url: None };
    let Some(first) = sections.next() else { return (default, AllowList::default()) };
    for again in sections {
        problems.push(
            Problem::error("watchpost is defined twice")
                .at(again.key.at())
                .related("first defined here", first.key.at())
                .hint("keep one of the two"),
        );
    }
    let Some(spec) = yaml::decode::<Spec>(&first.value, problems) else {
        return (default, AllowList::default());
    };
    if spec.id.as_deref() == Some("") {
        problems.push(
            Problem::error("the id is empty")
                .at(first.value.find("id").at())
                .hint("leave it out for the host's name"),
        );
    }
    let allowed = allow_list(spec.probe_allow, &first.value, problems);
    let id = spec.id.unwrap_or(default.id);
    let region = spec.region.filter(|r| !r.is_empty());
    let url = spec.url.filter(|u| !u.is_empty());
    (Identity { id, region, url }, allowed)
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
