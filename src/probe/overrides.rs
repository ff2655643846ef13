//! Keys of a module that others may set otherwise: targets, and requests for `/probe`.
//!
//! The list of keys is closed and a module allows none of them unless it says so. None of them is a secret, says where a
//! credential goes, or leads a request to another address: what may be asked is decided by the target alone. How a value
//! is read is not decided here: a [`Recipe`] makes the module anew as if the value had been written in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::HeaderName;

use super::Module;
use crate::model::{Mistakes, Overrides, override_key};

/// The longest value of one key, in bytes.
pub const MAX_OVERRIDE_BYTES: usize = 4096;
/// The most keys that one target or request may set.
pub const MAX_OVERRIDES: usize = 20;

/// Before a header's name in `allow_overrides`.
const HEADER: &str = "headers.";

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number, a truth value, a duration: what a plain word of YAML is.
    Word,
    /// The text itself.
    Text,
    /// A list as YAML writes it, `[a, b]`, or the one item of it.
    List,
}

/// Where a key stands in a module.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Of the module itself.
    Module,
    /// In the block of these probers.
    Block(&'static [&'static str]),
    /// In the block of any prober that picks an address.
    Address,
    /// In the block that says how TLS is spoken.
    Tls,
}

const HTTP: Place = Place::Block(&["http", "exporter"]);
const DNS: Place = Place::Block(&["dns"]);
const ICMP: Place = Place::Block(&["icmp"]);
const TLS: Place = Place::Block(&["tls"]);

/// Every key that can be allowed, beside `headers.NAME`.
static KEYS: &[(&str, Form, Place)] = &[
    ("timeout", Form::Word, Place::Module),
    ("preferred_ip_protocol", Form::Text, Place::Address),
    ("ip_protocol_fallback", Form::Word, Place::Address),
    ("server_name", Form::Text, Place::Tls),
    ("method", Form::Text, HTTP),
    ("body", Form::Text, HTTP),
    ("valid_status_codes", Form::List, HTTP),
    ("valid_http_versions", Form::List, HTTP),
    ("follow_redirects", Form::Word, HTTP),
    ("fail_if_ssl", Form::Word, HTTP),
    ("fail_if_not_ssl", Form::Word, HTTP),
    ("fail_if_body_matches_regexp", Form::List, HTTP),
    ("fail_if_body_not_matches_regexp", Form::List, HTTP),
    ("fail_if_slower_than", Form::Word, HTTP),
    ("warn_if_slower_than", Form::Word, HTTP),
    ("query_name", Form::Text, DNS),
    ("query_type", Form::Text, DNS),
    ("valid_rcodes", Form::List, DNS),
    ("recursion_desired", Form::Word, DNS),
    ("service", Form::Text, Place::Block(&["grpc"])),
    ("count", Form::Word, ICMP),
    ("max_loss", Form::Word, ICMP),
    ("payload_size", Form::Word, ICMP),
    ("ttl", Form::Word, ICMP),
    ("warn_if_expires_within", Form::Word, TLS),
    ("fail_if_expires_within", Form::Word, TLS),
];

/// Headers that frame a message, name whom it is for, or are set by a key of their own.
const FIXED_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
];

/// Parts of the names of headers that may hold a secret.
const SECRET_PARTS: [&str; 8] =
    ["auth", "cookie", "token", "secret", "password", "key", "session", "credential"];

/// A key that a module allows, and where its value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// As in [`Overrides`].
    pub key: String,
    pub form: Form,
    /// From the module down. The name of a header is the last step.
    pub path: Vec<String>,
}

impl Allowed {
    /// Reads `allow_overrides` of a module with this prober.
    pub fn read(list: &[String], prober: &str, mistakes: &mut Mistakes) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::with_capacity(list.len());
        for (index, written) in list.iter().enumerate() {
            let at = format!("allow_overrides.{index}");
            match Self::of(&override_key(written), prober) {
                Ok(allowed) if all.iter().any(|known| known.key == allowed.key) => {
                    mistakes.warning(&at, format!("{written:?} stands here twice"), "drop one");
                }
                Ok(allowed) => all.push(allowed),
                Err((what, hint)) => mistakes.error(&at, what, hint),
            }
        }
        all
    }

    fn of(key: &str, prober: &str) -> Result<Self, (String, String)> {
        if let Some(name) = key.strip_prefix(HEADER) {
            return Self::header(key, name, prober);
        }
        let known = KEYS.iter().find(|(name, ..)| *name == key);
        let found = known.and_then(|(name, form, place)| {
            let path = path(*place, name, prober)?;
            Some(Self { key: key.to_owned(), form: *form, path })
        });
        found.ok_or_else(|| {
            let what = match known {
                Some(_) => format!("prober {prober} has no key {key}"),
                None => format!("{key:?} cannot be overridden"),
            };
            let fitting = KEYS.iter().filter(|(name, _, p)| path(*p, name, prober).is_some());
            let mut names: Vec<&str> = fitting.map(|(name, ..)| *name).collect();
            if has_headers(prober) {
                names.push("headers.NAME");
            }
            (what, format!("use {}", names.join(", ")))
        })
    }

    fn header(key: &str, name: &str, prober: &str) -> Result<Self, (String, String)> {
        if !has_headers(prober) {
            let what = format!("prober {prober} has no headers");
            return Err((what, "drop it".to_owned()));
        }
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let what = format!("{name:?} is not a header's name");
            return Err((what, "write it as headers.X-Scope-OrgID".to_owned()));
        }
        if FIXED_HEADERS.contains(&name) {
            let hint = if name == "host" { "use the parameter hostname" } else { "drop it" };
            return Err((format!("header {name} cannot be overridden"), hint.to_owned()));
        }
        if SECRET_PARTS.iter().any(|part| name.contains(part)) {
            let what = format!("header {name} may hold a secret, which cannot be overridden");
            return Err((what, "drop it".to_owned()));
        }
        let path = ["http", "headers", name].map(str::to_owned).to_vec();
        Ok(Self { key: key.to_owned(), form: Form::Text, path })
    }
}

