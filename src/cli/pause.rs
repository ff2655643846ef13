//! `watchpost pause`, `resume` and `pauses`: tell a running watchpost to be silent about something for a while.

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::args::{AskArgs, Pausable, PauseArgs, ResumeArgs, TellArgs};
use super::{Exit, ask, complain, environment, print};

/// A key's file is not longer than this.
const MAX_KEY_BYTES: usize = 4096;

#[derive(Debug, Deserialize)]
struct Planned {
    name: String,
    begins: Timestamp,
    until: Timestamp,
    holds: bool,
    reason: String,
    by: String,
}

#[derive(Debug, Deserialize)]
struct Ended {
    ended: usize,
}

impl Pausable {
    const fn word(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Deadman => "deadman",
        }
    }
}

pub(super) fn pause(args: &PauseArgs) -> ExitCode {
    let mut request = about(args.kind, &args.name);
    request.insert("reason".into(), json!(args.reason));
    let end = match (&args.lasts, &args.until) {
        (Some(lasts), _) => ("for", json!(lasts.to_string())),
        (None, until) => ("until", json!(until)),
    };
    request.insert(end.0.into(), end.1);
    if let Some(begins) = &args.begins {
        request.insert("begins".into(), json!(begins));
    }
    if let Some(by) = args.by.clone().or_else(environment::user) {
        request.insert("by".into(), json!(by));
    }
    let answered = tell(&args.at, "/api/v1/pause", request);
    finish(answered.and_then(|body| Ok(render(&ask::parse::<Vec<Planned>>(&body)?))))
}

pub(super) fn resume(args: &ResumeArgs) -> ExitCode {
    let answered = tell(&args.at, "/api/v1/resume", about(args.kind, &args.name));
    let text = answered.and_then(|body| {
        let Ended { ended } = ask::parse(&body)?;
        let name = &args.name;
        Ok(match ended {
            0 => format!("{name} was not paused\n"),
            1 => format!("{name} goes on: 1 pause ended\n"),
            many => format!("{name} goes on: {many} pauses ended\n"),
        })
    });
    finish(text)
}

pub(super) fn list(args: &AskArgs) -> ExitCode {
    let answered = ask::get(&args.address, "/api/v1/pauses");
    finish(answered.and_then(|body| {
        if args.json {
            return Ok(format!("{}\n", body.trim_end()));
        }
        Ok(render(&ask::parse::<Vec<Planned>>(&body)?))
    }))
}

fn about(kind: Pausable, name: &str) -> Map<String, Value> {
    Map::from_iter([(kind.word().to_owned(), json!(name))])
}

fn tell(at: &TellArgs, path: &str, request: Map<String, Value>) -> Result<String, ExitCode> {
    let key = match &at.key_file {
        None => None,
        Some(path) => match std::fs::read_to_string(path) {
            Ok(key) if key.len() <= MAX_KEY_BYTES => Some(key.trim().to_owned()),
            Ok(_) => return Err(unusable(&format!("{} is too long", path.display()))),
            Err(error) => return Err(unusable(&format!("{}: {error}", path.display()))),
        },
    };
    ask::post(&at.address, path, &Value::Object(request), key.as_deref())
}

fn unusable(why: &str) -> ExitCode {
    complain(&format!("error: no key: {why}"));
    ExitCode::from(Exit::USAGE)
}

fn finish(text: Result<String, ExitCode>) -> ExitCode {
    match text {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn render(planned: &[Planned]) -> String {
    if planned.is_empty() {
        return "nothing is paused\n".to_owned();
    }
    let time = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut text = String::new();
    for pause in planned {
        let from = if pause.holds { "now".to_owned() } else { time(pause.begins) };
        let by = if pause.by.is_empty() { String::new() } else { format!(", by {}", pause.by) };
        let (name, until, reason) = (&pause.name, time(pause.until), &pause.reason);
        // Writing to a `String` cannot fail.
        writeln!(text, "{name}: paused from {from} until {until} ({reason}{by})").ok();
    }
    text
}
