//! Frames into the switch's fabric and queues, by a stream of operations: ports come and go, send,
//! have room or none, refuse, die; time passes. Checked against a naive switch:
//!
//! - a frame goes to the port where its destination was seen last, or to all others, never back;
//! - it comes out whole, once at most, and in the order in which frames came in;
//! - of each port's frames, none is missing: they came out or are counted as dropped;
//! - in + copies = out + dropped + waiting, always;
//! - addresses and waiting frames are bounded, and who waits goes on when its time is over.
//!
//! It is longer than other files: the naive switch is one thing, to be read at one place.
#![no_main]

use std::{collections::HashMap, time::Duration};

use libfuzzer_sys::fuzz_target;
use uml_core::frame::{HEADER_LEN, MAX_LEN, MacAddr};
use uml_switch::{
    exchange::{CROWD, Drop, Exchange, Sent, Watcher, Wire},
    fabric::{Fabric, Forwarding, Learned, MAX_AGE, MAX_BATCH, PortId},
};

const MOST_PORTS: usize = 12;
/// So many frames and bytes come from one input at most.
const MOST_FRAMES: usize = 6000;
const MOST_BYTES: usize = 80 << 20;
/// More than the addresses that frames come from here.
const ROOMY_TABLE: u32 = 64;

fuzz_target!(|operations: &[u8]| Bench::run(operations));

/// A frame that was sent, to be known again when it comes out.
struct Known {
    /// Destination, source, type and number: as much of it as its length has.
    head: [u8; HEADER_LEN + 4],
    length: usize,
    /// Which plug sent it.
    plug: u64,
}

/// One port, from plugging in to unplugging.
struct Peer {
    plug: u64,
    port: PortId,
    room: usize,
    refuses: bool,
    dead: bool,
    /// How many frames were for it.
    expected: u64,
    got: u64,
    last_number: u32,
}

#[derive(Default)]
struct Outside {
    known: Vec<Known>,
    peers: Vec<Peer>,
    got: u64,
}

impl Outside {
    fn peer(&mut self, port: PortId) -> &mut Peer {
        let mut peers = self.peers.iter_mut();
        peers
            .find(|peer| peer.port == port)
            .expect("a port that is plugged in")
    }
}

impl Wire for Outside {
    fn send(&mut self, port: PortId, frames: &[&[u8]]) -> Sent {
        assert!(!frames.is_empty());
        let Self { known, peers, got } = self;
        let peer = peers
            .iter_mut()
            .find(|peer| peer.port == port)
            .expect("a port");
        if peer.dead {
            return Sent::Gone;
        }
        for (went, frame) in frames.iter().enumerate() {
            if peer.room == 0 {
                return Sent::Full(went);
            }
            let head: &[u8; HEADER_LEN + 4] = frame.first_chunk().expect("a whole frame");
            let number = u32::from_be_bytes([head[14], head[15], head[16], head[17]]);
            assert!(number > peer.last_number, "twice, or out of order");
            peer.last_number = number;
            let sent = &known[number as usize - 1];
            assert!(
                sent.head == *head && sent.length == frame.len(),
                "another frame"
            );
            assert_ne!(sent.plug, peer.plug, "back to its sender");
            if peer.refuses {
                return Sent::Refused(went);
            }
            peer.room = peer
                .room
                .saturating_sub(usize::from(peer.room != usize::MAX));
            peer.got += 1;
            *got += 1;
        }
        Sent::All
    }
}

/// What the switch told while a batch was forwarded.
#[derive(Default)]
struct Told {
    flooded: Vec<u32>,
    learned: Vec<(MacAddr, Learned)>,
}

impl Watcher for Told {
    fn learned(&mut self, _: PortId, mac: MacAddr, news: Learned) {
        self.learned.push((mac, news));
    }

    fn flooded(&mut self, _: PortId, frame: &[u8]) {
        let number = frame[HEADER_LEN..].first_chunk().expect("a whole frame");
        self.flooded.push(u32::from_be_bytes(*number));
    }
}

