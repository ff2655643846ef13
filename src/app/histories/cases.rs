//! Fault cases that need a clock which can be moved, by their numbers in `docs/fault-cases.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::pagers::{FIRST, Mood, SECOND};
use super::process::{self, Process};
use super::world::{LONG, World};
use crate::book::Book;
use crate::deadman::{
    Address, Beat, BeatKind, BeatMethod, Configured, Door, Kept, Note, PingId, SETTLE, Spec,
    Switchboard,
};
use crate::model::{Answer, Fault, Notify, Stamp, Status};
use crate::notify::{Boundary, ByHand, NotifyEvent, Sent, Subject};

/// One job that is expected every minute and may be 20 s late.
const ONE: [(u64, u64); 1] = [(60, 20)];
const LIMIT: u64 = 80;
const JOBS_OF_ALL_LENGTHS: [(u64, u64); 3] = [(60, 20), (120, 60), (300, 120)];

/// A world in which the only job has just beaten for the last time.
fn silent() -> World {
    let mut world = World::new(&ONE);
    world.pass_time(1);
    world.run_job(0, false);
    world
}

fn has_held(world: &World) {
    assert!(world.violations.is_empty(), "{:#?}", world.violations);
}

#[test]
fn f1_a_restart_before_the_deadline_does_not_move_it() {
    let mut world = silent();
    world.pass_time(40);
    world.kill();
    world.pass_time(5);
    world.start();
    world.pass_time(600);
    assert_eq!(world.pagers.opened_at(FIRST), [1 + LIMIT]);
    has_held(&world);
}

#[test]
fn f1_a_restart_after_the_deadline_pages_at_once() {
    let mut world = silent();
    world.pass_time(40);
    world.kill();
    world.pass_time(300);
    let began = world.at;
    world.start();
    world.pass_time(600);
    let opened = world.pagers.opened_at(FIRST);
    // At once, but for the moment that is granted to beats which wait at the door.
    assert_eq!(opened, [began + SETTLE.as_secs()]);
    has_held(&world);
}

#[test]
fn f2_a_death_at_any_step_of_a_page_is_one_incident() {
    for boundary in Boundary::ALL {
        let mut world = silent();
        world.pass_time(40);
        world.kill_at(boundary);
        world.pass_time(60);
        assert!(world.process.is_none(), "{boundary:?}: it died");
        world.start();
        world.pass_time(60);
        assert_eq!(world.pagers.opened_at(FIRST).len(), 1, "{boundary:?}");
        world.run_job(0, true);
        world.pass_time(600);
        assert!(world.pagers.open.is_empty(), "{boundary:?}: it ended");
        world.check_calm();
        has_held(&world);
    }
}

/// Killed every 30 s, and started 5 s later: the page is out with the first process that lives past the deadline.
#[test]
fn f3_a_crash_loop_does_not_keep_a_page_back() {
    let mut world = silent();
    for _ in 0..20 {
        world.pass_time(30);
        world.kill();
        world.pass_time(5);
        world.start();
    }
    let opened = world.pagers.opened_at(FIRST);
    assert_eq!(opened.len(), 1);
    assert!(opened[0] <= 1 + LIMIT + 35 + SETTLE.as_secs(), "{opened:?}");
    has_held(&world);
}

/// Even where no process lives as long as the moment that is granted to beats which wait.
#[test]
fn f3_a_crash_loop_faster_than_the_wait_for_queued_beats_still_pages() {
    let mut world = silent();
    world.pass_time(60);
    for _ in 0..30 {
        world.kill();
        world.pass_time(10);
        world.start();
        world.pass_time(2);
    }
    let opened = world.pagers.opened_at(FIRST);
    assert_eq!(opened.len(), 1);
    assert!(opened[0] <= 1 + LIMIT + 40, "{opened:?}");
    has_held(&world);
}

