//! Paths with wildcards in their last part.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use super::MAX_FILES;
use crate::model::mistake;

/// A path whose last part may have `*` (any signs) and `?` (one sign) in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    #[error("{0:?} does not end in .json, .yml or .yaml")]
    Extension(String),
    #[error("{0:?} has a wildcard in a folder's name")]
    Folder(String),
}

const EXTENSIONS: [&str; 3] = ["json", "yml", "yaml"];

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let path = Path::new(text);
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if !EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(extension)) {
            return Err(InvalidPattern::Extension(text.to_owned()));
        }
        let folder = path.parent().map_or("", |p| p.to_str().unwrap_or_default());
        if folder.contains(['*', '?']) {
            return Err(InvalidPattern::Folder(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// This pattern, as seen from the folder of the file that it was written in.
    #[must_use]
    pub fn within(&self, folder: &Path) -> Self {
        Self(folder.join(&self.0).to_string_lossy().into_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The files that match now, sorted; more than [`MAX_FILES`] are an error. A folder that is not there has no files.
    pub(super) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let path = Path::new(&self.0);
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !name.contains(['*', '?']) {
            return Ok(vec![path.to_owned()]);
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let entries = match folder.unwrap_or_else(|| Path::new(".")).read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let found = entry?.file_name();
            let matched = found.to_str().is_some_and(|found| matches(name, found));
            if matched && files.len() == MAX_FILES {
                return Err(io::Error::other(format!("more than {MAX_FILES} files match")));
            }
            if matched {
                files.push(path.with_file_name(found));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Whether `name` matches. As in a shell, a wildcard does not match a leading dot: that is where writers keep their
/// temporary files.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go back to: after the last star, with one more sign given to it.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                p = after;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(|wrong| {
            let hint =
                "write a path such as targets/*.yml; wildcards may stand in the file's name only";
            de::Error::custom(mistake(wrong, hint))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, name, matched) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".yml", false),
            ("*.yml", ".a.yml", false),
            ("*.yml", "a.yaml", false),
            ("a*b*c.yml", "a-b-b-c.yml", true),
            ("a*b*c.yml", "a-c.yml", false),
            ("?.yml", "ä.yml", true),
            ("?.yml", "ab.yml", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn only_what_can_be_read_is_a_pattern() {
        assert!(Pattern::parse("a/b-*.JSON").is_ok());
        assert_eq!(Pattern::parse("a/*"), Err(InvalidPattern::Extension("a/*".into())));
        assert_eq!(Pattern::parse("*/a.yml"), Err(InvalidPattern::Folder("*/a.yml".into())));
        let seen = Pattern::parse("t/*.yml").unwrap().within(Path::new("/etc/w"));
        assert_eq!(seen.as_str(), "/etc/w/t/*.yml");
    }
}
