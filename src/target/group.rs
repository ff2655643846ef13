//! Prometheus's target groups, and what their labels mean here.
//!
//! | label | meaning |
//! | --- | --- |
//! | `__hostname` | name to present instead of the address's own |
//! | `__header_X_Scope` | header `X-Scope`: `_` stands for `-`, which a label's name cannot have |
//! | `__authorization_type`, `__authorization_credentials_file` | the target's credentials; the secret itself never is a label |
//! | `__disabled` | why the target is not asked; empty for a target that is |
//! | `__disabled_until` | first day (UTC) on which it is asked again |
//! | `__override_KEY` | a key of the module that is set otherwise, as far as it allows; `__override_header_X_Scope` for a header |
//!
//! A secret's file is seen from the file of targets. Other labels with `__` in front are dropped, as Prometheus does after
//! relabelling, but for `__authorization_…`: a target would be asked without its credentials. A label that watchpost sets itself
//! becomes `exported_…`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::spec::{check_header, flaw};
use crate::model::{
    Authorization, Disabled, HINT, InvalidLabel, Labels, RESERVED_LABELS, Secret, Target,
    override_key,
};

/// The longest address.
pub const MAX_ADDRESS_BYTES: usize = 8192;
/// The most targets of one file.
pub const MAX_TARGETS: usize = 200_000;

const HOSTNAME: &str = "__hostname";
const HEADER: &str = "__header_";
const AUTHORIZATION: &str = "__authorization";
const AUTHORIZATION_TYPE: &str = "__authorization_type";
const AUTHORIZATION_FILE: &str = "__authorization_credentials_file";
const DISABLED: &str = "__disabled";
const DISABLED_UNTIL: &str = "__disabled_until";
const OVERRIDE: &str = "__override_";

/// An item of a discovery file: addresses that share labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGroup {
    #[serde(default)]
    pub targets: Vec<String>,
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Reads the groups of a YAML file; the text says what is wrong, and where. JSON is read here.
pub type Decoder = Arc<dyn Fn(&Path, &[u8]) -> Result<Vec<FileGroup>, String> + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    #[error("group {group}: {label}")]
    Label { group: usize, label: InvalidLabel },
    #[error("group {group}: target {target:?} {flaw}")]
    Address { group: usize, target: String, flaw: &'static str },
    #[error("group {group}: {what}")]
    Meaning { group: usize, what: String },
    #[error("more than {MAX_TARGETS} targets")]
    TooMany,
}

/// The targets of a file. Groups are counted from 1 in what is said about them. One bad group refuses the file: half a
/// list would silently watch half of an estate.
pub fn targets_of(groups: Vec<FileGroup>) -> Result<Vec<Target>, InvalidGroup> {
    let count: usize = groups.iter().map(|g| g.targets.len()).sum();
    if count > MAX_TARGETS {
        return Err(InvalidGroup::TooMany);
    }
    let mut targets = Vec::with_capacity(count);
    for (index, group) in groups.into_iter().enumerate() {
        let number = index + 1;
        let shared = shared(number, group.labels.unwrap_or_default())?;
        for address in group.targets {
            if let Some(flaw) = flaw(&address) {
                let target = address.chars().take(100).collect();
                return Err(InvalidGroup::Address { group: number, target, flaw });
            }
            targets.push(Target { address, ..shared.clone() });
        }
    }
    Ok(targets)
}

/// What a group's labels say about each of its targets.
fn shared(group: usize, labels: BTreeMap<String, String>) -> Result<Target, InvalidGroup> {
    let meaning = |what: String| InvalidGroup::Meaning { group, what };
    let mut target = Target::plain("");
    let mut kept = BTreeMap::new();
    let mut special = BTreeMap::new();
    for (name, value) in labels {
        if let Some(header) = name.strip_prefix(HEADER) {
            let header = header.replace('_', "-");
            check_header(&header, &value).map_err(|wrong| {
                meaning(wrong.replace(HINT, "; ").trim_end_matches("; ").to_owned())
            })?;
            target.headers.insert(header, Secret::new(value));
        } else if let Some(key) = name.strip_prefix(OVERRIDE) {
            if !value.is_empty() {
                target.overrides.insert(override_key(key), value);
            }
        } else if name.starts_with("__") {
            special.insert(name, value);
        } else {
            kept.insert(name, value);
        }
    }
    let mut take = |name: &str| special.remove(name).filter(|value| !value.is_empty());
    target.hostname = take(HOSTNAME);
    if let Some(flaw) = target.hostname.as_deref().and_then(flaw) {
        return Err(meaning(format!("{HOSTNAME} {flaw}")));
    }
    let scheme = take(AUTHORIZATION_TYPE);
    target.authorization = authorization(scheme, take(AUTHORIZATION_FILE)).map_err(meaning)?;
    target.disabled = disabled(take(DISABLED), take(DISABLED_UNTIL).as_deref()).map_err(meaning)?;
    if let Some(name) = special.keys().find(|name| name.starts_with(AUTHORIZATION)) {
        return Err(meaning(format!(
            "{name} is not known; credentials are given by {AUTHORIZATION_FILE}"
        )));
    }
    target.labels =
        Labels::try_new(exported(kept)).map_err(|label| InvalidGroup::Label { group, label })?;
    Ok(target)
}

