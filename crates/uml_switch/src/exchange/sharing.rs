//! How the ports share the memory that waiting frames have.

use super::{Drop, Exchange, parcel::Parcel, store::FrameId};
use crate::fabric::PortId;

impl Exchange {
    /// Keeps a frame of a batch for this port. Without room for it, ports that hold more than this
    /// one lose their newest frames: who lets long frames pile up takes nothing from the others.
    ///
    /// `None` where nobody holds more: the frame is lost.
    pub(super) fn keep_for(
        &mut self,
        port: PortId,
        place: usize,
        parcel: &mut Parcel<'_>,
    ) -> Option<FrameId> {
        loop {
            if let Some(id) = parcel.keep(place, &mut self.store) {
                return Some(id);
            }
            let wanted = self.lanes[port.index()].bytes + parcel.length(place);
            let (index, lane) = self
                .lanes
                .iter_mut()
                .enumerate()
                .max_by_key(|(_, lane)| lane.bytes)?;
            if index == port.index() || lane.bytes < wanted {
                return None;
            }
            let id = lane.queue.pop_back()?;
            lane.bytes -= self.store.frame(id).len();
            lane.tally.drop(Drop::Full, 1);
            self.store.release(id);
            self.recount(PortId::from_slot(u32::try_from(index).ok()?));
        }
    }
}
