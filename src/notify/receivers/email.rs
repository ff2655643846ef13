//! E-mail by SMTP. A second way rather than a first: a relay that took a message has not shown it to anybody.

use std::time::SystemTime;

use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use serde::Deserialize;

use super::exchange::Outlet;
use super::relay::{Relay, failure};
use super::{Delivery, Sent};
use crate::model::{Mistakes, Secret};
use crate::net::{SecretSource, causes};

const SUBMISSIONS_PORT: u16 = 465;
const SUBMISSION_PORT: u16 = 587;
const MAX_SUBJECT_CHARS: usize = 200;
const MAX_TEXT_BYTES: usize = 64 << 10;
const MAX_RECIPIENTS: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub to: Vec<String>,
    pub from: String,
    /// `host:port`. Port 465 speaks TLS from the start, any other one STARTTLS; default 587.
    pub smarthost: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<String>,
    /// Whether a relay without TLS is refused; default true.
    pub require_tls: Option<bool>,
    /// The name to greet the relay with; default this host's.
    pub hello: Option<String>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    to: Vec<Mailbox>,
    from: Mailbox,
    host: String,
    port: u16,
    login: Option<(String, SecretSource)>,
    require_tls: bool,
    hello: Option<String>,
}

impl Receiver {
    pub(super) fn build(spec: Spec, mistakes: &mut Mistakes) -> Option<Self> {
        let to: Vec<_> = spec
            .to
            .iter()
            .enumerate()
            .filter_map(|(index, text)| mailbox(&format!("to.{index}"), text, mistakes))
            .collect();
        if spec.to.is_empty() || spec.to.len() > MAX_RECIPIENTS {
            let what = format!("{} recipients", spec.to.len());
            mistakes.error("to", what, format!("name 1 to {MAX_RECIPIENTS}"));
            return None;
        }
        let from = mailbox("from", &spec.from, mistakes)?;
        let (host, port) = smarthost(&spec.smarthost, mistakes)?;
        let password = SecretSource::pick("password", spec.password, spec.password_file, mistakes);
        let login = match (spec.username, password) {
            (Some(name), Some(password)) => Some((name, password)),
            (None, None) => None,
            (name, _) => {
                let missing = if name.is_some() { "password" } else { "username" };
                let what = format!("{missing} is missing");
                mistakes.error("", what, "give username and password_file, or neither");
                return None;
            }
        };
        let require_tls = spec.require_tls.unwrap_or(true);
        if !require_tls && login.is_some() {
            let hint = "require TLS, or send without a password";
            mistakes.warning("require_tls", "the password may cross the network unencrypted", hint);
        }
        (to.len() == spec.to.len()).then_some(Self {
            to,
            from,
            host,
            port,
            login,
            require_tls,
            hello: spec.hello,
        })
    }

    pub(super) async fn send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Sent {
        match self.try_send(outlet, delivery).await {
            Ok(sent) | Err(sent) => sent,
        }
    }

    async fn try_send(&self, outlet: &Outlet, delivery: &Delivery<'_>) -> Result<Sent, Sent> {
        let message = self.message(delivery)?;
        let relay = self.relay(outlet).await?;
        let (envelope, text) = (message.envelope(), message.formatted());
        match relay.send(envelope, &text).await? {
            Ok(()) => Ok(Sent::delivered()),
            Err(error) if self.to.len() > 1 && may_be_one(&error) => {
                send_each(&relay, envelope, &text).await
            }
            Err(error) => Err(failure(&error)),
        }
    }

    async fn relay<'a>(&'a self, outlet: &'a Outlet) -> Result<Relay<'a>, Sent> {
        let login = match &self.login {
            Some((name, password)) => {
                let password = password.read().await?.reveal().to_owned();
                Some(Credentials::new(name.clone(), password))
            }
            None => None,
        };
        Ok(Relay {
            names: &outlet.names,
            host: &self.host,
            port: self.port,
            tls: self.tls(outlet).map_err(|why| Sent::Refused { why })?,
            hello: self.hello.clone().map_or_else(ClientId::default, ClientId::Domain),
            login,
            timeout: outlet.timeout,
        })
    }

