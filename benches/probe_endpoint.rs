//! What a request for `/probe` costs beside blackbox_exporter: CPU time of the process, and its memory.
//!
//! Both run as built, with one file of modules, and are asked in turn as Prometheus asks. Debian's package
//! `prometheus-blackbox-exporter` is the reference; without it there is nothing to compare with, which `--check` takes for
//! a failure.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and a panic is a failed one"
)]

mod support {
    pub(crate) mod exporter;
    pub(crate) mod peer;
    pub(crate) mod table;
}

use std::path::Path;
use std::process::ExitCode;

use support::exporter::Exporter;
use support::peer::{self, Kind, Peer};
use support::table::{Table, median};

const REFERENCE: &str = "/usr/bin/prometheus-blackbox-exporter";
const ROUNDS: usize = 9;
/// Of what the reference took of memory for itself.
const OWN_MEMORY: f64 = 0.5;
/// Of the reference's resident memory, the mapped program included.
const RESIDENT: f64 = 0.5;

const fn bound(kind: Kind) -> f64 {
    match kind {
        Kind::Tcp | Kind::Http | Kind::Dns => 0.35,
        Kind::Tls | Kind::Https => 0.5,
    }
}

const fn requests(kind: Kind) -> usize {
    match kind {
        Kind::Tcp | Kind::Http | Kind::Dns => 1200,
        Kind::Tls | Kind::Https => 500,
    }
}

fn main() -> ExitCode {
    if peer::served() {
        return ExitCode::SUCCESS;
    }
    if !Path::new(REFERENCE).exists() {
        println!("{REFERENCE} is not installed: nothing to compare with");
        return ExitCode::from(u8::from(std::env::args().any(|argument| argument == "--check")));
    }
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let mut table =
        Table::titled("A request for /probe, as a share of what blackbox_exporter takes");
    let folder = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        if only.as_deref().is_none_or(|only| only == kind.name()) {
            compare(kind, folder.path(), &mut table);
        }
    }
    table.verdict()
}

fn compare(kind: Kind, folder: &Path, table: &mut Table) {
    let peer = Peer::start(kind);
    let config = folder.join(format!("{}.yml", kind.name()));
    std::fs::write(&config, modules(kind, folder, &peer)).unwrap();
    let ours = Exporter::start(env!("CARGO_BIN_EXE_watchpost"), &config);
    let theirs = Exporter::start(REFERENCE, &config);
    let paths: Vec<String> = peer.addresses.iter().map(|address| path(kind, address)).collect();
    for (name, exporter) in [("watchpost", &ours), ("the reference", &theirs)] {
        let page = exporter.page(&paths[0]);
        assert!(page.contains("\nprobe_success 1\n"), "{name} fails: {page}");
    }
    let count = requests(kind);
    ours.measure(&paths, count / 4);
    theirs.measure(&paths, count / 4);
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| (theirs.measure(&paths, count) * 1e6, ours.measure(&paths, count) * 1e6))
        .collect();
    let ratio = median(rounds.iter().map(|(theirs, ours)| ours / theirs).collect());
    let (reference, own): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    let how = format!("{:.0} us against {:.0} us", median(own), median(reference));
    table.at_most(kind.name(), ratio, "times", bound(kind), &how);
    for (line, word, bound) in
        [("RssAnon:", "own memory", OWN_MEMORY), ("VmRSS:", "resident", RESIDENT)]
    {
        let (own, reference) = (ours.memory(line), theirs.memory(line));
        let how = format!("{:.1} MiB against {:.1} MiB", mebibytes(own), mebibytes(reference));
        let what = format!("{}, {word}", kind.name());
        table.at_most(&what, own / reference, "times", bound, &how);
    }
}

fn path(kind: Kind, address: &std::net::SocketAddr) -> String {
    let target = match kind {
        Kind::Tcp | Kind::Dns | Kind::Tls => address.to_string(),
        Kind::Http | Kind::Https => format!("{}://{address}/health", kind.name()),
    };
    format!("/probe?module=m&target={target}")
}

/// One module that both read alike.
fn modules(kind: Kind, folder: &Path, peer: &Peer) -> String {
    let authority = folder.join("authority.pem");
    std::fs::write(&authority, &peer.authority).unwrap();
    let tls = format!("tls_config: {{ ca_file: '{}' }}", authority.display());
    let ip4 = "preferred_ip_protocol: ip4";
    let module = match kind {
        Kind::Tcp => format!("prober: tcp, tcp: {{ {ip4} }}"),
        Kind::Http => format!("prober: http, http: {{ {ip4} }}"),
        Kind::Dns => format!("prober: dns, dns: {{ query_name: a.example, query_type: A, {ip4} }}"),
        Kind::Tls => format!("prober: tcp, tcp: {{ tls: true, {tls}, {ip4} }}"),
        Kind::Https => format!("prober: http, http: {{ {tls}, {ip4} }}"),
    };
    format!("modules:\n  m: {{ timeout: 5s, {module} }}\n")
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
