//! `query_response`: a scripted conversation, line by line.
//!
//! Upstream's script with its defects mended: what was read ahead is not lost between steps, `expect_bytes` reads until
//! it has them all, and labels that would clash are refused at load.

use std::collections::BTreeSet;
use std::fmt;

use regex::bytes::Captures;
use serde::{Deserialize, Deserializer, de};
use tokio::io::{AsyncRead, AsyncWrite};

use super::certificates;
use super::wire::{Broken, Channel, Wire, fault, quote};
use super::{Report, Verdict};
use crate::model::{
    Answer, Fact, Fault, Mistakes, Pattern, Phase, RESERVED_LABELS, family, is_label_name,
};
use crate::net::{Deadline, TlsClient, accepted, cut};

/// The longest value of a label that is taken from an answer, in bytes.
const MAX_LABEL_BYTES: usize = 4096;

/// One entry of `query_response`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// Lines are read until one matches.
    pub expect: Option<Pattern>,
    pub expect_bytes: Option<RawBytes>,
    /// Exported on `probe_expect_info`; values are templates over the match.
    pub labels: Option<Vec<LabelSpec>>,
    /// A line to send; a template over the match of the same entry.
    pub send: Option<String>,
    /// Ours: bytes to send as they are, without the end of a line; for protocols that are not text.
    pub send_bytes: Option<RawBytes>,
    #[serde(default)]
    pub starttls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    pub name: String,
    pub value: String,
}

/// Bytes, written as text or as YAML's `!!binary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBytes(Vec<u8>);

impl RawBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RawBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or bytes")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawBytes, E> {
                Ok(RawBytes(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawBytes, E> {
                Ok(RawBytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// A script that was checked.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    steps: Vec<StepSpec>,
}

/// Checks the entries of `query_response`. `tls`: the conversation is encrypted from its beginning.
pub(super) fn build(steps: Vec<StepSpec>, tls: bool, mistakes: &mut Mistakes) -> Dialogue {
    for (index, step) in steps.iter().enumerate() {
        mistakes.within(&format!("query_response.{index}"), |mistakes| {
            check_step(step, mistakes);
        });
    }
    let with_labels = |step: &&StepSpec| step.labels.as_ref().is_some_and(|l| !l.is_empty());
    if steps.iter().filter(with_labels).count() > 1 {
        mistakes.error(
            "query_response",
            "more than one entry has labels",
            "probe_expect_info is one series; take all labels from one entry",
        );
    }
    let upgrades = steps.iter().filter(|step| step.starttls).count();
    if upgrades > 1 || (tls && upgrades > 0) {
        mistakes.error(
            "query_response",
            "a connection can be encrypted only once",
            "keep one starttls, or tls: true without any",
        );
    }
    Dialogue { steps }
}

fn check_step(step: &StepSpec, mistakes: &mut Mistakes) {
    if step.expect.is_some() && step.expect_bytes.as_ref().is_some_and(|b| !b.0.is_empty()) {
        mistakes.error(
            "expect_bytes",
            "expect and expect_bytes exclude each other",
            "write two entries",
        );
    }
    if step.send.is_some() && step.send_bytes.is_some() {
        mistakes.error("send_bytes", "send and send_bytes exclude each other", "write two entries");
    }
    let labels = step.labels.as_deref().unwrap_or_default();
    if !labels.is_empty() && step.expect.is_none() {
        mistakes.warning("labels", "labels without expect are never set", "add an expect");
    }
    let mut seen = BTreeSet::new();
    for label in labels {
        let name = &label.name;
        if !is_label_name(name) {
            mistakes.error(
                "labels",
                format!("{name:?} is not a label name"),
                "use letters, digits and _, not beginning with a digit",
            );
        }
        if RESERVED_LABELS.contains(&name.as_str()) {
            mistakes.warning(
                "labels",
                format!("label {name:?} is set by watchpost itself"),
                format!("it is exported as exported_{name}; rename it"),
            );
        }
        if !seen.insert(exported(name)) {
            mistakes.error("labels", format!("label {name:?} is there twice"), "remove one");
        }
    }
}

/// The name that a label is exported under.
fn exported(name: &str) -> String {
    if RESERVED_LABELS.contains(&name) { format!("exported_{name}") } else { name.to_owned() }
}

/// What a conversation needs beside its script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) tls: &'a TlsClient,
    /// The name to ask for when a step upgrades to TLS.
    pub(super) server_name: &'a str,
    pub(super) deadline: Deadline,
}

impl Dialogue {
    /// Holds the conversation over `io` in the phase `processing`, encrypted from its beginning where `tls` says so.
    pub(super) async fn hold<S>(
        &self,
        io: S,
        tls: bool,
        setting: Setting<'_>,
        report: &mut Report,
    ) -> Verdict
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let channel = if tls { encrypt(io, setting, report).await? } else { Channel::Plain(io) };
        report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, false);
        report.set_flag(&family::PROBE_FAILED_DUE_TO_BYTES, false);
        let mut wire = Wire::new(channel);
        for (index, step) in self.steps.iter().enumerate() {
            report.watch.enter(Phase::Processing);
            let turn = Turn { number: index + 1, step, deadline: setting.deadline };
            turn.take(&mut wire, report).await?;
            if step.starttls {
                wire = upgrade(wire, setting, report).await?;
            }
        }
        report.watch.stop();
        wire.close(setting.deadline).await;
        Ok(())
    }
}

