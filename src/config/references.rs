//! The section `references:`: while none of them answers, we are the blind one.

use super::File;
use super::yaml::{self, Problem, Problems};

/// A host and a TCP port that should always answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// As written.
    pub text: String,
    pub host: String,
    pub port: u16,
}

/// More than this only costs.
const MAX_REFERENCES: usize = 32;

pub(super) fn read(files: &[File], problems: &mut Problems) -> Vec<Reference> {
    let mut all = Vec::new();
    for section in files.iter().filter_map(|file| file.section("references")) {
        for (node, text) in yaml::decode_list::<String>(section, problems) {
            match parse(&text) {
                Some(reference) if all.len() < MAX_REFERENCES => all.push(reference),
                Some(_) => problems.push(
                    Problem::error(format!("more than {MAX_REFERENCES} references")).at(node.at()),
                ),
                None => problems.push(
                    Problem::error(format!("{text:?} is not host:port"))
                        .at(node.at())
                        .hint("write a host and a TCP port that should always answer, such as 1.1.1.1:443"),
                ),
            }
        }
    }
    all
}

fn parse(text: &str) -> Option<Reference> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return None;
    }
    Some(Reference { text: text.to_owned(), host: bare.unwrap_or(host).to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_required() {
        assert_eq!(parse("[::1]:53").unwrap().host, "::1");
        assert_eq!(parse("gateway.internal:22").unwrap().port, 22);
        for text in ["1.1.1.1", "::1:53", ":53", "a:0", "a:x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
