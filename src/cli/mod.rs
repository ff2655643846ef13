//! The verbs.
//!
//! This is the one place where an error is printed: problems of a configuration and our own errors go to standard error,
//! what was asked for to standard output. Exit codes: 0 done, 1 the answer is no, 2 usage or configuration (`run` and
//! `--config.check` say 1 in all of these, as blackbox_exporter does).

mod args;
mod argument_files;
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

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Verb};

/// Parses the arguments and runs the verb.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().map(known_help).collect();
    // A verb may have a command behind it that means something else by this.
    if is_run(&arguments) {
        arguments = match argument_files::expand(arguments) {
            Ok(arguments) => arguments,
            Err(problem) => {
                eprintln!("error: {problem}");
                return ExitCode::from(Exit::FAILED);
            }
        };
    }
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
    ExitCode::from(if is_run(arguments) { Exit::FAILED } else { Exit::USAGE })
}

/// Without a verb we stand in for blackbox_exporter.
fn is_run(arguments: &[OsString]) -> bool {
    let verbs = Cli::command();
    let verb = arguments.get(1).and_then(|first| verbs.find_subcommand(first));
    verb.is_none_or(|verb| verb.get_name() == "run")
}

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
    use std::io::{IsTerminal, Write};
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { printable(text) } else { text.into() };
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(i32::from(Exit::FAILED));
    }
}

fn complain(text: &str) {
    use std::io::{IsTerminal, Write};
    let mut err = std::io::stderr().lock();
    let text = if err.is_terminal() { printable(text) } else { text.into() };
    // Standard error is the last place to complain to.
    writeln!(err, "{}", text.trim_end()).ok();
}

/// A terminal must not obey what a target, a certificate or a command said.
fn printable(text: &str) -> Cow<'_, str> {
    let is_odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if text.contains(is_odd) { text.replace(is_odd, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(printable("a\x1b[2J\r\u{9b}b\n\tc"), "a\u{fffd}[2J\u{fffd}\u{fffd}b\n\tc");
        assert!(matches!(printable("é\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn usage_has_a_code_of_its_own_but_where_we_stand_in_for_another() {
        let code = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            usage(&Cli::try_parse_from(&arguments).unwrap_err(), &arguments)
        };
        for verb in ["ping", "notify", "heartbeat", "deadman", "pauses", "lint", "check-config"] {
            assert_eq!(code(&["watchpost", verb, "--nonsense"]), ExitCode::from(Exit::USAGE));
        }
        for start in [&["watchpost", "--nonsense"][..], &["watchpost", "run", "--nonsense"]] {
            assert_eq!(code(start), ExitCode::from(Exit::FAILED));
        }
    }
}
