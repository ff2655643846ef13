//! `/`: one page that says what failed, in which phase, for which reason and since when.
//!
//! Trouble comes first. It is plain HTML that reloads itself; it needs no script.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use super::escape::Escaped;
use super::{About, Site, beats, heartbeats, notices};
use crate::board::{Cell, GroupView, Index, Run};
use crate::clock;
use crate::model::{Headcount, RunResult, Stamp, Status, View};

/// Rows of one probe that are shown; the rest is counted.
const MAX_ROWS: usize = 200;
/// Bars of the last runs that have room in their column.
const MAX_BARS: usize = 20;
/// Without a scrape for this long, nobody is told anything.
const SCRAPE_SILENCE: Duration = Duration::from_secs(120);
/// Scripts, frames and foreign resources have no place on this page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("page.css");

pub(super) async fn show(State(site): State<Arc<Site>>) -> Response {
    let now = clock::now();
    let page =
        Page { site: &site, about: site.about.load_full(), index: site.board.snapshot(), now };
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(page.render())).into_response()
}

struct Page<'a> {
    site: &'a Site,
    about: Arc<About>,
    index: Arc<Index>,
    now: Stamp,
}

/// One row with what is needed to sort it.
struct Row<'a> {
    cell: &'a Cell,
    view: Arc<View>,
    status: Status,
}

/// One probe with its rows, and the status that goes with them.
struct Section<'a> {
    group: Arc<GroupView>,
    status: Status,
    rows: Vec<&'a Row<'a>>,
}

