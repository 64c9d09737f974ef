//! A COW header from anywhere: no panic, and what is accepted has offsets that fit a file and comes
//! back from its own bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uml_core::cow::CowHeader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = CowHeader::parse(bytes) else {
        return;
    };
    let geometry = header.geometry();
    let sector = u64::from(geometry.sector_size());
    assert!(geometry.sectors() * sector >= geometry.size());
    assert!(geometry.bitmap_offset() + geometry.bit_bytes() <= geometry.data_offset());
    assert!(
        geometry
            .data_offset()
            .checked_add(geometry.size())
            .is_some()
    );
    if let Some(last) = geometry.sectors().checked_sub(1) {
        let range = geometry.image_range(&(last..last + 1));
        assert_eq!(range.end, geometry.size());
        assert!(range.end - range.start <= sector && range.start < range.end);
    }
    let written = header.to_bytes();
    assert_eq!(CowHeader::parse(&written).as_ref(), Ok(&header));
});
