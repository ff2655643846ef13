//! What is run when a check is due.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::model::{Check, Outcome, Stamp, Unknown};
use crate::net::Net;
use crate::probe::{self, Module, Variants};

/// Modules with a target's own values that are kept ready, for one lane. More are made anew in each run.
const MAX_VARIANTS: usize = 4096;

/// Runs a check once. The future may be dropped at any time.
pub trait Runner {
    fn run(&self, check: &Arc<Check>, started: Stamp) -> impl Future<Output = Outcome>;
}

/// Modules by name.
pub type Modules = HashMap<Arc<str>, Arc<Module>>;

/// Runs checks with the modules of the configuration in force.
#[derive(Debug, Clone)]
pub struct ProbeRunner {
    modules: Arc<ArcSwap<Modules>>,
    variants: Arc<Variants>,
    net: Arc<Net>,
}

impl ProbeRunner {
    /// `modules` is swapped by a reload; a run keeps the module that it began with.
    pub fn new(modules: Arc<ArcSwap<Modules>>, net: Arc<Net>) -> Self {
        Self { modules, variants: Arc::new(Variants::new(MAX_VARIANTS)), net }
    }
}

impl Runner for ProbeRunner {
    async fn run(&self, check: &Arc<Check>, started: Stamp) -> Outcome {
        let policy = &check.policy;
        let module = self.modules.load().get(&policy.module).cloned();
        let Some(module) = module else {
            let detail = format!("there is no module {:?}", policy.module);
            return unasked(check, started, Unknown::Setup(detail.into()));
        };
        let overrides = &check.target.overrides;
        let module = match self.variants.of(&module, overrides) {
            Ok(module) => module,
            Err(why) => {
                let detail = format!("the target's overrides: {why}");
                return unasked(check, started, Unknown::Setup(detail.into()));
            }
        };
        let own = module.timeout.filter(|_| overrides.contains_key("timeout"));
        let timeout = own.map_or(policy.timeout, |own| own.min(policy.timeout));
        probe::run(&module, &check.target, timeout, &self.net, started).await
    }
}

/// The outcome of a run that could not ask.
fn unasked(check: &Check, started: Stamp, unknown: Unknown) -> Outcome {
    Outcome {
        started,
        took: Duration::ZERO,
        timeout: check.policy.timeout,
        phases: Vec::new(),
        phase: None,
        address: None,
        facts: Vec::new(),
        answer: unknown.into(),
    }
}
