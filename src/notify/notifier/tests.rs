//! What the notifier decides and keeps, pass by pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::by_hand::ByHand;
use super::inbox::Command;
use super::{Handle, TestResult};
use crate::book::{Book, NoteKind, Outbox, Write};
use crate::model::{Mistakes, Notify, Stamp, Status};
use crate::net::Resolver;
use crate::notify::event::{NotifyEvent, Subject};
use crate::notify::receivers::{Receiver, ReceiverSpec, Sent};

fn at(seconds: u64) -> Stamp {
    let wall = 1_800_000_000 + i64::try_from(seconds).unwrap();
    let boot = Duration::from_secs(1_000 + seconds);
    Stamp::new(Timestamp::from_second(wall).unwrap(), boot)
}

fn receiver(json: serde_json::Value) -> Arc<Receiver> {
    let spec: ReceiverSpec = serde_json::from_value(json).unwrap();
    Arc::new(spec.build(&Resolver::with_servers(Vec::new()), &mut Mistakes::default()).unwrap())
}

fn oncall() -> Arc<Receiver> {
    receiver(serde_json::json!({ "name": "oncall", "slack": { "url": "http://localhost/" } }))
}

fn tested() -> Arc<Receiver> {
    receiver(serde_json::json!({
        "name": "pager", "fallback": "oncall", "slack": { "url": "http://localhost/" },
    }))
}

fn event(to: Status, seconds: u64) -> NotifyEvent {
    NotifyEvent {
        subject: Subject::probe("shop"),
        member: "shop:443".into(),
        to,
        at: at(seconds),
        text: "nothing listens".into(),
        evidence: None,
        notify: Notify {
            receivers: BTreeMap::from([(Status::Down, vec!["oncall".to_owned()])]),
            ..Notify::default()
        },
        keep_as: Some("shop:443".into()),
    }
}

/// A notifier with its book, both of this process.
struct Bench {
    book: Book,
    handle: Handle,
    notifier: ByHand,
}

impl Bench {
    fn new(receivers: Vec<Arc<Receiver>>) -> Self {
        let book = Book::in_memory_on("boot");
        let (handle, notifier) = ByHand::start(&book, receivers, at(0));
        Self { book, handle, notifier }
    }

    fn write(&self, writes: Vec<Write>) {
        drop(self.book.write(writes));
    }

    fn pass(&mut self, seconds: u64) -> Vec<Outbox> {
        let writes = self.notifier.decide(at(seconds));
        self.write(writes);
        self.notifier.due(at(seconds))
    }

    fn settle(&mut self, row: &Outbox, sent: &Sent, seconds: u64) {
        let writes = self.notifier.learn(row.sequence, sent, at(seconds));
        self.write(writes);
    }

    /// Passes each second, with a receiver that takes everything; the kinds that it took.
    fn run(&mut self, from: u64, to: u64) -> Vec<NoteKind> {
        let mut kinds = Vec::new();
        for second in from..=to {
            for row in self.pass(second) {
                kinds.push(row.kind);
                self.settle(&row, &Sent::delivered(), second);
            }
        }
        kinds
    }
}

#[test]
fn a_status_that_comes_and_goes_within_a_pass_is_kept_as_it_ended() {
    let mut bench = Bench::new(vec![oncall()]);
    bench.handle.change(event(Status::Up, 0));
    bench.pass(0);
    bench.handle.change(event(Status::Down, 1));
    bench.handle.change(event(Status::Up, 2));
    bench.pass(3);
    let row = bench.book.status("shop:443").unwrap();
    assert_eq!(row.status, "up");
    let before: Vec<&str> = row.history.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(before, ["up", "down"]);
}

#[test]
fn the_end_of_a_test_that_arrived_is_tried_until_it_is_taken() {
    let mut bench = Bench::new(vec![oncall()]);
    let (done, mut result) = tokio::sync::oneshot::channel();
    bench.handle.inbox.push(Command::Test("oncall".into(), done));
    let begin = bench.pass(0).remove(0);
    assert_eq!(begin.kind, NoteKind::Test);
    bench.settle(&begin, &Sent::delivered(), 0);
    let end = bench.pass(1).remove(0);
    assert_eq!(end.kind, NoteKind::TestResolve);
    bench.settle(&end, &Sent::retry(&"status 503"), 1);
    assert_eq!(result.try_recv().unwrap(), TestResult::Failed("status 503".into()));
    assert_eq!(bench.run(2, 60), [NoteKind::TestResolve]);
    assert!(bench.book.outbox().is_empty());
}

#[test]
fn a_test_that_did_not_arrive_is_not_tried_on() {
    let mut bench = Bench::new(vec![oncall()]);
    let (done, mut result) = tokio::sync::oneshot::channel();
    bench.handle.inbox.push(Command::Test("oncall".into(), done));
    let begin = bench.pass(0).remove(0);
    bench.settle(&begin, &Sent::retry(&"status 503"), 0);
    assert_eq!(result.try_recv().unwrap(), TestResult::Failed("status 503".into()));
    assert_eq!(bench.run(1, 60), []);
}

#[test]
fn what_is_wrong_with_a_receiver_ends_when_the_receiver_is_gone() {
    let mut bench = Bench::new(vec![oncall(), tested()]);
    bench.handle.change(NotifyEvent {
        subject: Subject::watchpost("receiver pager"),
        member: "pager".into(),
        keep_as: None,
        ..event(Status::Down, 1)
    });
    assert_eq!(bench.run(1, 10), [NoteKind::Trigger]);
    bench.notifier.reload(vec![oncall()]);
    bench.handle.reconcile(BTreeMap::new());
    assert_eq!(bench.run(11, 20), [NoteKind::Resolve]);
}
