//! `watchpost heartbeat test NAME`: tries the way to a service for real.

use std::process::ExitCode;

use super::args::{HeartbeatArgs, HeartbeatTest, HeartbeatVerb};
use super::{Exit, ask, check_config, complain, environment, print};
use crate::app::trial::{self, BeatTrial, Recording};
use crate::config;

pub(super) fn run(args: &HeartbeatArgs) -> ExitCode {
    let HeartbeatVerb::Test(wanted) = &args.what;
    test(wanted).unwrap_or_else(|code| code)
}

fn test(wanted: &HeartbeatTest) -> Result<ExitCode, ExitCode> {
    let name = wanted.name.as_str();
    let paths = environment::config_paths(&wanted.config);
    let names = environment::net().resolver;
    let config =
        config::load(&paths, &environment::of_process(names.clone())).map_err(|problems| {
            complain(&check_config::refusal(&problems));
            ExitCode::from(Exit::USAGE)
        })?;
    let trial = trial::heartbeat(&config, name, &names, wanted.wait.get());
    let Some(trial) = ask::block_on(trial)? else {
        let known: Vec<&str> = config.heartbeats.iter().map(|it| it.name.as_str()).collect();
        complain(&format!("error: there is no heartbeat {name:?}; known: {}", known.join(", ")));
        return Err(ExitCode::from(Exit::USAGE));
    };
    let (lines, is_good) = verdict(&trial);
    for line in lines {
        print(&format!("{name}: {line}\n"));
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(Exit::FAILED) })
}

fn verdict(trial: &BeatTrial) -> (Vec<String>, bool) {
    let BeatTrial { service, attempt, recorded } = trial;
    if attempt.result.label() != "accepted" {
        let line = format!(
            "beat: {service} did not take it: {}: {}",
            attempt.result.label(),
            attempt.detail
        );
        return (vec![line], false);
    }
    let sent =
        format!("beat: taken by {service} ({}); its deadline counts from now", attempt.detail);
    let (line, is_good) = match recorded {
        Recording::Recorded(at) => (format!("recorded: yes, {at}"), true),
        Recording::CannotBeAsked => {
            ("recorded: nobody can tell: this service is not asked, or has no api_key here".to_owned(), true)
        }
        Recording::MadeOnTheFly => (
            "recorded: on a monitor that was not there before, made for this beat: is its name right?".to_owned(),
            false,
        ),
        Recording::Muted(why) => (format!("recorded: no use: the service does not watch: {why}"), false),
        Recording::NotRecorded(last) => (
            format!("recorded: NO, although it was taken: a wrong key or name, or a limit; the last one there: {last}"),
            false,
        ),
        Recording::Untold(why) => (format!("recorded: the service does not tell: {why}"), false),
    };
    (vec![sent, line], is_good)
}
