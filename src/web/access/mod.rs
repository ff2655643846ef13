//! Who may come in, and over what: the file of `--web.config.file`.
//!
//! The file, and what it names, is read again when it changes; users and certificates need no restart. A file that cannot
//! be used any more closes the door with 500 rather than leave it open. Certificate, key and client CA are often renewed one
//! after the other: until they fit together again, the last ones that did stay in use, as long as the file asks for the same.
//! Whether TLS is spoken, HTTP/2 and the rate limit are settled at the start.

mod spec;
mod tls;
mod users;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use rustls::ServerConfig;
use tokio::time::Instant;

pub use spec::Spec as WebSpec;

use self::spec::TlsSpec;
use self::users::{Checker, Credentials};
use super::plain_error;
use crate::model::{GoDuration, Secret};

/// The files are looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads the file again; the error is what an operator is told.
pub type LoadWebConfig = Box<dyn Fn() -> Result<WebSpec, String> + Send + Sync>;

pub struct Access {
    path: PathBuf,
    load: LoadWebConfig,
    /// `None` while the file cannot be used.
    rules: ArcSwap<Option<Rules>>,
    look: tokio::sync::Mutex<Look>,
    limiter: Option<Limiter>,
    users: Checker,
    tls: bool,
    http2: bool,
}

/// What holds until the file changes.
struct Rules {
    headers: Vec<(HeaderName, HeaderValue)>,
    users: BTreeMap<String, String>,
    tls: Option<Tls>,
}

/// What to shake hands with, and what was asked for when it was made.
#[derive(Clone)]
struct Tls {
    spec: TlsSpec,
    config: Arc<ServerConfig>,
    /// Why newer files are not in use.
    outdated: Option<String>,
}

struct Look {
    at: Instant,
    /// The files and what they looked like when they were read; none when they are to be read again whatever they look like.
    seen: Vec<Seen>,
    /// What was wrong the last time, so that it is said once.
    problem: Option<String>,
}

/// A file and what it looked like.
type Seen = (PathBuf, Option<Signature>);