struct Bench<'i> {
    input: std::slice::Iter<'i, u8>,
    exchange: Exchange,
    outside: Outside,
    forwarding: Forwarding,
    table_size: u32,
    wait: Duration,
    now: Duration,
    /// The naive table: where each address was seen last, and when.
    seen: HashMap<MacAddr, (PortId, Duration)>,
    plugs: u64,
    bytes: usize,
    sent: u64,
    refused: u64,
}

impl<'i> Bench<'i> {
    fn run(operations: &'i [u8]) {
        let mut input = operations.iter();
        let Some(setting) = input.next() else {
            return;
        };
        let forwarding = match setting & 1 {
            0 => Forwarding::Switch,
            _ => Forwarding::Hub,
        };
        let table_size = match setting >> 1 & 3 {
            3 => 1 + u32::from(setting >> 4),
            _ => ROOMY_TABLE,
        };
        let wait = Duration::from_millis(if setting & 8 == 0 { 5 } else { 0 });
        let mut bench = Self {
            input,
            exchange: Exchange::new(Fabric::new(forwarding, table_size), wait),
            outside: Outside::default(),
            forwarding,
            table_size,
            wait,
            now: Duration::ZERO,
            seen: HashMap::new(),
            plugs: 0,
            bytes: 0,
            sent: 0,
            refused: 0,
        };
        while bench.step().is_some() {
            bench.settle();
            bench.check();
        }
        bench.end();
    }

    fn next(&mut self) -> Option<u8> {
        self.input.next().copied()
    }

    /// One of the ports that are plugged in.
    fn pick(&mut self) -> Option<PortId> {
        let choice = usize::from(self.next()?);
        let count = self.outside.peers.len();
        // Without ports the byte is read all the same, so that what follows means the same.
        let place = choice.checked_rem(count);
        Some(place.map_or(PortId::from_slot(u32::MAX), |place| {
            self.outside.peers[place].port
        }))
    }

    fn is_plugged(&self, port: PortId) -> bool {
        self.exchange.fabric().ports().contains(&port)
    }

    fn step(&mut self) -> Option<()> {
        match self.next()? % 9 {
            0 => self.plug(),
            1 => {
                let port = self.pick()?;
                if self.is_plugged(port) {
                    self.unplug(port);
                }
            }
            2..=4 => {
                let port = self.pick()?;
                let count = usize::from(self.next()?) % MAX_BATCH + 1;
                let addresses = self.next()?;
                let length = self.next()?;
                if self.is_plugged(port) {
                    self.forward(port, count, addresses, length);
                }
            }
            5 => {
                let port = self.pick()?;
                let room = match self.next()? {
                    255 => usize::MAX,
                    room => usize::from(room),
                };
                if self.is_plugged(port) {
                    self.outside.peer(port).room = room;
                    if room > 0 && self.exchange.is_blocked(port) {
                        self.exchange.writable(port, &mut self.outside);
                    }
                }
            }
            6 => {
                let time = self.next()?;
                let unit = match time & 3 {
                    3 => Duration::from_secs(1),
                    2 => Duration::from_millis(100),
                    _ => Duration::from_millis(1),
                };
                self.pass(unit * u32::from(time >> 2));
            }
            7 => {
                let port = self.pick()?;
                let how = self.next()?;
                if self.is_plugged(port) {
                    let peer = self.outside.peer(port);
                    peer.refuses = how & 1 != 0;
                    peer.dead |= how & 6 == 6;
                }
            }
            _ => {
                let port = self.pick()?;
                let known = self.is_plugged(port);
                let reason = if known { Drop::Giant } else { Drop::Stranger };
                self.exchange.refuse(known.then_some(port), reason);
                self.refused += 1;
            }
        }
        Some(())
    }

    fn plug(&mut self) {
        if self.outside.peers.len() == MOST_PORTS {
            return;
        }
        let port = self.exchange.add_port();
        assert!(self.outside.peers.iter().all(|peer| peer.port != port));
        assert!(
            port.index() < MOST_PORTS,
            "a slot that isn't the lowest free one"
        );
        self.plugs += 1;
        self.outside.peers.push(Peer {
            plug: self.plugs,
            port,
            room: usize::MAX,
            refuses: false,
            dead: false,
            expected: 0,
            got: 0,
            last_number: 0,
        });
    }

