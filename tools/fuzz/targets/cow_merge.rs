//! Any bytes as a COW file, merged into a new image and compared with a naive merge of the same bytes.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use uml_core::cow::CowHeader;
use uml_moo::{Durability, Mtime, Request, Stop, Talk, Target, Verify, merge};

/// Larger images would only be slower.
const LARGEST: u64 = 1 << 20;

static DIR: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/fuzz-merge-{}", std::process::id())));

fuzz_target!(|cow: &[u8]| {
    let header = CowHeader::parse(cow);
    let size = header
        .as_ref()
        .map_or(4096, |header| header.geometry().size());
    if size > LARGEST {
        return;
    }
    let backing: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    fs::create_dir_all(&*DIR).expect("a folder in memory");
    let at = |name: &str| DIR.join(name);
    fs::write(at("cow"), cow).expect("the COW file");
    fs::write(at("backing"), &backing).expect("the backing file");
    let request = Request {
        cow: at("cow"),
        backing: Some(at("backing")),
        into: Target::New(at("new")),
        mtime: Mtime::Ignore,
        durability: Durability::Kernel,
        verify: Verify::No,
        talk: Talk::Errors,
    };
    let merged = merge(&request, &Stop::never());
    let expected = header.ok().and_then(|header| naive(cow, &header, backing));
    match expected {
        None => assert!(merged.is_err() && !at("new").exists()),
        Some(image) => {
            merged.expect("a merge that the naive one can do");
            assert!(
                fs::read(at("new")).expect("the image") == image,
                "another image"
            );
        }
    }
    // After a failure it stays, to be looked at.
    fs::remove_dir_all(&*DIR).expect("the folder to go");
});

/// `None` where the bitmap or the data of a changed sector is missing.
fn naive(cow: &[u8], header: &CowHeader, mut image: Vec<u8>) -> Option<Vec<u8>> {
    let geometry = header.geometry();
    let at = |offset: u64| usize::try_from(offset).ok();
    let sector = geometry.sector_size() as usize;
    // Without a sector there is nothing to miss.
    if !image.is_empty() {
        cow.get(..at(geometry.bitmap_offset() + geometry.bitmap_bytes())?)?;
    }
    for index in 0..image.len().div_ceil(sector) {
        let bits = cow
            .get(at(geometry.bitmap_offset())? + index / 8)
            .copied()
            .unwrap_or(0);
        if bits >> (index % 8) & 1 == 1 {
            let range = index * sector..image.len().min((index + 1) * sector);
            let data = at(geometry.data_offset())?;
            let changed = cow.get(data + range.start..data + range.end)?;
            image[range].copy_from_slice(changed);
        }
    }
    Some(image)
}
