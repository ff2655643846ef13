//! `watchpost lint FILE…`: whether Alertmanager, as configured, brings the Watchdog here, and how often it really does.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::LintArgs;
use super::{Exit, check_config, complain, environment, print, time_to_page};
use crate::config;
use crate::deadman::Spec;
use crate::deadman::failures::Herald;
use crate::lint::{Asked, Report, lint};

pub(super) fn run(args: &LintArgs) -> ExitCode {
    let (specs, heralds) = match specs(args) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let configured = (!args.config.is_empty()).then_some(&*heralds);
    let asked = Asked {
        specs: &specs,
        configured: configured.is_some(),
        labels: &args.labels,
        peers: args.peers,
    };
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

/// What watches, and who watches us.
fn specs(args: &LintArgs) -> Result<(Vec<Arc<Spec>>, Vec<Herald>), ExitCode> {
    if args.config.is_empty() {
        return Ok((vec![Arc::new(Spec::placeholder())], Vec::new()));
    }
    let config = config::load(&args.config, &environment::of_process(environment::net().resolver))
        .map_err(|problems| {
            complain(&check_config::refusal(&problems));
            ExitCode::from(Exit::USAGE)
        })?;
    if !config.deadman.iter().any(|spec| spec.watchdog.is_some()) {
        complain("error: the configuration has no deadman with watchdog:");
        return Err(ExitCode::from(Exit::USAGE));
    }
    let heralds = config.heralds();
    Ok((config.deadman, heralds))
}

/// Who is told how soon is known only of a switch that is configured.
fn summary(report: &Report, configured: Option<&[Herald]>) -> String {
    let errors = report.problems.errors();
    let warnings = report.problems.len() - errors;
    let mut text = format!("{errors} errors, {warnings} warnings\n");
    for (spec, timing) in &report.fed {
        // Writing to a `String` cannot fail.
        if let Some(heralds) = configured {
            text.push_str(&time_to_page::render(spec, heralds));
        } else {
            writeln!(text, "the Watchdog arrives: {}", time_to_page::described(timing)).ok();
        }
    }
    text
}
