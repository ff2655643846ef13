//! The built binary where the C library knows no name at all: whatever it finds by name, it has found by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::TcpListener;

use crate::notify_delivery::until;
use crate::resolve::{says, serves};
use crate::support::dns::NameServer;
use crate::support::fakes::{Fake, PagerDuty, Reply, Smtp};
use crate::support::watchpost::Watchpost;

const UUID: &str = "c5d1f1e0-8b67-4c5f-9d43-0b5a2d0b7f11";
/// Puts files over those of the system, for itself only, and becomes the command.
const APART: &str = "mount --bind \"$1/resolv.conf\" /etc/resolv.conf && \
    mount --bind \"$1/hosts\" /etc/hosts && \
    mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf && shift && exec \"$@\"";

/// A command that sees the files of `folder` instead of the system's.
fn apart(folder: &Path, command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", APART, "sh"]).arg(folder).args(command);
    unshare
}

/// A name server at the port where name servers are, at an address that nobody else has.
async fn at_port_53() -> NameServer {
    let [a, b, ..] = std::process::id().to_le_bytes();
    let ip = Ipv4Addr::new(127, 53, a, b.max(1));
    NameServer::udp_on(SocketAddr::from((ip, 53)), |query: &Message| {
        match query.queries[0].name().to_ascii().as_str() {
            "pager.example." | "relay.example." | "list.example." | "web.example." => {
                serves(&["127.0.0.2", "127.0.0.1"])(query)
            }
            _ => says(ResponseCode::NXDomain)(query),
        }
    })
    .await
}

fn port(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_where_the_c_library_finds_none() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["resolv.conf", "hosts", "nsswitch.conf"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    let may = rustix::process::geteuid().is_root()
        && Path::new("/etc/nsswitch.conf").exists()
        && apart(folder.path(), &["true"]).status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("no mount namespaces here: nothing is tried");
        return;
    }
    let names = at_port_53().await;
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    write("resolv.conf", &format!("nameserver {}\n", names.address.ip()));
    write("hosts", "127.0.0.1 here.example\n");
    write("nsswitch.conf", "hosts: none\n");
    let c_library = apart(folder.path(), &["getent", "ahosts", "pager.example"]).output().unwrap();
    assert!(!c_library.status.success(), "the C library finds it: the test shows nothing");

    let pagerduty = PagerDuty::start(&["k1"]).await;
    let smtp = Smtp::start().await;
    let list = Fake::start(|_| Reply::Text(500, String::new())).await;
    let service = Fake::start(|_| Reply::text(200, "OK")).await;
    let config = folder.path().join("w.yml");
    let text = format!(
        "watchpost: {{ id: here }}\n\
         receivers:\n\
         \x20 - {{ name: oncall, test_interval: 1h, pagerduty: {{ routing_key: k1, url: 'http://pager.example:{}/v2/enqueue' }} }}\n\
         \x20 - {{ name: mail, email: {{ to: [a@b.example], from: c@b.example, require_tls: false, smarthost: 'relay.example:{}' }} }}\n\
         modules: {{ open: {{ prober: tcp, timeout: 1s }} }}\n\
         probes:\n\
         \x20 - name: gone\n    module: open\n    interval: 1s\n    notify: {{ down: [oncall, mail] }}\n\
         \x20   targets: ['127.0.0.1:1']\n\
         \x20   http_sd_configs: [{{ url: 'http://list.example:{}/', refresh_interval: 1s }}]\n\
         deadman:\n  - {{ name: backup, interval: 1h, uuid: {UUID}, notify: [oncall] }}\n\
         heartbeats:\n\
         \x20 - {{ name: out, interval: 5s, timeout: 2s, when: [{{ receiver: oncall }}], healthchecks: {{ url: 'http://web.example:{}/{UUID}' }} }}\n",
        port(&pagerduty.http.url),
        port(&smtp.address),
        port(&list.url),
        port(&service.url),
    );
    std::fs::write(&config, text).unwrap();
    let binary = env!("CARGO_BIN_EXE_watchpost");
    let (config, storage) = (
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", folder.path().join("book").display()),
    );
    let listen = "--web.listen-address=here.example:0";
    let mut command = apart(folder.path(), &[binary, &config, &storage, listen]);
    let watchpost = Watchpost::spawn(&mut command);
    assert!(watchpost.address.starts_with("127.0.0.1:"), "{}", watchpost.address);
    until("a list is asked for", || list.count() > 0).await;
    until("a page", || pagerduty.opened() > 0).await;
    until("mail", || !smtp.messages().is_empty()).await;
    until("a beat", || service.count() > 0).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Fake::on(listener, |_| Reply::text(200, "OK"));
    let url = format!("http://web.example:{}/ping/{UUID}", port(&door.url));
    let ping = apart(folder.path(), &[binary, "ping", &url]).output().unwrap();
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stderr));
    let here = watchpost.address.replace("127.0.0.1", "here.example");
    let asked = apart(folder.path(), &[binary, "notifications", "--address", &here]).output();
    let asked = asked.unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
}
