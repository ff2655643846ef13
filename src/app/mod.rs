//! Joins the stages: bind first, build each from its configuration, reload, and drain in order.

mod deadmen;
#[cfg(debug_assertions)]
mod death;
mod discovery;
mod doorway;
mod heartbeats;
#[cfg(test)]
mod histories;
pub mod ledger;
mod owner;
mod pager;
mod references;
mod reload;
mod storage;
mod supervise;
mod targets;
pub mod trial;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::book::{Book, BookError};
use crate::clock;
use crate::config::{Config, Problems, Reference};
use crate::deadman::{self, Switchboard};
use crate::metrics::Identity;
use crate::model::family;
use crate::net::Net;
use crate::notify::{self, Handle, Notifier};
use crate::probe::OnDemand;
use crate::schedule::{LaneFailed, Lanes, Limits, Meters, Modules, ProbeRunner, Setup, Shard};
use crate::shutdown::{Request, Signals, Tasks};
pub use crate::web::ProbeOptions;
use crate::web::{self, Beats, ReloadRequest, Site};

use discovery::Found;
use heartbeats::{Heartbeats, Wanted};
use ledger::Ledger;
use owner::{MAX_OUTCOMES, Order, Owner};
use pager::Pager;
use reload::{AutoReload, ReloadMeters};

/// How long runs may finish after a stop was asked for.
const GRACE: Duration = Duration::from_secs(3);
/// Threads that serve; probes run on threads of their own.
const SERVICE_THREADS: usize = 2;
/// Orders that the owner has not obeyed yet.
const MAX_ORDERS: usize = 64;
/// Reloads that were asked for and have not begun.
const MAX_RELOADS: usize = 16;

/// What a run of the process needs beside its configuration.
pub struct Options {
    /// Reads the configuration again.
    pub load: Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>,
    pub net: Arc<Net>,
    /// Addresses to serve on.
    pub listen: Vec<String>,
    pub web: WebOptions,
    pub probe: ProbeOptions,
    /// Addresses that serve only beats.
    pub beats: Vec<String>,
    pub shard: Shard,
    /// The folder of the book; none to keep everything in memory.
    pub storage: Option<PathBuf>,
    pub auto_reload: Option<AutoReloadOptions>,
}

/// Reload when a file of the configuration changes.
pub struct AutoReloadOptions {
    pub every: Duration,
    /// The fingerprint of what the process starts with.
    pub read: u64,
    /// A value that changes with the content of the files.
    pub fingerprint: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// How we are reached.
#[derive(Debug, Default)]
pub struct WebOptions {
    /// Take the sockets that systemd has bound.
    pub systemd_socket: bool,
    /// In the exporter toolkit's vocabulary.
    pub config_file: Option<PathBuf>,
    pub external_url: Option<String>,
    pub route_prefix: Option<String>,
}

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {error}")]
    Listen { address: String, error: io::Error },
    #[error("{0}")]
    Web(String),
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error(transparent)]
    Lane(#[from] LaneFailed),
    #[error(
        "deadman and heartbeats need --storage.path: a switch that a restart forgets is none, and no beat may say that all \
         is well while nothing can be kept"
    )]
    NoStorage,
    #[error(transparent)]
    Book(#[from] BookError),
    #[error("the web door closed by itself: {0}")]
    Door(io::Error),
}

/// Runs until a signal asks to stop.
pub fn run(config: Config, mut options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVICE_THREADS)
        .thread_name("service")
        .enable_all()
        .build()?;
    // Bind first: that the port is taken must be known before anything is asked.
    let names = |host: &str| runtime.block_on(doorway::look_up(host, &options.net));
    let listeners = doorway::listeners(&options, &names)?;
    let beats = web::bind(&options.beats, &names)
        .map_err(|(address, error)| Error::Listen { address, error })?;
    let prefix = doorway::prefix(&options.web, &options.listen)?;
    // From here on the ports are known, also those that the system chose.
    options.listen = listeners.addresses().iter().map(ToString::to_string).collect();
    doorway::raise_descriptors();
    check_storage(&config, options.storage.as_deref(), options.shard)?;
    let ended = runtime.block_on(async {
        let access = doorway::access(&options.web)?;
        App::build(config, options)?.serve(listeners, beats, prefix, access).await
    });
    // A task that hangs in a system call does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Every stage, built and not yet served.
