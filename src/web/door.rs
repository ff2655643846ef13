//! What every request passes before a route is chosen: access, then the prefix of all paths.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, Uri, header, uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::access::Access;
use super::leftover::{Lent, lend};
use super::peer::Peer;
use super::plain_error;

/// Where our paths begin, and where people reach us.
#[derive(Debug, Clone, Default)]
pub struct Prefix {
    /// Empty, or with a leading and without a trailing slash.
    path: String,
    external_url: String,
}

impl Prefix {
    /// `path` with or without slashes around it.
    pub fn new(path: &str, external_url: &str) -> Self {
        let path = path.trim_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Self { path, external_url: external_url.to_owned() }
    }

    /// What to do with a request for `path`.
    fn route<'a>(&self, path: &'a str) -> Routed<'a> {
        if self.path.is_empty() {
            return Routed::Inside(path);
        }
        match path.strip_prefix(self.path.as_str()) {
            Some("") => Routed::Slash,
            Some(rest) if rest.starts_with('/') => Routed::Inside(rest),
            _ if path == "/" => Routed::Elsewhere,
            _ => Routed::Nowhere,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Routed<'a> {
    Inside(&'a str),
    /// The prefix lacks its slash.
    Slash,
    /// To where people reach us.
    Elsewhere,
    Nowhere,
}

/// The one way in.
#[derive(Clone)]
pub struct Door {
    routes: TowerToHyperService<Router>,
    prefix: Arc<Prefix>,
    pub(super) access: Option<Arc<Access>>,
}

impl Door {
    pub fn new(router: Router, prefix: Prefix, access: Option<Arc<Access>>) -> Self {
        Self { routes: TowerToHyperService::new(router), prefix: Arc::new(prefix), access }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(Peer(peer));
        let (body, left) = lend(body, &parts.headers);
        let response = self.admit(Request::from_parts(parts, body)).await;
        left.throw_away().await;
        response
    }

    async fn admit(&self, request: Request<Lent>) -> Response {
        let Some(access) = &self.access else { return self.route(request).await };
        let passed = access.admit(request.headers()).await;
        let mut response = match passed.refusal {
            Some(refusal) => refusal,
            None => self.route(request).await,
        };
        for (name, value) in passed.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }

    async fn route(&self, request: Request<Lent>) -> Response {
        let path = request.uri().path();
        match self.prefix.route(path) {
            Routed::Inside(rest) if rest.len() == path.len() => self.enter(request).await,
            Routed::Inside(rest) => match rebased(request.uri(), rest) {
                Some(uri) => {
                    let (mut parts, body) = request.into_parts();
                    parts.uri = uri;
                    self.enter(Request::from_parts(parts, body)).await
                }
                None => plain_error(StatusCode::BAD_REQUEST, "not a path"),
            },
            Routed::Slash => {
                let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
                let to = format!("{}/{query}", self.prefix.path);
                redirect(StatusCode::MOVED_PERMANENTLY, &to)
            }
            Routed::Elsewhere => redirect(StatusCode::FOUND, &self.prefix.external_url),
            Routed::Nowhere => plain_error(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    async fn enter(&self, request: Request<Lent>) -> Response {
        match self.routes.call(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

fn rebased(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn redirect(status: StatusCode, to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (status, [(header::LOCATION, to)]).into_response(),
        Err(_) => plain_error(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_below_the_prefix_only() {
        let prefix = Prefix::new("foo/bar/", "http://x/");
        assert_eq!(prefix.route("/"), Routed::Elsewhere);
        assert_eq!(prefix.route("/foo/bar"), Routed::Slash);
        assert_eq!(prefix.route("/foo/bar/"), Routed::Inside("/"));
        assert_eq!(prefix.route("/foo/bar/probe"), Routed::Inside("/probe"));
        assert_eq!(prefix.route("/foo/barprobe"), Routed::Nowhere);
        assert_eq!(prefix.route("/probe"), Routed::Nowhere);
        for none in ["", "/"] {
            assert_eq!(Prefix::new(none, "x").route("/probe"), Routed::Inside("/probe"));
        }
    }
}
