//! The table of meanings: what is written, what is wanted, what comes of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::*;

#[test]
fn text_is_kept_as_written() {
    for (written, text) in [
        ("5", "5"),
        ("0755", "0755"),
        ("1.10", "1.10"),
        ("yes", "yes"),
        ("true", "true"),
        ("'x'", "x"),
        ("~", ""),
        ("null", ""),
        ("'null'", "null"),
        ("\"a\\tb\"", "a\tb"),
        ("!!str 5", "5"),
        ("2027-01-01", "2027-01-01"),
        ("!!binary aGk=", "hi"),
        ("!own 5", "5"),
    ] {
        assert_eq!(good::<String>(written), text, "{written}");
    }
}

#[test]
fn truth_is_written_plain() {
    for written in ["true", "True", "TRUE", "y", "yes", "Yes", "on", "ON", "!!bool 'true'"] {
        assert!(good::<bool>(written), "{written}");
    }
    for written in ["false", "False", "n", "no", "NO", "off", "Off"] {
        assert!(!good::<bool>(written), "{written}");
    }
    for written in ["'true'", "\"yes\"", "1", "tRUE", "!!str true", "[]"] {
        let told = bad::<bool>(written);
        assert!(told[0].contains("expected true or false, found "), "{told:?}");
    }
}

#[test]
fn numbers_are_written_plain() {
    assert_eq!(good::<u16>("0x1F"), 31);
    assert_eq!(good::<u16>("010"), 8);
    assert_eq!(good::<i64>("-1_000"), -1000);
    assert_eq!(good::<u32>("1e3"), 1000);
    assert!((good::<f64>("5") - 5.0).abs() < f64::EPSILON);
    assert!(good::<f64>(".inf").is_infinite());
    assert!(good::<f64>(".nan").is_nan());
    for written in ["'5'", "1.5", "-1", "70000", "~", "x", "{}"] {
        assert_eq!(bad::<u16>(written).len(), 1, "{written}");
    }
    assert_eq!(bad::<u16>("'5'"), ["1:1 expected a whole number from 0 to 65535, found \"5\""]);
    assert_eq!(bad::<u16>("~"), ["1:1 expected a whole number from 0 to 65535, found nothing"]);
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Nulls {
    #[serde(default = "seven")]
    seven: u8,
    text: String,
    #[serde(default)]
    list: Vec<u8>,
    map: BTreeMap<String, u8>,
    inner: Inner,
    option: Option<Inner>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    x: u8,
}

#[derive(Debug, Deserialize)]
struct Needs {
    #[expect(dead_code, reason = "only its absence is looked at")]
    number: u8,
}

fn seven() -> u8 {
    7
}

#[test]
fn a_key_without_a_value_keeps_the_default() {
    let nulls: Nulls = good("seven:\ntext:\nlist:\nmap:\ninner:\noption:\n");
    let expected = Nulls {
        seven: 7,
        text: String::new(),
        list: vec![],
        map: BTreeMap::new(),
        inner: Inner::default(),
        option: None,
    };
    assert_eq!(nulls, expected);
    assert_eq!(
        bad::<Needs>("number:\n"),
        ["1:1 expected a whole number from 0 to 255, found nothing"]
    );
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Any {
    Truth(bool),
    Number(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Narrow {
    #[expect(dead_code, reason = "only the refusal is looked at")]
    Number(u8),
}

#[test]
fn untagged_enums_see_what_go_would_see() {
    assert_eq!(good::<Any>("true"), Any::Truth(true));
    assert_eq!(good::<Any>("yes"), Any::Text("yes".into()));
    assert_eq!(good::<Any>("5"), Any::Number(5));
    assert_eq!(good::<Any>("1.5"), Any::Float(1.5));
    assert_eq!(good::<Any>("'5'"), Any::Text("5".into()));
    assert_eq!(good::<Any>("[a]"), Any::List(vec![Any::Text("a".into())]));
    assert_eq!(good::<Any>("a: 1"), Any::Map([("a".into(), Any::Number(1))].into()));
    let value: serde_json::Value = good("{a: [1, yes, ~], b: {c: 1.5}}");
    assert_eq!(value.to_string(), r#"{"a":[1,"yes",null],"b":{"c":1.5}}"#);
    assert_eq!(bad::<Narrow>("x"), ["1:1 \"x\" has none of the forms that are allowed here"]);
}

#[derive(Debug, PartialEq)]
enum TextOrMap {
    Text(String),
    Map(usize),
}

impl<'de> Deserialize<'de> for TextOrMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = TextOrMap;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a target such as https://example.org, or a mapping with target")
            }

            fn visit_str<E>(self, text: &str) -> Result<TextOrMap, E> {
                Ok(TextOrMap::Text(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextOrMap, A::Error> {
                let mut count = 0;
                while map.next_entry::<String, String>()?.is_some() {
                    count += 1;
                }
                Ok(TextOrMap::Map(count))
            }
        }
        deserializer.deserialize_str(Shape)
    }
}

#[test]
fn text_or_mapping_is_one_visitor() {
    assert_eq!(good::<TextOrMap>("0755"), TextOrMap::Text("0755".into()));
    assert_eq!(good::<TextOrMap>("{a: b}"), TextOrMap::Map(1));
    assert_eq!(
        bad::<TextOrMap>("[]"),
        [
            "1:1 expected a target such as https://example.org, or a mapping with target, found a list"
        ]
    );
}

#[test]
fn a_struct_is_no_list() {
    assert_eq!(bad::<Inner>("[1]"), ["1:1 expected a mapping, found a list"]);
    assert_eq!(bad::<Vec<u8>>("5"), ["1:1 expected a list, found \"5\""]);
    assert_eq!(bad::<(u8, u8)>("[1]").len(), 1);
    assert_eq!(good::<(u8, u8)>("[1, 2]"), (1, 2));
    assert_eq!(good::<BTreeMap<u16, char>>("{1: a, 0x2: b}"), [(1, 'a'), (2, 'b')].into());
}

#[test]
fn broken_binary_is_refused() {
    assert_eq!(bad::<String>("!!binary '%'"), ["1:1 the value of !!binary is not base64"]);
    assert!(bad::<String>("!!binary /w==")[0].contains("not UTF-8"));
}
