//! The import table of the design, checked against `src/`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of `src/` may import. `*` is everything.
const TABLE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &["*"]),
    (
        "cli",
        &[
            "app", "clock", "config", "deadman", "lint", "log", "metrics", "model", "net", "probe",
            "schedule",
        ],
    ),
    ("app", &["*"]),
    ("clock", &["model"]),
    ("shutdown", &[]),
    ("log", &["clock"]),
    ("model", &[]),
    // `Spec` types of the stages, and what they are made of.
    ("config", &["model", "net", "probe", "target", "deadman", "heartbeat", "notify"]),
    // Somebody else's configuration, read with ours.
    ("lint", &["model", "config", "deadman"]),
    ("target", &["model", "clock", "net"]),
    ("schedule", &["model", "clock", "net", "target", "probe"]),
    ("net", &["model"]),
    ("probe", &["model", "clock", "net"]),
    ("judge", &["model"]),
    ("board", &["model"]),
    ("book", &["model", "clock"]),
    ("deadman", &["model", "net", "probe"]),
    ("heartbeat", &["model", "clock", "net"]),
    ("notify", &["model", "clock", "net", "book"]),
    ("metrics", &["model", "board"]),
    ("web", &["model", "clock", "board", "metrics", "deadman", "heartbeat", "book", "probe"]),
];

#[test]
fn no_module_imports_what_it_may_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut forbidden = String::new();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 20, "src/ was not found");
    for file in files {
        let module = module_of(&root, &file);
        let (_, allowed) = TABLE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{} is in no row of the table", file.display()));
        for (number, import) in imports(&fs::read_to_string(&file).unwrap()) {
            let fine =
                import == module || allowed.contains(&"*") || allowed.contains(&import.as_str());
            if !fine {
                let place = file.strip_prefix(&root).unwrap().display();
                writeln!(forbidden, "src/{place}:{number}: {module} -> {import}").unwrap();
            }
        }
    }
    assert!(forbidden.is_empty(), "forbidden imports:\n{forbidden}");
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The top-level module that a file belongs to.
fn module_of(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// What asks the C library for a name where it is given one, and where it is fine.
const ASKS_THE_C_LIBRARY: &[(&str, &[&str])] = &[
    ("getaddrinfo", &[]),
    ("to_socket_addrs", &[]),
    ("ToSocketAddrs", &[]),
    ("lookup_host", &[]),
    (".socket_addrs(", &[]),
    ("TcpStream::connect(", &[]),
    ("SmtpTransport", &[]),
    // It is given an address.
    ("AsyncSmtpConnection::connect", &["src/notify/receivers/relay.rs"]),
    // Where the resolver is set.
    ("Client::builder(", &["src/net/client.rs"]),
    ("reqwest::Client::new(", &[]),
    ("ClientBuilder::new(", &[]),
    ("reqwest::get(", &[]),
    ("reqwest::blocking", &[]),
    ("HttpConnector::new(", &[]),
];

/// The C library blocks a thread for as long as it likes, and cannot do it at all in a static program.
#[test]
fn no_name_is_asked_of_the_c_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    let mut found = String::new();
    for file in files {
        let place = file.strip_prefix(root).unwrap().to_str().unwrap();
        for (number, line) in code(&fs::read_to_string(&file).unwrap()) {
            for (call, fine) in ASKS_THE_C_LIBRARY {
                if line.contains(call) && !fine.contains(&place) {
                    writeln!(found, "{place}:{number}: {call}").unwrap();
                }
            }
        }
    }
    assert!(found.is_empty(), "ask `net::Resolver`, or begin with `net::http_client`:\n{found}");
}

/// The lines outside comments and unit tests, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn lines_of_code_are_told_from_comments_and_tests() {
    let text = "a();\n    // b();\nc();\n#[cfg(test)]\nmod tests {\n d();\n}\n";
    assert_eq!(code(text).collect::<Vec<_>>(), [(1, "a();"), (3, "c();")]);
}

/// Every `crate::name`, and `crate::{a::…, b}`, outside comments and unit tests, with its line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    for (at, _) in text.match_indices("crate::").filter(|(at, _)| *at < end) {
        let line_start = text[..at].rfind('\n').map_or(0, |p| p + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let number = text[..at].matches('\n').count() + 1;
        let rest = &text[at + "crate::".len()..];
        found.extend(names(rest).into_iter().map(|name| (number, name)));
    }
    found
}

fn names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let mut depth = 0;
    let mut names = vec![identifier(group.trim_start())];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(identifier(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::model::{A, B};\n// crate::web\nuse crate::{clock, net::{x, y}};\nfn f() { crate::log::x() }";
    let found = imports(text);
    let expected = [(1, "model"), (3, "clock"), (3, "net"), (4, "log")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
}
