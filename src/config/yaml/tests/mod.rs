//! What people write, and what they are told about it.

mod decoding;
mod expanding;
mod properties;
mod reading;
mod secrets;
mod shapes;

use serde::de::DeserializeOwned;

use super::*;

fn tree(text: &str) -> Node {
    let mut problems = Problems::new();
    let node = parse(Source::named("t.yml", text), &mut problems);
    assert!(problems.is_empty(), "{problems}");
    node.unwrap()
}

/// `line:column what` of each problem, in order of place.
fn told(problems: &Problems) -> Vec<String> {
    let mut problems = problems.clone();
    problems.sort();
    problems
        .iter()
        .map(|problem| match &problem.at {
            Some(at) => format!("{}:{} {}", at.line, at.column, problem.what),
            None => problem.what.clone(),
        })
        .collect()
}

fn refused(text: &str) -> Vec<String> {
    let mut problems = Problems::new();
    parse(Source::named("t.yml", text), &mut problems);
    told(&problems)
}

fn good<T: DeserializeOwned>(text: &str) -> T {
    let mut problems = Problems::new();
    let value = decode(&tree(text), &mut problems);
    assert!(problems.is_empty(), "{text}\n{problems}");
    value.unwrap()
}

fn bad<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let mut problems = Problems::new();
    let value: Option<T> = decode(&tree(text), &mut problems);
    assert!(value.is_none(), "half-read value for {text}");
    told(&problems)
}
