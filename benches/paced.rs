//! What a run costs when the schedule paces it: 1,000 runs in a second by the built binary, where waking up dominates.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]

mod support {
    pub(crate) mod floor;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod table;
}

use std::process::ExitCode;
use std::time::Duration;

use support::floor::{Floor, cpu_time};
use support::peer::{self, Kind, Peer};
use support::process::Watchpost;
use support::table::{Table, median};

const CHECKS: usize = 1000;
const ROUNDS: usize = 5;
const WINDOW: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if peer::served() {
        return ExitCode::SUCCESS;
    }
    let mut table =
        Table::titled("CPU of a paced run, as a multiple of the bare exchange; 1,000 a second");
    let peer = Peer::start(Kind::Http);
    let floor = Floor::new(Kind::Http, &peer);
    let began = cpu_time();
    floor.measure(CHECKS);
    let watchpost = Watchpost::of(Kind::Http, &peer, CHECKS, Duration::from_secs(1));
    let (mut floors, mut ours, mut late) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut wrong) = (Vec::new(), 0.0);
    for _ in 0..ROUNDS {
        floors.push(floor.measure(4 * CHECKS).as_secs_f64() * 1e6);
        let load = watchpost.watch(WINDOW);
        ours.push(load.cpu / load.runs * 1e6);
        rates.push(load.runs / load.seconds);
        late.push(load.p99_lateness);
        wrong += load.skipped + load.failed;
    }
    let ratios = ours.iter().zip(&floors).map(|(ours, floor)| ours / floor).collect();
    let how = format!("{:.1} us against {:.1} us", median(ours), median(floors));
    table.at_most(Kind::Http.name(), median(ratios), "times", 4.0, &how);
    let (rate, late) = (median(rates), median(late));
    let how = format!("{rate:.0} runs a second, p99 lateness {late:.1} ms");
    table.at_most("skipped or failed", wrong, "runs", 0.0, &how);
    let resident = watchpost.resident().0 >> 20;
    println!(
        "  {resident} MiB resident; the bench itself used {:.1} s",
        (cpu_time() - began).as_secs_f64()
    );
    table.verdict()
}
