use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::{Notify, Stamp};

fn at(seconds: u64) -> Moment {
    let wall = 1_800_000_000 + i64::try_from(seconds).unwrap();
    let boot = Duration::from_secs(1_000 + seconds);
    Moment::new(Stamp::new(Timestamp::from_second(wall).unwrap(), boot), "boot".into())
}

fn stamp(seconds: u64) -> Stamp {
    let moment = at(seconds);
    Stamp::new(moment.wall, moment.boot)
}

fn notify(rows: &[(Status, &str)]) -> Notify {
    let mut receivers: BTreeMap<Status, Vec<String>> = BTreeMap::new();
    for (status, receiver) in rows {
        receivers.entry(*status).or_default().push((*receiver).to_owned());
    }
    Notify { receivers, ..Notify::default() }
}

fn event(member: &str, to: Status, seconds: u64) -> NotifyEvent {
    NotifyEvent {
        subject: Subject::probe("shop"),
        member: member.into(),
        to,
        at: stamp(seconds),
        text: format!("{member} is {}", to.label()),
        evidence: None,
        notify: notify(&[(Status::Down, "oncall")]),
        keep_as: None,
    }
}

/// Episodes with the default rules, and what was told: second, receiver, kind.
#[derive(Default)]
struct Told {
    episodes: Episodes,
    rules: BTreeMap<String, Rule>,
    notes: Vec<(u64, String, NoteKind)>,
}

impl Told {
    fn note(&mut self, second: u64, decisions: Vec<Decision>) {
        for decision in decisions {
            if let Some(kind) = decision.note {
                self.notes.push((second, decision.episode.receiver, kind));
            }
        }
    }

    fn tell(&mut self, event: &NotifyEvent, second: u64) {
        let decisions = self.episodes.apply(event, &self.rules, &at(second));
        self.note(second, decisions);
    }

    fn say(&mut self, member: &str, to: Status, second: u64) {
        self.tell(&event(member, to, second), second);
    }

    fn tick_until(&mut self, from: u64, to: u64) {
        for second in from..=to {
            let decisions = self.episodes.tick(&self.rules, &at(second));
            self.note(second, decisions);
        }
    }

    fn kinds(&self) -> Vec<NoteKind> {
        self.notes.iter().map(|(_, _, kind)| *kind).collect()
    }
}

use NoteKind::{Repeat, Resolve, Trigger, Update};

#[test]
fn trouble_is_told_once_and_its_end_after_a_while() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    told.say("a", Status::Down, 5);
    told.tick_until(0, 100);
    told.say("a", Status::Up, 100);
    told.tick_until(100, 300);
    let expected = [(0, "oncall".into(), Trigger), (160, "oncall".into(), Resolve)];
    assert_eq!(told.notes, expected);
    assert_eq!(told.episodes.open().count(), 0);
}

#[test]
fn five_hundred_targets_are_one_page_and_bounded_updates() {
    let mut told = Told::default();
    for i in 0..500 {
        told.say(&format!("t{i}"), Status::Down, i / 50);
    }
    told.tick_until(10, 599);
    assert_eq!(told.kinds(), [Trigger, Update]);
    assert_eq!(told.episodes.open().next().unwrap().members.len(), 500);
}

#[test]
fn an_episode_goes_on_until_the_last_of_very_many_has_recovered() {
    let mut told = Told::default();
    let names: Vec<String> = (0..2_500).map(|i| format!("t{i:04}")).collect();
    for name in &names {
        told.say(name, Status::Down, 0);
    }
    for name in &names[..2_499] {
        told.say(name, Status::Up, 10);
    }
    told.tick_until(11, 500);
    assert_eq!(told.episodes.open().count(), 1, "one is down still");
    told.say(&names[2_499], Status::Up, 501);
    told.tick_until(502, 1_200);
    assert_eq!(told.episodes.open().count(), 0);
}

#[test]
fn what_is_grouped_otherwise_after_a_reload_leaves_nothing_open() {
    for by_target in [false, true] {
        let mut told = Told::default();
        let event = |member, to, by_target| {
            let mut event = event(member, to, 0);
            event.notify.by_target = by_target;
            event
        };
        told.tell(&event("a", Status::Down, by_target), 0);
        told.tell(&event("b", Status::Down, by_target), 0);
        for member in ["a", "b"] {
            told.tell(&event(member, Status::Down, !by_target), 10);
        }
        told.tell(&event("a", Status::Up, !by_target), 20);
        told.tell(&event("b", Status::Up, !by_target), 20);
        told.tick_until(21, 100);
        assert_eq!(told.episodes.open().count(), 0, "{by_target}");
        let count = |kind| told.kinds().into_iter().filter(|it| *it == kind).count();
        assert_eq!((count(Trigger), count(Resolve)), (3, 3), "{by_target}");
    }
}

