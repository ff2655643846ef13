//! The prober `tls` where TLS is asked for in another protocol.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use watchpost::model::{Answer, Outcome, Phase};

use super::probe_tls::{assert_facts, trusting};
use super::support::certs::{Authority, Leaf};
use super::support::peer::{Peer, Script, Tls};
use super::support::run::{probe, reason};

const EHLO: &[u8] = b"EHLO watchpost.invalid\r\n";
const LDAP: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
const POSTGRES: &[u8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";

/// Protocol, greeting, what follows.
type Row = (&'static str, &'static [u8], Script);

async fn ask_starttls((protocol, greeting, script): Row) -> Outcome {
    let root = Authority::root("root");
    let peer = Peer::starttls(Tls::new(root.leaf(&Leaf::default())), greeting, script).await;
    let mut spec = trusting(&root.pem(), json!({"starttls": protocol}));
    spec["timeout"] = "3s".into();
    probe(spec, peer.by_name()).await
}

#[tokio::test]
async fn starttls_is_spoken_in_six_protocols() {
    let rows: [Row; 7] = [
        (
            "smtp",
            b"220-mx.example\r\n220 ready\r\n",
            &[
                (EHLO, b"250-mx.example\r\n250-SIZE 1000\r\n250-starttls\r\n250 HELP\r\n"),
                (b"STARTTLS\r\n", b"220 2.0.0 go ahead\r\n"),
            ],
        ),
        (
            "imap",
            b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
            &[(b"a1 STARTTLS\r\n", b"* CAPABILITY IMAP4rev1\r\na1 OK begin\r\n")],
        ),
        ("pop3", b"+OK ready\r\n", &[(b"STLS\r\n", b"+OK begin\r\n")]),
        (
            "ftp",
            b"220-welcome\r\n to us\r\n220-still\r\n220 ready\r\n",
            &[(b"AUTH TLS\r\n", b"234 AUTH TLS ok\r\n")],
        ),
        (
            "ldap",
            b"",
            &[(LDAP, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")],
        ),
        (
            "ldap",
            b"",
            &[(
                LDAP,
                b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00",
            )],
        ),
        ("postgres", b"", &[(POSTGRES, b"S")]),
    ];
    for row in rows {
        let outcome = ask_starttls(row).await;
        assert_eq!(outcome.answer, Answer::Pass, "{}", row.0);
        let phases: Vec<Phase> = outcome.phases.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(phases, [Phase::Resolve, Phase::Connect, Phase::Processing, Phase::Tls]);
        assert_facts(&outcome, 1);
    }
}

#[tokio::test]
async fn a_refused_starttls_is_told_with_the_peer_s_words() {
    let rows: [(Row, &str, &str); 11] = [
        (("smtp", b"220 x\r\n", &[(EHLO, b"250 x\r\n")]), "tls_policy", "not offered"),
        (
            (
                "smtp",
                b"220 x\r\n",
                &[(EHLO, b"250 STARTTLS\r\n"), (b"STARTTLS\r\n", b"454 no key\r\n")],
            ),
            "tls_policy",
            "454 no key",
        ),
        (("smtp", b"554 go away\r\n", &[]), "protocol_error", "554 go away"),
        (("smtp", b"SSH-2.0-x\r\n", &[]), "protocol_error", "SSH-2.0-x"),
        (("imap", b"* PREAUTH hi\r\n", &[]), "tls_policy", "PREAUTH"),
        (
            ("imap", b"* OK\r\n", &[(b"a1 STARTTLS\r\n", b"a1 BAD what\r\n")]),
            "tls_policy",
            "a1 BAD what",
        ),
        (("pop3", b"+OK\r\n", &[(b"STLS\r\n", b"-ERR no\r\n")]), "tls_policy", "-ERR no"),
        (("ftp", b"220 x\r\n", &[(b"AUTH TLS\r\n", b"530 no\r\n")]), "tls_policy", "530 no"),
        (
            ("ldap", b"", &[(LDAP, b"\x30\x0e\x02\x01\x01\x78\x09\x0a\x01\x34\x04\x00\x04\x02no")]),
            "tls_policy",
            "LDAP result 52 no",
        ),
        (("postgres", b"", &[(POSTGRES, b"N")]), "tls_policy", "answered N"),
        // Words after the go-ahead could pass for encrypted ones.
        (
            ("pop3", b"+OK\r\n", &[(b"STLS\r\n", b"+OK\r\n+OK injected\r\n")]),
            "protocol_error",
            "injected",
        ),
    ];
    for (row, wanted, words) in rows {
        let outcome = ask_starttls(row).await;
        assert_eq!(reason(&outcome), wanted, "{} {}", row.0, outcome.answer);
        assert!(outcome.answer.to_string().contains(words), "{}", outcome.answer);
        assert_eq!(outcome.phase, Some(Phase::Processing));
    }
}

#[tokio::test]
async fn a_silent_mail_server_is_no_tls_trouble() {
    let silent = Peer::saying(b"").await;
    let mut spec = trusting(&Authority::root("root").pem(), json!({"starttls": "smtp"}));
    spec["timeout"] = "300ms".into();
    let outcome = probe(spec, silent.by_name()).await;
    assert_eq!((reason(&outcome), outcome.phase), ("no_response", Some(Phase::Processing)));
}

#[tokio::test]
async fn a_peer_that_talks_without_end_is_left() {
    let chatty =
        Peer::new(
            |mut stream| async move { while stream.write_all(b"220-more\r\n").await.is_ok() {} },
        )
        .await;
    let spec = trusting(&Authority::root("root").pem(), json!({"starttls": "smtp"}));
    let outcome = probe(spec, chatty.by_name()).await;
    assert_eq!(reason(&outcome), "protocol_error");
}
