//! Whatever is asked of `/probe`: any bytes as target, module, name of a host, parameter or header. It answers with one of
//! the statuses that are written down, in good form, in time, and goes on listening on the same connection.
//!
//! The built binary is asked, which may ask nobody but this machine: addresses are limited to loopback, and names are
//! resolved by a server of the test's own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use watchpost::probe::exposition::{Format, Limits, Reader, Sample};

use super::compat::bench::page::Page;
use crate::support::watchpost::{PATIENCE, Watchpost};

const PROBERS: [&str; 10] =
    ["http", "tcp", "dns", "icmp", "grpc", "websocket", "udp", "tls", "unix", "exporter"];
const HEADERS: [&str; 5] = ["Accept", "Accept-Encoding", "Cookie", "Range", "If-Match"];
/// How many requests are made up, by so many at once.
const CASES: u32 = 100;
const HANDS: u32 = 4;
/// How many steps are made to find the smallest request that goes wrong.
const SHRINKING: u32 = 300;
/// What a run may take; the modules say so.
const TIMEOUT: &str = "300ms";
/// The longest head of an answer.
const MAX_HEAD_LINES: usize = 64;

/// How one request is put together.
#[derive(Debug, Clone)]
struct Asked {
    module: Vec<u8>,
    target: Option<Vec<u8>>,
    hostname: Vec<u8>,
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
    headers: Vec<(String, Vec<u8>)>,
    /// Behind the query, as it is.
    raw: Vec<u8>,
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn text(pattern: &'static str) -> impl Strategy<Value = Vec<u8>> {
    pattern.prop_map(String::into_bytes)
}

fn modules() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::sample::select(&PROBERS[..]).prop_map(|name| name.as_bytes().to_vec()),
        1 => any_bytes(),
    ]
}

fn targets() -> impl Strategy<Value = Option<Vec<u8>>> {
    let like_one = "(https?://|HTTP://|wss?://|/|)([a-z]{0,2}:?[a-z]{0,2}@|)(127.0.0.1|\\[::1\\]|localhost|a%b|[a-z]{1,4}(.test)?|)(:[0-9]{0,6}|:http|)(/[ -~]{0,12}|\\?|#|%[0-9a-f]{0,2}|)";
    prop_oneof![
        6 => text(like_one).prop_map(Some),
        3 => any_bytes().prop_map(Some),
        1 => Just(None),
    ]
}

fn parameters() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop_oneof![
        2 => text("override_(method|timeout|ttl|query_name|header_X_A|body|)"),
        1 => text("debug|module|target|hostname"),
        1 => any_bytes(),
    ];
    let value = prop_oneof![text("true|[0-9]{1,3}(ms|)|GET|[a-z]{1,8}"), any_bytes()];
    proptest::collection::vec((name, value), 0..4)
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    // What frames the request itself is not for this test.
    let name = prop_oneof![
        4 => Just("X-Prometheus-Scrape-Timeout-Seconds".to_owned()),
        2 => proptest::sample::select(&HEADERS[..]).prop_map(str::to_owned),
        1 => "X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,16}",
    ];
    let value = prop_oneof![
        4 => text("[0-9.eE+-]{0,6}|NaN|inf|-1|0x1p-2"),
        3 => text("(text/plain|application/openmetrics-text|\\*/\\*|gzip|br)(;[a-z]{1,7}=[0-9.]{1,5}){0,2}"),
        2 => proptest::collection::vec(prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8, Just(b'\t')], 0..40),
    ];
    proptest::collection::vec((name, value), 0..4)
}