#[test]
fn f4_a_reload_during_silence_moves_no_deadline() {
    let mut world = silent();
    for _ in 0..20 {
        world.pass_time(7);
        world.reload();
    }
    assert_eq!(world.pagers.opened_at(FIRST), [1 + LIMIT]);
    world.run_job(0, true);
    world.pass_time(30);
    world.reload();
    world.pass_time(600);
    assert!(world.pagers.open.is_empty());
    assert_eq!(world.pagers.opened_at(FIRST).len(), 1);
    world.check_calm();
    has_held(&world);
}

#[test]
fn f5_a_step_of_the_wall_clock_neither_pages_nor_hides_a_page() {
    for step in [3_600, -3_600, -1_800_000_000, 30, 1, -1] {
        let mut world = World::new(&ONE);
        world.pass_time(90);
        world.step(step);
        world.pass_time(1_200);
        assert_eq!(world.pagers.attempts, 0, "{step}: nobody is told");
        let steps = world.process.as_ref().unwrap().beats.board().line().steps();
        assert_eq!(steps, u64::from(step.abs() > 2), "{step}: it is counted");
        world.run_job(0, false);
        let last = world.at;
        world.pass_time(30);
        world.step(-step);
        world.pass_time(600);
        let opened = world.pagers.opened_at(FIRST);
        assert_eq!(opened.len(), 1, "{step}: one page");
        assert!(opened[0] > last && opened[0] <= last + LIMIT, "{step}: {opened:?} after {last}");
        has_held(&world);
    }
}

/// 500 parts per million, for a day, and a leap second that is repeated.
#[test]
fn f5_a_slew_and_a_leap_second_are_no_steps() {
    let mut world = World::new(&ONE);
    for minute in 0..1_440 {
        world.pass_time(60);
        world.slew(if minute == 700 { -1_000 } else { 30 });
    }
    assert_eq!(world.process.as_ref().unwrap().beats.board().line().steps(), 0);
    assert_eq!(world.pagers.attempts, 0);
    has_held(&world);
}

#[test]
fn f6_a_machine_that_slept_takes_the_beats_that_wait_before_it_judges() {
    let mut world = World::new(&ONE);
    world.pass_time(90);
    world.suspend(3_600);
    // What had queued up in the socket.
    world.pass_time(2);
    world.beat(0, BeatKind::Success);
    world.pass_time(600);
    assert_eq!(world.pagers.attempts, 0);
    has_held(&world);
}

#[test]
fn f6_a_machine_that_slept_pages_when_it_is_still_silent_and_says_that_it_slept() {
    let mut world = silent();
    world.pass_time(9);
    world.suspend(3_600);
    let woke = world.at;
    world.pass_time(60);
    assert_eq!(world.pagers.opened_at(FIRST), [woke + SETTLE.as_secs()]);
    let process = world.process.as_ref().unwrap();
    let now = world.now();
    let report = process.beats.board().evaluate("job-0", now).unwrap();
    let slept = |note: &Note| matches!(note, Note::Gap { seconds, .. } if *seconds >= 3_600);
    assert!(report.notes.iter().any(slept), "{:?}", report.notes);
    has_held(&world);
}

/// A page that is due, and the end of one whose beat was recorded in time.
#[test]
fn f7_a_full_disk_stops_no_page_and_no_end() {
    let mut world = silent();
    world.pass_time(30);
    world.set_disk_full(true);
    world.pass_time(120);
    assert_eq!(world.pagers.opened_at(FIRST), [1 + LIMIT]);
    world.set_disk_full(false);
    world.run_job(0, true);
    world.pass_time(2);
    world.set_disk_full(true);
    world.pass_time(70);
    assert!(world.pagers.open.is_empty(), "the end of it goes out from memory");
    // Beats are refused from here on, and that is silence.
    world.pass_time(LIMIT);
    assert_eq!(world.pagers.opened_at(FIRST).len(), 2);
    world.set_disk_full(false);
    world.pass_time(600);
    assert!(world.pagers.open.is_empty());
    world.check_calm();
    has_held(&world);
}

