//! One process on the virtual clock: the real stages from a beat to a notification, driven by hand.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use prometheus::Registry;
use serde_json::json;

use super::pagers::{FIRST, Pagers, SECOND};
use crate::app::deadmen::{self, Judging};
use crate::app::ledger::{Changes, Ledger};
use crate::app::pager::Pager;
use crate::board::Board;
use crate::book::{Book, Outbox, Write};
use crate::deadman::{Address, Beat, BeatKind, BeatMethod, Configured, Door, Key, Meter};
use crate::deadman::{PingId, Spec, Switchboard};
use crate::metrics::Identity;
use crate::model::{Mistakes, Notify, Stamp};
use crate::net::Resolver;
use crate::notify::{Boundary, ByHand, Receiver, ReceiverSpec};
use crate::web::{self, Beats};

/// What stands in the configuration file.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) specs: Vec<Arc<Spec>>,
    pub(super) routing_key: String,
}

/// The two ways to a human. Nothing is sent by them, so all histories share them.
pub(super) fn receivers() -> Vec<Arc<Receiver>> {
    static RECEIVERS: OnceLock<Vec<Arc<Receiver>>> = OnceLock::new();
    let build = || {
        let first = json!({
            "name": FIRST, "fallback": SECOND,
            "pagerduty": { "routing_key": "unused", "url": "http://127.0.0.1:9/" },
        });
        let second = json!({ "name": SECOND, "webhook": { "url": "http://127.0.0.1:9/" } });
        [first, second].map(receiver).map(Arc::new).into()
    };
    RECEIVERS.get_or_init(build).clone()
}

impl Configuration {
    fn configured(&self) -> Vec<Configured> {
        let key = |spec: &Arc<Spec>| spec.key.as_ref().map(Key::new);
        self.specs.iter().map(|s| Configured { spec: Arc::clone(s), key: key(s) }).collect()
    }
}

fn receiver(spec: serde_json::Value) -> Receiver {
    let spec: ReceiverSpec = serde_json::from_value(spec).unwrap();
    spec.build(&Resolver::with_servers(Vec::new()), &mut Mistakes::default()).unwrap()
}

/// The process was killed.
#[derive(Debug)]
pub(super) struct Killed;

pub(super) struct Process {
    pub(super) book: Book,
    pub(super) beats: Arc<Beats>,
    judging: Judging,
    ledger: Ledger,
    pager: Pager,
    notifier: ByHand,
    specs: Vec<Arc<Spec>>,
    under_way: VecDeque<Outbox>,
    /// Where it falls dead.
    pub(super) die_at: Option<Boundary>,
}

impl Process {
    pub(super) fn start(book: Book, configuration: &Configuration, now: Stamp) -> Self {
        let mut process = Self::begin(book, configuration, now);
        process.apply(now);
        process
    }

    /// Judges before the checks are known, as when a beat comes in while targets are still looked for.
    pub(super) fn after_an_early_look(mut self, now: Stamp) -> Self {
        self.judge(now);
        self.apply(now);
        self
    }

    /// Everything but the checks.
    pub(super) fn begin(book: Book, configuration: &Configuration, now: Stamp) -> Self {
        let meter = Meter::new(&Registry::new());
        let boot_id = book.moment(now).boot_id;
        let configured = configuration.configured();
        let kept = web::kept(&book);
        let mut gone: Vec<String> = kept.states.keys().cloned().collect();
        let board = Switchboard::new("here", boot_id, configured, kept, now);
        gone.retain(|name| board.spec(name).is_none());
        let beats = Beats::new(board, book.clone(), meter);
        beats.keep_changed();
        beats.forget(&gone);
        beats.know_probes([]);
        let (handle, notifier) = ByHand::start(&book, receivers(), now);
        let identity = Identity { watchpost: "here".into(), region: None };
        let mut ledger = Ledger::new(Board::new(), identity);
        let mut pager =
            Pager::new(handle, book.clone(), Notify::default(), Some(Arc::clone(&beats)));
        pager.restore(&mut ledger, now);
        let judging = Judging::new(Arc::clone(&beats));
        let specs = configuration.specs.clone();
        let under_way = VecDeque::new();
        Self { book, beats, judging, ledger, pager, notifier, specs, under_way, die_at: None }
    }

