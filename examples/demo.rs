//! `cargo run --release --example demo`: a small estate with every incident that a prober can meet, and watchpost on it.
//!
//! Everything runs inside this process, on loopback, and ends with it.

#[path = "demo/estate.rs"]
mod estate;

use std::error::Error;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use watchpost::app::{self, Options, ProbeOptions, WebOptions};
use watchpost::config::{self, Config, Environment, Problems};
use watchpost::log;
use watchpost::net::Net;
use watchpost::schedule::Shard;

use estate::{DISCOVERED, Estate, GROUPS, Says};

/// blackbox_exporter's port, when it is free.
const USUAL_PORT: u16 = 9115;
/// After this long the file with targets turns empty.
const DISCOVERY_BREAKS_AFTER: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    log::start(log::Threshold::Warn, log::Threshold::Error, log::Format::Logfmt);
    let folder = tempfile::tempdir()?;
    // It serves until the process ends, on threads of its own.
    let runtime = tokio::runtime::Runtime::new()?;
    let estate = Arc::new(runtime.block_on(Estate::start(folder.path()))?);
    let (door, blind_door) = (free_port(USUAL_PORT)?, free_port(0)?);
    announce(&estate, door, blind_door)?;

    let blind = estate.blind_config();
    std::thread::Builder::new()
        .name("blind".to_owned())
        .spawn(move || watch(&blind, blind_door))?;
    let generator = Arc::clone(&estate);
    std::thread::Builder::new().name("generator".to_owned()).spawn(move || {
        std::thread::sleep(DISCOVERY_BREAKS_AFTER);
        generator.empty_discovery()
    })?;
    watch(&estate.config(), door).map_err(|error| -> Box<dyn Error> { error })
}

/// Runs watchpost until a signal.
fn watch(config: &Path, port: u16) -> Result<(), Box<dyn Error + Send + Sync>> {
    let load = {
        let path = config.to_owned();
        move || read(&path)
    };
    let options = Options {
        net: Arc::new(Net::from_system(|_| None)),
        listen: vec![format!("127.0.0.1:{port}")],
        shard: Shard::WHOLE,
        auto_reload: None,
        beats: Vec::new(),
        storage: None,
        web: WebOptions::default(),
        probe: ProbeOptions::default(),
        load: Box::new(load.clone()),
    };
    let config = load().map_err(|problems| problems.to_string())?;
    Ok(app::run(config, options)?)
}

fn read(path: &Path) -> Result<Config, Problems> {
    let names = Net::from_system(|_| None).resolver;
    let environment = Environment { variable: &|_| None, host_name: "demo".to_owned(), names };
    config::load(&[PathBuf::from(path)], &environment)
}

/// `wanted`, or another one when it is taken.
fn free_port(wanted: u16) -> std::io::Result<u16> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(bound.local_addr()?.port())
}

fn announce(estate: &Estate, door: u16, blind_door: u16) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "An estate with incidents, and watchpost on it.\n")?;
    writeln!(out, "{:20} {:26} {:9} reason, phase", "probe", "incident", "status")?;
    for scenario in estate.scenarios() {
        let (status, reason, phase) = match scenario.says {
            Says::Up => ("up", "", None),
            Says::Degraded(reason, phase) => ("degraded", reason, phase),
            Says::Down(reason, phase) => ("down", reason, phase),
        };
        let phase = phase.map(|phase| format!(", {phase}")).unwrap_or_default();
        let (probe, incident) = (scenario.probe, scenario.incident);
        writeln!(out, "{probe:20} {incident:26} {status:9} {reason}{phase}")?;
    }
    writeln!(out)?;
    for (probe, status) in GROUPS {
        writeln!(out, "Too few members are up: the probe {probe} is {status}.")?;
    }
    writeln!(
        out,
        "After {} s the file with the targets of {DISCOVERED} turns empty: its last list stays in use.\n\n\
         In 15 seconds each of them is named:\n\
         \x20 page             http://127.0.0.1:{door}/\n\
         \x20 metrics          http://127.0.0.1:{door}/metrics\n\
         \x20                  probe_failure_info           reason and phase of each failure\n\
         \x20                  probe_exporter_restarts_total  the exporter that starts again and again\n\
         \x20                  watchpost_discovery_failed   the file that yields nothing any more\n\
         \x20 as JSON          http://127.0.0.1:{door}/api/v1/status?status=down\n\
         \x20 configuration    {}\n\
         \x20 a blind one      http://127.0.0.1:{blind_door}/   its own network is dead: it accuses nobody\n\n\
         Ctrl-C ends all of it.",
        DISCOVERY_BREAKS_AFTER.as_secs(),
        estate.config().display(),
    )?;
    out.flush()
}
