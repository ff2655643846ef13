//! `watchpost init URL…`: asks what is there and writes a commented configuration for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::args::InitArgs;
use super::{Exit, complain, environment, print};
use crate::clock;
use crate::model::{Answer, Mistakes, Outcome, Target, family};
use crate::net::Net;
use crate::probe::{self, ModuleSpec};

/// The budget of each question.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A way to ask, in the order in which they are tried for a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Exporter,
    Http,
    Certificate,
    Tcp,
}

impl Way {
    const fn module(self) -> &'static str {
        match self {
            Self::Exporter => "exporter",
            Self::Http => "http_2xx",
            Self::Certificate => "certificate",
            Self::Tcp => "tcp_connect",
        }
    }

    const fn prober(self) -> &'static str {
        match self {
            Self::Exporter => "exporter",
            Self::Http => "http",
            Self::Certificate => "tls",
            Self::Tcp => "tcp",
        }
    }

    const fn definition(self) -> &'static str {
        match self {
            Self::Exporter => {
                "  # A page of metrics: it must be one that Prometheus would take.\n  \
                 exporter: { prober: exporter, timeout: 5s }\n"
            }
            Self::Http => {
                "  # Any status from 200 to 299. For a page that says 200 whatever happens, add\n  \
                 # http: { fail_if_body_not_matches_regexp: ['something only the right page says'] }\n  \
                 http_2xx: { prober: http, timeout: 5s }\n"
            }
            Self::Certificate => {
                "  # The chain must be right; an end within 14 days is degraded, within 3 days down.\n  \
                 certificate: { prober: tls, timeout: 5s, tls: { warn_if_expires_within: 14d, fail_if_expires_within: 3d } }\n"
            }
            Self::Tcp => {
                "  # Something accepts connections.\n  tcp_connect: { prober: tcp, timeout: 5s }\n"
            }
        }
    }

    const fn interval(self) -> &'static str {
        match self {
            Self::Certificate => "10m",
            Self::Exporter => "15s",
            Self::Http | Self::Tcp => "30s",
        }
    }
}

/// A target with what it answered.
struct Found {
    address: String,
    comment: String,
}

pub(super) fn run(args: &InitArgs) -> ExitCode {
    let odd = |letter: char| letter.is_control() || letter.is_whitespace();
    if let Some(url) = args.urls.iter().find(|url| url.is_empty() || url.contains(odd)) {
        complain(&format!("error: {url:?} is no URL and no host:port"));
        return ExitCode::from(Exit::USAGE);
    }
    let to_file = args.output != Path::new("-");
    if to_file && args.output.exists() && !args.force {
        complain(&format!(
            "{} exists; use --force to replace it, or --output=- to print",
            args.output.display()
        ));
        return ExitCode::from(Exit::USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(Exit::FAILED);
        }
    };
    let text = render(&runtime.block_on(explore(&args.urls)));
    if !to_file {
        print(&text);
        return ExitCode::SUCCESS;
    }
    if let Err(error) = std::fs::write(&args.output, &text) {
        complain(&format!("cannot write {}: {error}", args.output.display()));
        return ExitCode::from(Exit::FAILED);
    }
    let path = args.output.display();
    print(&format!(
        "wrote {path}\nnext:  watchpost check-config {path}\n       watchpost --config.file={path}\n       watchpost snippet prometheus\n"
    ));
    ExitCode::SUCCESS
}

async fn explore(urls: &[String]) -> BTreeMap<Way, Vec<Found>> {
    let net = environment::net();
    let mut found: BTreeMap<Way, Vec<Found>> = BTreeMap::new();
    for url in urls {
        for (way, target) in explore_one(url, &net).await {
            let known = found.entry(way).or_default();
            if !known.iter().any(|other| other.address == target.address) {
                known.push(target);
            }
        }
    }
    found
}

