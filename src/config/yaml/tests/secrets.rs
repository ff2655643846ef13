//! Secrets are in no message and in no dump.

use crate::model::mistake;
use std::collections::BTreeMap;

use super::*;

fn is_secret(key: &str) -> bool {
    matches!(key, "password" | "secrets" | "key")
}

fn source(text: &str) -> Source {
    Source::named("t.yml", text).with_secret_keys(is_secret)
}

/// Points at each line in turn and shows it.
fn all_lines_shown(source: Source) -> String {
    let source = std::sync::Arc::new(source);
    parse(source.clone(), &mut Problems::new());
    let count = source.text.lines().count();
    let at = |line| Position { source: source.clone(), line, column: 1, length: 1 };
    (1..=count).map(|line| Problem::error("odd").at(&at(line)).to_string() + "\n").collect()
}

#[test]
fn no_excerpt_shows_a_secret() {
    for text in [
        "a: 1\npassword: hunter2\n",
        "{user: u, password: hunter2, x: hunter2}\n",
        "key: |\n  hunter2\n  hunter2\nb: 1\n",
        "secrets:\n- hunter2\n- \"hunter2\"\n",
        "secrets: [\n  hunter2,\n  hunter2]\n",
        "a:\n  - password: \"x\n      hunter2\"\n",
        "x: {password:\n hunter2}\n",
        "\"password\" : hunter2\n",
        "a: &p hunter2\nb: {password: *p}\n",
        "password: hunter2\na: [unclosed\n",
        "key:\n  deep:\n    deeper: hunter2\n: : :\n",
    ] {
        let shown = all_lines_shown(source(text));
        let plain = shown.replace("x: hunter2", "");
        assert!(!plain.contains("hunter2"), "{text}\n{shown}");
        assert!(shown.contains(SECRET), "{text}\n{shown}");
    }
}

#[test]
fn what_is_not_secret_is_shown() {
    let shown = all_lines_shown(source("password: hunter2\nuser: bob\nlist:\n  - one\n"));
    assert!(shown.contains("user: bob") && shown.contains("- one"), "{shown}");
    let shown = all_lines_shown(source("list:\n  - {key: hunter2}\n  - {user: bob}\n"));
    assert!(shown.contains("{user: bob}") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn no_message_quotes_a_secret() {
    let node = parse(source("{a: {password: hunter2}}"), &mut Problems::new()).unwrap();
    let mut problems = Problems::new();
    let _none: Option<BTreeMap<String, BTreeMap<String, u8>>> = decode(&node, &mut problems);
    let shown = problems.to_string();
    assert!(shown.contains("from 0 to 255, found <secret>"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct Talkative;

impl TryFrom<BTreeMap<String, String>> for Talkative {
    type Error = String;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
        Err(mistake(format!("no good: {map:?}"), format!("not {:?}", map.values())))
    }
}

#[test]
fn a_talkative_type_gives_no_secret_away() {
    let text = "{password: 'hunter\"2', user: '${USER}', plain: word}";
    let mut node = parse(source(text), &mut Problems::new()).unwrap();
    let mut problems = Problems::new();
    node.expand(&|_| Some("from-outside".into()), &mut problems);
    assert!(decode::<Talkative>(&node, &mut problems).is_none());
    let shown = problems.to_string();
    assert!(!shown.contains("hunter") && !shown.contains("from-outside"), "{shown}");
    assert!(shown.contains("${USER}") && shown.contains("plain"), "{shown}");
}

#[test]
fn a_password_in_a_url_is_not_in_an_excerpt() {
    let text = "a: ['http://ü:hunter2@b/', 'http://c/@']\n";
    let node = parse(source(text), &mut Problems::new()).unwrap();
    let mut problems = Problems::new();
    assert!(decode::<BTreeMap<String, Vec<bool>>>(&node, &mut problems).is_none());
    let shown = problems.to_string();
    assert!(shown.contains("['http://<secret>@b/', 'http://c/@']"), "{shown}");
    assert!(shown.contains("found \"http://<secret>@b/\""), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    // Also where a type quotes what it refuses.
    let node = parse(source("a: 'http://u:hunter2@b/'\n"), &mut Problems::new()).unwrap();
    let mut problems = Problems::new();
    assert!(decode::<Talkative>(&node, &mut problems).is_none());
    let shown = problems.to_string();
    assert!(shown.contains("http://<secret>@b/") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_dump_hides_secrets_and_keeps_the_rest() {
    let text = "a: {password: hunter2, user: bob}\nsecrets: [x]\nkey:\nother: [1, '2']\n\
                urls: ['http://u:p@a/?b=c', 'http://a/', '${URL}']\n";
    let node = parse(source(text), &mut Problems::new()).unwrap();
    let expected = "a:\n  password: <secret>\n  user: <secret>\nsecrets: <secret>\nkey: null\nother:\n  \
                    - 1\n  - \"2\"\nurls:\n  - \"http://<secret>@a/?b=<secret>\"\n  \
                    - \"http://a/\"\n  - \"${URL}\"\n";
    let sight = |path: &[&str]| match path {
        ["a", "user"] => Sight::Secret,
        ["urls"] => Sight::Url,
        _ => Sight::AsWritten,
    };
    assert_eq!(dump(&node, &sight), expected);
}
