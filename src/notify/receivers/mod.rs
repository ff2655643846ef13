//! Ways to a human: one file and one row each.
//!
//! A receiver renders a [`Message`] in its vendor's form, sends it once, and says what came of it. It keeps no state and
//! tries nothing twice: that is the outbox's.

mod alertmanager;
mod email;
mod exchange;
mod hook;
mod opsgenie;
mod pagerduty;
mod relay;
mod slack;
mod teams;
mod webhook;

use std::time::Duration;

use serde::Deserialize;

use exchange::Outlet;

use super::episode::Rule;
use super::message::Message;
use crate::book::NoteKind;
use crate::model::{Mistakes, Period, Secret, Stamp};
use crate::net::{Resolver, SecretError, SecretSource};

/// How long one attempt may take.
const DEFAULT_TIMEOUT: Period = Period::from_secs(10);
/// After how long without delivery the fallback is told.
const DEFAULT_FALLBACK_AFTER: Period = Period::from_secs(120);
/// The shortest `test_interval`: a test is a page.
const MIN_TEST_INTERVAL: Duration = Duration::from_secs(3_600);

/// One attempt.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The notification's own id, the same in every attempt.
    pub id: &'a str,
    pub message: &'a Message,
    /// The dedup key.
    pub key: &'a str,
    /// The key with which the episode was opened, where that is known.
    pub route: Option<&'a Secret>,
    pub now: Stamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Confirmed in the form that the vendor documents.
    Delivered {
        /// The routing key that was used, for receivers that have one.
        route: Option<Secret>,
        /// Part of the receiver did not take it.
        partly: Option<String>,
    },
    /// It may work later.
    Retry { why: String, after: Option<Duration> },
    /// It will not work until something is changed: a bad key, a revoked hook.
    Refused { why: String },
}

impl Sent {
    pub const fn delivered() -> Self {
        Self::Delivered { route: None, partly: None }
    }

    pub(crate) fn retry(why: &dyn std::fmt::Display) -> Self {
        Self::Retry { why: why.to_string(), after: None }
    }

    /// Why it was not delivered.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Retry { why, .. } | Self::Refused { why } => why,
            Self::Delivered { .. } => "delivered",
        }
    }
}

impl From<SecretError> for Sent {
    /// A file that cannot be read now may be there later, and nobody else can be told why: treated as a bad key.
    fn from(error: SecretError) -> Self {
        Self::Refused { why: error.to_string() }
    }
}

/// What all kinds of receivers have in common about limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Notifications in any 60 seconds.
    pub per_minute: usize,
    /// Attempts at the same time.
    pub in_flight: usize,
}

/// A kind of receiver as documentation sees it.
#[derive(Debug)]
pub struct KindRow {
    /// The key of its block.
    pub name: &'static str,
    pub limits: Limits,
    /// Whether it wakes somebody, rather than writing to a room that nobody may be in.
    pub is_pager: bool,
}

macro_rules! kinds {
    ($($name:literal => $variant:ident($module:ident), $per_minute:literal a minute, pager $pager:literal, rule $rule:expr;)+) => {
        /// Every kind of receiver there is.
        pub static KINDS: &[KindRow] = &[$(KindRow {
            name: $name,
            limits: Limits { per_minute: $per_minute, in_flight: 4 },
            is_pager: $pager,
        }),+];

        /// A receiver as written: its name, and exactly one block that is named like its kind.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct ReceiverSpec {
            pub name: String,
            /// The receiver that is told when this one cannot deliver.
            pub fallback: Option<String>,
            /// How long this one may fail before the fallback is told; default 2m. A refusal is told at once.
            pub fallback_after: Option<Period>,
            /// How often a marked test and its resolve are sent; default never.
            pub test_interval: Option<Period>,
            /// How often an open episode is told again; default by kind.
            pub repeat: Option<Period>,
            /// How long everything must be well before an episode ends; default 1m.
            pub resolve_after: Option<Period>,
            /// How long one attempt may take; default 10s.
            pub timeout: Option<Period>,
            /// An HTTP or SOCKS proxy on the way out.
            pub proxy_url: Option<Secret>,
            /// PEM certificates that are trusted beside the system's.
            pub ca_file: Option<String>,
            $(pub $module: Option<$module::Spec>,)+
        }

        #[derive(Debug)]
        enum Kind {
            $($variant($module::Receiver),)+
        }

        impl Kind {
            fn row(&self) -> &'static KindRow {
                let name = match self {
                    $(Self::$variant(_) => $name,)+
                };
                KINDS.iter().find(|row| row.name == name).expect("made from the same table")
            }

            fn rule(&self) -> Rule {
                match self {
                    $(Self::$variant(_) => $rule,)+
                }
            }

            async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
                match self {
                    $(Self::$variant(receiver) => receiver.send(outlet, delivery).await,)+
                }
            }
        }

        impl ReceiverSpec {
            fn kinds(&self) -> Vec<&'static str> {
                let mut kinds = Vec::new();
                $(if self.$module.is_some() {
                    kinds.push($name);
                })+
                kinds
            }

            fn build_kind(&mut self, mistakes: &mut Mistakes) -> Option<Kind> {
                $(if let Some(spec) = self.$module.take() {
                    let mut receiver = None;
                    mistakes.within($name, |m| receiver = $module::Receiver::build(spec, m));
                    return receiver.map(Kind::$variant);
                })+
                None
            }
        }
    };
}

/// A pager merges what it is told again: repeats cost nothing, and bring back what somebody closed by hand.
fn pager() -> Rule {
    Rule {
        repeat: Duration::from_secs(3_600),
        update_after: Duration::from_secs(30),
        ..Rule::default()
    }
}

