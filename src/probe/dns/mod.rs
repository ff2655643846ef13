//! `dns`: does a name server answer, and with the right records?
//!
//! The target is the server, not the name. Beyond blackbox: a truncated answer is asked for again over TCP, the reply's
//! question must be ours, and the response code is told.

mod exchange;
mod message;
mod rules;
mod text;
mod words;

use std::net::IpAddr;

use hickory_proto::op::{Message, Metadata};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, Record};
use serde::Deserialize;

use self::exchange::Server;
use self::message::{EdnsWishes, Question, Wishes};
use self::rules::Rules;
pub use self::rules::RulesSpec;
use super::{Ask, Blocks, Report, Verdict, address};
use crate::model::{Answer, Fact, Family, Fault, Mistakes, Phase, Unknown, family};
use crate::net::{IpFamily, IpPreference, Source, TlsClient, TlsSettings, parse_name};

const PORT: u16 = 53;
const TLS_PORT: u16 = 853;
/// What passes everywhere without fragments.
const EDNS_BUFFER: u16 = 1232;
/// The least that a size may be: RFC 6891 takes less for this.
const MIN_EDNS_BUFFER: u64 = 512;
/// Letters of a server's own name that are shown.
const MAX_NSID: usize = 128;

/// What is there in every outcome, with zero until it is known.
const ALWAYS: [&Family; 4] = [
    &family::PROBE_DNS_ANSWER_RRS,
    &family::PROBE_DNS_AUTHORITY_RRS,
    &family::PROBE_DNS_ADDITIONAL_RRS,
    &family::PROBE_DNS_QUERY_SUCCEEDED,
];

/// The block `dns:` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "bits of a query, each with a key of its own")]
pub struct Spec {
    /// Default `ip6`.
    pub preferred_ip_protocol: Option<IpFamily>,
    /// Default true.
    pub ip_protocol_fallback: Option<bool>,
    /// The address to ask from.
    pub source_ip_address: Option<String>,
    /// `udp` (default) or `tcp`.
    pub transport_protocol: Option<String>,
    /// Needs `transport_protocol: tcp`. Default false.
    pub dns_over_tls: Option<bool>,
    pub tls_config: Option<TlsSettings>,
    /// Required when the block is there; without it the root is asked for.
    pub query_name: Option<String>,
    /// Default `ANY`.
    pub query_type: Option<String>,
    /// Default `IN`.
    pub query_class: Option<String>,
    /// Default true.
    pub recursion_desired: Option<bool>,
    /// Ours: set AD in the query, to be told whether the answer is authenticated. Default false.
    #[serde(default)]
    pub authentic_data: bool,
    /// Ours: set CD in the query, so that a resolver does not validate. Default false.
    #[serde(default)]
    pub checking_disabled: bool,
    /// Ours: set DO, so that signatures are sent. Implies EDNS. Default false.
    #[serde(default)]
    pub dnssec_ok: bool,
    /// Ours: the largest datagram that is taken, told by EDNS. Default: no EDNS, or 1232 where something else needs it.
    pub edns_buffer_size: Option<u64>,
    /// Ours: ask which server answers (NSID). Implies EDNS. Default false.
    #[serde(default)]
    pub nsid: bool,
    /// Ours: flags that the response must have: `aa`, `ad`, `ra`. Default none.
    pub require_flags: Option<Vec<Flag>>,
    /// Default `NOERROR`; an empty list accepts nothing.
    pub valid_rcodes: Option<Vec<String>>,
    pub validate_answer_rrs: Option<RulesSpec>,
    pub validate_authority_rrs: Option<RulesSpec>,
    pub validate_additional_rrs: Option<RulesSpec>,
}

/// A flag that a response can be required to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// The server is an authority for the name.
    Aa,
    /// The resolver has validated the answer.
    Ad,
    /// The server resolves for others.
    Ra,
}

impl Flag {
    const fn label(self) -> &'static str {
        match self {
            Self::Aa => "aa",
            Self::Ad => "ad",
            Self::Ra => "ra",
        }
    }

    const fn is_set(self, reply: &Metadata) -> bool {
        match self {
            Self::Aa => reply.authoritative,
            Self::Ad => reply.authentic_data,
            Self::Ra => reply.recursion_available,
        }
    }
}

#[derive(Debug)]
pub struct Prober {
    preference: IpPreference,
    source: Source,
    transport: Transport,
    question: Question,
    valid_rcodes: Vec<u16>,
    required: Vec<Flag>,
    /// For the answer, authority and additional sections.
    rules: [Rules; 3],
    broken: Broken,
}