/// Another boot, another clock of that boot: only the wall clock connects them.
#[test]
fn f8_a_book_from_another_host_keeps_its_deadlines() {
    let mut world = silent();
    world.pass_time(30);
    world.reboot(20, None);
    world.pass_time(600);
    let opened = world.pagers.opened_at(FIRST);
    assert_eq!(opened.len(), 1);
    assert!((1 + LIMIT..=1 + LIMIT + SETTLE.as_secs()).contains(&opened[0]), "{opened:?}");
    has_held(&world);
}

/// Two hours of each kind of bad day, then a good one.
#[test]
fn f10_two_hours_without_the_pager() {
    let moods = [Mood::Broken, Mood::Busy, Mood::Hole, Mood::Refuses];
    for mood in moods {
        let mut world = silent();
        world.pagers.set(FIRST, mood);
        world.pass_time(7_200);
        let second = world.pagers.opened_at(SECOND);
        assert_eq!(second.len(), 1, "{mood:?}: the fallback hears once");
        assert!(second[0] <= 1 + LIMIT + 120 + 15, "{mood:?}: {second:?}");
        let tried = world.pagers.attempts - world.pagers.ledger.len();
        // Every 5 minutes at the slowest, a quarter of an hour after a refusal; and no storm.
        assert!((8..=120).contains(&tried), "{mood:?}: {tried} attempts");
        world.pagers.set(FIRST, Mood::Good);
        let well = world.at;
        world.pass_time(LONG);
        let first = world.pagers.opened_at(FIRST);
        assert_eq!(first.len(), 1, "{mood:?}: delivered on recovery");
        assert!(first[0] <= well + LONG, "{mood:?}");
        world.run_job(0, true);
        world.pass_time(1_200);
        world.check_calm();
        has_held(&world);
    }
}

#[test]
fn f10_what_was_accepted_and_lost_is_told_again_within_the_hour() {
    let mut world = silent();
    world.pagers.set(FIRST, Mood::Drops);
    world.pass_time(600);
    world.pagers.set(FIRST, Mood::Good);
    assert!(world.pagers.opened_at(FIRST).is_empty());
    world.pass_time(3_700);
    assert_eq!(world.pagers.opened_at(FIRST).len(), 1);
    has_held(&world);
}

/// After a reboot, only the wall clock knows how long ago it was told; set back, it must not hold the repeat for ever, nor
/// what waits for the fallback.
#[test]
fn f10_a_clock_that_is_set_back_after_a_reboot_holds_nothing_back() {
    for mood in [Mood::Drops, Mood::Broken] {
        let mut world = silent();
        world.pagers.set(FIRST, mood);
        world.pass_time(LIMIT + 5);
        world.reboot(5, None);
        world.step(-1_800_000_000);
        if mood == Mood::Drops {
            world.pagers.set(FIRST, Mood::Good);
            world.pass_time(3_700);
        } else {
            world.pass_time(150);
        }
        assert_eq!(world.pagers.open.len(), 1, "{mood:?}");
        has_held(&world);
    }
}

/// Both ways are gone for two hours: the page waits, and is there when one of them is back.
#[test]
fn f10_both_ways_gone() {
    let mut world = silent();
    world.pagers.set(FIRST, Mood::Hole);
    world.pagers.set(SECOND, Mood::Broken);
    world.pass_time(7_200);
    assert!(world.pagers.opened.is_empty());
    world.pagers.set(SECOND, Mood::Good);
    let well = world.at;
    world.pass_time(600);
    let second = world.pagers.opened_at(SECOND);
    assert_eq!(second.len(), 1);
    assert!(second[0] <= well + 300 + 15);
    has_held(&world);
}

