//! `watchpost run`: everything, until a signal.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::args::RunArgs;
use super::{Exit, check_config, complain, environment, print};
use crate::app::{self, AutoReloadOptions, Options, ProbeOptions, WebOptions};
use crate::{config, log};

pub(super) fn run(args: RunArgs) -> ExitCode {
    let prober = args.log.prober();
    let prober_level = *prober.as_ref().unwrap_or(&log::Threshold::Info);
    log::start(args.log.level, prober_level, args.log.format);
    if let Err(problem) = prober {
        tracing::warn!(problem, "single runs are logged from info on");
    }
    if environment::lacks_config(&args.config) {
        complain(
            "error: there is no watchpost.yml, blackbox.yml or probes/ here: name a configuration with \
             --config.file=PATH, or let `watchpost init URL…` write one",
        );
        return ExitCode::from(Exit::FAILED);
    }
    let paths = environment::config_paths(&args.config);
    // Before the files are read: what changes from here on is noticed, however long the start takes.
    let read = args.auto_reload.then(|| config::fingerprint(&paths));
    let net = Arc::new(environment::net());
    let names = net.resolver.clone();
    let config = match config::load(&paths, &environment::of_process(names.clone())) {
        Ok(config) => config,
        Err(problems) => {
            complain(&check_config::refusal(&problems));
            return ExitCode::from(Exit::FAILED);
        }
    };
    if !config.warnings.is_empty() {
        complain(&config.warnings.to_string());
    }
    if args.check {
        let shard = args.shard.unwrap_or_default();
        if let Err(error) = app::check_storage(&config, args.storage.as_deref(), shard) {
            complain(&format!("error: {error}"));
            return ExitCode::from(Exit::FAILED);
        }
        print(&check_config::summary(&config));
        return ExitCode::SUCCESS;
    }
    let watched = paths.clone();
    let every = Duration::from_secs(args.auto_reload_interval);
    let auto_reload = read.map(|read| AutoReloadOptions {
        every,
        read,
        fingerprint: Box::new(move || config::fingerprint(&watched)),
    });
    let options = Options {
        load: Box::new(move || config::load(&paths, &environment::of_process(names.clone()))),
        net,
        listen: args.listen,
        web: WebOptions {
            systemd_socket: args.systemd_socket,
            config_file: Some(args.web_config.into()),
            external_url: args.external_url,
            route_prefix: args.route_prefix,
        },
        probe: ProbeOptions {
            timeout_offset: args.timeout_offset,
            history_limit: args.history_limit,
            max_in_flight: args.max_in_flight,
            notes: matches!(prober_level, log::Threshold::Debug | log::Threshold::Info),
            histogram: args.histogram,
        },
        beats: args.beats,
        shard: args.shard.unwrap_or_default(),
        storage: args.storage,
        auto_reload,
    };
    match app::run(config, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::from(Exit::FAILED)
        }
    }
}
