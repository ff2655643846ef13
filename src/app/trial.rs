//! Tries the way to a receiver, or to the service of a heartbeat, for real, without a running watchpost.

use std::time::Duration;

use crate::book::NoteKind;
use crate::clock;
use crate::config::Config;
use crate::heartbeat::{self, Attempt, Recorded, Trial, Verdict};
use crate::net::Resolver;
use crate::notify::{Delivery, Identity, Message, Receiver, Sent};

/// What came of one step of a trial.
#[derive(Debug)]
pub struct Step {
    /// `test`, or `end of test`.
    pub what: &'static str,
    pub result: Result<(), String>,
    /// Part of the receiver did not take it.
    pub partly: Option<String>,
}

/// Sends a marked test and its end to the receiver of this name; `None` when there is none.
pub async fn receiver(config: &Config, name: &str) -> Option<Vec<Step>> {
    let receiver = config.receivers.iter().find(|receiver| receiver.name == name)?;
    let identity = Identity {
        id: config.identity.id.clone(),
        region: config.identity.region.clone(),
        url: config.identity.url.clone(),
    };
    let key = format!("watchpost-test-{:x}", clock::now().wall.as_microsecond());
    let trial = Page { receiver, identity, key };
    let mut route = None;
    let first = trial.send("test", NoteKind::Test, &mut route).await;
    if first.result.is_err() {
        return Some(vec![first]);
    }
    let end = trial.send("end of test", NoteKind::TestResolve, &mut route).await;
    Some(vec![first, end])
}

struct Page<'a> {
    receiver: &'a Receiver,
    identity: Identity,
    key: String,
}

impl Page<'_> {
    async fn send(
        &self,
        what: &'static str,
        kind: NoteKind,
        route: &mut Option<crate::model::Secret>,
    ) -> Step {
        let now = clock::now();
        let message = Message::test(kind, &self.receiver.name, &self.identity, now.wall);
        let id = format!("{}-{}", self.key, kind.label());
        let delivery =
            Delivery { id: &id, message: &message, key: &self.key, route: route.as_ref(), now };
        match self.receiver.send(&delivery).await {
            Sent::Delivered { route: used, partly } => {
                *route = used;
                Step { what, result: Ok(()), partly }
            }
            Sent::Retry { why, .. } | Sent::Refused { why } => {
                Step { what, result: Err(why), partly: None }
            }
        }
    }
}

/// What came of a beat sent by hand.
#[derive(Debug)]
pub struct BeatTrial {
    /// The key of the service.
    pub service: &'static str,
    pub attempt: Attempt,
    pub recorded: Recording,
}

/// Whether the beat was recorded.
#[derive(Debug)]
pub enum Recording {
    CannotBeAsked,
    Recorded(String),
    MadeOnTheFly,
    Muted(String),
    /// With what was recorded last.
    NotRecorded(String),
    Untold(String),
}

/// Sends a beat of the heartbeat of this name, whatever its evidence says; `None` when there is none.
pub async fn heartbeat(
    config: &Config,
    name: &str,
    names: &Resolver,
    patience: Duration,
) -> Option<BeatTrial> {
    let spec = config.heartbeats.iter().find(|spec| spec.name == name)?;
    let Trial { attempt, recorded } =
        heartbeat::try_once(spec, &config.identity.id, names, patience).await;
    let when = |recorded: Option<Recorded>| {
        recorded.and_then(|it| it.at).map_or_else(|| "never".to_owned(), |at| at.to_string())
    };
    let recorded = match recorded {
        None => Recording::CannotBeAsked,
        Some(Verdict::Recorded(recorded)) => Recording::Recorded(when(Some(recorded))),
        Some(Verdict::MadeOnTheFly(_)) => Recording::MadeOnTheFly,
        Some(Verdict::Muted(why)) => Recording::Muted(why),
        Some(Verdict::NotRecorded(last)) => Recording::NotRecorded(when(last)),
        Some(Verdict::Untold(why)) => Recording::Untold(why.to_string()),
    };
    Some(BeatTrial { service: spec.service(), attempt, recorded })
}
