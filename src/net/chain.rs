//! What certificates say, as text and times. Whether to believe it is decided in [`tls`](super::TlsClient).

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name};

/// The facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// RFC 2253's form, most specific first, as Go writes it; `unparsable` for a certificate that is none.
    pub subject: Box<str>,
    pub issuer: Box<str>,
    /// Lower hex of the integer's bytes.
    pub serial: Box<str>,
    /// DNS names in the certificate's order.
    pub sans: Vec<Box<str>>,
    pub ips: Vec<IpAddr>,
    /// Absent only when the certificate does not parse.
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    /// `RSA 2048`, `ECDSA P-256`, `Ed25519`.
    pub key_type: Box<str>,
    /// Lower hex.
    pub fingerprint_sha256: Box<str>,
    pub is_ca: bool,
}

/// The longest text that is kept of one field, in bytes: a certificate comes from a stranger.
const MAX_TEXT_BYTES: usize = 1024;
/// The most names that are kept of one certificate.
const MAX_NAMES: usize = 128;

impl Certificate {
    /// Reads one certificate. What is none yields facts that say so.
    pub fn parse(der: &[u8]) -> Self {
        let fingerprint = hex(&Sha256::digest(der));
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => Self::read(&certificate, fingerprint),
            Err(_) => Self::unparsable(fingerprint),
        }
    }

    fn read(certificate: &X509Certificate<'_>, fingerprint: Box<str>) -> Self {
        let (sans, ips) = names(certificate);
        let validity = certificate.validity();
        Self {
            subject: distinguished_name(certificate.subject()),
            issuer: distinguished_name(certificate.issuer()),
            serial: serial(certificate.raw_serial()),
            sans,
            ips,
            not_before: Some(timestamp(validity.not_before)),
            not_after: Some(timestamp(validity.not_after)),
            key_type: key_type(certificate.public_key()),
            fingerprint_sha256: fingerprint,
            is_ca: certificate.is_ca(),
        }
    }

    fn unparsable(fingerprint: Box<str>) -> Self {
        Self {
            subject: "unparsable".into(),
            issuer: "unparsable".into(),
            serial: "".into(),
            sans: Vec::new(),
            ips: Vec::new(),
            not_before: None,
            not_after: None,
            key_type: "unknown".into(),
            fingerprint_sha256: fingerprint,
            is_ca: false,
        }
    }
}

/// The end of time on a certificate, the year 9999, lies beyond what [`Timestamp`] can hold.
fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    let out_of_range = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(out_of_range)
}

fn hex(bytes: &[u8]) -> Box<str> {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
        .into()
}

fn serial(raw: &[u8]) -> Box<str> {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    hex(&raw[zeros..][..(raw.len() - zeros).min(MAX_TEXT_BYTES / 2)])
}

fn names(certificate: &X509Certificate<'_>) -> (Vec<Box<str>>, Vec<IpAddr>) {
    let mut dns = Vec::new();
    let mut ips = Vec::new();
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return (dns, ips) };
    for name in alternative.value.general_names.iter().take(MAX_NAMES) {
        match name {
            GeneralName::DNSName(name) => dns.push(bounded(name)),
            GeneralName::IPAddress(bytes) => ips.extend(ip(bytes)),
            _ => {}
        }
    }
    (dns, ips)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn bounded(text: &str) -> Box<str> {
    cut(text, MAX_TEXT_BYTES).into()
}

/// The beginning of `text`, as many whole characters as fit into `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn key_type(key: &SubjectPublicKeyInfo<'_>) -> Box<str> {
    let algorithm = key.algorithm.oid().to_id_string();
    match algorithm.as_str() {
        "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa_bits(rsa.modulus)).into(),
            _ => "RSA".into(),
        },
        "1.2.840.10045.2.1" => {
            let curve = key.algorithm.parameters().and_then(|p| p.as_oid().ok());
            match curve.map(|oid| oid.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => "ECDSA P-256".into(),
                Some("1.3.132.0.34") => "ECDSA P-384".into(),
                Some("1.3.132.0.35") => "ECDSA P-521".into(),
                Some(other) => bounded(&format!("ECDSA {other}")),
                None => "ECDSA".into(),
            }
        }
        "1.3.101.112" => "Ed25519".into(),
        "1.3.101.113" => "Ed448".into(),
        _ => bounded(&algorithm),
    }
}

