//! How long `/metrics` of ten thousand checks takes to render, and whether that grows in proportion to their number.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]

mod support {
    pub(crate) mod checks;
    pub(crate) mod peer;
    pub(crate) mod table;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use support::checks::{TIMEOUT, checks, ledger, module};
use support::peer::{self, Kind, Peer};
use support::table::{Table, median};
use tokio::runtime::Builder;
use tokio::time::Instant;
use watchpost::app::ledger::Finished;
use watchpost::board::Board;
use watchpost::clock;
use watchpost::metrics::exposition::{Encoding, Writer};
use watchpost::metrics::{Shown, render_results};
use watchpost::net::Net;
use watchpost::probe;

const CHECKS: usize = 10_000;
const ROUNDS: usize = 9;

fn main() -> ExitCode {
    if peer::served() {
        return ExitCode::SUCCESS;
    }
    let mut table = Table::titled("Rendering /metrics of 10,000 checks");
    for kind in [Kind::Http, Kind::Https] {
        let peer = Peer::start(kind);
        // Not fewer checks: the allocator keeps smaller pages for the next time and makes them look cheaper.
        let boards = [filled(kind, &peer, CHECKS), filled(kind, &peer, 4 * CHECKS)];
        let mut took = [Vec::new(), Vec::new()];
        let (mut walls, mut page) = (Vec::new(), Vec::new());
        // The first page of each does not know its length.
        let mut lengths = boards.each_ref().map(|board| render(board, 0).len());
        let bytes = lengths[0];
        for _ in 0..ROUNDS {
            for ((board, took), length) in boards.iter().zip(&mut took).zip(&mut lengths) {
                drop(page);
                let (wall, before) = (Instant::now(), cpu_time());
                page = render(board, *length);
                *length = page.len();
                took.push((cpu_time() - before).as_secs_f64() * 1e3);
                walls.push(wall.elapsed().as_secs_f64() * 1e3);
            }
        }
        let [whole, fourfold] = took.map(median);
        let wall = median(walls.into_iter().step_by(2).collect());
        let lines = page.split(|byte| *byte == b'\n').count() / 4;
        let how = format!(
            "{wall:.0} ms on the wall; {} MB, {} lines and {} bytes a check",
            bytes >> 20,
            lines / CHECKS,
            bytes / CHECKS
        );
        table.at_most(&format!("{}, CPU", kind.name()), whole, "ms", 150.0, &how);
        let growth = fourfold / whole;
        table.at_most(
            &format!("{}, growth", kind.name()),
            growth,
            "times",
            5.0,
            "for 4 times the checks",
        );
    }
    table.verdict()
}

/// A board on which every check has run once. One real outcome is everybody's.
fn filled(kind: Kind, peer: &Peer, count: usize) -> Arc<Board> {
    let module = module(kind, peer);
    let checks = checks(kind, &module, peer, count);
    let (board, mut ledger) = ledger(checks.clone());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let net = Net::from_system(|_| None);
    let run = probe::run(&module, &checks[0].target, TIMEOUT, &net, clock::now());
    let outcome = runtime.block_on(run);
    assert!(outcome.answer.is_success(), "the peer answers as it should");
    for check in checks {
        let finished = Finished { id: check.id, outcome: outcome.clone(), early: false };
        drop(ledger.record(finished, clock::now()));
    }
    board
}

/// As the web door does it: the buffer has room for a page a little longer than the last one.
fn render(board: &Board, last: usize) -> Vec<u8> {
    let scrape = board.begin_scrape();
    let views = board.snapshot().views();
    let space = Vec::with_capacity(last + last / 16);
    let mut writer = Writer::append_to(space, Encoding::Text004);
    render_results(&Shown { views: &views, now: clock::now(), scrape }, &mut writer);
    writer.finish()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