/// Tells one content of a file from another without reading it.
#[derive(PartialEq, Eq)]
struct Signature {
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

/// What a request may have: entry, or a refusal; and headers for the answer in both cases.
pub(super) struct Passed {
    pub(super) refusal: Option<Response>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Access {
    /// Reads the file for the first time.
    pub fn new(path: &Path, load: LoadWebConfig) -> Result<Self, String> {
        let (spec, seen) = read(path, &load);
        let spec = spec?;
        let http2 = spec.http_server_config.as_ref().and_then(|http| http.http2).unwrap_or(true);
        let look = Look { at: Instant::now(), seen, problem: None };
        let rules = Rules::build(&spec, folder(path), http2, None)?;
        Ok(Self {
            path: path.to_owned(),
            load,
            tls: rules.tls.is_some(),
            rules: ArcSwap::from_pointee(Some(rules)),
            look: tokio::sync::Mutex::new(look),
            limiter: Limiter::of(&spec),
            users: Checker::default(),
            http2,
        })
    }

    pub(super) const fn speaks_tls(&self) -> bool {
        self.tls
    }

    pub(super) const fn speaks_http2(&self) -> bool {
        self.http2
    }

    /// What to shake hands with now; `None` while the file cannot be used.
    pub(super) async fn tls(self: &Arc<Self>) -> Option<Arc<ServerConfig>> {
        self.refresh().await;
        let rules = self.rules.load();
        Some(Arc::clone(&rules.as_ref().as_ref()?.tls.as_ref()?.config))
    }

    pub(super) async fn admit(self: &Arc<Self>, request: &HeaderMap) -> Passed {
        self.refresh().await;
        let rules = self.rules.load_full();
        let Some(rules) = rules.as_ref() else {
            let text = "the web configuration cannot be read; see the log";
            let refusal = plain_error(StatusCode::INTERNAL_SERVER_ERROR, text);
            return Passed { refusal: Some(refusal), headers: Vec::new() };
        };
        Passed { refusal: self.refusal(rules, request).await, headers: rules.headers.clone() }
    }

    async fn refusal(&self, rules: &Rules, request: &HeaderMap) -> Option<Response> {
        if self.limiter.as_ref().is_some_and(|limiter| !limiter.allows(Instant::now())) {
            return Some(retry(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"));
        }
        if rules.users.is_empty() {
            return None;
        }
        match self.users.check(&rules.users, request).await {
            Credentials::Right => None,
            Credentials::Busy => Some(retry(StatusCode::SERVICE_UNAVAILABLE, "busy")),
            Credentials::Wrong => {
                let mut response = plain_error(StatusCode::UNAUTHORIZED, "Unauthorized");
                let basic = HeaderValue::from_static("Basic");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
                Some(response)
            }
        }
    }

    /// Reads the file again if it, or a file that it names, changed.
    async fn refresh(self: &Arc<Self>) {
        // Whoever finds somebody looking goes on with what is known.
        let Ok(mut look) = self.look.try_lock() else { return };
        if look.at.elapsed() < LOOK_EVERY {
            return;
        }
        look.at = Instant::now();
        let before = (std::mem::take(&mut look.seen), look.problem.take());
        let access = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || access.read_again(before)).await;
        (look.seen, look.problem) = looked.unwrap_or_default();
    }

    /// What was seen now, and what is wrong with it. As long as something is, the files are read whether they changed or
    /// not: what kept us from it may have been none of theirs.
    fn read_again(&self, before: (Vec<Seen>, Option<String>)) -> (Vec<Seen>, Option<String>) {
        let (seen, said) = before;
        let same = |(path, before): &Seen| Signature::of(path) == *before;
        if said.is_none() && !seen.is_empty() && seen.iter().all(same) {
            return (seen, None);
        }
        let (loaded, files) = read(&self.path, &self.load);
        let rules = self.rules.load();
        let in_use = rules.as_ref().as_ref().and_then(|rules| rules.tls.as_ref());
        let built =
            loaded.and_then(|spec| Rules::build(&spec, folder(&self.path), self.http2, in_use));
        let built = built.and_then(|rules| {
            if rules.tls.is_some() == self.tls {
                Ok(rules)
            } else {
                Err("TLS can be turned on and off only with a restart".to_owned())
            }
        });
        let problem = match &built {
            Ok(rules) => rules.tls.as_ref().and_then(|tls| tls.outdated.clone()),
            Err(problem) => Some(problem.clone()),
        };
        if problem.is_none() || problem != said {
            tell(&built);
        }
        self.rules.store(Arc::new(built.ok()));
        (files, problem)
    }
}

fn tell(built: &Result<Rules, String>) {
    match built {
        Ok(Rules { tls: Some(Tls { outdated: Some(problem), .. }), .. }) => tracing::warn!(
            problem,
            "certificate, key and client CA do not fit; the last ones that did stay in use"
        ),
        Ok(_) => tracing::info!("web configuration read again"),
        Err(problem) => {
            tracing::error!(problem, "the web configuration cannot be used; the door is closed");
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads the file, and what it and the files that it names look like. Each is looked at before it is read: one that changes
/// meanwhile differs at the next look.
fn read(path: &Path, load: &LoadWebConfig) -> (Result<WebSpec, String>, Vec<Seen>) {
    let own = Signature::of(path);
    let loaded = load();
    let named = loaded.as_ref().ok().and_then(WebSpec::tls);
    let named = named.map(|tls| tls::files(tls, folder(path))).unwrap_or_default();
    let named = named.into_iter().map(|path| (Signature::of(&path), path));
    let all = std::iter::once((own, path.to_owned())).chain(named);
    (loaded, all.map(|(signature, path)| (path, signature)).collect())
}

fn retry(status: StatusCode, text: &str) -> Response {
    let mut response = plain_error(status, text);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Signature {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            length: meta.len(),
            inode: meta.ino(),
        })
    }
}

impl Rules {
    /// `in_use` goes on where the files of the same TLS cannot be used now.
    fn build(
        spec: &WebSpec,
        folder: &Path,
        http2: bool,
        in_use: Option<&Tls>,
    ) -> Result<Self, String> {
        let users = spec.basic_auth_users.iter().flatten();
        let reveal = |(name, hash): (&String, &Secret)| (name.clone(), hash.reveal().to_owned());
        let tls = spec.tls().map(|tls| Tls::build(tls, folder, http2, in_use)).transpose()?;
        let users = users.map(reveal).collect();
        Ok(Self { headers: spec.headers(), users, tls })
    }
}

impl Tls {
    fn build(
        spec: &TlsSpec,
        folder: &Path,
        http2: bool,
        in_use: Option<&Self>,
    ) -> Result<Self, String> {
        match (tls::build(spec, folder, http2), in_use) {
            (Ok(config), _) => {
                Ok(Self { spec: spec.clone(), config: Arc::new(config), outdated: None })
            }
            (Err(problem), Some(last)) if last.spec == *spec => {
                Ok(Self { outdated: Some(problem), ..last.clone() })
            }
            (Err(problem), _) => Err(problem),
        }
    }
}

/// A bucket that fills by one each interval and holds a burst.
struct Limiter {
    interval: Duration,
    burst: f64,
    bucket: Mutex<(f64, Instant)>,
}

impl Limiter {
    fn of(spec: &WebSpec) -> Option<Self> {
        let rate = spec.rate_limit.as_ref()?;
        let interval = rate.interval.and_then(GoDuration::positive)?;
        let burst = f64::from(rate.burst.unwrap_or(1).max(1));
        Some(Self { interval, burst, bucket: Mutex::new((burst, Instant::now())) })
    }

    fn allows(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.1);
        let filled = bucket.0 + passed.as_secs_f64() / self.interval.as_secs_f64();
        let left = filled.min(self.burst);
        let allowed = left >= 1.0;
        *bucket = (if allowed { left - 1.0 } else { left }, now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, "{}\n").unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let (counted, changed) = (Arc::clone(&reads), path.clone());
        let load = move || {
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                std::fs::write(&changed, "rate_limit: {}\n").unwrap();
            }
            Ok(WebSpec::default())
        };
        let access = Access::new(&path, Box::new(load)).unwrap();
        let seen = std::mem::take(&mut access.look.try_lock().unwrap().seen);
        let seen = access.read_again((seen, None));
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        access.read_again(seen);
        assert_eq!(reads.load(Ordering::Relaxed), 2, "nothing changed any more");
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let limiter = Limiter { interval: second, burst: 2.0, bucket: Mutex::new((2.0, now)) };
        let at = |millis| limiter.allows(now + Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(900)], [true, true, false, false]);
        assert_eq!(
            [at(1100), at(1200), at(9000), at(9000), at(9000)],
            [true, false, true, true, false]
        );
    }
}
