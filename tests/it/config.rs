//! Configurations as files: each good one loads, each bad one is refused at the places that its last lines list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use watchpost::config::{self, Config, Environment, Problems};
use watchpost::net::Resolver;

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/config").join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no cases in {kind}");
    files
}

pub(crate) fn load(paths: &[PathBuf]) -> Result<Config, Problems> {
    let variables: BTreeMap<&str, &str> =
        [("INTERVAL", "20s"), ("TEAM", "sre"), ("TOKEN", "s3cr3t-from-env")].into();
    let variable = move |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let names = Resolver::with_servers(Vec::new());
    let environment = Environment { variable: &variable, host_name: "this-host".to_owned(), names };
    config::load(paths, &environment)
}

#[test]
fn every_good_configuration_loads() {
    for path in cases("good") {
        if let Err(problems) = load(std::slice::from_ref(&path)) {
            panic!("{} was refused:\n{problems}", path.display());
        }
    }
}

/// A line `#! LINE:COLUMN text` at the end of a case is a problem; the problems are exactly these, in this order.
#[test]
fn every_bad_configuration_is_refused_at_the_right_places() {
    let mut wrong = Vec::new();
    for path in cases("bad") {
        let text = std::fs::read_to_string(&path).unwrap();
        let Err(problems) = load(std::slice::from_ref(&path)) else {
            wrong.push(format!("{} loaded", path.display()));
            continue;
        };
        let found: Vec<String> = problems
            .iter()
            .map(|p| {
                let at =
                    p.at.as_ref()
                        .map_or(String::from("-"), |at| format!("{}:{}", at.line, at.column));
                format!("{at} {}", p.what)
            })
            .collect();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#! ")).collect();
        if found != lines {
            let name = path.file_name().unwrap().display();
            wrong.push(format!(
                "{name}: expected\n  {}\nfound\n  {}",
                lines.join("\n  "),
                found.join("\n  ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn of_a_folder_nothing_is_left_out_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..1000 {
        std::fs::write(folder.path().join(format!("{number}.yml")), "{}\n").unwrap();
    }
    assert!(load(&[folder.path().to_owned()]).is_ok());
    std::fs::write(folder.path().join("one-more.yml"), "{}\n").unwrap();
    let refused = load(&[folder.path().to_owned()]).unwrap_err().to_string();
    assert!(refused.contains("more than 1000 names in"), "{refused}");
}

/// Each key was once looked for among all of them: this took minutes.
#[test]
fn a_file_of_a_hundred_thousand_keys_is_read_at_once() {
    let file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    let text: Vec<String> = (0..150_000).map(|number| format!("k{number}: 1\n")).collect();
    std::fs::write(file.path(), text.concat()).unwrap();
    let began = std::time::Instant::now();
    assert!(load(&[file.path().to_owned()]).is_err());
    assert!(began.elapsed().as_secs() < 40, "{:?}", began.elapsed());
}

/// A key that does not exist is refused wherever it is put, at its own line.
#[test]
fn a_bogus_key_anywhere_is_refused_at_its_line() {
    let mut tried = 0;
    for path in cases("good") {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(indent) = block_key_indent(line) else { continue };
            let bogus = format!("{}bogus_key: 1", " ".repeat(indent));
            let mut changed: Vec<&str> = lines.clone();
            changed.insert(at, &bogus);
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("case.yml");
            std::fs::write(&copy, changed.join("\n")).unwrap();
            let Err(problems) = load(&[copy]) else {
                panic!("{}: a bogus key before line {} was accepted", path.display(), at + 1);
            };
            let hit = problems.iter().any(|p| {
                p.at.as_ref().is_some_and(|place| place.line == at + 1)
                    && p.what.contains("bogus_key")
            });
            assert!(hit, "{} line {}:\n{problems}", path.display(), at + 1);
            tried += 1;
        }
    }
    assert!(tried > 15, "only {tried} places were tried");
}

/// The indentation of a line that is a key of a mapping in block style, where any key is a fixed one.
fn block_key_indent(line: &str) -> Option<usize> {
    let trimmed = line.trim_start();
    let fixed = [
        "prober:",
        "name:",
        "module:",
        "interval:",
        "timeout:",
        "targets:",
        "method:",
        "watchpost:",
    ];
    let starts = fixed.iter().any(|key| trimmed.starts_with(key));
    (starts && !trimmed.starts_with("- ")).then(|| line.len() - trimmed.len())
}

#[test]
fn files_are_joined_and_doubles_name_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    file(
        "a.yml",
        "modules: { m: { prober: tcp } }\nprobes:\n  - { name: p, module: m, targets: ['a:1'] }\n",
    );
    file("b.yml", "probes:\n  - { name: q, module: m, targets: ['a:1'] }\n");
    let config = load(&[folder.path().to_owned()]).unwrap();
    assert_eq!(config.probes.len(), 2);
    assert_eq!(config.identity.id, "this-host");
    file("c.yml", "probes:\n  - { name: p, module: m, targets: ['b:1'] }\n");
    let text = load(&[folder.path().to_owned()]).unwrap_err().to_string();
    assert!(text.contains("probe \"p\" is defined twice"), "{text}");
    assert!(text.contains("c.yml:2") && text.contains("a.yml:3"), "{text}");
}

#[test]
fn secrets_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.yml");
    let text = "modules:\n  m:\n    prober: http\n    http: { basic_auth: { username: u, password: hunter2 } }\n\
                probes:\n  - name: p\n    module: m\n    targets:\n      - target: http://a/\n        \
                authorization: { credentials: \"${TOKEN}\" }\n";
    std::fs::write(&path, text).unwrap();
    let config = load(&[path]).unwrap();
    assert!(config.shown.contains("<secret>"), "{}", config.shown);
    assert!(!config.shown.contains("hunter2"), "{}", config.shown);
    assert!(!config.shown.contains("s3cr3t-from-env"), "{}", config.shown);
    assert!(!format!("{config:?}").contains("hunter2"));
}
