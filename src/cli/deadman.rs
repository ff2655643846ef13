//! `watchpost deadman`: the dead man's switches of a running watchpost.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Deserialize;

use super::args::AskArgs;
use super::{ask, print};
use crate::model::Status;

#[derive(Debug, Deserialize)]
struct Switch {
    name: String,
    last_beat: Option<Timestamp>,
    deadline: Option<Timestamp>,
    status: Status,
    reason: Option<String>,
    paused: Option<String>,
    paused_until: Option<Timestamp>,
    last_from: Option<IpAddr>,
    notes: Vec<String>,
    #[serde(default)]
    alertmanagers: Vec<Alertmanager>,
}

#[derive(Debug, Deserialize)]
struct Alertmanager {
    url: String,
    findings: Vec<String>,
}

pub(super) fn run(args: &AskArgs) -> ExitCode {
    match show(args) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn show(args: &AskArgs) -> Result<String, ExitCode> {
    let body = ask::get(&args.address, "/api/v1/deadman")?;
    if args.json {
        return Ok(format!("{}\n", body.trim_end()));
    }
    Ok(render(&ask::parse::<Vec<Switch>>(&body)?))
}

fn render(switches: &[Switch]) -> String {
    if switches.is_empty() {
        return "no dead man's switches\n".to_owned();
    }
    let time = |at: Option<Timestamp>| {
        at.map_or("never".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
    };
    let mut text = String::new();
    for switch in switches {
        let reason = switch.reason.as_deref().unwrap_or_default();
        let state = match switch.status {
            Status::Up => "ok".to_owned(),
            Status::Degraded => format!("degraded: {reason}"),
            Status::Down => format!("FAILS: {reason}"),
            Status::Unknown => format!("waiting: {reason}"),
            Status::Paused => {
                let why = switch.paused.as_deref().unwrap_or_default();
                format!("paused until {} ({why})", time(switch.paused_until))
            }
        };
        // Writing to a `String` cannot fail.
        write!(text, "{}: {state}; last beat {}", switch.name, time(switch.last_beat)).ok();
        if let Some(from) = switch.last_from {
            write!(text, " from {from}").ok();
        }
        if switch.deadline.is_some() {
            write!(text, "; fails at {}", time(switch.deadline)).ok();
        }
        text.push('\n');
        for replica in &switch.alertmanagers {
            for finding in &replica.findings {
                writeln!(text, "  Alertmanager {} {finding}", replica.url).ok();
            }
        }
        for note in &switch.notes {
            writeln!(text, "  {note}").ok();
        }
    }
    text
}
