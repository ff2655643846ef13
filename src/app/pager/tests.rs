use jiff::Timestamp;

use super::*;
use crate::app::ledger::Finished;
use crate::board::Board;
use crate::metrics::Identity;
use crate::model::{Answer, Fault, Labels, Mistakes, Outcome, Secret, Thresholds, family};
use crate::net::Resolver;
use crate::notify::{ByHand, Receiver, ReceiverSpec, Sent};

fn at(seconds: u64) -> Stamp {
    let wall = 1_800_000_000 + i64::try_from(seconds).unwrap();
    Stamp::new(Timestamp::from_second(wall).unwrap(), Duration::from_secs(1_000 + seconds))
}

fn oncall() -> Notify {
    let receivers = BTreeMap::from([(Status::Down, vec!["oncall".to_owned()])]);
    Notify { receivers, ..Notify::default() }
}

fn receiver() -> Arc<Receiver> {
    let spec = serde_json::json!({ "name": "oncall", "slack": { "url": "http://localhost/" } });
    let spec: ReceiverSpec = serde_json::from_value(spec).unwrap();
    Arc::new(spec.build(&Resolver::with_servers(Vec::new()), &mut Mistakes::default()).unwrap())
}

/// A process that tells of itself.
struct Process {
    pager: Pager,
    notifier: ByHand,
    book: Book,
}

impl Process {
    fn start(book: &Book, seconds: u64) -> Self {
        let (handle, notifier) = ByHand::start(book, vec![receiver()], at(seconds));
        let pager = Pager::new(handle, book.clone(), oncall(), None);
        Self { pager, notifier, book: book.clone() }
    }

    /// Passes each second with a receiver that takes everything; the headlines that it took.
    fn run(&mut self, from: u64, to: u64) -> Vec<String> {
        let mut told = Vec::new();
        for second in from..=to {
            self.pager.look_at_book(at(second));
            let writes = self.notifier.decide(at(second));
            drop(self.book.write(writes));
            for row in self.notifier.due(at(second)) {
                told.push(format!(
                    "{} {}",
                    row.kind.label(),
                    row.payload["name"].as_str().unwrap()
                ));
                let writes = self.notifier.learn(row.sequence, &Sent::delivered(), at(second));
                drop(self.book.write(writes));
            }
        }
        told
    }
}

#[test]
fn blindness_that_a_restart_ended_is_over() {
    let book = Book::in_memory_on("boot");
    let mut first = Process::start(&book, 0);
    first.pager.set_blind(true, at(0));
    assert_eq!(first.run(0, 60), ["trigger blind"]);
    let mut second = Process::start(&book, 61);
    assert_eq!(second.run(61, 300), ["resolve blind"]);
}

#[test]
fn blindness_that_outlasts_a_restart_goes_on() {
    let book = Book::in_memory_on("boot");
    let mut first = Process::start(&book, 0);
    first.pager.set_blind(true, at(0));
    assert_eq!(first.run(0, 60), ["trigger blind"]);
    let mut second = Process::start(&book, 61);
    second.run(61, 70);
    second.pager.set_blind(true, at(70));
    assert!(second.run(70, 300).is_empty());
}

#[test]
fn a_book_that_can_be_written_after_a_restart_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).unwrap();
    let mut first = Process::start(&book, 0);
    first.run(0, 1);
    first.pager.tell_own("book", Status::Down, "the book cannot be written".into(), at(2));
    assert_eq!(first.run(2, 20), ["trigger book"]);
    let mut second = Process::start(&book, 21);
    assert_eq!(second.run(21, 300), ["resolve book"]);
}

fn policy() -> Arc<ProbePolicy> {
    Arc::new(ProbePolicy {
        name: "shop".into(),
        module: "http".into(),
        prober: "http",
        phases: &family::PROBE_HTTP_DURATION,
        interval: Duration::from_mins(10),
        timeout: Duration::from_secs(5),
        thresholds: Thresholds::default(),
        retry_interval: None,
        min_up: None,
        pipeline: false,
        notify: oncall(),
        histogram: Arc::from([]),
    })
}

/// One address, which answers for several instances by a header.
fn instance(name: &str) -> Arc<Check> {
    let headers = BTreeMap::from([("x-instance".to_owned(), Secret::new(name.into()))]);
    let target = Target { headers, ..Target::plain("http://shop.example") };
    Arc::new(Check::new(policy(), target, &Labels::default()))
}

#[test]
fn one_instance_that_works_does_not_end_what_is_told_of_another() {
    let book = Book::in_memory_on("boot");
    let mut process = Process::start(&book, 0);
    let identity = Identity { watchpost: "here".into(), region: None };
    let mut ledger = Ledger::new(Board::new(), identity);
    let (good, bad) = (instance("a"), instance("b"));
    let record = |ledger: &mut Ledger, pager: &Pager, check: &Check, answer, second| {
        let outcome = Outcome::judged(answer, at(second));
        let finished = Finished { id: check.id, outcome, early: false };
        let changes = ledger.record(finished, at(second)).changes;
        pager.changed(ledger, &changes);
    };
    let applied = ledger.apply(vec![Arc::clone(&good), Arc::clone(&bad)], at(0));
    process.pager.applied(&mut ledger, &applied, &BTreeSet::new());
    let fails = || Answer::Fail(Fault::Silent { since: None, allowed: Duration::ZERO });
    for second in 1..10 {
        record(&mut ledger, &process.pager, &bad, fails(), second);
        record(&mut ledger, &process.pager, &good, Answer::Pass, second);
    }
    // Also when all of them are told once more.
    let applied = ledger.apply(vec![good, Arc::clone(&bad)], at(20));
    process.pager.applied(&mut ledger, &applied, &BTreeSet::new());
    assert_eq!(process.run(20, 300), ["trigger shop"]);
    let episode = book.episodes().remove(0);
    let member = format!("http://shop.example #{}", bad.id);
    assert_eq!(episode.members.keys().collect::<Vec<_>>(), [&member]);
}
