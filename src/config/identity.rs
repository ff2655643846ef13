//! The section `watchpost:`: who this process is.

use serde::Deserialize;

use super::yaml::{self, Problem, Problems};
use super::{Environment, File};

/// Who this process is, in labels and messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The label `watchpost`: unique for each process.
    pub id: String,
    /// The label `probe_region`.
    pub region: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// Default: the host's name.
    id: Option<String>,
    region: Option<String>,
}

pub(super) fn read(
    files: &[File],
    environment: &Environment<'_>,
    problems: &mut Problems,
) -> Identity {
    let mut sections = files.iter().filter_map(|file| file.root.entry("watchpost"));
    let default = Identity { id: environment.host_name.clone(), region: None };
    let Some(first) = sections.next() else { return default };
    for again in sections {
        problems.push(
            Problem::error("watchpost is defined twice")
                .at(again.key.at())
                .related("first defined here", first.key.at())
                .hint("keep one of the two"),
        );
    }
    let Some(spec) = yaml::decode::<Spec>(&first.value, problems) else { return default };
    if spec.id.as_deref() == Some("") {
        problems.push(
            Problem::error("the id is empty")
                .at(first.value.find("id").at())
                .hint("leave it out for the host's name"),
        );
    }
    Identity { id: spec.id.unwrap_or(default.id), region: spec.region.filter(|r| !r.is_empty()) }
}
