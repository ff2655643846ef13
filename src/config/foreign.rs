//! Files in somebody else's vocabulary, such as that of `--web.config.file`: read as strictly as ours.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::modules::place;
use super::secrets::is_secret_key;
use super::yaml::{self, Problems, Source};
use crate::model::Mistakes;

/// Reads a file into a `T`, and checks it. What is odd comes with it; an empty file is a default.
pub fn read_foreign<T: DeserializeOwned + Default>(
    path: &Path,
    check: impl FnOnce(&T, &mut Mistakes),
) -> Result<(T, Problems), Problems> {
    let mut problems = Problems::new();
    let source = match Source::read(path) {
        Ok(source) => Arc::new(source.with_secret_keys(is_secret)),
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    let Some(root) = yaml::parse(source, &mut problems) else { return Err(problems) };
    let value =
        if root.is_null() { Some(T::default()) } else { yaml::decode(&root, &mut problems) };
    if let Some(value) = &value {
        let mut mistakes = Mistakes::default();
        check(value, &mut mistakes);
        for mistake in mistakes.into_vec() {
            problems.push(place(mistake, &root));
        }
    }
    problems.sort();
    match value {
        Some(value) if !problems.is_fatal() => Ok((value, problems)),
        _ => Err(problems),
    }
}

fn is_secret(key: &str) -> bool {
    is_secret_key(key) || key == "basic_auth_users"
}