/// Every attempt hangs: what is under way is bounded, and the owner and the other receiver go on.
#[test]
fn f11_a_black_hole_bounds_what_is_under_way() {
    let jobs = vec![(60, 20); 50];
    let mut world = World::new(&jobs);
    world.pagers.set(FIRST, Mood::Hole);
    world.pass_time(60);
    for index in 0..50 {
        world.run_job(index, false);
    }
    world.pass_time(LIMIT + 120 + 90);
    assert_eq!(world.pagers.opened_at(SECOND).len(), 50);
    world.pagers.set(FIRST, Mood::Good);
    world.pass_time(LONG);
    assert_eq!(world.pagers.opened_at(FIRST).len(), 50);
    has_held(&world);
}

/// Every other beat comes 10 s after its limit, for six hours.
#[test]
fn f12_flapping_is_few_pages_and_is_shown() {
    let mut world = World::new(&ONE);
    world.run_job(0, false);
    let mut notes = Vec::new();
    for _ in 0..240 {
        world.pass_time(90);
        let now = world.now();
        let report = world.process.as_ref().unwrap().beats.board().evaluate("job-0", now).unwrap();
        notes.extend(report.notes);
        world.beat(0, BeatKind::Success);
    }
    let opened = world.pagers.opened_at(FIRST);
    assert!(opened.len() <= 3, "{opened:?}");
    assert!(notes.iter().any(|note| matches!(note, Note::Flapping { times } if *times >= 3)));
    has_held(&world);
}

#[test]
fn f14_a_beat_that_never_came_pages_and_a_restart_does_not_extend_it() {
    let mut world = World::new(&ONE);
    world.run_job(0, false);
    for _ in 0..6 {
        world.pass_time(12);
        world.kill();
        world.start();
    }
    world.pass_time(600);
    assert_eq!(world.pagers.opened_at(FIRST), [LIMIT]);
    has_held(&world);
}

#[test]
fn f15_removed_while_open_ends_and_comes_back_anew() {
    let mut world = silent();
    world.pass_time(200);
    assert_eq!(world.pagers.open.len(), 1);
    world.remove(0);
    world.pass_time(30);
    assert!(world.pagers.open.is_empty(), "removed: {:?}", world.pagers.open);
    world.pass_time(3_000);
    world.add_again(0);
    let added = world.at;
    world.pass_time(LIMIT - 1);
    assert_eq!(world.pagers.opened_at(FIRST).len(), 1, "no ancient last beat is inherited");
    world.pass_time(60);
    assert_eq!(world.pagers.opened_at(FIRST)[1], added + LIMIT);
    has_held(&world);
}

/// Also when a process died between the two: what is gone is gone on disk.
#[test]
fn f15_removed_while_nobody_ran_and_added_again_begins_anew() {
    let mut world = silent();
    world.pass_time(20);
    world.kill();
    world.remove(0);
    world.start();
    world.pass_time(3_000);
    world.kill();
    world.add_again(0);
    world.start();
    let added = world.at;
    world.pass_time(LIMIT - 1);
    assert!(world.pagers.opened.is_empty(), "{:?}", world.pagers.opened);
    world.pass_time(60);
    assert_eq!(world.pagers.opened_at(FIRST), [added + LIMIT]);
    has_held(&world);
}

#[test]
fn f15_a_rename_keeps_the_deadline_over_a_kill() {
    let mut world = silent();
    world.pass_time(20);
    world.rename(0);
    world.pass_time(5);
    world.kill();
    world.start();
    world.pass_time(600);
    assert_eq!(world.pagers.opened_at(FIRST), [1 + LIMIT]);
    has_held(&world);
}

/// A rename that no process sees before the next start.
#[test]
fn f15_a_rename_while_nobody_runs_keeps_the_deadline() {
    let mut world = silent();
    world.pass_time(20);
    world.kill();
    world.rename(0);
    world.pass_time(5);
    world.start();
    world.pass_time(600);
    assert_eq!(world.pagers.opened_at(FIRST), [1 + LIMIT]);
    has_held(&world);
}