struct App {
    options: Arc<Options>,
    config: Config,
    found: Found,
    modules: Arc<ArcSwap<Modules>>,
    references: watch::Sender<Vec<Reference>>,
    orders: mpsc::Sender<Order>,
    lanes: Arc<Lanes>,
    site: Arc<Site>,
    on_demand: Arc<OnDemand>,
    reloads: mpsc::Receiver<ReloadRequest>,
    reload_meters: ReloadMeters,
    registry: Registry,
    tasks: Tasks,
    /// Of the first shard, once the book is open.
    notifier: Option<Handle>,
    notifier_stop: CancellationToken,
    /// Somebody asked for a reload while it could not be made.
    reload_follows: bool,
    /// Of the first shard, with its switches.
    beats: Option<Arc<Beats>>,
    /// Ends what follows the present switches.
    beats_stop: CancellationToken,
    /// Of the first shard, once the book is open.
    heartbeats: Option<Heartbeats>,
    /// Ends the owner; the tasks end by their own.
    owner_stop: CancellationToken,
    owner: JoinHandle<()>,
}

impl App {
    fn build(config: Config, options: Options) -> Result<Self, Error> {
        let registry = registry(&config);
        let board = Board::new();
        let identity = Identity {
            watchpost: config.identity.id.as_str().into(),
            region: config.identity.region.as_deref().map(Into::into),
        };
        let net = Arc::clone(&options.net);
        let modules = Arc::new(ArcSwap::from_pointee(by_name(&config)));
        let (finished, outcomes) = mpsc::channel(MAX_OUTCOMES);
        let lanes = {
            let (modules, net) = (Arc::clone(&modules), Arc::clone(&net));
            let limits = Limits::default();
            let setup = Setup {
                lanes: None,
                limits,
                shard: options.shard,
                watchpost_id: config.identity.id.clone(),
                meters: Meters::new(&registry, limits, options.shard),
            };
            let make = move |_| ProbeRunner::new(Arc::clone(&modules), Arc::clone(&net));
            Arc::new(Lanes::start(&setup, make, &finished)?)
        };
        drop(finished);
        let tasks = Tasks::default();
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let mut ledger = Ledger::new(Arc::clone(&board), identity);
        // Before the first outcome: what is not there yet cannot change.
        drop(ledger.guard(!config.references.is_empty(), clock::now()));
        let doubt = Arc::new(Notify::new());
        let (owner, last_pass) =
            Owner::new(ledger, Arc::clone(&lanes), Arc::clone(&doubt), &registry);
        let owner_stop = CancellationToken::new();
        let owner = tasks.spawn(owner.run(outcomes, ordered, owner_stop.clone()));
        let (references, referred) = watch::channel(config.references.clone());
        let lookout = references::Lookout::new(net, referred, doubt, orders.clone(), &registry);
        tasks.spawn(lookout.run(tasks.stop().clone()));
        tasks.spawn(supervise::feed_watchdog(last_pass, tasks.stop().clone()));
        let (ask_reload, reloads) = mpsc::channel(MAX_RELOADS);
        let found = Found::start(&registry, &options.net)?;
        let about = targets::about(&config, found.targets(), &options.listen);
        let on_demand =
            OnDemand::new(config.catalogue.clone(), config.trust.probe_allow.clone(), &options.net);
        let on_demand = Arc::new(on_demand);
        let probe = doorway::within_descriptors(options.probe);
        let asked = Arc::clone(&on_demand);
        let site = Site::new(board, registry.clone(), about, ask_reload, asked, probe);
        let reload_meters = ReloadMeters::new(&registry);
        Ok(Self {
            options: Arc::new(options),
            config,
            found,
            modules,
            references,
            orders,
            lanes,
            site,
            on_demand,
            reloads,
            reload_meters,
            registry,
            tasks,
            notifier: None,
            notifier_stop: CancellationToken::new(),
            reload_follows: false,
            beats: None,
            beats_stop: CancellationToken::new(),
            heartbeats: None,
            owner_stop,
            owner,
        })
    }

