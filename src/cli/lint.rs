//! `watchpost lint FILE…`: whether Alertmanager, as configured, brings the Watchdog here, and how often it really does.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::LintArgs;
use super::{Exit, check_config, complain, environment, print, time_to_page};
use crate::config;
use crate::deadman::Spec;
use crate::lint::{Asked, Report, lint};

pub(super) fn run(args: &LintArgs) -> ExitCode {
    let specs = match specs(args) {
        Ok(specs) => specs,
        Err(code) => return code,
    };
    let configured = !args.config.is_empty();
    let asked = Asked { specs: &specs, configured, labels: &args.labels, peers: args.peers };
    let report = lint(&args.files, &asked);
    if !report.problems.is_empty() {
        complain(&report.problems.to_string());
    }
    if report.unusable {
        return ExitCode::from(Exit::USAGE);
    }
    print(&summary(&report, configured));
    if report.problems.is_fatal() { ExitCode::from(Exit::FAILED) } else { ExitCode::SUCCESS }
}

fn specs(args: &LintArgs) -> Result<Vec<Arc<Spec>>, ExitCode> {
    if args.config.is_empty() {
        return Ok(vec![Arc::new(Spec::placeholder())]);
    }
    let config = config::load(&args.config, &environment::of_process()).map_err(|problems| {
        complain(&check_config::refusal(&problems));
        ExitCode::from(Exit::USAGE)
    })?;
    if !config.deadman.iter().any(|spec| spec.watchdog.is_some()) {
        complain("error: the configuration has no deadman with watchdog:");
        return Err(ExitCode::from(Exit::USAGE));
    }
    Ok(config.deadman)
}

/// Who is told how soon is known only of a switch that is configured.
fn summary(report: &Report, configured: bool) -> String {
    let errors = report.problems.errors();
    let warnings = report.problems.len() - errors;
    let mut text = format!("{errors} errors, {warnings} warnings\n");
    for (spec, timing) in &report.fed {
        // Writing to a `String` cannot fail.
        if configured {
            text.push_str(&time_to_page::render(spec));
        } else {
            writeln!(text, "the Watchdog arrives: {}", time_to_page::described(timing)).ok();
        }
    }
    text
}
