use super::*;

fn v3() -> CowHeader {
    CowHeader::new(Layout::V3, "/a/b".into(), 0x6b02_46bb, 10_000, 512, 4096).unwrap()
}

fn header(layout: Layout) -> CowHeader {
    let alignment = if layout.version() == 3 { 4096 } else { 1 };
    CowHeader::new(layout, "/a/b".into(), 7, 16_384, 512, alignment).unwrap()
}

#[test]
fn new_bytes_are_those_of_the_kernel() {
    let bytes = v3().to_bytes();
    let mut expected =
        b"OOOM\0\0\0\x03\x6b\x02\x46\xbb\0\0\0\0\0\0\x27\x10\0\0\x02\0\0\0\x10\0\0\0\0\0/a/b"
            .to_vec();
    expected.resize(4128, 0);
    assert_eq!(bytes, expected);
}

#[test]
fn every_layout_reads_back_what_it_writes() {
    for layout in Layout::ALL {
        let written = header(layout);
        let bytes = written.to_bytes();
        assert_eq!(bytes.len(), layout.header_bytes());
        assert_eq!(CowHeader::parse(&bytes), Ok(written), "{layout:?}");
    }
}

#[test]
fn bytes_behind_the_name_are_ignored() {
    for layout in Layout::ALL {
        let mut bytes = header(layout).to_bytes();
        let name = layout.fields().name;
        bytes[name + 5..name + layout.name_room()].fill(0xa5);
        bytes.extend([0xff; 100]);
        assert_eq!(CowHeader::parse(&bytes), Ok(header(layout)), "{layout:?}");
    }
}

#[test]
fn version_1_is_read_with_the_magic_in_either_order() {
    let mut bytes = header(Layout::V1).to_bytes();
    assert_eq!(&bytes[..8], b"MOOO\x01\0\0\0");
    bytes[..8].copy_from_slice(b"OOOM\0\0\0\x01");
    let parsed = CowHeader::parse(&bytes);
    if cfg!(target_endian = "little") {
        assert_eq!(parsed, Ok(header(Layout::V1)));
    }
}

#[test]
fn later_versions_are_big_endian_only() {
    for version in [2, 3] {
        let mut bytes = header(Layout::V3).to_bytes();
        bytes[..8].copy_from_slice(&[0x4d, 0x4f, 0x4f, 0x4f, version, 0, 0, 0]);
        assert_eq!(
            CowHeader::parse(&bytes),
            Err(HeaderError::BadMagic { found: 0x4d4f_4f4f })
        );
    }
}

#[test]
fn a_header_cut_anywhere_is_refused() {
    for layout in Layout::ALL {
        let bytes = header(layout).to_bytes();
        for length in 0..bytes.len() {
            let error = CowHeader::parse(&bytes[..length]).unwrap_err();
            assert!(
                matches!(error, HeaderError::Truncated { got, need } if got == length && need > got),
                "{layout:?} {length}: {error}"
            );
        }
    }
}

#[test]
fn each_damaged_field_has_its_own_error() {
    fn damaged(layout: Layout, at: usize, value: u32) -> HeaderError {
        let mut bytes = header(layout).to_bytes();
        if layout == Layout::V1 {
            LittleEndian::write_u32(&mut bytes[at..], value);
        } else {
            BigEndian::write_u32(&mut bytes[at..], value);
        }
        CowHeader::parse(&bytes).unwrap_err()
    }
    for layout in Layout::ALL {
        let at = layout.fields();
        let bad_magic = damaged(layout, 0, 0x1234_5678);
        assert!(
            matches!(bad_magic, HeaderError::BadMagic { .. }),
            "{layout:?}"
        );
        for found in [0, 4, u32::MAX] {
            assert_eq!(
                damaged(layout, 4, found),
                HeaderError::BadVersion { found },
                "{layout:?}"
            );
        }
        for found in [0, 1, 256, 511, 513, 1 << 21, 0x8000_0200, u32::MAX] {
            let error = damaged(layout, at.sector_size, found);
            assert_eq!(error, HeaderError::BadSectorSize { found }, "{layout:?}");
        }
        let half = if layout == Layout::V1 {
            at.size + 4
        } else {
            at.size
        };
        let error = damaged(layout, half, u32::MAX);
        assert!(
            matches!(error, HeaderError::SizeOverflow { .. }),
            "{layout:?}: {error}"
        );
        let mut bytes = header(layout).to_bytes();
        bytes[at.name..at.name + layout.name_room()].fill(b'x');
        let room = layout.name_room();
        assert_eq!(
            CowHeader::parse(&bytes),
            Err(HeaderError::UnterminatedName { room })
        );
        if let Some((alignment, format)) = at.v3 {
            for found in [0, 3, 4097, 1 << 25, u32::MAX] {
                let error = damaged(layout, alignment, found);
                assert_eq!(error, HeaderError::BadAlignment { found }, "{layout:?}");
            }
            if layout == Layout::V3 {
                let error = damaged(layout, format, 7);
                assert_eq!(error, HeaderError::BadFormat { found: 7 });
            }
        }
    }
}

#[test]
fn an_empty_name_is_refused() {
    for layout in [Layout::V1, Layout::V2, Layout::V3Wide] {
        let mut bytes = header(layout).to_bytes();
        bytes[layout.fields().name] = 0;
        assert_eq!(
            CowHeader::parse(&bytes),
            Err(HeaderError::EmptyName),
            "{layout:?}"
        );
    }
    // Version 3 without a name looks like the wide layout, whose alignment is then 0.
    let mut bytes = header(Layout::V3).to_bytes();
    bytes[32..36].fill(0);
    assert!(CowHeader::parse(&bytes).is_err());
}

#[test]
fn names_are_as_long_as_the_field_less_one() {
    for layout in Layout::ALL {
        let most = layout.name_room() - 1;
        let with = |length: usize| {
            let name = "n".repeat(length).into();
            CowHeader::new(layout, name, 0, 512, 512, 1)
        };
        let longest = with(most).unwrap();
        assert_eq!(CowHeader::parse(&longest.to_bytes()), Ok(longest));
        assert_eq!(
            with(most + 1),
            Err(HeaderError::NameTooLong {
                found: most + 1,
                most
            })
        );
    }
    let nul = CowHeader::new(Layout::V3, "a\0b".into(), 0, 512, 512, 1);
    assert_eq!(nul, Err(HeaderError::NulInName));
}

#[test]
fn every_sector_size_and_alignment_in_range_is_taken() {
    for sector in 9..=20 {
        for alignment in 0..=24 {
            let made = CowHeader::new(
                Layout::V3,
                "/b".into(),
                0,
                5_000_000,
                1 << sector,
                1 << alignment,
            );
            assert!(made.is_ok(), "{sector} {alignment}");
        }
    }
    let aligned = CowHeader::new(Layout::V2, "/b".into(), 0, 512, 512, 4096);
    assert_eq!(aligned, Err(HeaderError::BadAlignment { found: 4096 }));
}
