//! `watchpost notify test NAME`: tries the way to a receiver for real.

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::{NotifyArgs, NotifyVerb};
use super::{Exit, ask, check_config, complain, environment, print};
use crate::app::trial;
use crate::config;

pub(super) fn run(args: &NotifyArgs) -> ExitCode {
    let NotifyVerb::Test { name, config } = &args.what;
    test(name, config).unwrap_or_else(|code| code)
}

fn test(name: &str, paths: &[PathBuf]) -> Result<ExitCode, ExitCode> {
    let paths = environment::config_paths(paths);
    let config = config::load(&paths, &environment::of_process(environment::net().resolver))
        .map_err(|problems| {
            complain(&check_config::refusal(&problems));
            ExitCode::from(Exit::USAGE)
        })?;
    let Some(steps) = ask::block_on(trial::receiver(&config, name))? else {
        let known: Vec<&str> = config.receivers.iter().map(|r| r.name.as_str()).collect();
        complain(&format!("error: there is no receiver {name:?}; known: {}", known.join(", ")));
        return Err(ExitCode::from(Exit::USAGE));
    };
    let mut delivered = true;
    for step in &steps {
        let text = match (&step.result, &step.partly) {
            (Ok(()), None) => "taken".to_owned(),
            (Ok(()), Some(why)) => format!("taken, but not by all: {why}"),
            (Err(why), _) => format!("failed: {why}"),
        };
        delivered &= step.result.is_ok();
        print(&format!("{name}: {}: {text}\n", step.what));
    }
    Ok(if delivered { ExitCode::SUCCESS } else { ExitCode::from(Exit::FAILED) })
}
