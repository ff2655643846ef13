//! The block `tls_config`, in blackbox_exporter's vocabulary.

use serde::Deserialize;

use crate::model::{Mistakes, Secret};

/// How to speak TLS: whom to trust, what to present, which versions.
///
/// Files are opened when they are needed: one that is missing is no mistake of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificates to trust, in PEM. They replace the system's.
    pub ca: Option<String>,
    pub ca_file: Option<String>,
    pub ca_ref: Option<String>,
    /// Certificates to present, in PEM.
    pub cert: Option<String>,
    pub cert_file: Option<String>,
    pub cert_ref: Option<String>,
    pub key: Option<Secret>,
    pub key_file: Option<String>,
    pub key_ref: Option<String>,
    /// The name to ask for and to verify; default: the target's.
    pub server_name: Option<String>,
    #[serde(default)]
    pub insecure_skip_verify: bool,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
}

/// A protocol version as `tls_config` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl TlsVersion {
    /// As `probe_tls_version_info` tells it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        }
    }

    const fn is_obsolete(self) -> bool {
        matches!(self, Self::Tls10 | Self::Tls11)
    }
}

/// An empty text counts as not set, as upstream reads it.
pub(super) fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|t| !t.is_empty())
}

impl TlsSettings {
    /// Reports what needs more than one key to see. Keys are named relative to the block.
    pub fn check(&self, mistakes: &mut Mistakes) {
        let key = self.key.as_ref().is_some_and(|key| !key.reveal().is_empty());
        let has = |text: &Option<String>| set(text.as_ref()).is_some();
        let ca = [has(&self.ca), has(&self.ca_file), has(&self.ca_ref)];
        let cert = [has(&self.cert), has(&self.cert_file), has(&self.cert_ref)];
        let keys = [key, has(&self.key_file), has(&self.key_ref)];
        for (name, given) in [("ca", ca), ("cert", cert), ("key", keys)] {
            check_source(name, given, mistakes);
        }
        let (cert, key) = (cert.contains(&true), keys.contains(&true));
        if cert && !key {
            mistakes.error("cert", "a client certificate without its key", "set key or key_file");
        }
        if key && !cert {
            mistakes.error("key", "a client key without its certificate", "set cert or cert_file");
        }
        self.check_versions(mistakes);
    }

    fn check_versions(&self, mistakes: &mut Mistakes) {
        for (name, version) in
            [("min_version", self.min_version), ("max_version", self.max_version)]
        {
            if version.is_some_and(TlsVersion::is_obsolete) {
                mistakes.warning(
                    name,
                    "TLS 1.0 and 1.1 cannot be spoken",
                    "use TLS12 or TLS13; a peer that speaks nothing newer fails its handshake",
                );
            }
        }
        if let (Some(min), Some(max)) = (self.min_version, self.max_version)
            && min > max
        {
            mistakes.warning(
                "min_version",
                "min_version is above max_version: no run can succeed",
                "swap them",
            );
        }
    }
}

fn check_source(name: &str, [text, file, reference]: [bool; 3], mistakes: &mut Mistakes) {
    if u8::from(text) + u8::from(file) + u8::from(reference) > 1 {
        mistakes.error(
            name,
            format!("at most one of {name}, {name}_file and {name}_ref may be set"),
            "keep one of them",
        );
    }
    if reference {
        mistakes.warning(
            &format!("{name}_ref"),
            format!("there is no secret manager to take {name}_ref from: no run can succeed"),
            format!("use {name}_file"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: serde_json::Value) -> Vec<(String, bool)> {
        let settings: TlsSettings = serde_json::from_value(json).unwrap();
        let mut mistakes = Mistakes::default();
        settings.check(&mut mistakes);
        mistakes.into_vec().into_iter().map(|m| (m.key, m.warning)).collect()
    }

    #[test]
    fn exclusions_are_named() {
        let found = checked(serde_json::json!({"ca": "x", "ca_file": "y", "cert_file": "z"}));
        assert_eq!(found, [("ca".into(), false), ("cert".into(), false)]);
        let found = checked(serde_json::json!({"key": "secret"}));
        assert_eq!(found, [("key".into(), false)]);
        assert!(checked(serde_json::json!({"cert": "", "key": "", "ca": ""})).is_empty());
    }

    #[test]
    fn what_can_never_work_is_a_warning() {
        let found = checked(serde_json::json!({"ca_ref": "x"}));
        assert_eq!(found, [("ca_ref".into(), true)]);
        let found = checked(serde_json::json!({"min_version": "TLS13", "max_version": "TLS11"}));
        assert_eq!(found, [("max_version".into(), true), ("min_version".into(), true)]);
    }

    #[test]
    fn unknown_words_are_refused() {
        for json in ["{\"min_version\": \"SSL30\"}", "{\"ciphers\": []}"] {
            assert!(serde_json::from_str::<TlsSettings>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let settings: TlsSettings =
            serde_json::from_str("{\"cert\": \"c\", \"key\": \"hunter2\"}").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
