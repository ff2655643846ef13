//! Discovery by services: HTTP, DNS and a Kubernetes API server, on real sockets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, RecordType};
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use watchpost::clock;
use watchpost::model::{Mistakes, Target};
use watchpost::net::{Net, Resolver, http::EnvProxies};
use watchpost::target::{
    Discovery, DnsSd, HttpSd, KubernetesSd, Meters, Network, Remote, Snapshot, Sources,
};

use crate::support::certs::{Authority, Leaf};
use crate::support::dns::{NameServer, answer, bytes, reply};
use crate::support::peer::{Peer, Tls};
use crate::support::watchpost::Watchpost;
use crate::support::web::{Web, ok, read_request, response};

const PATIENCE: Duration = Duration::from_secs(30);
/// Files are not read here.
const NO_FILES: &str = "no files";

struct Estate {
    discovery: Discovery,
    registry: Registry,
    last: Vec<String>,
}

impl Estate {
    fn new(net: Net) -> Self {
        let registry = Registry::new();
        let decoder = Arc::new(|_: &Path, _: &[u8]| Err(NO_FILES.to_owned()));
        let network = Network { runtime: Handle::current(), net: Arc::new(net) };
        let discovery = Discovery::new(decoder, Meters::new(&registry)).with_network(network);
        Self { discovery, registry, last: Vec::new() }
    }

    fn plain() -> Self {
        Self::new(Net::from_system(|_| None))
    }

    fn configure(&mut self, remotes: impl IntoIterator<Item = Remote>) -> &[String] {
        let sources = Sources {
            probe: "p".into(),
            fixed: vec![Target::plain("fixed:1")],
            files: Vec::new(),
            remotes: remotes.into_iter().collect(),
        };
        self.last = addresses(&self.discovery.configure(vec![sources], clock::now()));
        &self.last
    }

    /// Looks until these are the targets beside the fixed one.
    async fn until(&mut self, targets: &[&str]) {
        self.wait_for(&format!("{targets:?}"), |estate| estate.last[1..] == *targets).await;
    }

    async fn until_failed(&mut self, text: &str) {
        self.wait_for(text, |estate| estate.failure().contains(text)).await;
    }

    async fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "not {what}: {:?}, {}", self.last, self.failure());
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(snapshot) = self.discovery.refresh(clock::now()) {
                self.last = addresses(&snapshot);
            }
        }
    }

    fn failure(&self) -> String {
        self.discovery.failures().into_iter().map(|(_, _, why)| why).collect()
    }

    fn metric(&self, family: &str, mechanism: &str) -> Option<f64> {
        let page = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let label = format!("mechanism=\"{mechanism}\"");
        let line =
            page.lines().find(|line| line.starts_with(family) && line.contains(&label))?.to_owned();
        line.rsplit(' ').next()?.parse().ok()
    }
}

fn addresses(snapshot: &Snapshot) -> Vec<String> {
    snapshot["p"].targets.iter().map(|target| target.address.clone()).collect()
}

fn sources_of(kind: &str, spec: Value) -> (Vec<Remote>, Vec<String>) {
    let mut mistakes = Mistakes::default();
    let remotes = match kind {
        "http" => {
            let spec: HttpSd = serde_json::from_value(spec).unwrap();
            spec.build(&mut mistakes).into_iter().collect()
        }
        "dns" => serde_json::from_value::<DnsSd>(spec).unwrap().build(&mut mistakes),
        _ => {
            let spec: KubernetesSd = serde_json::from_value(spec).unwrap();
            spec.build(&mut mistakes).into_iter().collect()
        }
    };
    (remotes, mistakes.into_vec().into_iter().map(|m| format!("{}: {}", m.key, m.what)).collect())
}

fn remotes(kind: &str, spec: Value) -> Vec<Remote> {
    let (remotes, mistakes) = sources_of(kind, spec);
    assert_eq!(mistakes, [""; 0]);
    remotes
}

