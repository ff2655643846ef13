//! Rules of loading, and of reading a target.

use super::*;
use crate::model::Mistake;

fn build(edit: impl FnOnce(&mut Spec)) -> (Option<Prober>, Vec<Mistake>) {
    let mut spec = Spec { query_name: Some("a.example".into()), ..Spec::default() };
    edit(&mut spec);
    let mut blocks = Blocks { dns: Some(spec), ..Blocks::default() };
    let mut mistakes = Mistakes::default();
    let prober = Prober::build(&mut blocks, &mut mistakes);
    (prober, mistakes.into_vec())
}

#[test]
fn a_server_has_a_port_or_the_default_one() {
    for (target, expected) in [
        ("a.example", Some(("a.example", 53))),
        ("a.example:5353", Some(("a.example", 5353))),
        ("192.0.2.1", Some(("192.0.2.1", 53))),
        ("2001:db8::1", Some(("2001:db8::1", 53))),
        ("[2001:db8::1]", Some(("2001:db8::1", 53))),
        ("[2001:db8::1]:5353", Some(("2001:db8::1", 5353))),
        ("", None),
        (":53", None),
        ("[]", None),
        ("a.example:", None),
        ("a.example:dns", None),
        ("a.example:65536", None),
    ] {
        assert_eq!(server(target, 53), expected, "{target:?}");
    }
    assert_eq!(server("a.example", 853), Some(("a.example", 853)));
}

#[test]
fn without_a_block_the_root_is_asked_for_any() {
    let mut mistakes = Mistakes::default();
    let prober = Prober::build(&mut Blocks::default(), &mut mistakes).unwrap();
    assert!(mistakes.is_empty());
    assert_eq!((prober.question.name.as_str(), prober.question.kind), (".", words::ANY));
    assert_eq!(prober.valid_rcodes, [words::NOERROR]);
}

#[test]
fn the_name_is_fully_qualified_and_keeps_its_case() {
    let (prober, mistakes) = build(|spec| spec.query_name = Some("Www.Example".to_owned()));
    assert!(mistakes.is_empty());
    assert_eq!(prober.unwrap().question.name, "Www.Example.");
}

#[test]
fn what_blackbox_refuses_at_load_is_an_error() {
    for (key, edit) in [
        ("dns.query_name", (|spec| spec.query_name = None) as fn(&mut Spec)),
        ("dns.query_name", |spec| spec.query_name = Some(String::new())),
        ("dns.query_name", |spec| spec.query_name = Some("a..example".to_owned())),
        ("dns.query_name", |spec| spec.query_name = Some("a".repeat(64))),
        ("dns.query_type", |spec| spec.query_type = Some("a".to_owned())),
        ("dns.query_type", |spec| spec.query_type = Some("TYPE257".to_owned())),
        ("dns.query_class", |spec| spec.query_class = Some("X".to_owned())),
    ] {
        let (prober, mistakes) = build(edit);
        assert!(prober.is_none(), "{key}");
        let found: Vec<_> = mistakes.iter().map(|m| (m.key.as_str(), m.warning)).collect();
        assert_eq!(found, [(key, false)]);
    }
}

#[test]
fn what_blackbox_notices_only_in_a_run_is_a_warning() {
    let bad = || {
        Some(RulesSpec {
            fail_if_matches_regexp: Some(vec!["(".to_owned()]),
            ..RulesSpec::default()
        })
    };
    for (key, edit) in [
        (
            "dns.transport_protocol",
            (|spec| spec.transport_protocol = Some("sctp".to_owned())) as fn(&mut Spec),
        ),
        ("dns.transport_protocol", |spec| spec.dns_over_tls = Some(true)),
        ("dns.valid_rcodes", |spec| spec.valid_rcodes = Some(vec!["NOPE".to_owned()])),
        ("dns.source_ip_address", |spec| spec.source_ip_address = Some("x".to_owned())),
    ] {
        let (prober, mistakes) = build(edit);
        assert!(prober.unwrap().broken.is_some(), "{key}");
        let found: Vec<_> = mistakes.iter().map(|m| (m.key.as_str(), m.warning)).collect();
        assert_eq!(found, [(key, true)]);
    }
    let (prober, mistakes) = build(|spec| spec.validate_additional_rrs = bad());
    assert!(prober.is_some());
    assert_eq!(mistakes[0].key, "dns.validate_additional_rrs.fail_if_matches_regexp");
}

#[test]
fn an_empty_list_of_codes_accepts_nothing_and_says_so() {
    let (prober, mistakes) = build(|spec| spec.valid_rcodes = Some(Vec::new()));
    let prober = prober.unwrap();
    assert!(!prober.broken.is_some() && prober.valid_rcodes.is_empty());
    assert!(mistakes[0].warning);
}

#[test]
fn over_tls_the_port_is_its_own() {
    let (prober, mistakes) = build(|spec| {
        spec.transport_protocol = Some("tcp".to_owned());
        spec.dns_over_tls = Some(true);
    });
    assert!(mistakes.is_empty());
    assert_eq!(prober.unwrap().transport.port(), 853);
}
