//! The `http` prober against nginx: plain, TLS, HTTP/2, compression, redirects.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use watchpost::model::family;

use super::support::certs::{Authority, Leaf};
use super::support::run::{labels, probe, reason};

struct Nginx {
    child: Child,
    plain: u16,
    tls: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `None` where nginx is not installed.
fn start(root: &Authority) -> Option<Nginx> {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let shown = root.leaf(&Leaf { names: &["localhost"], ..Leaf::default() });
    std::fs::write(at.join("cert.pem"), &shown.pem).unwrap();
    std::fs::write(at.join("key.pem"), &shown.key_pem).unwrap();
    std::fs::write(at.join("page"), "hello ".repeat(1000)).unwrap();
    let (plain, tls) = (free_port(), free_port());
    std::fs::write(at.join("nginx.conf"), configuration(at, plain, tls)).unwrap();
    let child = Command::new("nginx")
        .arg("-p")
        .arg(at)
        .arg("-c")
        .arg(at.join("nginx.conf"))
        .args(["-e", "stderr"])
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let nginx = Nginx { child, plain, tls, _folder: folder };
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", tls)).is_err() {
        assert!(tokio::time::Instant::now() < until, "nginx does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(nginx)
}

fn configuration(at: &Path, plain: u16, tls: u16) -> String {
    let at = at.display();
    format!(
        "daemon off; master_process off; pid {at}/pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
           access_log off; default_type text/plain; root {at}; gzip on; gzip_min_length 1;\n\
           gzip_types text/plain; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
           fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
           server {{ listen 127.0.0.1:{plain}; location = /moved {{ return 301 https://localhost:{tls}/page; }} }}\n\
           server {{ listen 127.0.0.1:{tls} ssl http2;\n\
             ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; }}\n\
         }}\n"
    )
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that did nothing must say so")]
async fn nginx_is_asked_over_everything_it_speaks() {
    let root = Authority::root("root");
    let Some(nginx) = start(&root) else {
        eprintln!("nginx is not installed: nothing was tested");
        return;
    };
    let spec = json!({"prober": "http", "http": {
        "preferred_ip_protocol": "ip4",
        "fail_if_not_ssl": true,
        "valid_http_versions": ["HTTP/2.0"],
        "compression": "gzip",
        "headers": {"Accept-Encoding": "gzip"},
        "fail_if_body_not_matches_regexp": ["^(hello )+$"],
        "tls_config": {"ca": root.pem()},
    }});
    let outcome = probe(spec, format!("http://localhost:{}/moved", nginx.plain)).await;
    assert_eq!(reason(&outcome), "pass", "{}", outcome.answer);
    assert_eq!(outcome.fact(&family::PROBE_HTTP_REDIRECTS), Some(1.0));
    assert_eq!(outcome.fact(&family::PROBE_HTTP_UNCOMPRESSED_BODY_LENGTH), Some(6000.0));
    assert_eq!(labels(&outcome, &family::PROBE_TLS_ALPN_INFO, "protocol"), ["h2"]);

    let outcome = probe(json!({"prober": "http"}), format!("127.0.0.1:{}/none", nginx.plain)).await;
    assert_eq!(reason(&outcome), "http_status");
    // Plain HTTP to a TLS port: nginx says so itself.
    let outcome = probe(json!({"prober": "http"}), format!("127.0.0.1:{}/", nginx.tls)).await;
    assert_eq!(outcome.fact(&family::PROBE_HTTP_STATUS_CODE), Some(400.0));
    let outcome =
        probe(json!({"prober": "http"}), format!("https://127.0.0.1:{}/", nginx.plain)).await;
    assert_eq!(reason(&outcome), "tls_handshake", "{}", outcome.answer);
}
