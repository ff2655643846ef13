//! `watchpost snippet`: what to paste elsewhere.

mod alertmanager;
mod rules;

use std::process::ExitCode;
use std::sync::Arc;

use super::args::{SnippetArgs, SnippetKind};
use super::{Exit, check_config, complain, environment, print};
use crate::config;
use crate::deadman::Spec;

pub(super) fn run(args: &SnippetArgs) -> ExitCode {
    let watchdogs = match watchdogs(args) {
        Ok(watchdogs) => watchdogs,
        Err(code) => return code,
    };
    let text = match args.kind {
        SnippetKind::Prometheus => prometheus(&args.address),
        SnippetKind::Alertmanager => {
            let place = alertmanager::Place {
                address: &args.address,
                credentials_file: args.credentials_file.as_deref(),
            };
            let route = alertmanager::text(&watchdogs, &place);
            format!("{route}---\n{}", rules::text(&watchdogs))
        }
        SnippetKind::Rules => rules::text(&watchdogs),
    };
    print(&text);
    ExitCode::SUCCESS
}

/// Those of the configuration, or one that stands for what is to come.
fn watchdogs(args: &SnippetArgs) -> Result<Vec<Arc<Spec>>, ExitCode> {
    if args.config.is_empty() {
        return Ok(vec![Arc::new(Spec::placeholder())]);
    }
    let config = config::load(&args.config, &environment::of_process(environment::net().resolver))
        .map_err(|problems| {
            complain(&check_config::refusal(&problems));
            ExitCode::from(Exit::USAGE)
        })?;
    let watchdogs: Vec<Arc<Spec>> =
        config.deadman.iter().filter(|spec| spec.watchdog.is_some()).cloned().collect();
    if watchdogs.is_empty() && args.kind != SnippetKind::Prometheus {
        complain("error: the configuration has no deadman with watchdog:");
        return Err(ExitCode::from(Exit::USAGE));
    }
    Ok(watchdogs)
}

/// The scrape job.
pub(super) fn prometheus(address: &str) -> String {
    format!(
        r"# prometheus.yml: results of all probes, and watchpost's own numbers.
scrape_configs:
  - job_name: watchpost
    # Results carry job (the probe), instance (the target), module and watchpost: keep them as they are.
    honor_labels: true
    scrape_interval: 15s
    static_configs:
      - targets: ['{address}']
"
    )
}

/// A text as YAML takes it whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_labels() {
        let text = prometheus("wp:9115");
        assert!(text.contains("honor_labels: true"));
        assert!(text.contains("'wp:9115'"));
    }
}
