//! One batch's frames, sorted by port.

use super::PortId;

/// How many frames a batch holds at most: one bit of a mask each.
pub const MAX_BATCH: usize = 64;

/// Which frames of a batch go to which port, in the order in which they came.
///
/// A frame is a bit in a mask, so that a broadcast to a thousand ports is one bit too.
#[derive(Debug, Default)]
pub struct Plan {
    /// Frames for every port but the sender's.
    flood: u64,
    /// By slot: frames for that port alone.
    single: Vec<u64>,
    /// The ports whose mask in `single` isn't empty.
    touched: Vec<PortId>,
}

impl Plan {
    /// Sends frame `index` to one port.
    pub fn to_port(&mut self, index: usize, port: PortId) {
        debug_assert!(index < MAX_BATCH, "a batch is at most 64 frames");
        if self.single.len() <= port.index() {
            self.single.resize(port.index() + 1, 0);
        }
        let mask = &mut self.single[port.index()];
        if *mask == 0 {
            self.touched.push(port);
        }
        *mask |= 1 << index;
    }

    /// Sends frame `index` to every port but the sender's.
    pub fn to_all(&mut self, index: usize) {
        debug_assert!(index < MAX_BATCH, "a batch is at most 64 frames");
        self.flood |= 1 << index;
    }

    /// The frames for every port but the sender's.
    #[must_use]
    pub const fn flood(&self) -> u64 {
        self.flood
    }

    /// The frames for this port, floods included.
    #[must_use]
    pub fn mask(&self, port: PortId) -> u64 {
        self.single.get(port.index()).copied().unwrap_or(0) | self.flood
    }

    /// The ports that some frame is for alone.
    #[must_use]
    pub fn touched(&self) -> &[PortId] {
        &self.touched
    }

    /// Empties the plan and keeps its memory.
    pub fn clear(&mut self) {
        self.flood = 0;
        for port in self.touched.drain(..) {
            self.single[port.index()] = 0;
        }
    }
}
