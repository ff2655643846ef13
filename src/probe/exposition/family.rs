//! Which family a sample belongs to. Names are kept as hashes, so that what a hostile exposition
//! can make us remember is bounded by the number of families alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The type of a family, as its TYPE line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    /// `untyped`, `unknown`, or no TYPE line before the sample.
    Unknown,
}

impl Kind {
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total", "_created"],
            Self::Histogram => &["_bucket", "_sum", "_count", "_created"],
            Self::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
            Self::Summary => &["_sum", "_count", "_created"],
            Self::Info => &["_info"],
            Self::Gauge | Self::StateSet | Self::Unknown => &[],
        }
    }
}

/// The family of a sample: its name is the sample's, or that without a suffix such as `_bucket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family<'a> {
    pub name: &'a str,
    pub kind: Kind,
}

pub(super) struct TooMany;

#[derive(Debug)]
pub(super) struct Families {
    seen: HashMap<u64, Kind>,
    hasher: RandomState,
    max: usize,
    /// The last sample's name: neighbours mostly share it.
    last: String,
    last_len: usize,
    last_kind: Kind,
}

impl Families {
    pub(super) fn new(max: usize) -> Self {
        Self {
            seen: HashMap::new(),
            hasher: RandomState::new(),
            max,
            last: String::new(),
            last_len: 0,
            last_kind: Kind::Unknown,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// A TYPE line names its kind, HELP and UNIT lines do not. Prometheus takes a TYPE again, and
    /// after samples: from there on it counts.
    pub(super) fn declare(&mut self, name: &str, kind: Option<Kind>) -> Result<(), TooMany> {
        self.last.clear();
        let key = self.hasher.hash_one(name);
        if let Some(known) = self.seen.get_mut(&key) {
            *known = kind.unwrap_or(*known);
            return Ok(());
        }
        self.insert(key, kind.unwrap_or(Kind::Unknown))
    }

    pub(super) fn of<'a>(&mut self, name: &'a str) -> Result<Family<'a>, TooMany> {
        if self.last != name {
            let family = self.find(name)?;
            self.last.clear();
            self.last.push_str(name);
            self.last_len = family.name.len();
            self.last_kind = family.kind;
        }
        let name = name.get(..self.last_len).unwrap_or(name);
        Ok(Family { name, kind: self.last_kind })
    }

    fn find<'a>(&mut self, name: &'a str) -> Result<Family<'a>, TooMany> {
        let key = self.hasher.hash_one(name);
        if let Some(&kind) = self.seen.get(&key) {
            return Ok(Family { name, kind });
        }
        if let Some(family) = self.by_suffix(name) {
            return Ok(family);
        }
        self.insert(key, Kind::Unknown)?;
        Ok(Family { name, kind: Kind::Unknown })
    }

    fn by_suffix<'a>(&self, name: &'a str) -> Option<Family<'a>> {
        let (stem, _) = name.rsplit_once('_')?;
        let kind = *self.seen.get(&self.hasher.hash_one(stem))?;
        let suffix = name.get(stem.len()..)?;
        kind.suffixes().contains(&suffix).then_some(Family { name: stem, kind })
    }

    fn insert(&mut self, key: u64, kind: Kind) -> Result<(), TooMany> {
        if self.seen.len() >= self.max {
            return Err(TooMany);
        }
        self.seen.insert(key, kind);
        Ok(())
    }
}
