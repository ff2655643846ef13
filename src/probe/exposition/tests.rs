use proptest::prelude::*;

use super::*;

/// Everything that a sink is told, as text.
fn told(sample: Sample<'_>) -> String {
    let labels: Vec<_> = sample.labels.iter().collect();
    format!(
        "{} {:?} {labels:?} {} {:?} {} {:?}",
        sample.line,
        sample.name,
        sample.value,
        sample.timestamp_ms,
        sample.family.name,
        sample.family.kind
    )
}

fn read_in(
    format: Format,
    limits: Limits,
    chunks: &[&[u8]],
) -> (Vec<String>, Result<Summary, Invalid>) {
    let mut reader = Reader::new(format, limits);
    let mut seen = Vec::new();
    let mut sink = |sample: Sample<'_>| seen.push(told(sample));
    for chunk in chunks {
        if let Err(invalid) = reader.feed(chunk, &mut sink) {
            assert_eq!(reader.feed(b"x", &mut sink), Err(invalid.clone()));
            return (seen, Err(invalid));
        }
    }
    let finished = reader.finish(&mut sink);
    (seen, finished)
}

fn read(format: Format, text: &str) -> (Vec<String>, Result<Summary, Invalid>) {
    read_in(format, Limits::default(), &[text.as_bytes()])
}