#[test]
fn by_target_every_target_is_an_episode() {
    let mut told = Told::default();
    for member in ["a", "b"] {
        let mut event = event(member, Status::Down, 0);
        event.notify.by_target = true;
        told.tell(&event, 0);
    }
    assert_eq!(told.kinds(), [Trigger, Trigger]);
    let keys: BTreeSet<_> = told.episodes.open().map(|e| e.key.clone()).collect();
    assert_eq!(keys.len(), 2);
}

#[test]
fn coming_back_before_the_end_is_flapping_and_not_a_page() {
    let mut told = Told::default();
    let mut second = 0;
    for _ in 0..20 {
        told.say("a", Status::Down, second);
        told.tick_until(second, second + 29);
        told.say("a", Status::Up, second + 30);
        told.tick_until(second + 30, second + 59);
        second += 60;
    }
    assert_eq!(told.kinds().iter().filter(|k| **k == Trigger).count(), 1);
    assert!(told.kinds().len() <= 6, "{:?}", told.kinds());
    assert_eq!(told.episodes.open().next().unwrap().flaps, 19);
}

#[test]
fn flapping_slower_than_the_end_costs_fewer_pages_each_time() {
    let mut told = Told::default();
    let mut second = 0;
    for _ in 0..30 {
        told.say("a", Status::Down, second);
        told.say("a", Status::Up, second + 10);
        told.tick_until(second + 10, second + 89);
        second += 90;
    }
    // 45 minutes: the wait doubles until it outlasts the gap.
    let triggers = told.kinds().iter().filter(|k| **k == Trigger).count();
    assert!(triggers <= 3, "{triggers}");
}

#[test]
fn a_receiver_of_outages_hears_the_next_one_although_it_was_degraded_in_between() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    told.say("a", Status::Degraded, 100);
    told.tick_until(100, 400);
    told.say("a", Status::Down, 500);
    assert_eq!(told.kinds(), [Trigger, Resolve, Trigger]);
}

#[test]
fn unknown_ends_nothing() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    told.say("a", Status::Unknown, 100);
    told.tick_until(100, 1_000);
    assert_eq!(told.kinds(), [Trigger]);
}

#[test]
fn worse_is_told_at_once() {
    let mut told = Told::default();
    let who = notify(&[(Status::Down, "oncall"), (Status::Degraded, "oncall")]);
    for (to, second) in [(Status::Degraded, 0), (Status::Down, 1), (Status::Degraded, 2)] {
        let event = NotifyEvent { notify: who.clone(), ..event("a", to, second) };
        told.tell(&event, second);
    }
    assert_eq!(told.kinds(), [Trigger, Update]);
}

#[test]
fn what_stays_open_is_told_again() {
    let mut told = Told::default();
    let mut event = event("a", Status::Down, 0);
    event.notify.repeat = Some(Duration::from_hours(1));
    told.tell(&event, 0);
    told.tick_until(0, 7_300);
    assert_eq!(told.kinds(), [Trigger, Repeat, Repeat]);
    assert_eq!(told.notes[1].0, 3_600);
}

#[test]
fn removed_and_paused_end_at_once() {
    for pause in [false, true] {
        let mut told = Told::default();
        told.say("a", Status::Down, 0);
        if pause {
            told.say("a", Status::Paused, 10);
        } else {
            let rules = BTreeMap::new();
            let ended = told.episodes.remove(&Subject::probe("shop"), None, &rules, &at(10));
            told.note(10, ended);
        }
        assert_eq!(told.notes[1], (10, "oncall".into(), Resolve));
        // Still down when the pause is over: a new page.
        told.say("a", Status::Down, 20);
        assert_eq!(told.kinds(), [Trigger, Resolve, Trigger]);
    }
}

#[test]
fn removing_one_of_two_leaves_the_other() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    told.say("b", Status::Down, 0);
    let removed =
        told.episodes.remove(&Subject::probe("shop"), Some("a"), &BTreeMap::new(), &at(1));
    told.note(1, removed);
    told.tick_until(1, 200);
    assert_eq!(told.kinds(), [Trigger]);
    assert_eq!(told.episodes.open().count(), 1);
}

#[test]
fn a_stand_in_follows_its_episode_to_the_end() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    let id = told.episodes.open().next().unwrap().id.clone();
    for second in [5, 6] {
        let escalated = told.episodes.escalate(&id, "second", "refused", &at(second));
        told.note(second, escalated);
    }
    // The fallback itself is not named by the probe.
    told.say("b", Status::Down, 10);
    told.say("a", Status::Up, 20);
    told.say("b", Status::Up, 20);
    told.tick_until(20, 100);
    let second: Vec<_> = told.notes.iter().filter(|(_, r, _)| r == "second").collect();
    assert_eq!(second.len(), 2, "{second:?}");
    assert_eq!(second[0].2, Trigger);
    assert_eq!(second[1].2, Resolve);
    assert_eq!(told.episodes.open().count(), 0);
}

