//! An answer of `/probe` in the text format, read strictly and without the code under test.

use std::collections::{BTreeMap, BTreeSet};

/// A series' labels, in the order of the page.
pub(crate) type Labels = Vec<(String, String)>;

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) series: Vec<(Labels, f64)>,
}

impl Family {
    pub(crate) fn label_names(&self) -> BTreeSet<&str> {
        self.series.iter().flat_map(|(labels, _)| labels).map(|(name, _)| name.as_str()).collect()
    }
}

/// The families in the order of the page.
#[derive(Debug, Default, Clone)]
pub(crate) struct Page {
    pub(crate) families: Vec<Family>,
}

impl Page {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in text.lines() {
            page.take(line).ok_or_else(|| format!("not a line of metrics: {line:?}"))?;
        }
        Ok(page)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ')?;
            self.families.push(Family {
                name: name.to_owned(),
                help: Some(help.to_owned()),
                ..Family::default()
            });
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ')?;
            if self.families.last().is_none_or(|family| family.name != name) {
                self.families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            self.families.last_mut()?.kind = Some(kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = parse_series(series)?;
            let value = value.parse().ok()?;
            let family = self.families.last_mut().filter(|family| family.name == name)?;
            family.series.push((labels, value));
        }
        Some(())
    }

    pub(crate) fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// The value of the first series of this name that has at least these labels.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        let (name, labels) = parse_series(series)?;
        let has = |found: &Labels| labels.iter().all(|label| found.contains(label));
        self.family(&name)?.series.iter().find(|(found, _)| has(found)).map(|(_, value)| *value)
    }

    /// The phases of the family that tells durations by phase.
    pub(crate) fn phases(&self) -> BTreeSet<&str> {
        let phased = |family: &&Family| family.name.ends_with("_duration_seconds");
        let labels = self.families.iter().filter(phased).flat_map(|family| &family.series);
        let labels = labels.flat_map(|(labels, _)| labels);
        labels.filter(|(name, _)| name == "phase").map(|(_, phase)| phase.as_str()).collect()
    }

    /// What is wrong with the page whatever it tells.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut seen = BTreeMap::new();
        for (at, family) in self.families.iter().enumerate() {
            let name = &family.name;
            if seen.insert(name, at).is_some() {
                flaws.push(format!("{name} comes twice"));
            }
            if family.help.is_none() || family.kind.as_deref() != Some("gauge") {
                flaws.push(format!("{name} has no HELP, or is no gauge: {:?}", family.kind));
            }
            if family.series.is_empty() {
                flaws.push(format!("{name} has no series"));
            }
            let sorted = |labels: &Labels| labels.is_sorted_by(|a, b| a.0 < b.0);
            if !family.series.iter().all(|(labels, _)| sorted(labels)) {
                flaws.push(format!("labels of {name} are not sorted"));
            }
            let all: BTreeSet<&Labels> = family.series.iter().map(|(labels, _)| labels).collect();
            if all.len() != family.series.len() {
                flaws.push(format!("a series of {name} comes twice"));
            }
        }
        if !self.families.is_sorted_by(|a, b| a.name < b.name) {
            flaws.push("families are not sorted".to_owned());
        }
        flaws
    }
}

/// A name with its labels, if any.
pub(crate) fn parse_series(text: &str) -> Option<(String, Labels)> {
    let Some((name, rest)) = text.split_once('{') else {
        return Some((text.to_owned(), Labels::new()));
    };
    let mut rest = rest.strip_suffix('}')?;
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let (value, behind) = unquote(quoted)?;
        labels.push((label.to_owned(), value));
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    Some((name.to_owned(), labels))
}

/// The text before the next quotation mark, and what comes behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.split_at(at + 1).1)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            _ => value.push(c),
        }
    }
    None
}
