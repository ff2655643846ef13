//! One probe put to one target: what the schedule runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{Family, Labels, Status, Target};

/// A check's stable name for itself: a hash of probe, target, hostname and per-target parameters.
///
/// Labels and module are left out: editing one does not reset counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(u64);

impl CheckId {
    pub fn of(probe: &str, target: &Target) -> Self {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        part(probe);
        part(&target.address);
        part(target.hostname.as_deref().unwrap_or_default());
        for (name, value) in &target.headers {
            part(name);
            part(value.reveal());
        }
        if let Some(authorization) = &target.authorization {
            part(&authorization.scheme);
            part(authorization.credentials.as_ref().map_or("", |c| c.reveal()));
            part(authorization.credentials_file.as_deref().unwrap_or_default());
        }
        for (key, value) in &target.overrides {
            part(key);
            part(value);
        }
        let digest = hash.finalize();
        let first: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
        Self(u64::from_be_bytes(first))
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for CheckId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How many runs in a row change a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub failure: u32,
    pub success: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { failure: 1, success: 1 }
    }
}

/// What a probe says about all of its checks. Shared by them.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbePolicy {
    /// The probe's name: the label `job`.
    pub name: Arc<str>,
    pub module: Arc<str>,
    /// The module's prober, `http` for instance.
    pub prober: &'static str,
    /// The family that the module's phases are told in.
    pub phases: &'static Family,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
    pub retry_interval: Option<Duration>,
    /// How many targets must be up; fewer is down, fewer than all is degraded. `None`: every target stands for itself.
    pub min_up: Option<usize>,
    /// Part of the alerting pipeline: may gate a heartbeat.
    pub pipeline: bool,
    /// Receivers to tell, by the status that was entered.
    pub notify: Notify,
    /// Bounds, in seconds, of `probe_run_duration_seconds` as a histogram; empty for a summary.
    pub histogram: Arc<[f64]>,
}

/// Who is told about which status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    pub receivers: BTreeMap<Status, Vec<String>>,
    /// One episode for each target instead of one for the probe.
    pub by_target: bool,
    /// Tell again after this long while the episode is open.
    pub repeat: Option<Duration>,
    pub runbook: Option<String>,
}

/// One probe put to one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub id: CheckId,
    pub policy: Arc<ProbePolicy>,
    pub target: Target,
    /// The probe's labels and the target's on top.
    pub labels: Labels,
}

impl Check {
    pub fn new(policy: Arc<ProbePolicy>, target: Target, probe_labels: &Labels) -> Self {
        let id = CheckId::of(&policy.name, &target);
        let labels = probe_labels.merged(&target.labels);
        Self { id, policy, target, labels }
    }

    /// How long a result stays good: two intervals and the timeout.
    pub fn stale_after(&self) -> Duration {
        self.policy.interval.saturating_mul(2).saturating_add(self.policy.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_change_the_id() {
        let plain = Target::plain("a:1");
        let mut labelled = plain.clone();
        labelled.labels = Labels::try_new([("team".into(), "x".into())].into()).unwrap();
        assert_eq!(CheckId::of("p", &plain), CheckId::of("p", &labelled));
    }

    #[test]
    fn hostname_and_probe_do() {
        let plain = Target::plain("a:1");
        let mut named = plain.clone();
        named.hostname = Some("b".into());
        assert_ne!(CheckId::of("p", &plain), CheckId::of("p", &named));
        assert_ne!(CheckId::of("p", &plain), CheckId::of("q", &plain));
        // Parts do not run into each other.
        assert_ne!(
            CheckId::of("pa", &Target::plain(":1")),
            CheckId::of("p", &Target::plain("a:1"))
        );
    }

    #[test]
    fn an_override_does_too() {
        let plain = Target::plain("a:1");
        let mut other = plain.clone();
        other.overrides.insert("method".into(), "HEAD".into());
        assert_ne!(CheckId::of("p", &plain), CheckId::of("p", &other));
    }

    #[test]
    fn an_id_is_read_back() {
        let id = CheckId::of("p", &Target::plain("a:1"));
        assert_eq!(CheckId::parse(&id.to_string()), Some(id));
        assert_eq!(CheckId::parse("xyz"), None);
    }
}
