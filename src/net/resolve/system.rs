//! What this machine says about resolving names: `resolv.conf` and the hosts file, read again when they change.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::hosts::Hosts;
use super::lookup::Servers;

/// The files are looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is read of one file; blocking lists in a hosts file grow to several MiB.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// The most search domains that are tried.
pub(super) const MAX_SEARCH: usize = 16;

/// `options timeout:0` would leave no server time to answer.
const MIN_SYSTEM_TIMEOUT: Duration = Duration::from_secs(1);

/// How names are resolved now.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) hosts: Hosts,
    /// Or why there is no server to ask.
    pub(super) servers: Result<Arc<Servers>, Box<str>>,
}

/// Where the list of servers is written.
#[derive(Debug, Clone)]
enum Listed {
    File(PathBuf),
    Given(Arc<Servers>),
}

/// The files that say it, and what they looked like when they were read.
#[derive(Debug)]
pub(super) struct Files {
    paths: Paths,
    look: Mutex<Look>,
}

#[derive(Debug, Clone)]
struct Paths {
    servers: Listed,
    hosts: PathBuf,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    seen: [Option<Signature>; 2],
}

/// Tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Files {
    pub(super) fn read(resolv_conf: &Path, hosts: &Path) -> (Self, Settings) {
        Self::look_at(Paths { servers: Listed::File(resolv_conf.to_owned()), hosts: hosts.into() })
    }

    /// Only the hosts file: the servers are those of somebody's choice.
    pub(super) fn beside(servers: Servers, hosts: &Path) -> (Self, Settings) {
        Self::look_at(Paths { servers: Listed::Given(Arc::new(servers)), hosts: hosts.into() })
    }

    fn look_at(paths: Paths) -> (Self, Settings) {
        // The signature first: a file that changes while it is read differs at the next look.
        let seen = paths.signatures();
        let settings = paths.read();
        (Self { paths, look: Mutex::new(Look { at: Instant::now(), seen }) }, settings)
    }

    /// Looks at the files when it is time; a caller that finds somebody looking goes on with what is known.
    pub(super) async fn refresh(&self, current: &ArcSwap<Settings>) {
        let Ok(mut look) = self.look.try_lock() else { return };
        if look.at.elapsed() < LOOK_EVERY {
            return;
        }
        look.at = Instant::now();
        let (paths, seen) = (self.paths.clone(), look.seen);
        let looked = tokio::task::spawn_blocking(move || {
            let now = paths.signatures();
            (now != seen).then(|| (now, paths.read()))
        });
        if let Ok(Some((now, settings))) = looked.await {
            look.seen = now;
            tracing::info!(
                files = self.paths.shown(),
                usable = settings.servers.is_ok(),
                "name resolution was set up anew"
            );
            current.store(Arc::new(settings));
        }
    }
}

impl Paths {
    fn resolv_conf(&self) -> Option<&Path> {
        match &self.servers {
            Listed::File(path) => Some(path),
            Listed::Given(_) => None,
        }
    }

    fn shown(&self) -> String {
        let files = self.resolv_conf().into_iter().chain([self.hosts.as_path()]);
        files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    }

    fn signatures(&self) -> [Option<Signature>; 2] {
        [self.resolv_conf().and_then(Signature::of), Signature::of(&self.hosts)]
    }

    fn read(&self) -> Settings {
        let servers = match &self.servers {
            Listed::Given(servers) => Ok(Arc::clone(servers)),
            Listed::File(path) => read_servers(path)
                .map(Arc::new)
                .map_err(|why| format!("{}: {why}", path.display()).into()),
        };
        if let Err(why) = &servers {
            tracing::warn!("names cannot be resolved: {why}");
        }
        // No hosts file is an empty one.
        let hosts = read_file(&self.hosts).map(|text| Hosts::parse(&text)).unwrap_or_default();
        Settings { hosts, servers }
    }
}

impl Signature {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;

        let meta = fs::metadata(path).ok()?;
        Some(Self { modified: meta.modified().ok(), len: meta.len(), inode: meta.ino() })
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn read_servers(path: &Path) -> Result<Servers, String> {
    let text = read_file(path).map_err(|error| error.to_string())?;
    let (config, mut options) = parse_resolv_conf(&text).map_err(|error| error.to_string())?;
    options.timeout = options.timeout.max(MIN_SYSTEM_TIMEOUT);
    let (domain, mut search, servers) = config.into_parts();
    // `domain` repeats the search list, or stands in for it with the domain of the host name.
    if search.is_empty() {
        search.extend(domain.filter(|name| !name.is_root()));
    }
    search.truncate(MAX_SEARCH);
    for name in &mut search {
        name.set_fqdn(true);
    }
    let addresses: Vec<_> =
        servers.iter().map(|server| SocketAddr::new(server.ip, super::DNS_PORT)).collect();
    let mut servers = Servers::new(&addresses, &options)?;
    servers.search = search;
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn files(resolv_conf: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        fs::write(&conf, resolv_conf).unwrap();
        fs::write(&hosts, "10.1.1.1 one.example").unwrap();
        (dir, conf, hosts)
    }

    #[tokio::test]
    async fn search_domains_and_dots_are_the_system_s() {
        let (_dir, conf, hosts) =
            files("nameserver 127.0.0.53\nsearch a.example b\noptions ndots:2");
        let servers = Files::read(&conf, &hosts).1.servers.unwrap();
        let names = |host: &str| -> Vec<String> {
            servers.candidates(host).unwrap().iter().map(Name::to_ascii).collect()
        };
        assert_eq!(names("x"), ["x.a.example.", "x.b.", "x."]);
        assert_eq!(names("x.y"), ["x.y.a.example.", "x.y.b.", "x.y."]);
        assert_eq!(names("x.y.z"), ["x.y.z.", "x.y.z.a.example.", "x.y.z.b."]);
        assert_eq!(names("x."), ["x."]);
    }

    #[tokio::test]
    async fn a_missing_or_empty_file_leaves_the_resolver_unusable_and_says_which() {
        let (_dir, conf, hosts) = files("options ndots:1\n");
        let settings = Files::read(&conf, &hosts).1;
        assert!(settings.servers.unwrap_err().contains("resolv.conf"));
        fs::remove_file(&conf).unwrap();
        fs::remove_file(&hosts).unwrap();
        let settings = Files::read(&conf, &hosts).1;
        assert!(settings.servers.unwrap_err().contains("resolv.conf"));
        assert_eq!(settings.hosts.lookup("one.example"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_at_the_next_look_and_not_before() {
        let (_dir, conf, hosts) = files("");
        let (files, settings) = Files::read(&conf, &hosts);
        let current = ArcSwap::from_pointee(settings);
        assert!(current.load().servers.is_err());
        fs::write(&conf, "nameserver 127.0.0.1").unwrap();
        fs::write(&hosts, "10.1.1.2 one.example # moved").unwrap();
        files.refresh(&current).await;
        assert!(current.load().servers.is_err(), "too early");
        tokio::time::advance(LOOK_EVERY).await;
        files.refresh(&current).await;
        let now = current.load_full();
        assert!(now.servers.is_ok());
        assert_eq!(
            now.hosts.lookup("one.example").unwrap(),
            ["10.1.1.2".parse::<std::net::IpAddr>().unwrap()]
        );
        tokio::time::advance(LOOK_EVERY).await;
        files.refresh(&current).await;
        assert!(Arc::ptr_eq(&now, &current.load_full()), "nothing changed");
    }
}