/// One step that is being taken.
struct Turn<'a> {
    /// Counted from one, as people do.
    number: usize,
    step: &'a StepSpec,
    deadline: Deadline,
}

impl Turn<'_> {
    async fn take<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<S>,
        report: &mut Report,
    ) -> Verdict {
        let mut words = self.step.send.clone().unwrap_or_default().into_bytes();
        if let Some(expect) = &self.step.expect {
            let line = self.expect(expect, wire, report).await?;
            if let Some(captures) = expect.regex().captures(&line) {
                words = expand(self.step.send.as_deref().unwrap_or_default(), &captures);
                self.label(&captures, report);
            }
        }
        if let Some(RawBytes(bytes)) = &self.step.expect_bytes {
            self.expect_bytes(bytes, wire, report).await?;
        }
        match &self.step.send_bytes {
            Some(RawBytes(bytes)) => words.clone_from(bytes),
            None if words.is_empty() => return Ok(()),
            None => words.push(b'\n'),
        }
        let budget = self.deadline.left();
        let sent = wire.send(&words, self.deadline).await;
        sent.map_err(|broken| fault(broken, wire.received(), budget))?;
        report.note(|| format!("step {}: sent {} bytes", self.number, words.len()));
        Ok(())
    }

    /// Reads lines until one matches.
    async fn expect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        expect: &Pattern,
        wire: &mut Wire<S>,
        report: &mut Report,
    ) -> Result<Vec<u8>, Answer> {
        let budget = self.deadline.left();
        let mut last: Option<Vec<u8>> = None;
        loop {
            match wire.line(self.deadline).await {
                Ok(line) if expect.is_match(&line) => {
                    report.note(|| format!("step {}: {expect:?} came", self.number));
                    return Ok(line);
                }
                Ok(line) => {
                    report.note(|| format!("step {}: passed over {:?}", self.number, quote(&line)));
                    last = Some(line);
                }
                Err(Broken::Late) => {
                    let (step, expected) = (self.number, expect.as_str().into());
                    return Err(Fault::ExpectTimeout { step, expected, budget }.into());
                }
                Err(Broken::Closed) => {
                    report.set_flag(&family::PROBE_FAILED_DUE_TO_REGEX, true);
                    let received = wire.received();
                    return Err(match last {
                        Some(line) => self.mismatch(expect.as_str().as_bytes(), &line),
                        None => Fault::ConnectionClosed { received }.into(),
                    });
                }
                Err(broken) => return Err(fault(broken, wire.received(), budget).into()),
            }
        }
    }

    async fn expect_bytes<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        expected: &[u8],
        wire: &mut Wire<S>,
        report: &mut Report,
    ) -> Verdict {
        let budget = self.deadline.left();
        match wire.exactly(expected.len(), self.deadline).await {
            Ok(got) if got == expected => Ok(()),
            Ok(got) => {
                report.set_flag(&family::PROBE_FAILED_DUE_TO_BYTES, true);
                Err(self.mismatch(expected, &got))
            }
            // What came so far can be wrong already, and then waiting was not the trouble.
            Err(Broken::Late) if !expected.starts_with(wire.ahead()) => {
                Err(self.mismatch(expected, wire.ahead()))
            }
            Err(Broken::Late) => {
                let (step, expected) = (self.number, quote(expected));
                Err(Fault::ExpectTimeout { step, expected, budget }.into())
            }
            Err(broken) => Err(fault(broken, wire.received(), budget).into()),
        }
    }

    fn mismatch(&self, expected: &[u8], got: &[u8]) -> Answer {
        let (expected, got) = (quote(expected), quote(got));
        Fault::ExpectMismatch { step: self.number, expected, got }.into()
    }

    fn label(&self, captures: &Captures<'_>, report: &mut Report) {
        let Some(labels) = self.step.labels.as_ref().filter(|labels| !labels.is_empty()) else {
            return;
        };
        let pairs = labels.iter().map(|label| {
            let value = expand(&label.value, captures);
            let value = String::from_utf8_lossy(&value);
            (exported(&label.name).into(), cut(&value, MAX_LABEL_BYTES).into())
        });
        report.add(Fact::info(&family::PROBE_EXPECT_INFO, pairs));
    }
}

