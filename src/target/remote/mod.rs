//! Targets that somebody on the network knows: an HTTP service, name servers, a Kubernetes API server.
//!
//! Each source has a task that asks in its own rhythm and leaves what it got in a [`Slot`]; the thread of the discovery
//! looks there as it looks at files. So a service that hangs holds up nobody.

mod access;
mod dns;
mod http;
mod kubernetes;
mod template;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

pub use self::access::{BasicAuth, TlsFiles};
use self::dns::Records;
pub use self::dns::{DnsSd, RecordKind};
pub use self::http::HttpSd;
use self::kubernetes::Api;
pub use self::kubernetes::{KubernetesSd, Namespaces, Role, Selector};
pub use self::template::Template;
use super::held::Held;
use super::{FileGroup, targets_of};
use crate::clock;
use crate::model::{Stamp, Target};
use crate::net::Net;

/// Nobody is asked more often.
pub const MIN_REFRESH: Duration = Duration::from_secs(1);
/// How long one question may take, with all its pages.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until the next question after one that failed; doubled until it is the source's own rhythm.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A source, as configured. Equal ones are the same source.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    mechanism: &'static str,
    /// Tells it from the others of its probe: on the page, in metrics and logs.
    name: String,
    question: Question,
    template: Template,
    refresh: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum Question {
    Http(http::Service),
    Dns(Records),
    Kubernetes(Api),
}

impl Question {
    /// What is there now. The text says why that cannot be told.
    async fn ask(&self, net: &Net, refresh: Duration) -> Result<Vec<FileGroup>, String> {
        match self {
            Self::Http(service) => service.ask(&net.resolver, refresh).await,
            Self::Dns(records) => records.ask(net).await,
            Self::Kubernetes(api) => api.ask(&net.resolver).await,
        }
    }
}

impl Remote {
    pub(super) const fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    async fn ask(&self, net: &Net) -> Result<Vec<Target>, String> {
        let asked = timeout(PATIENCE, self.question.ask(net, self.refresh)).await;
        let groups = asked.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
        let groups = groups.into_iter().map(|group| FileGroup {
            targets: group.targets.iter().map(|address| self.template.apply(address)).collect(),
            labels: group.labels,
        });
        targets_of(groups.collect()).map_err(|wrong| wrong.to_string())
    }
}

/// Where tasks are run and what they talk through.
#[derive(Debug, Clone)]
pub struct Network {
    pub runtime: Handle,
    pub net: Arc<Net>,
}

/// A source in use.
pub(super) struct RemoteSource {
    remote: Remote,
    slot: Arc<Slot>,
    _asking: AbortOnDropHandle<()>,
    held: Held,
    failure: Option<String>,
    answered: Option<Stamp>,
}

impl RemoteSource {
    pub(super) fn start(remote: Remote, network: &Network) -> Self {
        let slot = Arc::new(Slot::default());
        let asking = network.runtime.spawn(keep_asking(
            remote.clone(),
            Arc::clone(&network.net),
            Arc::clone(&slot),
        ));
        Self {
            remote,
            slot,
            _asking: AbortOnDropHandle::new(asking),
            held: Held::default(),
            failure: None,
            answered: None,
        }
    }

    /// Asks in another way from now on; the list in use stays until there is a new one.
    pub(super) fn change_to(self, remote: Remote, network: &Network) -> Self {
        if self.remote == remote {
            return self;
        }
        Self { held: self.held, ..Self::start(remote, network) }
    }

    /// Whether it asks just that.
    pub(super) fn asks(&self, remote: &Remote) -> bool {
        self.remote == *remote
    }

    /// Waits until the first question is answered, or cannot be.
    pub(super) fn wait(&self, patience: Duration) {
        self.slot.wait(patience);
    }

    /// Takes what was answered since the last look. Whether the targets in use have changed.
    pub(super) fn look(&mut self) -> bool {
        let Some(Answered { at, targets }) = self.slot.take() else { return false };
        let name = &self.remote.name;
        match targets {
            Ok(targets) => {
                if self.failure.take().is_some() {
                    tracing::info!(source = name, "discovery answers again");
                }
                self.answered = Some(at);
                let path: Arc<Path> = Path::new(name).into();
                let part = (!targets.is_empty()).then(|| (path, targets.into()));
                self.held.take(name, part.into_iter().collect())
            }
            Err(error) => {
                if self.failure.as_ref() != Some(&error) {
                    let kept = self.held.parts().iter().map(|(_, t)| t.len()).sum::<usize>();
                    tracing::warn!(
                        source = name,
                        kept,
                        error,
                        "discovery fails; its last good list is kept"
                    );
                }
                self.failure = Some(error);
                false
            }
        }
    }

    pub(super) const fn held(&self) -> &Held {
        &self.held
    }

    /// When it was last answered well.
    pub(super) const fn answered(&self) -> Option<Stamp> {
        self.answered
    }

    pub(super) fn failures(&self) -> Vec<String> {
        let unasked = || self.answered.is_none().then(|| "not answered yet".to_owned());
        self.failure.clone().or_else(unasked).or_else(|| self.held.failure()).into_iter().collect()
    }
}

impl fmt::Debug for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSource").field("remote", &self.remote).finish_non_exhaustive()
    }
}

async fn keep_asking(remote: Remote, net: Arc<Net>, slot: Arc<Slot>) {
    let mut retry = FIRST_RETRY;
    loop {
        let targets = remote.ask(&net).await;
        let pause = if targets.is_ok() {
            retry = FIRST_RETRY;
            remote.refresh
        } else {
            let pause = retry.min(remote.refresh);
            retry = (retry * 2).min(remote.refresh);
            pause
        };
        slot.put(Answered { at: clock::now(), targets });
        sleep(pause).await;
    }
}

/// The newest answer, until somebody takes it.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Answered>,
    asked: bool,
}

#[derive(Debug)]
struct Answered {
    at: Stamp,
    targets: Result<Vec<Target>, String>,
}

impl Slot {
    fn put(&self, answered: Answered) {
        let mut state = self.lock();
        state.newest = Some(answered);
        state.asked = true;
        drop(state);
        self.came.notify_all();
    }

    fn take(&self) -> Option<Answered> {
        self.lock().newest.take()
    }

    fn wait(&self, patience: Duration) {
        let waited = self.came.wait_timeout_while(self.lock(), patience, |state| !state.asked);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
