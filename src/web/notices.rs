//! Notifications: open episodes, the outbox and what is known of receivers; for the page and as JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use super::escape::Escaped;
use super::{NoFilter, Site};
use crate::book::{Book, Episode, EpisodeState, Outbox, ReceiverState};

/// Rows of a list that the page shows; the rest is counted.
const MAX_ROWS: usize = 50;

/// `/api/v1/notifications`, and part of `/api/v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct Notices {
    /// Whether a restart keeps them.
    durable: bool,
    episodes: Vec<EpisodeJson>,
    outbox: Vec<OutboxJson>,
    receivers: Vec<ReceiverJson>,
}

#[derive(Debug, Serialize)]
struct EpisodeJson {
    id: String,
    receiver: String,
    /// `probe`, `deadman` or `watchpost`.
    kind: String,
    name: String,
    group: Option<String>,
    opened: Timestamp,
    told: Option<String>,
    notifications: u32,
    dedup_key: String,
    members: Vec<MemberJson>,
}

#[derive(Debug, Serialize)]
struct MemberJson {
    name: String,
    status: String,
    since: Timestamp,
    reason: String,
}

#[derive(Debug, Serialize)]
struct OutboxJson {
    receiver: String,
    kind: &'static str,
    created: Timestamp,
    attempts: u32,
    next_attempt: Timestamp,
    last_error: Option<String>,
    refused: bool,
    dedup_key: String,
}

#[derive(Debug, Serialize)]
struct ReceiverJson {
    name: String,
    last_success: Option<Timestamp>,
    last_test: Option<Timestamp>,
    last_test_success: Option<Timestamp>,
}

impl Notices {
    pub(super) fn of(book: &Book) -> Self {
        let open = book.episodes().into_iter().filter(|e| e.state == EpisodeState::Open);
        let mut episodes: Vec<EpisodeJson> = open.map(EpisodeJson::from).collect();
        episodes.sort_by_key(|episode| episode.opened);
        Self {
            durable: book.writable(),
            episodes,
            outbox: book.outbox().into_iter().map(OutboxJson::from).collect(),
            receivers: book.receivers().into_iter().map(ReceiverJson::from).collect(),
        }
    }
}

impl From<Episode> for EpisodeJson {
    fn from(episode: Episode) -> Self {
        let members = episode.members.into_iter().map(|(name, member)| MemberJson {
            name,
            status: member.status,
            since: member.since.wall,
            reason: member.text,
        });
        Self {
            members: members.collect(),
            id: episode.id,
            receiver: episode.receiver,
            kind: episode.kind,
            name: episode.name,
            group: episode.group,
            opened: episode.opened.wall,
            told: episode.told,
            notifications: episode.notifications,
            dedup_key: episode.key,
        }
    }
}

impl From<Outbox> for OutboxJson {
    fn from(row: Outbox) -> Self {
        Self {
            receiver: row.receiver,
            kind: row.kind.label(),
            created: row.created.wall,
            attempts: row.attempts,
            next_attempt: row.next_attempt.wall,
            last_error: row.last_error,
            refused: row.refused,
            dedup_key: row.key,
        }
    }
}

impl From<ReceiverState> for ReceiverJson {
    fn from(state: ReceiverState) -> Self {
        Self {
            name: state.name,
            last_success: state.last_success.map(|m| m.wall),
            last_test: state.last_test.map(|m| m.wall),
            last_test_success: state.last_test_success.map(|m| m.wall),
        }
    }
}

/// 503 while there is no book: before the start is complete, and on all shards but the first.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Query(NoFilter {}): Query<NoFilter>,
) -> Response {
    match site.book() {
        Some(book) => Json(Notices::of(&book)).into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "this watchpost does not notify\n").into_response()
        }
    }
}

/// The section of the page; nothing while nothing is open and nothing waits.
pub(super) fn section(html: &mut String, book: &Book) {
    let notices = Notices::of(book);
    if notices.episodes.is_empty() && notices.outbox.is_empty() {
        return;
    }
    html.push_str("<section><h2>Notifications</h2>");
    if !notices.episodes.is_empty() {
        episodes(html, &notices.episodes);
    }
    if !notices.outbox.is_empty() {
        outbox(html, &notices.outbox);
    }
    html.push_str("</section>");
}

fn episodes(html: &mut String, episodes: &[EpisodeJson]) {
    html.push_str(
        "<table><thead><tr><th>open about</th><th>told</th><th>since</th><th>members</th><th>messages</th></tr></thead><tbody>",
    );
    for episode in episodes.iter().take(MAX_ROWS) {
        let in_trouble = episode.members.iter().filter(|m| m.status != "up");
        let names: Vec<String> = in_trouble.take(5).map(|m| Escaped(&m.name).to_string()).collect();
        // Writing to a `String` cannot fail.
        write!(
            html,
            "<tr><td>{} {}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&episode.kind),
            Escaped(&episode.name),
            Escaped(&episode.receiver),
            episode.opened.strftime("%Y-%m-%d %H:%M:%S UTC"),
            names.join(", "),
            episode.notifications,
        )
        .ok();
    }
    end(html, episodes.len());
}

fn outbox(html: &mut String, rows: &[OutboxJson]) {
    html.push_str(
        "<h2>Not delivered yet</h2><table><thead><tr><th>to</th><th>message</th><th>since</th><th>attempts</th>\
         <th>last error</th></tr></thead><tbody>",
    );
    for row in rows.iter().take(MAX_ROWS) {
        write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&row.receiver),
            row.kind,
            row.created.strftime("%Y-%m-%d %H:%M:%S UTC"),
            row.attempts,
            Escaped(row.last_error.as_deref().unwrap_or_default()),
        )
        .ok();
    }
    end(html, rows.len());
}

fn end(html: &mut String, count: usize) {
    html.push_str("</tbody></table>");
    if count > MAX_ROWS {
        write!(html, "<p class=\"empty\">and {} more</p>", count - MAX_ROWS).ok();
    }
}
