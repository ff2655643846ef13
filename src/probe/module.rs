//! Modules: how to ask and what to expect. The table of probers is here.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::overrides::{Allowed, Recipe};
use super::retry::{self, Retry};
use super::{
    Ask, Report, Verdict, dns, exporter, grpc, http, icmp, tcp, tls, udp, unix, websocket,
};
use crate::model::{Family, GoDuration, Mistakes, family};
use crate::net::{Resolver, ResolverSpec};

/// A prober as documentation and metrics see it.
#[derive(Debug)]
pub struct ProberRow {
    /// The value of `prober:` and the key of its block.
    pub name: &'static str,
    /// The family that its phases are told in.
    pub phases: &'static Family,
}

macro_rules! kinds {
    ($($name:literal => $variant:ident($module:ident), phases $phases:ident;)+) => {
        /// Every prober there is.
        pub static KINDS: &[ProberRow] = &[$(ProberRow { name: $name, phases: &family::$phases }),+];

        /// A module as written. Blocks of other probers than its own are read and checked too, as upstream does.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct ModuleSpec {
            pub prober: Option<String>,
            /// Upper bound of a run, in Go's notation (`5s`).
            pub timeout: Option<GoDuration>,
            /// Ours: the name servers that are asked instead of the system's.
            pub resolver: Option<ResolverSpec>,
            /// Ours: how often a run asks again when it fails. Default 0.
            pub retries: Option<u32>,
            /// Ours: the pause before the first retry, default 100ms; it doubles with each further one.
            pub retry_backoff: Option<GoDuration>,
            /// Ours: the budget of one attempt. Default: all that is left of the run's.
            pub attempt_timeout: Option<GoDuration>,
            /// Ours: keys that targets and requests for `/probe` may set otherwise. Default: none.
            pub allow_overrides: Option<Vec<String>>,
            $(pub $module: Option<$module::Spec>,)+
        }

        /// The blocks of a module, for a prober's `build` to take what it needs.
        #[derive(Debug, Default)]
        pub struct Blocks {
            $(pub $module: Option<$module::Spec>,)+
        }

        /// A prober with its rules, ready to run.
        #[derive(Debug)]
        pub enum Prober {
            $($variant(Box<$module::Prober>),)+
        }

        impl Prober {
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// Runs the prober. The future is boxed by the caller or lives in a task.
            pub async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
                match self {
                    $(Self::$variant(prober) => prober.run(ask, report).await,)+
                }
            }

            fn build(kind: &str, blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
                Some(match kind {
                    $($name => Self::$variant(Box::new($module::Prober::build(blocks, mistakes)?)),)+
                    _ => return None,
                })
            }
        }

        impl ModuleSpec {
            fn into_blocks(self) -> Blocks {
                Blocks { $($module: self.$module,)+ }
            }
        }
    };
}

kinds! {
    "dns" => Dns(dns), phases PROBE_DNS_DURATION;
    "http" => Http(http), phases PROBE_HTTP_DURATION;
    "exporter" => Exporter(exporter), phases PROBE_HTTP_DURATION;
    "tcp" => Tcp(tcp), phases PROBE_TCP_DURATION;
    "udp" => Udp(udp), phases PROBE_UDP_DURATION;
    "unix" => Unix(unix), phases PROBE_TCP_DURATION;
    "tls" => Tls(tls), phases PROBE_TLS_DURATION;
    "icmp" => Icmp(icmp), phases PROBE_ICMP_DURATION;
    "grpc" => Grpc(grpc), phases PROBE_GRPC_DURATION;
    "websocket" => Websocket(websocket), phases PROBE_WEBSOCKET_DURATION;
}

/// How to ask and what to expect: blackbox_exporter's word.
#[derive(Debug)]
pub struct Module {
    pub name: Arc<str>,
    pub timeout: Option<Duration>,
    pub prober: Prober,
    /// In place of the system's.
    pub(super) resolver: Option<Resolver>,
    retry: Option<Retry>,
    /// How it is made anew with other values, where it allows that.
    pub recipe: Option<Recipe>,
}

impl ModuleSpec {
    /// Checks what needs more than one key to see, and makes the module ready to run.
    pub fn build(mut self, name: &str, mistakes: &mut Mistakes) -> Option<Module> {
        let timeout = self.timeout.and_then(GoDuration::positive);
        let Some(kind) = self.prober.clone().filter(|k| !k.is_empty()) else {
            mistakes.error("prober", format!("module {name:?} names no prober"), known_probers());
            return None;
        };
        if !KINDS.iter().any(|row| row.name == kind) {
            mistakes.error("prober", format!("there is no prober {kind:?}"), known_probers());
            return None;
        }
        let resolver = self.resolver.take().and_then(|spec| {
            let mut built = None;
            mistakes.within("resolver", |mistakes| built = spec.build(mistakes));
            built
        });
        let retry = self.retry().build(mistakes);
        Allowed::read(self.allow_overrides.as_deref().unwrap_or_default(), &kind, mistakes);
        let prober = Prober::build(&kind, &mut self.into_blocks(), mistakes)?;
        Some(Module { name: name.into(), timeout, prober, resolver, retry, recipe: None })
    }

    const fn retry(&self) -> retry::Keys {
        retry::Keys {
            retries: self.retries,
            backoff: self.retry_backoff,
            attempt_timeout: self.attempt_timeout,
        }
    }
}

fn known_probers() -> String {
    let names: Vec<_> = KINDS.iter().map(|row| row.name).collect();
    format!("set prober to one of {}", names.join(", "))
}

impl Module {
    /// Puts the question, more than once where the module says so.
    pub(super) async fn ask(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        match self.retry {
            Some(retry) => retry.run(&self.prober, ask, report).await,
            None => self.prober.run(ask, report).await,
        }
    }

    /// The family that this module's phases are told in.
    pub fn phases_family(&self) -> &'static Family {
        let kind = self.prober.kind();
        KINDS
            .iter()
            .find(|row| row.name == kind)
            .map_or(&family::PROBE_TCP_DURATION, |row| row.phases)
    }

    /// The `Host` header that this module sets by itself.
    pub fn configured_host(&self) -> Option<&str> {
        match &self.prober {
            Prober::Http(prober) => prober.configured_host(),
            Prober::Exporter(prober) => prober.configured_host(),
            _ => None,
        }
    }
}
