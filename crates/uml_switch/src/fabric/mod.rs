//! The learning switch itself: ports, addresses, and where a frame goes.
//!
//! It knows no file descriptor and no clock. Time is passed in, as the time since any fixed moment.

mod plan;
mod table;

use std::time::Duration;

use uml_core::frame::{Addresses, MacAddr};

pub use plan::{MAX_BATCH, Plan};
pub use table::{Learned, MacTable};

/// How long an address is remembered without a frame from it.
pub const MAX_AGE: Duration = Duration::from_secs(100);

/// How many addresses are remembered unless told otherwise.
pub const DEFAULT_TABLE_SIZE: u32 = 8192;

/// One port. The lowest free number is given to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(u32);

impl PortId {
    /// The port of that slot.
    #[must_use]
    pub const fn from_slot(slot: u32) -> Self {
        Self(slot)
    }

    /// Its slot: an index that stays below the highest number of ports there ever were at once.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0
    }

    /// The slot as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a frame's addresses are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// A frame goes where its destination was seen last.
    Switch,
    /// Every frame goes to every other port.
    Hub,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To this one port.
    Port(PortId),
    /// To every port but the one it came from.
    Flood,
    /// Nowhere: its destination is behind the port it came from.
    Back,
    /// Nowhere: it is shorter than an Ethernet header.
    Runt,
}

/// The ports and what is known of the addresses behind them.
#[derive(Debug)]
pub struct Fabric {
    forwarding: Forwarding,
    table: MacTable,
    /// The ports there are, in no particular order.
    ports: Vec<PortId>,
    /// By slot: where in `ports` it stands.
    places: Vec<Option<u32>>,
}

impl Fabric {
    /// A fabric without ports, with room for that many addresses.
    #[must_use]
    pub fn new(forwarding: Forwarding, table_size: u32) -> Self {
        Self {
            forwarding,
            table: MacTable::new(table_size),
            ports: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Adds a port in the lowest free slot.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ports are descriptors: far fewer than 2³²"
    )]
    pub fn add_port(&mut self) -> PortId {
        let free = self.places.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let port = PortId(slot as u32);
        self.places[slot] = Some(self.ports.len() as u32);
        self.ports.push(port);
        self.table.add_port(port);
        port
    }

    /// Takes a port away, and the addresses that were learned on it.
    pub fn remove_port(&mut self, port: PortId) {
        let Some(place) = self.places.get_mut(port.index()).and_then(Option::take) else {
            return;
        };
        self.ports.swap_remove(place as usize);
        if let Some(moved) = self.ports.get(place as usize) {
            self.places[moved.index()] = Some(place);
        }
        self.table.remove_port(port);
    }

    /// The ports there are, in no particular order.
    #[must_use]
    pub fn ports(&self) -> &[PortId] {
        &self.ports
    }

    /// The addresses that are known.
    #[must_use]
    pub const fn table(&self) -> &MacTable {
        &self.table
    }

    /// Forgets what is too old. To be called at [`MacTable::next_sweep`].
    pub fn sweep(&mut self, now: Duration) {
        self.table.sweep(now);
    }

    /// Says where a frame goes that came in at a port, and learns its source.
    ///
    /// `learned` is told about addresses that are new or have moved.
    pub fn route(
        &mut self,
        from: PortId,
        frame: &[u8],
        now: Duration,
        mut learned: impl FnMut(MacAddr, Learned),
    ) -> Verdict {
        let Some(Addresses {
            destination,
            source,
        }) = Addresses::of(frame)
        else {
            return Verdict::Runt;
        };
        if self.forwarding == Forwarding::Hub {
            return Verdict::Flood;
        }
        match self.table.learn(source, from, now) {
            Learned::Known | Learned::Group => {}
            news => learned(source, news),
        }
        if destination.is_group() {
            return Verdict::Flood;
        }
        match self.table.find(destination, now) {
            Some(port) if port == from => Verdict::Back,
            Some(port) => Verdict::Port(port),
            None => Verdict::Flood,
        }
    }
}

#[cfg(test)]
mod tests;
