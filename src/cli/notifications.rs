//! `watchpost notifications`: open episodes and the outbox of a running watchpost.

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Deserialize;

use super::args::AskArgs;
use super::{ask, print};

#[derive(Debug, Deserialize)]
struct Notices {
    durable: bool,
    episodes: Vec<Episode>,
    outbox: Vec<Outbox>,
    receivers: Vec<Receiver>,
}

#[derive(Debug, Deserialize)]
struct Episode {
    receiver: String,
    kind: String,
    name: String,
    opened: Timestamp,
    notifications: u32,
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    status: String,
    since: Timestamp,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Outbox {
    receiver: String,
    kind: String,
    created: Timestamp,
    attempts: u32,
    last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Receiver {
    name: String,
    last_success: Option<Timestamp>,
    last_test_success: Option<Timestamp>,
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
    let body = ask::get(&args.address, "/api/v1/notifications")?;
    if args.json {
        return Ok(format!("{}\n", body.trim_end()));
    }
    Ok(render(&ask::parse(&body)?))
}

fn render(notices: &Notices) -> String {
    let mut text = String::new();
    if notices.episodes.is_empty() {
        text.push_str("nothing is open\n");
    }
    for episode in &notices.episodes {
        // Writing to a `String` cannot fail.
        writeln!(
            text,
            "{} {}: {} is told since {}, {} so far",
            episode.kind,
            episode.name,
            episode.receiver,
            time(episode.opened),
            messages(episode.notifications),
        )
        .ok();
        for member in &episode.members {
            let Member { name, status, since, reason } = member;
            writeln!(text, "  {name} is {status} since {}: {reason}", time(*since)).ok();
        }
    }
    for row in &notices.outbox {
        writeln!(
            text,
            "not delivered: {} to {} since {}, {} attempts{}",
            row.kind,
            row.receiver,
            time(row.created),
            row.attempts,
            row.last_error.as_ref().map(|e| format!(": {e}")).unwrap_or_default(),
        )
        .ok();
    }
    for receiver in &notices.receivers {
        let proof = receiver.last_success.max(receiver.last_test_success);
        let proof = proof.map_or("never".to_owned(), |at| time(at).to_string());
        writeln!(text, "receiver {}: last delivery {proof}", receiver.name).ok();
    }
    if !notices.durable {
        text.push_str("not on disk: a restart may repeat or forget pages\n");
    }
    text
}

fn messages(count: u32) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

fn time(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d %H:%M:%S UTC")
}
