//! A small file of every version, kept in `fixtures/cow`; its README tells how each was made.
//!
//! Those that were made here are made again, byte by byte, and compared. To write them anew:
//! `UML_WRITE_FIXTURES=1 cargo test -p uml_moo fixtures`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use uml_core::cow::{CowFile, Layout, backing::Access};

use crate::support::{Disk, MTIME, Place, noise, write_backing};

/// The name in every header.
const NAME: &str = "/tmp/fixture/backing.img";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cow")
}

fn backing() -> Vec<u8> {
    let mut bytes = noise(20_100);
    bytes[4096..12_288].fill(0);
    bytes
}

/// Sectors in the first and the last byte of the bitmap, neighbours, zeros, the short last one.
fn disk(layout: Layout) -> Disk {
    let changed = [(0, 1), (1, 2), (12, 3), (30, 0), (31, 0), (38, 5), (39, 6)].into();
    Disk {
        layout,
        sector: 512,
        alignment: 4096,
        backing: backing(),
        changed,
    }
}

fn made_here() -> Vec<(&'static str, Vec<u8>)> {
    let cow = |layout| {
        let place = Place::new(&disk(layout));
        disk(layout).write_cow(&place.at("cow"), Path::new(NAME));
        place.read("cow")
    };
    let mut swapped = cow(Layout::V1);
    swapped[..8].copy_from_slice(b"OOOM\0\0\0\x01");
    let mut dirty = cow(Layout::V3);
    dirty[32 + NAME.len() + 1..4128].copy_from_slice(&noise(4096 - NAME.len() - 1));
    vec![
        ("backing.img", backing()),
        ("merged.img", disk(Layout::V3).merged()),
        ("v1.cow", cow(Layout::V1)),
        ("v1-big-endian-magic.cow", swapped),
        ("v2.cow", cow(Layout::V2)),
        ("v3.cow", cow(Layout::V3)),
        ("v3-noise-behind-name.cow", dirty),
        ("v3-64-bit.cow", cow(Layout::V3Wide)),
    ]
}

#[test]
fn the_files_are_those_that_the_generator_makes() {
    let write = env::var_os("UML_WRITE_FIXTURES").is_some();
    for (name, bytes) in made_here() {
        let path = folder().join(name);
        if write {
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name}");
    }
}

#[test]
fn every_file_merges_into_the_same_image() {
    let merged = fs::read(folder().join("merged.img")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "cow") {
            continue;
        }
        seen += 1;
        let place = Place::new(&Disk::v3(vec![], []));
        fs::copy(&path, place.at("cow")).unwrap();
        write_backing(
            &place.at("back"),
            &fs::read(folder().join("backing.img")).unwrap(),
        );
        let header = CowFile::open(&path, Access::Read).unwrap();
        assert_eq!(
            header.header().backing(),
            Path::new(NAME),
            "{}",
            path.display()
        );
        assert_eq!(header.header().mtime(), MTIME, "{}", path.display());
        place.ok(&["-b", "back", "cow", "new"]);
        assert!(place.read("new") == merged, "{}", path.display());
        place.ok(&["-b", "back", "-d", "cow"]);
        assert!(place.read("back") == merged, "{}", path.display());
    }
    assert!(seen >= 6, "{seen} files");
}