fn has_headers(prober: &str) -> bool {
    matches!(prober, "http" | "exporter")
}

fn path(place: Place, name: &str, prober: &str) -> Option<Vec<String>> {
    let block = if prober == "exporter" { "http" } else { prober };
    let steps: &[&str] = match place {
        Place::Module => &[],
        Place::Block(probers) if probers.contains(&prober) => &[block],
        Place::Address if prober != "unix" => &[block],
        Place::Tls if prober == "websocket" => &[block, "http_config", "tls_config"],
        Place::Tls if !matches!(prober, "icmp" | "udp") => &[block, "tls_config"],
        _ => return None,
    };
    Some(steps.iter().chain([&name]).map(|step| (*step).to_owned()).collect())
}

/// Why a module cannot be had with these values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    /// The key that is to blame, where one is.
    pub key: Option<String>,
    pub what: String,
}

impl Refused {
    pub fn new(key: Option<&str>, what: impl Into<String>) -> Self {
        Self { key: key.map(str::to_owned), what: what.into() }
    }
}

type Remake = dyn Fn(&Overrides) -> Result<Module, Refused> + Send + Sync;

/// Makes a module anew, with other values of the keys that it allows.
#[derive(Clone)]
pub struct Recipe(Arc<Remake>);

impl Recipe {
    pub fn new(
        remake: impl Fn(&Overrides) -> Result<Module, Refused> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(remake))
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipe")
    }
}

impl Module {
    /// This module with other values, made anew.
    pub fn remade(&self, overrides: &Overrides) -> Result<Self, Refused> {
        if overrides.len() > MAX_OVERRIDES {
            let what = format!("more than {MAX_OVERRIDES} overrides");
            return Err(Refused::new(None, what));
        }
        if let Some((key, _)) = overrides.iter().find(|(_, v)| v.len() > MAX_OVERRIDE_BYTES) {
            let what = format!("{key} is longer than {MAX_OVERRIDE_BYTES} bytes");
            return Err(Refused::new(Some(key), what));
        }
        let Some(recipe) = &self.recipe else {
            let key = overrides.keys().next().map(String::as_str);
            let what = format!("module {:?} allows no overrides", self.name);
            return Err(Refused::new(key, what));
        };
        recipe.0(overrides)
    }
}

/// Modules with other values that were made already. The least recently used goes when there are too many.
#[derive(Debug)]
pub struct Variants {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    clock: u64,
    made: HashMap<(Arc<str>, Overrides), Variant>,
}

#[derive(Debug)]
struct Variant {
    /// What it was made of: after a reload it is made anew.
    base: Arc<Module>,
    module: Arc<Module>,
    used: u64,
}