/// An HTTP service whose answer can be changed.
struct Service {
    web: Web,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Service {
    async fn start(body: &Value) -> Self {
        let answer = Arc::new(Mutex::new(as_json(body)));
        let said = Arc::clone(&answer);
        Self { web: Web::new(move |_| said.lock().unwrap().clone()).await, answer }
    }

    fn says(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }
}

fn as_json(body: &Value) -> Vec<u8> {
    response("200 OK", &["Content-Type: application/json; charset=utf-8"], body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_what_is_there() {
    let service = Service::start(&json!([
        {"targets": ["a:1", "b:1"], "labels": {"team": "x", "__hostname": "h", "__meta_x": "y"}},
    ]))
    .await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "one\n").unwrap();
    let spec = json!({
        "url": service.web.url("/targets?team=x"), "refresh_interval": "1s",
        "target": "https://{}/-/ready", "authorization": {"credentials_file": token},
    });
    let mut estate = Estate::plain();
    // The first answer is in the first list.
    let found = estate.configure(remotes("http", spec.clone()));
    assert_eq!(found, ["fixed:1", "https://a:1/-/ready", "https://b:1/-/ready"]);
    let request = service.web.last().to_ascii_lowercase();
    assert!(request.starts_with("get /targets?team=x http/1.1\r\n"), "{request}");
    for line in [
        "authorization: bearer one",
        "x-prometheus-refresh-interval-seconds: 1",
        "accept: application/json",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} in {request}");
    }
    assert_eq!(estate.metric("watchpost_discovery_targets", "http"), Some(2.0));
    assert_eq!(estate.metric("watchpost_discovery_failed", "http"), Some(0.0));
    assert!(estate.metric("watchpost_discovery_last_success", "http").unwrap() > 1e9);
    // What is rotated is used at once, what changes is noticed.
    fs::write(&token, "two").unwrap();
    service.says(as_json(&json!([{"targets": ["c:1"]}])));
    estate.until(&["https://c:1/-/ready"]).await;
    let rotated = |request: String| request.to_ascii_lowercase().contains("bearer two");
    estate.wait_for("rotated", |_| rotated(service.web.last())).await;
    // The same source again, asked in another way, keeps its list until there is a new one.
    service.says(response("500 Internal Server Error", &[], ""));
    let mut other = spec;
    other["authorization"] = json!({"type": "Token", "credentials": "three"});
    assert_eq!(estate.configure(remotes("http", other)), ["fixed:1", "https://c:1/-/ready"]);
    assert!(service.web.last().to_ascii_lowercase().contains("token three"));
    // Removed, it is forgotten.
    assert_eq!(estate.configure([]), ["fixed:1"]);
    assert_eq!(estate.metric("watchpost_discovery_targets", "http"), None);
    let asked = service.web.requests().len();
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(service.web.requests().len(), asked, "nobody asks any more");
}

/// Two sources that differ in nothing but a key in their URLs stay two, by number; and each keeps its own list when the
/// other goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_url_is_not_shown() {
    let answers = |request: &str| {
        let name = if request.contains("token=hunter1") { "one:1" } else { "two:1" };
        as_json(&json!([{ "targets": [name] }]))
    };
    let web = Web::new(answers).await;
    let spec = |token: &str| {
        let url = web.url(&format!("/sd?token={token}"));
        remotes("http", json!({"url": url, "refresh_interval": "1h"}))
    };
    let mut estate = Estate::plain();
    let both = spec("hunter1").into_iter().chain(spec("hunter2"));
    assert_eq!(estate.configure(both), ["fixed:1", "one:1", "two:1"]);
    let page =
        |estate: &Estate| TextEncoder::new().encode_to_string(&estate.registry.gather()).unwrap();
    let named = |label: &str| format!("source=\"{}{label}\"", web.url("/sd?token=<secret>"));
    let shown = page(&estate);
    assert!(shown.contains(&named("")) && shown.contains(&named(" #2")), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
    let asked = web.requests().len();
    assert_eq!(estate.configure(spec("hunter2")), ["fixed:1", "two:1"]);
    assert_eq!(web.requests().len(), asked, "it is the same source, asked once an hour");
    let shown = page(&estate);
    assert!(shown.contains(&named("")) && !shown.contains("#2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_cannot_say_keeps_the_last_good_list() {
    let good = json!([{"targets": ["a:1"]}]);
    let service = Service::start(&good).await;
    let mut estate = Estate::plain();
    let spec = json!({"url": service.web.url("/"), "refresh_interval": "1s"});
    assert_eq!(estate.configure(remotes("http", spec)), ["fixed:1", "a:1"]);
    let json_text = |text: &str| response("200 OK", &["Content-Type: application/json"], text);
    let many = format!("[{{\"targets\": [{}\"x:1\"]}}]", "\"x:1\",".repeat(200_000));
    for (answer, why) in [
        (response("503 Service Unavailable", &[], ""), "answered 503"),
        (ok("[]"), "content type"),
        (response("200 OK", &["Content-Type: text/html"], "[]"), "\"text/html\""),
        (json_text("[{\"targets\": [\"a:1\""), "EOF"),
        (json_text("{}"), "expected a sequence"),
        (json_text("[{\"target\": [\"a:1\"]}]"), "unknown field"),
        (json_text("[{\"targets\": [\"a 1\"]}]"), "has a blank"),
        (json_text(&many), "more than 200000 targets"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n["
                .to_vec(),
            "error",
        ),
        (as_json(&json!([])), "no targets any more"),
        (as_json(&json!([{"targets": []}])), "no targets any more"),
    ] {
        service.says(answer);
        estate.until_failed(why).await;
        assert_eq!(estate.last, ["fixed:1", "a:1"], "{why}");
        assert_eq!(estate.metric("watchpost_discovery_failed", "http"), Some(1.0), "{why}");
        let held = if why.starts_with("no targets") { 0.0 } else { 1.0 };
        assert_eq!(estate.metric("watchpost_discovery_targets", "http"), Some(held), "{why}");
        service.says(as_json(&good));
        estate.wait_for("well again", |estate| estate.failure().is_empty()).await;
    }
    // One that is gone says so too.
    let url = service.web.url("/");
    drop(service);
    estate.until_failed("error sending request").await;
    assert!(!estate.failure().contains(&url));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_targets() {
    let has_second = Arc::new(Mutex::new(true));
    let (second, broken) = (Arc::clone(&has_second), Arc::new(Mutex::new(false)));
    let fails = Arc::clone(&broken);
    let server = NameServer::udp(move |query: &Message| {
        let (name, kind) = (query.queries[0].name().to_string(), query.queries[0].query_type());
        let srv =
            |port, host: &str| RData::SRV(SRV::new(0, 0, port, Name::from_ascii(host).unwrap()));
        if *fails.lock().unwrap() {
            return vec![bytes(&reply(query, ResponseCode::ServFail))];
        }
        let data = match (name.as_str(), kind) {
            ("_http._tcp.shop.example.", RecordType::SRV) => {
                let mut all = vec![srv(8443, "b.example.")];
                if *second.lock().unwrap() {
                    all.push(srv(8080, "a.example."));
                }
                all
            }
            ("gone.example.", RecordType::SRV) => vec![srv(0, ".")],
            ("shop.example.", RecordType::A) => vec![RData::A(A::new(10, 0, 0, 1))],
            ("shop.example.", RecordType::AAAA) => {
                vec![RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))]
            }
            _ => return vec![bytes(&reply(query, ResponseCode::NXDomain))],
        };
        vec![bytes(&answer(query, data))]
    })
    .await;
    let net = Net {
        resolver: Resolver::with_servers(vec![server.address]),
        proxies: EnvProxies::read(|_| None),
    };
    let mut estate = Estate::new(net);
    let mut all =
        remotes("dns", json!({"names": ["_http._tcp.shop.example"], "refresh_interval": "1s"}));
    for kind in ["A", "aaaa"] {
        let spec =
            json!({"names": ["shop.example."], "type": kind, "port": 80, "target": "http://{}/"});
        all.extend(remotes("dns", spec));
    }
    // The same name with another port is another source, not one that is left out.
    let other = json!({"names": ["shop.example."], "type": "A", "port": 81});
    all.extend(remotes("dns", other));
    all.extend(remotes("dns", json!({"names": ["gone.example", "none.example"]})));
    estate.configure(all);
    let addresses = ["http://10.0.0.1:80/", "10.0.0.1:81", "http://[fd00::1]:80/"];
    let srv_and_addresses = [&addresses[..], &["a.example:8080", "b.example:8443"]].concat();
    estate.until(&srv_and_addresses).await;
    assert_eq!(estate.failure(), "", "no name and no service are nothing, and no failure");
    *has_second.lock().unwrap() = false;
    let fewer = [&addresses[..], &["b.example:8443"]].concat();
    estate.until(&fewer).await;
    *broken.lock().unwrap() = true;
    estate.until_failed("the name server says Server Failure").await;
    assert_eq!(estate.last[1..], fewer);
}

#[test]
fn mistakes_are_named() {
    for (kind, spec, said) in [
        ("http", json!({"url": "targets.example"}), "url: url is not a URL"),
        ("http", json!({"url": "ftp://a/"}), "url: url is not a URL"),
        ("http", json!({"url": "http://u:p@a/"}), "url: url has credentials in it"),
        (
            "http",
            json!({"url": "http://a/", "basic_auth": {"username": "u"}, "authorization": {"credentials": "x"}}),
            "authorization: basic_auth and authorization are both given",
        ),
        (
            "http",
            json!({"url": "http://a/", "basic_auth": {"username": "u", "password": "p", "password_file": "f"}}),
            "basic_auth.password_file: password and password_file are both given",
        ),
        (
            "http",
            json!({"url": "http://a/", "authorization": {}}),
            "authorization.: credentials is missing",
        ),
        (
            "http",
            json!({"url": "http://a/", "tls_config": {"cert_file": "c"}}),
            "tls_config: one of cert_file and key_file is missing",
        ),
        (
            "http",
            json!({"url": "http://a/", "proxy_url": "::"}),
            "proxy_url: proxy_url is not a proxy's URL",
        ),
        ("dns", json!({"names": []}), "names: there are no names"),
        ("dns", json!({"names": ["a"], "type": "A"}), "type: addresses have no port"),
        ("dns", json!({"names": ["a"], "port": 1}), "port: SRV records have ports of their own"),
        ("dns", json!({"names": ["a..b"]}), "names.0: \"a..b\" is no DNS name"),
        (
            "kubernetes",
            json!({"role": "pod", "selectors": [{"role": "node", "label": "a=b"}]}),
            "selectors.0.role: the selector is for node",
        ),
    ] {
        let (_, mistakes) = sources_of(kind, spec.clone());
        assert_eq!(mistakes, [said], "{spec}");
    }
}

/// An API server with a certificate, a token, pages of two objects, and nothing that it was not told to have.
struct ApiServer {
    peer: Peer,
    ca_pem: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// Path to objects.
    lists: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
}

const TOKEN: &str = "token-of-the-pod";

impl ApiServer {
    async fn start() -> Self {
        let authority = Authority::root("cluster");
        let shown = authority.leaf(&Leaf::default());
        let acceptor = Tls::new(shown).acceptor();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let lists: Arc<Mutex<BTreeMap<String, Vec<Value>>>> = Arc::default();
        let (kept, known) = (Arc::clone(&requests), Arc::clone(&lists));
        let peer = Peer::new(move |stream| {
            let (acceptor, kept, known) = (acceptor.clone(), Arc::clone(&kept), Arc::clone(&known));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                // Keep-alive, as an API server does.
                while let Some(request) = read_request(&mut stream).await {
                    let answer = serve(&request, &known.lock().unwrap());
                    kept.lock().unwrap().push(request);
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { peer, ca_pem: authority.pem(), requests, lists }
    }

    fn has(&self, path: &str, objects: &[Value]) {
        self.lists.lock().unwrap().insert(path.to_owned(), objects.to_vec());
    }

    fn asked(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|r| r.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

fn serve(request: &str, lists: &BTreeMap<String, Vec<Value>>) -> Vec<u8> {
    let status = |code: u16, line: &str| {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code});
        response(line, &["Content-Type: application/json"], body.to_string())
    };
    let authorized = format!("authorization: bearer {TOKEN}\r\n");
    if !request.to_ascii_lowercase().contains(&authorized) {
        return status(403, "403 Forbidden");
    }
    let target = request.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let Some(objects) = lists.get(path) else { return status(404, "404 Not Found") };
    assert_eq!(query["limit"], "500");
    let from: usize = query.get("continue").map_or(0, |next| next.parse().unwrap());
    let selected: Vec<&Value> = objects
        .iter()
        .filter(|object| match query.get("labelSelector") {
            Some(selector) => {
                let (name, value) = selector.split_once('=').unwrap();
                object["metadata"]["labels"][name] == value
            }
            None => true,
        })
        .collect();
    let page: Vec<_> = selected.iter().skip(from).take(2).collect();
    let next = from + page.len();
    let next = if next < selected.len() { next.to_string() } else { String::new() };
    let body = json!({
        "kind": "List", "apiVersion": "v1", "items": page,
        "metadata": {"resourceVersion": "1", "continue": next},
    });
    response("200 OK", &["Content-Type: application/json"], body.to_string())
}

fn service(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": "x"},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_listed_page_by_page() {
    let server = ApiServer::start().await;
    let watched = json!({"probe": "yes"});
    let services: Vec<Value> =
        ["a", "b", "c", "d", "e"].map(|name| service("web", name, &watched)).into();
    server.has("/api/v1/services", &services);
    let folder = tempfile::tempdir().unwrap();
    let (token, ca) = (folder.path().join("token"), folder.path().join("ca.crt"));
    fs::write(&ca, &server.ca_pem).unwrap();
    fs::write(&token, "stale").unwrap();
    let spec = |more: Value| {
        let mut spec = json!({
            "role": "service", "refresh_interval": "1s", "target": "http://{}/healthz",
            "api_server": format!("https://{}", server.peer.by_name()),
            "authorization": {"credentials_file": token}, "tls_config": {"ca_file": ca},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        remotes("kubernetes", spec)
    };
    let mut estate = Estate::plain();
    estate.configure(spec(json!({})));
    assert!(estate.failure().contains("answered 403"), "{}", estate.failure());
    // The kubelet brings a new token.
    fs::write(&token, TOKEN).unwrap();
    let url = |name: &str, namespace: &str| format!("http://{name}.{namespace}.svc:80/healthz");
    let all = ["a", "b", "c", "d", "e"].map(|name| url(name, "web"));
    estate.until(&all.each_ref().map(String::as_str)).await;
    assert_eq!(estate.metric("watchpost_discovery_targets", "kubernetes"), Some(5.0));
    let asked = server.asked();
    assert!(asked.contains(&"/api/v1/services?limit=500&continue=4".to_owned()), "{asked:?}");

    // Namespaces and selectors.
    server.has("/api/v1/namespaces/shop/services", &[service("shop", "cart", &watched)]);
    server.has(
        "/api/v1/namespaces/blog/services",
        &[service("blog", "posts", &watched), service("blog", "drafts", &json!({}))],
    );
    let some = json!({
        "namespaces": {"names": ["shop", "blog"]},
        "selectors": [{"role": "service", "label": "probe=yes"}],
    });
    estate.configure(spec(some));
    let some = [url("posts", "blog"), url("cart", "shop")];
    estate.until(&some.each_ref().map(String::as_str)).await;

    // An ingress is a URL already.
    let ingress = json!({
        "metadata": {"name": "front", "namespace": "web"},
        "spec": {"tls": [{"hosts": ["shop.example"]}], "rules": [{"host": "shop.example"}]},
    });
    server.has("/apis/networking.k8s.io/v1/ingresses", &[ingress]);
    estate.configure(spec(json!({"role": "ingress", "target": "{}"})));
    estate.until(&["https://shop.example/"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_another_certificate_is_not_believed() {
    let server = ApiServer::start().await;
    server.has("/api/v1/nodes", &[]);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, Authority::root("somebody else").pem()).unwrap();
    let spec = json!({
        "role": "node", "api_server": format!("https://{}", server.peer.by_name()),
        "authorization": {"credentials": TOKEN}, "tls_config": {"ca_file": ca},
    });
    let mut estate = Estate::plain();
    estate.configure(remotes("kubernetes", spec));
    assert!(estate.failure().contains("certificate"), "{}", estate.failure());
    assert_eq!(server.asked(), [""; 0], "the token was not shown");
    // Outside of a cluster, the files of a pod are missing, and that is said with their names.
    estate.configure(remotes("kubernetes", json!({"role": "service"})));
    let said = estate.failure();
    assert!(said.contains("cannot read ca_file /var/run/secrets/"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_probes_what_a_service_names() {
    let page = Web::saying(ok("hello")).await;
    let service = Service::start(&json!([{"targets": [page.peer.address.to_string()]}])).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("w.yml");
    let text = format!(
        "modules: {{ page: {{ prober: http }} }}\n\
         probes:\n\
         \x20 - name: p\n    module: page\n    interval: 300ms\n\
         \x20   http_sd_configs: [{{ url: '{}', refresh_interval: 1s, target: 'http://{{}}/x' }}]\n",
        service.web.url("/")
    );
    fs::write(&config, text).unwrap();
    let watchpost = Watchpost::start(&config);
    let instance = format!("instance=\"{}\"", page.url("/x"));
    watchpost.until("probe_success", &[&instance], |up| up == 1.0).await;
    let labels = ["probe=\"p\"", "mechanism=\"http\""];
    watchpost.until("watchpost_discovery_targets", &labels, |count| count == 1.0).await;
    // An empty list keeps it; a new list replaces it.
    service.says(as_json(&json!([])));
    watchpost.until("watchpost_discovery_targets", &labels, |count| count == 0.0).await;
    assert_eq!(watchpost.metric("probe_success", &[&instance]).await, Some(1.0));
    service.says(as_json(&json!([{"targets": ["127.0.0.1:1"]}])));
    watchpost.until("probe_success", &["127.0.0.1:1/x"], |up| up == 0.0).await;
    assert_eq!(watchpost.metric("probe_success", &[&instance]).await, None);
}