/// Why no run can succeed, where blackbox, too, notices it only in a run: by the step at which it does.
#[derive(Debug, Default)]
struct Broken {
    at_once: Option<Unknown>,
    resolved: Option<Unknown>,
    answered: Option<Unknown>,
}

#[cfg(test)]
impl Broken {
    fn is_some(&self) -> bool {
        [&self.at_once, &self.resolved, &self.answered].into_iter().any(Option::is_some)
    }
}

/// Ends a run where something cannot be used.
fn usable(broken: Option<&Unknown>) -> Result<(), Answer> {
    broken.map_or(Ok(()), |why| Err(why.clone().into()))
}

#[derive(Debug)]
enum Transport {
    Udp,
    Tcp,
    Tls(Box<TlsClient>),
}

impl Prober {
    pub(super) fn build(blocks: &mut Blocks, mistakes: &mut Mistakes) -> Option<Self> {
        let spec = match blocks.dns.take() {
            Some(spec) => {
                if spec.query_name.as_deref().unwrap_or_default().is_empty() {
                    mistakes.error("dns.query_name", "no name to ask for", "set query_name");
                    return None;
                }
                spec
            }
            None => Spec::default(),
        };
        spec.build(mistakes)
    }

    pub(super) async fn run(&self, ask: &Ask<'_>, report: &mut Report) -> Verdict {
        for phase in [Phase::Resolve, Phase::Connect, Phase::Request] {
            report.watch.touch(phase);
        }
        for family in ALWAYS {
            report.set(family, 0.0);
        }
        usable(self.broken.at_once.as_ref())?;
        let target = &ask.target.address;
        let (host, port) = server(target, self.transport.port()).ok_or_else(|| {
            Unknown::Setup(format!("{target:?} is not a server with or without a port").into())
        })?;
        let ip = address::resolve(ask, (host, Some(port)), self.preference, report).await?;
        usable(self.broken.resolved.as_ref())?;
        let name = ask.target.hostname.as_deref().unwrap_or(host);
        let server = Server { name, ip, port, source: self.source, deadline: ask.deadline };
        let asked = self.question.ask();
        let reply = server.exchange(&self.transport, &asked, report).await?;
        let reply = message::decode(&reply)
            .map_err(|why| Answer::from(Fault::DnsMalformed { detail: why.into() }))?;
        report.watch.stop();
        self.judge(&reply, report)
    }

    fn judge(&self, reply: &Message, report: &mut Report) -> Verdict {
        let rcode = u16::from(reply.metadata.response_code);
        self.tell(reply, rcode, report);
        usable(self.broken.answered.as_ref())?;
        if !self.valid_rcodes.contains(&rcode) {
            return Err(self.refused(rcode).into());
        }
        if let Some(flag) = self.required.iter().find(|flag| !flag.is_set(&reply.metadata)) {
            let detail = format!("the response has no flag {}", flag.label());
            return Err(Fault::DnsRecords { detail: detail.into() }.into());
        }
        for (rules, records) in self.rules.iter().zip(sections(reply)) {
            if rules.is_empty() {
                continue;
            }
            let texts: Vec<_> = records.iter().map(text::record).collect();
            rules.check(&texts)?;
        }
        Ok(())
    }

