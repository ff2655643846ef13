//! How a server speaks TLS, and what it shows.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use serde::Deserialize;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use super::super::files::Files;
use crate::support::certs::{Leaf, Shown, self_signed};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    /// Default `localhost`.
    names: Vec<String>,
    /// Days from now between which the certificate is valid; default -10 to 90.
    days: Option<(i64, i64)>,
    /// `root` (default), `middle`, `other` or `self`.
    issuer: Option<String>,
    /// `TLS12`, `TLS13`; default both.
    versions: Vec<String>,
    alpn: Vec<String>,
    /// Wants a certificate of the client: `true`, or `optional`.
    client: Value,
    /// How many tickets a client gets over TLS 1.3; default two.
    tickets: Option<usize>,
}

impl Tls {
    pub(super) fn shown(&self, files: &Files) -> Shown {
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if names.is_empty() {
            names.push("localhost");
        }
        let leaf = Leaf { names: &names, days: self.days.unwrap_or((-10, 90)), ..Leaf::default() };
        let authorities = &files.authorities;
        match self.issuer.as_deref().unwrap_or("root") {
            "root" => authorities.root.leaf(&leaf),
            "middle" => authorities.middle.leaf(&leaf),
            "other" => authorities.other.leaf(&leaf),
            "self" => self_signed(&names, false),
            issuer => panic!("nobody is called {issuer}"),
        }
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let known = |text: &String| match text.as_str() {
            "TLS12" => &version::TLS12,
            "TLS13" => &version::TLS13,
            _ => panic!("no server speaks {text}"),
        };
        if self.versions.is_empty() {
            return vec![&version::TLS12, &version::TLS13];
        }
        self.versions.iter().map(known).collect()
    }

    pub(super) fn acceptor(&self, files: &Files) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions())
            .unwrap();
        let builder = if self.client.is_null() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            roots.add(files.authorities.root.der()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier =
                if self.client == "optional" { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().unwrap())
        };
        let shown = self.shown(files);
        let mut config = builder.with_single_cert(shown.chain, shown.key).unwrap();
        if let Some(tickets) = self.tickets {
            config.send_tls13_tickets = tickets;
        }
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