fn rsa_bits(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let leading = modulus.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    ((modulus.len() - zeros) * 8).saturating_sub(leading)
}

/// The attributes that have a short name, in the order in which they are written. All others come last, by number.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.11", "OU"),
    ("2.5.4.10", "O"),
    ("2.5.4.6", "C"),
];

/// RFC 2253's text with Go's choices, which existing rules match on: attributes of one kind are joined with `+`, the
/// order is fixed, and what has no short name is written as its number with its value in hexadecimal DER.
fn distinguished_name(name: &X509Name<'_>) -> Box<str> {
    let mut parts = Vec::new();
    for (oid, short) in ATTRIBUTES {
        let values: Vec<String> = name
            .iter_attributes()
            .filter(|attribute| attribute.attr_type().to_id_string() == oid)
            .map(|attribute| format!("{short}={}", escaped(&text(attribute))))
            .collect();
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    let others: Vec<_> = name.iter_attributes().collect();
    for attribute in others.into_iter().rev() {
        let oid = attribute.attr_type().to_id_string();
        if ATTRIBUTES.iter().all(|(known, _)| *known != oid) {
            parts.push(format!("{oid}=#{}", hex(&der_text(&text(attribute)))));
        }
    }
    bounded(&parts.join(","))
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> String {
    match attribute.as_str() {
        Ok(text) => text.to_owned(),
        // UTF-16, Latin-1 and what is no text at all: rare, and a name nevertheless.
        Err(_) => String::from_utf8_lossy(attribute.as_slice()).into_owned(),
    }
}

/// Escapes as RFC 2253 asks for.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A text as DER: a PrintableString where its characters allow, otherwise UTF-8.
fn der_text(value: &str) -> Vec<u8> {
    let value = cut(value, MAX_TEXT_BYTES).as_bytes();
    let printable = |b: &u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(b);
    let tag = if value.iter().all(printable) { 0x13 } else { 0x0c };
    let length = value.len().to_be_bytes();
    let mut out = vec![tag];
    match value.len() {
        0..0x80 => out.push(length[length.len() - 1]),
        0x80..0x100 => out.extend([0x81, length[length.len() - 1]]),
        _ => out.extend([0x82, length[length.len() - 2], length[length.len() - 1]]),
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let names = ["b.example", "a.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Certificate::parse(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn names_are_written_as_go_writes_them() {
        let certificate = made(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "a@b.example");
            name.push(DnType::CountryName, "FR");
            name.push(DnType::OrganizationName, "Example, Org");
            name.push(DnType::OrganizationalUnitName, " #1");
            name.push(DnType::CommonName, "#front");
        });
        let mail = "1.2.840.113549.1.9.1=#0c0b6140622e6578616d706c65";
        let wanted = format!(r"CN=\#front,OU=\ #1,O=Example\, Org,C=FR,{mail}");
        assert_eq!(&*certificate.subject, wanted);
        assert_eq!(certificate.subject, certificate.issuer);
    }

    #[test]
    fn facts_are_in_the_certificate_s_order() {
        let certificate =
            made(|params| params.serial_number = Some(SerialNumber::from_slice(&[0x0b, 0xff])));
        assert_eq!(certificate.sans, ["b.example".into(), "a.example".into()]);
        assert_eq!(certificate.ips.len(), 2);
        assert_eq!(&*certificate.serial, "0bff");
        assert_eq!(&*certificate.key_type, "ECDSA P-256");
        assert_eq!(certificate.fingerprint_sha256.len(), 64);
        assert!(!certificate.is_ca);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let certificate = made(|params| params.not_after = rcgen::date_time_ymd(9999, 12, 31));
        assert_eq!(certificate.not_after, Some(Timestamp::MAX));
    }

    #[test]
    fn what_is_no_certificate_says_so() {
        for bytes in [&b""[..], b"\x30\x03abc", &[0x30; 5000]] {
            let certificate = Certificate::parse(bytes);
            assert_eq!(&*certificate.subject, "unparsable");
            assert_eq!(certificate.not_after, None);
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aäb", 2), "a");
        assert_eq!(cut("aäb", 3), "aä");
        assert_eq!(cut("ab", 9), "ab");
    }
}
