//! What the built binary takes for a hundred, a thousand and ten thousand checks: for the sizes in `docs/operations.md`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]
#![expect(clippy::cast_precision_loss, reason = "bytes and checks are far below 2^53")]

mod support {
    pub(crate) mod peer;
    pub(crate) mod process;
}

use std::time::Duration;

use support::peer::{self, Kind, Peer};
use support::process::Watchpost;

const INTERVAL: Duration = Duration::from_secs(10);
const COUNTS: [usize; 3] = [100, 1_000, 10_000];
/// Small loads are noise in one interval.
const WINDOW: Duration = Duration::from_secs(20);
const MIB: f64 = (1 << 20) as f64;

fn main() {
    if peer::served() {
        return;
    }
    println!(
        "| checks, every 10 s | CPU of one core | resident | while `/metrics` is read | page | on the wire | scrape: CPU, time |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for kind in [Kind::Http, Kind::Https] {
        let peer = Peer::start(kind);
        for count in COUNTS {
            println!("{}", row(kind, &peer, count));
        }
    }
}

fn row(kind: Kind, peer: &Peer, count: usize) -> String {
    let watchpost = Watchpost::of(kind, peer, count, INTERVAL);
    let load = watchpost.watch(WINDOW);
    let (failed, skipped, late) = (load.failed, load.skipped, load.p99_lateness);
    assert!(load.runs > 0.0 && failed + skipped < 1.0, "{failed} failed, {skipped} skipped");
    let page = watchpost.page().len() as f64 / MIB;
    let (cpu, wall, bytes) = watchpost.scrape();
    let (resident, peak) = watchpost.resident();
    format!(
        "| {count} {} | {:.1} % | {:.0} MiB | {:.0} MiB | {page:.1} MiB | {:.2} MiB | {:.0} ms, {:.0} ms | {late:.1} ms |",
        kind.name(),
        load.cpu / load.seconds * 100.0,
        resident as f64 / MIB,
        peak as f64 / MIB,
        bytes as f64 / MIB,
        cpu * 1e3,
        wall * 1e3,
    )
}
