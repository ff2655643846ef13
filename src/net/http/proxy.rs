//! Going through a proxy: which one, whether at all, and opening the tunnel.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, de};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Link, Scheme, Wire};
use crate::model::{Answer, Fault, Secret, mistake};
use crate::net::Deadline;

/// The most that a proxy may say before its tunnel is open.
const MAX_TUNNEL_HEAD_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    Http,
    Https,
    Socks5,
}

/// A proxy as written: `http://user:password@host:port`.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    pub scheme: ProxyScheme,
    pub host: String,
    pub port: u16,
    credentials: Option<(String, Secret)>,
}

impl Proxy {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            mistake(
                "not the URL of a proxy",
                "write http://host:port, https://host:port or socks5://host:port",
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".to_owned(), text),
        };
        let (scheme, default_port) = match scheme.as_str() {
            "http" => (ProxyScheme::Http, 80),
            "https" => (ProxyScheme::Https, 443),
            "socks5" | "socks5h" => (ProxyScheme::Socks5, 1080),
            _ => return Err(wrong()),
        };
        let link = Link::target(&format!("http://{rest}")).ok_or_else(wrong)?;
        let port = link.explicit_port.unwrap_or(default_port);
        let credentials = link.userinfo.map(|(name, password)| (name, Secret::new(password)));
        Ok(Self { scheme, host: link.host, port, credentials })
    }

    /// The value of `Proxy-Authorization`.
    pub fn authorization(&self) -> Option<String> {
        let (name, password) = self.credentials.as_ref()?;
        Some(format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.reveal()))))
    }
}

/// Without name and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Https => "https",
            ProxyScheme::Socks5 => "socks5",
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What is asked without a proxy: addresses, networks and domains, optionally with ports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NoProxy(Vec<(Exempt, Option<u16>)>);

#[derive(Debug, Clone, PartialEq)]
enum Exempt {
    All,
    Ip(IpAddr),
    Net(IpAddr, u8),
    /// The domain; `true` also for itself, not only what is below it.
    Domain(String, bool),
}

impl NoProxy {
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(str::trim).filter(|e| !e.is_empty()).filter_map(entry).collect())
    }

    fn covers(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        self.0.iter().any(|(exempt, at)| {
            at.is_none_or(|at| at == port)
                && match exempt {
                    Exempt::All => true,
                    Exempt::Ip(one) => ip == Some(*one),
                    Exempt::Net(net, bits) => ip.is_some_and(|ip| inside(ip, *net, *bits)),
                    Exempt::Domain(domain, itself) => {
                        (*itself && host == domain)
                            || host
                                .strip_suffix(domain.as_str())
                                .is_some_and(|rest| rest.ends_with('.'))
                    }
                }
        })
    }
}

fn entry(text: &str) -> Option<(Exempt, Option<u16>)> {
    if text == "*" {
        return Some((Exempt::All, None));
    }
    if let Some((net, bits)) = text.split_once('/') {
        return Some((Exempt::Net(net.parse().ok()?, bits.parse().ok()?), None));
    }
    if let Ok(ip) = text.parse() {
        return Some((Exempt::Ip(ip), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Some((Exempt::Ip(ip), port));
    }
    let host = host.to_ascii_lowercase();
    let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
    Some(match below {
        Some(domain) => (Exempt::Domain(domain.to_owned(), false), port),
        None => (Exempt::Domain(host, true), port),
    })
}

fn inside(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let masked = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (4, u128::from(ip.to_bits()) << 96),
        IpAddr::V6(ip) => (6, ip.to_bits()),
    };
    let (family, ip) = masked(ip);
    let (net_family, net) = masked(net);
    let widest = if family == 4 { 32 } else { 128 };
    if family != net_family || bits > widest {
        return false;
    }
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    ip & mask == net & mask
}

/// The proxies that the environment names (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, in either case).
#[derive(Debug, Clone, Default)]
pub struct EnvProxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    no_proxy: Arc<NoProxy>,
}

impl EnvProxies {
    /// `read` yields a variable's value. A value that is no proxy's URL counts as none.
    pub fn read(read: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| read(name).filter(|value| !value.is_empty());
        let either = |upper: &str| set(upper).or_else(|| set(&upper.to_ascii_lowercase()));
        let proxy = |name| either(name).and_then(|url| Proxy::parse(&url).ok()).map(Arc::new);
        Self {
            http: proxy("HTTP_PROXY"),
            https: proxy("HTTPS_PROXY"),
            no_proxy: Arc::new(NoProxy::parse(&either("NO_PROXY").unwrap_or_default())),
        }
    }