    async fn serve(
        mut self,
        listeners: web::Listeners,
        beats: web::Listeners,
        prefix: web::Prefix,
        access: Option<Arc<web::Access>>,
    ) -> Result<(), Error> {
        let mut signals = Signals::listen()?;
        let addresses: Vec<String> =
            listeners.addresses().iter().map(ToString::to_string).collect();
        let door_stop = CancellationToken::new();
        if !beats.addresses().is_empty() {
            let router = web::beats_router(Arc::clone(&self.site));
            let door = web::Door::new(router, web::Prefix::default(), access.clone());
            self.tasks.spawn(web::serve(beats, door, door_stop.clone()));
        }
        let door = web::Door::new(web::router(Arc::clone(&self.site)), prefix, access);
        let mut door = self.tasks.spawn(web::serve(listeners, door, door_stop.clone()));
        if let Err(end) = self.open_book(&mut signals, &mut door).await {
            self.shut_down(&mut signals, door_stop).await;
            return end.map_or(Ok(()), Err);
        }
        self.found.configure(&self.config).await;
        self.apply().await;
        self.site.set_ready(true);
        self.beat();
        supervise::tell(&[sd_notify::NotifyState::Ready]);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            id = self.config.identity.id,
            listen = addresses.join(" "),
            lanes = self.lanes.count(),
            "watchpost is ready"
        );
        if std::mem::take(&mut self.reload_follows) {
            // What is wrong with it has been said.
            self.reload().await.ok();
        }
        let mut auto_reload = AutoReload::new(Arc::clone(&self.options));
        let ended = loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop => break Ok(()),
                    Request::Reload => self.reload().await.map_or_else(|_| (), |()| ()),
                },
                Some(reply) = self.reloads.recv() => {
                    let result = self.reload().await;
                    // Whoever asked may have gone.
                    reply.send(result).ok();
                }
                () = auto_reload.changed() => self.reload().await.map_or_else(|_| (), |()| ()),
                () = self.found.changed() => self.apply().await,
                failed = self.lanes.failed() => break Err(failed.into()),
                closed = &mut door => break Err(door_closed(closed)),
            }
        };
        self.shut_down(&mut signals, door_stop).await;
        ended
    }

    /// Opens the book and starts what needs it. A process whose book belongs to another one waits here, not ready. Fails
    /// with `None` when it was asked to stop.
    async fn open_book(
        &mut self,
        signals: &mut Signals,
        door: &mut JoinHandle<io::Result<()>>,
    ) -> Result<(), Option<Error>> {
        let notifies = self.config.probes.iter().any(|p| !p.policy.notify.receivers.is_empty());
        if !self.options.shard.is_first() {
            if notifies {
                tracing::warn!(
                    "only the first shard notifies: of this shard's checks nobody is told"
                );
            }
            if !self.config.heartbeats.is_empty() {
                tracing::warn!("only the first shard sends heartbeats");
            }
            return Ok(());
        }
        if notifies && self.options.storage.is_none() {
            tracing::warn!(
                "without --storage.path notifications are kept in memory: a restart may repeat or forget pages"
            );
        }
        let opening = storage::open(self.options.storage.clone());
        tokio::pin!(opening);
        let book = loop {
            tokio::select! {
                opened = &mut opening => break opened.map_err(|error| Some(error.into()))?,
                request = signals.next() => match request {
                    Request::Stop => return Err(None),
                    Request::Reload => {
                        tracing::warn!("no reload while waiting for the book: it follows then");
                        self.reload_follows = true;
                    }
                },
                closed = &mut *door => return Err(Some(door_closed(closed))),
            }
        };
        let wanted = Wanted::of(&self.config);
        self.start_beats(&book).await;
        self.start_notifier(book.clone()).await;
        let names = self.options.net.resolver.clone();
        let heartbeats = Heartbeats::new(&self.config.identity.id, book, names, &self.registry);
        self.orders.send(Order::Issue(Box::new(heartbeats.issuer(wanted)))).await.ok();
        self.heartbeats = Some(heartbeats);
        Ok(())
    }

    /// Heartbeats are on their way from here on. Whether any beat is sent is for the evidence to say.
    fn beat(&mut self) {
        let Some(heartbeats) = &mut self.heartbeats else { return };
        heartbeats.configure(&self.config.heartbeats, &self.tasks);
        self.site.show_heartbeats(heartbeats.views());
    }

    /// The doors for beats open here.
    async fn start_beats(&mut self, book: &Book) {
        let specs = self.config.deadman.clone();
        let configured = deadmen::configured(&specs).await;
        let meter = deadman::Meter::new(&self.registry);
        for it in &configured {
            meter.announce(&it.spec);
        }
        let id = self.config.identity.id.as_str();
        let boot_id = book.now().boot_id;
        let kept = web::kept(book);
        let mut gone: Vec<String> = kept.states.keys().cloned().collect();
        let board = Switchboard::new(id, boot_id, configured, kept, clock::now());
        gone.retain(|name| board.spec(name).is_none());
        let beats = Beats::new(board, book.clone(), meter);
        // What was renamed is written under its new name before the old one is forgotten.
        beats.keep_changed();
        beats.forget(&gone);
        beats.know_probes(names(&self.config));
        self.site.open_beats(Arc::clone(&beats));
        self.orders.send(Order::Judge(Arc::clone(&beats))).await.ok();
        self.follow(&beats, &specs);
        self.beats = Some(beats);
    }

    /// Follows keys and Alertmanagers of these switches, and of no others.
    fn follow(&mut self, beats: &Arc<Beats>, specs: &[Arc<deadman::Spec>]) {
        self.beats_stop.cancel();
        self.beats_stop = self.tasks.stop().child_token();
        let stop = &self.beats_stop;
        self.tasks.spawn(deadmen::watch_keys(Arc::clone(beats), specs.to_vec(), stop.clone()));
        for spec in specs.iter().filter(|spec| spec.watchdog.is_some()) {
            let (beats, spec) = (Arc::clone(beats), Arc::clone(spec));
            let names = self.options.net.resolver.clone();
            self.tasks.spawn(deadmen::poll(beats, spec, names, stop.clone()));
        }
    }

    async fn start_notifier(&mut self, book: Book) {
        let identity = notify::Identity {
            id: self.config.identity.id.clone(),
            region: self.config.identity.region.clone(),
            url: self.config.identity.url.clone(),
        };
        let settings = notify::Settings { identity, ..notify::Settings::default() };
        #[cfg(debug_assertions)]
        let settings = death::sentenced(settings);
        let notifier = Notifier::start(
            book.clone(),
            std::mem::take(&mut self.config.receivers),
            &self.registry,
            self.tasks.tracker(),
            self.notifier_stop.clone(),
            settings,
        );
        self.site.open_book(book.clone());
        let pager = Pager::new(notifier.clone(), book, self.config.own.clone(), self.beats.clone());
        self.notifier = Some(notifier);
        // The owner ends only after us.
        self.orders.send(Order::Tell(Box::new(pager))).await.ok();
    }

    /// Hands the checks of configuration and discovery to the owner.
    async fn apply(&mut self) {
        let checks = targets::checks(&self.config, self.found.targets(), self.options.shard);
        let deadmen =
            if self.beats.is_some() { deadmen::checks(&self.config.deadman) } else { Vec::new() };
        let unread = targets::unread(&self.config, self.found.targets());
        self.site.replace_about(targets::about(
            &self.config,
            self.found.targets(),
            &self.options.listen,
        ));
        // The owner ends only after us.
        self.orders.send(Order::Checks { checks, deadmen, unread }).await.ok();
    }

    /// Reads the configuration again and applies the difference; a bad one changes nothing.
    async fn reload(&mut self) -> Result<(), String> {
        supervise::reloading();
        let options = Arc::clone(&self.options);
        let loaded = tokio::task::spawn_blocking(move || (options.load)()).await;
        let result = match loaded {
            Ok(Ok(config)) => {
                let storage = self.options.storage.as_deref();
                match check_storage(&config, storage, self.options.shard) {
                    Ok(()) => {
                        self.take_over(config).await;
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            Ok(Err(problems)) => Err(problems.to_string()),
            Err(_) => Err("reading the configuration panicked".to_owned()),
        };
        self.reload_meters.record(&result);
        supervise::tell(&[sd_notify::NotifyState::Ready]);
        result
    }

    async fn take_over(&mut self, mut config: Config) {
        for warning in config.warnings.iter() {
            tracing::warn!(problem = warning.to_string(), "the configuration is odd");
        }
        if config.identity != self.config.identity {
            tracing::warn!("the identity of this watchpost changes only with a restart");
        }
        let wanted = Wanted::of(&config);
        if let Some(notifier) = &self.notifier {
            notifier.reload(std::mem::take(&mut config.receivers));
        }
        if let Some(beats) = self.beats.clone() {
            // Also when nothing changed: whoever rotated a key need not wait until its file is looked at.
            let configured = deadmen::configured(&config.deadman).await;
            deadmen::replace(&beats, &self.config.deadman, configured);
            if config.deadman != self.config.deadman {
                self.follow(&beats, &config.deadman);
            }
            beats.know_probes(names(&config));
        }
        self.orders.send(Order::Own(config.own.clone())).await.ok();
        self.modules.store(Arc::new(by_name(&config)));
        self.on_demand.replace(config.catalogue.clone(), config.trust.probe_allow.clone());
        self.references.send_if_modified(|known| {
            let differs = *known != config.references;
            known.clone_from(&config.references);
            differs
        });
        self.found.configure(&config).await;
        self.config = config;
        self.apply().await;
        if let Some(heartbeats) = &self.heartbeats {
            self.orders.send(Order::Issue(Box::new(heartbeats.issuer(wanted)))).await.ok();
        }
        self.beat();
    }

    /// No more beats, not ready, stop scheduling, let runs finish, then close the door last. A second signal exits at once.
    async fn shut_down(self, signals: &mut Signals, door_stop: CancellationToken) {
        tracing::info!("stopping");
        if let Some(heartbeats) = &self.heartbeats {
            heartbeats.stop();
        }
        self.site.set_ready(false);
        supervise::tell(&[sd_notify::NotifyState::Stopping]);
        let orderly = async {
            self.lanes.shutdown(GRACE).await;
            // The lanes have dropped their ends: the owner takes what is left and ends by itself.
            if tokio::time::timeout(GRACE, self.owner).await.is_err() {
                self.owner_stop.cancel();
            }
            self.notifier_stop.cancel();
            door_stop.cancel();
            self.tasks.wait().await;
        };
        tokio::select! {
            () = orderly => tracing::info!("stopped"),
            () = second_stop(signals) => tracing::warn!("stopped at once: asked twice"),
        }
        drop(self.registry);
    }
}

/// A switch must survive a restart, and a heartbeat says that it does: without a folder for the book neither is taken on.
pub fn check_storage(config: &Config, storage: Option<&Path>, shard: Shard) -> Result<(), Error> {
    let keeps = !config.deadman.is_empty() || !config.heartbeats.is_empty();
    if keeps && storage.is_none() && shard.is_first() { Err(Error::NoStorage) } else { Ok(()) }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

fn door_closed(ended: Result<io::Result<()>, JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => Error::Door(error),
        Ok(Ok(())) => Error::Door(io::Error::other("it was told to")),
        Err(error) => Error::Door(io::Error::other(error)),
    }
}

/// Names of probes.
fn names(config: &Config) -> impl Iterator<Item = Arc<str>> {
    config.probes.iter().map(|probe| Arc::clone(&probe.policy.name))
}

fn by_name(config: &Config) -> Modules {
    config.modules.iter().map(|(name, module)| (Arc::clone(name), Arc::clone(module))).collect()
}

/// The registry of numbers about ourselves, with those that never change.
fn registry(config: &Config) -> Registry {
    let registry = Registry::new();
    let build = family::BUILD_INFO.int_gauges(&registry);
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION")]).set(1);
    let blackbox = family::BLACKBOX_BUILD_INFO.int_gauges(&registry);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    blackbox.with_label_values(&[env!("CARGO_PKG_VERSION"), "", "", "", os, arch, ""]).set(1);
    let identity = family::IDENTITY_INFO.int_gauges(&registry);
    let region = config.identity.region.as_deref().unwrap_or_default();
    identity.with_label_values(&[&config.identity.id, region]).set(1);
    family::START_TIME.gauge(&registry).set(clock::now().unix_seconds());
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("nothing else has these names");
    registry
}