/// Encrypts the connection. What was read ahead came before the encryption and is not to be believed after it.
async fn upgrade<S>(
    wire: Wire<Channel<S>>,
    setting: Setting<'_>,
    report: &mut Report,
) -> Result<Wire<Channel<S>>, Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Channel::Plain(io) = wire.into_parts().0 else {
        let detail = "the connection is encrypted already".into();
        return Err(Fault::ProtocolError { detail }.into());
    };
    encrypt(io, setting, report).await.map(Wire::new)
}

async fn encrypt<S>(io: S, setting: Setting<'_>, report: &mut Report) -> Result<Channel<S>, Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Setting { tls, server_name, deadline } = setting;
    let shaken = tls.handshake(io, server_name, &[], deadline, &mut report.watch).await;
    let (mut stream, session) = shaken?;
    certificates::tls_facts(report, &session);
    certificates::require_verified(&session)?;
    accepted(&mut stream, deadline).await?;
    Ok(Channel::Tls(Box::new(stream)))
}

/// Fills a template as Go's `Regexp.Expand` does: `$1`, `${1}`, `$name`, `${name}`, `$$`. A name is as long as it can
/// be, so `$1x` is the group named `1x`; a group that is not there is empty; a lone `$` stands for itself.
pub(super) fn expand(template: &str, captures: &Captures<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.extend_from_slice(before.as_bytes());
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push(b'$');
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            out.extend_from_slice(group(name, captures));
            rest = after;
        } else {
            out.push(b'$');
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// The name of a group at the beginning of `text`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (braced, body) = match text.strip_prefix('{') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let end = body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len());
    let (name, after) = body.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
    if braced { after.strip_prefix('}').map(|after| (name, after)) } else { Some((name, after)) }
}

fn group<'a>(name: &str, captures: &Captures<'a>) -> &'a [u8] {
    let is_number =
        name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let found = match name.parse::<usize>() {
        Ok(index) if is_number => captures.get(index),
        _ => captures.name(name),
    };
    found.map(|found| found.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(pattern: &str, line: &str, template: &str) -> String {
        let regex = regex::bytes::Regex::new(pattern).unwrap();
        let captures = regex.captures(line.as_bytes()).unwrap();
        String::from_utf8(expand(template, &captures)).unwrap()
    }

    #[test]
    fn templates_are_go_s() {
        let rows = [
            ("PONG $1", "PONG abc"),
            ("PONG ${1}x", "PONG abcx"),
            ("$1x", ""),
            ("${word}-$word", "abc-abc"),
            ("$$1", "$1"),
            ("costs $", "costs $"),
            ("${", "${"),
            ("${}", "${}"),
            ("${1", "${1"),
            ("$01|$9|$0", "||PING abc"),
        ];
        for (template, wanted) in rows {
            let got = expanded("^PING (?P<word>[a-z]+)$", "PING abc", template);
            assert_eq!(got, wanted, "{template}");
        }
    }

    fn mistakes(json: serde_json::Value, tls: bool) -> Vec<(String, bool)> {
        let steps: Vec<StepSpec> = serde_json::from_value(json).unwrap();
        let mut mistakes = Mistakes::default();
        build(steps, tls, &mut mistakes);
        mistakes.into_vec().into_iter().map(|m| (m.key, m.warning)).collect()
    }

    #[test]
    fn scripts_that_cannot_work_are_refused() {
        let label = |name: &str| serde_json::json!({"name": name, "value": "$1"});
        let twice = serde_json::json!([
            {"expect": "a", "labels": [label("x"), label("x")]},
            {"expect": "b", "labels": [label("1x")]},
        ]);
        let found: Vec<_> = mistakes(twice, false).into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, ["query_response.0.labels", "query_response.1.labels", "query_response"]);
        let both = serde_json::json!([{"expect": "", "expect_bytes": "x"}]);
        assert_eq!(mistakes(both, false), [("query_response.0.expect_bytes".into(), false)]);
        let both = serde_json::json!([{"send": "x", "send_bytes": "x"}]);
        assert_eq!(mistakes(both, false), [("query_response.0.send_bytes".into(), false)]);
        let upgrade = serde_json::json!([{"starttls": true}]);
        assert!(mistakes(upgrade.clone(), false).is_empty());
        assert_eq!(mistakes(upgrade, true), [("query_response".into(), false)]);
    }

    #[test]
    fn our_own_labels_are_renamed_with_a_word() {
        let steps = serde_json::json!([{"expect": "a", "labels": [{"name": "job", "value": "x"}]}]);
        assert_eq!(mistakes(steps, false), [("query_response.0.labels".into(), true)]);
    }
}