    /// As the owner obeys a new list of checks.
    fn apply(&mut self, now: Stamp) {
        let applied = self.ledger.apply(deadmen::checks(&self.specs), now);
        self.pager.applied(&mut self.ledger, &applied, &BTreeSet::new());
        let changes = self.judging.all(&mut self.ledger, now);
        self.tell(&changes);
    }

    fn tell(&self, changes: &[Changes]) {
        for changes in changes {
            self.pager.changed(&self.ledger, changes);
        }
    }

    pub(super) fn reload(&mut self, configuration: &Configuration, now: Stamp) {
        self.notifier.reload(receivers());
        for it in &configuration.specs {
            self.beats.meter().announce(it);
        }
        let gone = self.beats.board().reload(configuration.configured(), now);
        self.beats.forget(&gone);
        self.beats.know_probes([]);
        self.beats.keep_changed();
        self.specs.clone_from(&configuration.specs);
        self.apply(now);
    }

    /// A beat over HTTP, up to where it would be written.
    pub(super) fn beat(&self, uuid: &str, kind: BeatKind, now: Stamp) {
        let id = PingId::parse(uuid).unwrap();
        let address = Address { door: Door::Id(id), kind };
        let beat = Beat { kind, run: None, method: BeatMethod::Post, from: None, body: b"" };
        // A switch that is not configured is nobody's business here.
        drop(self.beats.board().ping(&address, &beat, now));
        self.beats.keep_changed();
    }

    pub(super) fn keep_pauses(&self) {
        // The book in memory answers at once, and that it is not on disk.
        let pauses = self.beats.board().pauses().clone();
        drop(self.beats.keep_pauses(&pauses).now_or_never());
    }

    /// The owner's tick.
    pub(super) fn judge(&mut self, now: Stamp) {
        let changes = self.judging.due(&mut self.ledger, now);
        self.tell(&changes);
        let changes = self.ledger.tick(now);
        self.tell(&[changes]);
        self.pager.look_at_book(now);
    }

    pub(super) fn decide(&mut self, now: Stamp) -> Vec<Write> {
        self.notifier.decide(now)
    }

    pub(super) fn dies_at(&self, boundary: Boundary) -> Result<(), Killed> {
        if self.die_at == Some(boundary) { Err(Killed) } else { Ok(()) }
    }

    /// Whatever is due is sent one after the other: here, no attempt takes time.
    fn next_row(&mut self, now: Stamp) -> Option<Outbox> {
        if self.under_way.is_empty() {
            self.under_way = self.notifier.due(now).into();
        }
        self.under_way.pop_front()
    }

    /// What is due now, sent to `pagers`. `keep` writes what came of it.
    pub(super) fn send(
        &mut self,
        pagers: &mut Pagers,
        at: u64,
        now: Stamp,
        mut keep: impl FnMut(&Book, Vec<Write>),
    ) -> Result<(), Killed> {
        while let Some(row) = self.next_row(now) {
            let route = row.route.as_deref().and_then(|f| self.book.route(f)).map(|r| r.key());
            let sent = pagers.take(&row, route, at);
            self.dies_at(Boundary::Sent)?;
            let writes = self.notifier.learn(row.sequence, &sent, now);
            self.dies_at(Boundary::Answered)?;
            keep(&self.book, writes);
            self.dies_at(Boundary::Confirmed)?;
        }
        Ok(())
    }
}

/// A switch of the configuration.
pub(super) fn spec(name: &str, uuid: &str, interval: u64, grace: u64) -> Arc<Spec> {
    let spec = json!({
        "name": name, "uuid": uuid, "interval": format!("{interval}s"),
        "grace": format!("{grace}s"), "notify": [FIRST],
    });
    Arc::new(serde_json::from_value(spec).unwrap())
}