impl Page<'_> {
    fn render(&self) -> String {
        let mut html = String::with_capacity(16 << 10);
        let rows: Vec<Row<'_>> = self.index.cells().iter().map(|cell| self.row(cell)).collect();
        let count: Headcount = rows.iter().map(|row| row.status).collect();
        self.head(&mut html, count);
        self.next_steps(&mut html);
        heartbeats::section(&mut html, &self.site.heartbeats(), self.now);
        if let Some(beats) = self.site.beats() {
            beats::section(&mut html, &beats);
        }
        if let Some(book) = self.site.book() {
            notices::section(&mut html, &book);
        }
        let groups: Vec<Arc<GroupView>> = self.index.groups().iter().map(|g| g.load()).collect();
        let (groups, mut empty): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| !group.members.is_empty());
        empty.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        let mut members: HashMap<&str, Vec<&Row<'_>>> = HashMap::new();
        for row in &rows {
            members.entry(&row.view.check.policy.name).or_default().push(row);
        }
        let mut groups: Vec<Section<'_>> = groups
            .into_iter()
            .map(|group| {
                let rows = members.remove(&*group.policy.name).unwrap_or_default();
                let status = group.status_among(rows.iter().map(|row| row.status).collect());
                Section { group, status, rows }
            })
            .collect();
        groups.sort_by_key(|it| (severity(it.status), Arc::clone(&it.group.policy.name)));
        for section in groups {
            self.group(&mut html, section);
        }
        waiting(&mut html, &empty);
        super::logs::section(&mut html, self.site);
        html.push_str(
            "<footer><a href=\"metrics\">metrics</a> <a href=\"api/v1/status\">status as JSON</a> \
             <a href=\"api/v1/changes\">changes</a> \
             <a href=\"api/v1/notifications\">notifications</a> <a href=\"config\">configuration</a></footer></main></body></html>\n",
        );
        html
    }

    fn row<'c>(&self, cell: &'c Cell) -> Row<'c> {
        let view = cell.load();
        let status = view.status_at(self.now);
        Row { cell, view, status }
    }

    fn head(&self, html: &mut String, count: Headcount) {
        let worst =
            Status::ALL.into_iter().filter(|s| count.of(*s) > 0).min_by_key(|s| severity(*s));
        let title = match worst {
            Some(Status::Down) => format!("{} down", count.down),
            Some(Status::Degraded) => format!("{} degraded", count.degraded),
            Some(Status::Unknown) => format!("{} unknown", count.unknown),
            Some(Status::Up) => "all up".to_owned(),
            _ => "nothing to watch".to_owned(),
        };
        let id = Escaped(&self.about.id);
        let region =
            self.about.region.as_deref().map(|r| format!(" · {}", Escaped(r))).unwrap_or_default();
        // Writing to a `String` cannot fail.
        write!(
            html,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"refresh\" content=\"15\"><title>{title} · watchpost {id}</title>\
             <style>{STYLE}</style></head><body><main><header><h1>{title}</h1>\
             <p class=\"who\">watchpost <b>{id}</b>{region} · version {} · running for {} · {}</p>",
            env!("CARGO_PKG_VERSION"),
            ago(self.now.since(self.site.started)),
            time(self.now),
        )
        .ok();
        html.push_str("<p class=\"counts\">");
        for status in Status::ALL {
            if count.of(status) > 0 {
                write!(
                    html,
                    "<span class=\"pill {0}\">{1} {0}</span> ",
                    status.label(),
                    count.of(status)
                )
                .ok();
            }
        }
        html.push_str("</p></header>");
        if self.site.board.is_blind() {
            html.push_str(
                "<p class=\"blind\"><b>This watchpost is blind:</b> none of its references answers. \
                 Results are shown as measured; nothing is called down because of them.</p>",
            );
        }
    }

    /// What is still missing to be useful.
    fn next_steps(&self, html: &mut String) {
        let mut steps = Vec::new();
        if !self.about.has_targets {
            steps.push(
                "<b>No targets of yours yet.</b> Add a line to a file in <code>probes/targets/</code>, or let \
                 <code>watchpost init URL…</code> write a configuration.",
            );
        }
        if self.unscraped() {
            steps.push(
                "<b>Not scraped by any Prometheus for 2 min.</b> <code>watchpost snippet prometheus</code> prints \
                 the job to add.",
            );
        }
        if !self.about.has_heartbeat {
            steps.push("<b>No heartbeat:</b> if this machine dies, nobody is told.");
        }
        if steps.is_empty() {
            return;
        }
        html.push_str("<section class=\"next\"><h2>What is still missing</h2><ul>");
        for step in steps {
            write!(html, "<li>{step}</li>").ok();
        }
        html.push_str("</ul></section>");
    }

    fn unscraped(&self) -> bool {
        let last = Duration::from_millis(self.site.scraped.load(Ordering::Relaxed));
        let silent = self.now.boot.saturating_sub(last.max(self.site.started.boot));
        silent > SCRAPE_SILENCE
    }

    fn group(&self, html: &mut String, section: Section<'_>) {
        let Section { group, status, mut rows } = section;
        rows.sort_by(|a, b| {
            let order = severity(a.status).cmp(&severity(b.status));
            order.then_with(|| a.view.check.target.address.cmp(&b.view.check.target.address))
        });
        let policy = &group.policy;
        let status = status.label();
        write!(
            html,
            "<section><h2><span class=\"pill {status}\">{status}</span> {} \
             <small>module {}",
            Escaped(&policy.name),
            Escaped(&policy.module),
        )
        .ok();
        // What is not run has no interval.
        if policy.interval < Duration::MAX {
            write!(html, " · every {}", ago(policy.interval)).ok();
        }
        let up = rows.iter().filter(|row| row.status == Status::Up).count();
        write!(html, " · {up} of {} up", rows.len()).ok();
        if let Some(min_up) = policy.min_up {
            write!(html, ", {min_up} must be").ok();
        }
        html.push_str("</small></h2>");
        html.push_str(
            "<table class=\"checks\"><colgroup><col class=\"status\"><col class=\"target\"><col><col class=\"phase\">\
             <col class=\"since\"><col class=\"age\"><col class=\"took\"><col class=\"success\">\
             <col class=\"runs\"></colgroup><thead><tr><th>status</th><th>target</th><th>reason</th><th>phase</th><th>since</th>\
             <th>age</th><th>took</th><th>last success</th><th>last runs</th></tr></thead><tbody>",
        );
        for row in rows.iter().take(MAX_ROWS) {
            self.check(html, row);
        }
        html.push_str("</tbody></table>");
        if rows.len() > MAX_ROWS {
            let probe: String =
                url::form_urlencoded::byte_serialize(policy.name.as_bytes()).collect();
            write!(
                html,
                "<p class=\"empty\">and {} more: <a href=\"api/v1/status?probe={probe}\">all of them</a></p>",
                rows.len() - MAX_ROWS,
            )
            .ok();
        }
        html.push_str("</section>");
    }

    fn check(&self, html: &mut String, row: &Row<'_>) {
        let view = &row.view;
        let status = row.status.label();
        let (fresh, since) = (view.fresh(self.now), view.since_at(self.now));
        let reason = view.reason_at(self.now).unwrap_or_default();
        let detail = match fresh {
            Some(outcome) if outcome.answer.reason().is_some() => outcome.answer.to_string(),
            _ => view.check.target.disabled.as_ref().map(|d| d.reason.clone()).unwrap_or_default(),
        };
        let phase = fresh.and_then(|o| o.phase).map_or("", crate::model::Phase::label);
        let age = view.last_run().map(|at| ago(self.now.since(at))).unwrap_or_default();
        let took = fresh.map(|o| millis(o.took)).unwrap_or_default();
        let success = view
            .last_success
            .map_or("never".to_owned(), |at| format!("{} ago", ago(self.now.since(at))));
        write!(
            html,
            "<tr><td><span class=\"pill {status}\">{status}</span></td><td class=\"target\">{}{}</td>\
             <td class=\"reason\"><b>{reason}</b> {}{}</td><td class=\"minor\">{phase}</td><td class=\"since\" title=\"{}\">{}</td>\
             <td class=\"minor\">{age}</td><td class=\"minor\">{took}</td><td class=\"minor\">{success}</td><td class=\"runs\">",
            Escaped(&view.check.target.address),
            labels(view),
            Escaped(&detail),
            restarts(view),
            time(since),
            ago(self.now.since(since)),
        )
        .ok();
        runs(html, &row.cell.history().recent());
        html.push_str("</td></tr>");
    }
}

