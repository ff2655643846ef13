//! `@FILE` among the arguments, as the flags of Prometheus's exporters have it: each line of the file is an argument. Lines
//! that begin with `#` are comments, and a line may name another file. Behind `--` nothing is read.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command line is shorter.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// More come from files that name each other.
const MAX_FILES: usize = 32;

/// The arguments with those of the files in their place; the text says which file cannot be read.
pub(super) fn expand(arguments: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut waiting: Vec<OsString> = arguments.into_iter().rev().collect();
    let mut expanded = Vec::new();
    let mut files = 0;
    while let Some(argument) = waiting.pop() {
        let Some(path) = argument.as_bytes().strip_prefix(b"@").map(OsStr::from_bytes) else {
            let is_end = argument == "--";
            expanded.push(argument);
            if is_end {
                expanded.extend(waiting.into_iter().rev());
                return Ok(expanded);
            }
            continue;
        };
        files += 1;
        if files > MAX_FILES {
            let shown = path.display();
            return Err(format!(
                "@{shown}: more than {MAX_FILES} files of arguments; do they name each other?"
            ));
        }
        let lines = read(path).map_err(|error| format!("@{}: {error}", path.display()))?;
        waiting.extend(lines.into_iter().rev());
    }
    Ok(expanded)
}

fn read(path: &OsStr) -> io::Result<Vec<OsString>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("more than 1 MiB of arguments"));
    }
    let lines =
        text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let arguments = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(arguments.map(|line| OsString::from_vec(line.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments = arguments.iter().map(OsString::from).collect();
        let expanded = expand(arguments)?;
        Ok(expanded.into_iter().map(|argument| argument.into_string().unwrap()).collect())
    }

    #[test]
    fn lines_take_the_place_of_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let (flags, more) = (folder.path().join("flags"), folder.path().join("more"));
        std::fs::write(&more, "--log.level=debug\r\n").unwrap();
        let text =
            format!("# ours\n--config.file=a b.yml\n\n@{}\n--history.limit\n5", more.display());
        std::fs::write(&flags, text).unwrap();
        let at = format!("@{}", flags.display());
        let found = expanded(&["watchpost", &at, "--web.route-prefix=/x", "--", &at]).unwrap();
        assert_eq!(
            found,
            [
                "watchpost",
                "--config.file=a b.yml",
                "--log.level=debug",
                "--history.limit",
                "5",
                "--web.route-prefix=/x",
                "--",
                &at,
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        assert!(
            expanded(&["w", "@/nowhere/flags"]).unwrap_err().contains("@/nowhere/flags: No such")
        );
        assert!(expanded(&["w", "@"]).is_err());
        let folder = tempfile::tempdir().unwrap();
        let itself = folder.path().join("flags");
        std::fs::write(&itself, format!("@{}", itself.display())).unwrap();
        let wrong = expanded(&["w", &format!("@{}", itself.display())]).unwrap_err();
        assert!(wrong.contains("name each other"), "{wrong}");
    }
}
