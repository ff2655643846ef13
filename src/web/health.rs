//! `/-/healthy`, `/-/ready`, `/-/reload`, `/config`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Site;

/// How long a reload may take before the asker is told that it goes on.
const RELOAD_WAIT: Duration = Duration::from_secs(60);

/// The process answers.
pub(super) async fn healthy() -> &'static str {
    "Healthy"
}

/// The schedule runs and results are served.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, &'static str) {
    if site.is_ready() {
        (StatusCode::OK, "Ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Not ready")
    }
}

/// Reads the configuration again; 500 with every problem when it is refused and the old one stays.
pub(super) async fn reload(State(site): State<Arc<Site>>, method: Method) -> Response {
    if method != Method::POST && method != Method::PUT {
        let allow = [(header::ALLOW, "POST, PUT")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "This endpoint requires a POST request.\n")
            .into_response();
    }
    let (reply, answer) = oneshot::channel();
    if site.reload.send(reply).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    match timeout(RELOAD_WAIT, answer).await {
        Ok(Ok(Ok(()))) => StatusCode::OK.into_response(),
        Ok(Ok(Err(problems))) => {
            let text = format!("failed to reload config: {problems}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
        Err(_) => (StatusCode::ACCEPTED, "the reload goes on\n").into_response(),
    }
}

/// The configuration as written, secrets masked.
pub(super) async fn config(State(site): State<Arc<Site>>) -> String {
    site.about.load().config.clone()
}
