//! From a found address to what is asked.

use serde::{Deserialize, Deserializer, de};

use crate::model::mistake;

/// Where the address goes.
const GAP: &str = "{}";

/// What is asked, with `{}` for the address that was found: `https://{}/-/ready`. The address alone where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    pub(super) fn apply(&self, address: &str) -> String {
        self.0.replace(GAP, address)
    }
}

impl Default for Template {
    fn default() -> Self {
        Self(GAP.to_owned())
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains(GAP) {
            return Ok(Self(text));
        }
        let what = format_args!("{text:?} has no {{}} in it");
        let hint = "write {} where the found address belongs, such as https://{}/-/ready";
        Err(de::Error::custom(mistake(what, hint)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_fills_the_gap() {
        let read = |text: &str| serde_json::from_value::<Template>(text.into());
        assert_eq!(Template::default().apply("a:1"), "a:1");
        assert_eq!(read("https://{}/x").unwrap().apply("[::1]:1"), "https://[::1]:1/x");
        assert!(read("https://a/").unwrap_err().to_string().contains("has no {}"));
    }
}
