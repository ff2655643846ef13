//! The targets of every probe: fixed ones first, then what its sources yield.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, IntGaugeVec, Registry};

use super::held::Held;
use super::remote::RemoteSource;
use super::source::FileSource;
use super::{Decoder, FileSd, Network, Pattern, Remote};
use crate::clock;
use crate::model::{CheckId, Stamp, Target, family};

/// The value of the label `mechanism` for files.
const FILE: &str = "file";
/// How long a configuration waits for the first answers of all services that it names.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);
/// How many duplicates of a probe are named in the log.
const MAX_NAMED: usize = 10;

/// Where a probe's targets come from.
#[derive(Debug, Clone)]
pub struct Sources {
    pub probe: Arc<str>,
    /// Written in the configuration. They come first, so they win over equal ones from a source.
    pub fixed: Vec<Target>,
    /// Patterns as seen from the working directory: see [`Pattern::within`].
    pub files: Vec<FileSd>,
    pub remotes: Vec<Remote>,
}

/// The targets of one probe.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSet {
    pub probe: Arc<str>,
    /// Stays the same `Arc` while the list does.
    pub targets: Arc<[Target]>,
}

/// The targets of all probes.
pub type Snapshot = Arc<BTreeMap<Arc<str>, TargetSet>>;

/// Reads what the configuration names, and keeps what was good. It blocks: see [`Watcher`](super::Watcher).
pub struct Discovery {
    probes: BTreeMap<Arc<str>, Probe>,
    snapshot: Snapshot,
    decoder: Decoder,
    meters: Meters,
    /// Without it, services are not asked.
    network: Option<Network>,
}

#[derive(Debug, Default)]
struct Probe {
    fixed: Vec<Target>,
    sources: BTreeMap<Key, Source>,
    files: BTreeSet<String>,
}

