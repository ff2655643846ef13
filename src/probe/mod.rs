//! How one question is asked and measured against its rules; one file for each prober.
//!
//! A prober gets an [`Ask`], writes what it learns into a [`Report`] and ends with a [`Verdict`]. It touches no metric,
//! no log for the user and no notification. To add one: its file, its `mod` line, and a row in [`module`]'s table.

mod address;
mod certificates;
mod dialogue;
mod module;
mod on_demand;
mod overrides;
mod report;
mod retry;
mod secret;
mod starttls;
mod wire;

pub mod dns;
pub mod exporter;
pub mod exposition;
pub mod grpc;
pub mod http;
pub mod icmp;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod unix;
pub mod websocket;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

pub use crate::net::AllowList;
pub use module::{Blocks, KINDS, Module, ModuleSpec, Prober, ProberRow};
pub use on_demand::{Catalogue, Listed, OnDemand};
pub use overrides::{Allowed, Form, MAX_OVERRIDE_BYTES, MAX_OVERRIDES, Recipe, Refused, Variants};
pub use report::{Report, Trace, Verdict};

use crate::model::{Answer, Outcome, Stamp, Target, Unknown};
use crate::net::{Deadline, Net};

/// How far a prober may overrun its deadline before the run is ended from outside, as a defect.
const OVERRUN_GRACE: Duration = Duration::from_millis(500);

/// One question: what is asked, until when, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub target: &'a Target,
    pub deadline: Deadline,
    pub net: &'a Net,
}

/// Runs a module against a target. Always yields an outcome, whatever the prober does.
pub async fn run(
    module: &Module,
    target: &Target,
    timeout: Duration,
    net: &Net,
    started: Stamp,
) -> Outcome {
    run_with(module, target, timeout, net, started, Report::default()).await.0
}

/// [`run`] with a report of the caller's making, and the notes that were taken in it.
pub async fn run_with(
    module: &Module,
    target: &Target,
    timeout: Duration,
    net: &Net,
    started: Stamp,
    mut report: Report,
) -> (Outcome, Trace) {
    let began = tokio::time::Instant::now();
    let own = module.resolver.as_ref().map(|names| net.asking(names));
    let net = own.as_ref().unwrap_or(net);
    let ask = Ask { target, deadline: Deadline::after(timeout), net };
    let guarded = AssertUnwindSafe(module.ask(&ask, &mut report)).catch_unwind();
    let ended = tokio::time::timeout(timeout.saturating_add(OVERRUN_GRACE), guarded).await;
    let took = began.elapsed();
    let answer = match ended {
        Ok(Ok(Ok(()))) => Answer::Pass,
        Ok(Ok(Err(answer))) => answer,
        Ok(Err(_)) => {
            tracing::error!(
                prober = module.prober.kind(),
                target = target.address,
                "prober panicked"
            );
            Unknown::Defect.into()
        }
        Err(_) => {
            tracing::error!(
                prober = module.prober.kind(),
                target = target.address,
                "prober overran"
            );
            Unknown::Defect.into()
        }
    };
    report.into_outcome(started, took, timeout, answer)
}
