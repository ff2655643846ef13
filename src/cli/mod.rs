//! The verbs.
//!
//! This is the one place where an error is printed: problems of a configuration and our own errors go to standard error,
//! what was asked for to standard output. Exit codes: 0 done, 1 the answer is no, 2 usage or configuration (`run` and
//! `--config.check` say 1 in all of these, as blackbox_exporter does).

mod args;
mod ask;
mod check_config;
mod deadman;
mod environment;
mod heartbeat;
mod init;
mod lint;
mod notifications;
mod notify;
mod pause;
mod ping;
mod probe;
mod report;
mod run;
mod snippet;
mod time_to_page;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Verb};

/// Parses the arguments and runs the verb.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().map(known_help).collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    match cli.verb {
        None => run::run(cli.run),
        Some(Verb::Run(args)) => run::run(args),
        Some(Verb::CheckConfig(args)) => check_config::run(&args),
        Some(Verb::Probe(args)) => probe::run(&args),
        Some(Verb::Init(args)) => init::run(&args),
        Some(Verb::Snippet(args)) => snippet::run(&args),
        Some(Verb::Lint(args)) => lint::run(&args),
        Some(Verb::Notifications(args)) => notifications::run(&args),
        Some(Verb::Deadman(args)) => deadman::run(&args),
        Some(Verb::Pause(args)) => pause::pause(&args),
        Some(Verb::Resume(args)) => pause::resume(&args),
        Some(Verb::Pauses(args)) => pause::list(&args),
        Some(Verb::Ping(args)) => ping::run(&args),
        Some(Verb::Notify(args)) => notify::run(&args),
        Some(Verb::Heartbeat(args)) => heartbeat::run(&args),
    }
}

/// `--help` and `--version` are answers; everything else is a usage error.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    error.print().ok();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let verb = arguments.get(1).is_some_and(|first| VERBS.iter().any(|verb| first == verb));
    // Without a verb we stand in for blackbox_exporter, also in this.
    ExitCode::from(if verb { Exit::USAGE } else { Exit::FAILED })
}

/// Verbs whose mistakes in usage are told apart from a target that failed.
const VERBS: [&str; 7] = ["check-config", "probe", "init", "snippet", "lint", "pause", "resume"];

/// blackbox_exporter has more ways to ask for help.
fn known_help(argument: OsString) -> OsString {
    if argument == "--help-long" || argument == "--help-man" { "--help".into() } else { argument }
}

/// Exit codes other than success.
struct Exit;

impl Exit {
    /// The target failed, or a start could not be made.
    const FAILED: u8 = 1;
    /// Usage, or a configuration with problems.
    const USAGE: u8 = 2;
}

/// Prints what was asked for. A closed pipe ends the program quietly, as `head` expects.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(i32::from(Exit::FAILED));
    }
}

fn complain(text: &str) {
    use std::io::Write;
    // Standard error is the last place to complain to.
    writeln!(std::io::stderr().lock(), "{}", text.trim_end()).ok();
}
