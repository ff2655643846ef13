//! The environment in values.

use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "FIVE" => Some("5".into()),
        "NAME" => Some("grafana".into()),
        "EMPTY" => Some(String::new()),
        "TILDE" => Some("~".into()),
        _ => None,
    }
}

fn expanded(text: &str) -> (Node, Problems) {
    let mut node = tree(text);
    let mut problems = Problems::new();
    node.expand(&lookup, &mut problems);
    (node, problems)
}

#[test]
fn references_are_replaced() {
    for (written, text) in [
        ("${NAME}", "grafana"),
        ("http://${NAME}:${FIVE}/", "http://grafana:5/"),
        ("${NOPE:-x}", "x"),
        ("${NOPE:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("a${EMPTY}b", "ab"),
        ("$${NAME}", "${NAME}"),
        ("$1-$NAME-$$", "$1-$NAME-$$"),
        ("${1}.${NAME}", "${1}.grafana"),
        ("'${NAME}'", "grafana"),
    ] {
        let (node, problems) = expanded(&format!("k: {written}"));
        assert!(problems.is_empty(), "{written}: {problems}");
        assert_eq!(node.find("k").text(), Some(text), "{written}");
    }
}

#[test]
fn keys_are_left_alone_and_the_result_is_typed() {
    let (node, _) = expanded("${NAME}: ${FIVE}\nq: '${FIVE}'\nt: ${TILDE}\n");
    assert_eq!(node.entries()[0].name(), "${NAME}");
    let mut problems = Problems::new();
    assert_eq!(decode::<u8>(node.find("${NAME}"), &mut problems), Some(5));
    assert_eq!(decode::<String>(node.find("t"), &mut problems), Some("~".into()));
    assert!(problems.is_empty());
    assert_eq!(decode::<u8>(node.find("q"), &mut problems), None);
}

#[test]
fn mistakes_are_placed_at_the_reference() {
    let text = "a: x${NOPE}\nb: \"ü\\n ${NAME} ${LOST}\"\nc: ${bad-name}\nd: ${OPEN\ne: |\n  one\n  \
                two ${GONE}\n";
    let (_, problems) = expanded(text);
    assert_eq!(
        told(&problems),
        [
            "1:5 NOPE is not set in the environment",
            "2:17 LOST is not set in the environment",
            "3:4 \"bad-name\" is not a name of the environment",
            "4:4 \"${\" without a closing brace",
            "7:7 GONE is not set in the environment",
        ]
    );
}

#[test]
fn a_value_from_the_environment_is_never_shown() {
    let (node, _) = expanded("k: ${NAME}\n");
    let mut problems = Problems::new();
    let _none: Option<u8> = decode(node.find("k"), &mut problems);
    let shown = problems.to_string();
    assert!(shown.contains("found \"${NAME}\"") && !shown.contains("grafana"), "{shown}");
    assert_eq!(dump(&node, &|_| Sight::AsWritten), "k: ${NAME}\n");
}

#[test]
fn an_alias_is_told_once() {
    let (_, problems) = expanded("a: &a ${NOPE}\nb: *a\n");
    assert_eq!(problems.len(), 1);
}