    fn unplug(&mut self, port: PortId) {
        let place = self.outside.peers.iter().position(|peer| peer.port == port);
        let peer = self
            .outside
            .peers
            .remove(place.expect("a port that is plugged in"));
        let dropped = self.dropped(port);
        let before = self.exchange.total().dropped(Drop::Unplugged);
        self.exchange.remove_port(port);
        let waited = self.exchange.total().dropped(Drop::Unplugged) - before;
        assert_eq!(peer.got + dropped + waited, peer.expected);
        self.seen.retain(|_, (at, _)| *at != port);
    }

    /// How many frames for this port were dropped.
    fn dropped(&self, port: PortId) -> u64 {
        let tally = self.exchange.tally(port);
        tally.dropped(Drop::Full) + tally.dropped(Drop::Refused)
    }

    fn forward(&mut self, from: PortId, count: usize, addresses: u8, length: u8) {
        // As the switch's loop does.
        if !self.exchange.may_send(from, self.now) {
            return;
        }
        let count = count.min(self.exchange.turn(from));
        let length = match length {
            0..=13 => usize::from(length),
            14..=253 => 18 + usize::from(length),
            254 => 9000,
            255 => MAX_LEN,
        };
        if self.outside.known.len() + count > MOST_FRAMES || self.bytes > MOST_BYTES {
            return;
        }
        self.bytes += count * length;
        let frames: Vec<Vec<u8>> = (0..count)
            .map(|index| self.frame(from, addresses, length, index))
            .collect();
        let others = self.outside.peers.len() - 1;
        let mut told = Told::default();
        let batch = frames.iter().map(Vec::as_slice);
        // What the naive switch does comes first: ports may turn out to be gone meanwhile.
        let first = self.outside.known.len() - count;
        let verdicts: Vec<Verdict> = (first..first + count)
            .map(|at| self.verdict(from, at))
            .collect();
        let before = self
            .outside
            .peers
            .iter()
            .map(|peer| peer.port)
            .collect::<Vec<_>>();
        self.exchange
            .forward(from, batch, self.now, &mut self.outside, &mut told);
        self.sent += count as u64;
        let exact = self.table_size == ROOMY_TABLE;
        let mut flooded = told.flooded.into_iter().peekable();
        let mut news = Vec::new();
        for (at, verdict) in (first..).zip(verdicts) {
            let number = at as u32 + 1;
            let is_flooded = flooded.next_if_eq(&number).is_some();
            news.extend(verdict.learned);
            match verdict.to {
                To::Nobody => assert!(!is_flooded || (!exact && others > 0)),
                To::All => assert_eq!(is_flooded, others > 0),
                To::One(_) => assert!(!is_flooded || !exact),
            }
            if is_flooded {
                for &port in before.iter().filter(|&&port| port != from) {
                    self.outside.peer(port).expected += 1;
                }
            } else if let To::One(port) = verdict.to
                // Alone, nobody is flooded: the address may have left a small table.
                && (exact || others > 0)
            {
                self.outside.peer(port).expected += 1;
            }
        }
        assert!(
            flooded.next().is_none(),
            "told of a frame that isn't of this batch"
        );
        if exact {
            assert_eq!(told.learned, news);
        }
    }

    fn frame(&mut self, from: PortId, addresses: u8, length: usize, index: usize) -> Vec<u8> {
        let mac = |nibble: u8| match nibble {
            15 => MacAddr::BROADCAST,
            14 => MacAddr::new([1, 0, 0x5e, 0, 0, 1]),
            unicast => MacAddr::new([2, 0, 0, 0, 0, unicast]),
        };
        // 13 stands for another destination with each frame, so that batches go to several ports.
        let to = match addresses >> 4 {
            13 => (index % 13) as u8,
            nibble => nibble,
        };
        let number = self.outside.known.len() as u32 + 1;
        let mut head = [0; HEADER_LEN + 4];
        head[..6].copy_from_slice(&mac(to).octets());
        head[6..12].copy_from_slice(&mac(addresses & 15).octets());
        head[12..14].copy_from_slice(&[8, 0]);
        head[14..].copy_from_slice(&number.to_be_bytes());
        let mut frame = head.to_vec();
        frame.resize(length, 0xa5);
        let plug = self.outside.peer(from).plug;
        self.outside.known.push(Known { head, length, plug });
        frame
    }