/// Two switches that take each other's name keep their own beats.
#[test]
fn f15_names_that_are_swapped_swap_no_beats() {
    let at = |second: u64| {
        let wall = Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap();
        Stamp::new(wall, Duration::from_secs(second))
    };
    let uuids = ["c5d1f1e0-8b67-4c5f-9d43-000000000001", "c5d1f1e0-8b67-4c5f-9d43-000000000002"];
    let configured = |names: [&str; 2]| {
        let specs =
            names.into_iter().zip(uuids).map(|(name, uuid)| process::spec(name, uuid, 60, 20));
        specs.map(|spec| Configured { spec, key: None }).collect::<Vec<_>>()
    };
    let mut board =
        Switchboard::new("here", "boot", configured(["a", "b"]), Kept::default(), at(0));
    let address =
        Address { door: Door::Id(PingId::parse(uuids[0]).unwrap()), kind: BeatKind::Success };
    let beat = Beat {
        kind: BeatKind::Success,
        run: None,
        method: BeatMethod::Post,
        from: None,
        body: b"",
    };
    board.ping(&address, &beat, at(70)).unwrap();
    let fails = |board: &mut Switchboard, name: &str| {
        // Nobody looked for long: beats that wait are given a moment.
        board.evaluate(name, at(90)).unwrap();
        matches!(board.evaluate(name, at(96)).unwrap().answer, Answer::Fail(_))
    };
    let kept = board.kept();
    assert!(!fails(&mut board, "a") && fails(&mut board, "b"));
    assert!(board.reload(configured(["b", "a"]), at(96)).is_empty());
    assert!(fails(&mut board, "a") && !fails(&mut board, "b"), "the other is silent");
    let mut later = Switchboard::new("here", "boot", configured(["b", "a"]), kept, at(80));
    assert!(!fails(&mut later, "b") && fails(&mut later, "a"), "also at a start");
}

/// The clock says 1970 after a reboot, and the process starts again: what the first one took for the time still holds, also
/// where the one in between had no reason to doubt it.
#[test]
fn f5_a_boot_in_1970_loses_time_once_however_often_we_start() {
    let mut world = World::new(&JOBS_OF_ALL_LENGTHS);
    world.run_job(2, false);
    world.reboot(5, Some(0));
    world.kill();
    world.pass_time(321);
    world.start();
    world.pass_time(400);
    assert_eq!(world.pagers.open.len(), 1, "it is told");
    world.kill();
    world.start();
    world.pass_time(300);
    assert_eq!(world.pagers.open.len(), 1, "and is not over because we started again");
    has_held(&world);
}

/// Set to 1970 while nothing has been marked on this boot yet, and started again.
#[test]
fn f5_a_step_before_a_restart_moves_no_deadline_of_an_earlier_boot() {
    let mut world = silent();
    world.pass_time(10);
    world.reboot(5, None);
    world.pass_time(30);
    world.step(-1_800_000_000);
    world.kill();
    world.start();
    world.pass_time(600);
    assert_eq!(world.pagers.opened_at(FIRST), [1 + LIMIT]);
    has_held(&world);
}

/// The first way is broken, the second was told; then the clock is set back and the process dies while both an episode that
/// is over and the next one are in the book.
#[test]
fn f10_an_open_episode_is_not_taken_for_one_that_is_over() {
    let mut world = World::new(&ONE);
    world.pagers.set(FIRST, Mood::Broken);
    world.reboot(123, None);
    world.pass_time(179);
    world.step(-1_800_000_000);
    world.kill_at(Boundary::Sent);
    world.beat(0, BeatKind::Fail);
    world.start();
    world.spare();
    world.pass_time(200);
    assert_eq!(world.pagers.opened_at(SECOND).len(), 2);
    world.pagers.set(FIRST, Mood::Good);
    world.run_job(0, true);
    world.pass_time(4_000);
    assert!(world.pagers.open.is_empty(), "{:?}", world.pagers.open);
    has_held(&world);
}

