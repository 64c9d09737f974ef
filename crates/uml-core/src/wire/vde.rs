//! What VDE's clients say: version 3 of the [switch's protocol](super::switch) with a port number
//! in the request's type and a text behind it, on the socket `ctl` in a folder of the network's.

/// The name of the control socket in a network's folder.
pub const CONTROL_NAME: &str = "ctl";

/// How much text behind a request is kept, in bytes.
pub const MAX_DESCRIPTION: usize = 256;

/// What the type of a VDE request asks for.
///
/// Shape, u32 in native order: the low byte is the kind (0 = a port), the upper 24 bits are the
/// number of the port that is wished for (0 = any).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Any free port.
    Any,
    /// The port of this number, 1 to 2²⁴ − 1.
    Port(u32),
    /// The privileged port 0, `REQ_NEW_PORT0`: low byte 1.
    Port0,
    /// A kind that nobody defined.
    Unknown(u32),
}

impl Wish {
    /// Reads it from a request's type.
    #[must_use]
    pub const fn from_kind(kind: u32) -> Self {
        match (kind & 0xff, kind >> 8) {
            (0, 0) => Self::Any,
            (0, number) => Self::Port(number),
            (1, _) => Self::Port0,
            _ => Self::Unknown(kind),
        }
    }

    /// The request's type that asks for it, of the shape that [`Wish`] tells.
    #[must_use]
    pub const fn to_kind(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Port(number) => number << 8,
            Self::Port0 => 1,
            Self::Unknown(kind) => kind,
        }
    }
}

/// The text behind a request, as far as it is fit to be logged: up to the first NUL or line end,
/// [`MAX_DESCRIPTION`] bytes at most, unprintable bytes escaped.
#[must_use]
pub fn description(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, 0 | b'\n' | b'\r'))
        .unwrap_or(bytes.len())
        .min(MAX_DESCRIPTION);
    bytes[..end].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_come_back() {
        for (kind, wish) in [
            (0, Wish::Any),
            (0x500, Wish::Port(5)),
            (0xffff_ff00, Wish::Port(0xff_ffff)),
            (1, Wish::Port0),
            (7, Wish::Unknown(7)),
            (0x302, Wish::Unknown(0x302)),
        ] {
            assert_eq!(Wish::from_kind(kind), wish);
            assert_eq!(wish.to_kind(), kind);
        }
    }

    #[test]
    fn descriptions_are_one_printable_line() {
        assert_eq!(description(b"vde_plug: user=me\0rest"), "vde_plug: user=me");
        assert_eq!(description(b"\x1b[2Jtwo\nlines"), "\\x1b[2Jtwo");
        assert_eq!(description(&[b'x'; 1000]).len(), MAX_DESCRIPTION);
        assert_eq!(description(b""), "");
    }
}