fn authorization(
    scheme: Option<String>,
    file: Option<String>,
) -> Result<Option<Authorization>, String> {
    let Some(file) = file else {
        return match scheme {
            None => Ok(None),
            Some(_) => Err(format!("{AUTHORIZATION_TYPE} without {AUTHORIZATION_FILE}")),
        };
    };
    Ok(Some(Authorization {
        scheme: scheme.unwrap_or_else(|| "Bearer".to_owned()),
        credentials: None,
        credentials_file: Some(file),
    }))
}

fn disabled(reason: Option<String>, until: Option<&str>) -> Result<Option<Disabled>, String> {
    let until = until
        .map(|day| {
            day.parse()
                .map_err(|_| format!("{DISABLED_UNTIL} {day:?} is not a day such as 2027-01-01"))
        })
        .transpose()?;
    if reason.is_none() && until.is_none() {
        return Ok(None);
    }
    let reason = reason.unwrap_or_else(|| "disabled by discovery".to_owned());
    Ok(Some(Disabled { until, reason }))
}

/// Moves labels that watchpost sets itself out of the way, as Prometheus does.
fn exported(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for reserved in RESERVED_LABELS {
        let Some(value) = labels.remove(reserved) else { continue };
        let mut name = format!("exported_{reserved}");
        while labels.contains_key(&name) {
            name.insert_str(0, "exported_");
        }
        labels.insert(name, value);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(targets: &[&str], labels: &[(&str, &str)]) -> FileGroup {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        FileGroup {
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
            labels: Some(labels),
        }
    }

    #[test]
    fn reserved_labels_say_how_to_ask() {
        let labels = [
            ("__hostname", "shop.example"),
            ("__header_X_Scope", "one"),
            ("__authorization_type", "Token"),
            ("__authorization_credentials_file", "/run/t"),
            ("__disabled", "not launched"),
            ("__disabled_until", "2027-01-01"),
            ("__override_method", "HEAD"),
            ("__override_body", ""),
            ("__override_header_X_Scope", "two"),
            ("__address__", "x"),
            ("__meta_az", "b"),
            ("job", "theirs"),
            ("exported_job", "older"),
            ("team", "a"),
        ];
        let targets = targets_of(vec![group(&["a:1", "b:1"], &labels)]).unwrap();
        assert_eq!(targets.len(), 2);
        let target = &targets[1];
        assert_eq!(target.address, "b:1");
        assert_eq!(target.hostname.as_deref(), Some("shop.example"));
        assert_eq!(target.headers["X-Scope"].reveal(), "one");
        let authorization = target.authorization.as_ref().unwrap();
        assert_eq!(authorization.scheme, "Token");
        assert_eq!(authorization.credentials_file.as_deref(), Some("/run/t"));
        let disabled = target.disabled.as_ref().unwrap();
        assert_eq!(disabled.reason, "not launched");
        assert!(disabled.until.is_some());
        let overrides: Vec<_> = target.overrides.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(overrides, [("headers.x-scope", "two"), ("method", "HEAD")]);
        let labels: Vec<_> = target.labels.iter().collect();
        assert_eq!(
            labels,
            [("exported_exported_job", "theirs"), ("exported_job", "older"), ("team", "a")]
        );
    }

    #[test]
    fn empty_ones_say_nothing() {
        let labels = [("__hostname", ""), ("__disabled", ""), ("__disabled_until", "")];
        assert_eq!(targets_of(vec![group(&["a:1"], &labels)]).unwrap(), [Target::plain("a:1")]);
    }

    #[test]
    fn one_bad_group_refuses_the_file() {
        let good = group(&["a:1"], &[]);
        for (bad, says) in [
            (group(&["a:1"], &[("1st", "x")]), "group 2: \"1st\" is not a label name"),
            (group(&["a:1", ""], &[]), "group 2: target \"\" is empty"),
            (group(&["a\n1"], &[]), "blank or a control"),
            (group(&["a:1"], &[("__disabled_until", "soon")]), "\"soon\" is not a day"),
            (group(&["a:1"], &[("__hostname", "a b")]), "__hostname has a blank"),
            (group(&["a:1"], &[("__authorization_type", "Token")]), "without __authorization_cred"),
            (group(&["a:1"], &[("__authorization_credentials", "x")]), "given by __authorization"),
            (group(&["a:1"], &[("__header_X", "a\nsecret")]), "the value of header \"X\""),
            (group(&["a:1"], &[("big", &"x".repeat(5000))]), "longer than"),
            (group(&vec!["a:1"; MAX_TARGETS], &[]), "more than 200000 targets"),
        ] {
            let message = targets_of(vec![good.clone(), bad]).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
            assert!(!message.contains("secret") && !message.contains(HINT), "{message}");
        }
    }
}
