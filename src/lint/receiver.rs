//! Alertmanager's receivers: whether one has a webhook to us, and whether that will be let in.

use std::io::Read as _;
use std::path::Path;

use url::Url;

use super::{Asked, Watchdog, is_true};
use crate::config::yaml::Node;
use crate::config::{Problem, Problems};

/// A URL in a file is read up to here.
const MAX_URL_BYTES: u64 = 4096;
/// The segment of our door's path before the name.
const DOOR: &str = "alertmanager";

/// What one receiver does with an alert.
#[derive(Debug)]
pub(super) struct Receiver<'a> {
    /// Its webhooks that lead to the watchdog.
    pub(super) ours: Vec<&'a Node>,
    /// Its other integrations, by kind: `pagerduty`.
    pub(super) others: Vec<&'a str>,
    /// Webhooks whose URL is in a file that cannot be seen from here.
    pub(super) hidden: Vec<&'a Node>,
}

/// The receiver of this name.
pub(super) fn find<'a>(root: &'a Node, name: &str) -> Option<&'a Node> {
    let receivers = root.get("receivers").map(Node::items).unwrap_or_default();
    receivers.iter().find(|receiver| receiver.get("name").and_then(Node::text) == Some(name))
}

impl<'a> Receiver<'a> {
    /// `name`: the watchdog's; `None` when any will do.
    pub(super) fn read(node: &'a Node, name: Option<&str>) -> Self {
        let mut receiver = Self { ours: Vec::new(), others: Vec::new(), hidden: Vec::new() };
        for entry in node.entries() {
            let Some(kind) = entry.name().strip_suffix("_configs") else { continue };
            for config in entry.value.items() {
                if kind != "webhook" {
                    receiver.others.push(kind);
                    continue;
                }
                match target(config) {
                    Target::Watchpost(found) if name.is_none_or(|name| name == found) => {
                        receiver.ours.push(config);
                    }
                    Target::Hidden => receiver.hidden.push(config),
                    Target::Watchpost(_) | Target::Elsewhere => receiver.others.push(kind),
                }
            }
        }
        receiver
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.others.is_empty() && self.hidden.is_empty()
    }
}

/// Where a webhook leads.
enum Target {
    /// To the door of the watchdog of this name.
    Watchpost(String),
    Elsewhere,
    /// Nobody here can say.
    Hidden,
}

fn target(config: &Node) -> Target {
    let url = match (config.get("url"), config.get("url_file")) {
        (Some(url), _) => url.text().map(str::to_owned),
        (None, Some(file)) => file.text().and_then(read_url),
        (None, None) => return Target::Elsewhere,
    };
    let Some(url) = url else { return Target::Hidden };
    let Ok(url) = Url::parse(url.trim()) else { return Target::Elsewhere };
    let steps: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    match steps.as_slice() {
        [.., DOOR, name] if !name.is_empty() => Target::Watchpost(decoded(name)),
        _ => Target::Elsewhere,
    }
}

fn read_url(path: &str) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(Path::new(path)).ok()?;
    file.take(MAX_URL_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A segment of a path as a name.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let byte = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| {
            let hex = std::str::from_utf8(hex).ok()?;
            u8::from_str_radix(hex, 16).ok()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is wrong with a webhook that leads to us.
pub(super) fn check(root: &Node, webhook: &Node, watchdog: &Watchdog<'_>, problems: &mut Problems) {
    if is_true(webhook.get("send_resolved")) == Some(false) {
        problems.push(
            Problem::warning(
                "the end of the alert is not sent: a rule that is gone is known only after max_age",
            )
            .at(webhook.find("send_resolved").at())
            .hint("send_resolved: true; watchpost does not take an end for a beat"),
        );
    }
    if let Some(payload) = webhook.get("payload") {
        problems.push(
            Problem::error("a body of your own carries no clock, and watchpost refuses it")
                .at(payload.at())
                .hint("drop payload: the default is Alertmanager's webhook, version 4"),
        );
    }
    check_credentials(root, webhook, watchdog, problems);
}

fn check_credentials(
    root: &Node,
    webhook: &Node,
    watchdog: &Watchdog<'_>,
    problems: &mut Problems,
) {
    let global = root.get("global").and_then(|global| global.get("http_config"));
    let http = webhook.get("http_config").or(global);
    let authorization = http.and_then(|http| http.get("authorization"));
    if let Some(kind) = authorization.and_then(|it| it.get("type"))
        && !kind.text().is_some_and(|text| text.eq_ignore_ascii_case("bearer"))
    {
        problems.push(
            Problem::error(
                "watchpost takes a bearer token, or basic_auth with the key as its password",
            )
            .at(kind.at())
            .hint("drop type: Bearer is the default"),
        );
    }
    let has = |node: Option<&Node>, keys: &[&str]| {
        node.is_some_and(|node| {
            keys.iter().any(|key| node.get(key).is_some_and(|it| !it.is_null()))
        })
    };
    let basic = http.and_then(|http| http.get("basic_auth"));
    let in_url = webhook.get("url").and_then(Node::text).and_then(|url| Url::parse(url).ok());
    let is_given = has(authorization, &["credentials", "credentials_file", "credentials_ref"])
        || has(basic, &["password", "password_file", "password_ref"])
        || has(http, &["bearer_token", "bearer_token_file"])
        || in_url.is_some_and(|url| url.password().is_some());
    if is_given {
        return;
    }
    let hint = "http_config: {authorization: {credentials_file: FILE}}, the same key as the deadman's key_file";
    let what = "no credentials are sent";
    if watchdog.spec.has_key() {
        let what = format!("{what}: watchpost answers 401, which Alertmanager does not repeat");
        problems.push(Problem::error(what).at(webhook.at()).hint(hint));
    } else if !watchdog.asked.configured {
        let what = format!("{what}: without a key, whoever reaches watchpost may send evidence");
        problems.push(Problem::warning(what).at(webhook.at()).hint(hint));
    }
}

/// Webhooks to watchdogs that the configuration does not have.
pub(super) fn unknown_names(root: &Node, asked: &Asked<'_>, problems: &mut Problems) {
    let known: Vec<&str> = asked
        .specs
        .iter()
        .filter(|spec| spec.watchdog.is_some())
        .map(|spec| spec.name.as_str())
        .collect();
    for receiver in root.get("receivers").map(Node::items).unwrap_or_default() {
        for webhook in receiver.get("webhook_configs").map(Node::items).unwrap_or_default() {
            let Target::Watchpost(name) = target(webhook) else { continue };
            if known.contains(&name.as_str()) {
                continue;
            }
            problems.push(
                Problem::error(format!(
                    "the configuration has no watchdog {name:?}: watchpost answers 404"
                ))
                .at(webhook.find("url").at())
                .hint(format!("its watchdogs: {}", known.join(", "))),
            );
        }
    }
}
