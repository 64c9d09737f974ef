//! Early write-back: the disk works while the image is still being composed.

use std::{
    fs::File,
    sync::atomic::{AtomicU64, Ordering},
};

use uml_core::sys::file_range::start_write_back;

use crate::{compose::Piece, merge::Durability};

/// Bytes between two head starts where the file system still chooses the blocks: large extents are
/// worth a wait.
pub(crate) const NEW_BLOCKS: u64 = 8 << 20;
/// Bytes between two head starts where the blocks are there already.
pub(crate) const OLD_BLOCKS: u64 = 256 << 10;

/// Gives the disk a head start on a file that is written in about ascending order and synced at
/// the end.
#[derive(Debug)]
pub(crate) struct HeadStart<'f> {
    file: &'f File,
    durability: Durability,
    every: u64,
    written: AtomicU64,
    /// The byte up to which the disk has been told.
    started: AtomicU64,
}

impl<'f> HeadStart<'f> {
    pub(crate) const fn new(file: &'f File, durability: Durability, every: u64) -> Self {
        Self {
            file,
            durability,
            every,
            written: AtomicU64::new(0),
            started: AtomicU64::new(0),
        }
    }

    /// A piece was written.
    pub(crate) fn wrote(&self, piece: &Piece) {
        if self.durability == Durability::Kernel {
            return;
        }
        let length = piece.bytes().len() as u64;
        let before = self.written.fetch_add(length, Ordering::Relaxed);
        if before / self.every != (before + length) / self.every {
            let from = self.started.swap(piece.end(), Ordering::Relaxed);
            // What it can't do or leaves out, the sync at the end does.
            let _ = start_write_back(self.file, &(from..piece.end().max(from)));
        }
    }
}
