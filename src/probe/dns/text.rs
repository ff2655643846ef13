//! Records as text, the way zone files and `blackbox.yml`'s patterns write them:
//! `example.com.<TAB>3600<TAB>IN<TAB>A<TAB>127.0.0.1`.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::rdata::{CAA, NAPTR, SOA};
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::words;

const RP: u16 = 17;
const DNAME: u16 = 39;
const DS: u16 = 43;
const RRSIG: u16 = 46;
const DNSKEY: u16 = 48;
const CDS: u16 = 59;
const CDNSKEY: u16 = 60;
const SPF: u16 = 99;

/// Owner, TTL, class, type and data, separated by tabs.
pub(super) fn record(record: &Record) -> String {
    let kind = u16::from(record.record_type());
    let class = words::class_word(record.dns_class.into());
    let (name, ttl) = (record.name.to_ascii(), record.ttl);
    let data = data(&record.data);
    format!("{name}\t{ttl}\t{class}\t{}\t{data}", words::type_word(kind))
}

fn data(data: &RData) -> String {
    match data {
        RData::A(ip) => ip.to_string(),
        RData::AAAA(ip) => ip.to_string(),
        RData::NS(name) => name.0.to_ascii(),
        RData::CNAME(name) => name.0.to_ascii(),
        RData::PTR(name) => name.0.to_ascii(),
        RData::ANAME(name) => name.0.to_ascii(),
        RData::MX(mx) => format!("{} {}", mx.preference, mx.exchange.to_ascii()),
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target.to_ascii())
        }
        RData::SOA(soa) => soa_data(soa),
        RData::TXT(txt) => quoted(txt.txt_data.iter().map(|text| &**text)),
        RData::HINFO(host) => quoted([&*host.cpu, &*host.os]),
        RData::CAA(caa) => caa_data(caa),
        RData::NAPTR(naptr) => naptr_data(naptr),
        RData::SVCB(svcb) => svcb_data(svcb),
        RData::HTTPS(https) => svcb_data(&https.0),
        RData::SSHFP(key) => key.to_string().to_ascii_uppercase(),
        RData::NULL(null) => unknown(&null.anything),
        RData::Unknown { code, rdata } => raw((*code).into(), &rdata.anything),
        other => other.to_string(),
    }
}

fn soa_data(soa: &SOA) -> String {
    format!(
        "{} {} {} {} {} {} {}",
        soa.mname.to_ascii(),
        soa.rname.to_ascii(),
        soa.serial,
        soa.refresh.cast_unsigned(),
        soa.retry.cast_unsigned(),
        soa.expire.cast_unsigned(),
        soa.minimum
    )
}

fn caa_data(caa: &CAA) -> String {
    format!("{} {} {}", caa.flags(), caa.tag, quoted([&*caa.value]))
}

fn naptr_data(naptr: &NAPTR) -> String {
    format!(
        "{} {} {} {}",
        naptr.order,
        naptr.preference,
        quoted([&*naptr.flags, &*naptr.services, &*naptr.regexp]),
        naptr.replacement.to_ascii()
    )
}

fn svcb_data(svcb: &SVCB) -> String {
    let mut text = format!("{} {}", svcb.svc_priority, svcb.target_name.to_ascii());
    for (key, value) in &svcb.svc_params {
        let value = match value {
            SvcParamValue::NoDefaultAlpn => String::new(),
            SvcParamValue::Unknown(bytes) => escape(&bytes.0),
            SvcParamValue::EchConfigList(list) => STANDARD.encode(&list.0),
            // The library ends lists with a comma.
            listed => listed.to_string().trim_end_matches(',').to_owned(),
        };
        write!(text, " {key}=\"{value}\"").expect("a string takes all");
    }
    text
}

/// Types that the library hands over as bytes.
fn raw(kind: u16, bytes: &[u8]) -> String {
    let known = match kind {
        DNAME => name_at(bytes).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name),
        RP => rp(bytes),
        DS | CDS => ds(bytes),
        DNSKEY | CDNSKEY => dnskey(bytes),
        RRSIG => rrsig(bytes),
        SPF => strings(bytes).map(quoted),
        _ => None,
    };
    known.unwrap_or_else(|| unknown(bytes))
}

/// RFC 3597.
fn unknown(bytes: &[u8]) -> String {
    format!("\\# {} {}", bytes.len(), hex(bytes))
}

fn rp(bytes: &[u8]) -> Option<String> {
    let (mailbox, rest) = name_at(bytes)?;
    let (text, _) = name_at(rest)?;
    Some(format!("{mailbox} {text}"))
}

fn ds(bytes: &[u8]) -> Option<String> {
    let ([a, b, algorithm, digest_type], digest) = bytes.split_first_chunk()?;
    let tag = u16::from_be_bytes([*a, *b]);
    Some(format!("{tag} {algorithm} {digest_type} {}", hex(digest).to_ascii_uppercase()))
}

fn dnskey(bytes: &[u8]) -> Option<String> {
    let ([a, b, protocol, algorithm], key) = bytes.split_first_chunk()?;
    let flags = u16::from_be_bytes([*a, *b]);
    Some(format!("{flags} {protocol} {algorithm} {}", STANDARD.encode(key)))
}

