//! What the process's surroundings say: variables, the host's name, the default configuration.

use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::net::{Net, Resolver};

/// Where a configuration is looked for when none is named.
const DEFAULT_PATHS: [&str; 3] = ["watchpost.yml", "blackbox.yml", "probes"];

/// What runs of this process share for talking to the network.
pub(super) fn net() -> Net {
    Net::from_system(variable)
}

/// The environment of this process, for a configuration that is to ask `names`.
pub(super) fn of_process(names: Resolver) -> Environment<'static> {
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Environment { variable: &variable, host_name, names }
}

/// The user's name, as the shell knows it.
pub(super) fn user() -> Option<String> {
    variable("USER").filter(|name| !name.is_empty())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the environment for the configuration"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The paths that were named, or the first default that exists.
pub(super) fn config_paths(named: &[PathBuf]) -> Vec<PathBuf> {
    if !named.is_empty() {
        return named.to_vec();
    }
    vec![PathBuf::from(default_path().unwrap_or(DEFAULT_PATHS[0]))]
}

/// Whether a start needs a configuration to be named.
pub(super) fn lacks_config(named: &[PathBuf]) -> bool {
    named.is_empty() && default_path().is_none()
}

fn default_path() -> Option<&'static str> {
    DEFAULT_PATHS.into_iter().find(|path| Path::new(path).exists())
}
