//! Servers of HTTP/3.

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::Value;

use super::super::files::Files;
use super::tls::Tls;
use crate::support::quic::{Quic3, Reply, Shake, status};

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http3 {
    /// Default 200.
    status: Option<u16>,
    body: String,
    /// Where every path but this one is redirected to.
    redirect: Option<String>,
    silent: bool,
    /// The body stops in its middle.
    stall: bool,
}

impl Http3 {
    fn reply(&self, path: &str) -> Reply {
        if self.silent {
            return Reply::Silent;
        }
        if self.stall {
            return Reply::Stalls;
        }
        match self.redirect.as_deref().filter(|to| *to != path) {
            Some(to) => status(302, &[("location", to)], ""),
            None => status(self.status.unwrap_or(200), &[], &self.body),
        }
    }
}

/// It has its address from the beginning.
pub(super) fn start(spec: &Value, files: &Files) -> Quic3 {
    let http3: Http3 = serde_json::from_value(spec["http3"].clone()).unwrap();
    let tls: Tls = serde_json::from_value(spec["tls"].clone()).unwrap_or_default();
    let answer = move |request: &http::Request<()>| http3.reply(request.uri().path());
    let shake = Shake::default();
    let started = Quic3::shaking(tls.shown(files), &shake, answer);
    started.now_or_never().unwrap()
}
