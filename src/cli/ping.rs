//! `watchpost ping URL [-- COMMAND]`: beats a dead man's switch, for a command with its start, its end and its last words.

use std::cell::RefCell;
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::pin::pin;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture;
use reqwest::{Client, StatusCode, Url};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use super::args::PingArgs;
use super::{Exit, ask, complain, environment};
use crate::clock;
use crate::net::http_client;

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
/// How long the output of a command that has ended may still come before its end is told.
const LAST_WORDS: Duration = Duration::from_secs(1);
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
    let names = environment::net().resolver;
    let client = match http_client(&names).timeout(TIMEOUT).build() {
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
    ExitCode::from(job(&switch, program, arguments).await)
}

/// Runs a command to its end and tells how it ended: its exit code.
async fn job(switch: &Switch, program: &str, arguments: &[String]) -> u8 {
    let mut signals = Signals::listen();
    let mut child = match spawn(program, arguments) {
        Ok(child) => child,
        Err((code, text)) => {
            complain(&format!("error: {text}"));
            switch.end(code, text.into_bytes(), &mut signals).await;
            return code;
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (said, complained) = (RefCell::default(), RefCell::default());
    let passing = async {
        let out = pass_on(out, std::io::stdout(), &said);
        tokio::join!(out, pass_on(err, std::io::stderr(), &complained));
    };
    let mut passing = pin!(passing.fuse());
    let code = wait(&mut child, &mut passing, &mut signals).await;
    tokio::time::timeout(LAST_WORDS, completed(&mut passing)).await.ok();
    let mut tail = [said.borrow().as_slice(), complained.borrow().as_slice()].concat();
    keep_end(&mut tail);
    // What the command left running may hold its output open for ever: the end is told all the same.
    let is_stopped = tokio::select! {
        is_stopped = switch.end(code, tail, &mut signals) => is_stopped,
        never = async { completed(&mut passing).await; std::future::pending().await } => never,
    };
    if !is_stopped {
        tokio::select! {
            () = completed(&mut passing) => {}
            _ = signals.next() => {}
        }
    }
    code
}

/// Waits for what may have ended already.
async fn completed(passing: &mut (impl FusedFuture<Output = ()> + Unpin)) {
    if !passing.is_terminated() {
        passing.await;
    }
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
                Err(error) => ask::causes(error),
            };
            let Some(wait) = waits.next() else { return Err(why) };
            tokio::time::sleep(*wait).await;
        }
    }

    /// Tells how the command ended, until it is taken, the tries are used up, or somebody has no more patience: whether that
    /// was so. A request that is under way has a moment left even then.
    async fn end(&self, code: u8, tail: Vec<u8>, signals: &mut Signals) -> bool {
        let step = code.to_string();
        let mut is_stopped = false;
        let impatience = async {
            signals.next().await;
            is_stopped = true;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let told = tokio::select! {
            told = self.tell(Some(&step), Some(&self.run), tail, &WAITS) => told,
            () = impatience => Err("interrupted".to_owned()),
        };
        if let Err(why) = told {
            complain(&format!("warning: the end was not taken: {why}"));
        }
        is_stopped
    }
}

fn may_work_later(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Signals that would end us before the command's end is told. They are the command's.
struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    fn listen() -> Self {
        let all = [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT];
        let heard = all.into_iter().filter_map(|signal| {
            let kind = SignalKind::from_raw(signal.as_raw());
            Some((signal, unix::signal(kind).ok()?))
        });
        Self(heard.collect())
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            let came = self
                .0
                .iter_mut()
                .find_map(|(signal, heard)| heard.poll_recv(context).is_ready().then_some(*signal));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Starts a command; an exit code as a shell has it, and why, where that cannot be done.
fn spawn(program: &str, arguments: &[String]) -> Result<Child, (u8, String)> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| {
        let code = if error.kind() == ErrorKind::PermissionDenied { 126 } else { 127 };
        (code, format!("cannot run {program}: {error}"))
    })
}

/// Waits for the command's end while its output is passed on to us and our signals to it.
async fn wait(
    child: &mut Child,
    passing: &mut (impl FusedFuture<Output = ()> + Unpin),
    signals: &mut Signals,
) -> u8 {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    // Whoever presses a key in a terminal signals the command as well.
    let from_terminal = std::io::stdin().is_terminal();
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map_or(Exit::FAILED, exit_code),
            () = &mut *passing, if !passing.is_terminated() => {}
            signal = signals.next() => {
                let is_known = from_terminal && matches!(signal, Signal::INT | Signal::QUIT);
                if let Some(pid) = pid.filter(|_| !is_known) {
                    // It may have ended a moment ago.
                    kill_process(pid, signal).ok();
                }
            }
        }
    }
}

async fn pass_on(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl Write,
    kept: &RefCell<Vec<u8>>,
) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; 8 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let read = chunk.get(..count).unwrap_or_default();
        keep(read, &mut kept.borrow_mut());
        // A closed pipe is no reason to stop the command.
        if to.write_all(read).is_ok() {
            to.flush().ok();
        }
    }
}

fn keep(read: &[u8], kept: &mut Vec<u8>) {
    kept.extend_from_slice(read);
    if kept.len() > 4 * MAX_TAIL {
        keep_end(kept);
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