#[test]
fn f15_a_key_rotated_while_open_is_not_used_for_the_end() {
    let mut world = silent();
    world.pass_time(200);
    world.rotate("key-1".into());
    world.pass_time(20);
    world.kill();
    world.start();
    world.run_job(0, true);
    world.pass_time(600);
    let routes: Vec<&str> = world.pagers.ledger.iter().map(|heard| &*heard.route).collect();
    assert_eq!(routes, ["key-0", "key-0"]);
    assert!(world.pagers.open.is_empty());
    has_held(&world);
}

/// The clock that we gave comes back unchanged while beats go on: Alertmanager holds the alert of a dead Prometheus.
#[test]
fn f20_a_frozen_value_is_silence_from_its_last_advance() {
    let spec: Spec = serde_json::from_value(json!({
        "name": "alerting",
        "watchdog": { "source_label": "prometheus", "sources": ["a"], "max_age": "5m" },
    }))
    .unwrap();
    let at = |second: u64| {
        let wall = Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap();
        Stamp::new(wall, Duration::from_secs(1_000 + second))
    };
    let configured = vec![Configured { spec: Arc::new(spec), key: None }];
    let mut board = Switchboard::new("here", "boot", configured, Kept::default(), at(0));
    let body = |clock: f64| {
        let alert = json!({
            "status": "firing", "labels": { "alertname": "Watchdog", "prometheus": "a" },
            "annotations": { "clocks": format!("here={clock:.3}") },
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
        });
        json!({ "version": "4", "groupKey": "g", "status": "firing", "truncatedAlerts": 0, "alerts": [alert] })
            .to_string()
    };
    let mut frozen = 0.0;
    for minute in 0..10_u64 {
        frozen = board.clocks().issue(at(minute * 60));
        board.alertmanager("alerting", body(frozen).as_bytes(), at(minute * 60 + 20)).unwrap();
        assert!(board.evaluate("alerting", at(minute * 60 + 21)).unwrap().answer.is_success());
    }
    let advanced = 9 * 60;
    for later in (10..300).step_by(10) {
        let receipt =
            board.alertmanager("alerting", body(frozen).as_bytes(), at(advanced + later)).unwrap();
        assert_eq!(receipt.results[0].label(), "duplicate");
        let answer = board.evaluate("alerting", at(advanced + later)).unwrap().answer;
        assert!(answer.is_success(), "{later}: {answer}");
    }
    board.alertmanager("alerting", body(frozen).as_bytes(), at(advanced + 299)).unwrap();
    let answer = board.evaluate("alerting", at(advanced + 300)).unwrap().answer;
    assert!(
        matches!(&answer, Answer::Fail(Fault::StaleEvidence { age, .. }) if age.as_secs() == 300),
        "{answer}"
    );
}

fn news(name: &str, to: Status, at: Stamp) -> NotifyEvent {
    let receivers = BTreeMap::from([(Status::Down, vec![FIRST.to_owned()])]);
    NotifyEvent {
        subject: Subject::deadman(name),
        member: name.into(),
        to,
        at,
        text: "silent".into(),
        evidence: None,
        notify: Notify { receivers, ..Notify::default() },
        keep_as: None,
    }
}

