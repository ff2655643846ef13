//! Label sets: sorted, checked, cheap to share.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::mistake;

/// Labels that watchpost sets itself on every result.
pub const RESERVED_LABELS: [&str; 5] = ["job", "instance", "module", "watchpost", "probe_region"];

/// How long a label's name or value may be, in bytes.
const MAX_LABEL_BYTES: usize = 4096;
/// How many labels one target may have.
const MAX_LABELS: usize = 64;

/// Names and values, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    #[error(
        "{0:?} is not a label name: it may have letters, digits and _ and not begin with a digit"
    )]
    Name(String),
    #[error("label {0:?} is set by watchpost itself")]
    Reserved(String),
    #[error("label {0:?} begins with __: such names are Prometheus's own")]
    Internal(String),
    #[error("the value of label {0:?} is longer than {MAX_LABEL_BYTES} bytes")]
    TooLong(String),
    #[error("more than {MAX_LABELS} labels")]
    TooMany,
}

impl Labels {
    /// Checks names, sizes and reserved names.
    pub fn try_new(pairs: BTreeMap<String, String>) -> Result<Self, InvalidLabel> {
        if pairs.len() > MAX_LABELS {
            return Err(InvalidLabel::TooMany);
        }
        for (name, value) in &pairs {
            if !is_label_name(name) {
                return Err(InvalidLabel::Name(name.clone()));
            }
            // Prometheus refuses a whole page that has `__name__` among its labels.
            if name.starts_with("__") {
                return Err(InvalidLabel::Internal(name.clone()));
            }
            if RESERVED_LABELS.contains(&name.as_str()) {
                return Err(InvalidLabel::Reserved(name.clone()));
            }
            if name.len() > MAX_LABEL_BYTES || value.len() > MAX_LABEL_BYTES {
                return Err(InvalidLabel::TooLong(name.clone()));
            }
        }
        Ok(Self(pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels with `over` on top: where both have a name, `over` wins.
    #[must_use]
    pub fn merged(&self, over: &Self) -> Self {
        let mut all: BTreeMap<Arc<str>, Arc<str>> = self.0.iter().cloned().collect();
        all.extend(over.0.iter().cloned());
        Self(all.into_iter().collect())
    }
}

/// Whether Prometheus takes `name` as a label's name (its classic character set).
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
        Self::try_new(pairs)
            .map_err(|wrong| de::Error::custom(mistake(wrong, "rename or remove this label")))
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, InvalidLabel> {
        Labels::try_new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn later_labels_win() {
        let base = labels(&[("team", "a"), ("tier", "1")]).unwrap();
        let merged = base.merged(&labels(&[("team", "b")]).unwrap());
        assert_eq!(merged.iter().collect::<Vec<_>>(), [("team", "b"), ("tier", "1")]);
    }

    #[test]
    fn our_own_names_are_refused() {
        assert_eq!(labels(&[("job", "x")]), Err(InvalidLabel::Reserved("job".into())));
        assert_eq!(labels(&[("1st", "x")]), Err(InvalidLabel::Name("1st".into())));
        for name in ["__name__", "__x"] {
            assert_eq!(labels(&[(name, "x")]), Err(InvalidLabel::Internal(name.into())));
        }
        assert!(labels(&[("team", ""), ("_x", "")]).is_ok());
    }
}