/// Probes that are defined and have no targets yet.
fn waiting(html: &mut String, groups: &[Arc<GroupView>]) {
    if groups.is_empty() {
        return;
    }
    let names: Vec<String> =
        groups.iter().map(|group| Escaped(&group.policy.name).to_string()).collect();
    write!(
        html,
        "<p class=\"empty\">{} without targets: {}</p>",
        if names.len() == 1 { "1 probe".to_owned() } else { format!("{} probes", names.len()) },
        names.join(", "),
    )
    .ok();
}

fn labels(view: &View) -> String {
    let hostname = view.check.target.hostname.as_deref().map(|name| ("hostname", name));
    let pairs = hostname.into_iter().chain(view.check.labels.iter());
    let shown: Vec<String> =
        pairs.map(|(name, value)| format!("{}={}", Escaped(name), Escaped(value))).collect();
    if shown.is_empty() { String::new() } else { format!("<small>{}</small>", shown.join(" ")) }
}

/// An exporter in a crash loop passes whenever it is asked: only the count tells.
fn restarts(view: &View) -> String {
    let counted = view.tally.restarts.filter(|count| *count > 0);
    counted.map(|count| format!("<small>restarts seen: {count}</small>")).unwrap_or_default()
}

/// The last runs as bars, the oldest first.
fn runs(html: &mut String, newest_first: &[Run]) {
    for run in newest_first.iter().take(MAX_BARS).rev() {
        let class = match run.result {
            RunResult::Pass => "up",
            RunResult::Warn => "degraded",
            RunResult::Fail => "down",
            RunResult::Unknown => "unknown",
        };
        let reason = run.reason.map_or("", crate::model::Reason::label);
        write!(
            html,
            "<i class=\"{class}\" title=\"{} {} {reason}\"></i>",
            run.started.strftime("%H:%M:%S"),
            millis(run.took),
        )
        .ok();
    }
}

/// Trouble first.
const fn severity(status: Status) -> u8 {
    match status {
        Status::Down => 0,
        Status::Degraded => 1,
        Status::Unknown => 2,
        Status::Up => 3,
        Status::Paused => 4,
    }
}

fn time(stamp: Stamp) -> impl std::fmt::Display {
    stamp.wall.strftime("%Y-%m-%d %H:%M:%S UTC")
}

/// `45 s`, `12 min`, `3 h 20 min`, `5 d`: as exact as a person needs.
pub(super) fn ago(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn millis(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1e3;
    match millis {
        m if m < 10.0 => format!("{m:.1} ms"),
        m if m < 1000.0 => format!("{m:.0} ms"),
        m => format!("{:.1} s", m / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_a_person_needs() {
        let text = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(text(0), "0 s");
        assert_eq!(text(119), "119 s");
        assert_eq!(text(720), "12 min");
        assert_eq!(text(12_000), "3 h 20 min");
        assert_eq!(text(5 * 86_400), "5 d");
    }
}
