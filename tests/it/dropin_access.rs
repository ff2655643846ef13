//! `--web.config.file` at the built binary: users, rate limit, headers, TLS, and changes without a restart.

use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::ExtendedKeyUsagePurpose;

use crate::support::certs::{Authority, Leaf};
use crate::support::watchpost::{PATIENCE, Watchpost};

fn start(folder: &Path, web: &str) -> Watchpost {
    let config = folder.join("blackbox.yml");
    std::fs::write(&config, "modules: { tcp: { prober: tcp } }\n").unwrap();
    std::fs::write(folder.join("web.yml"), web).unwrap();
    let web = format!("--web.config.file={}", folder.join("web.yml").display());
    Watchpost::start_with(&config, &[&web])
}

async fn status(watchpost: &Watchpost, user: Option<(&str, &str)>) -> u16 {
    let request = reqwest::Client::new().get(watchpost.url("/metrics"));
    let request = match user {
        Some((name, password)) => request.basic_auth(name, Some(password)),
        None => request,
    };
    let response = request.send().await.unwrap();
    if response.status() == 401 {
        assert_eq!(response.headers()["www-authenticate"], "Basic");
    }
    assert_eq!(response.headers().get("x-frame-options").is_some(), response.status() != 500);
    response.status().as_u16()
}

async fn until(watchpost: &Watchpost, user: (&str, &str), wanted: u16) {
    let end = Instant::now() + PATIENCE;
    while status(watchpost, Some(user)).await != wanted {
        assert!(Instant::now() < end, "never {wanted}\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn users(name: &str, password: &str) -> String {
    let hash = bcrypt::hash(password, 4).unwrap();
    format!(
        "http_server_config: {{ headers: {{ X-Frame-Options: deny }} }}\nbasic_auth_users: {{ {name}: '{hash}' }}\n"
    )
}

#[tokio::test]
async fn users_are_asked_for_passwords_and_change_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path(), &users("ali", "sesame"));
    assert_eq!(status(&watchpost, None).await, 401);
    assert_eq!(status(&watchpost, Some(("ali", "wrong"))).await, 401);
    assert_eq!(status(&watchpost, Some(("nobody", "sesame"))).await, 401);
    assert_eq!(status(&watchpost, Some(("ali", "sesame"))).await, 200);
    std::fs::write(folder.path().join("web.yml"), users("baba", "other")).unwrap();
    until(&watchpost, ("baba", "other"), 200).await;
    assert_eq!(status(&watchpost, Some(("ali", "sesame"))).await, 401);
    // A file that cannot be used closes the door.
    std::fs::write(folder.path().join("web.yml"), "basic_auth_userz: {}\n").unwrap();
    until(&watchpost, ("baba", "other"), 500).await;
    std::fs::remove_file(folder.path().join("web.yml")).unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(status(&watchpost, Some(("baba", "other"))).await, 500);
    std::fs::write(folder.path().join("web.yml"), users("baba", "other")).unwrap();
    until(&watchpost, ("baba", "other"), 200).await;
}

#[tokio::test]
async fn a_rate_limit_holds_for_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let watchpost = start(folder.path(), "rate_limit: { interval: 1h, burst: 2 }\n");
    let mut statuses = Vec::new();
    for path in ["/metrics", "/-/healthy", "/", "/probe"] {
        statuses.push(reqwest::get(watchpost.url(path)).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}

fn write_server(folder: &Path, root: &Authority, name: &str) {
    let shown = root.leaf(&Leaf { names: &[name, "localhost"], ..Leaf::default() });
    std::fs::write(folder.join("cert.pem"), &shown.pem).unwrap();
    std::fs::write(folder.join("key.pem"), &shown.key_pem).unwrap();
}

fn client(root: &Authority, identity: Option<&str>) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(root.pem().as_bytes()).unwrap();
    let builder = reqwest::Client::builder().tls_certs_only([ca]).pool_max_idle_per_host(0);
    match identity {
        Some(pem) => builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap()),
        None => builder,
    }
    .build()
    .unwrap()
}

