//! The prober `tls` against servers whose certificates are in every state, and against peers that do not speak TLS.

use std::time::{Duration, Instant};

use rustls::version;
use serde_json::{Value, json};
use watchpost::model::{Answer, Fault, Outcome, Phase, Target, family};

use super::support::certs::{Authority, Leaf, Shown, days, self_signed};
use super::support::peer::{Peer, Tls};
use super::support::run::{has, labels, mistakes, module, probe, probe_as, reason, run};

const NEVER_VERIFIED: f64 = -62_135_596_800.0;

/// A module `tls` that trusts `ca`, with `more` keys beside it.
pub(crate) fn trusting(ca: &str, more: Value) -> Value {
    let mut block = json!({"tls_config": {"ca": ca}, "preferred_ip_protocol": "ip4"});
    for (key, value) in more.as_object().unwrap() {
        block[key] = value.clone();
    }
    json!({"prober": "tls", "tls": block})
}

async fn ask(ca: &str, shown: Shown) -> Outcome {
    let peer = Peer::tls(Tls::new(shown)).await;
    probe(trusting(ca, json!({})), peer.by_name()).await
}

fn fault(outcome: &Outcome) -> Fault {
    outcome.answer.fault().unwrap().clone()
}

#[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
fn is_in_days(value: Option<f64>, count: i64) -> bool {
    value.is_some_and(|value| (value - days(count) as f64).abs() < 60.0)
}

/// The facts that must be there whatever the verdict is.
pub(crate) fn assert_facts(outcome: &Outcome, positions: usize) {
    assert_eq!(labels(outcome, &family::PROBE_SSL_CERT_NOT_AFTER, "position").len(), positions);
    assert_eq!(labels(outcome, &family::PROBE_SSL_CERT_INFO, "subject").len(), positions);
    assert!(has(outcome, &family::PROBE_SSL_EARLIEST_CERT_EXPIRY));
    assert!(has(outcome, &family::PROBE_SSL_LAST_CHAIN_INFO));
    assert!(has(outcome, &family::PROBE_TLS_VERSION_INFO));
    assert!(has(outcome, &family::PROBE_TLS_CIPHER_INFO));
    let passed = outcome.answer.is_success();
    let verified = Some(f64::from(u8::from(passed)));
    assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), verified);
    if !passed {
        assert_eq!(outcome.phase, Some(Phase::Tls));
        assert_eq!(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), Some(NEVER_VERIFIED));
    }
}

#[tokio::test]
async fn a_good_chain_passes_with_its_facts() {
    let root = Authority::root("root");
    let intermediate = root.intermediate("middle", (-5, 30));
    let outcome = ask(&root.pem(), intermediate.leaf(&Leaf::default())).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert_facts(&outcome, 2);
    assert!(is_in_days(outcome.fact(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY), 30));
    assert!(is_in_days(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), 30));
    assert_eq!(labels(&outcome, &family::PROBE_TLS_VERSION_INFO, "version"), ["TLS 1.3"]);
    assert_eq!(
        labels(&outcome, &family::PROBE_SSL_CERT_INFO, "subject"),
        ["CN=localhost", "CN=middle"]
    );
    assert_eq!(labels(&outcome, &family::PROBE_SSL_CERT_INFO, "issuer"), ["CN=middle", "CN=root"]);
    let phases: Vec<Phase> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, [Phase::Resolve, Phase::Connect, Phase::Tls]);
}

#[tokio::test]
async fn dates_are_told_with_the_certificate_s_position() {
    let root = Authority::root("root");
    let expired = Leaf { days: (-10, -2), ..Leaf::default() };
    let outcome = ask(&root.pem(), root.leaf(&expired)).await;
    assert!(matches!(fault(&outcome), Fault::CertExpired { position: 0, .. }));
    assert!(is_in_days(outcome.fact(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY), -2));
    assert_facts(&outcome, 1);

    let future = Leaf { days: (2, 10), ..Leaf::default() };
    let outcome = ask(&root.pem(), root.leaf(&future)).await;
    assert!(matches!(fault(&outcome), Fault::CertNotYetValid { position: 0, .. }));
    assert_facts(&outcome, 1);

    let old = root.intermediate("old", (-100, -3));
    let outcome = ask(&root.pem(), old.leaf(&Leaf::default())).await;
    let Fault::CertExpired { subject, position: 1, .. } = fault(&outcome) else {
        panic!("{}", outcome.answer)
    };
    assert_eq!(&*subject, "CN=old");
    assert_facts(&outcome, 2);

    let early = root.intermediate("early", (3, 100));
    let outcome = ask(&root.pem(), early.leaf(&Leaf::default())).await;
    assert!(matches!(fault(&outcome), Fault::CertNotYetValid { position: 1, .. }));
}

