//! The built binary under load: started with a number of checks, and measured from outside.

#![allow(dead_code, reason = "each bench measures something else")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::peer::{Kind, Peer};

/// Ticks of the kernel's accounting in a second: fixed in what it shows to processes.
const TICKS: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// A running watchpost.
pub(crate) struct Watchpost {
    child: Child,
    address: String,
    _folder: TempDir,
}

/// What it did between two scrapes.
pub(crate) struct Load {
    pub(crate) runs: f64,
    /// CPU time in seconds; neither scrape is in it.
    pub(crate) cpu: f64,
    pub(crate) seconds: f64,
    pub(crate) skipped: f64,
    /// In milliseconds.
    pub(crate) p99_lateness: f64,
    pub(crate) failed: f64,
}

impl Watchpost {
    /// Starts it with `count` checks, http or https, and waits until each has run.
    pub(crate) fn of(kind: Kind, peer: &Peer, count: usize, interval: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("watchpost.yml");
        std::fs::write(&config, yaml(kind, peer, count, interval)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_watchpost"))
            .arg(format!("--config.file={}", config.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
            if let Some((_, rest)) =
                line.split_once("listen=").filter(|_| line.contains("is ready"))
            {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        thread::sleep(interval * 2 + Duration::from_secs(1));
        Self { child, address, _folder: folder }
    }

    /// Lets it run for a while.
    pub(crate) fn watch(&self, window: Duration) -> Load {
        let before = self.page();
        // What the scrape left to do.
        thread::sleep(Duration::from_millis(500));
        let (cpu, runs) = (self.cpu(), tokio::time::Instant::now());
        thread::sleep(window);
        let (cpu, seconds) = (self.cpu() - cpu, runs.elapsed().as_secs_f64());
        let after = self.page();
        let grown = |name: &str| sum(&after, name) - sum(&before, name);
        let all = grown("watchpost_schedule_lateness_seconds_count");
        Load {
            // Runs between the scrapes, brought to the time in which the CPU was measured.
            runs: all * seconds / (seconds + 0.5),
            cpu,
            seconds,
            skipped: grown("watchpost_schedule_skipped_total"),
            p99_lateness: quantile(&before, &after, 0.99) * 1e3,
            failed: grown("probe_runs_total") - grown("probe_runs_total{result=\"pass\""),
        }
    }

    /// Resident bytes now, and at most so far.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let status = self.proc("status");
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let pages: u64 = self.proc("statm").split(' ').nth(1).unwrap().parse().unwrap();
        (pages * PAGE_BYTES, kib("VmHWM:") << 10)
    }

    fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let behind_name = stat.rsplit_once(") ").unwrap().1;
        let ticks = behind_name.split(' ').skip(11).take(2).map(|n| n.parse::<f64>().unwrap());
        ticks.sum::<f64>() / TICKS
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// A scrape as Prometheus makes it: CPU seconds, seconds until it is read, bytes on the way.
    pub(crate) fn scrape(&self) -> (f64, f64, usize) {
        let (cpu, began) = (self.cpu(), tokio::time::Instant::now());
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: bench\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut page = Vec::new();
        stream.read_to_end(&mut page).unwrap();
        let wall = began.elapsed().as_secs_f64();
        (self.cpu() - cpu, wall, page.len())
    }

    pub(crate) fn page(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }
}

impl Drop for Watchpost {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn yaml(kind: Kind, peer: &Peer, count: usize, interval: Duration) -> String {
    let authority = serde_json::json!(peer.authority);
    let mut yaml = format!(
        "modules:\n  up: {{ prober: http, timeout: 5s, http: {{ tls_config: {{ ca: {authority} }} }} }}\n"
    );
    if count == 0 {
        return yaml;
    }
    let seconds = interval.as_secs();
    writeln!(
        yaml,
        "probes:\n  - name: bench\n    module: up\n    interval: {seconds}s\n    targets:"
    )
    .unwrap();
    for (number, address) in peer.addresses.iter().cycle().take(count).enumerate() {
        writeln!(yaml, "      - {}://{address}/health/{number}", kind.name()).unwrap();
    }
    yaml
}

/// The values of all series of a name added up; of those that have a label, when `name` is `name{label`.
fn sum(page: &str, name: &str) -> f64 {
    let (name, label) = name.split_once('{').unwrap_or((name, ""));
    let lines = page.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A quantile of the lateness between two pages, in seconds, by interpolation within its bucket.
fn quantile(before: &str, after: &str, share: f64) -> f64 {
    let name = "watchpost_schedule_lateness_seconds_bucket{le=\"";
    let buckets: Vec<(f64, f64)> = after
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .map(|rest| {
            let bound = rest.split('"').next().unwrap();
            let count = |page| sum(page, &format!("{name}{bound}\""));
            (bound.parse().unwrap_or(f64::INFINITY), count(after) - count(before))
        })
        .collect();
    let wanted = buckets.last().map_or(0.0, |(_, all)| all * share);
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if count >= wanted {
            return below.0 + (bound - below.0) * (wanted - below.1) / (count - below.1);
        }
        below = (bound, count);
    }
    f64::INFINITY
}
