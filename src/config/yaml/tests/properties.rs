//! Nothing that a file contains may panic, and what is printed reads as the same again.

use proptest::prelude::*;

use super::*;

/// What a tree means, without places.
fn meaning(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) => format!("{:?}={:?}", scalar.resolve(), scalar.text),
        Kind::Sequence(items) => {
            format!("[{}]", items.iter().map(meaning).collect::<Vec<_>>().join(","))
        }
        Kind::Mapping(entries) => {
            let entries = entries.iter();
            let each = entries.map(|entry| format!("{:?}:{}", entry.name(), meaning(&entry.value)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(","))
        }
    }
}

fn survives(text: &str) {
    let mut problems = Problems::new();
    let Ok(source) = Source::from_bytes("t.yml", text.as_bytes()) else { return };
    let parsed = parse(source, &mut problems);
    let _shown = problems.to_string();
    let Some(mut node) = parsed else { return };
    let printed = dump(&node, &|_| Sight::AsWritten);
    let mut again = Problems::new();
    let second = parse(Source::inline(&printed), &mut again);
    assert!(!again.is_fatal(), "{text:?}\n{printed}\n{again}");
    let nulls = |text: String| text.replace("Null=\"\"", "Null=\"null\"");
    let second = second.map(|node| nulls(meaning(&node)));
    assert_eq!(second, Some(nulls(meaning(&node))), "{text:?}\n{printed}");
    node.expand(&|name| (name.len() > 1).then(|| name.to_owned()), &mut problems);
    let _value: Option<serde_json::Value> = decode(&node, &mut problems);
    let _shown = problems.to_string();
}

#[test]
fn odd_texts_survive() {
    for text in [
        "a",
        "- a\n- - b\n  - c\n",
        "|\n a\n b\n",
        "'- '",
        "? \n: x",
        "a: >\n  x\n\n  y\n",
        "\"\\0\"",
        "[? a : b]",
        "a: ~\nnull: 1\n~: 2\n",
        "- |+\n  x\n\n",
        "- |2\n    x\n",
        "!!int '5'",
        "!!null x",
        "'': ''",
        "- {a: {b: c}}\n- [[]]\n",
        "%YAML 1.2\n---\na",
        "a: 'x: y'\n",
        "- # c\n",
        "\"\\u2028\"",
        "a: \"\\N\\_\\L\"",
        "!<x> a",
        "!e!x a",
        "--- |\n x\n",
        "--- >-\n x\n y\n",
        "a:\n- b\n- c\n",
    ] {
        survives(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&String::from_utf8_lossy(&bytes));
        let _kept = Source::from_bytes("t.yml", &bytes);
    }

    #[test]
    fn no_yaml_like_text_panics(text in "([ \n\t]{0,4}[-?:,\\[\\]{}#&*!|>'\"%@~$a0é.<]{1,4}){0,30}") {
        survives(&text);
    }

    #[test]
    fn trees_print_as_themselves(
        text in "([a-z]{1,3}: ?([a-z0-9:#'\\-]{0,6}|\\[[a-z, ]{0,6}\\]|\\|\n  [a-z \n]{0,6}|&a x|\\*a)\n){0,6}"
    ) {
        survives(&text);
    }

    #[test]
    fn any_text_is_quoted_so_that_it_reads_the_same(text in "\\PC{0,40}|[ -~\n\t\r\u{85}\u{a0}]{0,40}") {
        let json = serde_json::to_string(&text).unwrap();
        survives(&format!("- {json}\n- k: {json}\n"));
    }
}
