//! Debug builds fall dead where a test says: `WATCHPOST_DIE_AT=written:trigger` kills the process, as `kill -9` would, when
//! a trigger has been written and before it is sent. Release builds know nothing of it.

use rustix::process::{Signal, getpid, kill_process};

use crate::book::NoteKind;
use crate::notify::{Boundary, Settings};

const VARIABLE: &str = "WATCHPOST_DIE_AT";

/// `settings`, with the death that the environment asks for.
pub(super) fn sentenced(settings: Settings) -> Settings {
    #[expect(clippy::disallowed_methods, reason = "no part of what people configure")]
    let Ok(text) = std::env::var(VARIABLE) else { return settings };
    let (boundary, kind) = text.split_once(':').unwrap_or((&text, ""));
    let die_at = Boundary::ALL.into_iter().find(|known| known.label() == boundary);
    let die_with = [NoteKind::Trigger, NoteKind::Resolve].into_iter().find(|k| k.label() == kind);
    assert!(die_at.is_some(), "{VARIABLE}: there is no {boundary:?}");
    Settings { die_at, die_with, death: die, ..settings }
}

fn die() {
    // It cannot fail for ourselves.
    kill_process(getpid(), Signal::KILL).ok();
    std::process::abort();
}
