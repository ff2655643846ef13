//! The block `exporter:` as written.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::model::{Bounds, mistake};
use crate::probe::exposition::Format;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Names, or names with labels and bounds.
    pub require_metrics: Option<Vec<Requirement>>,
    /// Default 1.
    pub min_samples: Option<u64>,
    pub max_samples: Option<u64>,
    /// The name before `_build_info`: `node_exporter`.
    pub expect_exporter: Option<String>,
    /// Default `auto`: as `Content-Type` says.
    pub format: Option<FormatSpec>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatSpec {
    Auto,
    Text,
    OpenMetrics,
}

impl FormatSpec {
    pub(super) const fn format(self) -> Option<Format> {
        match self {
            Self::Auto => None,
            Self::Text => Some(Format::Text),
            Self::OpenMetrics => Some(Format::OpenMetrics),
        }
    }
}

/// A metric that must be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    pub name: Box<str>,
    /// A sample counts when it has all of these.
    pub labels: Vec<(String, String)>,
    /// Every sample that counts must lie within.
    pub bounds: Bounds,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    min: Option<f64>,
    max: Option<f64>,
}

impl Requirement {
    fn named<E: de::Error>(name: &str) -> Result<Self, E> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
        if name.is_empty() || !name.bytes().all(good) {
            return Err(E::custom(mistake(
                format_args!("{name:?} is not the name of a metric"),
                "write a name such as up, or {name: up, labels: {job: x}, min: 1}",
            )));
        }
        let bounds = Bounds { min: None, max: None };
        Ok(Self { name: name.into(), labels: Vec::new(), bounds })
    }
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMore;

        impl<'de> de::Visitor<'de> for NameOrMore {
            type Value = Requirement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a metric, or a map with name, labels, min and max")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Requirement, E> {
                Requirement::named(name)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Requirement, A::Error> {
                let detailed = Detailed::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let mut requirement = Requirement::named(&detailed.name)?;
                requirement.labels = detailed.labels.unwrap_or_default().into_iter().collect();
                requirement.bounds = Bounds { min: detailed.min, max: detailed.max };
                Ok(requirement)
            }
        }

        deserializer.deserialize_any(NameOrMore)
    }
}