fn asked() -> impl Strategy<Value = Asked> {
    let hostname =
        prop_oneof![3 => Just(Vec::new()), 1 => any_bytes(), 1 => text("[a-z.:%\\[\\]]{1,12}")];
    // Whatever may stand in a request line, and some that may not.
    let raw = prop_oneof![
        6 => Just(Vec::new()),
        1 => text("[!-~]{0,20}"),
        1 => proptest::collection::vec(0x21..=0xff_u8, 0..20),
    ];
    (modules(), targets(), hostname, parameters(), headers(), raw).prop_map(
        |(module, target, hostname, parameters, headers, raw)| Asked {
            module,
            target,
            hostname,
            parameters,
            headers,
            raw,
        },
    )
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

impl Asked {
    fn bytes(&self) -> Vec<u8> {
        let mut line = format!("GET /probe?module={}", percent(&self.module));
        if let Some(target) = &self.target {
            write!(line, "&target={}", percent(target)).unwrap();
        }
        if !self.hostname.is_empty() {
            write!(line, "&hostname={}", percent(&self.hostname)).unwrap();
        }
        for (name, value) in &self.parameters {
            write!(line, "&{}={}", percent(name), percent(value)).unwrap();
        }
        let mut bytes = line.into_bytes();
        bytes.extend_from_slice(&self.raw);
        bytes.extend_from_slice(b" HTTP/1.1\r\nHost: watchpost.test\r\n");
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Whether this is a request at all: what is not may be answered with 400 and the end of the connection.
    fn is_http(&self) -> bool {
        self.raw.iter().all(|byte| byte.is_ascii_alphanumeric() || b"&=%+-._~/?:@".contains(byte))
    }
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    kind: String,
    coding: String,
    body: Vec<u8>,
}

/// A connection on which requests follow one another.
struct Door {
    stream: BufReader<TcpStream>,
}

impl Door {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn ask(&mut self, request: &[u8]) -> Result<Answer, String> {
        self.stream.get_mut().write_all(request).map_err(|error| error.to_string())?;
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| format!("no status: {line:?}"))?;
        let (mut kind, mut coding, mut length) = (String::new(), String::new(), None);
        for _ in 0..MAX_HEAD_LINES {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(": ").ok_or_else(|| format!("no header: {line}"))?;
            match name.to_ascii_lowercase().as_str() {
                "content-type" => value.clone_into(&mut kind),
                "content-encoding" => value.clone_into(&mut coding),
                "content-length" => length = value.parse().ok(),
                _ => {}
            }
        }
        let mut body = vec![0; length.ok_or("an answer without its length")?];
        self.stream.read_exact(&mut body).map_err(|error| error.to_string())?;
        Ok(Answer { status, kind, coding, body })
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        let line = String::from_utf8_lossy(&line).into_owned();
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| format!("broken off: {line:?}"))
    }
}

impl Answer {
    fn text(&self) -> Result<String, String> {
        let mut text = String::new();
        if self.coding == "gzip" {
            let mut decoder = flate2::read::MultiGzDecoder::new(&self.body[..]);
            decoder.read_to_string(&mut text).map_err(|error| error.to_string())?;
            return Ok(text);
        }
        String::from_utf8(self.body.clone()).map_err(|error| error.to_string())
    }

    /// What is wrong with it as an answer of `/probe`.
    fn flaw(&self, is_debug: bool) -> Result<(), String> {
        let text = self.text()?;
        match self.status {
            200 if is_debug => {
                let whole = text.starts_with("Logs for the probe:\n")
                    && text.contains("\nMetrics that would have been returned:\n");
                if whole { Ok(()) } else { Err(format!("no page of a run: {text}")) }
            }
            200 => self.page(&text),
            400 | 403 if text.ends_with('\n') => Ok(()),
            // The one 500 of the contract.
            500 if text.starts_with("X-Prometheus-Scrape-Timeout-Seconds is not a number") => {
                Ok(())
            }
            status => Err(format!("{status}: {text}")),
        }
    }

    fn page(&self, text: &str) -> Result<(), String> {
        if self.kind.starts_with("text/plain; version=0.0.4") {
            // Read without the code under test, and for how it is put together.
            let flaws = Page::parse(text)?.flaws();
            if !flaws.is_empty() {
                return Err(format!("{flaws:?} in {text}"));
            }
        }
        let format = Format::from_content_type(&self.kind).ok_or_else(|| self.kind.clone())?;
        let (mut success, mut told) = (None, false);
        let mut sink = |sample: Sample<'_>| match sample.name {
            "probe_success" => success = Some(sample.value),
            "probe_failure_info" => told = true,
            _ => {}
        };
        let mut reader = Reader::new(format, Limits::default());
        let fed = reader.feed(text.as_bytes(), &mut sink);
        fed.and_then(|()| reader.finish(&mut sink)).map_err(|why| format!("{why:?} in {text}"))?;
        match success {
            Some(1.0) => {}
            Some(0.0) if told => {}
            _ => return Err(format!("no verdict, or none that is explained: {text}")),
        }
        if text.contains("reason=\"defect\"") {
            return Err(format!("a defect of ours: {text}"));
        }
        Ok(())
    }
}

const HEALTHY: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: watchpost.test\r\n\r\n";

fn put(asked: &Asked, address: &str) -> Result<(), String> {
    let mut door = Door::open(address);
    let began = Instant::now();
    let answer = match door.ask(&asked.bytes()) {
        Err(_) if !asked.is_http() => return Ok(()),
        Ok(answer) if !asked.is_http() && answer.status == 400 => return Ok(()),
        answer => answer?,
    };
    if began.elapsed() > PATIENCE {
        return Err(format!("it took {:?}", began.elapsed()));
    }
    let debug = asked.parameters.iter().find(|(name, _)| name == b"debug");
    let raw = String::from_utf8_lossy(&asked.raw).into_owned();
    let is_debug = debug.is_some_and(|(_, value)| [&value[..], raw.as_bytes()].concat() == b"true")
        || answer.body.starts_with(b"Logs for the probe:\n");
    answer.flaw(is_debug)?;
    let healthy = door.ask(HEALTHY).map_err(|error| format!("not usable any more: {error}"))?;
    if healthy.status == 200 && healthy.body == b"Healthy" {
        return Ok(());
    }
    Err(format!("what comes next is {healthy:?}"))
}