    /// Where the naive switch sends a frame, and what it learns from it.
    fn verdict(&mut self, from: PortId, at: usize) -> Verdict {
        let Known { head, length, .. } = &self.outside.known[at];
        let mut verdict = Verdict {
            to: To::Nobody,
            learned: None,
        };
        if *length < HEADER_LEN {
            return verdict;
        }
        if self.forwarding == Forwarding::Hub {
            verdict.to = To::All;
            return verdict;
        }
        let mac = |at: usize| MacAddr::new([0, 1, 2, 3, 4, 5].map(|byte| head[at + byte]));
        let (to, source) = (mac(0), mac(6));
        if !source.is_group() {
            let before = self.seen.insert(source, (from, self.now));
            let news = match before.filter(|(_, seen)| self.now - *seen <= MAX_AGE) {
                None => Some(Learned::New),
                Some((port, _)) if port != from => Some(Learned::Moved(port)),
                Some(_) => None,
            };
            verdict.learned = news.map(|news| (source, news));
        }
        let found = self
            .seen
            .get(&to)
            .filter(|(_, seen)| self.now - *seen <= MAX_AGE);
        verdict.to = match found {
            _ if to.is_group() => To::All,
            Some((port, _)) if *port == from => To::Nobody,
            Some((port, _)) => To::One(*port),
            None => To::All,
        };
        verdict
    }

    /// Time passes, and the switch does what is due.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.exchange.expire(self.now);
        self.exchange.sweep(self.now);
        while let Some(port) = self.exchange.take_stuck() {
            self.exchange.writable(port, &mut self.outside);
        }
        if let Some(due) = self.exchange.deadline() {
            assert!(due > self.now, "overdue");
        }
    }

    /// What the switch's loop does after each event.
    fn settle(&mut self) {
        while let Some(port) = self.exchange.take_resumed() {
            assert!(self.is_plugged(port));
        }
        while let Some(port) = self.exchange.take_gone() {
            self.unplug(port);
        }
    }

    fn check(&self) {
        let total = self.exchange.total();
        let waiting = self.exchange.waiting();
        assert_eq!(
            total.received + total.copies,
            total.sent + total.all_dropped() + waiting,
            "{total}, {waiting} waiting"
        );
        assert_eq!(total.received, self.sent + self.refused);
        assert_eq!(total.sent, self.outside.got);
        let ports = self.exchange.fabric().ports();
        assert_eq!(ports.len(), self.outside.peers.len());
        assert!(waiting <= (ports.len() * CROWD) as u64);
        assert!(self.exchange.deaf() <= ports.len());
        assert!(self.exchange.fabric().table().len() <= self.table_size as usize);
    }

    /// Everybody takes what waits, and nobody has to wait any more.
    fn end(mut self) {
        for peer in &mut self.outside.peers {
            peer.room = usize::MAX;
            peer.refuses = false;
        }
        let ports = self.exchange.fabric().ports().to_vec();
        for port in ports {
            self.exchange.writable(port, &mut self.outside);
        }
        self.settle();
        self.check();
        assert_eq!(self.exchange.waiting(), 0);
        self.pass(self.wait);
        self.settle();
        for place in 0..self.outside.peers.len() {
            let Peer {
                port,
                got,
                expected,
                ..
            } = self.outside.peers[place];
            assert_eq!(got + self.dropped(port), expected);
            assert!(
                self.exchange.may_send(port, self.now),
                "it waits for nobody"
            );
        }
        while let Some(peer) = self.outside.peers.first() {
            let port = peer.port;
            self.unplug(port);
        }
        self.check();
        assert_eq!(self.exchange.fabric().table().len(), 0);
        assert_eq!(self.exchange.deaf(), 0);
    }
}

struct Verdict {
    to: To,
    learned: Option<(MacAddr, Learned)>,
}

enum To {
    Nobody,
    All,
    One(PortId),
}
