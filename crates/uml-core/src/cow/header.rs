//! The header of a COW file, byte-exact and parsed.

mod error;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use byteorder::{BigEndian, ByteOrder, LittleEndian, NativeEndian};

use super::geometry::Geometry;
pub use error::HeaderError;

/// `COW_MAGIC`: `OOOM` as big-endian bytes.
pub const COW_MAGIC: u32 = 0x4f4f_4f4d;

/// The sector size of new files, in bytes.
pub const DEFAULT_SECTOR_SIZE: u32 = 512;

/// The alignment of the bitmap and of the data area in new files, in bytes: one page.
pub const DEFAULT_ALIGNMENT: u32 = 4096;

/// The longest header of any layout, in bytes: enough to read before [`CowHeader::parse`].
pub const LONGEST_HEADER: usize = 4136;

const SECTOR_SIZES: std::ops::RangeInclusive<u32> = 512..=1 << 20;
const LARGEST_ALIGNMENT: u32 = 16 << 20;
const MAGIC_AND_VERSION: usize = 8;
/// `COW_BITMAP`, the only format there is.
const COW_BITMAP: u32 = 0;

/// The four ways a header is laid out. All fields are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 280 bytes: i32 magic, i32 version, 256 bytes name, i32 mtime, u64 size, i32 sector size.
    ///
    /// Magic and version stand in either byte order. The other fields are the writer's: little
    /// where the magic is little-endian, else this machine's own.
    V1,
    /// 4120 big-endian bytes: u32 magic, u32 version, 4096 bytes name, u32 mtime, u64 size, i32
    /// sector size.
    V2,
    /// 4128 big-endian bytes: u32 magic, u32 version, u32 mtime, u64 size, u32 sector size, u32
    /// alignment, u32 format (0 = bitmap), 4096 bytes name.
    V3,
    /// 4136 big-endian bytes, as some 64-bit tools wrote until 2005: [`Layout::V3`] with 4 bytes
    /// of padding behind mtime and 4 at the end.
    ///
    /// It is told apart by bytes 32..36: the format, 0, here; the name's first four bytes there.
    V3Wide,
}

impl Layout {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V1, Self::V2, Self::V3, Self::V3Wide];

    /// The header's length in bytes.
    #[must_use]
    pub const fn header_bytes(self) -> usize {
        match self {
            Self::V1 => 280,
            Self::V2 => 4120,
            Self::V3 => 4128,
            Self::V3Wide => LONGEST_HEADER,
        }
    }

    /// The version field: 1, 2 or 3.
    #[must_use]
    pub const fn version(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 | Self::V3Wide => 3,
        }
    }

    /// The bytes of the name's field, its NUL included.
    #[must_use]
    pub const fn name_room(self) -> usize {
        match self {
            Self::V1 => 256,
            Self::V2 | Self::V3 | Self::V3Wide => 4096,
        }
    }

    const fn fields(self) -> Fields {
        match self {
            Self::V1 => Fields {
                name: 8,
                mtime: 264,
                size: 268,
                sector_size: 276,
                v3: None,
            },
            Self::V2 => Fields {
                name: 8,
                mtime: 4104,
                size: 4108,
                sector_size: 4116,
                v3: None,
            },
            Self::V3 => Fields {
                name: 32,
                mtime: 8,
                size: 12,
                sector_size: 20,
                v3: Some((24, 28)),
            },
            Self::V3Wide => Fields {
                name: 36,
                mtime: 8,
                size: 16,
                sector_size: 24,
                v3: Some((28, 32)),
            },
        }
    }
}

/// Byte offsets of a layout's fields; `v3` are those of alignment and format.
struct Fields {
    name: usize,
    mtime: usize,
    size: usize,
    sector_size: usize,
    v3: Option<(usize, usize)>,
}

/// A header as it stands in the file, nothing checked but its length.
struct Raw<'a> {
    layout: Layout,
    mtime: u32,
    size: u64,
    sector_size: u32,
    alignment: u32,
    format: u32,
    name: &'a [u8],
}