/// What answers at one URL. Nothing that answers is still probed: that it is down now may be why somebody sets this up.
async fn explore_one(url: &str, net: &Net) -> Vec<(Way, Found)> {
    let lower = url.to_ascii_lowercase();
    let secure = lower.starts_with("https://");
    let mut ways = Vec::new();
    if !secure && !lower.starts_with("http://") {
        let tls = ask(Way::Certificate, url, net).await;
        let way = if tls.fact(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY).is_some() {
            Way::Certificate
        } else {
            Way::Tcp
        };
        let outcome = if way == Way::Tcp { ask(Way::Tcp, url, net).await } else { tls };
        return vec![(way, found(url, &outcome))];
    }
    let metrics = ask(Way::Exporter, url, net).await;
    if metrics.answer.is_success() {
        ways.push((Way::Exporter, found(url, &metrics)));
    } else {
        let page = ask(Way::Http, url, net).await;
        ways.push((Way::Http, found(url, &page)));
    }
    if secure && let Some(host_port) = host_port(url) {
        let tls = ask(Way::Certificate, &host_port, net).await;
        ways.push((Way::Certificate, found(&host_port, &tls)));
    }
    ways
}

fn host_port(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

async fn ask(way: Way, address: &str, net: &Net) -> Outcome {
    let spec = ModuleSpec { prober: Some(way.prober().to_owned()), ..ModuleSpec::default() };
    let module =
        spec.build(way.module(), &mut Mistakes::default()).expect("a module of defaults is right");
    probe::run(&module, &Target::plain(address), TIMEOUT, net, clock::now()).await
}

fn found(address: &str, outcome: &Outcome) -> Found {
    let millis = outcome.took.as_secs_f64() * 1e3;
    let comment = match &outcome.answer {
        Answer::Pass => {
            let mut said = format!("answered in {millis:.0} ms");
            if let Some(samples) = outcome.fact(&family::PROBE_EXPORTER_SAMPLES) {
                write!(said, ", {samples} samples").ok();
            } else if let Some(status) = outcome.fact(&family::PROBE_HTTP_STATUS_CODE) {
                write!(said, " with status {status}").ok();
            }
            said
        }
        other => format!("when this was written: {other}"),
    };
    // What a target says must not become a line of its own.
    Found { address: address.to_owned(), comment: comment.replace(char::is_control, " ") }
}

fn render(found: &BTreeMap<Way, Vec<Found>>) -> String {
    let mut text = String::from(
        "# Written by `watchpost init`. Check it with `watchpost check-config`, run it with\n\
         # `watchpost --config.file=PATH`, and let Prometheus scrape it: `watchpost snippet prometheus`.\n\n\
         # How to ask and what to expect.\nmodules:\n",
    );
    for way in found.keys() {
        text.push_str(way.definition());
    }
    text.push_str("\n# What is asked. The name becomes the label job, the target the label instance.\nprobes:\n");
    for (way, targets) in found {
        let module = way.module();
        write!(
            text,
            "  - name: {module}\n    module: {module}\n    interval: {}\n",
            way.interval()
        )
        .ok();
        text.push_str("    failure_threshold: 2     # runs in a row before it is down\n");
        text.push_str(
            "    retry_interval: 5s       # ask again this soon while that is undecided\n",
        );
        text.push_str("    targets:\n");
        for target in targets {
            let address = serde_json::to_string(&target.address).expect("text is JSON");
            writeln!(text, "      - {address}   # {}", target.comment).ok();
        }
    }
    text.push_str(
        "\n# While none of these answers, this watchpost is the one that is cut off, and accuses nobody.\n\
         # references: ['1.1.1.1:443', 'your-gateway:22']\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::{Problems, Source, parse};

    #[test]
    fn what_is_written_is_yaml() {
        let one = |address: &str| vec![Found { address: address.into(), comment: "x: #".into() }];
        let found = [
            (Way::Exporter, one("http://a:9100/metrics")),
            (Way::Http, one("https://b/")),
            (Way::Certificate, one("b:443")),
            (Way::Tcp, one("c:22")),
        ];
        let text = render(&found.into_iter().collect());
        let mut problems = Problems::new();
        let root = parse(Source::inline(&text), &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(root.get("probes").unwrap().items().len(), 4);
        assert_eq!(root.find("probes.1.targets.0").text(), Some("https://b/"));
    }
}