    /// Facts and notes of a reply, whatever the verdict.
    fn tell(&self, reply: &Message, rcode: u16, report: &mut Report) {
        // The library takes an EDNS record out of its section.
        let edns = usize::from(reply.edns.is_some());
        let counts = [reply.answers.len(), reply.authorities.len(), reply.additionals.len() + edns];
        for (family, count) in ALWAYS.into_iter().zip(counts) {
            report.set(family, f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        report.set_flag(&family::PROBE_DNS_QUERY_SUCCEEDED, true);
        let word = words::rcode_word(rcode);
        report.add(Fact::info(&family::PROBE_DNS_RCODE_INFO, [("rcode".into(), (&*word).into())]));
        tell_flags(reply, report);
        if self.question.kind == words::SOA {
            report.set(&family::PROBE_DNS_SERIAL, f64::from(serial(&reply.answers)));
        }
        report.note(|| format!("answered {word} for {}", self.question.name));
        for (section, records) in ["answer", "authority", "additional"].iter().zip(sections(reply))
        {
            for record in records {
                report.note(|| format!("{section}: {}", text::record(record)));
            }
        }
    }

    fn refused(&self, rcode: u16) -> Fault {
        let name = self.question.name.as_str().into();
        match rcode {
            words::NXDOMAIN => Fault::DnsNxdomain { name },
            words::SERVFAIL => Fault::DnsServfail { name },
            words::REFUSED => Fault::DnsRefused { name },
            other => Fault::DnsRcode { rcode: words::rcode_word(other).into() },
        }
    }
}

impl Transport {
    const fn port(&self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => PORT,
            Self::Tls(_) => TLS_PORT,
        }
    }
}

/// Flags, and what the server said by EDNS. Whether UDP was truncated is told by the exchange: over TCP nothing is.
fn tell_flags(reply: &Message, report: &mut Report) {
    for flag in [Flag::Aa, Flag::Ad, Flag::Ra] {
        let set = f64::from(u8::from(flag.is_set(&reply.metadata)));
        report.add(Fact::labelled(&family::PROBE_DNS_FLAG, "flag", flag.label(), set));
    }
    let truncated = report.fact(&family::PROBE_DNS_TRUNCATED).unwrap_or_default();
    report.add(Fact::labelled(&family::PROBE_DNS_FLAG, "flag", "tc", truncated));
    let Some(edns) = &reply.edns else { return };
    report.set(&family::PROBE_DNS_EDNS_BUFFER, f64::from(edns.max_payload()));
    let Some(EdnsOption::NSID(nsid)) = edns.option(EdnsCode::NSID) else { return };
    let shown: String = String::from_utf8_lossy(nsid.as_ref()).chars().take(MAX_NSID).collect();
    report.add(Fact::info(&family::PROBE_DNS_NSID_INFO, [("nsid".into(), shown.into())]));
}

fn sections(reply: &Message) -> [&[Record]; 3] {
    [&reply.answers, &reply.authorities, &reply.additionals]
}

/// The serial of the last SOA record, as blackbox has it, or 0.
fn serial(answers: &[Record]) -> u32 {
    let mut serials = answers.iter().filter_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    serials.next_back().unwrap_or_default()
}

/// Splits `host[:port]`. What does not split is a host, so that a bare IPv6 address works.
fn server(target: &str, default_port: u16) -> Option<(&str, u16)> {
    let bare = target.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let whole = bare.or_else(|| {
        let colons = target.bytes().filter(|byte| *byte == b':').count();
        (colons == 0 || (colons > 1 && !target.starts_with('['))).then_some(target)
    });
    let (host, port) = match whole {
        Some(host) => (host, default_port),
        None => address::host_port(target)?,
    };
    (!host.is_empty()).then_some((host, port))
}

impl Spec {
    fn build(self, mistakes: &mut Mistakes) -> Option<Prober> {
        let mut broken = Broken::default();
        let question = self.question(mistakes);
        let required = self.require_flags.clone().unwrap_or_default();
        let source = self.source(&mut broken, mistakes);
        let valid_rcodes = self.rcodes(&mut broken, mistakes);
        let preference = IpPreference {
            family: self.preferred_ip_protocol.unwrap_or(IpFamily::V6),
            fallback: self.ip_protocol_fallback.unwrap_or(true),
        };
        let word = self.transport_protocol.unwrap_or_default();
        let over_tls = self.dns_over_tls.unwrap_or_default();
        let tls = self.tls_config.unwrap_or_default();
        let transport = transport(&word, over_tls, tls, &mut broken, mistakes);
        let rules = [
            ("answer", "dns.validate_answer_rrs", self.validate_answer_rrs),
            ("authority", "dns.validate_authority_rrs", self.validate_authority_rrs),
            ("additional", "dns.validate_additional_rrs", self.validate_additional_rrs),
        ]
        .map(|(section, key, spec)| Rules::build(section, key, spec, mistakes));
        Some(Prober {
            preference,
            source,
            transport,
            question: question?,
            valid_rcodes,
            required,
            rules,
            broken,
        })
    }

