//! One case as written, and the reading of all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use watchpost::config::yaml::{self, Problems, Source};

use super::files::Files;
use super::server::{Bound, Running, Server};
use super::wanted::Wanted;

/// The header that tells how long the scraper waits.
pub(crate) const TIMEOUT_HEADER: &str = "X-Prometheus-Scrape-Timeout-Seconds";
/// Where a case does not say: long enough for a busy machine.
const PATIENT: &str = "30";
const MAIN: &str = "main";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(rename = "name")]
    _name: String,
    /// The only server; `servers` for several, of which `main` is the target unless `target` says otherwise.
    pub(crate) server: Option<Server>,
    #[serde(default)]
    pub(crate) servers: BTreeMap<String, Server>,
    /// What stands below the module's name, as it is written.
    pub(crate) module: String,
    pub(crate) target: Option<String>,
    /// More parameters of the query.
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    /// The value of the header for the timeout; empty for none.
    pub(crate) grants: Option<String>,
    /// The environment of the process that is asked.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    /// Its arguments.
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    /// Other sections of its configuration.
    #[serde(default)]
    pub(crate) sections: String,
    /// Series and their values.
    #[serde(default)]
    pub(crate) expect: BTreeMap<String, Wanted>,
    /// The families of blackbox_exporter that are there, beside the three that always are; names of sets are allowed.
    pub(crate) only: Option<Vec<String>>,
    pub(crate) phases: Option<Vec<String>>,
    /// Default 200.
    pub(crate) status: Option<u16>,
    /// What the answer's body has, for answers that are no page of metrics.
    #[serde(default)]
    pub(crate) body: Vec<String>,
    /// What the servers were told, by server.
    #[serde(default)]
    pub(crate) seen: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) unseen: BTreeMap<String, Vec<String>>,
    /// How often they were asked.
    #[serde(default)]
    pub(crate) asked: BTreeMap<String, usize>,
}

/// Every question in every circumstance: the keys of `all`, `each` and `ways` are those of a case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    each: Vec<Value>,
    ways: Vec<Value>,
    all: Value,
    /// Texts that stand for longer ones, filled in last.
    words: BTreeMap<String, String>,
}

impl Product {
    fn cases(&self, file: &str) -> Vec<Written> {
        let pairs = self.each.iter().flat_map(|each| self.ways.iter().map(move |way| (each, way)));
        pairs.map(|(each, way)| self.case(each, way, file)).collect()
    }

    fn case(&self, each: &Value, way: &Value, file: &str) -> Written {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
        let name = format!("{}: {}", text(each, "name"), text(way, "name"));
        let prober = text(each, "prober");
        let mut value = self.all.clone();
        merge(&mut value, each);
        merge(&mut value, way);
        let entries = value.as_object_mut().unwrap();
        entries.remove("prober");
        entries.insert("name".to_owned(), name.clone().into());
        let words: BTreeMap<String, String> =
            serde_json::from_value(entries.remove("words").unwrap()).unwrap();
        fill(&mut value, &self.words);
        fill(&mut value, &words);
        Written { prober, file: file.to_owned(), name, value }
    }
}

/// Puts `more` into `value`: maps are joined, of anything else the later counts.
fn merge(value: &mut Value, more: &Value) {
    match (value, more) {
        (Value::Object(value), Value::Object(more)) => {
            for (key, more) in more {
                merge(value.entry(key.clone()).or_insert(Value::Null), more);
            }
        }
        (value, more) => *value = more.clone(),
    }
}

/// A case with its place.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// The name of its folder.
    pub(crate) prober: String,
    pub(crate) file: String,
    pub(crate) name: String,
    value: Value,
}

/// A case whose servers run.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) written: Written,
    pub(crate) case: Case,
    pub(crate) running: BTreeMap<String, Running>,
}

/// Reads a data file of the tests.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> T {
    let mut problems = Problems::new();
    let source = Source::read(path).unwrap_or_else(|problem| panic!("{problem}"));
    let node = yaml::parse(source, &mut problems);
    let value = node.and_then(|node| yaml::decode(&node, &mut problems));
    value.unwrap_or_else(|| panic!("{problems}"))
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/probe")
}