    /// The proxy for a link, unless the link is exempt. `ip` is the link's address where it is known.
    pub fn choose(&self, link: &Link, ip: Option<IpAddr>) -> Option<&Proxy> {
        let proxy = match link.scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        proxy.as_deref().filter(|_| !is_exempt(&self.no_proxy, link, ip))
    }
}

/// Whether a link is asked directly. Our own machine always is, once exemptions are in play at all.
pub(in crate::net) fn is_exempt(no_proxy: &NoProxy, link: &Link, ip: Option<IpAddr>) -> bool {
    let ip = link.literal().or(ip);
    link.host == "localhost"
        || ip.is_some_and(|ip| ip.is_loopback())
        || no_proxy.covers(&link.host, ip, link.port())
}

impl NoProxy {
    /// Whether `link` is asked directly.
    pub fn exempts(&self, link: &Link, ip: Option<IpAddr>) -> bool {
        is_exempt(self, link, ip)
    }
}

/// Where a tunnel leads.
#[derive(Debug, Clone, Copy)]
pub enum Hop<'a> {
    Ip(SocketAddr),
    Name(&'a str, u16),
}

impl fmt::Display for Hop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A tunnel to be opened through a proxy that is connected already.
#[derive(Debug)]
pub struct Tunnel<'a> {
    pub proxy: &'a Proxy,
    pub to: Hop<'a>,
    /// More headers for CONNECT, each complete: `Name: value`.
    pub headers: &'a [(String, Secret)],
}

impl Tunnel<'_> {
    /// Asks the proxy for the way; afterwards `wire` speaks to the target.
    pub async fn open(&self, wire: &mut Wire, deadline: Deadline) -> Result<(), Answer> {
        let opened = match self.proxy.scheme {
            ProxyScheme::Socks5 => deadline.limit(self.socks(wire)).await,
            ProxyScheme::Http | ProxyScheme::Https => deadline.limit(self.connect(wire)).await,
        };
        let detail = match opened {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(detail)) => detail,
            Err(_) => "no answer in time".to_owned(),
        };
        Err(Fault::ProxyRefused { proxy: self.proxy.to_string().into(), detail: detail.into() }
            .into())
    }

    async fn connect(&self, wire: &mut Wire) -> Result<(), String> {
        let mut head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", self.to);
        if let Some(value) = self.proxy.authorization() {
            head.extend(["Proxy-Authorization: ", &value, "\r\n"]);
        }
        for (name, value) in self.headers {
            head.extend([name, ": ", value.reveal(), "\r\n"]);
        }
        head.push_str("\r\n");
        wire.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
        wire.flush().await.map_err(|e| e.to_string())?;
        let answer = read_head(wire).await?;
        let code = status_code(&answer).ok_or("not an HTTP answer")?;
        if (200..300).contains(&code) { Ok(()) } else { Err(format!("status {code}")) }
    }

    async fn socks(&self, wire: &mut Wire) -> Result<(), String> {
        const NONE: u8 = 0;
        const PASSWORD: u8 = 2;
        let offered: &[u8] =
            if self.proxy.credentials.is_some() { &[5, 2, NONE, PASSWORD] } else { &[5, 1, NONE] };
        let text = |error: std::io::Error| error.to_string();
        wire.write_all(offered).await.map_err(text)?;
        wire.flush().await.map_err(text)?;
        let mut chosen = [0; 2];
        wire.read_exact(&mut chosen).await.map_err(text)?;
        match (chosen, &self.proxy.credentials) {
            ([5, NONE], _) => {}
            ([5, PASSWORD], Some((name, password))) => {
                socks_login(wire, name, password.reveal()).await?;
            }
            ([5, _], _) => return Err("no way to authenticate is accepted".to_owned()),
            _ => return Err("not a SOCKS5 answer".to_owned()),
        }
        wire.write_all(&socks_request(self.to)?).await.map_err(text)?;
        wire.flush().await.map_err(text)?;
        socks_reply(wire).await
    }
}