/// Mechanism and name: what tells a source from the others of its probe.
type Key = (&'static str, String);

#[derive(Debug)]
enum Source {
    Files(FileSource),
    Remote(Box<RemoteSource>),
}

impl Source {
    fn look(&mut self, now: Stamp, decoder: &Decoder) -> bool {
        match self {
            Self::Files(source) => source.look(now, decoder),
            Self::Remote(source) => source.look(),
        }
    }

    fn asks(&self, remote: &Remote) -> bool {
        matches!(self, Self::Remote(source) if source.asks(remote))
    }

    fn held(&self) -> &Held {
        match self {
            Self::Files(source) => source.held(),
            Self::Remote(source) => source.held(),
        }
    }

    fn failures(&self) -> Vec<String> {
        match self {
            Self::Files(source) => source.failures(),
            Self::Remote(source) => source.failures(),
        }
    }

    /// When it was last read well, where that is known now.
    fn read_at(&self, now: Stamp) -> Option<Stamp> {
        match self {
            Self::Files(_) => self.failures().is_empty().then_some(now),
            Self::Remote(source) => source.answered(),
        }
    }

    fn modified(&self) -> Vec<(&Path, f64)> {
        match self {
            Self::Files(source) => source.modified().collect(),
            Self::Remote(_) => Vec::new(),
        }
    }
}

impl Discovery {
    pub fn new(decoder: Decoder, meters: Meters) -> Self {
        let (probes, snapshot) = (BTreeMap::new(), Snapshot::default());
        Self { probes, snapshot, decoder, meters, network: None }
    }

    /// Services are asked from here on.
    #[must_use]
    pub fn with_network(self, network: Network) -> Self {
        Self { network: Some(network), ..self }
    }

    /// Takes over a new configuration and reads everything that is new in it. Sources that stay keep their last good
    /// lists. Later sources of the same probe are added to it.
    pub fn configure(&mut self, all: Vec<Sources>, now: Stamp) -> Snapshot {
        let mut before = std::mem::take(&mut self.probes);
        let keys_before: Vec<(Arc<str>, Key)> = before
            .iter()
            .flat_map(|(name, probe)| probe.sources.keys().map(|key| (name.clone(), key.clone())))
            .collect();
        for sources in all {
            let old = before.get_mut(&sources.probe);
            let probe = self.probes.entry(sources.probe).or_default();
            probe.fixed.extend(sources.fixed);
            let mut old = old.map(|old| (&mut old.sources, &mut old.files));
            if let Some((_, files)) = &mut old {
                probe.files.append(files);
            }
            for config in &sources.files {
                for pattern in &config.files {
                    let key = (FILE, pattern.to_string());
                    let before = old.as_mut().and_then(|(sources, _)| sources.remove(&key));
                    probe.add_files(key, before, pattern, config.refresh_interval.get());
                }
            }
            if let Some(network) = &self.network {
                for remote in &sources.remotes {
                    let key = probe.key_of(remote);
                    let before = old
                        .as_mut()
                        .and_then(|(old, _)| known(old, &key, remote, &sources.remotes));
                    probe.add_remote(key, before, remote.clone(), network);
                }
            }
        }
        self.wait_for_answers();
        for (name, key) in keys_before {
            if !self.probes.get(&name).is_some_and(|probe| probe.sources.contains_key(&key)) {
                self.meters.forget(&name, std::iter::once(&key), &BTreeSet::new());
            }
        }
        for (name, gone) in before {
            self.meters.forget(&name, gone.sources.keys(), &gone.files);
            if !self.probes.contains_key(&name) {
                self.meters.forget_probe(&name);
            }
        }
        self.look(now, true);
        self.snapshot.clone()
    }

    /// What a service says at once is in the first list already.
    fn wait_for_answers(&self) {
        let end = clock::now().boot + FIRST_ANSWERS;
        let sources = self.probes.values().flat_map(|probe| probe.sources.values());
        for source in sources {
            if let Source::Remote(source) = source {
                source.wait(end.saturating_sub(clock::now().boot));
            }
        }
    }

    /// Looks at all sources again. Gives all targets when something changed.
    pub fn refresh(&mut self, now: Stamp) -> Option<Snapshot> {
        self.look(now, false).then(|| self.snapshot.clone())
    }

    /// What cannot be used now: probe, source and why.
    pub fn failures(&self) -> Vec<(Arc<str>, String, String)> {
        let mut failures = Vec::new();
        for (name, probe) in &self.probes {
            for ((_, source_name), source) in &probe.sources {
                let each = source.failures().into_iter();
                failures.extend(each.map(|why| (name.clone(), source_name.clone(), why)));
            }
        }
        failures
    }

    fn look(&mut self, now: Stamp, all: bool) -> bool {
        let mut sets = BTreeMap::new();
        let mut changed = self.snapshot.len() != self.probes.len();
        for (name, probe) in &mut self.probes {
            let mut moved = all;
            for source in probe.sources.values_mut() {
                moved |= source.look(now, &self.decoder);
            }
            self.meters.tell(name, probe, now);
            let known = self.snapshot.get(name);
            let set = match known {
                Some(known) if !moved => known.clone(),
                _ => {
                    let (targets, duplicates) = probe.merge(name);
                    self.meters.duplicates(name, duplicates);
                    let same = known.filter(|known| *known.targets == *targets);
                    changed |= same.is_none();
                    same.cloned().unwrap_or_else(|| TargetSet {
                        probe: name.clone(),
                        targets: targets.into(),
                    })
                }
            };
            sets.insert(name.clone(), set);
        }
        if changed {
            self.snapshot = Arc::new(sets);
        }
        changed
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("probes", &self.probes).finish_non_exhaustive()
    }
}

/// Where a target was found.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Config,
    /// The file, and the target's number in it, from 1.
    File(&'a Path, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("configuration"),
            Self::File(path, number) => write!(f, "{} target {number}", path.display()),
        }
    }
}

impl Probe {
    fn add_files(&mut self, key: Key, known: Option<Source>, pattern: &Pattern, refresh: Duration) {
        let mut source = match known {
            Some(Source::Files(source)) => source,
            _ => FileSource::new(pattern.clone(), refresh),
        };
        source.set_refresh(refresh);
        self.sources.entry(key).or_insert(Source::Files(source));
    }

    /// Two sources may differ in nothing that their names tell, such as the port of a name's addresses, or a key in a URL.
    fn key_of(&self, remote: &Remote) -> Key {
        let name = remote.name();
        let numbered = (2..).map(|number| format!("{name} #{number}"));
        let mut keys =
            std::iter::once(name.to_owned()).chain(numbered).map(|name| (remote.mechanism(), name));
        keys.find(|key| !self.sources.contains_key(key)).expect("there is always another number")
    }

    fn add_remote(&mut self, key: Key, known: Option<Source>, remote: Remote, network: &Network) {
        let source = match known {
            Some(Source::Remote(source)) => source.change_to(remote, network),
            _ => RemoteSource::start(remote, network),
        };
        self.sources.entry(key).or_insert(Source::Remote(Box::new(source)));
    }

