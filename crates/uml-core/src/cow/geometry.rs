//! Where the parts of a COW file are.

use std::ops::Range;

use super::header::{HeaderError, Layout};

/// The offsets and lengths that follow from a header. All are checked: no sum of them overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    size: u64,
    sector_size: u32,
    bitmap_offset: u64,
    bitmap_bytes: u64,
    data_offset: u64,
}

impl Geometry {
    /// Lays out a file. `sector_size` and `alignment` are powers of two that
    /// [`CowHeader`](super::CowHeader) has checked.
    pub(super) fn new(
        layout: Layout,
        size: u64,
        sector_size: u32,
        alignment: u32,
    ) -> Result<Self, HeaderError> {
        let overflow = HeaderError::SizeOverflow { found: size };
        let sector = u64::from(sector_size);
        let header_bytes = layout.header_bytes() as u64;
        let laid_out = match layout {
            Layout::V1 | Layout::V2 => size.checked_add(sector - 1).and_then(|up| {
                let bitmap_bytes = up / (8 * sector);
                let bitmap_end = header_bytes + bitmap_bytes;
                Some((
                    header_bytes,
                    bitmap_bytes,
                    bitmap_end.checked_next_multiple_of(sector)?,
                ))
            }),
            Layout::V3 | Layout::V3Wide => {
                let alignment = u64::from(alignment);
                let bitmap_offset = header_bytes.next_multiple_of(alignment);
                let bitmap_bytes = size.div_ceil(sector).div_ceil(8);
                let bitmap_end = bitmap_offset + bitmap_bytes;
                bitmap_end
                    .checked_next_multiple_of(alignment)
                    .map(|data_offset| (bitmap_offset, bitmap_bytes, data_offset))
            }
        };
        let (bitmap_offset, bitmap_bytes, data_offset) = laid_out.ok_or(overflow.clone())?;
        let geometry = Self {
            size,
            sector_size,
            bitmap_offset,
            bitmap_bytes,
            data_offset,
        };
        // The last sector's end is the largest offset there is.
        let end = size
            .checked_next_multiple_of(sector)
            .and_then(|up| up.checked_add(data_offset));
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(overflow);
        }
        if bitmap_offset + geometry.bit_bytes() > data_offset {
            let sectors = geometry.sectors() - 8 * bitmap_bytes;
            return Err(HeaderError::TailBitsInData { size, sectors });
        }
        Ok(geometry)
    }

    /// The image's size in bytes; no multiple of the sector size is needed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in a sector.
    #[must_use]
    pub const fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// The sectors of the image; the last one may be short.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.size.div_ceil(u64::from(self.sector_size))
    }

    /// Where the bitmap begins, in bytes from the beginning of the file.
    #[must_use]
    pub const fn bitmap_offset(&self) -> u64 {
        self.bitmap_offset
    }

    /// The bitmap's length in bytes as its version counts it.
    #[must_use]
    pub const fn bitmap_bytes(&self) -> u64 {
        self.bitmap_bytes
    }

    /// The bytes that hold the bit of every sector.
    ///
    /// In versions 1 and 2 this can be one more than [`bitmap_bytes`](Self::bitmap_bytes): their
    /// length leaves out the last byte where the sectors are no multiple of 8, and its bits lie in
    /// the padding that follows.
    #[must_use]
    pub fn bit_bytes(&self) -> u64 {
        self.sectors().div_ceil(8)
    }

    /// Where the data area begins, in bytes from the beginning of the file: sector N is at this
    /// offset plus N sector sizes.
    #[must_use]
    pub const fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// The bytes of the image that a run of sectors covers, cut at the image's end.
    #[must_use]
    pub fn image_range(&self, sectors: &Range<u64>) -> Range<u64> {
        let at = |sector: u64| {
            sector
                .saturating_mul(u64::from(self.sector_size))
                .min(self.size)
        };
        at(sectors.start)..at(sectors.end)
    }

    /// The sectors that a range of the image's bytes touches.
    #[must_use]
    pub fn sectors_of(&self, image: &Range<u64>) -> Range<u64> {
        let sector = u64::from(self.sector_size);
        image.start / sector..image.end.min(self.size).div_ceil(sector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v3(size: u64) -> Geometry {
        Geometry::new(Layout::V3, size, 512, 4096).unwrap()
    }

    #[test]
    fn a_new_file_has_its_bitmap_at_8192() {
        let geometry = v3(10_000);
        assert_eq!(geometry.bitmap_offset(), 8192);
        assert_eq!(geometry.bitmap_bytes(), 3);
        assert_eq!(geometry.data_offset(), 12_288);
        assert_eq!(geometry.sectors(), 20);
        assert_eq!(geometry.image_range(&(19..20)), 9728..10_000);
        assert_eq!(geometry.sectors_of(&(511..1025)), 0..3);
        assert_eq!(geometry.sectors_of(&(9000..20_000)), 17..20);
    }

    #[test]
    fn an_empty_image_has_no_bitmap() {
        let geometry = v3(0);
        assert_eq!(
            (
                geometry.bitmap_bytes(),
                geometry.data_offset(),
                geometry.sectors()
            ),
            (0, 8192, 0)
        );
    }

    #[test]
    fn the_bitmap_grows_at_the_byte_and_the_data_moves_at_the_page() {
        assert_eq!(v3(8 * 512).bitmap_bytes(), 1);
        assert_eq!(v3(8 * 512 + 1).bitmap_bytes(), 2);
        let page_of_bits = 4096 * 8 * 512;
        assert_eq!(v3(page_of_bits).data_offset(), 8192 + 4096);
        assert_eq!(v3(page_of_bits + 1).data_offset(), 8192 + 8192);
    }

    #[test]
    fn large_images_need_no_int() {
        let geometry = v3(16 << 40);
        assert_eq!(geometry.bitmap_bytes(), 4 << 30);
        assert_eq!(geometry.data_offset(), 8192 + (4 << 30));
        assert!(Geometry::new(Layout::V3, 1 << 60, 512, 4096).is_ok());
    }

    #[test]
    fn sizes_that_no_file_can_have_are_refused() {
        let most = i64::MAX.unsigned_abs();
        for layout in Layout::ALL {
            for size in [u64::MAX, u64::MAX - 511, most, most - (1 << 20)] {
                let refused = Geometry::new(layout, size, 512, 1);
                assert_eq!(
                    refused,
                    Err(HeaderError::SizeOverflow { found: size }),
                    "{layout:?}"
                );
            }
        }
    }

    #[test]
    fn old_versions_leave_out_the_last_byte() {
        let geometry = Geometry::new(Layout::V2, 9 * 512, 512, 1).unwrap();
        assert_eq!((geometry.bitmap_bytes(), geometry.bit_bytes()), (1, 2));
        assert_eq!(geometry.data_offset(), 4608);
        let geometry = Geometry::new(Layout::V1, 7 * 512, 512, 1).unwrap();
        assert_eq!((geometry.bitmap_bytes(), geometry.bit_bytes()), (0, 1));
        assert_eq!(geometry.data_offset(), 512);
    }

    #[test]
    fn old_versions_without_padding_for_the_last_bits_are_refused() {
        // 4120 + 488 = 9 * 512: the bitmap ends where the data begins.
        let sectors = 488 * 8;
        assert!(Geometry::new(Layout::V2, sectors * 512, 512, 1).is_ok());
        let size = (sectors + 3) * 512;
        assert_eq!(
            Geometry::new(Layout::V2, size, 512, 1),
            Err(HeaderError::TailBitsInData { size, sectors: 3 })
        );
    }
}