async fn socks_login(wire: &mut Wire, name: &str, password: &str) -> Result<(), String> {
    let too_long = |_| "name or password is longer than 255 bytes".to_owned();
    let mut login = vec![1, u8::try_from(name.len()).map_err(too_long)?];
    login.extend_from_slice(name.as_bytes());
    login.push(u8::try_from(password.len()).map_err(too_long)?);
    login.extend_from_slice(password.as_bytes());
    wire.write_all(&login).await.map_err(|e| e.to_string())?;
    wire.flush().await.map_err(|e| e.to_string())?;
    let mut answer = [0; 2];
    wire.read_exact(&mut answer).await.map_err(|e| e.to_string())?;
    if answer[1] == 0 { Ok(()) } else { Err("credentials refused".to_owned()) }
}

fn socks_request(to: Hop<'_>) -> Result<Vec<u8>, String> {
    let mut request = vec![5, 1, 0];
    let port = match to {
        Hop::Ip(SocketAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Hop::Ip(SocketAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Hop::Name(host, port) => {
            request.push(3);
            request.push(u8::try_from(host.len()).map_err(|_| "name too long".to_owned())?);
            request.extend_from_slice(host.as_bytes());
            port
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    Ok(request)
}

async fn socks_reply(wire: &mut Wire) -> Result<(), String> {
    let mut head = [0; 4];
    wire.read_exact(&mut head).await.map_err(|e| e.to_string())?;
    if head[1] != 0 {
        let why = match head[1] {
            2 => "not allowed",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "time to live expired",
            _ => "general failure",
        };
        return Err(format!("SOCKS5 reply {}: {why}", head[1]));
    }
    let rest = match head[3] {
        1 => 4 + 2,
        4 => 16 + 2,
        3 => usize::from(wire.read_u8().await.map_err(|e| e.to_string())?) + 2,
        _ => return Err("not a SOCKS5 answer".to_owned()),
    };
    let mut bound = [0; 255 + 2];
    wire.read_exact(&mut bound[..rest]).await.map_err(|e| e.to_string())?;
    Ok(())
}

/// Reads byte by byte up to the empty line, so that nothing that belongs to the tunnel is taken.
async fn read_head(wire: &mut Wire) -> Result<Vec<u8>, String> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_TUNNEL_HEAD_BYTES {
            return Err("the head of its answer is too large".to_owned());
        }
        match wire.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(head)
}

fn status_code(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exempt(list: &str, target: &str, ip: Option<&str>) -> bool {
        let link = Link::target(target).unwrap();
        NoProxy::parse(list).exempts(&link, ip.map(|ip| ip.parse().unwrap()))
    }

    #[test]
    fn exemptions_are_go_s() {
        assert!(exempt("a.example", "a.example", None));
        assert!(exempt("a.example", "b.a.example", None));
        assert!(!exempt("a.example", "ba.example", None));
        assert!(!exempt(".a.example", "a.example", None));
        assert!(exempt("*.a.example", "b.a.example", None));
        assert!(exempt("a.example:81", "a.example:81", None));
        assert!(!exempt("a.example:81", "a.example", None));
        assert!(exempt("10.0.0.0/8", "a.example", Some("10.1.2.3")));
        assert!(!exempt("10.0.0.0/8", "a.example", Some("11.1.2.3")));
        assert!(exempt("*", "a.example", None));
        assert!(exempt("", "localhost", None));
        assert!(exempt("", "a.example", Some("127.0.0.1")));
        assert!(exempt("[2001:db8::1]:80", "http://[2001:db8::1]", None));
    }

    #[test]
    fn proxies_never_show_their_password() {
        let proxy = Proxy::parse("http://u:hunter2@p.example:3128").unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "http://p.example:3128 http://p.example:3128");
        assert_eq!(proxy.authorization().as_deref(), Some("Basic dTpodW50ZXIy"));
        assert!(!Proxy::parse("ftp://u:hunter2@x").unwrap_err().contains("hunter2"));
        assert_eq!(Proxy::parse("socks5://p").unwrap().port, 1080);
        let six = Proxy::parse("http://[2001:db8::1]:3128").unwrap();
        assert_eq!(six.to_string(), "http://[2001:db8::1]:3128");
    }

    #[test]
    fn the_environment_is_read_in_either_case() {
        let env = EnvProxies::read(|name| match name {
            "HTTP_PROXY" => Some(String::new()),
            "http_proxy" => Some("p.example:1".to_owned()),
            "NO_PROXY" => Some("b.example".to_owned()),
            _ => None,
        });
        assert!(env.choose(&Link::target("a.example").unwrap(), None).is_some());
        assert!(env.choose(&Link::target("b.example").unwrap(), None).is_none());
        assert!(env.choose(&Link::target("https://a.example").unwrap(), None).is_none());
    }
}
