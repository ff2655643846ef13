//! What `watchpost snippet` prints, judged by those for whom it is: amtool and promtool.

use std::path::Path;
use std::process::Command;

use crate::program::installed;

const WATCHPOST: &str = env!("CARGO_BIN_EXE_watchpost");

fn snippet(arguments: &[&str]) -> String {
    let output = Command::new(WATCHPOST).arg("snippet").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn accepts(tool: &Path, arguments: &[&str], file: &Path) {
    let output = Command::new(tool).args(arguments).arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn their_own_tools_accept_what_is_to_be_pasted() {
    let (Some(amtool), Some(promtool)) = (installed("amtool"), installed("promtool")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = write(
        "w.yml",
        "deadman:
  - { name: 'a b', key: an-opaque-key-0123456789, watchdog: { source_label: replica, sources: [a, b] } }
  - { name: c, key: an-opaque-key-0123456789, watchdog: { alertname: 'Dead\"man', annotation: wp } }
",
    );
    let named = format!("--config.file={}", config.display());
    for more in [vec![], vec![named.as_str()]] {
        let of = |kind| snippet(&[vec![kind], more.clone()].concat());
        // As it is, with the rule behind it, and without.
        let whole = of("alertmanager");
        accepts(&amtool, &["check-config"], &write("am.yml", &whole));
        accepts(&amtool, &["check-config"], &write("am.yml", whole.split_once("---\n").unwrap().0));
        accepts(&promtool, &["check", "rules"], &write("rules.yml", &of("rules")));
        accepts(&promtool, &["check", "config"], &write("prometheus.yml", &of("prometheus")));
    }
}
