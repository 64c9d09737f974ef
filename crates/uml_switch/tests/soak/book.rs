//! What all guests know of each other.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::letter::Station;

/// It is plugged in.
const PLUGGED: u64 = 1;
/// Somebody had a frame of it: the switch knows where it is, until it goes.
const SETTLED: u64 = 2;

/// Who is plugged in, by slot.
#[derive(Debug)]
pub(crate) struct Book(Vec<AtomicU64>);

impl Book {
    pub(crate) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, slot: u8) -> &AtomicU64 {
        &self.0[usize::from(slot)]
    }

    fn entry(station: Station, state: u64) -> u64 {
        (u64::from(station.life) << 2) | state
    }

    /// A guest is plugged in.
    pub(crate) fn enter(&self, station: Station) {
        let entry = Self::entry(station, PLUGGED);
        self.place(station.slot).store(entry, Ordering::SeqCst);
    }

    /// A guest is about to go.
    pub(crate) fn leave(&self, station: Station) {
        self.place(station.slot).store(0, Ordering::SeqCst);
    }

    /// A frame of that guest has arrived.
    pub(crate) fn settle(&self, station: Station) {
        let (from, to) = (Self::entry(station, PLUGGED), Self::entry(station, SETTLED));
        // It may be settled, or gone.
        let _ =
            self.place(station.slot)
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether the switch knows where that guest is, and it has not begun to go.
    pub(crate) fn is_settled(&self, station: Station) -> bool {
        self.place(station.slot).load(Ordering::SeqCst) == Self::entry(station, SETTLED)
    }

    /// Who has this slot, if anybody.
    pub(crate) fn at(&self, slot: u8) -> Option<Station> {
        let entry = self.place(slot).load(Ordering::SeqCst);
        let life = u32::try_from(entry >> 2).unwrap();
        (entry != 0).then_some(Station { slot, life })
    }
}