    fn question(&self, mistakes: &mut Mistakes) -> Option<Question> {
        let kind = self.query_type.as_deref().unwrap_or_default();
        let kind = if kind.is_empty() { Some(words::ANY) } else { words::type_code(kind) };
        if kind.is_none() {
            let what = format!("{:?} is not a record type", self.query_type.as_deref()?);
            mistakes.error("dns.query_type", what, "write it in upper case, such as A, AAAA or MX");
        }
        let class = self.query_class.as_deref().unwrap_or_default();
        let class = if class.is_empty() { Some(words::IN) } else { words::class_code(class) };
        if class.is_none() {
            let what = format!("{:?} is not a class", self.query_class.as_deref()?);
            mistakes.error("dns.query_class", what, format!("use {}", words::class_words()));
        }
        let wrong = |why: &dyn std::fmt::Display| {
            let name = self.query_name.as_deref().unwrap_or_default();
            format!("{name:?} cannot be asked for: {why}")
        };
        let name = match parse_name(self.query_name.as_deref().unwrap_or(".")) {
            Ok(mut name) => {
                name.set_fqdn(true);
                name
            }
            Err(why) => {
                mistakes.error("dns.query_name", wrong(&why), "");
                return None;
            }
        };
        let wishes = Wishes {
            recursion: self.recursion_desired.unwrap_or(true),
            authentic_data: self.authentic_data,
            checking_disabled: self.checking_disabled,
            edns: self.edns(mistakes),
        };
        Question::new(&name, kind?, class?, wishes)
            .map_err(|why| mistakes.error("dns.query_name", wrong(&why), ""))
            .ok()
    }

    fn edns(&self, mistakes: &mut Mistakes) -> Option<EdnsWishes> {
        let size = self.edns_buffer_size;
        let buffer = size.map_or(Some(EDNS_BUFFER), |size| {
            u16::try_from(size).ok().filter(|_| size >= MIN_EDNS_BUFFER)
        });
        let Some(buffer) = buffer else {
            let what = "an EDNS buffer has between 512 and 65535 bytes";
            mistakes.error("dns.edns_buffer_size", what, "1232 passes everywhere");
            return None;
        };
        let (dnssec_ok, nsid) = (self.dnssec_ok, self.nsid);
        (size.is_some() || dnssec_ok || nsid).then_some(EdnsWishes { buffer, dnssec_ok, nsid })
    }

    fn source(&self, broken: &mut Broken, mistakes: &mut Mistakes) -> Source {
        let text = self.source_ip_address.as_deref().filter(|text| !text.is_empty())?;
        let parsed = text.parse::<IpAddr>();
        if parsed.is_err() {
            let what = format!("{text:?} is not an address: no run can succeed");
            mistakes.warning("dns.source_ip_address", what.as_str(), "write it without brackets");
            broken.resolved.get_or_insert_with(|| Unknown::SourceAddress(what.into()));
        }
        parsed.ok()
    }

    fn rcodes(&self, broken: &mut Broken, mistakes: &mut Mistakes) -> Vec<u16> {
        let Some(list) = &self.valid_rcodes else { return vec![words::NOERROR] };
        if list.is_empty() {
            let what = "an empty list accepts no answer at all: no run can succeed";
            mistakes.warning("dns.valid_rcodes", what, "leave it out to accept NOERROR");
        }
        let mut codes = Vec::new();
        for word in list {
            if let Some(code) = words::rcode(word) {
                codes.push(code);
                continue;
            }
            let what = format!("{word:?} is not a response code: no run can succeed");
            let hint = "write it in upper case, such as NOERROR or NXDOMAIN";
            mistakes.warning("dns.valid_rcodes", what.as_str(), hint);
            broken
                .answered
                .get_or_insert_with(|| Unknown::Setup(format!("valid_rcodes: {what}").into()));
        }
        codes
    }
}

/// Reads the transport; a combination that cannot work is a warning, as blackbox notices it only in a run.
fn transport(
    word: &str,
    over_tls: bool,
    tls: TlsSettings,
    broken: &mut Broken,
    mistakes: &mut Mistakes,
) -> Transport {
    mistakes.within("dns.tls_config", |mistakes| tls.check(mistakes));
    let known = matches!(word, "" | "udp" | "tcp");
    let (what, hint) = match (word, over_tls) {
        ("" | "udp", false) => return Transport::Udp,
        ("tcp", false) => return Transport::Tcp,
        ("tcp", true) => return Transport::Tls(Box::new(TlsClient::new(tls))),
        ("" | "udp", true) => {
            ("dns_over_tls needs a stream: no run can succeed".to_owned(), "set it to tcp")
        }
        (other, _) => {
            (format!("{other:?} is not a transport: no run can succeed"), "use udp or tcp")
        }
    };
    mistakes.warning("dns.transport_protocol", what.as_str(), hint);
    let step = if known { &mut broken.resolved } else { &mut broken.at_once };
    step.get_or_insert_with(|| Unknown::Setup(format!("transport_protocol: {what}").into()));
    if over_tls { Transport::Tls(Box::new(TlsClient::new(tls))) } else { Transport::Udp }
}

#[cfg(test)]
mod tests;
