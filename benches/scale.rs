//! Ten thousand checks every ten seconds on loopback, by the built binary: CPU, lateness, skipped runs, memory.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]
#![expect(clippy::cast_precision_loss, reason = "bytes and checks are far below 2^53")]

mod support {
    pub(crate) mod floor;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod table;
}

use std::process::ExitCode;
use std::time::Duration;

use support::floor::Floor;
use support::peer::{self, Kind, Peer};
use support::process::Watchpost;
use support::table::{Table, median};

const CHECKS: usize = 10_000;
const INTERVAL: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    if peer::served() {
        return ExitCode::SUCCESS;
    }
    let mut table = Table::titled("10,000 checks every 10 s");
    let peer = Peer::start(Kind::Http);
    let (empty, _) = Watchpost::of(Kind::Http, &peer, 0, Duration::ZERO).resident();
    let watchpost = Watchpost::of(Kind::Http, &peer, CHECKS, INTERVAL);
    let (unread, _) = watchpost.resident();
    let floor = Floor::new(Kind::Http, &peer);
    let (mut shares, mut ratios, mut late) = (Vec::new(), Vec::new(), Vec::new());
    let (mut skipped, mut failed, mut runs) = (0.0, 0.0, 0.0);
    for _ in 0..ROUNDS {
        let bare = floor.measure(CHECKS / 4).as_secs_f64();
        let load = watchpost.watch(INTERVAL);
        ratios.push(load.cpu / load.runs / bare);
        shares.push(load.cpu / load.seconds * 100.0);
        late.push(load.p99_lateness);
        skipped += load.skipped;
        failed += load.failed;
        runs += load.runs;
    }
    let (resident, peak) = watchpost.resident();
    let rounds: Vec<_> = shares.iter().map(|share| share.round()).collect();
    let ratio = median(ratios);
    let how = format!("{rounds:?} in the rounds; a run is {ratio:.1} times the bare exchange");
    table.at_most("CPU of one core", median(shares), "%", 20.0, &how);
    let how = format!("{late:.1?} in the rounds");
    table.at_most("p99 lateness", median(late), "ms", 10.0, &how);
    table.at_most("skipped", skipped, "runs", 0.0, &format!("of {runs:.0}"));
    table.at_most("failed", failed, "runs", 0.0, "");
    let each = |bytes: u64| bytes.saturating_sub(empty) as f64 / CHECKS as f64 / 1024.0;
    let how = format!("{} MiB, of which {} the empty process", resident >> 20, empty >> 20);
    table.at_most("resident, for a check", each(resident), "KiB", 12.0, &how);
    println!(
        "  {:.1} KiB before the first scrape, {:.1} KiB at most, while a page is rendered",
        each(unread),
        each(peak)
    );
    table.verdict()
}
