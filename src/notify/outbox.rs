//! What is not delivered yet, and whose turn it is. Pure: told `now`, answers with rows.
//!
//! One dedup key is served in order, so that an end never overtakes its beginning. Receivers do not wait for each other.
//! What is queued for one key is bounded: later news takes the place of earlier news that nobody has heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::receivers::{Limits, Sent};
use crate::book::{Moment, NoteKind, Outbox, Table, Write};

/// The window of [`Limits::per_minute`].
const WINDOW: Duration = Duration::from_secs(60);
/// After how long an end that nobody takes is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    /// The longest `Retry-After` that is honoured.
    pub longest_asked: Duration,
    /// How often a refused notification is tried all the same.
    pub refused: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(5 * 60),
            longest_asked: Duration::from_secs(5 * 60),
            refused: Duration::from_secs(15 * 60),
        }
    }
}

impl Backoff {
    /// Full jitter: anything up to a bound that doubles. `seed` decides, so that the same attempt waits the same time.
    pub fn wait(&self, attempts: u32, seed: &str) -> Duration {
        const FACTORS: u32 = 16;
        let doublings = attempts.saturating_sub(1).min(FACTORS);
        let bound = self.first.saturating_mul(1 << doublings).min(self.longest);
        let floor = self.first / 5;
        floor + bound.saturating_sub(floor).mul_f64(fraction(seed, attempts))
    }
}

