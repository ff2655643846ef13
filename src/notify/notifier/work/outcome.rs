//! What came of an attempt: what is kept of it, whom it proves, and the key under which the next one follows.

use sha2::{Digest, Sha256};

use super::{Worker, answer, works_again};
use crate::book::{Moment, NoteKind, Route, Table, Write};
use crate::model::Secret;
use crate::notify::notifier::TestResult;
use crate::notify::receivers::Sent;

impl Worker {
    /// What came of an attempt, as rows of the book.
    pub(in crate::notify::notifier) fn learn(
        &mut self,
        sequence: u64,
        sent: &Sent,
        now: &Moment,
    ) -> Vec<Write> {
        match sent {
            Sent::Delivered { route, partly } => {
                self.delivered(sequence, route.as_ref(), partly.as_deref(), now)
            }
            Sent::Retry { .. } | Sent::Refused { .. } => self.failed(sequence, sent, now),
        }
    }

    fn delivered(
        &mut self,
        sequence: u64,
        route: Option<&Secret>,
        partly: Option<&str>,
        now: &Moment,
    ) -> Vec<Write> {
        let Some(row) = self.queue.delivered(sequence) else { return Vec::new() };
        if let Some(why) = partly {
            tracing::warn!(receiver = row.receiver, why, "delivered to a part of the receiver");
        }
        self.meters.attempt(&row.receiver, if partly.is_some() { "partial" } else { "delivered" });
        let state = self.state(&row.receiver);
        state.last_success = Some(now.clone());
        if row.kind == NoteKind::TestResolve {
            state.last_test_success = Some(now.clone());
        }
        let state = state.clone();
        self.meters.proof(&state);
        let mut writes = vec![Write::Delete(Table::Outbox, row.id.clone()), Write::put(state)];
        if let (Some(id), Some(key), false) = (&row.episode, route, row.kind.ends()) {
            writes.extend(self.pin_route(id, &row.receiver, key));
        }
        if row.kind == NoteKind::TestResolve {
            answer(self.tests.remove(&row.key), TestResult::Delivered);
        }
        if row.kind.ends() {
            writes.extend(self.forget_routes());
        }
        let works = works_again(&row.receiver, now);
        let decisions = self.episodes.apply(&works, &self.rules, now);
        self.carry_out(decisions, now, &mut writes);
        writes
    }

    fn failed(&mut self, sequence: u64, sent: &Sent, now: &Moment) -> Vec<Write> {
        let Some(row) = self.queue.failed(sequence, sent, now) else { return Vec::new() };
        let why = row.last_error.clone().unwrap_or_default();
        let is_refusal = matches!(sent, Sent::Refused { .. });
        self.meters.attempt(&row.receiver, if is_refusal { "refused" } else { "retry" });
        if is_refusal {
            tracing::error!(
                receiver = row.receiver,
                why,
                "refused: somebody must look at this receiver"
            );
        } else {
            tracing::warn!(receiver = row.receiver, attempts = row.attempts, why, "not delivered");
        }
        if let Some(done) = self.tests.remove(&row.key) {
            answer(Some(done), TestResult::Failed(why));
            // Whoever asked has the answer, and is not to be paged by a test hours later. The end of a test that did
            // arrive is tried on, or the test would stay open.
            if row.kind == NoteKind::Test {
                return self.queue.forget(&row.key);
            }
        }
        vec![Write::put(row)]
    }

    fn pin_route(&mut self, episode: &str, receiver: &str, key: &Secret) -> Vec<Write> {
        let fingerprint = fingerprint(receiver, key);
        let Some(decision) = self.episodes.pin_route(episode, &fingerprint) else {
            return Vec::new();
        };
        let mut writes =
            vec![Write::put(Route::new(fingerprint.clone(), key)), Write::put(decision.episode)];
        writes.extend(self.queue.set_route(episode, &fingerprint));
        writes
    }

    /// Keys that neither an open episode nor a waiting notification needs.
    pub(super) fn forget_routes(&self) -> Vec<Write> {
        let mut needed: Vec<_> = self.episodes.open().filter_map(|e| e.route.as_deref()).collect();
        needed.extend(self.queue.rows().filter_map(|row| row.route.as_deref()));
        let routes = self.book.routes().into_iter().map(|r| r.fingerprint);
        let idle = routes.filter(|f| !needed.contains(&f.as_str()));
        idle.map(|f| Write::Delete(Table::Routes, f)).collect()
    }
}

/// Names a key without showing it.
fn fingerprint(receiver: &str, key: &Secret) -> String {
    let digest = Sha256::new()
        .chain_update(receiver)
        .chain_update([0])
        .chain_update(key.reveal())
        .finalize();
    digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
