//! Ten thousand dead man's switches that are beaten once a minute, by the built binary: CPU, the time until a beat is
//! durable and answered, and the start with ten thousand open deadlines.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "beats are counted in thousands"
)]

mod support {
    pub(crate) mod table;
}

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};
use rustix::process::{Pid, Signal, kill_process};
use support::table::{Table, median};
use tokio::time::Instant;

const SWITCHES: usize = 10_000;
const EVERY: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(15);
const ROUNDS: usize = 3;
const STARTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at once, each with a connection of its own for every beat, as cron lines have it.
const CLIENTS: usize = 8;
/// Commits of the reference.
const COMMITS: usize = 300;
/// Beats of the burst, all at once.
const BURST: usize = 1_000;
/// Ticks of the kernel's accounting in a second: fixed in what it shows to processes.
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    let mut table = Table::titled("10,000 dead man's switches, each beaten once a minute");
    // Not in memory, as a folder for temporary files may be.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = folder.path().join("watchpost.yml");
    std::fs::write(&config, yaml()).unwrap();
    let book = folder.path().join("book");

    let watchpost = Watchpost::start(&config, &book);
    // Every switch has a last beat and a deadline from here on.
    beat_at_once(watchpost.address, SWITCHES);
    let (mut shares, mut medians, mut ratios, mut tails) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let bare = median(commits(folder.path(), round));
        let (cpu, began) = (watchpost.cpu(), Instant::now());
        let took = beat_for(watchpost.address, WINDOW);
        shares.push((watchpost.cpu() - cpu) / began.elapsed().as_secs_f64() * 100.0);
        tails.push(quantile(&took, 0.99));
        let half = median(took);
        medians.push(half);
        ratios.push(half / bare);
    }
    let how = format!("{shares:.1?} in the rounds");
    table.at_most("CPU of one core", median(shares), "%", 15.0, &how);
    let how = format!("{medians:.2?} in the rounds; p99 {tails:.1?}");
    table.at_most("median answer", median(medians), "ms", 5.0, &how);
    println!(
        "  that is {:.1} times a row in a bare SQLite on the same disk, WAL and FULL",
        median(ratios)
    );
    let burst = beat_at_once(watchpost.address, BURST);
    println!("  {BURST} beats at once: median {:.1} ms, p99 {:.1} ms", median(burst.clone()), {
        quantile(&burst, 0.99)
    });
    watchpost.stop();

    let mut shown = Vec::new();
    let starts: Vec<f64> = (0..STARTS)
        .map(|_| {
            let began = Instant::now();
            let watchpost = Watchpost::start(&config, &book);
            let took = began.elapsed().as_secs_f64();
            while watchpost.deadlines() < SWITCHES {
                assert!(began.elapsed() < PATIENCE, "every deadline is open again");
            }
            shown.push(began.elapsed().as_secs_f64());
            watchpost.stop();
            took
        })
        .collect();
    let how =
        format!("{starts:.2?} until it is ready, {shown:.2?} until every deadline is on the page");
    table.at_most("start", median(starts), "s", 1.0, &how);
    table.verdict()
}

fn uuid(number: usize) -> String {
    format!("c5d1f1e0-8b67-4c5f-9d43-{number:012x}")
}

fn yaml() -> String {
    let mut yaml =
        "receivers:\n  - name: oncall\n    webhook: { url: 'http://127.0.0.1:9/' }\ndeadman:\n"
            .to_owned();
    for number in 0..SWITCHES {
        writeln!(yaml, "  - name: job-{number}").unwrap();
        writeln!(yaml, "    interval: {}s", EVERY.as_secs()).unwrap();
        writeln!(yaml, "    grace: 1h\n    uuid: {}", uuid(number)).unwrap();
        writeln!(yaml, "    notify: [oncall]").unwrap();
    }
    yaml
}

/// The built binary.
struct Watchpost {
    child: Child,
    address: SocketAddr,
}

impl Watchpost {
    fn start(config: &Path, book: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_watchpost"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", book.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
            let listens = line.split_once("listen=").filter(|_| line.contains("is ready"));
            if let Some((_, rest)) = listens {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, address }
    }

    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let behind_name = stat.rsplit_once(") ").unwrap().1;
        let ticks = behind_name.split(' ').skip(11).take(2).map(|n| n.parse::<f64>().unwrap());
        ticks.sum::<f64>() / TICKS
    }

    /// Switches whose deadline is on the page.
    fn deadlines(&self) -> usize {
        let page = exchange(self.address, "/metrics");
        let name = "watchpost_deadman_deadline_timestamp_seconds{";
        page.lines().filter(|line| line.starts_with(name)).count()
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Watchpost {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn exchange(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// One beat, durable when it is answered. In milliseconds.
fn beat(address: SocketAddr, number: usize) -> f64 {
    let began = Instant::now();
    let answer = exchange(address, &format!("/ping/{}", uuid(number)));
    let took = began.elapsed().as_secs_f64() * 1e3;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    took
}

/// Beats at the pace of all switches, spread evenly.
fn beat_for(address: SocketAddr, window: Duration) -> Vec<f64> {
    let pace = EVERY.as_secs_f64() / SWITCHES as f64;
    let count = (window.as_secs_f64() / pace) as usize;
    let began = Instant::now();
    run(count, |number| {
        let due = began + Duration::from_secs_f64(pace * number as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        beat(address, number)
    })
}

fn beat_at_once(address: SocketAddr, count: usize) -> Vec<f64> {
    run(count, |number| beat(address, number))
}

/// Shares `count` numbers among the clients.
fn run(count: usize, work: impl Fn(usize) -> f64 + Sync) -> Vec<f64> {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut took = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return took;
            }
            took.push(work(number));
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * share) as usize;
    sorted[place.min(sorted.len() - 1)]
}

/// One row after the other in a bare SQLite on the same disk. In milliseconds.
fn commits(folder: &Path, round: usize) -> Vec<f64> {
    let path = folder.join("bare.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS beats (key TEXT PRIMARY KEY, data TEXT) WITHOUT ROWID",
        )
        .unwrap();
    // SQLite writes nothing where a row becomes what it is already.
    let data = format!("{round:0>400}");
    let one = |number: usize| {
        let began = Instant::now();
        let sql = "INSERT OR REPLACE INTO beats VALUES (?1, ?2)";
        let transaction = connection.unchecked_transaction().unwrap();
        transaction.prepare_cached(sql).unwrap().execute(params![uuid(number), data]).unwrap();
        transaction.commit().unwrap();
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..COMMITS).map(one).collect()
}
