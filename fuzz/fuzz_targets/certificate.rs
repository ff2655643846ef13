//! Any bytes as a certificate: its facts are bounded, and of one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchpost::net::Certificate;

fuzz_target!(|der: &[u8]| {
    let certificate = Certificate::parse(der);
    assert_eq!(certificate.fingerprint_sha256.len(), 64);
    for text in [&certificate.subject, &certificate.issuer, &certificate.serial] {
        assert!(text.len() <= 4096, "{} bytes", text.len());
    }
});
