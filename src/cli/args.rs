//! What may be typed. Flags that blackbox_exporter has carry its names, so that an existing unit file starts us unchanged.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::log;
use crate::model::Period;
use crate::schedule::{InvalidShard, Shard};

/// Asks services from outside whether they work, tells Prometheus, and keeps a heartbeat going only while alerting works.
#[derive(Debug, Parser)]
#[command(
    name = "watchpost",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the probes and serve the results (the default).
    Run(RunArgs),
    /// Show every problem of a configuration at once.
    CheckConfig(CheckConfigArgs),
    /// Ask one target once and explain the answer.
    Probe(ProbeArgs),
    /// Write a commented watchpost.yml from what answers at the given URLs.
    Init(InitArgs),
    /// Print what to paste into the configuration of Prometheus or Alertmanager.
    Snippet(SnippetArgs),
    /// Say whether Alertmanager, as configured, brings the Watchdog here, and how often it really does.
    Lint(LintArgs),
    /// Show open episodes and what is not delivered yet, of a running watchpost.
    Notifications(AskArgs),
    /// Show the dead man's switches of a running watchpost.
    Deadman(AskArgs),
    /// Tell nobody of a probe or a switch for a while, with an end and a reason.
    Pause(PauseArgs),
    /// End a pause early.
    Resume(ResumeArgs),
    /// Show what is paused, and what will be, of a running watchpost.
    Pauses(AskArgs),
    /// Beat a dead man's switch, or run a command and tell its start, its end and its exit code.
    Ping(PingArgs),
    /// Try the way to a receiver for real.
    Notify(NotifyArgs),
    /// Try the way to the service of a heartbeat for real.
    Heartbeat(HeartbeatArgs),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct RunArgs {
    /// Configuration file or folder; may be repeated. Default: the first of watchpost.yml, blackbox.yml, probes/.
    #[arg(long = "config.file", value_name = "PATH")]
    pub(super) config: Vec<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long = "config.check", overrides_with = "no_check")]
    pub(super) check: bool,
    #[arg(long = "no-config.check", hide = true)]
    no_check: bool,
    /// Reload when a configuration file changes.
    #[arg(long = "config.enable-auto-reload", overrides_with = "no_auto_reload")]
    pub(super) auto_reload: bool,
    #[arg(long = "no-config.enable-auto-reload", hide = true)]
    no_auto_reload: bool,
    /// Seconds between looks at the configuration files.
    #[arg(long = "config.auto-reload-interval", value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) auto_reload_interval: u64,
    /// Address to serve on; may be repeated.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":9115")]
    pub(super) listen: Vec<String>,
    /// Take the sockets that systemd has bound instead; needs --web.external-url.
    #[arg(long = "web.systemd-socket", overrides_with = "no_systemd_socket")]
    pub(super) systemd_socket: bool,
    #[arg(long = "no-web.systemd-socket", hide = true)]
    no_systemd_socket: bool,
    /// TLS, basic authentication, headers and rate limit, in the exporter toolkit's vocabulary.
    #[arg(long = "web.config.file", value_name = "PATH", default_value = "")]
    pub(super) web_config: String,
    /// Where people reach this watchpost; its path is the prefix of all paths.
    #[arg(long = "web.external-url", value_name = "URL")]
    pub(super) external_url: Option<String>,
    /// Prefix of all paths. Default: the path of --web.external-url.
    #[arg(long = "web.route-prefix", value_name = "PATH")]
    pub(super) route_prefix: Option<String>,
    /// Seconds that /probe keeps from the scraper's timeout.
    #[arg(
        long = "timeout-offset",
        value_name = "SECONDS",
        default_value_t = 0.5,
        allow_negative_numbers = true
    )]
    pub(super) timeout_offset: f64,
    /// Runs of /probe that are remembered, and as many failures beside them.
    #[arg(long = "history.limit", value_name = "COUNT", default_value_t = 100)]
    pub(super) history_limit: usize,
    /// Runs of /probe that may be in flight; more are told to come again.
    #[arg(long = "probe.max-in-flight", value_name = "COUNT", default_value_t = 2000,
        value_parser = parse_count)]
    pub(super) max_in_flight: usize,
    /// Count durations of runs of /probe by module.
    #[arg(long = "probe.histogram")]
    pub(super) histogram: bool,
    /// Address that serves only beats: /ping and /alertmanager; may be repeated.
    #[arg(long = "beats.listen-address", value_name = "ADDRESS")]
    pub(super) beats: Vec<String>,
    /// Folder of the book: last beats, episodes, notifications. Default: they are kept in memory only.
    #[arg(long = "storage.path", value_name = "FOLDER")]
    pub(super) storage: Option<PathBuf>,
    /// Run only this share of the checks.
    #[arg(long = "shard", value_name = "I/N", value_parser = parse_shard)]
    pub(super) shard: Option<Shard>,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "not a number above 0".to_owned())
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    text.parse().map_err(|error: InvalidShard| error.to_string())
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Lowest level that is logged.
    #[arg(long = "log.level", value_enum, default_value_t)]
    pub(super) level: log::Threshold,
    /// Form of the log's lines.
    #[arg(long = "log.format", value_enum, default_value_t)]
    pub(super) format: log::Format,
    /// Lowest level that is logged about single runs of /probe.
    #[arg(long = "log.prober", value_name = "LEVEL", default_value = "info")]
    prober: String,
}