/// Every case of every file, in the order of the files' names.
pub(crate) fn all() -> Vec<Written> {
    let mut cases = Vec::new();
    for path in listed(&folder().with_file_name("probe-products")) {
        let product: Product = read(&path);
        cases.extend(product.cases(&path.file_name().unwrap().to_string_lossy()));
    }
    for prober in listed(&folder()).into_iter().filter(|path| path.is_dir()) {
        let kind = prober.file_name().unwrap().to_string_lossy().into_owned();
        for path in listed(&prober) {
            let file = format!("{kind}/{}", path.file_name().unwrap().display());
            let list: Vec<Value> = read(&path);
            cases.extend(list.into_iter().map(|value| {
                let name = value["name"].as_str().unwrap_or_default().to_owned();
                assert!(!name.is_empty(), "{file}: a case without a name");
                Written { prober: kind.clone(), file: file.clone(), name, value }
            }));
        }
    }
    cases
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

impl Written {
    pub(crate) fn place(&self) -> String {
        format!("{}: {}", self.file, self.name)
    }

    /// The module with its placeholders; for who only wants to know its keys.
    pub(crate) fn module(&self) -> &str {
        self.value["module"].as_str().unwrap_or_default()
    }

    /// Binds the ports of the servers, fills the case in, and starts them.
    pub(crate) fn start(self, files: &Files) -> Ready {
        let place = self.place();
        let mut bound = BTreeMap::new();
        let single = self.value.get("server").map(|server| (MAIN, server));
        let several = self.value.get("servers").and_then(Value::as_object);
        let several = several.into_iter().flatten().map(|(name, server)| (name.as_str(), server));
        for (name, server) in single.into_iter().chain(several) {
            bound.insert(name.to_owned(), Bound::new(server, files));
        }
        let mut words = BTreeMap::from([("folder".to_owned(), files.path())]);
        for (name, bound) in &bound {
            for (word, text) in bound.words() {
                if name == MAIN {
                    words.insert(word.to_owned(), text.clone());
                }
                words.insert(format!("{name}.{word}"), text);
            }
        }
        let mut value = self.value.clone();
        fill(&mut value, &words);
        let mut case: Case =
            serde_json::from_value(value).unwrap_or_else(|problem| panic!("{place}: {problem}"));
        let mut specs = std::mem::take(&mut case.servers);
        specs.extend(case.server.take().map(|server| (MAIN.to_owned(), server)));
        if case.target.is_none() {
            case.target = specs.get(MAIN).map(|server| server.target(&bound[MAIN]));
        }
        let start = |(name, bound)| {
            let spec: Server = specs.remove(&name).unwrap();
            (name, spec.start(bound, files))
        };
        let running = bound.into_iter().map(start).collect();
        Ready { written: self, case, running }
    }
}

/// Fills every text in, keys too.
fn fill(value: &mut Value, words: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            for (word, replacement) in words {
                let word = format!("{{{word}}}");
                if text.contains(&word) {
                    *text = text.replace(&word, replacement);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, words)),
        Value::Object(entries) => {
            let old = std::mem::take(entries);
            for (key, mut value) in old {
                let mut key = Value::String(key);
                fill(&mut key, words);
                fill(&mut value, words);
                entries.insert(key.as_str().unwrap().to_owned(), value);
            }
        }
        _ => {}
    }
}

impl Case {
    /// The query of `/probe` for this case.
    pub(crate) fn query(&self, module: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.query.contains_key("module") {
            query.append_pair("module", module);
        }
        if let Some(target) = self.target.as_deref().filter(|target| !target.is_empty()) {
            query.append_pair("target", target);
        }
        query.extend_pairs(&self.query);
        query.finish()
    }

    /// The value of the header for the timeout.
    pub(crate) fn granted(&self) -> Option<&str> {
        Some(self.grants.as_deref().unwrap_or(PATIENT)).filter(|text| !text.is_empty())
    }
}

impl Ready {
    /// The case's module with a name, as an entry of `modules`.
    pub(crate) fn module(&self, name: &str) -> String {
        let mut text = format!("  {name}: # {}\n", self.written.place());
        for line in self.case.module.lines() {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