impl Variants {
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), kept: Mutex::default() }
    }

    /// `base` with other values of some of its keys.
    pub fn of(&self, base: &Arc<Module>, overrides: &Overrides) -> Result<Arc<Module>, Refused> {
        if overrides.is_empty() {
            return Ok(Arc::clone(base));
        }
        let key = (Arc::clone(&base.name), overrides.clone());
        if let Some(known) = self.lock().find(&key, base) {
            return Ok(known);
        }
        let module = Arc::new(base.remade(overrides)?);
        self.lock().keep(key, base, &module, self.limit);
        Ok(module)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, key: &(Arc<str>, Overrides), base: &Arc<Module>) -> Option<Arc<Module>> {
        self.clock += 1;
        let known = self.made.get_mut(key).filter(|known| Arc::ptr_eq(&known.base, base))?;
        known.used = self.clock;
        Some(Arc::clone(&known.module))
    }

    fn keep(
        &mut self,
        key: (Arc<str>, Overrides),
        base: &Arc<Module>,
        module: &Arc<Module>,
        limit: usize,
    ) {
        if self.made.len() >= limit && !self.made.contains_key(&key) {
            let oldest = self.made.iter().min_by_key(|(_, known)| known.used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.made.remove(&key);
            }
        }
        let (base, module) = (Arc::clone(base), Arc::clone(module));
        self.made.insert(key, Variant { base, module, used: self.clock });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{KINDS, ModuleSpec};

    fn read(list: &[&str], prober: &str) -> (Vec<Allowed>, Vec<String>) {
        let list: Vec<String> = list.iter().map(|key| (*key).to_owned()).collect();
        let mut mistakes = Mistakes::default();
        let read = Allowed::read(&list, prober, &mut mistakes);
        (read, mistakes.into_vec().into_iter().map(|m| format!("{}: {}", m.key, m.what)).collect())
    }

    #[test]
    fn keys_stand_where_the_prober_has_them() {
        let path = |key, prober| read(&[key], prober).0[0].path.join(".");
        assert_eq!(path("timeout", "icmp"), "timeout");
        assert_eq!(path("method", "http"), "http.method");
        assert_eq!(path("method", "exporter"), "http.method");
        assert_eq!(path("server_name", "tcp"), "tcp.tls_config.server_name");
        assert_eq!(
            path("server_name", "websocket"),
            "websocket.http_config.tls_config.server_name"
        );
        assert_eq!(path("preferred_ip_protocol", "udp"), "udp.preferred_ip_protocol");
        assert_eq!(path("headers.X-Scope", "http"), "http.headers.x-scope");
        for (key, ..) in KEYS {
            let fits = KINDS.iter().any(|row| read(&[key], row.name).1.is_empty());
            assert!(fits, "{key} fits no prober");
        }
    }

    #[test]
    fn secrets_and_what_leads_elsewhere_are_not_in_the_list() {
        for key in [
            "basic_auth",
            "password",
            "proxy_url",
            "resolver",
            "source_ip_address",
            "insecure_skip_verify",
            "ca_file",
            "headers.Authorization",
            "headers.COOKIE",
            "headers.X-Api-Key",
            "headers.Host",
            "headers.Content-Length",
            "headers.a b",
            "",
        ] {
            let (allowed, wrong) = read(&["timeout", key], "http");
            assert_eq!(allowed.len(), 1, "{key}");
            assert!(wrong[0].starts_with("allow_overrides.1: "), "{wrong:?}");
        }
        let (_, wrong) = read(&["method"], "tcp");
        assert_eq!(wrong, ["allow_overrides.0: prober tcp has no key method"]);
        let (_, wrong) = read(&["headers.X-A"], "dns");
        assert_eq!(wrong, ["allow_overrides.0: prober dns has no headers"]);
    }

    fn plain() -> Module {
        let spec = ModuleSpec { prober: Some("tcp".into()), ..ModuleSpec::default() };
        spec.build("m", &mut Mistakes::default()).unwrap()
    }

    fn overrides(value: &str) -> Overrides {
        [("timeout".to_owned(), value.to_owned())].into()
    }

    #[test]
    fn what_was_made_is_kept_within_a_bound_and_not_over_a_reload() {
        let base = || {
            let mut module = plain();
            module.recipe = Some(Recipe::new(|_| Ok(plain())));
            Arc::new(module)
        };
        let (one, variants) = (base(), Variants::new(2));
        let get = |base: &Arc<Module>, value| variants.of(base, &overrides(value)).unwrap();
        let first = get(&one, "1s");
        assert!(Arc::ptr_eq(&first, &get(&one, "1s")));
        let second = get(&one, "2s");
        assert!(Arc::ptr_eq(&first, &get(&one, "1s")));
        let third = get(&one, "3s");
        assert!(Arc::ptr_eq(&first, &get(&one, "1s")), "the one used last stays");
        assert!(Arc::ptr_eq(&third, &get(&one, "3s")));
        assert!(!Arc::ptr_eq(&second, &get(&one, "2s")), "the least recently used went");
        assert_eq!(variants.lock().made.len(), 2);
        let reloaded = base();
        let again = get(&reloaded, "2s");
        assert!(Arc::ptr_eq(&again, &get(&reloaded, "2s")));
        assert!(Arc::ptr_eq(&one, &variants.of(&one, &Overrides::new()).unwrap()));
    }

    #[test]
    fn a_module_that_allows_nothing_refuses_and_so_do_the_bounds() {
        let mut module = plain();
        let wrong = module.remade(&overrides("1s")).unwrap_err();
        assert_eq!(wrong.to_string(), "module \"m\" allows no overrides");
        module.recipe = Some(Recipe::new(|_| Ok(plain())));
        assert!(module.remade(&overrides("1s")).is_ok());
        let long = "x".repeat(MAX_OVERRIDE_BYTES + 1);
        assert_eq!(module.remade(&overrides(&long)).unwrap_err().key.as_deref(), Some("timeout"));
        let many: Overrides = (0..=MAX_OVERRIDES).map(|n| (n.to_string(), String::new())).collect();
        assert!(module.remade(&many).is_err());
    }
}