impl LogArgs {
    /// As upstream, a level that there is not is warned about and is info.
    pub(super) fn prober(&self) -> Result<log::Threshold, String> {
        log::Threshold::from_str(&self.prober, true)
            .map_err(|_| format!("there is no level {:?} for --log.prober", self.prober))
    }
}

#[derive(Debug, Args)]
pub(super) struct CheckConfigArgs {
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// The folder of the book that it is to be run with.
    #[arg(long = "storage.path", value_name = "FOLDER")]
    pub(super) storage: Option<PathBuf>,
    /// The share of the checks that it is to be run with.
    #[arg(long = "shard", value_name = "I/N", value_parser = parse_shard)]
    pub(super) shard: Option<Shard>,
}

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// URL, host:port or host.
    pub(super) target: String,
    /// Module to ask with. Default: chosen by the form of the target.
    #[arg(long, short, value_name = "NAME")]
    pub(super) module: Option<String>,
    /// Configuration file or folder with the module; may be repeated.
    #[arg(long = "config.file", value_name = "PATH")]
    pub(super) config: Vec<PathBuf>,
    /// Ask again until it passes, for this long.
    #[arg(long, value_name = "DURATION", value_parser = parse_period)]
    pub(super) wait: Option<Period>,
    /// Budget of one run. Default: the module's, or 10s.
    #[arg(long, value_name = "DURATION", value_parser = parse_period)]
    pub(super) timeout: Option<Period>,
    /// Name to present instead of the target's own.
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
    /// Also print what was noted on the way.
    #[arg(long)]
    pub(super) debug: bool,
}

