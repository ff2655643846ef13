//! Text to tree: places, anchors, merges, bounds, syntax.

use std::fmt::Write;

use super::*;

#[test]
fn every_node_knows_its_place() {
    let node = tree("a: 1\nb:\n  - x\n  - {c: \"é, y\", d: z}\nn:\nblock: |\n  one\n  two\n");
    let place = |path: &str| {
        let at = node.find(path).at();
        (at.line, at.column, at.length)
    };
    assert_eq!(place("a"), (1, 4, 1));
    assert_eq!(place("b.0"), (3, 5, 1));
    assert_eq!(place("b.1.c"), (4, 9, 6));
    assert_eq!(place("b.1.d"), (4, 20, 1));
    assert_eq!((place("n").0, place("n").1), (5, 1));
    assert_eq!((place("block").0, place("block").1), (7, 3));
    assert_eq!(node.key_at("b").map(|at| (at.line, at.column)), Some((2, 1)));
    assert_eq!(place("b.7.c").0, 3);
    assert_eq!(node.get("block").and_then(Node::text), Some("one\ntwo\n"));
}

#[test]
fn a_key_with_dots_is_found() {
    let node = tree("headers:\n  x.y: 1\n");
    assert_eq!(node.find("headers.x.y").text(), Some("1"));
    assert_eq!(node.find("headers.x.z").at().line, 2);
    assert_eq!(node.find("").at().line, 1);
}

#[test]
fn merge_keys_work_as_in_go() {
    let node = tree(
        "base: &b {x: 1, y: 1}\nother: &o {y: 2, z: 2}\none: {<<: *b, x: 9}\n\
         list: {<<: [*b, *o], w: 0}\ninline:\n  <<: {q: 7}\nquoted: {\"<<\": 1}\n",
    );
    assert_eq!(node.find("one.x").text(), Some("9"));
    assert_eq!(node.find("one.y").text(), Some("1"));
    assert_eq!(node.find("list.y").text(), Some("1"), "the earlier of a list wins");
    assert_eq!(node.find("list.z").text(), Some("2"));
    assert_eq!(node.find("inline.q").text(), Some("7"));
    assert!(node.find("inline").get("<<").is_none());
    assert_eq!(node.find("quoted").get("<<").and_then(Node::text), Some("1"));
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let told = refused("a:\n  <<: 5\nb:\n  <<: [1]\n");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("2:7 only a mapping"), "{told:?}");
}

#[test]
fn a_duplicate_key_names_both_places() {
    let mut problems = Problems::new();
    parse(Source::named("t.yml", "a: 1\nb: 2\na: 3\nc: {x: 1, x: 2}\n"), &mut problems);
    assert_eq!(told(&problems), ["3:1 duplicate key \"a\"", "4:11 duplicate key \"x\""]);
    let shown = problems.to_string();
    assert!(shown.contains("::: t.yml:1:1") && shown.contains("first defined here"), "{shown}");
}

#[test]
fn only_the_first_document_is_read() {
    let mut problems = Problems::new();
    let node = parse(Source::inline("a: 1\n---\nb: 2\n"), &mut problems).unwrap();
    assert!(node.get("a").is_some() && node.get("b").is_none());
    assert!(!problems.is_fatal());
    assert_eq!(told(&problems), ["2:1 only the first document of a file is read"]);
}

#[test]
fn an_empty_file_is_an_error_and_an_empty_mapping_is_not() {
    for text in ["", "\n\n", "# nothing\n", "\u{feff}"] {
        assert_eq!(refused(text), ["1:1 the file is empty"], "{text:?}");
    }
    assert!(tree("{}").entries().is_empty());
    assert!(tree("---\n").is_null());
}

#[test]
fn bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{list}]").unwrap();
    }
    let told = refused(&text);
    assert!(told[0].contains("aliases expand to more than 200000 values"), "{told:?}");

    let nested: Vec<String> = (0..50).map(|level| format!("&n{level} [")).collect();
    let nested = nested.concat();
    let nested = format!("{nested}{}{}", "x,".repeat(100_000), "]".repeat(50));
    let told = refused(&nested);
    assert!(told[0].contains("anchors mark more than 4000000 values"), "{told:?}");

    let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
    assert!(refused(&deep)[0].contains("nested more than 64 levels"), "{:?}", refused(&deep));

    let mut chained = String::from("a0: &a0 [[[[[x]]]]]\n");
    for level in 1..20 {
        writeln!(chained, "a{level}: &a{level} [[[[[*a{}]]]]]", level - 1).unwrap();
    }
    assert!(refused(&chained)[0].contains("with this alias, nested more"), "{chained}");
    assert!(refused("a: &a [*a]")[0].contains("stands inside the value"));
}

