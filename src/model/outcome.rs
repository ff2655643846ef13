//! The value that one run yields. Metrics, status, page and messages are all derived from it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Fact, Fault, Phase, Stamp};

/// One run of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub started: Stamp,
    pub took: Duration,
    /// The budget that the run had.
    pub timeout: Duration,
    /// Steps in the order in which they were first entered, summed over redirects.
    pub phases: Vec<(Phase, Duration)>,
    /// The step that was running when the run ended, when it did not pass.
    pub phase: Option<Phase>,
    /// The address that was asked, where one was chosen.
    pub address: Option<IpAddr>,
    pub facts: Vec<Fact>,
    pub answer: Answer,
}

/// What a run says about its target.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Pass,
    /// The target works, and something about it needs attention.
    Warn(Fault),
    Fail(Fault),
    /// *We* could not ask. It says nothing about the target.
    Unknown(Unknown),
}

/// Why we could not ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// This process is out of file descriptors or buffers.
    NoDescriptors,
    /// The kernel does not let us: a raw socket, a privileged port, a firewall rule on this machine.
    NoPermission(Box<str>),
    /// The configured source address is not ours.
    SourceAddress(Box<str>),
    /// None of our name servers can be reached.
    NoResolver(Box<str>),
    /// Nothing that we use as a reference answers: we are the ones cut off.
    Blind,
    /// The check has not run for too long.
    Stale,
    ShuttingDown,
    /// Whoever asked on demand may not have this target asked.
    NotAllowed(Box<str>),
    /// A file that the module needs (credentials, certificates, a body) cannot be read or used.
    Setup(Box<str>),
    /// A defect of watchpost: the run panicked or did not keep its deadline.
    Defect,
}

impl Answer {
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Warn(fault) | Self::Fail(fault) => Some(fault),
            Self::Pass | Self::Unknown(_) => None,
        }
    }

    /// Whether `probe_success` is 1: a warning is about the future.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Pass | Self::Warn(_))
    }

    /// The value of the label `reason`, for everything but a pass.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Pass => None,
            Self::Warn(fault) | Self::Fail(fault) => Some(fault.reason().label()),
            Self::Unknown(unknown) => Some(unknown.label()),
        }
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        Self::Fail(fault)
    }
}

impl From<Unknown> for Answer {
    fn from(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Warn(fault) | Self::Fail(fault) => fault.fmt(f),
            Self::Unknown(unknown) => unknown.fmt(f),
        }
    }
}

impl Unknown {
    /// Every label, for the reference.
    pub const LABELS: [&str; 10] = [
        "no_descriptors",
        "no_permission",
        "source_address",
        "no_resolver",
        "blind",
        "stale",
        "shutting_down",
        "not_allowed",
        "setup",
        "defect",
    ];

    pub const fn label(&self) -> &'static str {
        match self {
            Self::NoDescriptors => "no_descriptors",
            Self::NoPermission(_) => "no_permission",
            Self::SourceAddress(_) => "source_address",
            Self::NoResolver(_) => "no_resolver",
            Self::Blind => "blind",
            Self::Stale => "stale",
            Self::ShuttingDown => "shutting_down",
            Self::NotAllowed(_) => "not_allowed",
            Self::Setup(_) => "setup",
            Self::Defect => "defect",
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDescriptors => f.write_str("this watchpost is out of file descriptors"),
            Self::NoPermission(detail) => write!(f, "the kernel refused: {detail}"),
            Self::SourceAddress(detail) => write!(f, "source address: {detail}"),
            Self::NoResolver(detail) => write!(f, "no name server can be reached: {detail}"),
            Self::Blind => f.write_str("no reference answers: this watchpost is cut off"),
            Self::Stale => f.write_str("no recent result"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::NotAllowed(detail) | Self::Setup(detail) => f.write_str(detail),
            Self::Defect => f.write_str("a defect of watchpost ended the run; see its log"),
        }
    }
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

impl Outcome {
    /// Of what nobody ran: somebody beat us, or did not.
    pub fn judged(answer: Answer, now: Stamp) -> Self {
        Self {
            started: now,
            took: Duration::ZERO,
            timeout: Duration::ZERO,
            phases: Vec::new(),
            phase: None,
            address: None,
            facts: Vec::new(),
            answer,
        }
    }

    pub fn phase_took(&self, phase: Phase) -> Option<Duration> {
        self.phases.iter().find(|(p, _)| *p == phase).map(|(_, took)| *took)
    }

    /// The value of the first fact of a family.
    pub fn fact(&self, family: &'static super::Family) -> Option<f64> {
        self.facts.iter().find(|f| f.is(family)).map(|f| f.value)
    }
}