#[tokio::test]
async fn an_expired_root_in_the_store_is_named() {
    let root = Authority::root_of_days("old root", (-100, -1));
    let outcome = ask(&root.pem(), root.leaf(&Leaf::default())).await;
    let Fault::CertExpired { subject, position: 1, .. } = fault(&outcome) else {
        panic!("{}", outcome.answer)
    };
    assert_eq!(&*subject, "CN=old root");
    assert_facts(&outcome, 1);
}

#[tokio::test]
async fn two_roots_with_one_key_give_the_longer_chain() {
    let key = rcgen::KeyPair::generate().unwrap();
    let same = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let old = Authority::root_with("root", (-100, 5), key);
    let new = Authority::root_with("root", (-1, 1000), same);
    let mut shown = new.leaf(&Leaf::default());
    shown.chain.push(old.der());
    let both = format!("{}{}", old.pem(), new.pem());
    let outcome = ask(&both, shown).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert!(is_in_days(outcome.fact(&family::PROBE_SSL_EARLIEST_CERT_EXPIRY), 5));
    assert!(is_in_days(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), 90));
}

#[tokio::test]
async fn another_root_of_the_same_name_is_not_taken_for_the_signer() {
    let right = Authority::root_of_days("root", (-100, 50));
    let wrong = Authority::root_of_days("root", (-100, 5000));
    let both = format!("{}{}", wrong.pem(), right.pem());
    let outcome = ask(&both, right.leaf(&Leaf::default())).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert!(is_in_days(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), 50));
}

#[tokio::test]
async fn names_and_addresses_are_verified() {
    let root = Authority::root("root");
    let other = Leaf { names: &["shop.example", "192.0.2.7"], ..Leaf::default() };
    let outcome = ask(&root.pem(), root.leaf(&other)).await;
    let wanted = Fault::CertNameMismatch {
        name: "localhost".into(),
        presented: vec!["shop.example".into(), "192.0.2.7".into()],
    };
    assert_eq!(fault(&outcome), wanted);
    assert_facts(&outcome, 1);

    let peer = Peer::tls(Tls::new(root.leaf(&other))).await;
    let spec = trusting(&root.pem(), json!({}));
    let outcome = probe_as(spec.clone(), peer.by_name(), "shop.example").await;
    assert_eq!(outcome.answer, Answer::Pass);
    let outcome = probe(spec, peer.address.to_string()).await;
    assert_eq!(reason(&outcome), "cert_name_mismatch");
    let mut spec = trusting(&root.pem(), json!({}));
    spec["tls"]["tls_config"]["server_name"] = "shop.example".into();
    assert_eq!(probe_as(spec, peer.by_name(), "x.example").await.answer, Answer::Pass);
}

#[tokio::test]
async fn addresses_in_the_certificate_are_for_targets_that_are_addresses() {
    let root = Authority::root("root");
    for (bind, names) in [("127.0.0.1:0", ["127.0.0.1"]), ("[::1]:0", ["::1"])] {
        let leaf = Leaf { names: &names, ..Leaf::default() };
        let peer = Peer::tls_at(bind, Tls::new(root.leaf(&leaf))).await;
        let outcome = probe(trusting(&root.pem(), json!({})), peer.address.to_string()).await;
        assert_eq!(outcome.answer, Answer::Pass, "{bind}");
        let url = format!("https://{}/health?x", peer.address);
        let outcome = probe(trusting(&root.pem(), json!({})), url).await;
        assert_eq!(outcome.answer, Answer::Pass, "{bind}");
    }
}

#[tokio::test]
async fn the_common_name_does_not_count() {
    let nameless = self_signed(&[], false);
    let ca = nameless.pem.clone();
    let outcome = ask(&ca, nameless).await;
    assert_eq!(reason(&outcome), "cert_name_mismatch");
}

