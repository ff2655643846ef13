//! `docs/fault-cases.md` names, for every fault case, tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const CASES: usize = 28;

/// Every name in a row's last column, in backquotes.
fn names(row: &str) -> Vec<&str> {
    let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap();
    last.split('`').skip(1).step_by(2).collect()
}

fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(text.split("fn ").skip(1).filter_map(|rest| {
                let name = rest.split(['(', '<']).next()?;
                Some(name.to_owned())
            }));
        }
    }
}

#[test]
fn every_fault_case_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/fault-cases.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&root.join("src"), &mut known);
    functions(&root.join("tests"), &mut known);
    let mut wrong = Vec::new();
    for case in 1..=CASES {
        let begin = format!("| F{case} |");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(&begin)).collect();
        let [row] = rows.as_slice() else {
            wrong.push(format!("F{case} has {} rows", rows.len()));
            continue;
        };
        let names = names(row);
        if names.is_empty() {
            wrong.push(format!("F{case} names no test"));
        }
        let missing = names.iter().filter(|name| !known.contains(**name));
        wrong.extend(missing.map(|name| format!("F{case}: there is no fn {name}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
