//! Frames that wait for a port: each kept once, however many ports it waits for.

/// How many bytes wait at most, all ports together, unless less is said.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Buffers up to this size are kept for the next frame.
const KEPT_LEN: usize = 2048;

/// How many buffers are kept at most: 8 MiB of them.
const KEPT: usize = 4096;

/// A frame in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameId(u32);

#[derive(Debug, Default)]
struct Slot {
    bytes: Vec<u8>,
    holders: u32,
}

#[derive(Debug)]
pub(super) struct Store {
    limit: usize,
    slots: Vec<Slot>,
    /// Free slots with a buffer.
    kept: Vec<u32>,
    /// Free slots without one.
    free: Vec<u32>,
    bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            limit: MAX_BYTES,
            slots: Vec::new(),
            kept: Vec::new(),
            free: Vec::new(),
            bytes: 0,
        }
    }
}

impl Store {
    /// Has at most so many bytes wait, where that is less than [`MAX_BYTES`].
    pub(super) fn limit(&mut self, bytes: usize) {
        self.limit = bytes.min(MAX_BYTES);
    }

    /// Keeps a frame for one holder; `None` when there is no room left.
    pub(super) fn keep(&mut self, frame: &[u8]) -> Option<FrameId> {
        if self.bytes + frame.len() > self.limit {
            return None;
        }
        let id = if let Some(id) = self.kept.pop().or_else(|| self.free.pop()) {
            id
        } else {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).ok()?
        };
        let slot = &mut self.slots[id as usize];
        slot.bytes.extend_from_slice(frame);
        slot.holders = 1;
        self.bytes += frame.len();
        Some(FrameId(id))
    }

    /// One more holder of a frame.
    pub(super) fn share(&mut self, id: FrameId) {
        self.slots[id.0 as usize].holders += 1;
    }

    pub(super) fn frame(&self, id: FrameId) -> &[u8] {
        &self.slots[id.0 as usize].bytes
    }

    /// One holder less; the last one frees the frame.
    pub(super) fn release(&mut self, id: FrameId) {
        let slot = &mut self.slots[id.0 as usize];
        slot.holders -= 1;
        if slot.holders == 0 {
            self.bytes -= slot.bytes.len();
            if self.kept.len() < KEPT {
                slot.bytes.clear();
                slot.bytes.shrink_to(KEPT_LEN);
                self.kept.push(id.0);
            } else {
                slot.bytes = Vec::new();
                self.free.push(id.0);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_frames_leaves_few_buffers() {
        let mut store = Store::default();
        for _ in 0..3 {
            let ids: Vec<_> = (0..3 * KEPT)
                .filter_map(|_| store.keep(&[7; 1500]))
                .collect();
            assert_eq!(ids.len(), 3 * KEPT);
            for id in ids {
                store.release(id);
            }
            assert_eq!(store.bytes(), 0);
            assert_eq!(store.slots.len(), 3 * KEPT);
            let capacity: usize = store.slots.iter().map(|slot| slot.bytes.capacity()).sum();
            assert!(capacity <= KEPT * KEPT_LEN, "{capacity}");
        }
    }
}