fn parse_period(text: &str) -> Result<Period, String> {
    Period::parse(text).map_err(|wrong| wrong.replace(crate::model::HINT, "; "))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Output {
    #[default]
    Text,
    Json,
    Metrics,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// URLs, or host:port.
    #[arg(required = true, value_name = "URL")]
    pub(super) urls: Vec<String>,
    /// Where to write; `-` is standard output.
    #[arg(long, short, value_name = "PATH", default_value = "watchpost.yml")]
    pub(super) output: PathBuf,
    /// Replace a file that exists.
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// Where the running watchpost serves.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9115")]
    pub(super) address: String,
    /// Print what it answers as it is.
    #[arg(long)]
    pub(super) json: bool,
}

/// What may be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Pausable {
    Probe,
    Deadman,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub(super) struct PauseArgs {
    #[arg(value_enum)]
    pub(super) kind: Pausable,
    pub(super) name: String,
    /// How long, such as 2h.
    #[arg(long = "for", value_name = "DURATION", group = "end", value_parser = parse_period)]
    pub(super) lasts: Option<Period>,
    /// Until when, such as 2026-11-21T18:00:00Z.
    #[arg(long, value_name = "TIME", group = "end")]
    pub(super) until: Option<jiff::Timestamp>,
    /// From when on. Default: now.
    #[arg(long, value_name = "TIME")]
    pub(super) begins: Option<jiff::Timestamp>,
    /// Why; it is shown wherever the pause is.
    #[arg(long)]
    pub(super) reason: String,
    /// Who pauses. Default: the user's name.
    #[arg(long)]
    pub(super) by: Option<String>,
    #[command(flatten)]
    pub(super) at: TellArgs,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[arg(value_enum)]
    pub(super) kind: Pausable,
    pub(super) name: String,
    #[command(flatten)]
    pub(super) at: TellArgs,
}

#[derive(Debug, Args)]
pub(super) struct TellArgs {
    /// Where the running watchpost serves.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9115")]
    pub(super) address: String,
    /// File with the key of `api_key_file`.
    #[arg(long, value_name = "PATH")]
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// The switch's URL: https://HOST/ping/UUID, or https://HOST/ping/KEY/SLUG.
    #[arg(value_name = "URL")]
    pub(super) url: String,
    /// Command to run, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    #[command(subcommand)]
    pub(super) what: NotifyVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum NotifyVerb {
    /// Send a marked test and its end, and say what came of them: exit code 0 when both were taken.
    Test {
        /// A name of `receivers:`.
        name: String,
        /// Configuration file or folder; may be repeated.
        #[arg(long = "config.file", value_name = "PATH")]
        config: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct HeartbeatArgs {
    #[command(subcommand)]
    pub(super) what: HeartbeatVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum HeartbeatVerb {
    /// Send one beat, whatever its evidence says, and ask whether it was recorded: exit code 0 when it was taken and, where
    /// the service can be asked, recorded.
    Test(HeartbeatTest),
}

#[derive(Debug, Args)]
pub(super) struct HeartbeatTest {
    /// A name of `heartbeats:`.
    pub(super) name: String,
    /// Configuration file or folder; may be repeated.
    #[arg(long = "config.file", value_name = "PATH")]
    pub(super) config: Vec<PathBuf>,
    /// How long the service may take to show that it recorded the beat.
    #[arg(long, value_name = "DURATION", value_parser = parse_period, default_value = "60s")]
    pub(super) wait: Period,
}

#[derive(Debug, Args)]
pub(super) struct SnippetArgs {
    #[arg(value_enum)]
    pub(super) kind: SnippetKind,
    /// Where Prometheus, or Alertmanager, reaches this watchpost: HOST:PORT or a URL.
    #[arg(long, value_name = "ADDRESS", default_value = "localhost:9115")]
    pub(super) address: String,
    /// Configuration file or folder whose watchdogs are meant; may be repeated. Default: one called alerting.
    #[arg(long = "config.file", value_name = "PATH")]
    pub(super) config: Vec<PathBuf>,
    /// File on Alertmanager's machine that holds the watchdog's key. Default: /etc/alertmanager/watchpost-NAME.
    #[arg(long, value_name = "PATH")]
    pub(super) credentials_file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SnippetKind {
    /// The scrape job.
    Prometheus,
    /// Route and receiver of the Watchdog for alertmanager.yml, and after a `---` its rule.
    Alertmanager,
    /// The Watchdog rule alone.
    Rules,
}

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// alertmanager.yml, and where it helps prometheus.yml and files of rules: each is known by its keys.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Configuration file or folder of watchpost, may be repeated: its watchdogs are what must be fed.
    #[arg(long = "config", visible_alias = "config.file", value_name = "PATH")]
    pub(super) config: Vec<PathBuf>,
    /// A label that the Watchdog has beside the shipped rule's, such as one of Prometheus's external labels; may be
    /// repeated. An empty value takes a label away.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub(super) labels: Vec<(String, String)>,
    /// Alertmanagers in the cluster. Default: as many as the configuration lists.
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub(super) peers: Option<usize>,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() {
        return Err("a label has a name".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_unit_file_of_blackbox_exporter_starts_us() {
        let line = [
            "watchpost",
            "--config.file=/etc/b.yml",
            "--web.listen-address=:9999",
            "--log.level=warn",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.run.config, [PathBuf::from("/etc/b.yml")]);
        assert_eq!(cli.run.listen, [":9999"]);
        assert_eq!(cli.run.log.level, log::Threshold::Warn);
        assert!(Cli::try_parse_from(["watchpost", "stray"]).is_err());
    }
}