kinds! {
    "pagerduty" => Pagerduty(pagerduty), 100 a minute, pager true, rule pager();
    "opsgenie" => Opsgenie(opsgenie), 100 a minute, pager true, rule pager();
    "alertmanager" => Alertmanager(alertmanager), 600 a minute, pager true, rule alertmanager::rule();
    "webhook" => Webhook(webhook), 300 a minute, pager true, rule Rule::default();
    "email" => Email(email), 60 a minute, pager false, rule Rule::default();
    "slack" => Slack(slack), 50 a minute, pager false, rule Rule::default();
    "teams" => Teams(teams), 50 a minute, pager false, rule Rule::default();
}

/// A way to a human, ready to use.
#[derive(Debug)]
pub struct Receiver {
    pub name: String,
    pub fallback: Option<String>,
    pub fallback_after: Duration,
    pub test_interval: Option<Duration>,
    pub rule: Rule,
    timeout: Duration,
    outlet: Outlet,
    kind: Kind,
}

impl ReceiverSpec {
    /// Checks what needs more than one key to see, and makes the receiver ready to use. Names are asked of `names`, each
    /// time that something is sent.
    pub fn build(mut self, names: &Resolver, mistakes: &mut Mistakes) -> Option<Receiver> {
        if self.name.is_empty() {
            mistakes.error("name", "a receiver needs a name", "name it");
        }
        let known: Vec<_> = KINDS.iter().map(|row| row.name).collect();
        let kinds = self.kinds();
        if kinds.len() != 1 {
            let what = match kinds.len() {
                0 => format!("receiver {:?} says no way to anybody", self.name),
                _ => format!("receiver {:?} has several kinds: {}", self.name, kinds.join(", ")),
            };
            mistakes.error("", what, format!("give it exactly one of {}", known.join(", ")));
            return None;
        }
        self.check_times(mistakes);
        let timeout = self.timeout.unwrap_or(DEFAULT_TIMEOUT).get();
        let (proxy, ca_file) = (self.proxy_url.as_ref(), self.ca_file.as_deref());
        let outlet = Outlet::build(names, timeout, proxy, ca_file, mistakes);
        let kind = self.build_kind(mistakes);
        let (outlet, kind) = (outlet?, kind?);
        let base = kind.rule();
        let rule = Rule {
            repeat: self.repeat.map_or(base.repeat, Period::get),
            resolve_after: self.resolve_after.map_or(base.resolve_after, Period::get),
            ..base
        };
        Some(Receiver {
            name: self.name,
            fallback: self.fallback,
            fallback_after: self.fallback_after.unwrap_or(DEFAULT_FALLBACK_AFTER).get(),
            test_interval: self.test_interval.map(Period::get),
            rule,
            timeout,
            outlet,
            kind,
        })
    }

    fn check_times(&self, mistakes: &mut Mistakes) {
        if self.fallback.as_ref() == Some(&self.name) {
            mistakes.error("fallback", "a receiver cannot stand in for itself", "name another one");
        }
        let positive = [("timeout", self.timeout), ("repeat", self.repeat)];
        for (key, period) in positive {
            if period.is_some_and(|p| p.get().is_zero()) {
                mistakes.error(key, format!("{key} is zero"), "give it a time, such as 10s");
            }
        }
        if self.test_interval.is_some_and(|p| p.get() < MIN_TEST_INTERVAL) {
            let hint = "a test reaches people: use a day or a week";
            mistakes.error("test_interval", "test_interval is shorter than 1h", hint);
        }
    }
}

impl Receiver {
    pub fn kind(&self) -> &'static KindRow {
        self.kind.row()
    }

    pub fn limits(&self) -> Limits {
        self.kind().limits
    }

    /// One attempt, which ends in time whatever the other side does.
    pub async fn send(&self, delivery: &Delivery<'_>) -> Sent {
        match tokio::time::timeout(self.timeout, self.kind.send(&self.outlet, delivery)).await {
            Ok(sent) => sent,
            Err(_) => Sent::retry(&format_args!("no answer in {} s", self.timeout.as_secs_f64())),
        }
    }
}

/// `fallback:` names that lead nowhere or in a circle, to be checked when all receivers are known.
pub fn check_fallbacks(specs: &[(String, Option<String>)], mistakes: &mut Mistakes) {
    for (index, (name, fallback)) in specs.iter().enumerate() {
        let key = format!("{index}.fallback");
        let mut seen = vec![name.as_str()];
        let mut next = fallback.as_deref();
        while let Some(wanted) = next {
            let Some((_, further)) = specs.iter().find(|(n, _)| n == wanted) else {
                let what = format!(
                    "receiver {:?} falls back to {wanted:?}, which is not there",
                    seen.last().unwrap_or(&"")
                );
                if seen.len() == 1 {
                    mistakes.error(&key, what, "name one of receivers");
                }
                break;
            };
            if seen.contains(&wanted) {
                let what = format!(
                    "the fallbacks of {name:?} go in a circle: {} → {wanted}",
                    seen.join(" → ")
                );
                mistakes.error(&key, what, "let the last one have no fallback");
                break;
            }
            seen.push(wanted);
            next = further.as_deref();
        }
    }
}

/// What a vendor that knows triggers and ends is told.
pub(super) const fn is_end(kind: NoteKind) -> bool {
    kind.ends()
}

/// The secret to use: that of the episode, or the present one.
pub(super) async fn route(
    source: &SecretSource,
    delivery: &Delivery<'_>,
) -> Result<Secret, SecretError> {
    match delivery.route {
        Some(route) => Ok(route.clone()),
        None => source.read().await,
    }
}

#[cfg(test)]
mod tests;
