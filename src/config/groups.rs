//! Files of discovered targets, in Prometheus's format, as YAML.

use std::path::Path;

use super::yaml::{self, Problems, Source};
use crate::target::FileGroup;

/// Reads the groups of a file. A file of nothing but comments has none. The text of an error has every problem.
pub fn decode_groups(path: &Path, bytes: &[u8]) -> Result<Vec<FileGroup>, String> {
    let mut problems = Problems::new();
    let name = path.display().to_string();
    let source = Source::from_bytes(&name, bytes).map_err(|problem| problem.to_string())?;
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if source.text.lines().all(blank) {
        return Ok(Vec::new());
    }
    let groups = yaml::parse(source, &mut problems).map(|root| {
        let groups = yaml::decode_list::<FileGroup>(&root, &mut problems);
        groups.into_iter().map(|(_, group)| group).collect()
    });
    if problems.is_fatal() {
        problems.sort();
        return Err(problems.to_string());
    }
    Ok(groups.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_targets() {
        let read = |text: &str| decode_groups(Path::new("t.yml"), text.as_bytes());
        assert_eq!(read("# nothing yet\n"), Ok(Vec::new()));
        let groups =
            read("- targets:\n    # - a:1\n- targets: [b:2]\n  labels: { team: x }\n").unwrap();
        assert!(groups[0].targets.is_empty());
        assert_eq!(groups[1].targets, ["b:2"]);
        let wrong = read("- tragets: [a:1]\n").unwrap_err();
        assert!(wrong.contains("t.yml:1:3") && wrong.contains("targets"), "{wrong}");
    }
}