#[tokio::test]
async fn untrusted_chains_are_told_apart() {
    let (root, stranger) = (Authority::root("root"), Authority::root("stranger"));
    let text = |outcome: &Outcome| {
        assert_eq!(reason(outcome), "cert_untrusted");
        outcome.answer.to_string()
    };
    let outcome = ask(&root.pem(), self_signed(&["localhost"], false)).await;
    assert!(text(&outcome).contains("self-signed"), "{}", outcome.answer);
    assert_facts(&outcome, 1);

    let outcome = ask(&root.pem(), stranger.leaf(&Leaf::default())).await;
    assert!(text(&outcome).contains("no intermediate"), "{}", outcome.answer);

    let mut incomplete = root.intermediate("middle", (-5, 30)).leaf(&Leaf::default());
    incomplete.chain.truncate(1);
    let outcome = ask(&root.pem(), incomplete).await;
    assert!(text(&outcome).contains("issued by CN=middle"), "{}", outcome.answer);
    assert!(text(&outcome).contains("no intermediate"), "{}", outcome.answer);

    let mut whole = stranger.intermediate("middle", (-5, 30)).leaf(&Leaf::default());
    whole.chain.push(stranger.der());
    let outcome = ask(&root.pem(), whole).await;
    assert!(text(&outcome).contains("ends in this root"), "{}", outcome.answer);

    // A root of the right name and another key.
    let impostor = Authority::root("root");
    let outcome = ask(&root.pem(), impostor.leaf(&Leaf::default())).await;
    text(&outcome);
}

#[tokio::test]
async fn a_certificate_for_clients_is_not_one_for_servers() {
    let root = Authority::root("root");
    let client = Leaf { usage: rcgen::ExtendedKeyUsagePurpose::ClientAuth, ..Leaf::default() };
    let outcome = ask(&root.pem(), root.leaf(&client)).await;
    assert_eq!(reason(&outcome), "cert_untrusted");
    let shown = root.leaf(&client);
    let own = shown.pem.clone();
    assert_eq!(reason(&ask(&own, shown).await), "cert_untrusted");
}

#[tokio::test]
async fn what_is_in_the_store_is_trusted_although_it_is_a_ca() {
    for is_ca in [false, true] {
        let shown = self_signed(&["localhost"], is_ca);
        let ca = shown.pem.clone();
        let outcome = ask(&ca, shown).await;
        assert_eq!(outcome.answer, Answer::Pass, "CA: {is_ca}");
        assert!(is_in_days(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), 90));
    }
    let shown = self_signed(&["elsewhere.example"], true);
    let ca = shown.pem.clone();
    assert_eq!(reason(&ask(&ca, shown).await), "cert_name_mismatch");
}

#[tokio::test]
async fn skipping_verification_passes_and_still_tells() {
    let root = Authority::root("root");
    let expired = Leaf { days: (-10, -2), ..Leaf::default() };
    let peer = Peer::tls(Tls::new(root.leaf(&expired))).await;
    let mut spec = json!({"prober": "tls", "tls": {"tls_config": {"insecure_skip_verify": true}}});
    let outcome = probe(spec.clone(), peer.by_name()).await;
    assert_eq!(outcome.answer, Answer::Pass);
    assert_eq!(outcome.fact(&family::PROBE_SSL_VERIFIED), Some(0.0));
    assert_eq!(outcome.fact(&family::PROBE_SSL_LAST_CHAIN_EXPIRY), Some(NEVER_VERIFIED));
    spec["tls"]["fail_if_expires_within"] = "1d".into();
    assert_eq!(reason(&probe(spec, peer.by_name()).await), "cert_expired");
}

#[tokio::test]
async fn expiry_soon_warns_and_then_fails() {
    let root = Authority::root("root");
    let peer = Peer::tls(Tls::new(root.leaf(&Leaf { days: (-80, 10), ..Leaf::default() }))).await;
    let asked = |warn: &str, fail: &str| {
        let rules = json!({"warn_if_expires_within": warn, "fail_if_expires_within": fail});
        probe(trusting(&root.pem(), rules), peer.by_name())
    };
    assert_eq!(asked("9d", "3d").await.answer, Answer::Pass);
    let warned = asked("14d", "3d").await;
    assert!(matches!(warned.answer, Answer::Warn(Fault::CertExpiresSoon { position: 0, .. })));
    assert_facts(&warned, 1);
    let failed = asked("30d", "14d").await;
    assert!(matches!(failed.answer, Answer::Fail(Fault::CertExpiresSoon { position: 0, .. })));
}

