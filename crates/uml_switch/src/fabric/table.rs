//! The table of addresses: bounded, aged, with a list of each port's addresses by age.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use uml_core::frame::MacAddr;

use super::{MAX_AGE, PortId};

/// The least time between two sweeps: [`MacTable::find`] looks at an entry's age by itself.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);

/// No entry: the end of a list.
const NONE: u32 = u32::MAX;

/// What a frame told about its source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new.
    Known,
    /// It wasn't known.
    New,
    /// It was known on this other port.
    Moved(PortId),
    /// It is a group's address, which is never learned.
    Group,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    mac: u64,
    port: PortId,
    seen: Duration,
    newer: u32,
    older: u32,
}

/// One port's entries, a list by age.
#[derive(Debug, Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    len: u32,
}

const EMPTY: List = List {
    newest: NONE,
    oldest: NONE,
    len: 0,
};

/// The addresses that were seen as sources, and the port each was last seen on.
///
/// When the table is full, a new address takes the place of the oldest one of the port that is
/// filling it: of its own port where that has its share, else of the port with the most addresses.
#[derive(Debug)]
pub struct MacTable {
    capacity: u32,
    index: HashMap<u64, u32, Mixer>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// By slot.
    lists: Vec<List>,
    ports: u32,
    next_sweep: Option<Duration>,
}

impl MacTable {
    /// An empty table for that many addresses, at least one.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity: capacity.clamp(1, NONE - 1),
            index: HashMap::with_hasher(Mixer::new()),
            entries: Vec::new(),
            free: Vec::new(),
            lists: Vec::new(),
            ports: 0,
            next_sweep: None,
        }
    }

    /// How many addresses are in the table, aged ones included until the next sweep.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no address is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// When `sweep` has something to do next: never while the table is empty.
    #[must_use]
    pub const fn next_sweep(&self) -> Option<Duration> {
        self.next_sweep
    }

    pub(super) fn add_port(&mut self, port: PortId) {
        if self.lists.len() <= port.index() {
            self.lists.resize(port.index() + 1, EMPTY);
        }
        self.ports += 1;
    }

    pub(super) fn remove_port(&mut self, port: PortId) {
        while self.lists[port.index()].oldest != NONE {
            self.forget(self.lists[port.index()].oldest);
        }
        self.ports -= 1;
    }

    /// Where an address was last seen, unless that is too long ago.
    #[must_use]
    pub fn find(&self, mac: MacAddr, now: Duration) -> Option<PortId> {
        let entry = &self.entries[*self.index.get(&mac.to_u64())? as usize];
        (now.saturating_sub(entry.seen) <= MAX_AGE).then_some(entry.port)
    }

    /// Takes note of an address that a frame came from.
    pub fn learn(&mut self, mac: MacAddr, port: PortId, now: Duration) -> Learned {
        if mac.is_group() {
            return Learned::Group;
        }
        let key = mac.to_u64();
        if let Some(&at) = self.index.get(&key) {
            let entry = &mut self.entries[at as usize];
            let age = now.saturating_sub(entry.seen);
            let old = entry.port;
            entry.seen = now;
            if old != port || self.lists[port.index()].newest != at {
                self.unlink(at);
                self.entries[at as usize].port = port;
                self.link(at);
            }
            return if age > MAX_AGE {
                Learned::New
            } else if old == port {
                Learned::Known
            } else {
                Learned::Moved(old)
            };
        }
        if self.index.len() >= self.capacity as usize {
            self.evict(port);
        }
        let entry = Entry {
            mac: key,
            port,
            seen: now,
            newer: NONE,
            older: NONE,
        };
        let at = if let Some(at) = self.free.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
        };
        self.index.insert(key, at);
        self.link(at);
        self.next_sweep.get_or_insert(now + MAX_AGE);
        Learned::New
    }

    /// Forgets what is too old and says when to look again.
    pub(super) fn sweep(&mut self, now: Duration) {
        let mut oldest: Option<Duration> = None;
        for slot in 0..self.lists.len() {
            while let Some(entry) = self.entries.get(self.lists[slot].oldest as usize) {
                if now.saturating_sub(entry.seen) <= MAX_AGE {
                    oldest = Some(oldest.map_or(entry.seen, |seen| seen.min(entry.seen)));
                    break;
                }
                self.forget(self.lists[slot].oldest);
            }
        }
        self.next_sweep = oldest.map(|seen| {
            // A moment later: an address lives for the whole of its time.
            (seen + MAX_AGE + Duration::from_millis(1)).max(now + SWEEP_PAUSE)
        });
    }

    /// Makes room for one address of this port.
    fn evict(&mut self, for_port: PortId) {
        let share = (self.capacity / self.ports.max(1)).max(1);
        let victim = if self.lists[for_port.index()].len >= share {
            self.lists[for_port.index()].oldest
        } else {
            self.lists
                .iter()
                .max_by_key(|list| list.len)
                .map_or(NONE, |list| list.oldest)
        };
        if victim != NONE {
            self.forget(victim);
        }
    }

    fn forget(&mut self, at: u32) {
        self.unlink(at);
        self.index.remove(&self.entries[at as usize].mac);
        self.free.push(at);
        if self.index.is_empty() {
            self.next_sweep = None;
        }
    }

    fn link(&mut self, at: u32) {
        let port = self.entries[at as usize].port;
        let list = &mut self.lists[port.index()];
        let newest = list.newest;
        list.newest = at;
        list.len += 1;
        if newest == NONE {
            list.oldest = at;
        } else {
            self.entries[newest as usize].newer = at;
        }
        let entry = &mut self.entries[at as usize];
        entry.older = newest;
        entry.newer = NONE;
    }

    fn unlink(&mut self, at: u32) {
        let Entry {
            port, newer, older, ..
        } = self.entries[at as usize];
        let list = &mut self.lists[port.index()];
        list.len -= 1;
        if newer == NONE {
            list.newest = older;
        } else {
            self.entries[newer as usize].older = older;
        }
        let list = &mut self.lists[port.index()];
        if older == NONE {
            list.oldest = newer;
        } else {
            self.entries[older as usize].newer = newer;
        }
    }
}

/// Hashes the 48 bits of an address, which anybody may choose, with a secret multiplier.
#[derive(Debug, Clone, Copy)]
struct Mixer {
    secret: u64,
    state: u64,
}

impl Mixer {
    fn new() -> Self {
        // The standard library's own keys come from the system's random numbers.
        let secret = RandomState::new().build_hasher().finish() | 1;
        Self { secret, state: 0 }
    }
}

impl BuildHasher for Mixer {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product =
            u128::from(self.state ^ number ^ self.secret.rotate_left(32)) * u128::from(self.secret);
        let [low, high] = [product, product >> 64].map(|half| {
            let bytes = half.to_le_bytes();
            u64::from_le_bytes([
                bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
            ])
        });
        self.state = low ^ high;
    }
}
