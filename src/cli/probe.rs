//! `watchpost probe TARGET`: asks once, or until it passes, and explains the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::args::{Output, ProbeArgs};
use super::report::{self, Question};
use super::{Exit, check_config, complain, environment, print};
use crate::metrics::exposition::{Encoding, Writer};
use crate::metrics::render_outcome;
use crate::model::{Answer, Mistakes, Outcome, Period, Target};
use crate::probe::{self, Module, ModuleSpec, Report, Trace};
use crate::{clock, config};

/// The budget of a run where neither flag nor module says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries of `--wait`.
const WAIT_STEP: Duration = Duration::from_millis(500);

pub(super) fn run(args: &ProbeArgs) -> ExitCode {
    let module = match choose(args) {
        Ok(module) => module,
        Err(text) => {
            complain(&text);
            return ExitCode::from(Exit::USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(Exit::FAILED);
        }
    };
    let mut target = Target::plain(&args.target);
    target.hostname.clone_from(&args.hostname);
    let (outcome, trace) = runtime.block_on(ask(args, &module, &target));
    print(&show(args, &module, &outcome, &trace));
    if outcome.answer.is_success() { ExitCode::SUCCESS } else { ExitCode::from(Exit::FAILED) }
}

async fn ask(args: &ProbeArgs, module: &Module, target: &Target) -> (Outcome, Trace) {
    let net = environment::net();
    let timeout = args.timeout.map(Period::get).or(module.timeout).unwrap_or(DEFAULT_TIMEOUT);
    let end = args.wait.map(|wait| Instant::now() + wait.get());
    loop {
        let report = if args.debug { Report::traced() } else { Report::default() };
        let (outcome, trace) =
            probe::run_with(module, target, timeout, &net, clock::now(), report).await;
        let again = end.is_some_and(|end| Instant::now() + WAIT_STEP < end);
        if outcome.answer.is_success() || !again {
            return (outcome, trace);
        }
        sleep(WAIT_STEP).await;
    }
}

/// The module that was named, or one that fits the form of the target.
fn choose(args: &ProbeArgs) -> Result<std::sync::Arc<Module>, String> {
    let Some(name) = &args.module else { return Ok(std::sync::Arc::new(fitting(&args.target))) };
    let paths = environment::config_paths(&args.config);
    let config = config::load(&paths, &environment::of_process(environment::net().resolver))
        .map_err(|problems| check_config::refusal(&problems))?;
    config.modules.get(name.as_str()).cloned().ok_or_else(|| {
        let known: Vec<&str> = config.modules.keys().map(|name| &**name).collect();
        format!("there is no module {name:?}; there are {}", known.join(", "))
    })
}

/// `http` for URLs, `tls` for port 443 and the like, `tcp` for any other host and port.
pub(super) fn fitting(target: &str) -> Module {
    let (name, prober) = fitting_prober(target);
    let spec = ModuleSpec { prober: Some(prober.to_owned()), ..ModuleSpec::default() };
    spec.build(name, &mut Mistakes::default()).expect("a module of defaults is right")
}

fn fitting_prober(target: &str) -> (&'static str, &'static str) {
    let lower = target.to_ascii_lowercase();
    let port = target.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return if lower.trim_end_matches('/').ends_with("/metrics") {
            ("exporter", "exporter")
        } else {
            ("http_2xx", "http")
        };
    }
    match port {
        Some(443 | 465 | 636 | 853 | 990 | 993 | 995 | 8443) => ("tls", "tls"),
        Some(53) => ("tcp_connect", "tcp"),
        Some(_) => ("tcp_connect", "tcp"),
        None => ("http_2xx", "http"),
    }
}

fn show(args: &ProbeArgs, module: &Module, outcome: &Outcome, trace: &Trace) -> String {
    let prober = module.prober.kind();
    let mut text = match args.output {
        Output::Text => {
            let question = Question { target: &args.target, module: &module.name, prober };
            report::render(&question, outcome)
        }
        Output::Json => format!("{:#}\n", as_json(args, module, outcome)),
        Output::Metrics => metrics(module, outcome),
    };
    if args.debug && args.output == Output::Text {
        text.push_str("\n  notes\n");
        for (at, note) in trace.notes() {
            writeln!(text, "  {:>10.3} ms  {note}", at.as_secs_f64() * 1e3).ok();
        }
    }
    text
}

fn metrics(module: &Module, outcome: &Outcome) -> String {
    let mut writer = Writer::new(Encoding::Text004);
    render_outcome(outcome, module.phases_family(), &mut writer);
    String::from_utf8_lossy(&writer.finish()).into_owned()
}

fn as_json(args: &ProbeArgs, module: &Module, outcome: &Outcome) -> serde_json::Value {
    let phases: BTreeMap<&str, f64> =
        outcome.phases.iter().map(|(phase, took)| (phase.label(), took.as_secs_f64())).collect();
    let facts: Vec<_> = outcome
        .facts
        .iter()
        .map(|fact| {
            let labels: BTreeMap<&str, &str> = fact.label_pairs().into_iter().collect();
            json!({ "name": fact.family.name, "labels": labels, "value": fact.value })
        })
        .collect();
    let result = match outcome.answer {
        Answer::Pass => "pass",
        Answer::Warn(_) => "warn",
        Answer::Fail(_) => "fail",
        Answer::Unknown(_) => "unknown",
    };
    json!({
        "target": args.target,
        "module": &*module.name,
        "prober": module.prober.kind(),
        "result": result,
        "reason": outcome.answer.reason(),
        "detail": outcome.answer.reason().map(|_| outcome.answer.to_string()),
        "phase": outcome.phase,
        "address": outcome.address,
        "started": outcome.started.wall,
        "duration_seconds": outcome.took.as_secs_f64(),
        "timeout_seconds": outcome.timeout.as_secs_f64(),
        "phases_seconds": phases,
        "facts": facts,
    })
}
