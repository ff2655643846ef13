//! The notifier's loop.

mod outcome;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::inbox::{Command, Inbox};
use super::meters::Meters;
use super::{Boundary, Settings, TestResult};
use crate::book::{
    Book, BookError, Episode, Moment, NoteKind, Outbox, ReceiverState, Row, StatusRow, Table, Write,
};
use crate::model::{Notify, Secret, Stamp, Status};
use crate::notify::episode::{Decision, Episodes, Rule, worst};
use crate::notify::event::{NotifyEvent, Subject, SubjectKind};
use crate::notify::message::Message;
use crate::notify::outbox::Queue;
use crate::notify::receivers::{Delivery, Limits, Receiver, Sent};

/// How many commands are looked at in one pass.
const MAX_COMMANDS: usize = 4_096;
/// How long to sleep at most: while something is open, so that a clock that jumped or a suspended machine is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
const LONGEST_IDLE_SLEEP: Duration = Duration::from_secs(15);
/// How long a disk that was slow before may take.
const SLOW_DISK_WAIT: Duration = Duration::from_millis(50);
/// How long after the start the first test is sent when the book cannot say when the last one was.
const UNSURE_TEST_AFTER: Duration = Duration::from_secs(10 * 60);
/// What an episode about a receiver is named, before the receiver's name.
const RECEIVER: &str = "receiver ";
/// How many former statuses are kept.
const MAX_HISTORY: usize = 10;

/// The process died here, as far as a test is concerned; else nothing.
type Life = ControlFlow<()>;

type Flight = Pin<Box<dyn Future<Output = (u64, Sent)> + Send>>;

pub(super) struct Worker {
    book: Book,
    receivers: BTreeMap<String, Arc<Receiver>>,
    rules: BTreeMap<String, Rule>,
    states: BTreeMap<String, ReceiverState>,
    episodes: Episodes,
    queue: Queue,
    flights: FuturesUnordered<Flight>,
    tests: HashMap<String, oneshot::Sender<TestResult>>,
    notes: Vec<String>,
    meters: Meters,
    inbox: Arc<Inbox>,
    tasks: TaskTracker,
    settings: Settings,
    started: Moment,
    disk_is_slow: bool,
}