#[tokio::test]
async fn clients_show_certificates_and_the_server_takes_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (root, second) = (Authority::root("one"), Authority::root("two"));
    write_server(folder.path(), &root, "localhost");
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    let web = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: ca.pem\n  \
        client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [good.example]\n  min_version: TLS10\n  \
        cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA]\n  \
        curve_preferences: [CurveP256, CurveP521]\n";
    let watchpost = start(folder.path(), web);
    let port = watchpost.address.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/-/healthy");
    let identity = |authority: &Authority, name| {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let shown = authority.leaf(&Leaf { names: &[name], usage, ..Leaf::default() });
        format!("{}{}", shown.pem, shown.key_pem)
    };
    let good = identity(&root, "good.example");
    let answer = client(&root, Some(&good)).get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert!(client(&root, None).get(&url).send().await.is_err());
    let other_name = identity(&root, "other.example");
    assert!(client(&root, Some(&other_name)).get(&url).send().await.is_err());
    let stranger = identity(&second, "good.example");
    assert!(client(&root, Some(&stranger)).get(&url).send().await.is_err());
    assert!(watchpost.log().contains("CurveP521"), "{}", watchpost.log());
    assert!(watchpost.log().contains("TLS below 1.2"), "{}", watchpost.log());
    // A new certificate of somebody else: whoever trusts only them is served soon.
    write_server(folder.path(), &second, "localhost");
    let trusting = client(&second, Some(&good));
    let end = Instant::now() + PATIENCE;
    while trusting.get(&url).send().await.is_err() {
        assert!(Instant::now() < end, "{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Certificate, key and client CA are renewed one after the other: nobody is turned away in between.
#[tokio::test]
async fn the_last_pair_that_fitted_serves_until_the_next_fits() {
    let folder = tempfile::tempdir().unwrap();
    let (root, second) = (Authority::root("one"), Authority::root("two"));
    write_server(folder.path(), &root, "localhost");
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    let web = "tls_server_config: { cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem, \
               client_auth_type: VerifyClientCertIfGiven }\n";
    let watchpost = start(folder.path(), web);
    let port = watchpost.address.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/-/healthy");
    let warnings = || watchpost.log().matches("the last ones that did stay in use").count();
    let old = client(&root, None);
    let served = async || old.get(&url).send().await.map(|answer| answer.status().as_u16());
    let until_warned = async |times| {
        let end = Instant::now() + PATIENCE;
        while warnings() < times {
            assert_eq!(served().await.unwrap(), 200, "{}", watchpost.log());
            assert!(Instant::now() < end, "{}", watchpost.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // The certificate alone is new.
    let key = std::fs::read(folder.path().join("key.pem")).unwrap();
    write_server(folder.path(), &second, "localhost");
    let new_key = std::fs::read(folder.path().join("key.pem")).unwrap();
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    until_warned(1).await;
    // It is looked at again and again, and said once.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(served().await.unwrap(), 200);
    assert_eq!(warnings(), 1, "{}", watchpost.log());
    // The client CA is being written.
    std::fs::write(folder.path().join("ca.pem"), "").unwrap();
    until_warned(2).await;
    std::fs::write(folder.path().join("ca.pem"), second.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), new_key).unwrap();
    let new = client(&second, None);
    let end = Instant::now() + PATIENCE;
    while new.get(&url).send().await.is_err() {
        assert!(Instant::now() < end, "{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(served().await.is_err(), "the old certificate is not shown any more");
    // What is asked for otherwise is never served with what was there before.
    let strict = web.replace("VerifyClientCertIfGiven", "RequireAndVerifyClientCert");
    std::fs::write(folder.path().join("ca.pem"), "").unwrap();
    std::fs::write(folder.path().join("web.yml"), strict).unwrap();
    let end = Instant::now() + PATIENCE;
    while new.get(&url).send().await.is_ok() {
        assert!(Instant::now() < end, "{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
