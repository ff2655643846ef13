//! Tag, length, value: the little of DER and BER that is read without a schema.

/// One element: its tag's byte, its content, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// The element at the beginning of `bytes`; `None` when it is cut short, or has a long tag or an open length.
pub(crate) fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, after) = bytes.split_first()?;
    let (&first, after) = after.split_first()?;
    let (length, after) = match first {
        0..=0x7f => (usize::from(first), after),
        0x81..=0x84 => {
            let (digits, after) = after.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)), after)
        }
        _ => return None,
    };
    let (content, rest) = after.split_at_checked(length)?;
    Some(Element { tag, content, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_lengths() {
        let read = element(&[0x30, 2, 1, 2, 9]).unwrap();
        assert_eq!((read.tag, read.content, read.rest), (0x30, &[1, 2][..], &[9][..]));
        let read = element(&[0x30, 0x82, 0, 1, 7]).unwrap();
        assert_eq!((read.content, read.rest), (&[7][..], &[][..]));
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        for bytes in [&[][..], &[0x30], &[0x30, 2, 1], &[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff]] {
            assert_eq!(element(bytes), None);
        }
    }
}
