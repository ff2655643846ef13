//! `/logs`: what is known of an earlier run of `/probe`, and the list of those on the page.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::escape::Escaped;
use super::probe::{self, Entry, first};
use super::{Site, plain_error};

/// Runs that the page lists.
const MAX_LISTED: usize = 200;

pub(super) async fn show(State(site): State<Arc<Site>>, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let of = |name| first(query, name).unwrap_or_default();
    let id = of("id").parse::<i64>().ok();
    let (target, module) = (of("target"), of("module"));
    let history = &site.probing.history;
    let found = match id {
        Some(_) if !target.is_empty() => {
            return bad("Give the id of a probe or its target, not both");
        }
        _ if target.is_empty() && !module.is_empty() => {
            return bad("A module is looked for together with a target only");
        }
        _ if !target.is_empty() => history
            .by_target(&probe::masked(&target), Some(&*module).filter(|module| !module.is_empty())),
        Some(id) if id >= 0 => history.by_id(id),
        _ => return bad("Give the id or the target of a probe in the query"),
    };
    match found {
        Some(entry) => probe::plain(probe::page(&entry, site.probing.shows_notes())),
        None => plain_error(StatusCode::NOT_FOUND, "There is no such probe in the history"),
    }
}

fn bad(text: &str) -> Response {
    plain_error(StatusCode::BAD_REQUEST, text)
}

/// The section of the page with recent runs, the newest first; nothing while there are none.
pub(super) fn section(html: &mut String, site: &Site) {
    let entries = site.probing.history.list();
    if entries.is_empty() {
        return;
    }
    html.push_str(
        "<section><h2>Recent runs of /probe</h2><table><thead><tr><th>Result</th><th>Module</th>\
         <th>Target</th><th>Began</th><th>Reason</th><th></th></tr></thead><tbody>",
    );
    for entry in entries.iter().rev().take(MAX_LISTED) {
        row(html, entry);
    }
    html.push_str("</tbody></table></section>");
}

fn row(html: &mut String, entry: &Entry) {
    let (class, word) =
        if probe::is_failure(entry) { ("down", "failed") } else { ("up", "passed") };
    let reason = entry.outcome.answer.reason().unwrap_or_default();
    // Writing to a `String` cannot fail.
    write!(
        html,
        "<tr><td><span class=\"pill {class}\">{word}</span></td><td>{}</td><td class=\"target\">{}</td>\
         <td>{}</td><td class=\"reason\">{reason}</td><td><a href=\"logs?id={}\">log</a></td></tr>",
        Escaped(&entry.asked.module),
        Escaped(&entry.asked.target),
        entry.outcome.started.wall.strftime("%Y-%m-%d %H:%M:%S UTC"),
        entry.id,
    )
    .ok();
}