/// Knows names below `test`, at 127.0.0.1 and ::1, until the test ends.
fn name_server() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Ok(mut reply) = Message::from_vec(&buffer[..length]) else { continue };
            reply.metadata.message_type = MessageType::Response;
            let Some(question) = reply.queries.first().cloned() else { continue };
            let known = question.name().to_ascii().to_ascii_lowercase().ends_with("test.");
            match question.query_type() {
                _ if !known => reply.metadata.response_code = ResponseCode::NXDomain,
                kind @ (RecordType::A | RecordType::AAAA) => {
                    let ip = if kind == RecordType::A { "127.0.0.1" } else { "::1" };
                    let data = RData::from(ip.parse::<std::net::IpAddr>().unwrap());
                    reply.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                }
                _ => {}
            }
            socket.send_to(&reply.to_vec().unwrap(), from).ok();
        }
    });
    address
}

fn configuration(names: &str) -> String {
    let mut text = "watchpost: { probe_allow: [127.0.0.0/8, '::1'] }\nmodules:\n".to_owned();
    for prober in PROBERS {
        let allowed = match prober {
            "http" | "exporter" => "method, timeout, headers.X-A",
            "icmp" => "timeout, ttl",
            "dns" => "timeout, query_name",
            _ => "timeout",
        };
        let query = if prober == "dns" { ", dns: { query_name: a.test }" } else { "" };
        writeln!(
            text,
            "  {prober}: {{ prober: {prober}, timeout: {TIMEOUT}, allow_overrides: [{allowed}], \
             resolver: {{ servers: ['{names}'], use_hosts_file: false, attempts: 1 }}{query} }}"
        )
        .unwrap();
    }
    text
}

#[test]
fn whatever_is_asked_is_answered_in_good_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchpost.yml");
    std::fs::write(&path, configuration(&name_server())).unwrap();
    let watchpost = Watchpost::start(&path);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|_| {
                let address = watchpost.address.as_str();
                scope.spawn(move || {
                    let config = ProptestConfig {
                        cases: CASES / HANDS,
                        max_shrink_iters: SHRINKING,
                        failure_persistence: None,
                        ..ProptestConfig::default()
                    };
                    let mut runner = TestRunner::new(config);
                    let judged = runner
                        .run(&asked(), |asked| put(&asked, address).map_err(TestCaseError::fail));
                    judged.err().map(|why| why.to_string())
                })
            })
            .collect();
        hands.into_iter().filter_map(|hand| hand.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let log = watchpost.log();
    assert!(!log.contains("panicked") && !log.contains("overran"), "{log}");
}

#[tokio::test]
async fn unknown_modules_and_modules_that_are_gone_leave_no_series_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchpost.yml");
    let module = |name: &str| format!("  {name}: {{ prober: tcp, timeout: 1s }}\n");
    std::fs::write(&path, format!("modules:\n{}{}", module("kept"), module("gone"))).unwrap();
    let watchpost = Watchpost::start_with(&path, &["--probe.histogram"]);
    let address = watchpost.address.as_str();
    let ask = |module: &str| {
        let request = format!(
            "GET /probe?module={module}&target=127.0.0.1:1 HTTP/1.1\r\nHost: watchpost.test\r\n\r\n"
        );
        Door::open(address).ask(request.as_bytes()).unwrap().status
    };
    let page = || {
        let request = b"GET /metrics HTTP/1.1\r\nHost: watchpost.test\r\n\r\n";
        Door::open(address).ask(request).unwrap().text().unwrap()
    };
    assert_eq!((ask("kept"), ask("gone")), (200, 200));
    let count = |page: &str, module: &str| {
        let name = "watchpost_probe_request_duration_seconds_count";
        page.lines().filter(|line| line.starts_with(name) && line.contains(module)).count()
    };
    let before = page();
    assert_eq!((count(&before, "kept"), count(&before, "gone")), (1, 1));

    for turn in 0..50 {
        assert_eq!(ask(&format!("nobody_{turn}%FF")), 400);
    }
    std::fs::write(&path, format!("modules:\n{}", module("kept"))).unwrap();
    let reload = reqwest::Client::new().post(watchpost.url("/-/reload")).send().await.unwrap();
    assert_eq!(reload.status(), 200);
    let after = page();
    assert_eq!((count(&after, "kept"), count(&after, "gone")), (1, 0));
    assert!(after.contains("\nblackbox_module_unknown_total 50\n"), "{after}");
    assert!(!after.contains("nobody_") && !after.contains("gone"), "{after}");
    assert_eq!(ask("gone"), 400);
    assert_eq!(
        watchpost.until("blackbox_module_unknown_total", &[], |value| value > 50.0).await,
        51.0
    );
}