    /// All targets, without those that would be the same check as an earlier one; and how many those are.
    fn merge(&self, name: &str) -> (Vec<Target>, usize) {
        let fixed = self.fixed.iter().map(|target| (Place::Config, target));
        let parts = self.sources.values().flat_map(|source| source.held().parts());
        let found = parts.flat_map(|(path, targets)| {
            let numbered = targets.iter().enumerate();
            numbered.map(move |(index, target)| (Place::File(path, index + 1), target))
        });
        let mut places: HashMap<CheckId, Place<'_>> = HashMap::new();
        let mut merged = Vec::new();
        let mut duplicates = 0;
        for (place, target) in fixed.chain(found) {
            match places.entry(CheckId::of(name, target)) {
                Entry::Vacant(free) => {
                    free.insert(place);
                    merged.push(target.clone());
                }
                Entry::Occupied(first) => {
                    duplicates += 1;
                    if duplicates <= MAX_NAMED {
                        let (first, target) = (first.get(), &target.address);
                        tracing::warn!(probe = name, target, %first, second = %place, "duplicate target is left out");
                    }
                }
            }
        }
        if duplicates > MAX_NAMED {
            tracing::warn!(probe = name, duplicates, "more duplicate targets are left out");
        }
        (merged, duplicates)
    }
}

/// What a source was before: the very same one, whichever number it had among those of its name; or else whoever had its
/// place and is not wanted elsewhere.
fn known(
    old: &mut BTreeMap<Key, Source>,
    key: &Key,
    remote: &Remote,
    wanted: &[Remote],
) -> Option<Source> {
    let same = old.iter().find(|(_, source)| source.asks(remote)).map(|(key, _)| key.clone());
    let free = |source: &&Source| !wanted.iter().any(|other| source.asks(other));
    let taken = same.or_else(|| old.get(key).filter(free).map(|_| key.clone()))?;
    old.remove(&taken)
}

/// Handles of the discovery's own metrics.
#[derive(Debug, Clone)]
pub struct Meters {
    targets: IntGaugeVec,
    last_success: GaugeVec,
    failed: IntGaugeVec,
    modified: GaugeVec,
    duplicates: IntGaugeVec,
}

impl Meters {
    /// Registers the families; once for a process.
    pub fn new(registry: &Registry) -> Self {
        Self {
            targets: family::DISCOVERY_TARGETS.int_gauges(registry),
            last_success: family::DISCOVERY_LAST_SUCCESS.gauges(registry),
            failed: family::DISCOVERY_FAILED.int_gauges(registry),
            modified: family::DISCOVERY_MTIME.gauges(registry),
            duplicates: family::DISCOVERY_DUPLICATES.int_gauges(registry),
        }
    }

    fn duplicates(&self, probe: &str, count: usize) {
        self.duplicates.with_label_values(&[probe]).set(signed(count));
    }

    fn tell(&self, name: &str, probe: &mut Probe, now: Stamp) {
        let mut files = BTreeSet::new();
        for ((mechanism, source_name), source) in &probe.sources {
            let labels = [name, mechanism, source_name];
            let failed = !source.failures().is_empty();
            self.targets.with_label_values(&labels).set(signed(source.held().yields()));
            self.failed.with_label_values(&labels).set(i64::from(failed));
            let last_success = self.last_success.with_label_values(&labels);
            if let Some(at) = source.read_at(now) {
                last_success.set(at.unix_seconds());
            }
            for (path, modified) in source.modified() {
                let path = path.to_string_lossy().into_owned();
                self.modified.with_label_values(&[name, FILE, &path]).set(modified);
                files.insert(path);
            }
        }
        for gone in probe.files.difference(&files) {
            self.modified.remove_label_values(&[name, FILE, gone]).ok();
        }
        probe.files = files;
    }

    fn forget<'a>(
        &self,
        probe: &str,
        sources: impl Iterator<Item = &'a Key>,
        files: &BTreeSet<String>,
    ) {
        for (mechanism, source) in sources {
            let labels = [probe, mechanism, source];
            self.targets.remove_label_values(&labels).ok();
            self.failed.remove_label_values(&labels).ok();
            self.last_success.remove_label_values(&labels).ok();
        }
        for file in files {
            self.modified.remove_label_values(&[probe, FILE, file]).ok();
        }
    }

    fn forget_probe(&self, probe: &str) {
        self.duplicates.remove_label_values(&[probe]).ok();
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
