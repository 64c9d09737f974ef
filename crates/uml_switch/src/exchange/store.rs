//! Frames that wait for a port: each kept once, however many ports it waits for.

/// How many bytes wait at most, all ports together.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Buffers up to this size are kept for the next frame.
const KEPT_LEN: usize = 2048;

/// A frame in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameId(u32);

#[derive(Debug, Default)]
struct Slot {
    bytes: Vec<u8>,
    holders: u32,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    slots: Vec<Slot>,
    free: Vec<u32>,
    bytes: usize,
}

impl Store {
    /// Keeps a frame for one holder; `None` when there is no room left.
    pub(super) fn keep(&mut self, frame: &[u8]) -> Option<FrameId> {
        if self.bytes + frame.len() > MAX_BYTES {
            return None;
        }
        let id = if let Some(id) = self.free.pop() {
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
            slot.bytes.clear();
            slot.bytes.shrink_to(KEPT_LEN);
            self.free.push(id.0);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
