//! Every key that a module may have, taken from the types that read it.
//!
//! A type that is read by serde tells the names of its fields before it is given any value. So a reader that has nothing to
//! give can walk through all of them: a path is followed through maps, lists and options to a type, which tells its keys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use watchpost::config::yaml::{self, Kind, Node, Problems, Source};
use watchpost::probe::ModuleSpec;

/// Deeper than any block.
const MAX_DEPTH: usize = 8;

/// Keys of one type, and the paths at which it stands: `tls_config` is the same wherever it is.
pub(crate) type Tables = BTreeMap<&'static [&'static str], Vec<String>>;

#[derive(Debug)]
struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing to read")
    }
}

impl std::error::Error for Nothing {}

impl de::Error for Nothing {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Reads nothing; on the way along `path` it finds the keys of what stands there.
struct Spy<'a> {
    path: &'a [&'a str],
    keys: &'a RefCell<Option<&'static [&'static str]>>,
}

impl<'de> Deserializer<'de> for Spy<'_> {
    type Error = Nothing;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        let Some((first, rest)) = self.path.split_first() else {
            *self.keys.borrow_mut() = Some(fields);
            return Err(Nothing);
        };
        visitor.visit_map(One { key: Some(first), rest: Spy { path: rest, keys: self.keys } })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_seq(One { key: None, rest: self })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_map(One { key: Some("any"), rest: self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        visitor.visit_newtype_struct(self)
    }

    /// What may be text or a map is asked for as text.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        self.deserialize_map(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Nothing> {
        Err(Nothing)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// A map or list with one entry.
struct One<'a> {
    key: Option<&'a str>,
    rest: Spy<'a>,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Nothing;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Nothing> {
        let key: StrDeserializer<'_, Nothing> = self.key.unwrap_or_default().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Nothing> {
        seed.deserialize(Spy { path: self.rest.path, keys: self.rest.keys })
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Nothing;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Nothing> {
        seed.deserialize(Spy { path: self.rest.path, keys: self.rest.keys }).map(Some)
    }
}

/// The keys of what stands at `path` in a module.
fn keys_at(path: &[&str]) -> Option<&'static [&'static str]> {
    let keys = RefCell::new(None);
    ModuleSpec::deserialize(Spy { path, keys: &keys }).ok();
    keys.into_inner()
}

/// Every table of keys below `path`.
pub(crate) fn tables() -> Tables {
    let mut tables = Tables::new();
    collect(&mut Vec::new(), &mut tables);
    tables
}

fn collect(path: &mut Vec<&'static str>, tables: &mut Tables) {
    assert!(path.len() < MAX_DEPTH, "{path:?}");
    let Some(keys) = keys_at(path) else { return };
    tables.entry(keys).or_default().push(path.join("."));
    for key in keys {
        path.push(key);
        collect(path, tables);
        path.pop();
    }
}

/// The paths of all keys of a module as written, without those that people choose.
pub(crate) fn used(module: &str) -> Vec<String> {
    let mut problems = Problems::new();
    let Some(node) = yaml::parse(Source::inline(module), &mut problems) else { return Vec::new() };
    let mut used = Vec::new();
    walk(&node, &mut Vec::new(), &mut used);
    used
}

fn walk(node: &Node, path: &mut Vec<String>, used: &mut Vec<String>) {
    match &node.kind {
        Kind::Sequence(items) => items.iter().for_each(|item| walk(item, path, used)),
        Kind::Mapping(entries) => {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            // Below a map with chosen names the path stays that of the map.
            let is_chosen = keys_at(&names)
                .is_none_or(|keys| entries.iter().any(|entry| !keys.contains(&entry.name())));
            for entry in entries {
                if is_chosen {
                    walk(&entry.value, path, used);
                    continue;
                }
                path.push(entry.name().to_owned());
                used.push(path.join("."));
                walk(&entry.value, path, used);
                path.pop();
            }
        }
        Kind::Scalar(_) => {}
    }
}
