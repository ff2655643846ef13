//! What somebody may have meant by a word that we do not know.

/// Names that a message lists at most.
const MAX_LISTED: usize = 40;

/// The known word that the given one is closest to, if it is close at all.
pub(super) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = folded(word);
    let allowed = (wanted.len() / 3).clamp(1, 4);
    known
        .iter()
        .map(|candidate| (distance(&wanted, &folded(candidate)), *candidate))
        .filter(|(distance, candidate)| {
            *distance <= allowed && *distance < candidate.chars().count()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a, b, c`, cut where it gets long.
pub(super) fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `did you mean "a"? known: a, b`, for the help of an unknown word.
pub(in crate::config) fn help(word: &str, known: &[&str], kind: &str) -> String {
    if known.is_empty() {
        return format!("there are no {kind} here");
    }
    match closest(word, known) {
        Some(near) => format!("did you mean \"{near}\"? known {kind}: {}", listed(known)),
        None => format!("known {kind}: {}", listed(known)),
    }
}

/// `Fail-If-SSL` and `fail_if_ssl` are one word here.
fn folded(word: &str) -> Vec<char> {
    let lower = word.chars().take(64).flat_map(char::to_lowercase);
    lower.map(|letter| if letter == '-' { '_' } else { letter }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one to the other.
fn distance(one: &[char], two: &[char]) -> usize {
    let mut rows = vec![vec![0; two.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=two.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
                let mut best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_suggested_only_when_it_is_close() {
        let known = ["targets", "interval", "module", "fail_if_ssl", "ip"];
        assert_eq!(closest("targts", &known), Some("targets"));
        assert_eq!(closest("tragets", &known), Some("targets"));
        assert_eq!(closest("Fail-If-SSL", &known), Some("fail_if_ssl"));
        assert_eq!(closest("modul", &known), Some("module"));
        assert_eq!(closest("zebra", &known), None);
        assert_eq!(closest("x", &["y"]), None);
    }
}
