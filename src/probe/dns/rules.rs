//! What the records of a section must look like.

use serde::Deserialize;

use crate::model::{Answer, Fault, HINT, Mistakes, Pattern, Unknown};

/// The most of a record's text that a fault repeats.
const MAX_SHOWN: usize = 200;

/// A block `validate_…_rrs:`. Patterns are read as text, as a bad one must not keep a file from loading that blackbox
/// loads.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesSpec {
    pub fail_if_matches_regexp: Option<Vec<String>>,
    /// Fails unless every record matches every pattern, whatever its name says.
    pub fail_if_all_match_regexp: Option<Vec<String>>,
    pub fail_if_not_matches_regexp: Option<Vec<String>>,
    pub fail_if_none_matches_regexp: Option<Vec<String>>,
}

/// The rules of one section, compiled.
#[derive(Debug)]
pub(super) struct Rules {
    section: &'static str,
    matches: Vec<Pattern>,
    all_match: Vec<Pattern>,
    not_matches: Vec<Pattern>,
    none_matches: Vec<Pattern>,
    /// A pattern that no section without records passes.
    demanded: Option<Box<str>>,
    /// The first pattern that cannot be used. As upstream has it, that is noticed when there is a record to look at.
    broken: Option<Box<str>>,
}

impl Rules {
    pub(super) fn build(
        section: &'static str,
        key: &str,
        spec: Option<RulesSpec>,
        mistakes: &mut Mistakes,
    ) -> Self {
        let spec = spec.unwrap_or_default();
        if spec.fail_if_all_match_regexp.as_ref().is_some_and(|list| !list.is_empty()) {
            mistakes.warning(
                &format!("{key}.fail_if_all_match_regexp"),
                "fails when a record does not match, the opposite of its name",
                "to demand that all records match, fail_if_not_matches_regexp says what it does",
            );
        }
        let demanding = [&spec.fail_if_not_matches_regexp, &spec.fail_if_none_matches_regexp];
        let demanded = demanding.into_iter().flatten().flatten().next();
        let demanded = demanded.map(|text| text.as_str().into());
        let mut broken: Option<Box<str>> = None;
        let mut compile = |rule: &str, list: Option<Vec<String>>| {
            let mut patterns = Vec::new();
            for text in list.unwrap_or_default() {
                match Pattern::parse(&text) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(wrong) => {
                        let (what, hint) = wrong.split_once(HINT).unwrap_or((&wrong, ""));
                        mistakes.warning(&format!("{key}.{rule}"), what, hint);
                        broken.get_or_insert_with(|| format!("{key}.{rule}: {what}").into());
                    }
                }
            }
            patterns
        };
        Self {
            section,
            matches: compile("fail_if_matches_regexp", spec.fail_if_matches_regexp),
            all_match: compile("fail_if_all_match_regexp", spec.fail_if_all_match_regexp),
            not_matches: compile("fail_if_not_matches_regexp", spec.fail_if_not_matches_regexp),
            none_matches: compile("fail_if_none_matches_regexp", spec.fail_if_none_matches_regexp),
            demanded,
            broken,
        }
    }

    /// Without rules the records need not even become text.
    pub(super) const fn is_empty(&self) -> bool {
        self.matches.is_empty()
            && self.all_match.is_empty()
            && self.demanded.is_none()
            && self.broken.is_none()
    }

    /// Record by record, with the rules in the order of blackbox's documentation; what concerns all records comes last.
    pub(super) fn check(&self, records: &[String]) -> Result<(), Answer> {
        match (&self.demanded, &self.broken) {
            (Some(pattern), _) if records.is_empty() => {
                return Err(self.fault(format_args!("no records, so none matches {pattern:?}")));
            }
            (_, Some(why)) if !records.is_empty() => return Err(Unknown::Setup(why.clone()).into()),
            _ => {}
        }
        let mut unlike = None;
        let mut any = false;
        for record in records {
            if let Some(pattern) = self.matches.iter().find(|p| hit(p, record)) {
                return Err(self.fault(format_args!("{:?} matches {pattern:?}", shown(record))));
            }
            if let Some(pattern) = self.all_match.iter().find(|p| !hit(p, record)) {
                unlike.get_or_insert((record, pattern));
            }
            if let Some(pattern) = self.not_matches.iter().find(|p| !hit(p, record)) {
                let record = shown(record);
                return Err(self.fault(format_args!("{record:?} does not match {pattern:?}")));
            }
            any |= self.none_matches.iter().any(|p| hit(p, record));
        }
        if let Some((record, pattern)) = unlike {
            let record = shown(record);
            return Err(self.fault(format_args!("{record:?} does not match {pattern:?}")));
        }
        match self.none_matches.first() {
            Some(pattern) if !any => {
                let count = records.len();
                Err(self.fault(format_args!("none of {count} records matches {pattern:?}")))
            }
            _ => Ok(()),
        }
    }

    fn fault(&self, what: std::fmt::Arguments<'_>) -> Answer {
        Fault::DnsRecords { detail: format!("{} section: {what}", self.section).into() }.into()
    }
}

