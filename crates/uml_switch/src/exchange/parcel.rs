//! One batch on its way to several ports.

use super::store::{FrameId, Store};
use crate::fabric::MAX_BATCH;

/// The frames of a batch, the ones picked for the port at hand, and what is kept of them.
pub(super) struct Parcel<'a> {
    batch: &'a [&'a [u8]],
    mask: u64,
    picked: [&'a [u8]; MAX_BATCH],
    count: usize,
    kept: [Option<FrameId>; MAX_BATCH],
    keeps: bool,
}

impl<'a> Parcel<'a> {
    pub(super) fn new(batch: &'a [&'a [u8]]) -> Self {
        Self {
            batch,
            mask: 0,
            picked: [&[]; MAX_BATCH],
            count: 0,
            kept: [None; MAX_BATCH],
            keeps: false,
        }
    }

    /// Picks the frames of this mask. The same mask again, as in floods, costs nothing.
    pub(super) fn pick(&mut self, mask: u64) {
        if mask == self.mask {
            return;
        }
        self.mask = mask;
        self.count = 0;
        for place in ones(mask) {
            self.picked[self.count] = self.batch[place];
            self.count += 1;
        }
    }

    /// The picked frames in their order.
    pub(super) fn picked(&self) -> &[&'a [u8]] {
        &self.picked[..self.count]
    }

    /// The places in the batch of the picked frames behind the first few.
    pub(super) fn places(&self, behind: usize) -> impl Iterator<Item = usize> + use<> {
        ones(self.mask).skip(behind)
    }

    /// The length of the frame at this place of the batch.
    pub(super) fn length(&self, place: usize) -> usize {
        self.batch[place].len()
    }

    /// Keeps the frame at this place of the batch for one more holder; `None` without room.
    pub(super) fn keep(&mut self, place: usize, store: &mut Store) -> Option<FrameId> {
        let id = if let Some(id) = self.kept[place] {
            id
        } else {
            // The parcel holds it too, until it is released.
            let id = store.keep(self.batch[place])?;
            self.kept[place] = Some(id);
            self.keeps = true;
            id
        };
        store.share(id);
        Some(id)
    }

    /// Lets go of the parcel's own hold on what it kept.
    pub(super) fn release(self, store: &mut Store) {
        if self.keeps {
            for id in self.kept.into_iter().flatten() {
                store.release(id);
            }
        }
    }
}

/// The places of a mask's set bits, lowest first.
fn ones(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = mask.trailing_zeros() as usize;
        // No bit is left: 64.
        mask &= mask.wrapping_sub(1);
        (place < MAX_BATCH).then_some(place)
    })
}
