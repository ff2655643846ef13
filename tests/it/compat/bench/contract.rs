//! Which families a page may have, and with which labels.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::case;
use super::page::Page;

/// Families that are there whatever is asked.
pub(crate) const ALWAYS: [&str; 3] =
    ["probe_success", "probe_duration_seconds", "probe_timeout_seconds"];

/// What the families of a page may be, by prober.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contract {
    /// blackbox_exporter's families and their labels.
    pub(crate) families: BTreeMap<String, Vec<String>>,
    /// Families that only watchpost has, and their labels.
    pub(crate) ours: BTreeMap<String, Vec<String>>,
    /// Families of blackbox_exporter that it does not show for these probers.
    beyond: BTreeMap<String, Vec<String>>,
    /// Names for lists of families.
    sets: BTreeMap<String, Vec<String>>,
    /// The sets and families of each prober.
    probers: BTreeMap<String, Vec<String>>,
}

impl Contract {
    pub(crate) fn read() -> Self {
        case::read(&case::folder().join("families.yml"))
    }

    /// Families by name, those of sets one by one.
    pub(crate) fn unfold(&self, names: &[String]) -> BTreeSet<&str> {
        let mut families = BTreeSet::new();
        for name in names {
            if let Some(set) = self.sets.get(name) {
                families.extend(self.unfold(set));
                continue;
            }
            let known = self.families.get_key_value(name);
            let known = known.or_else(|| self.ours.get_key_value(name));
            families.insert(known.unwrap_or_else(|| panic!("no family {name}")).0.as_str());
        }
        families
    }

    fn beyond_of(&self, prober: &str) -> BTreeSet<&str> {
        self.beyond.get(prober).map(|names| self.unfold(names)).unwrap_or_default()
    }

    /// Whether blackbox_exporter has no such family for `prober`.
    pub(crate) fn is_ours(&self, prober: &str, family: &str) -> bool {
        self.ours.contains_key(family) || self.beyond_of(prober).contains(family)
    }

    /// What is wrong with the families of a page of `prober`.
    pub(crate) fn flaws(&self, prober: &str, page: &Page) -> Vec<String> {
        let mut allowed = self.unfold(&self.probers[prober]);
        allowed.extend(self.beyond_of(prober));
        let mut flaws = Vec::new();
        for family in &page.families {
            let name = family.name.as_str();
            if !allowed.contains(name) && !ALWAYS.contains(&name) {
                flaws.push(format!("{name} is no family of {prober}"));
            }
            let labels = self.families.get(name).or_else(|| self.ours.get(name));
            let labels: BTreeSet<&str> = labels.into_iter().flatten().map(String::as_str).collect();
            let found = family.label_names();
            // What has no phase has no label for it.
            let is_ours = self.ours.contains_key(name) && found.is_subset(&labels);
            if !labels.contains("*") && found != labels && !is_ours {
                flaws.push(format!("{name} has the labels {:?}", family.label_names()));
            }
        }
        flaws
    }
}