fn hit(pattern: &Pattern, record: &str) -> bool {
    pattern.is_match(record.as_bytes())
}

fn shown(record: &str) -> String {
    record.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [&str; 3] = [
        "a.example.\t60\tIN\tA\t127.0.0.1",
        "a.example.\t60\tIN\tA\t127.0.0.2",
        "a.example.\t60\tIN\tAAAA\t::1",
    ];

    /// Whether records pass the one rule `key` with `patterns`.
    fn passes(key: &str, patterns: &[&str], records: &[&str]) -> bool {
        let list = Some(patterns.iter().map(|p| (*p).to_owned()).collect());
        let mut spec = RulesSpec::default();
        match key {
            "matches" => spec.fail_if_matches_regexp = list,
            "all_match" => spec.fail_if_all_match_regexp = list,
            "not_matches" => spec.fail_if_not_matches_regexp = list,
            _ => spec.fail_if_none_matches_regexp = list,
        }
        let mut mistakes = Mistakes::default();
        let rules = Rules::build("answer", "dns.x", Some(spec), &mut mistakes);
        assert_eq!(rules.broken, None);
        let records: Vec<_> = records.iter().map(|r| (*r).to_owned()).collect();
        rules.check(&records).is_ok()
    }

    #[test]
    fn each_rule_fails_when_blackbox_s_does() {
        let a = "\tA\t";
        assert!(!passes("matches", &["none", a], &RECORDS));
        assert!(passes("matches", &["none"], &RECORDS));
        assert!(passes("matches", &[a], &[]));

        assert!(!passes("not_matches", &[a], &RECORDS), "one does not match");
        assert!(passes("not_matches", &["^a.example.\t", "IN"], &RECORDS));
        assert!(!passes("not_matches", &[a], &[]), "no records");

        assert!(!passes("all_match", &[a], &RECORDS), "fails when not all match");
        assert!(passes("all_match", &["IN"], &RECORDS), "and passes when they do");
        assert!(passes("all_match", &[a], &[]), "no records pass");

        assert!(passes("none_matches", &["nothing", "::1"], &RECORDS));
        assert!(!passes("none_matches", &["nothing"], &RECORDS));
        assert!(!passes("none_matches", &["IN"], &[]), "no records");
        for key in ["matches", "all_match", "not_matches", "none_matches"] {
            assert!(passes(key, &[], &[]), "{key}: an empty list is no rule");
        }
    }

    #[test]
    fn patterns_that_blackbox_would_only_refuse_later_are_warnings_with_a_place() {
        let spec = RulesSpec {
            fail_if_all_match_regexp: Some(vec!["x".into()]),
            fail_if_matches_regexp: Some(vec!["(".into(), "(?=x)".into()]),
            ..RulesSpec::default()
        };
        let mut mistakes = Mistakes::default();
        let rules = Rules::build("answer", "dns.validate_answer_rrs", Some(spec), &mut mistakes);
        let found = mistakes.into_vec();
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|m| m.warning));
        assert_eq!(found[0].key, "dns.validate_answer_rrs.fail_if_all_match_regexp");
        assert_eq!(found[1].key, "dns.validate_answer_rrs.fail_if_matches_regexp");
        assert!(found[1].hint.is_some());
        assert!(rules.broken.as_ref().unwrap().contains("regular expression"));
        assert!(rules.check(&[]).is_ok(), "noticed when there is a record");
        let answer = rules.check(&["x".to_owned()]).unwrap_err();
        assert_eq!(answer.reason(), Some("setup"));
    }
}