#[tokio::test]
async fn versions_suites_keys_and_protocols_are_told() {
    let root = Authority::root("root");
    let rows = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256", "TLS_ECDHE_ECDSA_WITH_"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384", "TLS_ECDHE_ECDSA_WITH_"),
        (&rcgen::PKCS_ED25519, "Ed25519", "TLS_ECDHE_ECDSA_WITH_"),
        (&rcgen::PKCS_RSA_SHA256, "RSA 2048", "TLS_ECDHE_RSA_WITH_"),
    ];
    for (algorithm, key_type, suite) in rows {
        for (version, name, suite) in
            [(&version::TLS12, "TLS 1.2", suite), (&version::TLS13, "TLS 1.3", "TLS_AES_")]
        {
            let shown = root.leaf(&Leaf { algorithm, ..Leaf::default() });
            let tls = Tls { versions: vec![version], alpn: vec![b"h2"], ..Tls::new(shown) };
            let peer = Peer::tls(tls).await;
            let spec = trusting(&root.pem(), json!({"alpn": ["http/1.1", "h2"]}));
            let outcome = probe(spec, peer.by_name()).await;
            assert_eq!(outcome.answer, Answer::Pass, "{key_type} {name}");
            assert_eq!(labels(&outcome, &family::PROBE_SSL_CERT_INFO, "key_type"), [key_type]);
            assert_eq!(labels(&outcome, &family::PROBE_TLS_VERSION_INFO, "version"), [name]);
            assert_eq!(labels(&outcome, &family::PROBE_TLS_ALPN_INFO, "protocol"), ["h2"]);
            let ciphers = labels(&outcome, &family::PROBE_TLS_CIPHER_INFO, "cipher");
            assert!(ciphers[0].starts_with(suite), "{ciphers:?}");
        }
    }
}

#[tokio::test]
async fn rules_about_version_and_protocol_leave_the_facts() {
    let root = Authority::root("root");
    let tls = Tls { versions: vec![&version::TLS12], ..Tls::new(root.leaf(&Leaf::default())) };
    let peer = Peer::tls(tls).await;
    for rule in [json!({"min_version": "TLS13"}), json!({"require_alpn": "h2"})] {
        let outcome = probe(trusting(&root.pem(), rule), peer.by_name()).await;
        assert_eq!(reason(&outcome), "tls_policy");
        assert_eq!(labels(&outcome, &family::PROBE_SSL_CERT_INFO, "position"), ["0"]);
    }
    let mut spec = trusting(&root.pem(), json!({}));
    spec["tls"]["tls_config"]["min_version"] = "TLS13".into();
    let outcome = probe(spec, peer.by_name()).await;
    assert_eq!(
        outcome.answer.to_string(),
        "TLS handshake failed: the peer sent the alert protocol_version"
    );
}