    fn tls(&self, outlet: &Outlet) -> Result<Tls, String> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(pem) = &outlet.ca_pem {
            let certificate = Certificate::from_pem(pem).map_err(|e| causes(&e))?;
            builder = builder.add_root_certificate(certificate);
        }
        let parameters = builder.build().map_err(|e| causes(&e))?;
        Ok(match (self.port, self.require_tls) {
            (SUBMISSIONS_PORT, _) => Tls::Wrapper(parameters),
            (_, true) => Tls::Required(parameters),
            (_, false) => Tls::Opportunistic(parameters),
        })
    }

    fn message(&self, delivery: &Delivery<'_>) -> Result<lettre::Message, Sent> {
        let host = self.from.email.domain();
        // The first message of an episode has the id that all later ones refer to, so that mail programs show one thread.
        let root =
            format!("<{}@{host}>", delivery.message.episode.as_deref().unwrap_or(delivery.key));
        let is_first = delivery.message.number == 1 && !delivery.message.is_over();
        let id = if is_first { root.clone() } else { format!("<{}@{host}>", delivery.id) };
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .date(SystemTime::from(delivery.now.wall))
            .message_id(Some(id))
            .subject(subject(delivery));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if !is_first {
            builder = builder.in_reply_to(root.clone()).references(root);
        }
        let text = format!(
            "{}\n\n{}\n",
            delivery.message.headline(),
            delivery.message.text(MAX_TEXT_BYTES)
        );
        builder
            .header(lettre::message::header::ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| Sent::Refused { why: error.to_string() })
    }
}

/// Whether a relay may have refused the whole message for one of its recipients: not for who we are (53x).
fn may_be_one(error: &smtp::Error) -> bool {
    error.status().is_some_and(|code| (550..560).contains(&u16::from(code)))
}

/// A mailbox that is gone keeps nobody else from being told.
async fn send_each(relay: &Relay<'_>, envelope: &Envelope, text: &[u8]) -> Result<Sent, Sent> {
    let mut failures = Vec::new();
    for to in envelope.to() {
        let one = Envelope::new(envelope.from().cloned(), vec![to.clone()])
            .map_err(|error| Sent::Refused { why: error.to_string() })?;
        let sent = relay.send(&one, text).await;
        if let Err(sent) = sent.and_then(|sent| sent.map_err(|error| failure(&error))) {
            failures.push((to, sent));
        }
    }
    if failures.len() < envelope.to().len() {
        let partly = failures.iter().map(|(to, sent)| format!("{to}: {}", sent.why()));
        let partly = partly.collect::<Vec<_>>().join("; ");
        let partly = (!failures.is_empty()).then_some(partly);
        return Ok(Sent::Delivered { route: None, partly });
    }
    // All of them for the same reason, more or less; one that may pass is tried again.
    let retry = failures.iter().position(|(_, sent)| matches!(sent, Sent::Retry { .. }));
    Err(failures.swap_remove(retry.unwrap_or_default()).1)
}

/// One line, whatever a target's name holds.
fn subject(delivery: &Delivery<'_>) -> String {
    let line: String =
        delivery.message.headline().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::notify::message::cut_chars(&line, MAX_SUBJECT_CHARS)
}

fn mailbox(key: &str, text: &str, mistakes: &mut Mistakes) -> Option<Mailbox> {
    // A host without a dot is fine inside a company, and the parser takes it.
    text.parse()
        .map_err(|error| {
            let what = format!("{text:?} is not an e-mail address: {error}");
            mistakes.error(key, what, "write name@host or Some Name <name@host>");
        })
        .ok()
}

fn smarthost(text: &str, mistakes: &mut Mistakes) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        None => (text, Some(SUBMISSION_PORT)),
        Some((host, port)) => (host, port.parse().ok()),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match port {
        Some(port) if !host.is_empty() => Some((host.to_owned(), port)),
        _ => {
            let hint = "write host:port, such as mail.example:587";
            mistakes.error("smarthost", format!("{text:?} is not a mail relay"), hint);
            None
        }
    }
}
