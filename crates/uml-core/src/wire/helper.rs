//! What a guest reads back from its network helper, `uml_net`.
//!
//! Lengths are native-endian, since both ends run on one machine. Every text ends in a NUL, which
//! the lengths count: the guest's kernel prints the text as a C string.

/// `IFNAMSIZ`: the bytes of the device's name before the text of a tap's answer, NUL padded.
pub const NAME_SIZE: usize = 16;

/// The longest text, its NUL included, in bytes.
///
/// A guest reads into one page of 4096 bytes: a tap's answer has at most 4095 of them for name and
/// text, and of a longer counted text only the end would be printed.
pub const TEXT_LIMIT: usize = 4096 - 1 - NAME_SIZE;

/// What stands at the end of a text that was cut.
const CUT: &str = "...\n";

/// A text as C has it, at most [`TEXT_LIMIT`] bytes with its NUL. A longer one is cut, with `...`
/// at its end; a NUL inside becomes a space.
#[must_use]
pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TEXT_LIMIT);
    if text.len() < TEXT_LIMIT {
        bytes.extend_from_slice(text.as_bytes());
    } else {
        let mut end = TEXT_LIMIT - 1 - CUT.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        bytes.extend_from_slice(&text.as_bytes()[..end]);
        bytes.extend_from_slice(CUT.as_bytes());
    }
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    bytes.push(0);
    bytes
}

/// The answer to `tuntap up` that worked: 16 bytes device name, NUL padded, then the text. The
/// tap's descriptor travels with it.
///
/// A name of more than 15 bytes, which the kernel doesn't give, is cut.
#[must_use]
pub fn tap(name: &str, log: &str) -> Vec<u8> {
    let mut bytes = vec![0; NAME_SIZE];
    let length = name.len().min(NAME_SIZE - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes.extend(text(log));
    bytes
}

/// The answer to `add`, `del` and `slip`: 4 bytes length of the text, then the text.
#[must_use]
pub fn counted(log: &str) -> Vec<u8> {
    let text = text(log);
    let mut bytes = u32::try_from(text.len())
        .unwrap_or(u32::MAX)
        .to_ne_bytes()
        .to_vec();
    bytes.extend(text);
    bytes
}

/// The 4 bytes that end the answer of version 3 to `tuntap up`: a counted text of no bytes.
#[must_use]
pub const fn counted_nothing() -> [u8; 4] {
    0_u32.to_ne_bytes()
}

/// The answer of versions 1 and 2 to `ethertap`: one byte, 1 where it worked, 0 where it didn't.
#[must_use]
pub const fn ethertap_byte(worked: bool) -> [u8; 1] {
    [worked as u8]
}

/// The answer of versions 3 and 4 to `ethertap`: the byte of [`ethertap_byte`], then a
/// [`counted`] text.
#[must_use]
pub fn ethertap(worked: bool, log: &str) -> Vec<u8> {
    let mut bytes = ethertap_byte(worked).to_vec();
    bytes.extend(counted(log));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_a_padded_name_and_a_text() {
        assert_eq!(tap("tap0", "* x\n"), b"tap0\0\0\0\0\0\0\0\0\0\0\0\0* x\n\0");
        assert_eq!(tap("abcdefghijklmnopq", ""), b"abcdefghijklmno\0\0");
    }

    #[test]
    fn counts_include_the_nul() {
        let mut expected = 5_u32.to_ne_bytes().to_vec();
        expected.extend(b"* x\n\0");
        assert_eq!(counted("* x\n"), expected);
        assert_eq!(ethertap(false, "* x\n"), [vec![0], expected].concat());
        assert_eq!(ethertap_byte(true), [1]);
        assert_eq!(counted_nothing(), [0; 4]);
    }

    #[test]
    fn texts_fit_a_guests_page() {
        for length in [0, 1, TEXT_LIMIT - 2, TEXT_LIMIT - 1] {
            let long = "a".repeat(length);
            assert_eq!(text(&long).len(), length + 1);
        }
        for length in [TEXT_LIMIT, TEXT_LIMIT + 1, 100_000] {
            // Two bytes a character: a cut must not fall between them.
            for whole in [
                "a".repeat(length),
                "ä".repeat(length),
                format!("a{}", "ä".repeat(length)),
            ] {
                let bytes = text(&whole);
                assert!(bytes.len() <= TEXT_LIMIT);
                assert!(bytes.ends_with(b"...\n\0"));
                assert!(std::str::from_utf8(&bytes).is_ok());
            }
        }
        assert!(tap("tap0", &"a".repeat(9000)).len() <= 4095);
    }

    #[test]
    fn texts_end_at_their_only_nul() {
        assert_eq!(text("a\0b"), b"a b\0");
    }
}
