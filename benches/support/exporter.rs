//! A process that answers `/probe`, asked as Prometheus asks: over connections that stay open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Ticks of the kernel's accounting in a second: fixed in what it shows to processes.
const TICKS: f64 = 100.0;
/// How long a process may take to listen, in steps of 20 ms.
const STEPS: u32 = 500;
/// How many connections ask at once.
const CONNECTIONS: usize = 8;
const HEADERS: &str = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\nAccept-Encoding: gzip\r\nUser-Agent: Prometheus/2.42.0\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n";

/// It ends when it is dropped.
pub(crate) struct Exporter {
    child: Child,
    address: SocketAddr,
}

impl Exporter {
    /// Starts `program` with the modules in `config` and waits until it answers.
    pub(crate) fn start(program: &str, config: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let exporter = Self { child, address: free };
        for _ in 0..STEPS {
            if exporter.ask_once("/-/healthy").is_ok() {
                return exporter;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{program} does not listen");
    }

    /// CPU time in seconds for each request, of `count` requests for these paths in turn.
    pub(crate) fn measure(&self, paths: &[String], count: usize) -> f64 {
        let before = self.cpu();
        thread::scope(|scope| {
            for first in 0..CONNECTIONS {
                scope.spawn(move || {
                    let mut line = Line::open(self.address).unwrap();
                    for number in (first..count).step_by(CONNECTIONS) {
                        let page = line.ask(&paths[number % paths.len()]).unwrap();
                        assert!(page > 200, "{page} bytes are no exposition");
                    }
                });
            }
        });
        (self.cpu() - before) / f64::from(u32::try_from(count).expect("some thousands"))
    }

    /// The text of one answer.
    pub(crate) fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// Bytes of a line of `/proc/PID/status`: `VmRSS:` is everything resident, `RssAnon:` what the process took itself.
    pub(crate) fn memory(&self, line: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|l| l.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }

    fn ask_once(&self, path: &str) -> io::Result<usize> {
        Line::open(self.address)?.ask(path)
    }

    fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let behind_name = stat.rsplit_once(") ").unwrap().1;
        let ticks = behind_name.split(' ').skip(11).take(2).map(|n| n.parse::<f64>().unwrap());
        ticks.sum::<f64>() / TICKS
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A connection that stays open.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks, and reads the answer to its end; its length as sent.
    fn ask(&mut self, path: &str) -> io::Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{HEADERS}\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(status));
        }
        let mut length = None;
        loop {
            let header = self.line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        match length {
            Some(length) => self.skip(length),
            None => self.chunks(),
        }
    }

    fn chunks(&mut self) -> io::Result<usize> {
        let mut all = 0;
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            self.skip(size)?;
            self.line()?;
            if size == 0 {
                return Ok(all);
            }
            all += size;
        }
    }

    fn skip(&mut self, length: usize) -> io::Result<usize> {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(length)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
