//! The tree: scalars, lists and mappings, each with its place, and ways to walk it.

use std::sync::Arc;

use super::scalar::{Scalar, Style};
use super::source::{Position, Source};

/// One value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub(super) at: Position,
    /// Stands under a key that the source calls secret: no message may quote it.
    pub(super) secret: bool,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    /// In the order of the file, merged keys last; no key occurs twice.
    Mapping(Vec<Entry>),
}

/// One `key: value`; the key is always a scalar.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Node,
    pub value: Node,
}

impl Entry {
    pub fn name(&self) -> &str {
        self.key.text().unwrap_or_default()
    }
}

impl Node {
    /// The whole of a source as one scalar.
    pub fn scalar_of(source: &Arc<Source>, style: Style) -> Self {
        let scalar = Scalar { text: Arc::clone(&source.text), raw: None, style, tag: None };
        let at = Position::start(source);
        Self { kind: Kind::Scalar(scalar), at, secret: false }
    }

    /// A list that stands where its first item does.
    pub fn list_of(items: Vec<Self>) -> Self {
        let at = items
            .first()
            .map_or_else(|| Position::start(&Arc::new(Source::inline(""))), |item| item.at.clone());
        Self { kind: Kind::Sequence(items), at, secret: false }
    }

    /// Puts `value` at the end of `path`, in place of what stands there; the case of the last key does not count.
    /// Mappings on the way are made where nothing is.
    pub fn set(&mut self, path: &[&str], value: Self) {
        let Some((step, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self.kind, Kind::Mapping(_)) {
            self.kind = Kind::Mapping(Vec::new());
        }
        let Kind::Mapping(entries) = &mut self.kind else { return };
        let is_step = |entry: &Entry| {
            entry.name() == *step || (rest.is_empty() && entry.name().eq_ignore_ascii_case(step))
        };
        let at = entries.iter().position(is_step).unwrap_or_else(|| {
            let key = Source::named(&value.at.source.name, step);
            let key = Self::scalar_of(&Arc::new(key), Style::Plain);
            let nothing = Source::named(&value.at.source.name, "");
            let nothing = Self::scalar_of(&Arc::new(nothing), Style::Plain);
            entries.push(Entry { key, value: nothing });
            entries.len() - 1
        });
        entries[at].value.set(rest, value);
    }

    pub const fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Sequence(_))
    }

    /// Where it stands; an alias stands where its anchor does.
    pub fn at(&self) -> &Position {
        &self.at
    }

    pub fn is_secret(&self) -> bool {
        self.secret
    }

    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// A scalar's text, with the environment filled in once expanded.
    pub fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| &*scalar.text)
    }

    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// The entries of a mapping, none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list, none for anything else.
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Sequence(items) => items,
            _ => &[],
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.name() == key)
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The values of a mapping by key, for expanding or changing each on its own.
    pub fn sections(&mut self) -> impl Iterator<Item = (&str, &mut Self)> {
        let entries = match &mut self.kind {
            Kind::Mapping(entries) => entries.as_mut_slice(),
            _ => &mut [],
        };
        entries.iter_mut().map(|Entry { key, value }| (key.text().unwrap_or_default(), value))
    }

    pub fn key_at(&self, key: &str) -> Option<&Position> {
        self.entry(key).map(|entry| entry.key.at())
    }

    /// The node at `http.headers.X` or `targets.0`, else its nearest ancestor that exists. A key
    /// that has dots in it is found too.
    pub fn find(&self, path: &str) -> &Self {
        if path.is_empty() {
            return self;
        }
        let mut ends: Vec<usize> = path.match_indices('.').map(|(at, _)| at).collect();
        ends.push(path.len());
        for end in ends {
            let (step, rest) = path.split_at(end);
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            if let Some(child) = self.child(step) {
                return child.find(rest);
            }
        }
        self
    }

    fn child(&self, step: &str) -> Option<&Self> {
        self.get(step)
            .or_else(|| step.parse().ok().and_then(|index: usize| self.items().get(index)))
    }

    /// Levels of nesting; 1 for a scalar.
    pub(super) fn height(&self) -> usize {
        let items = self.items().iter().map(Self::height);
        let values = self.entries().iter().map(|entry| entry.value.height());
        1 + items.chain(values).max().unwrap_or(0)
    }

    /// Nodes in it, itself and the keys included.
    pub(super) fn count(&self) -> usize {
        let items: usize = self.items().iter().map(Self::count).sum();
        let entries: usize = self.entries().iter().map(|entry| 1 + entry.value.count()).sum();
        1 + items + entries
    }

    pub(super) fn hide(&mut self) {
        self.secret = true;
        match &mut self.kind {
            Kind::Scalar(_) => {}
            Kind::Sequence(items) => items.iter_mut().for_each(Self::hide),
            Kind::Mapping(entries) => entries.iter_mut().for_each(|entry| entry.value.hide()),
        }
    }
}