/// A number in `0..1`, spread by FNV-1a and a final mix.
fn fraction(seed: &str, salt: u32) -> f64 {
    let hash = seed
        .bytes()
        .chain(salt.to_be_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    f64::from(u32::try_from(mixed >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// All rows, in the order of their sequence.
#[derive(Debug, Default)]
pub struct Queue {
    rows: BTreeMap<u64, Outbox>,
    /// Sequences that are being sent.
    flying: BTreeSet<u64>,
    lanes: BTreeMap<String, Lane>,
    backoff: Backoff,
    last_sequence: u64,
}

/// What is known of the way to one receiver.
#[derive(Debug, Default)]
struct Lane {
    /// The receiver asked us to wait until then, on the boot clock.
    paused_until: Duration,
    /// When the last notifications were sent, on the boot clock.
    sent: VecDeque<Duration>,
}

impl Queue {
    /// Rows as the book has them. Each is tried at once: who knows for how long we were away. One that was made ahead of
    /// `now`, by a wall clock that was wrong then or is now, was made just now: else it would never be old enough for
    /// the fallback.
    pub fn restore(rows: Vec<Outbox>, backoff: Backoff, now: &Moment) -> Self {
        let mut queue = Self { backoff, ..Self::default() };
        for row in rows {
            queue.last_sequence = queue.last_sequence.max(row.sequence);
            // An end is given up after a day, and of days the wall clock of another boot knows nothing.
            let is_unsure = row.kind.ends() && row.created.boot_id != now.boot_id;
            let is_ahead = row.created.age(now).is_none();
            let created = if is_unsure || is_ahead { now.clone() } else { row.created };
            queue.rows.insert(row.sequence, Outbox { next_attempt: now.clone(), created, ..row });
        }
        queue
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    pub fn rows(&self) -> impl Iterator<Item = &Outbox> {
        self.rows.values()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Queues a notification; answers with what changes in the book.
    pub fn add(&mut self, row: Outbox) -> Vec<Write> {
        match row.kind {
            NoteKind::Update | NoteKind::Repeat => self.add_news(row),
            NoteKind::Resolve => self.add_end(row),
            NoteKind::Trigger => self.add_trigger(row),
            NoteKind::Test | NoteKind::TestResolve => self.push(row),
        }
    }

    /// Rows of the same receiver and key that nobody has heard yet, oldest first.
    fn waiting(&self, row: &Outbox) -> Vec<u64> {
        let same = |r: &&Outbox| r.receiver == row.receiver && r.key == row.key;
        let waiting = self.rows.values().filter(same).map(|r| r.sequence);
        waiting.filter(|s| !self.flying.contains(s)).collect()
    }

    fn push(&mut self, row: Outbox) -> Vec<Write> {
        self.rows.insert(row.sequence, row.clone());
        vec![Write::put(row)]
    }

    fn drop_row(&mut self, sequence: u64) -> Option<Write> {
        let row = self.rows.remove(&sequence)?;
        self.flying.remove(&sequence);
        Some(Write::Delete(Table::Outbox, row.id))
    }

    /// Gives a waiting row the content of `news`; it keeps its place, its kind and its patience.
    fn take_over(&mut self, sequence: u64, news: Outbox) -> Vec<Write> {
        let Some(row) = self.rows.get_mut(&sequence) else { return self.push(news) };
        row.payload = news.payload;
        if let Some(kind) = row.payload.get_mut("kind") {
            *kind = serde_json::Value::from(row.kind.label());
        }
        // That the fallback knows of an episode that is over says nothing of this one.
        row.escalated &= row.episode == news.episode;
        row.episode = news.episode;
        row.route = news.route;
        vec![Write::put(row.clone())]
    }

    fn add_news(&mut self, row: Outbox) -> Vec<Write> {
        let last = self.waiting(&row).last().copied();
        match last.and_then(|s| self.rows.get(&s)).filter(|r| !r.kind.ends()) {
            Some(waiting) => self.take_over(waiting.sequence, row),
            None => self.push(row),
        }
    }

    fn add_end(&mut self, row: Outbox) -> Vec<Write> {
        let mut writes = Vec::new();
        while let Some(last) = self.waiting(&row).last().copied() {
            match self.rows.get(&last).map(|r| r.kind) {
                Some(NoteKind::Update | NoteKind::Repeat) => writes.extend(self.drop_row(last)),
                Some(NoteKind::Resolve) => {
                    writes.extend(self.take_over(last, row));
                    return writes;
                }
                _ => break,
            }
        }
        writes.extend(self.push(row));
        writes
    }

    /// A new episode, while the one before may not have been heard of at all: then it is one beginning, not two.
    fn add_trigger(&mut self, row: Outbox) -> Vec<Write> {
        let waiting = self.waiting(&row);
        let kinds: Vec<_> =
            waiting.iter().filter_map(|s| self.rows.get(s)).map(|r| (r.sequence, r.kind)).collect();
        let [.., (begin, NoteKind::Trigger), (end, NoteKind::Resolve)] = kinds.as_slice() else {
            return self.push(row);
        };
        let mut writes: Vec<_> = self.drop_row(*end).into_iter().collect();
        writes.extend(self.take_over(*begin, row));
        writes
    }

    /// Rows to be sent now; they count as being sent until [`delivered`](Self::delivered) or [`failed`](Self::failed).
    pub fn due(&mut self, limits: impl Fn(&str) -> Limits, now: &Moment) -> Vec<Outbox> {
        let mut ready: Vec<_> =
            self.heads().filter(|row| row.next_attempt.age(now).is_some()).cloned().collect();
        ready.sort_by_key(|row| (urgency(row.kind), row.sequence));
        ready.retain(|row| {
            let Limits { per_minute, in_flight } = limits(&row.receiver);
            let flying = self.flying.iter().filter_map(|s| self.rows.get(s));
            if flying.filter(|r| r.receiver == row.receiver).count() >= in_flight {
                return false;
            }
            let lane = self.lanes.entry(row.receiver.clone()).or_default();
            if !lane.take_turn(per_minute, now.boot) {
                return false;
            }
            self.flying.insert(row.sequence);
            true
        });
        ready
    }

    /// The oldest row of each receiver and key, unless it is being sent.
    fn heads(&self) -> impl Iterator<Item = &Outbox> {
        let mut seen = BTreeSet::new();
        self.rows
            .values()
            .filter(move |row| seen.insert((row.receiver.as_str(), row.key.as_str())))
            .filter(|row| !self.flying.contains(&row.sequence))
    }

    pub fn delivered(&mut self, sequence: u64) -> Option<Outbox> {
        self.flying.remove(&sequence);
        self.rows.remove(&sequence)
    }

    /// An attempt failed; answers with the row as it is now. `sent` must not be a delivery.
    pub fn failed(&mut self, sequence: u64, sent: &Sent, now: &Moment) -> Option<Outbox> {
        self.flying.remove(&sequence);
        let row = self.rows.get_mut(&sequence)?;
        row.attempts = row.attempts.saturating_add(1);
        let backoff = self.backoff.wait(row.attempts, &row.id);
        let wait = match sent {
            Sent::Delivered { .. } => return None,
            Sent::Retry { why, after } => {
                row.last_error = Some(why.clone());
                let asked = after.unwrap_or_default().min(self.backoff.longest_asked);
                if !asked.is_zero() {
                    let lane = self.lanes.entry(row.receiver.clone()).or_default();
                    lane.paused_until = now.boot.saturating_add(asked);
                }
                backoff.max(asked)
            }
            // The key that opened the episode is not taken any more: try the present one.
            Sent::Refused { why } if row.route.is_some() => {
                row.last_error = Some(why.clone());
                row.route = None;
                self.backoff.first / 5
            }
            Sent::Refused { why } => {
                row.last_error = Some(why.clone());
                row.refused = true;
                self.backoff.refused
            }
        };
        row.next_attempt = later(now, wait);
        Some(row.clone())
    }

    /// Notes with which key the rest of an episode is to be sent.
    pub fn set_route(&mut self, episode: &str, fingerprint: &str) -> Vec<Write> {
        let rows = self.rows.values_mut().filter(|r| r.episode.as_deref() == Some(episode));
        rows.map(|row| {
            row.route = Some(fingerprint.to_owned());
            Write::put(row.clone())
        })
        .collect()
    }

    /// Notes that a fallback has been told.
    pub fn set_escalated(&mut self, sequence: u64) -> Option<Write> {
        let row = self.rows.get_mut(&sequence)?;
        row.escalated = true;
        Some(Write::put(row.clone()))
    }

    /// Tries everything at once: the receivers may be other ones now.
    pub fn try_now(&mut self, now: &Moment) {
        for row in self.rows.values_mut() {
            row.next_attempt = now.clone();
        }
        self.lanes.clear();
    }

    /// Drops the rows of one key.
    pub fn forget(&mut self, key: &str) -> Vec<Write> {
        let sequences: Vec<_> =
            self.rows.values().filter(|r| r.key == key).map(|r| r.sequence).collect();
        sequences.into_iter().filter_map(|s| self.drop_row(s)).collect()
    }

    /// Gives up ends that nobody has taken for a day, with whatever stands before them: the episode is long over.
    pub fn expire(&mut self, now: &Moment) -> Vec<Outbox> {
        let old = |r: &&Outbox| {
            r.kind.ends() && r.created.age(now).is_some_and(|age| age >= GIVE_UP_AFTER)
        };
        let Some(end) = self.rows.values().find(old).cloned() else { return Vec::new() };
        let gone: Vec<_> = self
            .rows
            .values()
            .filter(|r| r.receiver == end.receiver && r.key == end.key)
            .filter(|r| r.sequence <= end.sequence && !self.flying.contains(&r.sequence))
            .map(|r| r.sequence)
            .collect();
        gone.into_iter().filter_map(|s| self.rows.remove(&s)).collect()
    }

    /// How long until a row may be due.
    pub fn wait(&self, now: &Moment) -> Option<Duration> {
        self.heads().map(|row| row.next_attempt.boot.saturating_sub(now.boot)).min()
    }
}

impl Lane {
    fn take_turn(&mut self, per_minute: usize, boot: Duration) -> bool {
        while self.sent.front().is_some_and(|sent| boot.saturating_sub(*sent) >= WINDOW) {
            self.sent.pop_front();
        }
        let is_free = boot >= self.paused_until && self.sent.len() < per_minute;
        if is_free {
            self.sent.push_back(boot);
        }
        is_free
    }
}

/// First messages before ends before news.
const fn urgency(kind: NoteKind) -> u8 {
    match kind {
        NoteKind::Trigger => 0,
        NoteKind::Resolve => 1,
        NoteKind::Update | NoteKind::Repeat => 2,
        NoteKind::Test | NoteKind::TestResolve => 3,
    }
}

fn later(now: &Moment, wait: Duration) -> Moment {
    let stamp = crate::model::Stamp::new(now.wall, now.boot).plus(wait);
    Moment::new(stamp, now.boot_id.clone())
}

#[cfg(test)]
mod tests;
