//! An outcome as a person reads it: verdict, phases as a waterfall, certificate chain, facts.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Answer, Fact, FactLabels, Outcome, family};

/// Width of the waterfall, in characters.
const BAR: u32 = 40;

/// What was asked.
pub(super) struct Question<'a> {
    pub(super) target: &'a str,
    pub(super) module: &'a str,
    pub(super) prober: &'a str,
}

/// The whole report, ending with a line feed.
pub(super) fn render(question: &Question<'_>, outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    writeln!(text, "{} {}", verdict(&outcome.answer), question.target).ok();
    writeln!(text, "     module {} (prober {})", question.module, question.prober).ok();
    if let Some(address) = outcome.address {
        writeln!(text, "     address {address}").ok();
    }
    if let Some(reason) = outcome.answer.reason() {
        let phase = outcome.phase.map_or(String::new(), |p| format!(" in phase {}", p.label()));
        writeln!(text, "     reason {reason}{phase}: {}", outcome.answer).ok();
    }
    waterfall(&mut text, outcome);
    certificates(&mut text, outcome);
    facts(&mut text, outcome);
    text
}

const fn verdict(answer: &Answer) -> &'static str {
    match answer {
        Answer::Pass => "PASS",
        Answer::Warn(_) => "WARN",
        Answer::Fail(_) => "FAIL",
        Answer::Unknown(_) => "????",
    }
}

fn waterfall(text: &mut String, outcome: &Outcome) {
    let total = outcome.took.max(Duration::from_micros(1));
    writeln!(text).ok();
    let mut before = Duration::ZERO;
    for (phase, took) in &outcome.phases {
        let bar = bar(before, *took, total);
        writeln!(text, "  {:<11}{:>10}  {bar}", phase.label(), millis(*took)).ok();
        before += *took;
    }
    let budget = millis(outcome.timeout);
    writeln!(text, "  {:<11}{:>10}  of {budget}", "total", millis(outcome.took)).ok();
}

/// A bar from `start` on for `length`, within `total`.
fn bar(start: Duration, length: Duration, total: Duration) -> String {
    let cells = |d: Duration| {
        let share = d.as_secs_f64() / total.as_secs_f64() * f64::from(BAR);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
        let cells = share.round() as u32;
        cells.min(BAR)
    };
    let blank = cells(start).min(BAR - 1);
    let filled = cells(length).clamp(u32::from(!length.is_zero()), BAR - blank);
    format!("{}{}", " ".repeat(blank as usize), "█".repeat(filled as usize))
}

fn millis(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1e3;
    if millis < 1000.0 { format!("{millis:.2} ms") } else { format!("{:.2} s", millis / 1e3) }
}

fn certificates(text: &mut String, outcome: &Outcome) {
    let chain: Vec<&Fact> =
        outcome.facts.iter().filter(|fact| fact.is(&family::PROBE_SSL_CERT_INFO)).collect();
    if chain.is_empty() {
        return;
    }
    writeln!(text, "\n  certificates, as sent").ok();
    for fact in chain {
        let label = |name: &str| {
            fact.label_pairs().into_iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
        };
        let position = label("position");
        writeln!(text, "  {position}  {}  {}", label("subject"), label("key_type")).ok();
        writeln!(text, "     issued by {}", label("issuer")).ok();
        if !label("subjectalternative").is_empty() {
            writeln!(text, "     for {}", label("subjectalternative")).ok();
        }
        let from = at_position(outcome, &family::PROBE_SSL_CERT_NOT_BEFORE, position);
        let to = at_position(outcome, &family::PROBE_SSL_CERT_NOT_AFTER, position);
        let now = outcome.started.wall;
        writeln!(text, "     from {} to {} ({})", date(from), date(to), remaining(to, now)).ok();
    }
}

fn at_position(
    outcome: &Outcome,
    wanted: &'static family::Family,
    position: &str,
) -> Option<Timestamp> {
    let fact = outcome.facts.iter().find(|fact| {
        fact.is(wanted) && matches!(&fact.labels, FactLabels::One(_, value) if &**value == position)
    })?;
    timestamp(fact.value)
}

fn timestamp(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "out of range is refused by jiff")]
    Timestamp::from_second(seconds as i64).ok()
}

fn date(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "?".to_owned(), |at| at.to_string())
}

fn remaining(end: Option<Timestamp>, now: Timestamp) -> String {
    let Some(end) = end else { return "unknown".to_owned() };
    let days = (end.as_second() - now.as_second()) / 86_400;
    if end < now { format!("ended {} days ago", -days) } else { format!("{days} days left") }
}

/// Everything that has not been told above.
fn facts(text: &mut String, outcome: &Outcome) {
    let told = [
        &family::PROBE_SSL_CERT_INFO,
        &family::PROBE_SSL_CERT_NOT_AFTER,
        &family::PROBE_SSL_CERT_NOT_BEFORE,
    ];
    let rest: Vec<&Fact> =
        outcome.facts.iter().filter(|fact| !told.iter().any(|family| fact.is(family))).collect();
    if rest.is_empty() {
        return;
    }
    writeln!(text, "\n  facts").ok();
    for fact in rest {
        let labels = fact.label_pairs();
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let name = fact.family.name;
        let shown = match timestamp(fact.value) {
            Some(at) if is_time(name) && fact.value > 0.0 => format!("{} ({at})", fact.value),
            _ => fact.value.to_string(),
        };
        match labels.as_slice() {
            [] => writeln!(text, "  {name} {shown}").ok(),
            labels => writeln!(text, "  {name}{{{}}} {shown}", labels.join(",")).ok(),
        };
    }
}

fn is_time(name: &str) -> bool {
    name.ends_with("_timestamp_seconds")
        || name.ends_with("_cert_expiry")
        || name.ends_with("start_time_seconds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Phase, Stamp};

    #[test]
    fn a_failure_names_reason_phase_and_budget() {
        let outcome = Outcome {
            started: Stamp::new(Timestamp::UNIX_EPOCH, Duration::ZERO),
            took: Duration::from_millis(100),
            timeout: Duration::from_secs(5),
            phases: vec![
                (Phase::Resolve, Duration::from_millis(25)),
                (Phase::Connect, Duration::from_millis(75)),
            ],
            phase: Some(Phase::Connect),
            address: Some("127.0.0.1".parse().unwrap()),
            facts: vec![Fact::new(&family::PROBE_IP_PROTOCOL, 4.0)],
            answer: Fault::ConnectRefused { ip: "127.0.0.1".parse().unwrap(), port: 9122 }.into(),
        };
        let question = Question { target: "localhost:9122", module: "tcp", prober: "tcp" };
        let text = render(&question, &outcome);
        assert!(text.starts_with("FAIL localhost:9122\n"), "{text}");
        assert!(text.contains(
            "reason connect_refused in phase connect: nothing listens on 127.0.0.1:9122"
        ));
        assert!(
            text.contains(&format!("75.00 ms  {}{}", " ".repeat(10), "█".repeat(30))),
            "{text}"
        );
        assert!(text.contains("total       100.00 ms  of 5.00 s"), "{text}");
    }
}
