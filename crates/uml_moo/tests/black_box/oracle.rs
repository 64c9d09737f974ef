//! Merges of generated disks against a merge byte by byte.

use std::{
    fs::{self, File},
    path::Path,
};

use proptest::{collection::btree_map, prelude::*};
use uml_core::{cow::Layout, sparse::next_data};
use uml_moo::{Durability, Mtime, Request, Stop, Talk, Target, Verify, merge};

use crate::support::{Disk, Place, noise};

fn request(place: &Place, into: Target) -> Request {
    Request {
        cow: place.at("cow"),
        backing: None,
        into,
        mtime: Mtime::Demand,
        durability: Durability::Kernel,
        verify: Verify::ReadBack,
        talk: Talk::Errors,
    }
}

/// Sizes around the borders of blocks, windows and bitmap bytes, and any others.
fn sizes() -> impl Strategy<Value = usize> {
    let near = |border: usize| (0..1200usize).prop_map(move |more| border + more - 600);
    prop_oneof![
        2 => 0..20_000usize,
        1 => near(4096),
        1 => near(256 << 10),
        1 => near(1 << 20),
        1 => 0..(1usize << 20),
    ]
}

fn disks() -> impl Strategy<Value = Disk> {
    (0..4usize, 9..=20u32, 0..=24u32, sizes()).prop_flat_map(|(layout, sector, alignment, size)| {
        let layout = Layout::ALL[layout];
        let sector = 1usize << sector;
        // Short alignments oftener than those whose files are mostly holes.
        let alignment = 1usize
            << if alignment > 16 {
                alignment - 8
            } else {
                alignment
            };
        let sectors = size.div_ceil(sector);
        let fill = prop_oneof![1 => Just(0u8), 2 => 1..=255u8];
        let runs = btree_map(0..sectors.max(1), (1..40usize, fill), 0..40);
        let holes = btree_map(0..size.max(1), 1..300_000usize, 0..4);
        (runs, holes).prop_map(move |(runs, holes)| {
            let mut backing = noise(size);
            for (start, length) in holes {
                let end = size.min(start + length);
                backing[start.min(end)..end].fill(0);
            }
            let changed = runs
                .into_iter()
                .flat_map(|(first, (length, fill))| (first..first + length).map(move |s| (s, fill)))
                .filter(|(sector, _)| *sector < sectors)
                .collect();
            Disk {
                layout,
                sector,
                alignment,
                backing,
                changed,
            }
        })
    })
}

fn check(disk: &Disk, place: &Place) {
    let expected = disk.merged();
    let made = merge(
        &request(place, Target::New(place.at("new"))),
        &Stop::never(),
    );
    if disk.bits_in_data() {
        made.unwrap_err();
        return;
    }
    let made = made.unwrap();
    assert!(place.read("new") == expected, "a new image");
    assert!(expected.len() > 64 << 10 || made.crc32 == Some(crc32(&expected)));
    assert_eq!(made.survey.sectors, disk.changed.len() as u64);
    let most = non_zero_blocks(&expected);
    assert!(data(&place.at("new")) <= most, "holes are kept and made");
    assert!(allocated(&place.at("new")) <= most + LISTS_OF_BLOCKS);

    let (before, sum) = (place.read("cow"), made.crc32);
    let made = merge(&request(place, Target::Backing), &Stop::never()).unwrap();
    assert!(place.read("back") == expected, "in place");
    assert_eq!(made.crc32, sum);
    assert!(place.read("cow") == before);
    assert_eq!(place.names(), ["back", "cow", "new"]);
    fs::remove_file(place.at("new")).unwrap();
}

/// A file system may need some blocks of its own to tell where those of a file are.
const LISTS_OF_BLOCKS: u64 = 3 * 4096;

/// How much of a file is not a hole, in bytes.
fn data(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut rest = 0..length;
    let mut sum = 0;
    while let Some(data) = next_data(&file, rest).unwrap() {
        sum += data.end - data.start;
        rest = data.end..length;
    }
    sum
}

fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().unwrap().blocks() * 512
}

fn non_zero_blocks(bytes: &[u8]) -> u64 {
    let blocks = bytes
        .chunks(4096)
        .filter(|block| **block != [0; 4096][..block.len()]);
    blocks.count() as u64 * 4096
}

/// The crc32 of zip files and PNGs, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn merges_are_those_of_a_naive_merge(disk in disks()) {
        check(&disk, &Place::in_memory(&disk));
    }
}

#[test]
fn a_disk_of_every_layout_on_a_real_file_system() {
    for layout in Layout::ALL {
        for (size, sector, alignment) in [
            (0, 512, 4096),
            (1, 512, 1),
            (4097, 1024, 16),
            (1_000_003, 512, 4096),
        ] {
            let backing = noise(size);
            let sectors = size.div_ceil(sector);
            let changed = (0..sectors).filter(|s| s % 7 < 3 || s + 1 == sectors);
            let changed = changed.map(|s| (s, u8::try_from(s % 5).unwrap())).collect();
            let disk = Disk {
                layout,
                sector,
                alignment,
                backing,
                changed,
            };
            check(&disk, &Place::new(&disk));
        }
    }
}

#[test]
fn sectors_larger_than_a_window() {
    let backing = noise((5 << 20) + 77);
    let changed = [(0, 3), (2, 0), (5, 9)].into();
    let disk = Disk {
        layout: Layout::V3,
        sector: 1 << 20,
        alignment: 1 << 20,
        backing,
        changed,
    };
    check(&disk, &Place::new(&disk));
}
