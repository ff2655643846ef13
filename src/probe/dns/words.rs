//! The mnemonics of DNS as `blackbox.yml` writes them: types, classes and response codes.

use std::borrow::Cow;

/// `0` and `65535` are left out: nobody can ask for them.
const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("MD", 3),
    ("MF", 4),
    ("CNAME", 5),
    ("SOA", 6),
    ("MB", 7),
    ("MG", 8),
    ("MR", 9),
    ("NULL", 10),
    ("PTR", 12),
    ("HINFO", 13),
    ("MINFO", 14),
    ("MX", 15),
    ("TXT", 16),
    ("RP", 17),
    ("AFSDB", 18),
    ("X25", 19),
    ("ISDN", 20),
    ("RT", 21),
    ("NSAP-PTR", 23),
    ("SIG", 24),
    ("KEY", 25),
    ("PX", 26),
    ("GPOS", 27),
    ("AAAA", 28),
    ("LOC", 29),
    ("NXT", 30),
    ("EID", 31),
    ("NIMLOC", 32),
    ("SRV", 33),
    ("ATMA", 34),
    ("NAPTR", 35),
    ("KX", 36),
    ("CERT", 37),
    ("DNAME", 39),
    ("OPT", 41),
    ("APL", 42),
    ("DS", 43),
    ("SSHFP", 44),
    ("IPSECKEY", 45),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("DHCID", 49),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("NINFO", 56),
    ("RKEY", 57),
    ("TALINK", 58),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("CSYNC", 62),
    ("ZONEMD", 63),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("UINFO", 100),
    ("UID", 101),
    ("GID", 102),
    ("UNSPEC", 103),
    ("NID", 104),
    ("L32", 105),
    ("L64", 106),
    ("LP", 107),
    ("EUI48", 108),
    ("EUI64", 109),
    ("NXNAME", 128),
    ("TKEY", 249),
    ("TSIG", 250),
    ("IXFR", 251),
    ("AXFR", 252),
    ("MAILB", 253),
    ("MAILA", 254),
    ("ANY", 255),
    ("URI", 256),
    ("CAA", 257),
    ("AVC", 258),
    ("AMTRELAY", 260),
    ("RESINFO", 261),
    ("TA", 32768),
    ("DLV", 32769),
];

const CLASSES: &[(&str, u16)] =
    &[("IN", 1), ("CS", 2), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)];

/// `NOTIMPL` and `BADVERS` are second names, and the first is the one that is shown.
const RCODES: &[(&str, u16)] = &[
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("NOTIMPL", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("YXRRSET", 7),
    ("NXRRSET", 8),
    ("NOTAUTH", 9),
    ("NOTZONE", 10),
    ("DSOTYPENI", 11),
    ("BADSIG", 16),
    ("BADVERS", 16),
    ("BADKEY", 17),
    ("BADTIME", 18),
    ("BADMODE", 19),
    ("BADNAME", 20),
    ("BADALG", 21),
    ("BADTRUNC", 22),
    ("BADCOOKIE", 23),
];

pub(super) const NOERROR: u16 = 0;
pub(super) const SERVFAIL: u16 = 2;
pub(super) const NXDOMAIN: u16 = 3;
pub(super) const REFUSED: u16 = 5;
pub(super) const ANY: u16 = 255;
pub(super) const SOA: u16 = 6;
pub(super) const IN: u16 = 1;

pub(super) fn type_code(word: &str) -> Option<u16> {
    code(TYPES, word)
}

pub(super) fn class_code(word: &str) -> Option<u16> {
    code(CLASSES, word)
}

pub(super) fn rcode(word: &str) -> Option<u16> {
    code(RCODES, word)
}

pub(super) fn type_word(code: u16) -> Cow<'static, str> {
    word(TYPES, code).map_or_else(|| format!("TYPE{code}").into(), Cow::Borrowed)
}

pub(super) fn class_word(code: u16) -> Cow<'static, str> {
    word(CLASSES, code).map_or_else(|| format!("CLASS{code}").into(), Cow::Borrowed)
}

pub(super) fn rcode_word(code: u16) -> Cow<'static, str> {
    word(RCODES, code).map_or_else(|| format!("RCODE{code}").into(), Cow::Borrowed)
}

pub(super) fn class_words() -> String {
    let words: Vec<_> = CLASSES.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

fn code(table: &[(&str, u16)], wanted: &str) -> Option<u16> {
    table.iter().find(|(word, _)| *word == wanted).map(|(_, code)| *code)
}

fn word(table: &[(&'static str, u16)], wanted: u16) -> Option<&'static str> {
    table.iter().find(|(_, code)| *code == wanted).map(|(word, _)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_go_both_ways() {
        for (word, code) in TYPES {
            assert_eq!(type_code(word), Some(*code));
            assert_eq!(type_word(*code), *word);
        }
        assert_eq!(rcode("NOTIMPL"), Some(4));
        assert_eq!(rcode_word(4), "NOTIMP");
        assert_eq!(rcode_word(12), "RCODE12");
        assert_eq!(type_word(4242), "TYPE4242");
        assert_eq!(class_word(1), "IN");
        for unknown in ["", "a", "TYPE257", "noerror"] {
            assert_eq!((type_code(unknown), rcode(unknown)), (None, None), "{unknown}");
        }
    }
}