fn rrsig(bytes: &[u8]) -> Option<String> {
    let (fixed, rest) = bytes.split_first_chunk::<18>()?;
    let short = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let long =
        |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let day = |at: usize| {
        let time = jiff::Timestamp::from_second(long(at).into()).ok()?;
        Some(time.strftime("%Y%m%d%H%M%S").to_string())
    };
    let (signer, signature) = name_at(rest)?;
    Some(format!(
        "{} {} {} {} {} {} {} {signer} {}",
        words::type_word(short(0)),
        fixed[2],
        fixed[3],
        long(4),
        day(8)?,
        day(12)?,
        short(16),
        STANDARD.encode(signature)
    ))
}

/// The uncompressed name that `bytes` begins with, and what follows it.
fn name_at(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut decoder = BinDecoder::new(bytes);
    let name = Name::read(&mut decoder).ok()?;
    Some((name.to_ascii(), bytes.get(decoder.index()..)?))
}

/// Strings with their lengths before them.
fn strings(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (string, rest) = rest.split_at_checked((*length).into())?;
        strings.push(string);
        bytes = rest;
    }
    Some(strings)
}

fn quoted<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> String {
    let quoted: Vec<_> =
        strings.into_iter().map(|bytes| format!("\"{}\"", escape(bytes))).collect();
    quoted.join(" ")
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => write!(text, "\\{other:03}").expect("a string takes all"),
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::{A, HTTPS, MX, NULL, SRV, TXT, svcb};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn text(rdata: RData) -> String {
        record(&Record::from_rdata(name("Example.com."), 3600, rdata))
    }

    fn raw_text(code: u16, bytes: &[u8]) -> String {
        let rdata = NULL::with(bytes.to_vec());
        text(RData::Unknown { code: RecordType::from(code), rdata })
    }

    #[test]
    fn common_records_read_as_in_a_zone_file() {
        assert_eq!(text(RData::A(A::new(127, 0, 0, 1))), "Example.com.\t3600\tIN\tA\t127.0.0.1");
        let txt = TXT::from_bytes(vec![b"v=1 \"x\"", b"\\ \xff"]);
        assert_eq!(
            text(RData::TXT(txt)),
            "Example.com.\t3600\tIN\tTXT\t\"v=1 \\\"x\\\"\" \"\\\\ \\255\""
        );
        let mx = MX::new(10, name("mail.example."));
        assert_eq!(text(RData::MX(mx)), "Example.com.\t3600\tIN\tMX\t10 mail.example.");
        let srv = SRV::new(1, 2, 443, name("a.example."));
        assert!(text(RData::SRV(srv)).ends_with("\tSRV\t1 2 443 a.example."));
        let soa = SOA::new(name("ns.example."), name("root.example."), 1000, 1, 2, 3, 4);
        assert!(text(RData::SOA(soa)).ends_with("\tSOA\tns.example. root.example. 1000 1 2 3 4"));
    }

    #[test]
    fn service_parameters_are_quoted_and_have_no_comma_at_the_end() {
        let alpn = svcb::Alpn(vec!["h2".into(), "h3".into()]);
        let params = vec![(svcb::SvcParamKey::Alpn, SvcParamValue::Alpn(alpn))];
        let https = HTTPS(SVCB::new(1, Name::root(), params));
        assert!(text(RData::HTTPS(https)).ends_with("\tHTTPS\t1 . alpn=\"h2,h3\""));
    }

    #[test]
    fn types_that_the_library_does_not_know_are_text_too() {
        assert!(raw_text(4242, &[10, 0, 255]).ends_with("\tTYPE4242\t\\# 3 0a00ff"));
        assert!(raw_text(DS, &[0, 5, 8, 2, 0xab]).ends_with("\tDS\t5 8 2 AB"));
        assert!(raw_text(DS, &[0, 5]).ends_with("\tDS\t\\# 2 0005"));
        assert!(raw_text(DNSKEY, &[1, 1, 3, 8, 1, 2, 3]).ends_with("\tDNSKEY\t257 3 8 AQID"));
        assert!(raw_text(SPF, b"\x02ab\x01c").ends_with("\tSPF\t\"ab\" \"c\""));
        assert!(raw_text(DNAME, b"\x01a\x00").ends_with("\tDNAME\ta."));
        let signature =
            b"\x00\x01\x08\x02\0\0\x0e\x10\x5e\x0b\xe1\0\x5d\xe3\0\x80\x30\x39\x01a\0\x01";
        assert!(
            raw_text(RRSIG, signature)
                .ends_with("\tRRSIG\tA 8 2 3600 20200101000000 20191130235128 12345 a. AQ=="),
            "{}",
            raw_text(RRSIG, signature)
        );
    }

    #[test]
    fn addresses_of_both_families_are_short() {
        let ip = std::net::Ipv6Addr::from_str("2001:db8::1").unwrap();
        assert!(text(RData::AAAA(ip.into())).ends_with("\tAAAA\t2001:db8::1"));
    }
}