#[test]
fn routing_that_was_edited_ends_what_the_old_receiver_knows() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    let moved = |to, second| NotifyEvent {
        notify: notify(&[(Status::Down, "other")]),
        ..event("a", to, second)
    };
    told.tell(&moved(Status::Down, 10), 10);
    told.tell(&moved(Status::Up, 20), 20);
    told.tick_until(20, 100);
    let expected: Vec<(u64, String, NoteKind)> = vec![
        (0, "oncall".into(), Trigger),
        (10, "other".into(), Trigger),
        (80, "oncall".into(), Resolve),
        (80, "other".into(), Resolve),
    ];
    assert_eq!(told.notes, expected);
}

#[test]
fn alertmanager_is_told_every_minute_and_of_the_end_for_a_quarter_hour() {
    let rule = Rule {
        repeat: Duration::from_mins(1),
        update_after: Duration::ZERO,
        resolved_for: Some(Duration::from_mins(15)),
        ..Rule::default()
    };
    let mut told = Told { rules: BTreeMap::from([("oncall".into(), rule)]), ..Told::default() };
    told.say("a", Status::Down, 0);
    told.tick_until(1, 299);
    told.say("a", Status::Up, 300);
    told.tick_until(300, 4_000);
    let count = |kind| told.kinds().iter().filter(|k| **k == kind).count();
    assert_eq!(count(Trigger), 1);
    assert!(count(Repeat) >= 4);
    assert_eq!(count(Resolve), 15);
}

#[test]
fn two_watchposts_have_two_keys_for_themselves_and_one_for_everything_else() {
    let keys = |subject: Subject| {
        let mut keys: Vec<String> = ["eu", "us"]
            .map(|id| {
                let mut episodes = Episodes::default().of_watchpost(id);
                let event = NotifyEvent { subject: subject.clone(), ..event("a", Status::Down, 0) };
                let decisions = episodes.apply(&event, &BTreeMap::new(), &at(0));
                decisions[0].episode.key.clone()
            })
            .into();
        keys.dedup();
        keys.len()
    };
    assert_eq!(keys(Subject::watchpost("blind")), 2);
    assert_eq!(keys(Subject::deadman("backup")), 1);
}

#[test]
fn the_key_is_the_same_everywhere() {
    let key = dedup_key(&Subject::deadman("nightly-backup"), None);
    assert_eq!(key, dedup_key(&Subject::deadman("nightly-backup"), None));
    assert_ne!(key, dedup_key(&Subject::probe("nightly-backup"), None));
    assert_ne!(key, dedup_key(&Subject::deadman("nightly-backup"), Some("a")));
    assert!(key.len() <= 255);
    assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
}

#[test]
fn ended_episodes_are_forgotten() {
    let mut told = Told::default();
    told.say("a", Status::Down, 0);
    told.say("a", Status::Up, 1);
    told.tick_until(1, 4_000);
    assert!(told.episodes.all.is_empty());
}

/// What a receiver that keeps a ledger by key believes.
fn ledger(notes: &[(u64, String, NoteKind)]) -> bool {
    notes.iter().fold(false, |_, (_, _, kind)| !kind.ends())
}

proptest! {
    /// Whatever happens, with restarts anywhere: while a member is down the receiver believes that there is trouble, a
    /// while after all are well it believes that there is none, and it hears nothing of an end without a beginning.
    #[test]
    fn the_receiver_believes_what_is_so(
        steps in prop::collection::vec((0_usize..3, prop::sample::select(vec![Status::Up, Status::Down, Status::Unknown, Status::Degraded, Status::Paused]), 1_u64..200, any::<bool>()), 1..40)
    ) {
        let mut told = Told::default();
        let mut second = 0;
        let mut is_down = [false; 3];
        for (member, to, wait, restart) in steps {
            told.say(&format!("m{member}"), to, second);
            match to {
                Status::Down => is_down[member] = true,
                Status::Unknown => {}
                _ => is_down[member] = false,
            }
            prop_assert!(!is_down.contains(&true) || ledger(&told.notes));
            told.tick_until(second, second + wait);
            prop_assert!(!is_down.contains(&true) || ledger(&told.notes));
            second += wait;
            if restart {
                let text: Vec<_> = told.episodes.all.values().map(|e| serde_json::to_string(e).unwrap()).collect();
                let episodes = text.iter().map(|t| serde_json::from_str(t).unwrap()).collect();
                told.episodes = Episodes::restore(episodes, &at(second));
            }
        }
        let mut open = false;
        for (_, _, kind) in &told.notes {
            prop_assert!(!kind.ends() || open, "an end without a beginning");
            prop_assert!(*kind != Trigger || !open, "two beginnings");
            open = !kind.ends();
        }
        if !is_down.contains(&true) {
            told.tick_until(second, second + 1_900);
            prop_assert!(!ledger(&told.notes));
        }
    }
}
