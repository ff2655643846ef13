//! One history once more, as a failure prints it:
//! `HISTORIES_EVENTS='[Stop(0), Kill, Wait(100)]' cargo test --lib a_history_can_be_lived_again -- --nocapture`.

use std::fmt::Debug;
use std::str::FromStr;

use super::pagers::Mood;
use super::world::World;
use super::{Event, JOBS, calm_down, event, live, wish};
use crate::notify::Boundary;

/// Reads what `{:?}` of a list of events shows.
fn parse(text: &str) -> Option<Vec<Event>> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let text = text.replace(",)", ")").replace(",]", "]");
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (name, tail) = rest.split_at_checked(end)?;
        let (arguments, tail) = match tail.strip_prefix('(') {
            Some(tail) => tail.split_once(')')?,
            None => ("", tail),
        };
        events.push(read(name, &arguments.split(',').collect::<Vec<_>>())?);
        rest = tail.strip_prefix(',').unwrap_or(tail);
    }
    Some(events)
}

fn read(name: &str, arguments: &[&str]) -> Option<Event> {
    let first = arguments.first().copied().unwrap_or_default();
    let second = arguments.get(1).copied().unwrap_or_default();
    Some(match name {
        "Wait" => Event::Wait(number(first)?),
        "Stop" => Event::Stop(number(first)?),
        "Run" => Event::Run(number(first)?),
        "Fail" => Event::Fail(number(first)?),
        "Begin" => Event::Begin(number(first)?),
        "Succeed" => Event::Succeed(number(first)?),
        "Kill" => Event::Kill,
        "KillAt" => Event::KillAt(one_of(&Boundary::ALL, first)?),
        "Start" => Event::Start,
        "Reboot" => Event::Reboot(number(first)?),
        "RebootIn1970" => Event::RebootIn1970(number(first)?),
        "Step" => Event::Step(number(first)?),
        "Slew" => Event::Slew(number(first)?),
        "Suspend" => Event::Suspend(number(first)?),
        "Reload" => Event::Reload,
        "Remove" => Event::Remove(number(first)?),
        "Add" => Event::Add(number(first)?),
        "Rename" => Event::Rename(number(first)?),
        "Rotate" => Event::Rotate(number(first)?),
        "Pause" => Event::Pause(number(first)?, number(second)?),
        "First" => Event::First(one_of(&Mood::ALL, first)?),
        "Second" => Event::Second(one_of(&Mood::ALL, first)?),
        "DiskFull" => Event::DiskFull(number(first)?),
        "DiskReadOnly" => Event::DiskReadOnly(number(first)?),
        _ => return None,
    })
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn one_of<T: Debug + Copy>(all: &[T], text: &str) -> Option<T> {
    all.iter().copied().find(|it| format!("{it:?}") == text)
}

/// What was heard and decided since the last call.
fn tell_more(world: &World, heard: &mut usize, decided: &mut usize) {
    for it in &world.pagers.ledger[*heard..] {
        let what = if it.begins { "begins" } else { "ends" };
        eprintln!("    {:>6} s {} hears: {} {what} ({})", it.at, it.receiver, it.name, it.route);
    }
    for row in &world.decided[*decided..] {
        eprintln!(
            "           decided: {} {} {}",
            row.kind.label(),
            row.receiver,
            row.payload["name"]
        );
    }
    (*heard, *decided) = (world.pagers.ledger.len(), world.decided.len());
}

fn relive(events: &[Event]) -> Vec<String> {
    let mut world = World::new(&JOBS);
    let (mut heard, mut decided) = (0, 0);
    for event in events {
        live(&mut world, event);
        eprintln!("{:>6} s {event:?}", world.at);
        tell_more(&world, &mut heard, &mut decided);
    }
    calm_down(&mut world, true);
    eprintln!("{:>6} s after the calm", world.at);
    tell_more(&world, &mut heard, &mut decided);
    for job in &world.jobs {
        eprintln!("{job:?}");
    }
    eprintln!("open: {:#?}", world.pagers.open);
    world.violations
}

#[test]
fn a_history_can_be_lived_again() {
    let wished = wish("HISTORIES_EVENTS").map(|text| parse(&text).expect("a list of events"));
    let wished = wished.unwrap_or_else(|| vec![Event::Stop(0), Event::Kill, Event::Wait(100)]);
    let violations = relive(&wished);
    assert!(violations.is_empty(), "{violations:#?}");
}

proptest::proptest! {
    #[test]
    fn what_a_failure_prints_can_be_read(events in proptest::collection::vec(event(), 0..10)) {
        let (plain, pretty) = (format!("{events:?}"), format!("{events:#?}"));
        assert_eq!(parse(&plain).as_ref(), Some(&events));
        assert_eq!(parse(&pretty).as_ref(), Some(&events));
    }
}
