//! Two ways to a human, as they behave on good and on bad days, with a ledger of what they heard.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use crate::book::Outbox;
use crate::model::Secret;
use crate::notify::Sent;

/// How a vendor behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    /// 500.
    Broken,
    /// 429 with a `Retry-After` of a thousand days.
    Busy,
    /// Takes everything and answers nothing; the event is lost.
    Hole,
    /// Takes the event; the answer is lost.
    Mute,
    /// 202, and the event is lost.
    Drops,
    /// 400.
    Refuses,
}

impl Mood {
    pub(super) const ALL: [Self; 7] =
        [Self::Good, Self::Broken, Self::Busy, Self::Hole, Self::Mute, Self::Drops, Self::Refuses];

    /// Whether a page comes through, if late.
    pub(super) const fn hears(self) -> bool {
        matches!(self, Self::Good | Self::Mute)
    }
}

/// One message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// On the world's clock, in seconds.
    pub(super) at: u64,
    pub(super) receiver: String,
    pub(super) name: String,
    pub(super) key: String,
    pub(super) route: String,
    pub(super) begins: bool,
    pub(super) number: u64,
}

/// Where an incident lives: a vendor merges by dedup key within what one routing key leads to, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) receiver: String,
    pub(super) key: String,
    route: String,
}

impl Slot {
    fn of(row: &Outbox, route: &Secret) -> Self {
        // The second way has one address and no keys.
        let route = if row.receiver == FIRST { route.reveal().to_owned() } else { String::new() };
        Self { receiver: row.receiver.clone(), key: row.key.clone(), route }
    }
}

/// An incident that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incident {
    pub(super) name: String,
    /// Its end was accepted and lost: whoever fails anew must be told anew.
    pub(super) is_over: bool,
    /// Nobody can end it but a person.
    pub(super) is_orphan: bool,
}

#[derive(Debug)]
pub(super) struct Pagers {
    moods: BTreeMap<&'static str, Mood>,
    /// The routing key of the first receiver, as configured now.
    pub(super) routing_key: String,
    pub(super) ledger: Vec<Heard>,
    /// Incidents that people see.
    pub(super) open: BTreeMap<Slot, Incident>,
    /// Incidents that were opened: when, at which receiver, about whom.
    pub(super) opened: Vec<(u64, String, String)>,
    pub(super) attempts: usize,
}

pub(super) const FIRST: &str = "oncall";
pub(super) const SECOND: &str = "second";

impl Pagers {
    pub(super) fn new() -> Self {
        Self {
            moods: BTreeMap::from([(FIRST, Mood::Good), (SECOND, Mood::Good)]),
            routing_key: "key-0".into(),
            ledger: Vec::new(),
            open: BTreeMap::new(),
            opened: Vec::new(),
            attempts: 0,
        }
    }

    pub(super) fn set(&mut self, receiver: &'static str, mood: Mood) {
        self.moods.insert(receiver, mood);
    }

    pub(super) fn mood(&self, receiver: &str) -> Mood {
        self.moods.get(receiver).copied().unwrap_or(Mood::Good)
    }

    pub(super) fn all_good(&self) -> bool {
        self.moods.values().all(|mood| *mood == Mood::Good)
    }

    pub(super) fn somebody_hears(&self) -> bool {
        self.moods.values().any(|mood| mood.hears())
    }

    /// An event may be accepted and lost.
    pub(super) fn loses(&self) -> bool {
        self.moods.values().any(|mood| *mood == Mood::Drops)
    }

    pub(super) fn is_open(&self, key: &str) -> bool {
        self.open.iter().any(|(slot, incident)| slot.key == key && !incident.is_over)
    }

    /// When incidents were opened at a receiver.
    pub(super) fn opened_at(&self, receiver: &str) -> Vec<u64> {
        let opened = self.opened.iter().filter(|(_, to, _)| to == receiver);
        opened.map(|(at, _, _)| *at).collect()
    }

    /// One attempt. `route` is the key that opened the episode, where that is known.
    pub(super) fn take(&mut self, row: &Outbox, route: Option<Secret>, at: u64) -> Sent {
        self.attempts += 1;
        let used = route.unwrap_or_else(|| Secret::new(self.routing_key.clone()));
        let text = |why: &str| why.to_owned();
        match self.mood(&row.receiver) {
            Mood::Good => {
                self.hear(row, &used, at);
                Sent::Delivered { route: Some(used), partly: None }
            }
            Mood::Mute => {
                self.hear(row, &used, at);
                Sent::Retry { why: text("no answer in 10 s"), after: None }
            }
            Mood::Drops => {
                if row.kind.ends()
                    && let Some(incident) = self.open.get_mut(&Slot::of(row, &used))
                {
                    incident.is_over = true;
                    incident.is_orphan = true;
                }
                Sent::Delivered { route: Some(used), partly: None }
            }
            Mood::Broken => Sent::Retry { why: text("status 500"), after: None },
            Mood::Hole => Sent::Retry { why: text("no answer in 10 s"), after: None },
            Mood::Busy => {
                let after = Some(Duration::from_secs(86_400_000));
                Sent::Retry { why: text("status 429"), after }
            }
            Mood::Refuses => {
                // The present key is tried instead of the one that opened, and may lead elsewhere.
                if let Some(incident) = self.open.get_mut(&Slot::of(row, &used)) {
                    incident.is_orphan = true;
                }
                Sent::Refused { why: text("status 400") }
            }
        }
    }

    fn hear(&mut self, row: &Outbox, route: &Secret, at: u64) {
        let field = |name: &str| row.payload.get(name).cloned().unwrap_or_default();
        let name = field("name").as_str().unwrap_or_default().to_owned();
        let slot = Slot::of(row, route);
        let route = route.reveal().to_owned();
        if row.kind.ends() {
            self.open.remove(&slot);
        } else {
            match self.open.entry(slot) {
                Entry::Occupied(mut occupied) => {
                    // Told anew, so its end will be told as well.
                    let incident = occupied.get_mut();
                    (incident.is_over, incident.is_orphan) = (false, false);
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(Incident {
                        name: name.clone(),
                        is_over: false,
                        is_orphan: false,
                    });
                    self.opened.push((at, row.receiver.clone(), name.clone()));
                }
            }
        }
        self.ledger.push(Heard {
            at,
            receiver: row.receiver.clone(),
            name,
            key: row.key.clone(),
            route,
            begins: !row.kind.ends(),
            number: field("number").as_u64().unwrap_or_default(),
        });
    }
}
