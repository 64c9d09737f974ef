//! Damaged COW files: a clear line, exit 1, no output file.

use std::fs;

use uml_core::cow::Layout;

use crate::support::{Disk, Place, noise};

fn disk(layout: Layout) -> Disk {
    let changed = [(0, 1), (9, 2), (39, 3)].into();
    Disk {
        layout,
        sector: 512,
        alignment: 4096,
        backing: noise(20_000),
        changed,
    }
}

fn refused(place: &Place, words: &str) {
    let back = place.read("back");
    for args in [
        &["cow", "new"][..],
        &["-b", "back", "cow", "-"],
        &["-d", "-b", "back", "cow"],
    ] {
        let finished = place.moo(args);
        assert_eq!(finished.code(), 1, "{args:?}: {}", finished.err());
        assert!(
            finished.err().contains(words),
            "{args:?}: {}",
            finished.err()
        );
        assert_eq!(finished.err().lines().count(), 1, "{}", finished.err());
        assert_eq!(finished.out(), "");
    }
    assert!(place.read("back") == back);
    assert_eq!(place.names(), ["back", "cow"]);
}

#[test]
fn every_damaged_field_is_named() {
    for layout in Layout::ALL {
        let place = Place::in_memory(&disk(layout));
        let good = place.read("cow");
        // Offset, bytes in file order for a big-endian layout, and the words.
        let (size, sector) = match layout {
            Layout::V1 => (268, 276),
            Layout::V2 => (4108, 4116),
            Layout::V3 => (12, 20),
            Layout::V3Wide => (16, 24),
        };
        let with = |at: usize, bytes: &[u8], words: &str| {
            let mut bytes = bytes.to_vec();
            if layout == Layout::V1 {
                bytes.reverse();
            }
            let mut cow = good.clone();
            cow[at..at + bytes.len()].copy_from_slice(&bytes);
            fs::write(place.at("cow"), cow).unwrap();
            refused(&place, words);
        };
        with(0, b"XOOM", "not a COW file: magic");
        with(4, &[0; 4], "COW version 0, expected 1, 2 or 3");
        with(4, &[0, 0, 0, 4], "COW version 4, expected 1, 2 or 3");
        with(
            sector,
            &[0; 4],
            "sector size 0, expected a power of two from 512 to 1048576",
        );
        with(sector, &[0, 0, 3, 0], "sector size 768");
        with(sector, &[255; 4], "sector size 4294967295");
        with(
            size,
            &[255; 8],
            "image size 18446744073709551615, too large",
        );
        with(
            size,
            &[0, 0, 0, 0, 0, 0, 1, 0],
            "Size mismatch (256 vs 20000)",
        );
        if layout.version() == 3 {
            with(
                sector + 4,
                &[0; 4],
                "alignment 0, expected a power of two from 1 to 16777216",
            );
            with(sector + 4, &[0, 0, 16, 1], "alignment 4097");
            with(sector + 4, &[2, 0, 0, 0], "alignment 33554432");
        }
        if layout == Layout::V3 {
            with(28, &[0, 0, 0, 1], "format 1 of the COW data, expected 0");
        }
        let (name, room) = match layout {
            Layout::V1 => (8, 256),
            Layout::V2 => (8, 4096),
            Layout::V3 => (32, 4096),
            Layout::V3Wide => (36, 4096),
        };
        with(
            name,
            &vec![b'x'; room],
            "the backing file's name has no end within its",
        );
        if layout != Layout::V3 {
            with(name, &vec![0; room], "the backing file's name is empty");
        }
    }
}

#[test]
fn files_cut_anywhere_are_refused_unless_nothing_is_lost() {
    for layout in Layout::ALL {
        let disk = disk(layout);
        let place = Place::in_memory(&disk);
        let good = place.read("cow");
        let (bitmap, data) = disk.offsets();
        let cut = |length: usize, words: &str| {
            fs::write(place.at("cow"), &good[..length]).unwrap();
            refused(&place, words);
        };
        cut(0, "the header is cut off: 0 bytes");
        cut(7, "the header is cut off: 7 bytes");
        cut(100, "the header is cut off: 100 bytes");
        cut(bitmap, "is cut off");
        cut(data, "sector 39 changed");
        // Sector 39 is the last one, and short: 32 bytes.
        cut(data + 19_999, "the file ends at");
        assert_eq!(good.len(), data + 20_000);
        let mut early = disk.clone();
        early.changed.remove(&39);
        early.write_cow(&place.at("cow"), &place.at("back"));
        assert_eq!(place.read("cow").len(), data + 10 * 512);
        place.ok(&["cow", "new"]);
        assert!(place.read("new") == early.merged(), "{layout:?}");
    }
}

#[test]
fn an_image_without_sectors_needs_no_bitmap() {
    // An input that fuzzing brought to light: its bitmap would lie behind its end.
    let found = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/fuzz/cow_merge/no-sectors-no-bitmap"
    );
    let place = Place::in_memory(&disk(Layout::V3));
    fs::copy(found, place.at("cow")).unwrap();
    fs::write(place.at("back"), "").unwrap();
    place.ok(&["--ignore-mtime", "-b", "back", "cow", "new"]);
    assert_eq!(place.read("new"), b"");
}

#[test]
fn bits_that_an_old_version_has_no_room_for_are_refused() {
    // 4120 + 488 = 9 * 512: behind the bitmap, there is no padding for the last three bits.
    let disk = Disk {
        layout: Layout::V2,
        sector: 512,
        alignment: 1,
        backing: noise((488 * 8 + 3) * 512),
        changed: [(1, 1)].into(),
    };
    refused(
        &Place::in_memory(&disk),
        "the bits of the last 3 sectors would lie in the data area",
    );
}

#[test]
fn noise_is_no_cow_file() {
    let place = Place::in_memory(&disk(Layout::V3));
    fs::write(place.at("cow"), noise(100_000)).unwrap();
    refused(&place, "not a COW file: magic");
}