#[tokio::test]
async fn peers_that_do_not_speak_tls_are_quoted() {
    let spec = || trusting(&Authority::root("root").pem(), json!({}));
    let http = Peer::answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let outcome = probe(spec(), http.by_name()).await;
    assert_eq!(reason(&outcome), "tls_handshake");
    assert!(outcome.answer.to_string().contains("HTTP/1.1 400"), "{}", outcome.answer);
    assert_eq!(outcome.phase, Some(Phase::Tls));
    assert!(!has(&outcome, &family::PROBE_SSL_VERIFIED));

    let ssh = Peer::saying(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let outcome = probe(spec(), ssh.by_name()).await;
    assert!(outcome.answer.to_string().contains("SSH-2.0-OpenSSH_9.2"), "{}", outcome.answer);

    let garbage = Peer::answering(b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\xff").await;
    let outcome = probe(spec(), garbage.by_name()).await;
    assert_eq!(reason(&outcome), "tls_handshake");
    let broken = Peer::answering(b"\x16\x03\x03\x00\x05\x02\x00\x00\x01\xff").await;
    assert_eq!(reason(&probe(spec(), broken.by_name()).await), "tls_handshake");
}

#[tokio::test]
async fn peers_that_stop_in_the_middle_are_told_apart() {
    let ca = Authority::root("root").pem();
    let mut spec = trusting(&ca, json!({}));
    spec["timeout"] = "400ms".into();
    let silent = Peer::new(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let outcome = probe(spec.clone(), silent.by_name()).await;
    assert_eq!(reason(&outcome), "tls_timeout");
    assert!(outcome.took < Duration::from_millis(900));

    let half = Peer::saying(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76").await;
    assert_eq!(reason(&probe(spec.clone(), half.by_name()).await), "tls_timeout");

    let closing = Peer::new(|stream| async move { drop(stream) }).await;
    assert_eq!(reason(&probe(spec.clone(), closing.by_name()).await), "connection_closed");
    // Closing with unread bytes resets the connection.
    let resetting = Peer::new(|stream| async move {
        stream.readable().await.ok();
        drop(stream);
    })
    .await;
    assert_eq!(reason(&probe(spec, resetting.by_name()).await), "connection_closed");
}

#[tokio::test]
async fn our_own_troubles_accuse_nobody() {
    let root = Authority::root("root");
    let peer = Peer::tls(Tls::new(root.leaf(&Leaf::default()))).await;
    let configs = [
        json!({"ca_file": "/does/not/exist.pem"}),
        json!({"ca": "nothing of the kind"}),
        json!({"ca_ref": "vault"}),
        json!({"max_version": "TLS11"}),
        json!({"cert": root.pem(), "key": "nothing of the kind"}),
    ];
    for config in configs {
        let spec = json!({"prober": "tls", "tls": {"tls_config": config}});
        assert_eq!(reason(&probe(spec, peer.by_name()).await), "setup");
    }
    let spec = trusting(&root.pem(), json!({"source_ip_address": "nowhere"}));
    assert_eq!(reason(&probe(spec, peer.by_name()).await), "source_address");
    assert_eq!(peer.accepted(), 0);
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let (right, wrong) = (Authority::root("right"), Authority::root("a wrong one"));
    let peer = Peer::tls(Tls::new(right.leaf(&Leaf::default()))).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let spec = json!({"prober": "tls", "tls": {"tls_config": {"ca_file": path}}});
    let module = module(spec);
    let target = Target::plain(peer.by_name());
    assert_eq!(reason(&run(&module, &target).await), "setup");
    std::fs::write(&path, wrong.pem()).unwrap();
    assert_eq!(reason(&run(&module, &target).await), "cert_untrusted");
    let until = async |wanted: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let outcome = run(&module, &target).await;
            if reason(&outcome) == wanted {
                return;
            }
            assert!(Instant::now() < end, "{}", outcome.answer);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    std::fs::write(&path, right.pem()).unwrap();
    until("pass").await;
    std::fs::remove_file(&path).unwrap();
    until("setup").await;
}

#[test]
fn odd_modules_are_told() {
    let found = mistakes(json!({"prober": "tls", "tls": {
        "warn_if_expires_within": "1d", "fail_if_expires_within": "2d",
        "alpn": [""], "tls_config": {"cert_file": "x"}, "port": 0,
    }}));
    let keys: Vec<&str> = found.iter().map(|mistake| mistake.key.as_str()).collect();
    let wanted = ["tls.tls_config.cert", "tls.warn_if_expires_within", "tls.alpn", "tls.port"];
    assert_eq!(keys, wanted);
}

/// Names the target to a copy of this test that runs with a trust store of its own.
const CHILD_TARGET: &str = "PROBE_TLS_CHILD_TARGET";

#[tokio::test]
async fn the_system_s_store_is_the_one_that_the_environment_names() {
    let spec = json!({"prober": "tls", "tls": {"preferred_ip_protocol": "ip4"}});
    if let Some(target) = std::env::var_os(CHILD_TARGET) {
        let outcome = probe(spec, target.into_string().unwrap()).await;
        assert_eq!(outcome.answer, Answer::Pass);
        return;
    }
    let root = Authority::root("root");
    let peer = Peer::tls(Tls::new(root.leaf(&Leaf::default()))).await;
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.pem");
    std::fs::write(&store, root.pem()).unwrap();
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "probe_tls::the_system_s_store_is_the_one_that_the_environment_names"])
        .env("SSL_CERT_FILE", &store)
        .env_remove("SSL_CERT_DIR")
        .env(CHILD_TARGET, peer.by_name())
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(peer.accepted(), 1);
}