#[test]
fn syntax_errors_have_a_place_and_a_hint() {
    let told = refused("a:\n\tb: 1\n");
    assert_eq!(told, ["2:1 a tab in the indentation"]);
    let told = refused("a: b: c\n");
    assert!(told[0].starts_with("1:"), "{told:?}");
    let told = refused("a: [1, 2\nb: 3\n");
    assert_eq!(told.len(), 1, "{told:?}");
    let told = refused("a: *nobody\n");
    assert!(told[0].starts_with("1:4 ") && told[0].contains("anchor"), "{told:?}");
    let mut problems = Problems::new();
    parse(Source::inline("a: {b: ${NAME}}\n"), &mut problems);
    assert!(problems.to_string().contains("must be in quotes"), "{problems}");
    let told = refused("? [a, b]\n: c\n");
    assert!(told[0].starts_with("1:3 a key must be"), "{told:?}");
}

#[test]
fn bytes_that_are_not_utf8_are_placed() {
    let problem = Source::from_bytes("t.yml", b"a: 1\nb: \xc3\xa9\xff\n").unwrap_err();
    let at = problem.at.as_ref().unwrap();
    assert_eq!((at.line, at.column), (2, 5));
    assert_eq!(problem.what, "byte 0xff is not UTF-8");
    assert!(problem.to_string().contains("t.yml:2:5"));
}

#[test]
fn a_missing_file_is_a_problem_with_its_name() {
    let problem = Source::read(std::path::Path::new("/nowhere/x.yml")).unwrap_err();
    assert!(problem.what.starts_with("cannot read /nowhere/x.yml: "), "{}", problem.what);
}

#[test]
fn a_byte_order_mark_does_not_move_columns() {
    let source = Source::from_bytes("t.yml", b"\xef\xbb\xbfa: 1\n").unwrap();
    let node = parse(source, &mut Problems::new()).unwrap();
    assert_eq!(node.key_at("a").map(|at| at.column), Some(1));
}

#[test]
fn windows_line_ends_are_fine() {
    let node = tree("a: 1\r\nb: x\r\n");
    assert_eq!(node.find("b").at().line, 2);
    assert_eq!(node.find("b").text(), Some("x"));
}

#[test]
fn a_problem_is_shown_with_its_line_and_a_caret() {
    let source = std::sync::Arc::new(Source::named("probes.yml", "probes:\n  - targts: [ü]\n"));
    let at = Position { source, line: 2, column: 5, length: 6 };
    let problem =
        Problem::error("unknown key \"targts\"").at(&at).hint("did you mean \"targets\"?");
    let expected = "error: unknown key \"targts\"\n --> probes.yml:2:5\n  |\n2 |   - targts: [ü]\n  \
                    |     ^^^^^^\n  = help: did you mean \"targets\"?";
    assert_eq!(problem.to_string(), expected);
}

#[test]
fn long_lines_and_long_lists_are_cut() {
    let line = format!("a: {}X{}", "v".repeat(1000), "w".repeat(1000));
    let source = std::sync::Arc::new(Source::named("t.yml", &line));
    let at = Position { source, line: 1, column: 1004, length: 1 };
    let shown = Problem::error("odd").at(&at).to_string();
    assert!(shown.len() < 600 && shown.contains('X'), "{shown}");

    let mut problems = Problems::new();
    (0..150).for_each(|number| problems.push(Problem::error(format!("problem {number}"))));
    assert!(problems.to_string().ends_with("\nand 50 more\n"));
}

#[test]
fn control_signs_do_not_reach_the_terminal() {
    let source = std::sync::Arc::new(Source::named("t.yml", "a: \u{1b}[31m"));
    let at = Position { source, line: 1, column: 4, length: 1 };
    assert!(!Problem::error("odd").at(&at).to_string().contains('\u{1b}'));
}

#[test]
fn a_tab_is_named_where_it_is_refused() {
    let mut problems = Problems::new();
    parse(Source::named("t.yml", "a:\n  b:\tc\n"), &mut problems);
    let hints: Vec<_> = problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert_eq!(hints, ["write spaces instead of tabs"]);
}
