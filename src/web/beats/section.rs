//! Switches and pauses on the page.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::Beats;
use super::shown::{DeadmanJson, shown};
use crate::clock;
use crate::deadman::Planned;
use crate::model::Status;
use crate::web::escape::Escaped;

/// Rows of a list that the page shows; the rest is counted.
const MAX_ROWS: usize = 100;

/// The section of the page; nothing where there are no switches and no pauses.
pub(in crate::web) fn section(html: &mut String, beats: &Beats) {
    let switches = shown(beats);
    if !switches.is_empty() {
        html.push_str(
            "<section><h2>Dead man's switches</h2><table class=\"switches\"><colgroup><col class=\"switch\">\
             <col class=\"status\"><col class=\"time\"><col class=\"time\"><col></colgroup><thead><tr><th>switch</th><th>state</th><th>last beat</th>\
             <th>fails at</th><th>what is known</th></tr></thead><tbody>",
        );
        for switch in switches.iter().take(MAX_ROWS) {
            row(html, switch);
        }
        end(html, switches.len());
    }
    let planned = beats.board().planned(clock::now());
    if !planned.is_empty() {
        pauses(html, &planned);
    }
}

fn row(html: &mut String, switch: &DeadmanJson) {
    let class = switch.status.label();
    let state = match switch.status {
        Status::Up => "ok",
        Status::Degraded => "degraded",
        Status::Down => "fails",
        Status::Unknown => "waiting",
        Status::Paused => "paused",
    };
    let from = switch.last_from.map(|from| format!("<small>from {from}</small>"));
    // Writing to a `String` cannot fail.
    write!(
        html,
        "<tr class=\"{class}\"><td>{}</td><td><span class=\"pill {class}\">{state}</span></td><td>{}{}</td><td>{}</td><td>",
        Escaped(&switch.name),
        time(switch.last_beat),
        from.unwrap_or_default(),
        time(switch.deadline),
    )
    .ok();
    known(html, switch);
    html.push_str("</td></tr>");
}

fn known(html: &mut String, switch: &DeadmanJson) {
    let mut lines = Vec::new();
    if let Some(reason) = &switch.paused {
        lines.push(format!("paused until {}: {reason}", time(switch.paused_until)));
    }
    lines.extend(switch.reason.clone());
    // A switch that is its own only member has said it all.
    for member in switch.members.iter().filter(|member| member.name != switch.name) {
        let reason = member.reason.as_deref().unwrap_or("ok");
        let heard = member.heard.as_deref().unwrap_or("nothing was heard yet");
        let state = if member.ok == Some(false) { "fails: " } else { "" };
        lines.push(format!("{}: {state}{reason}; {heard}", member.name));
    }
    for replica in &switch.alertmanagers {
        let said = replica.findings.iter();
        lines.extend(said.map(|finding| format!("Alertmanager {} {finding}", replica.url)));
    }
    lines.extend(switch.notes.iter().cloned());
    for (index, line) in lines.iter().enumerate() {
        let before = if index == 0 { "" } else { "<br>" };
        write!(html, "{before}{}", Escaped(line)).ok();
    }
}

fn pauses(html: &mut String, planned: &[Planned]) {
    html.push_str(
        "<section><h2>Pauses</h2><table><thead><tr><th>of</th><th>from</th><th>until</th><th>reason</th><th>by</th></tr>\
         </thead><tbody>",
    );
    for pause in planned.iter().take(MAX_ROWS) {
        let from = if pause.holds { "now".to_owned() } else { time(Some(pause.begins)) };
        write!(
            html,
            "<tr class=\"paused\"><td>{}</td><td>{from}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&pause.name),
            time(Some(pause.until)),
            Escaped(&pause.reason),
            Escaped(&pause.by),
        )
        .ok();
    }
    end(html, planned.len());
}

fn end(html: &mut String, count: usize) {
    html.push_str("</tbody></table>");
    if count > MAX_ROWS {
        write!(html, "<p class=\"empty\">and {} more</p>", count - MAX_ROWS).ok();
    }
    html.push_str("</section>");
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
