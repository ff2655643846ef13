//! The files that modules name, made once for all cases.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::KeyPair;
use tempfile::TempDir;

use crate::support::certs::{Authority, Leaf, self_signed};

/// A folder with `ca.pem`, `client.pem` and so on, and the authorities behind them.
#[derive(Debug)]
pub(crate) struct Files {
    folder: TempDir,
    sockets: AtomicUsize,
    pub(crate) authorities: Authorities,
}

/// Who signs what the servers show.
pub(crate) struct Authorities {
    /// In `ca.pem`.
    pub(crate) root: Authority,
    /// Below it, with 30 days to go.
    pub(crate) middle: Authority,
    /// Trusted by nobody; in `other-ca.pem`.
    pub(crate) other: Authority,
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorities")
    }
}

impl Files {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Authority::root("suite root");
        let middle = root.intermediate("suite middle", (-5, 30));
        let other = Authority::root("another root");
        let client = |authority: &Authority, days| {
            let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
            authority.leaf(&Leaf { names: &["client"], days, usage, ..Leaf::default() })
        };
        let (foreign, expired) = (client(&other, (-10, 90)), client(&root, (-10, -1)));
        let client = client(&root, (-10, 90));
        let stranger = self_signed(&["stranger"], false);
        let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        for (name, text) in [
            ("ca.pem", root.pem()),
            ("other-ca.pem", other.pem()),
            ("client.pem", client.pem),
            ("client.key", client.key_pem),
            ("foreign.pem", foreign.pem),
            ("foreign.key", foreign.key_pem),
            ("expired.pem", expired.pem),
            ("expired.key", expired.key_pem),
            ("stranger.key", stranger.key_pem),
            ("jwt.key", rsa.serialize_pem()),
            ("bad.pem", "this is no certificate\n".to_owned()),
            ("empty", String::new()),
            ("user", "alice\n".to_owned()),
            ("password", "  open sesame \n".to_owned()),
            ("token", "t0ken\n".to_owned()),
            ("header", "from a file\n".to_owned()),
            ("body", "what is posted\n".to_owned()),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self {
            folder,
            sockets: AtomicUsize::new(0),
            authorities: Authorities { root, middle, other },
        }
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// A path that nothing else has, short enough for a socket.
    pub(crate) fn new_path(&self) -> PathBuf {
        let number = self.sockets.fetch_add(1, Ordering::SeqCst);
        self.folder.path().join(format!("s{number}"))
    }
}