impl<'a> Raw<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let truncated = |need| HeaderError::Truncated {
            need,
            got: bytes.len(),
        };
        if bytes.len() < MAGIC_AND_VERSION {
            return Err(truncated(MAGIC_AND_VERSION));
        }
        let magic = BigEndian::read_u32(bytes);
        let little = magic == COW_MAGIC.swap_bytes();
        if magic != COW_MAGIC && !little {
            return Err(HeaderError::BadMagic { found: magic });
        }
        let version = BigEndian::read_u32(&bytes[4..]);
        let version = if little {
            version.swap_bytes()
        } else {
            version
        };
        let layout = match (version, little) {
            (1, _) => Layout::V1,
            (2, false) => Layout::V2,
            (3, false) => match bytes.get(32..36) {
                None => return Err(truncated(Layout::V3.header_bytes())),
                Some([0, 0, 0, 0]) => Layout::V3Wide,
                Some(_) => Layout::V3,
            },
            // The later versions are big-endian wherever they were written.
            (2 | 3, true) => return Err(HeaderError::BadMagic { found: magic }),
            (found, _) => return Err(HeaderError::BadVersion { found }),
        };
        let bytes = bytes
            .get(..layout.header_bytes())
            .ok_or(truncated(layout.header_bytes()))?;
        Ok(match (layout, little) {
            (Layout::V1, true) => Self::fields::<LittleEndian>(layout, bytes),
            (Layout::V1, false) => Self::fields::<NativeEndian>(layout, bytes),
            _ => Self::fields::<BigEndian>(layout, bytes),
        })
    }

    fn fields<O: ByteOrder>(layout: Layout, bytes: &'a [u8]) -> Self {
        let at = layout.fields();
        let u32_at = |offset: usize| O::read_u32(&bytes[offset..]);
        Self {
            layout,
            mtime: u32_at(at.mtime),
            size: O::read_u64(&bytes[at.size..]),
            sector_size: u32_at(at.sector_size),
            alignment: at.v3.map_or(1, |(alignment, _)| u32_at(alignment)),
            format: at.v3.map_or(COW_BITMAP, |(_, format)| u32_at(format)),
            name: &bytes[at.name..at.name + layout.name_room()],
        }
    }
}

/// A valid header: every field is in range, every offset that follows from it fits a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CowHeader {
    layout: Layout,
    mtime: u32,
    alignment: u32,
    backing: OsString,
    geometry: Geometry,
}

impl CowHeader {
    /// Reads a header from the first bytes of a file; [`LONGEST_HEADER`] are always enough, what
    /// lies behind the header isn't looked at.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let raw = Raw::split(bytes)?;
        if raw.format != COW_BITMAP {
            return Err(HeaderError::BadFormat { found: raw.format });
        }
        let end =
            raw.name
                .iter()
                .position(|&byte| byte == 0)
                .ok_or(HeaderError::UnterminatedName {
                    room: raw.name.len(),
                })?;
        let backing = OsString::from_vec(raw.name[..end].to_vec());
        Self::new(
            raw.layout,
            backing,
            raw.mtime,
            raw.size,
            raw.sector_size,
            raw.alignment,
        )
    }

    /// Makes a header from its fields. `mtime` is in seconds since 1970, `size`, `sector_size` and
    /// `alignment` in bytes; versions 1 and 2 know no alignment and want 1.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn new(
        layout: Layout,
        backing: OsString,
        mtime: u32,
        size: u64,
        sector_size: u32,
        alignment: u32,
    ) -> Result<Self, HeaderError> {
        if !SECTOR_SIZES.contains(&sector_size) || !sector_size.is_power_of_two() {
            return Err(HeaderError::BadSectorSize { found: sector_size });
        }
        let has_alignment = matches!(layout, Layout::V3 | Layout::V3Wide);
        if !alignment.is_power_of_two()
            || alignment > LARGEST_ALIGNMENT
            || (alignment != 1 && !has_alignment)
        {
            return Err(HeaderError::BadAlignment { found: alignment });
        }
        if backing.is_empty() {
            return Err(HeaderError::EmptyName);
        }
        let most = layout.name_room() - 1;
        if backing.len() > most {
            return Err(HeaderError::NameTooLong {
                found: backing.len(),
                most,
            });
        }
        if backing.as_bytes().contains(&0) {
            return Err(HeaderError::NulInName);
        }
        let geometry = Geometry::new(layout, size, sector_size, alignment)?;
        Ok(Self {
            layout,
            mtime,
            alignment,
            backing,
            geometry,
        })
    }

    /// The header's bytes as they stand at the start of a file, with zeros behind the name.
    /// Version 1 is written as little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.layout {
            Layout::V1 => self.encode::<LittleEndian>(),
            _ => self.encode::<BigEndian>(),
        }
    }

    fn encode<O: ByteOrder>(&self) -> Vec<u8> {
        let at = self.layout.fields();
        let mut bytes = vec![0; self.layout.header_bytes()];
        O::write_u32(&mut bytes, COW_MAGIC);
        O::write_u32(&mut bytes[4..], self.layout.version());
        O::write_u32(&mut bytes[at.mtime..], self.mtime);
        O::write_u64(&mut bytes[at.size..], self.geometry.size());
        O::write_u32(&mut bytes[at.sector_size..], self.geometry.sector_size());
        if let Some((alignment, format)) = at.v3 {
            O::write_u32(&mut bytes[alignment..], self.alignment);
            O::write_u32(&mut bytes[format..], COW_BITMAP);
        }
        bytes[at.name..at.name + self.backing.len()].copy_from_slice(self.backing.as_bytes());
        bytes
    }

    /// How the header is laid out.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The backing file's time of last change when the COW file was made, in seconds since 1970.
    #[must_use]
    pub const fn mtime(&self) -> u32 {
        self.mtime
    }

    /// The alignment of bitmap and data area in bytes; 1 in versions that have none.
    #[must_use]
    pub const fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The backing file's name: absolute where the known tools wrote it.
    #[must_use]
    pub fn backing(&self) -> &Path {
        Path::new(OsStr::new(&self.backing))
    }

    /// Where everything is.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}

#[cfg(test)]
mod tests;