impl Worker {
    pub(super) fn new(
        book: Book,
        receivers: Vec<Arc<Receiver>>,
        meters: Meters,
        inbox: Arc<Inbox>,
        tasks: TaskTracker,
        settings: Settings,
    ) -> Self {
        let started = book.moment((settings.clock)());
        let states: BTreeMap<_, _> =
            book.receivers().into_iter().map(|state| (state.name.clone(), state)).collect();
        let mut worker = Self {
            episodes: Episodes::restore(book.episodes(), &started)
                .of_watchpost(&settings.identity.id),
            queue: Queue::restore(book.outbox(), settings.backoff, &started),
            book,
            receivers: BTreeMap::new(),
            rules: BTreeMap::new(),
            states,
            flights: FuturesUnordered::new(),
            tests: HashMap::new(),
            notes: Vec::new(),
            meters,
            inbox,
            tasks,
            settings,
            started,
            disk_is_slow: false,
        };
        worker.equip(receivers);
        worker
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            if self.pass().await.is_break() {
                return;
            }
            let patience = self.patience(&self.now());
            tokio::select! {
                () = self.inbox.news() => {}
                () = tokio::time::sleep(patience) => {}
                Some((sequence, sent)) = self.flights.next() => {
                    if self.settle(sequence, &sent).is_break() {
                        return;
                    }
                }
                () = stop.cancelled() => break,
            }
        }
        self.finish().await;
    }

    fn now(&self) -> Moment {
        self.book.moment((self.settings.clock)())
    }

    /// `kinds`: of what is under way.
    fn dies_at(&self, boundary: Boundary, kinds: &[NoteKind]) -> Life {
        let fits = self.settings.die_with.is_none_or(|kind| kinds.contains(&kind));
        if self.settings.die_at != Some(boundary) || !fits {
            return Life::Continue(());
        }
        (self.settings.death)();
        Life::Break(())
    }

    /// What was told, what is due by time, and what can be sent.
    async fn pass(&mut self) -> Life {
        let now = self.now();
        let writes = self.decide(&now);
        if !writes.is_empty() {
            let kinds = kinds(&writes);
            self.dies_at(Boundary::Decided, &kinds)?;
            self.persist(writes).await;
            self.dies_at(Boundary::Written, &kinds)?;
        }
        self.dispatch(&now);
        self.meters.report(&self.queue, &self.episodes, &self.book);
        Life::Continue(())
    }

    /// What was told and what is due by time, as rows of the book.
    pub(super) fn decide(&mut self, now: &Moment) -> Vec<Write> {
        let commands = self.inbox.take(MAX_COMMANDS);
        let mut writes = Vec::new();
        let mut decisions = Vec::new();
        for command in commands {
            self.obey(command, now, &mut decisions, &mut writes);
        }
        decisions.extend(self.episodes.tick(&self.rules, now));
        decisions.extend(self.escalate(now, &mut writes));
        self.schedule_tests(now, &mut writes);
        self.carry_out(decisions, now, &mut writes);
        for row in self.queue.expire(now) {
            tracing::error!(
                receiver = row.receiver,
                key = row.key,
                kind = row.kind.label(),
                "gave up: nobody took it for a day"
            );
            writes.push(Write::Delete(Table::Outbox, row.id));
        }
        writes
    }

    fn patience(&self, now: &Moment) -> Duration {
        let is_idle = self.queue.is_empty() && self.episodes.open().next().is_none();
        let longest = if is_idle { LONGEST_IDLE_SLEEP } else { LONGEST_SLEEP };
        let until_due = self.queue.wait(now).unwrap_or(longest);
        until_due.clamp(Duration::from_millis(10), longest)
    }

    fn obey(
        &mut self,
        command: Command,
        now: &Moment,
        decisions: &mut Vec<Decision>,
        writes: &mut Vec<Write>,
    ) {
        match command {
            Command::Change(event) => {
                writes.extend(self.keep_status(&event, writes));
                decisions.extend(self.episodes.apply(&event, &self.rules, now));
            }
            Command::Removed(subject, member) => {
                let ended = self.episodes.remove(&subject, member.as_deref(), &self.rules, now);
                decisions.extend(ended);
            }
            Command::Reconcile(known) => decisions.extend(self.reconcile(&known, now)),
            Command::Reload(receivers) => {
                self.equip(receivers);
                self.queue.try_now(now);
            }
            Command::Note(notes) => self.notes = notes,
            Command::Test(receiver, done) => self.begin_test(&receiver, Some(done), now, writes),
        }
    }

    /// Takes over receivers. One that is gone keeps its numbers.
    fn equip(&mut self, receivers: Vec<Arc<Receiver>>) {
        self.receivers = receivers.into_iter().map(|r| (r.name.clone(), r)).collect();
        self.rules = self.receivers.iter().map(|(n, r)| (n.clone(), r.rule.clone())).collect();
        for name in self.receivers.keys() {
            self.meters.know(name);
        }
        for state in self.states.values() {
            self.meters.proof(state);
        }
    }

    /// The status goes into the book with what is decided about it: were it there first, a crash in between would lose the
    /// page, since nothing changes any more.
    ///
    /// `pending` is what this pass will write: a status that comes and goes within one pass is news to the book twice.
    fn keep_status(&self, event: &NotifyEvent, pending: &[Write]) -> Option<Write> {
        let id = event.keep_as.clone()?;
        let before = pending_status(pending, &id).or_else(|| self.book.status(&id));
        if before.as_ref().is_some_and(|b| b.status == event.to.label()) {
            return None;
        }
        let mut history = Vec::new();
        if let Some(before) = before {
            history = before.history;
            history.push((before.since, before.status));
            let excess = history.len().saturating_sub(MAX_HISTORY);
            history.drain(..excess);
        }
        let since = self.book.moment(event.at);
        let text = (event.to != Status::Up).then(|| event.text.clone());
        let status = event.to.label().to_owned();
        Some(Write::put(StatusRow { id, status, since, text, history }))
    }

    fn reconcile(&mut self, known: &BTreeMap<Subject, Vec<String>>, now: &Moment) -> Vec<Decision> {
        let mut gone = Vec::new();
        for episode in self.episodes.open() {
            let kind = match episode.kind.as_str() {
                "probe" => SubjectKind::Probe,
                "deadman" => SubjectKind::Deadman,
                _ => {
                    gone.extend(self.receiver_that_is_gone(episode));
                    continue;
                }
            };
            let subject = Subject { kind, name: episode.name.clone() };
            let members = known.get(&subject);
            let missing = |name: &&String| members.is_none_or(|m| !m.contains(*name));
            gone.extend(
                episode.members.keys().filter(missing).map(|m| (subject.clone(), m.clone())),
            );
        }
        let rules = &self.rules;
        gone.into_iter()
            .flat_map(|(subject, member)| self.episodes.remove(&subject, Some(&member), rules, now))
            .collect()
    }

    /// Nothing will ever be delivered to a receiver that is not configured any more, so nothing would end this episode.
    fn receiver_that_is_gone(&self, episode: &Episode) -> Option<(Subject, String)> {
        let receiver = episode.name.strip_prefix(RECEIVER)?;
        let is_gone = !self.receivers.contains_key(receiver);
        is_gone.then(|| (Subject::watchpost(episode.name.as_str()), receiver.to_owned()))
    }

    /// Tells the fallback of what its receiver refuses or has not taken for too long.
    fn escalate(&mut self, now: &Moment, writes: &mut Vec<Write>) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (row, fallback, why) in self.stuck(now) {
            tracing::warn!(receiver = row.receiver, fallback, why, "telling the fallback");
            writes.extend(self.queue.set_escalated(row.sequence));
            decisions.extend(if let Some(id) = &row.episode {
                self.episodes.escalate(id, &fallback, &why, now)
            } else {
                let event = broken_receiver(&row.receiver, &fallback, &why, now);
                self.episodes.apply(&event, &self.rules, now)
            });
        }
        decisions
    }

    fn stuck(&self, now: &Moment) -> Vec<(Outbox, String, String)> {
        let mut stuck = Vec::new();
        for row in self.queue.rows().filter(|row| !row.escalated && !row.kind.ends()) {
            let Some(receiver) = self.receivers.get(&row.receiver) else { continue };
            let Some(fallback) = &receiver.fallback else { continue };
            // Of an earlier boot, and the clock was set back since: who knows for how long it has waited.
            let age = row.created.age(now);
            if row.refused || age.is_none_or(|age| age >= receiver.fallback_after) {
                let seconds = age.unwrap_or(receiver.fallback_after).as_secs();
                let why = row.last_error.clone();
                let why = why.unwrap_or_else(|| format!("nothing delivered for {seconds} s"));
                stuck.push((row.clone(), fallback.clone(), why));
            }
        }
        stuck
    }

    fn schedule_tests(&mut self, now: &Moment, writes: &mut Vec<Write>) {
        let due: Vec<_> = self
            .receivers
            .values()
            .filter(|receiver| self.is_test_due(receiver, now))
            .map(|receiver| receiver.name.clone())
            .collect();
        for name in due {
            self.begin_test(&name, None, now, writes);
        }
    }

    fn is_test_due(&self, receiver: &Receiver, now: &Moment) -> bool {
        let Some(interval) = receiver.test_interval else { return false };
        let under_way = |r: &Outbox| r.kind.is_test() && r.receiver == receiver.name;
        if self.queue.rows().any(under_way) {
            return false;
        }
        match self.states.get(&receiver.name).and_then(|s| s.last_test.as_ref()) {
            Some(last) => last.age(now).unwrap_or_default() >= interval,
            None if self.book.writable() => true,
            // A crash loop without a book must not become a stream of tests.
            None => self.started.age(now).unwrap_or_default() >= UNSURE_TEST_AFTER,
        }
    }

    fn begin_test(
        &mut self,
        receiver: &str,
        done: Option<oneshot::Sender<TestResult>>,
        now: &Moment,
        writes: &mut Vec<Write>,
    ) {
        if !self.receivers.contains_key(receiver) {
            answer(done, TestResult::NoSuchReceiver);
            return;
        }
        let first = self.queue.next_sequence();
        let key = format!("watchpost-test-{:x}-{first:x}", now.wall.as_microsecond());
        for kind in [NoteKind::Test, NoteKind::TestResolve] {
            let message = Message::test(kind, receiver, &self.settings.identity, now.wall);
            let sequence = if kind == NoteKind::Test { first } else { self.queue.next_sequence() };
            let row = row(sequence, receiver, &key, kind, &message, now);
            writes.extend(self.queue.add(row));
        }
        let state = self.state(receiver);
        state.last_test = Some(now.clone());
        writes.push(Write::put(state.clone()));
        if let Some(done) = done {
            self.tests.insert(key, done);
        }
    }

    fn state(&mut self, receiver: &str) -> &mut ReceiverState {
        self.states.entry(receiver.to_owned()).or_insert_with(|| ReceiverState {
            name: receiver.to_owned(),
            last_success: None,
            last_test: None,
            last_test_success: None,
        })
    }

    /// Turns decisions into rows of the book. A message shows the state after the whole pass, so that five hundred targets
    /// that fall together are one page that names them.
    fn carry_out(&mut self, decisions: Vec<Decision>, now: &Moment, writes: &mut Vec<Write>) {
        let mut stored: BTreeMap<String, Write> = BTreeMap::new();
        let mut is_forgotten = false;
        for decision in decisions {
            let id = decision.episode.id.clone();
            if decision.forget {
                is_forgotten = true;
                stored.insert(id.clone(), Write::Delete(Table::Episodes, id));
                continue;
            }
            let mut episode = decision.episode;
            if let Some(kind) = decision.note {
                if !kind.ends()
                    && let Some(latest) = self.episodes.refresh(&id)
                {
                    episode = latest;
                }
                self.enqueue(kind, &episode, now, writes);
            } else if let Some(latest) = self.episodes.by_id(&id) {
                episode = latest.clone();
            }
            stored.insert(id, Write::put(episode));
        }
        writes.extend(stored.into_values());
        if is_forgotten {
            writes.extend(self.forget_routes());
        }
    }

    fn enqueue(
        &mut self,
        kind: NoteKind,
        episode: &Episode,
        now: &Moment,
        writes: &mut Vec<Write>,
    ) {
        let mut notes = self.notes.clone();
        if !self.book.writable() {
            notes.push(
                "this watchpost cannot write its book: a restart may repeat or forget pages".into(),
            );
        }
        let others = self.others(episode);
        let identity = &self.settings.identity;
        let message = Message::of(kind, episode, &others, &notes, identity, now.wall);
        tracing::info!(
            receiver = episode.receiver,
            kind = kind.label(),
            episode = episode.id,
            headline = message.headline(),
            "notifying"
        );
        let sequence = self.queue.next_sequence();
        let mut row = row(sequence, &episode.receiver, &episode.key, kind, &message, now);
        row.episode = Some(episode.id.clone());
        row.route.clone_from(&episode.route);
        writes.extend(self.queue.add(row));
    }

    /// What else is in trouble, by name.
    fn others(&self, episode: &Episode) -> Vec<String> {
        let others = self.episodes.open().filter(|e| e.key != episode.key && worst(e).is_some());
        let mut names: Vec<_> = others
            .map(|e| match &e.group {
                Some(group) => format!("{} {group}", e.name),
                None => e.name.clone(),
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Waits until the disk has it. When the disk cannot, the page goes out from memory all the same.
    async fn persist(&mut self, writes: Vec<Write>) {
        if writes.iter().all(is_status) {
            // Nobody is told of it: were it lost, the same would be found and decided again.
            self.book.write_later(writes);
            return;
        }
        let written = self.book.write(writes);
        let result = if self.disk_is_slow {
            let patient = tokio::time::timeout(SLOW_DISK_WAIT, written).await;
            patient.unwrap_or(Err(BookError::Slow))
        } else {
            written.await
        };
        self.disk_is_slow = result == Err(BookError::Slow);
    }

    /// Rows whose turn it is; they count as being sent from here on.
    pub(super) fn due(&mut self, now: &Moment) -> Vec<Outbox> {
        let receivers = &self.receivers;
        let limits = |name: &str| {
            receivers.get(name).map_or(Limits { per_minute: 1, in_flight: 1 }, |r| r.limits())
        };
        self.queue.due(limits, now)
    }

    fn dispatch(&mut self, now: &Moment) {
        for row in self.due(now) {
            let flight = self.launch(row, now);
            self.flights.push(flight);
        }
    }

    /// Sends in a task of its own: a defect in one receiver must not stop the others.
    fn launch(&self, row: Outbox, now: &Moment) -> Flight {
        let sequence = row.sequence;
        let Some(receiver) = self.receivers.get(&row.receiver).cloned() else {
            let why = format!("receiver {} is not configured", row.receiver);
            return Box::pin(async move { (sequence, Sent::Refused { why }) });
        };
        let route = row.route.as_deref().and_then(|f| self.book.route(f)).map(|r| r.key());
        let stamp = Stamp::new(now.wall, now.boot);
        let task = self.tasks.spawn(async move { send(&receiver, &row, route, stamp).await });
        Box::pin(async move {
            let sent = task
                .await
                .unwrap_or_else(|_| Sent::retry(&"a defect of watchpost ended the attempt"));
            (sequence, sent)
        })
    }

    /// An attempt ended.
    fn settle(&mut self, sequence: u64, sent: &Sent) -> Life {
        let kind = self.queue.rows().find(|row| row.sequence == sequence).map(|row| row.kind);
        let kinds = kind.as_slice();
        self.dies_at(Boundary::Sent, kinds)?;
        let now = self.now();
        let writes = self.learn(sequence, sent, &now);
        self.dies_at(Boundary::Answered, kinds)?;
        // Not waited for: a confirmation that is lost costs one more message with the same dedup key.
        drop(self.book.write(writes));
        self.dies_at(Boundary::Confirmed, kinds)
    }

    /// One more pass, and a short wait for what is under way. The rest is in the book.
    async fn finish(mut self) {
        if self.pass().await.is_break() {
            return;
        }
        let end = tokio::time::Instant::now() + self.settings.grace;
        while let Ok(Some((sequence, sent))) =
            tokio::time::timeout_at(end, self.flights.next()).await
        {
            if self.settle(sequence, &sent).is_break() {
                return;
            }
        }
        self.persist(vec![]).await;
    }
}

async fn send(receiver: &Receiver, row: &Outbox, route: Option<Secret>, now: Stamp) -> Sent {
    let message: Message = match serde_json::from_value(row.payload.clone()) {
        Ok(message) => message,
        Err(error) => {
            return Sent::Refused { why: format!("the stored message is not understood: {error}") };
        }
    };
    let delivery =
        Delivery { id: &row.id, message: &message, key: &row.key, route: route.as_ref(), now };
    receiver.send(&delivery).await
}

fn row(
    sequence: u64,
    receiver: &str,
    key: &str,
    kind: NoteKind,
    message: &Message,
    now: &Moment,
) -> Outbox {
    Outbox {
        id: format!("n{:x}-{sequence:x}", now.wall.as_microsecond()),
        sequence,
        episode: None,
        key: key.to_owned(),
        receiver: receiver.to_owned(),
        kind,
        created: now.clone(),
        attempts: 0,
        next_attempt: now.clone(),
        last_error: None,
        refused: false,
        escalated: false,
        route: None,
        payload: serde_json::to_value(message).expect("a message is plain data"),
    }
}

fn pending_status(writes: &[Write], id: &str) -> Option<StatusRow> {
    writes.iter().rev().find_map(|write| match write {
        Write::Put(row) => match &**row {
            Row::Statuses(row) if row.id == id => Some(row.clone()),
            _ => None,
        },
        _ => None,
    })
}

fn is_status(write: &Write) -> bool {
    matches!(write, Write::Put(row) if matches!(**row, Row::Statuses(_)))
}

/// The kinds of the notifications that are written.
fn kinds(writes: &[Write]) -> Vec<NoteKind> {
    let rows = writes.iter().filter_map(|write| match write {
        Write::Put(row) => Some(&**row),
        _ => None,
    });
    let kinds = rows.filter_map(|row| match row {
        Row::Outbox(row) => Some(row.kind),
        _ => None,
    });
    kinds.collect()
}

fn answer(done: Option<oneshot::Sender<TestResult>>, result: TestResult) {
    // Whoever asked may have gone.
    if let Some(done) = done {
        drop(done.send(result));
    }
}

/// A receiver whose test does not arrive: news for its fallback.
fn broken_receiver(receiver: &str, fallback: &str, why: &str, now: &Moment) -> NotifyEvent {
    let receivers = BTreeMap::from([(Status::Down, vec![fallback.to_owned()])]);
    own_event(receiver, Status::Down, why, Notify { receivers, ..Notify::default() }, now)
}

fn works_again(receiver: &str, now: &Moment) -> NotifyEvent {
    own_event(receiver, Status::Up, "it took a notification", Notify::default(), now)
}

fn own_event(receiver: &str, to: Status, text: &str, notify: Notify, now: &Moment) -> NotifyEvent {
    NotifyEvent {
        subject: Subject::watchpost(format!("{RECEIVER}{receiver}")),
        member: receiver.to_owned(),
        to,
        at: Stamp::new(now.wall, now.boot),
        text: text.to_owned(),
        evidence: None,
        notify,
        keep_as: None,
    }
}
