//! serde's view of one node: which visitor is called for what stands there.
//!
//! A type that may be text or a mapping should ask for `deserialize_str` and implement `visit_str`
//! and `visit_map`: scalars then come as they were written, also `5`, `0755` and `yes`.

use std::cell::RefCell;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::decode::Notes;
use super::error::{Failure, Outcome, found};
use super::problem::{Problem, quoted};
use super::scalar::{Resolved, Scalar};
use super::suggest;
use super::tree::{Entry, Kind, Node};

#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) node: &'a Node,
    pub(super) notes: &'a RefCell<Notes>,
}

impl<'a> Value<'a> {
    fn of(self, node: &'a Node) -> Self {
        Self { node, notes: self.notes }
    }

    fn done<T>(self, outcome: Outcome<T>) -> Outcome<T> {
        outcome.map_err(|failure| failure.through(self.node))
    }

    /// Scalars by `read`; a list or a mapping goes to the visitor, which refuses it in its words.
    fn scalar<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        read: impl FnOnce(&Scalar, V) -> Outcome<V::Value>,
    ) -> Outcome<V::Value> {
        let outcome = match &self.node.kind {
            Kind::Scalar(scalar) => read(scalar, visitor),
            Kind::Sequence(items) => visitor.visit_seq(Items::new(self, items)),
            Kind::Mapping(entries) => visitor.visit_map(Entries::new(self, entries, None)),
        };
        self.done(outcome)
    }
}

fn visit_any<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    match scalar.resolve() {
        Resolved::Null => visitor.visit_unit(),
        Resolved::Bool(truth) => visitor.visit_bool(truth),
        Resolved::Unsigned(number) => visitor.visit_u64(number),
        Resolved::Signed(number) => visitor.visit_i64(number),
        Resolved::Float(number) => visitor.visit_f64(number),
        Resolved::Text => visit_text(scalar, visitor),
    }
}

fn visit_text<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    if scalar.is_null() {
        return visitor.visit_str("");
    }
    match scalar.binary() {
        None => visitor.visit_str(&scalar.text),
        Some(bytes) => {
            let bytes = bytes.map_err(|_| not_base64())?;
            let text = String::from_utf8(bytes);
            visitor.visit_string(text.map_err(|_| {
                Failure::words("expected text, found bytes that are not UTF-8".into())
            })?)
        }
    }
}

fn visit_bytes<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    match scalar.binary() {
        None if scalar.is_null() => visitor.visit_bytes(&[]),
        None => visitor.visit_bytes(scalar.text.as_bytes()),
        Some(bytes) => visitor.visit_byte_buf(bytes.map_err(|_| not_base64())?),
    }
}

fn not_base64() -> Failure {
    Failure::words("the value of !!binary is not base64".into())
}

fn visit_bool<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    match scalar.as_bool() {
        Some(truth) => visitor.visit_bool(truth),
        None => visit_other(scalar, visitor),
    }
}

fn visit_whole<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    match scalar.as_number() {
        Some(Resolved::Unsigned(number)) => visitor.visit_u64(number),
        Some(Resolved::Signed(number)) => visitor.visit_i64(number),
        Some(Resolved::Float(number)) => match exact(number) {
            Some(number) => visitor.visit_i64(number),
            None => visit_other(scalar, visitor),
        },
        _ => visit_other(scalar, visitor),
    }
}

/// `1e3` is a whole number; `1.5` is not, although Go cuts it.
fn exact(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
    (number.fract() == 0.0 && number.abs() <= LIMIT).then_some(number as i64)
}

fn visit_float<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    match scalar.as_number() {
        Some(Resolved::Float(number)) => visitor.visit_f64(number),
        Some(Resolved::Unsigned(number)) => visitor.visit_u64(number),
        Some(Resolved::Signed(number)) => visitor.visit_i64(number),
        _ => visit_other(scalar, visitor),
    }
}

/// The visitor of a number or truth value may take words as well; most refuse in their words.
fn visit_other<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Outcome<V::Value> {
    if scalar.is_null() { visitor.visit_unit() } else { visitor.visit_str(&scalar.text) }
}

