//! At which times of its interval a check runs, and which replica runs it: hashes, so that nothing needs to be agreed on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Moment;
use super::moment::nanos;
use crate::model::{Check, CheckId};

/// Below this an interval is taken for this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// The first run of a new check happens within this, or within its interval when that is shorter.
pub const FIRST_RUN_WITHIN: Duration = Duration::from_secs(30);
/// Keeps the hash of shards apart from those of phases.
const SHARD_SEED: u64 = 0x7368_6172_6400_0001;

/// Spreads ids by a watchpost's id, so that two regions do not ask at the same moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread(u64);

impl Spread {
    pub(super) fn of(watchpost_id: &str) -> Self {
        let digest = Sha256::digest(watchpost_id.as_bytes());
        let first: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
        Self(u64::from_be_bytes(first))
    }

    /// Where in its interval `id` runs.
    pub(super) fn phase(self, id: CheckId, interval: Duration) -> Phase {
        let interval = nanos(interval.max(SHORTEST_INTERVAL));
        Phase { offset: share(mix(id.get() ^ self.0), interval), interval }
    }

    /// How long `id` waits for a run that its phase does not give.
    pub(super) fn delay(self, id: CheckId, interval: Duration) -> Duration {
        let within = nanos(interval.min(FIRST_RUN_WITHIN));
        Duration::from_nanos(share(mix(mix(id.get() ^ self.0)), within))
    }
}

/// The finalizer of splitmix64: every bit of the input moves half of the output's.
pub(super) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `hash` as a share of `whole`: evenly spread over `0..whole`.
pub(super) fn share(hash: u64, whole: u64) -> u64 {
    let product = u128::from(hash) * u128::from(whole);
    u64::try_from(product >> 64).expect("a share of a u64 is a u64")
}

/// The due times of a check: `offset` after every whole multiple of `interval` since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    offset: u64,
    interval: u64,
}

impl Phase {
    /// The first due time after `moment`.
    pub(super) fn after(self, moment: Moment) -> Moment {
        match moment.nanos().checked_sub(self.offset) {
            None => Moment::from_nanos(self.offset),
            Some(past) => {
                let next = (past / self.interval + 1).saturating_mul(self.interval);
                Moment::from_nanos(next.saturating_add(self.offset))
            }
        }
    }

    /// How many due times lie after `from`, up to and with `to`.
    pub(super) fn between(self, from: Moment, to: Moment) -> u64 {
        let until =
            |m: Moment| m.nanos().checked_sub(self.offset).map_or(0, |p| p / self.interval + 1);
        until(to).saturating_sub(until(from))
    }

    /// The newest due time up to and with `moment`, or `first` when that is newer.
    pub(super) fn newest(self, first: Moment, moment: Moment) -> Moment {
        let Some(past) = moment.nanos().checked_sub(self.offset) else { return first };
        first.max(Moment::from_nanos(moment.nanos() - past % self.interval))
    }
}

/// Which share of the checks this process runs: `--shard=I/N`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a shard: write I/N with I from 1 to N, such as 1/3")]
pub struct InvalidShard(String);

impl Shard {
    /// All checks.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    pub const fn index(self) -> u32 {
        self.index
    }

    pub const fn of(self) -> u32 {
        self.of
    }

    /// Whether this shard runs the check. Every check belongs to exactly one of the N.
    pub fn owns(self, id: CheckId) -> bool {
        share(mix(id.get() ^ SHARD_SEED), u64::from(self.of)) == u64::from(self.index - 1)
    }

    /// Whether this shard runs the check. Probes of the alerting pipeline belong to the first shard as a whole: they are the
    /// evidence of heartbeats, which only that one sends.
    pub fn runs(self, check: &Check) -> bool {
        if check.policy.pipeline { self.is_first() } else { self.owns(check.id) }
    }

    /// Whether this shard also does what only one may do: deadman, heartbeats, notifications.
    pub const fn is_first(self) -> bool {
        self.index == 1
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl FromStr for Shard {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        let parsed = text.split_once('/').and_then(|(index, of)| {
            let (index, of) = (index.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&index).then_some(Self { index, of })
        });
        parsed.ok_or_else(|| InvalidShard(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Target;

    fn id(n: usize) -> CheckId {
        CheckId::of("p", &Target::plain(format!("h{n}:1")))
    }

    #[test]
    fn phases_cover_the_whole_interval_evenly() {
        let spread = Spread::of("eu-1");
        let interval = Duration::from_secs(60);
        let mut buckets = [0_u32; 20];
        for n in 0..10_000 {
            let phase = spread.phase(id(n), interval);
            buckets[usize::try_from(phase.offset * 20 / phase.interval).unwrap()] += 1;
        }
        // 500 expected in each; five standard deviations are about 110.
        assert!(buckets.iter().all(|b| (390..610).contains(b)), "{buckets:?}");
    }

    #[test]
    fn two_watchposts_ask_at_different_moments() {
        let interval = Duration::from_secs(60);
        let (one, other) = (Spread::of("eu-1"), Spread::of("eu-2"));
        let same = (0..1000).filter(|n| {
            one.phase(id(*n), interval).offset.abs_diff(other.phase(id(*n), interval).offset)
                < 600_000_000
        });
        assert!(same.count() < 60);
    }

    #[test]
    fn every_check_belongs_to_exactly_one_shard() {
        let shards: Vec<Shard> = (1..=3).map(|i| format!("{i}/3").parse().unwrap()).collect();
        let mut sizes = [0; 3];
        for n in 0..3000 {
            let owners: Vec<_> = (0..3).filter(|i| shards[*i].owns(id(n))).collect();
            assert_eq!(owners.len(), 1);
            sizes[owners[0]] += 1;
        }
        assert!(sizes.iter().all(|s| (900..1100).contains(s)), "{sizes:?}");
        assert!((0..100).all(|n| Shard::WHOLE.owns(id(n))));
    }

    #[test]
    fn shards_are_written_from_one() {
        assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2/3");
        for wrong in ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn due_times_follow_each_other_by_the_interval(
            seed: u64, interval in 1_000_000_u64..100_000_000_000, at in 0..2_000_000_000_000_000_000_u64
        ) {
            let phase = Phase { offset: share(seed, interval), interval };
            let at = Moment::from_nanos(at);
            let next = phase.after(at);
            prop_assert!(next > at);
            prop_assert!(next.nanos() - at.nanos() <= interval.max(phase.offset));
            prop_assert_eq!(phase.after(next).nanos() - next.nanos(), interval);
            prop_assert_eq!(phase.between(at, next), 1);
            prop_assert_eq!(phase.newest(at, next), next);
            let far = Moment::from_nanos(next.nanos() + 7 * interval);
            prop_assert_eq!(phase.between(next, far), 7);
        }
    }
}