/// Three hundred pages end together while twenty others begin: the rate is kept, and who is in trouble comes first.
#[test]
fn f25_all_beats_return_together() {
    let at = |second: u64| {
        let wall = Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap();
        Stamp::new(wall, Duration::from_secs(second))
    };
    let book = Book::in_memory_on("boot");
    let (handle, mut notifier) = ByHand::start(&book, process::receivers(), at(0));
    let mut sent: Vec<(u64, String, bool)> = Vec::new();
    let mut run = |from: u64, to: u64, sent: &mut Vec<(u64, String, bool)>| {
        for second in from..to {
            drop(book.write(notifier.decide(at(second))));
            loop {
                let due = notifier.due(at(second));
                if due.is_empty() {
                    break;
                }
                for row in due {
                    let name = row.payload["name"].as_str().unwrap().to_owned();
                    // The fallback hears of what waits for too long: that is another rate.
                    if row.receiver == FIRST {
                        sent.push((second, name, !row.kind.ends()));
                    }
                    let taken = Sent::Delivered { route: None, partly: None };
                    drop(book.write(notifier.learn(row.sequence, &taken, at(second))));
                }
            }
        }
    };
    for job in 0..300 {
        handle.change(news(&format!("job-{job}"), Status::Down, at(0)));
    }
    run(0, 300, &mut sent);
    assert_eq!(sent.iter().filter(|(_, _, begins)| *begins).count(), 300);
    for job in 0..300 {
        handle.change(news(&format!("job-{job}"), Status::Up, at(300)));
    }
    run(300, 365, &mut sent);
    for job in 0..20 {
        handle.change(news(&format!("late-{job}"), Status::Down, at(365)));
    }
    run(365, 900, &mut sent);
    let ends = sent.iter().filter(|(_, _, begins)| !begins).count();
    assert_eq!(ends, 300);
    for (second, _, _) in &sent {
        let window = sent.iter().filter(|(at, _, _)| at >= second && *at < second + 60).count();
        assert!(window <= 120, "{window} in a minute from {second} s");
    }
    // Within the minute that the window takes to open again, and before whatever end still waits.
    let last_late = sent.iter().filter(|(_, name, _)| name.starts_with("late")).map(|(at, ..)| *at);
    let last_late = last_late.max().unwrap();
    assert!(last_late <= 365 + 60, "{last_late}");
    let before = sent.iter().filter(|(at, _, begins)| !begins && *at < last_late).count();
    assert!(before < 300, "some ends waited for them");
}

/// No network at the start, and a clock that knows no time until it has asked: nothing is told because of that, and silence
/// is told when there is a way.
#[test]
fn f28_started_before_the_network_and_the_time_are_there() {
    let mut world = World::new(&ONE);
    world.pass_time(61);
    world.pagers.set(FIRST, Mood::Hole);
    world.pagers.set(SECOND, Mood::Hole);
    world.reboot(30, Some(0));
    world.pass_time(20);
    // The time server was reached.
    world.step(1_800_000_000 + 131);
    world.pass_time(30);
    world.pagers.set(FIRST, Mood::Good);
    world.pagers.set(SECOND, Mood::Good);
    world.pass_time(900);
    assert_eq!(world.pagers.attempts, 0, "nothing was wrong but us");
    world.run_job(0, false);
    let last = world.at;
    world.pass_time(300);
    let opened = world.pagers.opened_at(FIRST);
    assert_eq!(opened.len(), 1);
    assert!(opened[0] <= last + LIMIT);
}

/// A maintenance that ends while no process runs holds nothing back any more.
#[test]
fn f13_a_pause_that_ends_while_nobody_runs_is_over() {
    let mut world = silent();
    world.pause(0, 500);
    world.pass_time(300);
    world.kill();
    world.pass_time(400);
    world.start();
    world.pass_time(30);
    assert_eq!(world.pagers.opened_at(FIRST).len(), 1);
    has_held(&world);
}

#[test]
fn f13_a_pause_holds_over_a_restart_and_pages_at_its_end() {
    let mut world = silent();
    world.pause(0, 500);
    world.pass_time(300);
    world.kill();
    world.start();
    world.pass_time(190);
    assert!(world.pagers.opened.is_empty());
    world.pass_time(60);
    assert_eq!(world.pagers.opened_at(FIRST), [501]);
    has_held(&world);
}

/// The first look at a switch may come before the owner has its checks: beats are taken while targets are still looked for.
#[test]
fn f13_a_pause_is_not_lost_to_an_early_look() {
    let mut world = silent();
    world.pause(0, 500);
    world.pass_time(300);
    world.kill();
    let now = world.now();
    world.start_with(|book, configuration| {
        let process = Process::begin(book, configuration, now);
        process.after_an_early_look(now)
    });
    world.pass_time(150);
    assert!(world.pagers.opened.is_empty());
    has_held(&world);
}