macro_rules! scalars {
    ($($method:ident => $read:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
            self.scalar(visitor, $read)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Failure;

    scalars! {
        deserialize_any => visit_any,
        deserialize_bool => visit_bool,
        deserialize_i8 => visit_whole,
        deserialize_i16 => visit_whole,
        deserialize_i32 => visit_whole,
        deserialize_i64 => visit_whole,
        deserialize_i128 => visit_whole,
        deserialize_u8 => visit_whole,
        deserialize_u16 => visit_whole,
        deserialize_u32 => visit_whole,
        deserialize_u64 => visit_whole,
        deserialize_u128 => visit_whole,
        deserialize_f32 => visit_float,
        deserialize_f64 => visit_float,
        deserialize_char => visit_text,
        deserialize_str => visit_text,
        deserialize_string => visit_text,
        deserialize_identifier => visit_text,
        deserialize_bytes => visit_bytes,
        deserialize_byte_buf => visit_bytes,
    }

    forward_to_deserialize_any! { unit }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let outcome =
            if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) };
        self.done(outcome)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Outcome<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Outcome<V::Value> {
        self.done(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.scalar(visitor, |scalar, visitor| {
            if scalar.is_null() {
                return visitor.visit_seq(Items::new(self, &[]));
            }
            visitor.visit_str(&scalar.text)
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Outcome<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Outcome<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.scalar(visitor, |scalar, visitor| {
            if scalar.is_null() {
                return visitor.visit_map(Entries::new(self, &[], None));
            }
            visitor.visit_str(&scalar.text)
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let outcome = match &self.node.kind {
            Kind::Mapping(entries) => visitor.visit_map(Entries::new(self, entries, Some(fields))),
            // A derived visitor would take a list for its fields in order.
            Kind::Sequence(_) => Err(Failure::invalid_type(Unexpected::Seq, &visitor)),
            Kind::Scalar(scalar) if scalar.is_null() => {
                visitor.visit_map(Entries::new(self, &[], Some(fields)))
            }
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
        };
        self.done(outcome)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let outcome = choice(self, variants).and_then(|choice| visitor.visit_enum(choice));
        self.done(outcome)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_unit()
    }
}

/// A variant named by a word, or by the one key of a mapping.
struct Choice<'a> {
    whole: Value<'a>,
    name: &'a Node,
    content: Option<&'a Node>,
}

fn choice<'a>(whole: Value<'a>, variants: &'static [&'static str]) -> Outcome<Choice<'a>> {
    match &whole.node.kind {
        Kind::Scalar(scalar) if !scalar.is_null() => {
            Ok(Choice { whole, name: whole.node, content: None })
        }
        Kind::Mapping(entries) => match entries.as_slice() {
            [entry] => Ok(Choice { whole, name: &entry.key, content: Some(&entry.value) }),
            [] => Err(none_of(variants, "none")),
            [first, second, ..] => {
                let both = format!("{} and {}", quoted(first.name()), quoted(second.name()));
                Err(none_of(variants, &both).pointing(second.key.at()))
            }
        },
        _ => Err(none_of(variants, &found(whole.node))),
    }
}

fn none_of(variants: &[&str], found: &str) -> Failure {
    Failure::words(format!("expected exactly one of {}, found {found}", suggest::listed(variants)))
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Outcome<(S::Value, Self)> {
        let word = self.name.text().unwrap_or_default();
        let word: StrDeserializer<'_, Failure> = word.into_deserializer();
        let variant = seed.deserialize(word);
        let variant = variant.map_err(|failure| failure.pointing(self.name.at()))?;
        Ok((variant, self))
    }
}

impl Choice<'_> {
    fn needs_content(&self) -> Failure {
        let word = self.name.text().unwrap_or_default();
        let hint = format!("write it as a mapping: {word}: …");
        Failure::words(format!("{} needs a value of its own", quoted(word))).hint(hint)
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Outcome<()> {
        match self.content {
            Some(content) if !content.is_null() => {
                let word = quoted(self.name.text().unwrap_or_default());
                Err(Failure::words(format!("{word} takes no value, found {}", found(content)))
                    .pointing(content.at()))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Outcome<S::Value> {
        let content = self.content.ok_or_else(|| self.needs_content())?;
        let content = self.whole.of(content);
        content.done(seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Outcome<V::Value> {
        let content = self.content.ok_or_else(|| self.needs_content())?;
        self.whole.of(content).deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let content = self.content.ok_or_else(|| self.needs_content())?;
        self.whole.of(content).deserialize_struct("", fields, visitor)
    }
}

struct Items<'a> {
    whole: Value<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'a> Items<'a> {
    fn new(whole: Value<'a>, items: &'a [Node]) -> Self {
        Self { whole, items: items.iter() }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Outcome<Option<S::Value>> {
        let notes = self.whole.notes;
        let Some(item) = self.items.find(|item| !notes.borrow().is_aside(item)) else {
            return Ok(None);
        };
        let item = self.whole.of(item);
        item.done(seed.deserialize(item)).map(Some)
    }
}

struct Entries<'a> {
    whole: Value<'a>,
    rest: std::slice::Iter<'a, Entry>,
    /// The keys of a struct; `None` where any key may stand.
    fields: Option<&'static [&'static str]>,
    value: Option<&'a Node>,
}

impl<'a> Entries<'a> {
    fn new(
        whole: Value<'a>,
        entries: &'a [Entry],
        fields: Option<&'static [&'static str]>,
    ) -> Self {
        Self { whole, rest: entries.iter(), fields, value: None }
    }

    /// Whether the entry is read, after noting why it is not.
    fn wanted(&self, entry: &Entry) -> bool {
        let mut notes = self.whole.notes.borrow_mut();
        let parent = self.whole.node;
        let name = entry.name();
        if notes.is_aside(&entry.value) || notes.is_aside(&entry.key) {
            notes.excuse(parent, name);
            return false;
        }
        let Some(fields) = self.fields else {
            return true;
        };
        if !fields.contains(&name) {
            let meant = suggest::closest(name, fields);
            notes.refuse_key(parent, &entry.value, meant, unknown_key(entry, fields));
            return false;
        }
        !(entry.value.is_null() && notes.passes_over_null(parent, name, &entry.value))
    }
}

fn unknown_key(entry: &Entry, fields: &[&str]) -> Problem {
    Problem::error(format!("unknown key {}", quoted(entry.name())))
        .at(entry.key.at())
        .hint(suggest::help(entry.name(), fields, "keys"))
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Outcome<Option<S::Value>> {
        while let Some(entry) = self.rest.next() {
            if self.wanted(entry) {
                self.value = Some(&entry.value);
                let key = self.whole.of(&entry.key);
                return key.done(seed.deserialize(key)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Outcome<S::Value> {
        let value =
            self.value.take().ok_or_else(|| Failure::words("a value before its key".into()))?;
        let value = self.whole.of(value);
        value.done(seed.deserialize(value))
    }
}
