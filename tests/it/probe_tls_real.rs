//! The prober `tls` against servers that others wrote: OpenSSL's and PostgreSQL.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use watchpost::model::{Answer, Outcome, Phase, family};

use super::probe_tls::{assert_facts, trusting};
use super::support::certs::{Authority, Leaf};
use super::support::run::{labels, probe, reason};

/// A program that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let status = Command::new("openssl")
        .current_dir(dir)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "openssl {arguments:?}");
}

/// Starts `openssl s_server` on a free port, and waits until it listens.
async fn s_server(dir: &Path, more: &[&str]) -> (Running, String) {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let child = Command::new("openssl")
        .current_dir(dir)
        .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")])
        .args(["-cert", "cert.pem", "-key", "key.pem"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return (running, format!("localhost:{port}"));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("s_server does not listen");
}

#[tokio::test]
async fn what_openssl_req_makes_is_trusted_when_it_is_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    openssl(
        dir.path(),
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "20",
            "-subj",
            "/C=FR/O=Example Org/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
    );
    let ca = std::fs::read_to_string(dir.path().join("cert.pem")).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let (_running, target) = s_server(dir.path(), &[version]).await;
        let outcome = probe(trusting(&ca, json!({})), target.clone()).await;
        assert_eq!(outcome.answer, Answer::Pass, "{version}");
        assert_eq!(
            labels(&outcome, &family::PROBE_SSL_LAST_CHAIN_INFO, "subject"),
            ["CN=localhost,O=Example Org,C=FR"]
        );
        let stranger = Authority::root("root").pem();
        let outcome = probe(trusting(&stranger, json!({})), target).await;
        assert!(outcome.answer.to_string().contains("self-signed"), "{}", outcome.answer);
    }
}

#[tokio::test]
async fn a_certificate_of_version_one_still_yields_its_facts() {
    let dir = tempfile::tempdir().unwrap();
    openssl(
        dir.path(),
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "request.pem",
            "-subj",
            "/CN=localhost",
        ],
    );
    openssl(
        dir.path(),
        &[
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-signkey",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "20",
        ],
    );
    for version in ["-tls1_2", "-tls1_3"] {
        let (_running, target) = s_server(dir.path(), &[version]).await;
        let ca = std::fs::read_to_string(dir.path().join("cert.pem")).unwrap();
        let outcome = probe(trusting(&ca, json!({})), target.clone()).await;
        assert_eq!(reason(&outcome), "cert_name_mismatch", "{}", outcome.answer);
        assert_facts(&outcome, 1);
        let spec = json!({"prober": "tls", "tls": {"tls_config": {"insecure_skip_verify": true}}});
        assert_eq!(probe(spec, target).await.answer, Answer::Pass);
    }
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let root = Authority::root("root");
    let dir = tempfile::tempdir().unwrap();
    let shown = root.leaf(&Leaf::default());
    let client =
        root.leaf(&Leaf { usage: rcgen::ExtendedKeyUsagePurpose::ClientAuth, ..Leaf::default() });
    let files = [("cert.pem", &shown.pem), ("key.pem", &shown.key_pem), ("ca.pem", &root.pem())];
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let stranger = Authority::root("stranger").leaf(&Leaf::default());
    for (version, alerts) in [
        ("-tls1_2", ["handshake_failure", "unknown_ca"]),
        ("-tls1_3", ["certificate_required", "unknown_ca"]),
    ] {
        let more = [version, "-www", "-Verify", "2", "-verify_return_error", "-CAfile", "ca.pem"];
        let (_running, target) = s_server(dir.path(), &more).await;
        let mut spec = trusting(&root.pem(), json!({}));
        let outcome = probe(spec.clone(), target.clone()).await;
        assert_refused(&outcome, alerts[0], "tls_config has none for it");
        for (shown, refused) in [(&stranger, true), (&client, false)] {
            spec["tls"]["tls_config"]["cert"] = shown.pem.clone().into();
            spec["tls"]["tls_config"]["key"] = shown.key_pem.clone().into();
            let outcome = probe(spec.clone(), target.clone()).await;
            if refused {
                assert_refused(&outcome, alerts[1], "it was shown the client certificate");
            } else {
                assert_eq!(outcome.answer, Answer::Pass, "{version}");
            }
        }
    }
}

fn assert_refused(outcome: &Outcome, alert: &str, why: &str) {
    let said = outcome.answer.to_string();
    assert_eq!((reason(outcome), outcome.phase), ("tls_handshake", Some(Phase::Tls)), "{said}");
    assert!(said.contains(alert) && said.contains(why), "{said}");
    if alert == "certificate_required" {
        // The server's own certificates are known and good by then.
        assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), Some(1.0));
    }
}

/// The newest PostgreSQL of this system, if there is one.
fn postgres_folder() -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|entry| entry.path().join("bin")).find(|bin| bin.join("initdb").exists())
}

/// A command that does not run as root, which PostgreSQL refuses.
fn as_nobody_special(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

#[tokio::test]
async fn a_real_postgresql_shows_its_certificate() {
    let Some(bin) = postgres_folder() else {
        tracing::warn!("PostgreSQL is not installed: nothing to ask");
        return;
    };
    let root = Authority::root("root");
    let shown = root.leaf(&Leaf::default());
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let data = dir.path().join("data");
    let quiet = |command: &mut Command| {
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    };
    let mut init = as_nobody_special(&bin.join("initdb"));
    quiet(init.args(["--no-sync", "-A", "trust", "-D"]).arg(&data));
    assert!(init.status().unwrap().success());
    for (name, text) in [("server.crt", &shown.pem), ("server.key", &shown.key_pem)] {
        let mut install = as_nobody_special(Path::new("/usr/bin/install"));
        let source = dir.path().join(name);
        std::fs::write(&source, text).unwrap();
        quiet(install.args(["-m", "0600"]).arg(&source).arg(data.join(name)));
        assert!(install.status().unwrap().success());
    }
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    for (ssl, wanted) in [("on", "pass"), ("off", "tls_policy")] {
        let mut server = as_nobody_special(&bin.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
        server.args(["-c", "unix_socket_directories=", "-c", &format!("ssl={ssl}")]);
        quiet(&mut server);
        let running = Running(server.spawn().unwrap());
        let spec = trusting(&root.pem(), json!({"starttls": "postgres", "port": port}));
        let mut outcome = probe(spec.clone(), "localhost").await;
        for _ in 0..200 {
            if reason(&outcome) != "connect_refused" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            outcome = probe(spec.clone(), "localhost").await;
        }
        assert_eq!(reason(&outcome), wanted, "ssl={ssl}: {}", outcome.answer);
        stop_postgres(&bin, &data);
        drop(running);
    }
}

fn stop_postgres(bin: &Path, data: &Path) {
    let mut stop = as_nobody_special(&bin.join("pg_ctl"));
    stop.current_dir("/").args(["stop", "-m", "immediate", "-w", "-D"]).arg(data);
    assert!(stop.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
}