#[test]
fn content_types_name_the_format() {
    let rows = [
        ("", Some(Format::Text)),
        ("text/plain", Some(Format::Text)),
        ("Text/Plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
        ("application/openmetrics-text; version=1.0.0", Some(Format::OpenMetrics)),
        ("text/html; charset=utf-8", None),
        ("application/json", None),
    ];
    for (content_type, expected) in rows {
        assert_eq!(Format::from_content_type(content_type), expected, "{content_type}");
    }
}

#[test]
fn samples_carry_their_family_labels_and_place() {
    let text =
        "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\",p=\"a\\n\\\\\\x\"} 2 5\nh_sum 1\nup 1\n";
    let (seen, finished) = read(Format::Text, text);
    let expected = [
        r#"3 "h_bucket" [("le", "1"), ("p", "a\n\\\\x")] 2 Some(5) h Histogram"#,
        r#"4 "h_sum" [] 1 None h Histogram"#,
        r#"5 "up" [] 1 None up Unknown"#,
    ];
    assert_eq!(seen, expected);
    let bytes = text.len() as u64;
    let summary = Summary { samples: 3, families: 2, lines: 5, bytes, has_eof: false };
    assert_eq!(finished, Ok(summary));
}

#[test]
fn openmetrics_seconds_become_milliseconds_and_an_exemplar_leaves_no_label() {
    let text = "# TYPE a counter\na_total{x=\"y\"} 1 5.25 # {id=\"z\"} 2 3\n# EOF\n";
    let (seen, finished) = read(Format::OpenMetrics, text);
    assert_eq!(seen, [r#"2 "a_total" [("x", "y")] 1 Some(5250) a Counter"#]);
    assert!(finished.unwrap().has_eof);
}

#[test]
fn a_line_feed_in_a_label_value_is_part_of_it() {
    let (seen, finished) = read(Format::Text, "a{b=\"1\n2\n3\"} 4\nc 5\n");
    assert_eq!(
        seen,
        [r#"1 "a" [("b", "1\n2\n3")] 4 None a Unknown"#, r#"4 "c" [] 5 None c Unknown"#]
    );
    assert_eq!(finished.unwrap().lines, 4);
}

#[test]
fn a_quote_that_never_closes_is_told_where_it_opens() {
    let (_, finished) = read(Format::Text, "up 1\na{b=\"1} 4\nc 5\nd 6\n");
    let invalid = finished.unwrap_err();
    assert_eq!((invalid.line, invalid.column), (2, 5));
    assert_eq!(
        invalid.to_string(),
        "line 2, column 5: the closing quote is missing: \"a{b=\\\"1} 4\""
    );
}

#[test]
fn an_endless_line_fails_early_and_is_not_kept() {
    let chunk = vec![b'a'; 64 * 1024];
    let mut reader = Reader::new(Format::Text, Limits::default());
    let mut sink = |_: Sample<'_>| {};
    let mut fed = 0;
    let invalid = loop {
        assert!(fed < 100_000_000, "the line is never too long");
        fed += chunk.len();
        if let Err(invalid) = reader.feed(&chunk, &mut sink) {
            break invalid;
        }
    };
    assert_eq!(invalid.kind, InvalidKind::LineTooLong);
    assert!(fed <= MAX_LINE_BYTES + chunk.len());
    assert!(reader.carry.capacity() <= 2 * MAX_LINE_BYTES);
    assert!(invalid.excerpt.len() <= EXCERPT_BYTES);
}

#[test]
fn an_open_quote_across_a_million_lines_is_bounded_as_one_line() {
    let text = format!("a{{b=\"{}", "\",c=\"\n".repeat(400_000));
    let (_, finished) = read(Format::Text, &text);
    assert_eq!(finished.unwrap_err().kind, InvalidKind::LineTooLong);
}

#[test]
fn samples_and_families_are_counted_against_their_limits() {
    let few = Limits { max_samples: 2, ..Limits::default() };
    let (seen, finished) = read_in(Format::Text, few, &[b"a 1\na 2\na 3\n"]);
    let invalid = finished.unwrap_err();
    assert_eq!((seen.len(), invalid.line, invalid.kind), (2, 3, InvalidKind::TooManySamples));
    assert!(invalid.kind.is_limit());
    let few = Limits { max_families: 2, ..Limits::default() };
    let (_, finished) = read_in(Format::Text, few, &[b"a 1\nb 2\na 3\n# HELP c x\n"]);
    let invalid = finished.unwrap_err();
    assert_eq!((invalid.line, invalid.kind), (4, InvalidKind::TooManyFamilies));
}

#[test]
fn many_labels_are_compared_as_few_are() {
    let labels = |last: &str| {
        let many: Vec<_> = (0..40).map(|n| format!("l{n}=\"\"")).collect();
        format!("a{{{},{last}=\"\"}} 1\n", many.join(","))
    };
    assert!(read(Format::Text, &labels("z")).1.is_ok());
    let invalid = read(Format::Text, &labels("l3")).1.unwrap_err();
    assert_eq!(invalid.kind, InvalidKind::LabelTwice);
    assert_eq!(invalid.column, labels("l3").rfind("l3").unwrap() + 1);
}

#[test]
fn labels_of_kinds_are_distinct() {
    let labels: std::collections::HashSet<_> =
        InvalidKind::ALL.iter().map(|kind| kind.label()).collect();
    assert_eq!(labels.len(), InvalidKind::ALL.len());
}

/// Bytes in which the grammar's own characters are frequent.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "a",
        "{",
        "}",
        "\"",
        "\\",
        "\n",
        "=",
        ",",
        " ",
        "1",
        "# ",
        "HELP ",
        "TYPE ",
        "counter",
        "# EOF",
        "# {",
        "b=\"c\"",
        "\u{e9}",
        "up 1\n",
        "\t",
        "\r",
        "-",
        "NaN",
        "# TYPE a counter\n",
    ]);
    let piece = prop_oneof![
        9 => token.prop_map(|token| token.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

#[test]
fn what_follows_the_end_is_quoted_whole() {
    let text = b"# EOF\nfoo{f=\"g\"} 1\nbar 2\n";
    let whole = read_in(Format::OpenMetrics, Limits::default(), &[text]);
    let invalid = whole.1.clone().unwrap_err();
    assert_eq!((invalid.line, invalid.kind), (2, InvalidKind::AfterEof));
    assert_eq!(&*invalid.excerpt, "foo{f=\"g\"} 1");
    for cut in 0..text.len() {
        let (head, tail) = text.split_at(cut);
        let cut = read_in(Format::OpenMetrics, Limits::default(), &[head, tail]);
        assert_eq!(cut, whole);
    }
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        text in texts(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        is_text: bool,
    ) {
        let format = if is_text { Format::Text } else { Format::OpenMetrics };
        let limits = Limits { max_line_bytes: 60, max_samples: 20, max_families: 8 };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for end in cuts.into_iter().chain([text.len()]) {
            chunks.push(&text[start..end]);
            start = end;
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        let whole = read_in(format, limits, &[&text]);
        prop_assert_eq!(&read_in(format, limits, &chunks), &whole);
        prop_assert_eq!(&read_in(format, limits, &bytes), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(text: Vec<u8>, is_text: bool) {
        let format = if is_text { Format::Text } else { Format::OpenMetrics };
        let (_, _) = read_in(format, Limits::default(), &[&text]);
    }
}
