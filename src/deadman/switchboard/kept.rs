//! What outlives the process, and whose it is when it comes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::deadman::line::Mark;
use crate::deadman::pause::Pauses;
use crate::deadman::spec::{PingId, Spec};
use crate::deadman::switch::SwitchState;
use crate::deadman::watchdog::WatchdogState;

/// What must outlive the process, for each switch by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadmanState {
    /// By which a renamed switch is known again.
    #[serde(default)]
    pub uuid: Option<String>,
    pub kind: KindState,
    /// How the clocks were taken to stand when they were not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub enum KindState {
    Switch(SwitchState),
    Watchdog(WatchdogState),
}

impl DeadmanState {
    pub(super) fn marks(&self) -> Vec<&Mark> {
        let mut marks: Vec<&Mark> = match &self.kind {
            KindState::Switch(state) => state.marks().collect(),
            KindState::Watchdog(state) => state.marks().collect(),
        };
        marks.extend(&self.anchor);
        marks
    }
}

/// What was kept, as it comes from the book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    pub states: BTreeMap<String, DeadmanState>,
    pub pauses: Pauses,
}

/// What was kept of a switch.
pub(super) struct Found {
    pub(super) state: DeadmanState,
    /// Under another name or uuid: it is to be written down as it is called now.
    pub(super) is_elsewhere: bool,
}

/// What is kept of the switch with this uuid, under whatever name.
pub(super) fn of_uuid(states: &mut BTreeMap<String, DeadmanState>, spec: &Spec) -> Option<Found> {
    let uuid = spec.uuid.map(PingId::text)?;
    let is_it = |kept: &DeadmanState| kept.uuid.as_deref() == Some(uuid.as_str());
    if states.get(&spec.name).is_some_and(is_it) {
        let state = states.remove(&spec.name)?;
        return Some(Found { state, is_elsewhere: false });
    }
    let name = states.iter().find(|(_, kept)| is_it(kept)).map(|(name, _)| name.clone())?;
    states.remove(&name).map(|state| Found { state, is_elsewhere: true })
}

/// What is kept under this name, where no uuid says otherwise.
pub(super) fn of_name(states: &mut BTreeMap<String, DeadmanState>, spec: &Spec) -> Option<Found> {
    let state = states.remove(&spec.name)?;
    let is_elsewhere = state.uuid != spec.uuid.map(PingId::text);
    Some(Found { state, is_elsewhere })
}
