//! What one run costs beside the same exchange on bare blocking sockets: CPU time of the process, 16 in flight.
//!
//! Ours is everything that a run is: probe, facts, rules, and the outcome counted, judged and shown on the board.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]

mod support {
    pub(crate) mod checks;
    pub(crate) mod floor;
    pub(crate) mod peer;
    pub(crate) mod table;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use support::checks::{TIMEOUT, checks, ledger, module};
use support::floor::{Floor, IN_FLIGHT, cpu_time};
use support::peer::{self, Kind, Peer};
use support::table::{Table, median};
use tokio::runtime::{Builder, Runtime};
use watchpost::app::ledger::{Finished, Ledger};
use watchpost::clock;
use watchpost::model::{Answer, Check, Mistakes, Target};
use watchpost::net::Net;
use watchpost::probe::{self, Module, ModuleSpec};

const ROUNDS: usize = 11;

const fn bound(kind: Kind) -> f64 {
    match kind {
        Kind::Tcp | Kind::Http => 2.0,
        Kind::Dns => 2.5,
        Kind::Tls | Kind::Https => 1.4,
    }
}

const fn exchanges(kind: Kind) -> usize {
    match kind {
        Kind::Tcp | Kind::Http | Kind::Dns => 4000,
        Kind::Tls | Kind::Https => 1200,
    }
}

fn main() -> ExitCode {
    if peer::served() {
        return ExitCode::SUCCESS;
    }
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let mut table = Table::titled("CPU of a run, as a multiple of the bare exchange; 16 in flight");
    for kind in Kind::ALL {
        if only.as_deref().is_none_or(|only| only == kind.name()) {
            compare(kind, &mut table);
        }
    }
    println!("  a run that goes on takes {} bytes, its buffers and sockets aside", size_of_a_run());
    table.verdict()
}

fn compare(kind: Kind, table: &mut Table) {
    let peer = Peer::start(kind);
    let floor = Floor::new(kind, &peer);
    let mut ours = Ours::new(kind, &peer);
    let count = exchanges(kind);
    floor.measure(count / 4);
    ours.measure(count / 4);
    let rounds: Vec<_> =
        (0..ROUNDS).map(|_| (micros(floor.measure(count)), micros(ours.measure(count)))).collect();
    let ratio = median(rounds.iter().map(|(floor, ours)| ours / floor).collect());
    let (floors, ours): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    let how = format!("{:.1} us against {:.1} us", median(ours), median(floors));
    table.at_most(kind.name(), ratio, "times", bound(kind), &how);
}

fn size_of_a_run() -> usize {
    let spec = ModuleSpec { prober: Some("http".to_owned()), ..ModuleSpec::default() };
    let module = spec.build("http", &mut Mistakes::default()).unwrap();
    let (target, net) = (Target::plain("127.0.0.1"), Net::from_system(|_| None));
    size_of_val(&probe::run(&module, &target, TIMEOUT, &net, clock::now()))
}

/// A lane's work and the owner's, on one thread.
struct Ours {
    runtime: Runtime,
    module: Module,
    net: Net,
    checks: Vec<Arc<Check>>,
    ledger: Ledger,
}

impl Ours {
    fn new(kind: Kind, peer: &Peer) -> Self {
        let module = module(kind, peer);
        let checks = checks(kind, &module, peer, peer.addresses.len());
        Self {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            module,
            net: Net::from_system(|_| None),
            ledger: ledger(checks.clone()).1,
            checks,
        }
    }

    fn measure(&mut self, count: usize) -> Duration {
        let before = cpu_time();
        let Self { runtime, module, net, checks, ledger } = self;
        runtime.block_on(async {
            let runs = checks.iter().cycle().take(count).map(|check| async {
                let started = clock::now();
                let outcome = probe::run(module, &check.target, TIMEOUT, net, started).await;
                (check.id, outcome)
            });
            let mut runs = stream::iter(runs).buffer_unordered(IN_FLIGHT);
            while let Some((id, outcome)) = runs.next().await {
                assert_eq!(outcome.answer, Answer::Pass, "the peer answers as it should");
                let finished = Finished { id, outcome, early: false };
                assert!(ledger.record(finished, clock::now()).is_known);
            }
        });
        (cpu_time() - before) / u32::try_from(count).expect("some thousands")
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
