//! Asks each Alertmanager, with bounds on everything. The only part of `deadman` that talks to the network.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Url, redirect};

use super::alertmanager::{Counters, Finding, Replica, read_alerts, read_silence, read_status};
use super::inhibitor;
use super::spec::WatchdogSpec;
use crate::net::{Resolver, http_client};
use crate::probe::exposition::Format;

/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An Alertmanager's page of metrics is some hundred kilobytes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Polls in a row that must find something before it is told. After a restart Alertmanager has no alerts until Prometheus
/// sends them again, and that takes a minute.
pub const POLLS: u32 = 3;
/// Silences whose author is asked for, each poll.
const MAX_SILENCES: usize = 5;
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why no poller could be made.
#[derive(Debug, thiserror::Error)]
pub enum NoPoller {
    #[error("{path} cannot be used: {detail}")]
    File { path: String, detail: String },
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Follows the Alertmanagers of one watchdog.
#[derive(Debug)]
pub struct Poller {
    rules: Arc<WatchdogSpec>,
    client: Client,
    replicas: Vec<(String, Counters)>,
}

impl Poller {
    pub fn new(rules: Arc<WatchdogSpec>, names: &Resolver) -> Result<Self, NoPoller> {
        let mut builder = http_client(names)
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &rules.alertmanager_ca_file {
            let wrong = |detail: String| NoPoller::File { path: path.clone(), detail };
            let pem = read_file(path).map_err(wrong)?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(error.to_string()))?;
            builder = builder.tls_certs_only(authorities);
        }
        let replicas =
            rules.alertmanagers.iter().map(|url| (url.clone(), Counters::default())).collect();
        Ok(Self { client: builder.build()?, replicas, rules })
    }

    /// Asks all of them at once. Takes no longer than a few timeouts. `via` is the receiver by which evidence came last.
    pub async fn poll(&mut self, via: Option<&str>) -> Vec<Replica> {
        let token = self.rules.alertmanager_token_file.as_ref().map(|path| read_file(path));
        let token = match token {
            Some(Ok(bytes)) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Some(Err(_)) | None => None,
        };
        let count = self.replicas.len();
        let (client, rules) = (&self.client, &*self.rules);
        let asks = self.replicas.iter_mut().map(|(url, counters)| {
            let ask = Ask { client, url: url.as_str(), token: token.as_deref(), rules, via };
            ask.all(counters, count)
        });
        join_all(asks).await
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    use std::io::Read as _;

    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

struct Ask<'a> {
    client: &'a Client,
    url: &'a str,
    token: Option<&'a str>,
    rules: &'a WatchdogSpec,
    via: Option<&'a str>,
}

struct Got {
    code: u16,
    format: Option<Format>,
    body: Vec<u8>,
}

impl Ask<'_> {
    async fn all(self, counters: &mut Counters, count: usize) -> Replica {
        let mut replica = Replica { url: self.url.to_owned(), version: None, findings: Vec::new() };
        // One that does not answer at all is not asked three more times.
        match self.get("-/ready", &[]).await {
            Err(detail) => {
                replica.findings.push(Finding::Unreachable { detail });
                return replica;
            }
            Ok(got) if got.code != 200 => {
                let detail = format!("status {}", got.code);
                replica.findings.push(Finding::NotReady { detail });
            }
            Ok(_) => {}
        }
        let filter = format!("alertname={:?}", self.rules.alertname);
        let query = [("filter", filter.as_str())];
        let (status, alerts, metrics) = tokio::join!(
            self.get_ok("api/v2/status", &[]),
            self.get_ok("api/v2/alerts", &query),
            self.get_ok("metrics", &[]),
        );
        match status {
            Ok(got) => {
                let (version, findings) = read_status(&got.body, count);
                replica.version = version;
                replica.findings.extend(findings);
            }
            Err(finding) => replica.findings.push(finding),
        }
        match alerts {
            Ok(got) => replica.findings.extend(self.suppression(&got.body).await),
            Err(finding) => replica.findings.push(finding),
        }
        match metrics {
            Ok(got) => {
                let format = got.format.unwrap_or(Format::Text);
                replica.findings.extend(counters.read(&got.body, format));
            }
            Err(finding) => replica.findings.push(finding),
        }
        replica
    }

    async fn suppression(&self, body: &[u8]) -> Vec<Finding> {
        let mut findings = read_alerts(body, self.rules, self.via);
        let silenced = findings.iter_mut().filter(|it| matches!(it, Finding::Silenced { .. }));
        for finding in silenced.take(MAX_SILENCES) {
            let Finding::Silenced { id, .. } = &*finding else { continue };
            let path = format!("api/v2/silence/{id}");
            if let Ok(got) = self.get_ok(&path, &[]).await {
                read_silence(&got.body, finding);
            }
        }
        // The list of everything may be long, and is asked for only then.
        if inhibitor::is_needed(&findings)
            && let Ok(got) = self.get_ok("api/v2/alerts", &[]).await
        {
            inhibitor::resolve(&got.body, &mut findings);
        }
        findings
    }

    async fn get_ok(&self, path: &str, query: &[(&str, &str)]) -> Result<Got, Finding> {
        let got = self
            .get(path, query)
            .await
            .map_err(|detail| Finding::Unreachable { detail: format!("/{path}: {detail}") })?;
        if got.code == 200 {
            return Ok(got);
        }
        Err(Finding::Unreadable { detail: format!("/{path}: status {}", got.code) })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Got, String> {
        let mut url = Url::parse(self.url).map_err(|error| error.to_string())?;
        if let Ok(mut steps) = url.path_segments_mut() {
            steps.pop_if_empty().extend(path.split('/'));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(|error| reason(&error))?;
        let code = response.status().as_u16();
        let content_type = response.headers().get(reqwest::header::CONTENT_TYPE);
        let format =
            content_type.and_then(|it| it.to_str().ok()).and_then(Format::from_content_type);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(format!("the answer is longer than {MAX_BODY_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Got { code, format, body })
    }
}

/// The innermost cause, without the URL.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("nothing within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
