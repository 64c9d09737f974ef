//! Why bytes are no header.

use super::COW_MAGIC;

/// What is wrong with a header. Each text names the field, what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a COW file.
    #[error("not a COW file: magic {found:#010x}, expected {COW_MAGIC:#010x}")]
    BadMagic {
        /// The first four bytes, read as big-endian.
        found: u32,
    },
    /// A version nobody wrote.
    #[error("COW version {found}, expected 1, 2 or 3")]
    BadVersion {
        /// The version field.
        found: u32,
    },
    /// The file ends inside its header.
    #[error("the header is cut off: {got} bytes, expected {need}")]
    Truncated {
        /// The header's bytes in this layout.
        need: usize,
        /// The bytes there are.
        got: usize,
    },
    /// The sector size can't be worked with.
    #[error("sector size {found}, expected a power of two from 512 to 1048576")]
    BadSectorSize {
        /// The field.
        found: u32,
    },
    /// The alignment can't be worked with.
    #[error("alignment {found}, expected a power of two from 1 to 16777216")]
    BadAlignment {
        /// The field.
        found: u32,
    },
    /// Something else than a bitmap.
    #[error("format {found} of the COW data, expected 0 (a bitmap)")]
    BadFormat {
        /// The field.
        found: u32,
    },
    /// The size leads to offsets that no file can have.
    #[error("image size {found}, too large for a file: bitmap and data would end behind 2^63 - 1")]
    SizeOverflow {
        /// The field.
        found: u64,
    },
    /// The name of the backing file has no end.
    #[error("the backing file's name has no end within its {room} bytes")]
    UnterminatedName {
        /// The field's bytes.
        room: usize,
    },
    /// There is no name.
    #[error("the backing file's name is empty")]
    EmptyName,
    /// A name for a new header that doesn't fit.
    #[error("the backing file's name has {found} bytes, expected at most {most}")]
    NameTooLong {
        /// The name's bytes.
        found: usize,
        /// The most that the field holds beside its NUL.
        most: usize,
    },
    /// A name for a new header with a NUL in it.
    #[error("the backing file's name has a NUL byte in it")]
    NulInName,
    /// Versions 1 and 2 keep a byte too few; here there is no padding that holds it.
    #[error(
        "image size {size}: the bits of the last {sectors} sectors would lie in the data area, \
         so this version can't tell whether they changed"
    )]
    TailBitsInData {
        /// The field.
        size: u64,
        /// The sectors concerned, 1 to 7.
        sectors: u64,
    },
}
