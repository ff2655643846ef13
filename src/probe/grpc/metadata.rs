//! `metadata`: keys and values that are sent with a call.

use std::collections::BTreeMap;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::model::{Mistakes, Secret};

/// Values by key. They may be credentials, so that nobody prints them.
pub type MetadataSpec = BTreeMap<String, Vec<Secret>>;

/// What belongs to the call itself; such a key is left out, as upstream's library does.
const RESERVED: [&str; 8] = [
    "content-type",
    "user-agent",
    "te",
    "grpc-encoding",
    "grpc-message",
    "grpc-message-type",
    "grpc-status",
    "grpc-timeout",
];

/// A key of metadata: lower case, in `[0-9a-z-_.]`.
pub(super) fn key(text: &str) -> Option<HeaderName> {
    let fine =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let fine = !text.is_empty() && text.bytes().all(fine);
    fine.then(|| HeaderName::from_bytes(text.as_bytes()).ok()).flatten()
}

/// Makes headers of them. What cannot be sent is a warning, as upstream notices it only in a run.
pub(super) fn build(
    spec: MetadataSpec,
    broken: &mut Option<Box<str>>,
    mistakes: &mut Mistakes,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (written, values) in spec {
        let Some(name) = key(&written) else {
            let what = format!("metadata key {written:?} cannot be sent");
            let hint = "use lower case letters, digits and -_.";
            mistakes.warning("metadata", format!("{what}: no run can succeed"), hint);
            broken.get_or_insert(what.into());
            continue;
        };
        if RESERVED.contains(&name.as_str()) {
            let what = format!("metadata key {written:?} belongs to gRPC and is not sent");
            mistakes.warning("metadata", what, "remove it");
            continue;
        }
        for secret in values {
            let Some(value) = value(&name, &secret) else {
                let what = format!("a value of metadata key {written:?} cannot be sent");
                let hint = "write it on one line, or end the key in -bin";
                mistakes.warning("metadata", format!("{what}: no run can succeed"), hint);
                broken.get_or_insert(what.into());
                continue;
            };
            headers.append(name.clone(), value);
        }
    }
    headers
}

fn value(name: &HeaderName, secret: &Secret) -> Option<HeaderValue> {
    let text = secret.reveal();
    let made = if name.as_str().ends_with("-bin") {
        HeaderValue::try_from(STANDARD_NO_PAD.encode(text))
    } else {
        HeaderValue::from_str(text)
    };
    let mut value = made.ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(key: &str, value: &str) -> (HeaderMap, bool, usize) {
        let spec = [(key.to_owned(), vec![Secret::new(value.to_owned())])].into();
        let (mut broken, mut mistakes) = (None, Mistakes::default());
        let headers = build(spec, &mut broken, &mut mistakes);
        assert!(!mistakes.has_errors());
        (headers, broken.is_some(), mistakes.into_vec().len())
    }

    #[test]
    fn bytes_are_encoded_and_text_is_not() {
        let (headers, broken, warnings) = built("trace-bin", "\u{1}\nab");
        assert_eq!(
            (headers["trace-bin"].to_str().unwrap(), broken, warnings),
            ("AQphYg", false, 0)
        );
        let (headers, ..) = built("x_a.b-c", "v");
        assert_eq!(headers["x_a.b-c"], "v");
    }

    #[test]
    fn what_cannot_be_sent_is_a_warning_and_breaks_each_run() {
        for (key, value) in [("Upper", "v"), ("a b", "v"), ("", "v"), ("ok", "a\nb")] {
            let (headers, broken, warnings) = built(key, value);
            assert!(headers.is_empty() && broken && warnings == 1, "{key:?}");
        }
        let (headers, broken, warnings) = built("te", "x");
        assert!(headers.is_empty() && !broken && warnings == 1);
    }
}
