//! Alertmanager's tree of routes: which of them an alert takes, and with what options.

use std::time::Duration;

use super::matcher::{self, Matcher};
use super::{Labels, duration, is_true};
use crate::config::yaml::Node;
use crate::config::{Problem, Problems};

/// Alertmanager's own defaults.
const GROUP_WAIT: Duration = Duration::from_secs(30);
const GROUP_INTERVAL: Duration = Duration::from_secs(300);
const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 3600);
const KEYS: [&str; 3] = ["match", "match_re", "matchers"];

/// A time, and where it is written; nowhere when it is a default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed<'a> {
    pub(super) value: Duration,
    pub(super) node: Option<&'a Node>,
}

/// A route that an alert takes, with what it inherits.
#[derive(Debug, Clone)]
pub(super) struct Taken<'a> {
    pub(super) node: &'a Node,
    pub(super) receiver: Option<&'a Node>,
    pub(super) group_by: Option<&'a Node>,
    pub(super) group_wait: Timed<'a>,
    pub(super) group_interval: Timed<'a>,
    pub(super) repeat_interval: Timed<'a>,
    /// Everything that an alert had to match on the way.
    pub(super) matchers: Vec<Matcher>,
    /// Not inherited.
    pub(super) mute: Option<&'a Node>,
    pub(super) active: Option<&'a Node>,
}

impl<'a> Taken<'a> {
    pub(super) fn root(node: &'a Node, problems: &mut Problems) -> Self {
        let default = |value| Timed { value, node: None };
        let outside = Self {
            node,
            receiver: None,
            group_by: None,
            group_wait: default(GROUP_WAIT),
            group_interval: default(GROUP_INTERVAL),
            repeat_interval: default(REPEAT_INTERVAL),
            matchers: Vec::new(),
            mute: None,
            active: None,
        };
        outside.child(node, Vec::new(), problems)
    }

    fn child(&self, node: &'a Node, matchers: Vec<Matcher>, problems: &mut Problems) -> Self {
        let given = |key: &str| node.get(key).filter(|value| !value.is_null());
        let mut timed = |key: &str, inherited: Timed<'a>| {
            let node = given(key);
            duration(node, problems).map_or(inherited, |value| Timed { value, node })
        };
        let mut all = self.matchers.clone();
        all.extend(matchers);
        Self {
            node,
            receiver: given("receiver").or(self.receiver),
            group_by: given("group_by").or(self.group_by),
            group_wait: timed("group_wait", self.group_wait),
            group_interval: timed("group_interval", self.group_interval),
            repeat_interval: timed("repeat_interval", self.repeat_interval),
            matchers: all,
            mute: given("mute_time_intervals").filter(|it| !it.items().is_empty()),
            active: given("active_time_intervals").filter(|it| !it.items().is_empty()),
        }
    }

    pub(super) fn receiver_name(&self) -> &'a str {
        self.receiver.and_then(Node::text).unwrap_or_default()
    }

    /// Whether it is split by a label.
    pub(super) fn is_grouped_by(&self, label: &str) -> bool {
        let items = self.group_by.map(Node::items).unwrap_or_default();
        items.iter().filter_map(Node::text).any(|name| name == "..." || name == label)
    }

    fn children(&self, problems: &mut Problems) -> Vec<Self> {
        let routes = self.node.get("routes").map(Node::items).unwrap_or_default();
        let mut children = Vec::new();
        for node in routes {
            let matchers = matcher::read(node, KEYS, problems);
            children.push(self.child(node, matchers, problems));
        }
        children
    }

    fn own_matchers(&self, parent: &Self) -> &[Matcher] {
        self.matchers.get(parent.matchers.len()..).unwrap_or_default()
    }

    /// The routes that an alert with these labels takes from here on, as Alertmanager walks them: depth first, the first
    /// that matches, and further ones only after `continue`; without a child that matches, this one.
    pub(super) fn walk(self, labels: &Labels, problems: &mut Problems) -> Vec<Self> {
        let mut taken = Vec::new();
        for child in self.children(problems) {
            let failed: Vec<&Matcher> =
                child.own_matchers(&self).iter().filter(|it| !it.matches(labels)).collect();
            if !failed.is_empty() {
                undecided(&child, &failed, labels, problems);
                continue;
            }
            let goes_on = is_true(child.node.get("continue")) == Some(true);
            taken.extend(child.walk(labels, problems));
            if !goes_on {
                break;
            }
        }
        if taken.is_empty() { vec![self] } else { taken }
    }

    /// Every route whose matchers fit, also those that are never reached.
    pub(super) fn fitting(&self, labels: &Labels) -> Vec<Self> {
        let mut silent = Problems::new();
        let mut found = Vec::new();
        for child in self.children(&mut silent) {
            if child.own_matchers(self).iter().all(|matcher| matcher.matches(labels)) {
                found.extend(child.fitting(labels));
                found.push(child);
            }
        }
        found
    }
}

/// Only labels that nobody told keep the alert from this route.
fn undecided(route: &Taken<'_>, failed: &[&Matcher], labels: &Labels, problems: &mut Problems) {
    let is_open = |it: &&Matcher| !labels.contains_key(&it.name) && it.wants_something();
    if !failed.iter().all(is_open) {
        return;
    }
    let names: Vec<&str> = failed.iter().map(|matcher| matcher.name.as_str()).collect();
    let what = format!(
        "whether the Watchdog takes this route depends on its label {}, which is not known here",
        names.join(", ")
    );
    let hint = format!("give it with --label {}=VALUE, or empty when it has none", names[0]);
    problems.push(Problem::warning(what).at(route.node.at()).hint(hint));
}
