//! Heartbeats on the page: which are sent, which are withheld, and why.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::escape::Escaped;
use super::page::ago;
use crate::heartbeat::{GateView, View};
use crate::model::Stamp;

/// The section of the page; nothing where none is configured.
pub(super) fn section(html: &mut String, views: &[View], now: Stamp) {
    if views.is_empty() {
        return;
    }
    html.push_str(
        "<section class=\"beats\"><h2>Heartbeats</h2><table><colgroup><col class=\"status\">\
         <col class=\"target\"><col class=\"success\"><col></colgroup><thead><tr><th>status</th><th>heartbeat</th>\
         <th>last accepted</th><th>evidence</th></tr></thead><tbody>",
    );
    for view in views {
        row(html, view, now);
    }
    html.push_str("</tbody></table></section>");
}

fn row(html: &mut String, view: &View, now: Stamp) {
    let (class, status) = status(view);
    let accepted = view.accepted.map_or_else(|| "never".to_owned(), |at| before(at, now));
    // Writing to a `String` cannot fail.
    write!(
        html,
        "<tr><td><span class=\"pill {class}\">{status}</span></td><td class=\"target\">{}<small>{}, every {} s</small></td>\
         <td>{accepted}</td><td class=\"reason\">",
        Escaped(&view.name),
        view.service,
        view.interval_seconds,
    )
    .ok();
    for gate in &view.gates {
        self::gate(html, gate, now);
    }
    if let Some(problem) = &view.not_recorded {
        write!(html, "<div><b>not recorded</b> {}</div>", Escaped(problem)).ok();
    } else if let Some(at) = view.recorded {
        write!(html, "<div>recorded there {}</div>", Escaped(&before(at, now))).ok();
    }
    if let Some(last) = &view.last
        && last.result.label() != "accepted"
    {
        let detail = Escaped(&last.detail);
        write!(html, "<div><b>{}</b> {detail}</div>", last.result.label()).ok();
    }
    html.push_str("</td></tr>");
}

/// The class of its pill, and a word.
fn status(view: &View) -> (&'static str, &'static str) {
    let is_accepted = view.last.as_ref().is_none_or(|last| last.result.label() == "accepted");
    match (view.open, view.warming_up) {
        (true, _) if view.not_recorded.is_some() => ("down", "not recorded"),
        (true, _) if !is_accepted => ("down", "not accepted"),
        (true, _) => ("up", "beating"),
        (false, true) => ("unknown", "waiting"),
        (false, false) => ("down", "withheld"),
    }
}

fn gate(html: &mut String, gate: &GateView, now: Stamp) {
    let name = Escaped(&gate.name);
    let since = before(gate.since, now);
    match &gate.closed {
        None => write!(html, "<div>{name}: holds</div>"),
        Some(closed) => write!(
            html,
            "<div><b>{name}: {}</b> {} <small>since {since}</small></div>",
            closed.why.label(),
            Escaped(&closed.detail),
        ),
    }
    .ok();
}

fn before(at: Timestamp, now: Stamp) -> String {
    let passed = now.wall.duration_since(at);
    std::time::Duration::try_from(passed)
        .map_or_else(|_| "just now".to_owned(), |passed| format!("{} ago", ago(passed)))
}
