//! nginx, redis, PostgreSQL and unbound, probed as themselves with the shipped modules, over IPv4 and IPv6.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{PATIENCE, Running, free_port, installed};
use crate::support::certs::{Authority, Leaf};
use crate::support::watchpost::{Watchpost, get};

/// The user as whom PostgreSQL runs: it refuses to be root.
const POSTGRES_USER: &str = "postgres";

/// The modules of a shipped file, with probes of the test's own.
fn configuration(folder: &Path, shipped: &str, more_modules: &str, probes: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes").join(shipped);
    let text = fs::read_to_string(path).unwrap();
    let (modules, _) = text.split_once("\nprobes:\n").unwrap();
    let path = folder.join("watchpost.yml");
    fs::write(&path, format!("{modules}\n{more_modules}\nprobes:\n{probes}")).unwrap();
    path
}

fn probe(name: &str, module: &str, targets: &[String]) -> String {
    format!("  - {{ name: {name}, module: {module}, interval: 1s, targets: {targets:?} }}\n")
}

/// Waits until every check of `probe` has the status and, when it is not up, the reason.
async fn all(watchpost: &Watchpost, probe: &str, status: &str, reason: Option<&str>) -> Value {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let url = watchpost.url(&format!("/api/v1/status?probe={probe}"));
        let answer: Value = serde_json::from_str(&get(&url).await.1).unwrap();
        let checks = answer["checks"].as_array().unwrap();
        let right = |check: &Value| check["status"] == status && check["reason"].as_str() == reason;
        if !checks.is_empty() && checks.iter().all(right) {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "{probe} is not {status} {reason:?}: {answer:#}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn both(port: u16) -> [String; 2] {
    [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_and_is_missed() {
    let Some(program) = installed("redis-server") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (open, locked) = (free_port(), free_port());
    let start = |port: u16, more: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--bind", "127.0.0.1", "::1", "--save", "", "--port", &port.to_string()]);
        command.arg("--dir").arg(folder.path()).args(more);
        Running::listening(&mut command, port)
    };
    let redis = start(open, &[]);
    let _with_password = start(locked, &["--requirepass", "secret"]);
    let probes = probe("redis", "redis", &both(open)) + &probe("locked", "redis", &both(locked));
    let config = configuration(folder.path(), "datastores.yml", "", &probes);
    let watchpost = Watchpost::start(&config);
    all(&watchpost, "redis", "up", None).await;
    all(&watchpost, "locked", "up", None).await;
    drop(redis);
    all(&watchpost, "redis", "down", Some("connect_refused")).await;
    all(&watchpost, "locked", "up", None).await;
}

/// A data folder that the server's user owns, and the command that runs a program as this user.
struct Cluster {
    folder: TempDir,
    as_root: bool,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let as_root = rustix::process::getuid().is_root();
        let cluster = Self { folder, as_root };
        if as_root {
            let id = |flag| {
                let output = Command::new("id").args([flag, POSTGRES_USER]).output().unwrap();
                String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
            };
            chown(cluster.folder.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(cluster.folder.path(), private).unwrap();
        cluster
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = if self.as_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", POSTGRES_USER, "--regid", POSTGRES_USER, "--clear-groups"]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_answers_in_its_own_protocol() {
    let (Some(initdb), Some(program)) = (installed("initdb"), installed("postgres")) else {
        return;
    };
    let cluster = Cluster::new();
    let mut init = cluster.command(&initdb);
    init.args(["--auth=trust", "--no-sync", "--username=postgres", "-D"]).arg(cluster.data());
    assert!(init.stdout(Stdio::null()).status().unwrap().success());
    let port = free_port();
    let mut server = cluster.command(&program);
    server.arg("-D").arg(cluster.data()).args(["-p", &port.to_string()]);
    server.args(["-h", "127.0.0.1,::1", "-c", "unix_socket_directories=", "-c", "fsync=off"]);
    let postgres = Running::listening(&mut server, port);
    let folder = tempfile::tempdir().unwrap();
    let probes = probe("postgres", "postgres", &both(port));
    let config = configuration(folder.path(), "datastores.yml", "", &probes);
    let watchpost = Watchpost::start(&config);
    all(&watchpost, "postgres", "up", None).await;
    drop(postgres);
    all(&watchpost, "postgres", "down", Some("connect_refused")).await;
}

fn nginx_configuration(at: &Path, plain: u16, tls: u16) -> String {
    let at = at.display();
    format!(
        "daemon off; master_process off; pid {at}/pid;\nevents {{ worker_connections 64; }}\n\
         http {{\n access_log off; root {at}; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         types {{ text/html html; }}\n\
         server {{ listen 127.0.0.1:{plain}; listen [::1]:{plain};\n\
          location = /nginx_status {{ stub_status; }} }}\n\
         server {{ listen 127.0.0.1:{tls} ssl http2; listen [::1]:{tls} ssl http2;\n\
          ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; }}\n}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_asked_for_its_status_and_over_tls_and_http2() {
    let Some(program) = installed("nginx") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let root = Authority::root("root");
    let shown = root.leaf(&Leaf { names: &["localhost", "127.0.0.1", "::1"], ..Leaf::default() });
    fs::write(at.join("root.pem"), root.pem()).unwrap();
    fs::write(at.join("cert.pem"), &shown.pem).unwrap();
    fs::write(at.join("key.pem"), &shown.key_pem).unwrap();
    fs::write(at.join("index.html"), "<title>Shop</title>").unwrap();
    let (plain, tls) = (free_port(), free_port());
    fs::write(at.join("nginx.conf"), nginx_configuration(at, plain, tls)).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(at).arg("-c").arg(at.join("nginx.conf")).args(["-e", "stderr"]);
    let nginx = Running::listening(&mut command, tls);
    let modules = format!(
        "  h2:\n    prober: http\n    timeout: 1s\n    http:\n      valid_http_versions: [HTTP/2.0]\n      \
         fail_if_not_ssl: true\n      tls_config: {{ ca_file: {0} }}\n  \
         cert: {{ prober: tls, timeout: 1s, tls: {{ require_alpn: h2, tls_config: {{ ca_file: {0} }} }} }}\n",
        at.join("root.pem").display()
    );
    let urls = |path: &str, scheme: &str, port| both(port).map(|a| format!("{scheme}://{a}{path}"));
    let probes = probe("status", "nginx_status", &urls("/nginx_status", "http", plain))
        + &probe("not-status", "nginx_status", &urls("/", "http", plain))
        + &probe("h2", "h2", &urls("/", "https", tls))
        + &probe("cert", "cert", &both(tls));
    let watchpost = Watchpost::start(&configuration(at, "datastores.yml", &modules, &probes));
    all(&watchpost, "status", "up", None).await;
    all(&watchpost, "not-status", "down", Some("body_mismatch")).await;
    all(&watchpost, "h2", "up", None).await;
    let answer = all(&watchpost, "cert", "up", None).await;
    let known = |check: &Value| check.to_string().contains("probe_ssl_earliest_cert_expiry");
    assert!(answer["checks"].as_array().unwrap().iter().all(known), "{answer:#}");
    drop(nginx);
    all(&watchpost, "h2", "down", Some("connect_refused")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unbound_is_asked_for_its_records() {
    let Some(program) = installed("unbound") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let port = free_port();
    let text = format!(
        "server:\n  interface: 127.0.0.1\n  interface: ::1\n  port: {port}\n  do-daemonize: no\n  \
         use-syslog: no\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  directory: \"{}\"\n  \
         module-config: iterator\n  local-zone: example.com. static\n  \
         local-data: \"example.com. 60 IN A 192.0.2.1\"\n  \
         local-data: \"example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 5\"\n\
         remote-control:\n  control-enable: no\n",
        at.display()
    );
    fs::write(at.join("unbound.conf"), text).unwrap();
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(at.join("unbound.conf"));
    let unbound = Running::listening(&mut command, port);
    let missing = "  missing: { prober: dns, timeout: 1s, dns: { query_name: gone.example.com, query_type: A } }\n";
    let probes = probe("a", "dns_a", &both(port))
        + &probe("soa", "dns_soa", &both(port))
        + &probe("missing", "missing", &both(port));
    let watchpost = Watchpost::start(&configuration(at, "dns.yml", missing, &probes));
    all(&watchpost, "a", "up", None).await;
    all(&watchpost, "soa", "up", None).await;
    all(&watchpost, "missing", "down", Some("dns_nxdomain")).await;
    drop(unbound);
    // A closed UDP port says so at once, or the answer does not come.
    let url = watchpost.url("/api/v1/status?probe=a");
    let end = tokio::time::Instant::now() + PATIENCE;
    while !get(&url).await.1.contains("\"status\":\"down\"") {
        assert!(tokio::time::Instant::now() < end, "unbound is gone and not missed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
