//! `watchpost check-config PATH…`: every problem at once.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::args::CheckConfigArgs;
use super::{Exit, complain, environment, print, time_to_page};
use crate::app;
use crate::config::{self, Config, Problems};

pub(super) fn run(args: &CheckConfigArgs) -> ExitCode {
    match config::load(&args.paths, &environment::of_process(environment::net().resolver)) {
        Ok(config) => {
            if !config.warnings.is_empty() {
                complain(&config.warnings.to_string());
            }
            print(&summary(&config));
            let shard = args.shard.unwrap_or_default();
            if let Err(error) = app::check_storage(&config, args.storage.as_deref(), shard) {
                // How it is to be run is not for this file to say.
                print(&format!("\nnote: with these flags it would not start: {error}\n"));
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            complain(&refusal(&problems));
            ExitCode::from(Exit::USAGE)
        }
    }
}

pub(super) fn refusal(problems: &Problems) -> String {
    let errors = problems.errors();
    let word = if errors == 1 { "error" } else { "errors" };
    format!("{problems}\nconfiguration refused: {errors} {word}")
}

/// One line a section, so that a reader sees that what was meant was read.
pub(super) fn summary(config: &Config) -> String {
    let fixed: usize = config.probes.iter().map(|probe| probe.targets.len()).sum();
    let found = config.probes.iter().filter(|probe| probe.discovers()).count();
    let mut text = format!(
        "configuration is good: {}, {}, {}",
        count(config.modules.len(), "module"),
        count(config.probes.len(), "probe"),
        count(fixed, "fixed target"),
    );
    if found > 0 {
        write!(text, ", {} with targets from discovery", count(found, "probe")).ok();
    }
    let others = [
        (config.references.len(), "reference"),
        (config.receivers.len(), "receiver"),
        (config.deadman.len(), "dead man's switch"),
        (config.heartbeats.len(), "heartbeat"),
    ];
    for (number, word) in others.into_iter().filter(|(number, _)| *number > 0) {
        write!(text, ", {}", count(number, word)).ok();
    }
    text.push('\n');
    let heralds = config.heralds();
    for spec in &config.deadman {
        text.push_str(&time_to_page::render(spec, &heralds));
    }
    text.push_str(&time_to_page::switches(config.deadman.iter().map(|spec| &**spec)));
    text
}

fn count(number: usize, word: &str) -> String {
    let plural = if word.ends_with("ch") { "es" } else { "s" };
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}{plural}") }
}
