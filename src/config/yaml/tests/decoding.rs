//! Several mistakes in one pass, and what is no mistake of its own.

use crate::model::mistake;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Probe {
    name: String,
    module: String,
    #[serde(default)]
    interval: Seconds,
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, u8>,
    http: Option<Http>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Http {
    codes: Vec<u16>,
    follow: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(try_from = "String")]
struct Seconds(u64);

impl TryFrom<String> for Seconds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
        let wrong = || mistake(format!("\"{text}\" is no duration"), "write 30s");
        number.map(Self).ok_or_else(wrong)
    }
}

#[test]
fn a_right_probe_is_read() {
    let probe: Probe = good("{name: 5, module: yes, interval: 3s, http: {codes: [200, 0x10]}}");
    assert_eq!((probe.name.as_str(), probe.module.as_str()), ("5", "yes"));
    assert_eq!(probe.interval, Seconds(3));
    assert_eq!(probe.http.unwrap().codes, [200, 16]);
}

#[test]
fn all_mistakes_of_a_struct_are_told_at_once() {
    let text = "name: [a]\nmodul: x\ninterval: 3\ntargets:\n  - ok\n  - {a: b}\n  - []\nlabels:\n  \
                a: 300\n  b: 2\n  c: x\nhttp:\n  codes: [1, two, 3, 99999]\n  folow: true\n  \
                follow: \"true\"\n";
    assert_eq!(
        bad::<Probe>(text),
        [
            "1:7 expected text, found a list",
            "2:1 unknown key \"modul\"",
            "3:11 \"3\" is no duration",
            "6:5 expected text, found a mapping",
            "7:5 expected text, found a list",
            "9:6 expected a whole number from 0 to 255, found \"300\"",
            "11:6 expected a whole number from 0 to 255, found \"x\"",
            "13:14 expected a whole number from 0 to 65535, found \"two\"",
            "13:22 expected a whole number from 0 to 65535, found \"99999\"",
            "14:3 unknown key \"folow\"",
            "15:11 expected true or false, found \"true\"",
        ]
    );
}

#[test]
fn hints_say_what_to_do() {
    let mut problems = Problems::new();
    let text = "name: a\nmodul: x\ninterval: 3\nhttp: {follow: 'yes'}";
    let _none: Option<Probe> = decode(&tree(text), &mut problems);
    problems.sort();
    let hints: Vec<_> = problems.iter().map(|problem| problem.hint.clone().unwrap()).collect();
    assert_eq!(
        hints,
        [
            "did you mean \"module\"? known keys: name, module, interval, targets, labels, http",
            "write 30s",
            "write it without quotes",
        ]
    );
}

#[test]
fn a_missing_key_is_told_once_and_only_when_it_is_missing() {
    assert_eq!(bad::<Probe>("name: a\ninterval: 1s"), ["1:1 missing key \"module\""]);
    assert_eq!(bad::<Probe>("name: a\nmodule: []"), ["2:9 expected text, found a list"]);
    assert_eq!(bad::<Probe>("name: a\nmodul: x"), ["2:1 unknown key \"modul\""]);
    let list = "- {name: [], module: x}\n- {name: a}\n- {module: 1, http: 7}\n";
    assert_eq!(
        bad::<Vec<Probe>>(list),
        [
            "1:10 expected text, found a list",
            "2:3 missing key \"module\"",
            "3:3 missing key \"name\"",
            "3:21 expected a mapping, found \"7\"",
        ]
    );
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<u8>")]
struct NotEmpty;

impl TryFrom<Vec<u8>> for NotEmpty {
    type Error = &'static str;

    fn try_from(list: Vec<u8>) -> Result<Self, &'static str> {
        if list.is_empty() { Err("the list is empty") } else { Ok(Self) }
    }
}

#[test]
fn what_follows_from_a_mistake_is_not_told() {
    assert_eq!(bad::<NotEmpty>("[]"), ["1:1 the list is empty"]);
    let told = bad::<NotEmpty>("[x]");
    assert_eq!(told, ["1:2 expected a whole number from 0 to 255, found \"x\""]);
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum When {
    Never,
    Cron(String),
    Every { interval: Seconds },
    Http(Http),
}

#[test]
fn enums_are_chosen_by_key_or_word() {
    assert_eq!(good::<When>("never"), When::Never);
    assert_eq!(good::<When>("never:"), When::Never);
    assert_eq!(good::<When>("cron: '* * * * *'"), When::Cron("* * * * *".into()));
    assert_eq!(good::<When>("every: {interval: 5s}"), When::Every { interval: Seconds(5) });
    assert_eq!(good::<When>("http:"), When::Http(Http::default()));
    assert_eq!(bad::<When>("cronn: x"), ["1:1 unknown word \"cronn\""]);
    assert_eq!(
        bad::<When>("{cron: x, http: {}}"),
        ["1:11 expected exactly one of never, cron, every, http, found \"cron\" and \"http\""]
    );
    assert_eq!(
        bad::<When>("[]"),
        ["1:1 expected exactly one of never, cron, every, http, found a list"]
    );
    assert_eq!(bad::<When>("cron"), ["1:1 \"cron\" needs a value of its own"]);
    assert_eq!(bad::<When>("never: 5"), ["1:8 \"never\" takes no value, found \"5\""]);
}

#[test]
fn several_mistakes_inside_variants_are_told() {
    let text = "- http: {codes: [x], folow: 1, follow: 7}\n- nevr\n- every: {interval: 5}\n";
    assert_eq!(
        bad::<Vec<When>>(text),
        [
            "1:18 expected a whole number from 0 to 65535, found \"x\"",
            "1:22 unknown key \"folow\"",
            "1:40 expected true or false, found \"7\"",
            "2:3 unknown word \"nevr\"",
            "3:21 \"5\" is no duration",
        ]
    );
}

#[test]
fn a_map_is_read_entry_by_entry() {
    let mut problems = Problems::new();
    let node = tree("a: {follow: 1}\nb: {follow: on}\nc:\n");
    let read = decode_map::<Http>(&node, &mut problems);
    assert_eq!(read.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(told(&problems), ["1:13 expected true or false, found \"1\""]);
    let mut problems = Problems::new();
    assert!(decode_map::<Http>(&tree("[]"), &mut problems).is_empty());
    assert_eq!(decode_list::<u8>(&tree("[1, 2]"), &mut problems).len(), 2);
    assert_eq!(told(&problems), ["1:1 expected a mapping, found a list"]);
}

#[test]
fn merged_keys_are_decoded_and_checked() {
    let text = "- &a {follow: yes, codes: [1]}\n- {<<: *a, codes: [2]}\n";
    let read: Vec<Http> = good(text);
    assert_eq!(read[1], Http { codes: vec![2], follow: true });
    let told = bad::<Vec<Http>>("- &a {x: 1}\n- {<<: *a}\n");
    assert_eq!(told, ["1:7 unknown key \"x\""]);
}

#[test]
fn many_mistakes_end() {
    let text = format!("[{}]", vec!["x"; 1000].join(", "));
    assert_eq!(bad::<Vec<u8>>(&text).len(), 201);
}
