//! `watchpost ping URL [-- COMMAND]`: beats a dead man's switch, for a command with its start, its end and its last words.

use std::io::Write;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::args::PingArgs;
use super::{Exit, ask, complain};
use crate::clock;

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between tries: what did not arrive after the last is given up.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// How much of a command's output is told: its end.
const MAX_TAIL: usize = 10_000;

pub(super) fn run(args: &PingArgs) -> ExitCode {
    let Some(url) = Url::parse(&args.url).ok().filter(|url| !url.cannot_be_a_base()) else {
        // The URL itself is a secret.
        complain("error: this is no URL of a dead man's switch, such as https://HOST/ping/UUID");
        return ExitCode::from(Exit::USAGE);
    };
    ask::block_on(ping(url, &args.command)).unwrap_or_else(|code| code)
}

async fn ping(url: Url, command: &[String]) -> ExitCode {
    let client = match Client::builder().timeout(TIMEOUT).build() {
        Ok(client) => client,
        Err(error) => {
            complain(&format!("error: no HTTP client: {error}"));
            return ExitCode::from(Exit::FAILED);
        }
    };
    let switch = Switch { client, url, run: run_id() };
    let Some((program, arguments)) = command.split_first() else {
        return match switch.tell(None, None, Vec::new(), &WAITS).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                complain(&format!("error: the beat was not taken: {why}"));
                ExitCode::from(Exit::FAILED)
            }
        };
    };
    // The command does not wait for a switch that cannot be reached.
    if let Err(why) = switch.tell(Some("start"), Some(&switch.run), Vec::new(), &[]).await {
        complain(&format!("warning: the start was not taken: {why}"));
    }
    let (code, tail) = execute(program, arguments).await;
    let step = code.to_string();
    if let Err(why) = switch.tell(Some(&step), Some(&switch.run), tail, &WAITS).await {
        complain(&format!("warning: the end was not taken: {why}"));
    }
    ExitCode::from(code)
}

struct Switch {
    client: Client,
    url: Url,
    run: String,
}

impl Switch {
    async fn tell(
        &self,
        step: Option<&str>,
        run: Option<&str>,
        body: Vec<u8>,
        waits: &[Duration],
    ) -> Result<(), String> {
        let mut url = self.url.clone();
        if let (Some(step), Ok(mut steps)) = (step, url.path_segments_mut()) {
            steps.pop_if_empty().push(step);
        }
        if let Some(run) = run {
            url.query_pairs_mut().append_pair("rid", run);
        }
        let mut waits = waits.iter();
        loop {
            let why = match self.client.post(url.clone()).body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) if !may_work_later(answer.status()) => {
                    return Err(format!("status {}", answer.status()));
                }
                Ok(answer) => format!("status {}", answer.status()),
                Err(error) => error.without_url().to_string(),
            };
            let Some(wait) = waits.next() else { return Err(why) };
            tokio::time::sleep(*wait).await;
        }
    }
}

fn may_work_later(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Runs a command, shows what it prints, and keeps the end of it.
async fn execute(program: &str, arguments: &[String]) -> (u8, Vec<u8>) {
    let spawned =
        Command::new(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let text = format!("cannot run {program}: {error}");
            complain(&format!("error: {text}"));
            // As a shell has it.
            return (127, text.into_bytes());
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let (ended, (), ()) = tokio::join!(
        child.wait(),
        pass_on(out, std::io::stdout(), &mut said),
        pass_on(err, std::io::stderr(), &mut complained),
    );
    said.append(&mut complained);
    keep_end(&mut said);
    let code = ended.map_or(Exit::FAILED, exit_code);
    (code, said)
}

async fn pass_on(from: Option<impl AsyncRead + Unpin>, mut to: impl Write, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; 8 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let read = chunk.get(..count).unwrap_or_default();
        kept.extend_from_slice(read);
        if kept.len() > 4 * MAX_TAIL {
            keep_end(kept);
        }
        // A closed pipe is no reason to stop the command.
        if to.write_all(read).is_ok() {
            to.flush().ok();
        }
    }
}

fn keep_end(text: &mut Vec<u8>) {
    let excess = text.len().saturating_sub(MAX_TAIL);
    text.drain(..excess);
}

/// As a shell has it: 128 and the signal for a command that was killed.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::FAILED)
}

/// A UUID for this run: nobody else's, and no secret.
fn run_id() -> String {
    let now = clock::now();
    let text = format!("{} {:?} {}", std::process::id(), now.boot, now.wall);
    let digest = Sha256::digest(text);
    let hex = digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}
