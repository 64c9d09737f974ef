use proptest::prelude::*;

use uml_core::frame::MacAddr;

use super::*;
use crate::fabric::{Forwarding, Learned};

const MS: Duration = Duration::from_millis(1);
const WAIT: Duration = Duration::from_millis(5);

/// Ports with room for some frames.
#[derive(Debug, Default)]
struct Peers {
    room: Vec<usize>,
    /// What each port got.
    got: Vec<Vec<Vec<u8>>>,
    refuse: Option<PortId>,
    dead: Option<PortId>,
}

impl Wire for Peers {
    fn send(&mut self, port: PortId, frames: &[&[u8]]) -> Sent {
        assert!(!frames.is_empty());
        assert!(frames.iter().all(|frame| !frame.is_empty()));
        if self.dead == Some(port) {
            return Sent::Gone;
        }
        let room = &mut self.room[port.index()];
        let went = frames.len().min(*room);
        if self.refuse == Some(port) {
            return Sent::Refused(0);
        }
        *room -= went;
        self.got[port.index()].extend(frames[..went].iter().map(|frame| frame.to_vec()));
        if went == frames.len() {
            Sent::All
        } else {
            Sent::Full(went)
        }
    }
}

struct Nobody;

impl Watcher for Nobody {
    fn learned(&mut self, _: PortId, _: MacAddr, _: Learned) {}
    fn flooded(&mut self, _: PortId, _: &[u8]) {}
}

fn mac(port: u32) -> MacAddr {
    let [a, b, c, d] = port.to_be_bytes();
    MacAddr::new([2, 0, a, b, c, d])
}

fn frame(to: MacAddr, from: u32, number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(to.octets());
    bytes.extend(mac(from).octets());
    bytes.extend([8, 0]);
    bytes.extend(number.to_be_bytes());
    bytes
}

struct Bench {
    exchange: Exchange,
    peers: Peers,
    now: Duration,
    number: u32,
}

impl Bench {
    /// Ports that have told their addresses, with room for that many frames each.
    fn new(ports: usize, room: usize) -> Self {
        let fabric = Fabric::new(Forwarding::Switch, 64);
        let mut bench = Self {
            exchange: Exchange::new(fabric, WAIT),
            peers: Peers::default(),
            now: Duration::ZERO,
            number: 0,
        };
        for _ in 0..ports {
            bench.plug(room);
        }
        for port in 0..ports {
            bench.send(port, mac(u32::try_from(port).unwrap()), 1);
        }
        bench
    }

    fn plug(&mut self, room: usize) -> PortId {
        let port = self.exchange.add_port();
        if self.peers.room.len() <= port.index() {
            self.peers.room.resize(port.index() + 1, 0);
            self.peers.got.resize(port.index() + 1, Vec::new());
        }
        self.peers.room[port.index()] = room;
        port
    }

    fn port(number: usize) -> PortId {
        PortId::from_slot(u32::try_from(number).unwrap())
    }

    fn send(&mut self, from: usize, to: MacAddr, count: usize) {
        self.send_long(from, to, count, 18);
    }

    fn send_long(&mut self, from: usize, to: MacAddr, count: usize, length: usize) {
        let port = Self::port(from);
        let frames: Vec<_> = (0..count)
            .map(|_| {
                self.number += 1;
                let mut frame = frame(to, port.slot(), self.number);
                frame.resize(length, 0);
                frame
            })
            .collect();
        let frames = frames.iter().map(Vec::as_slice);
        self.exchange
            .forward(port, frames, self.now, &mut self.peers, &mut Nobody);
        self.check();
    }

    fn may_send(&mut self, port: usize) -> bool {
        self.exchange.may_send(Self::port(port), self.now)
    }

    fn read(&mut self, port: usize, count: usize) {
        self.peers.room[port] += count;
        if self.exchange.is_blocked(Self::port(port)) {
            self.exchange.writable(Self::port(port), &mut self.peers);
        }
        self.check();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.exchange.expire(self.now);
        self.exchange.sweep(self.now);
        self.check();
    }

    /// Nothing appears and nothing is lost without a count.
    #[track_caller]
    fn check(&self) {
        let total = self.exchange.total();
        assert_eq!(
            total.received + total.copies,
            total.sent + total.all_dropped() + self.exchange.waiting()
        );
        let got: usize = self.peers.got.iter().map(Vec::len).sum();
        assert_eq!(total.sent, got as u64);
        let lanes = &self.exchange.lanes;
        assert_eq!(
            self.exchange.crowded,
            lanes.iter().filter(|l| l.crowded).count()
        );
        assert_eq!(
            self.exchange.awaited,
            lanes.iter().filter(|l| l.awaited).count()
        );
        assert_eq!(self.exchange.deaf, lanes.iter().filter(|l| l.deaf).count());
        assert!(lanes.iter().all(|lane| lane.queue.len() <= CROWD));
        for lane in lanes {
            let ids = lane.queue.iter();
            let bytes: usize = ids.map(|id| self.exchange.store.frame(*id).len()).sum();
            assert_eq!(lane.bytes, bytes);
        }
        assert_eq!(
            self.exchange.waiting() == 0,
            self.exchange.store.bytes() == 0
        );
        let paused = lanes.iter().filter(|lane| lane.pause.is_some()).count();
        assert_eq!(self.exchange.pauses.len(), paused);
        assert_eq!(paused > 0, self.exchange.pauses.front().is_some());
    }
}

#[test]
fn a_flood_reaches_every_other_port_once() {
    let mut bench = Bench::new(5, 100);
    for got in &mut bench.peers.got {
        got.clear();
    }
    bench.exchange.other_tally.sent = 0;
    let before = bench.exchange.total();
    let frames = [frame(MacAddr::BROADCAST, 2, 1), frame(mac(4), 2, 2)];
    bench.exchange.forward(
        PortId::from_slot(2),
        frames.iter().map(Vec::as_slice),
        MS,
        &mut bench.peers,
        &mut Nobody,
    );
    let counts: Vec<_> = bench.peers.got.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1, 0, 1, 2]);
    assert_eq!(
        bench.peers.got[4], frames,
        "in the order in which they came"
    );
    let total = bench.exchange.total();
    assert_eq!(total.received - before.received, 2);
    assert_eq!(total.copies - before.copies, 3);
    assert_eq!(total.sent - before.sent, 5);
}

#[test]
fn who_sends_to_a_full_port_waits_and_nothing_is_lost() {
    let mut bench = Bench::new(3, 10);
    bench.send(0, mac(1), 64);
    assert!(!bench.may_send(0));
    assert!(bench.may_send(2));
    assert_eq!(bench.exchange.deadline(), Some(WAIT));
    bench.read(1, 1000);
    assert_eq!(bench.exchange.take_resumed(), Some(Bench::port(0)));
    assert!(bench.may_send(0));
    assert_eq!(bench.exchange.waiting(), 0);
    assert_eq!(
        bench.exchange.total().all_dropped(),
        3,
        "what each sent to itself"
    );
    // In order.
    assert!(bench.peers.got[1].is_sorted_by_key(|frame| frame[14..].to_vec()));
}

#[test]
fn a_deaf_port_loses_its_own_and_holds_nobody_up_again() {
    let mut bench = Bench::new(3, 10);
    bench.send(0, mac(1), 64);
    let mut waits = 0;
    while bench.exchange.deaf() == 0 {
        assert!(!bench.may_send(0));
        bench.wait(WAIT);
        assert_eq!(bench.exchange.take_resumed(), Some(Bench::port(0)));
        waits += 1;
        if bench.exchange.deaf() == 0 {
            let turn = bench.exchange.turn(Bench::port(0));
            bench.send(0, mac(1), turn);
        }
    }
    assert!(waits < 20, "waited {waits} times");
    let lost = bench.exchange.tally(Bench::port(1)).dropped(Drop::Full);
    assert_eq!(lost, 0);
    for _ in 0..10 {
        bench.send(0, mac(1), 64);
        assert!(bench.may_send(0));
    }
    assert_eq!(bench.exchange.waiting(), QUEUE as u64);
    assert!(bench.exchange.tally(Bench::port(1)).dropped(Drop::Full) > 0);
    assert_eq!(bench.exchange.tally(Bench::port(0)).all_dropped(), 1);
    // It hears again.
    bench.read(1, 1000);
    assert_eq!(bench.exchange.deaf(), 0);
    assert_eq!(bench.exchange.waiting(), 0);
    bench.peers.room[1] = 0;
    bench.send(0, mac(1), 64);
    assert!(!bench.may_send(0));
}

#[test]
fn who_hears_again_while_he_is_flooded_is_waited_for() {
    let mut bench = Bench::new(2, 0);
    for _ in 0..10 {
        bench.send(0, mac(1), 64);
        bench.wait(WAIT);
    }
    assert_eq!(bench.exchange.deaf(), 1);
    while bench.exchange.deaf() == 1 {
        let taken = bench.exchange.tally(Bench::port(1)).sent;
        assert!(taken < 2 * CROWDED as u64);
        bench.send(0, mac(1), 64);
        bench.read(1, 11);
    }
    bench.send(0, mac(1), 64);
    assert!(!bench.may_send(0));
}

#[test]
fn a_slow_reader_loses_nothing() {
    let mut bench = Bench::new(2, 5);
    let before = bench.exchange.total().all_dropped();
    for _ in 0..2000 {
        if bench.may_send(0) {
            let turn = bench.exchange.turn(Bench::port(0));
            bench.send(0, mac(1), turn);
        }
        bench.read(1, 1);
        bench.wait(MS * 4);
    }
    assert_eq!(bench.exchange.total().all_dropped(), before);
}

#[test]
fn who_floods_waits_only_for_most() {
    let mut bench = Bench::new(6, 0);
    for port in 1..3 {
        bench.peers.room[port] = 10_000;
    }
    // Three of five others have no room.
    bench.send(0, MacAddr::BROADCAST, 64);
    assert!(!bench.may_send(0));
    bench.read(3, 1000);
    assert!(bench.may_send(0));
    bench.peers.room[3] = 0;
    bench.send(0, MacAddr::BROADCAST, 64);
    bench.read(4, 40);
    assert!(!bench.may_send(0));
    for _ in 0..30 {
        bench.wait(WAIT);
        assert!(bench.may_send(0));
        let turn = bench.exchange.turn(Bench::port(0));
        bench.send(0, MacAddr::BROADCAST, turn.min(STEP));
        // This one takes frames, slowly.
        bench.read(4, turn);
    }
    assert!(bench.exchange.deaf() > 0, "the stuck ones");
    assert_eq!(bench.exchange.tally(Bench::port(4)).dropped(Drop::Full), 0);
}

#[test]
fn who_floods_waits_for_one_that_reads() {
    let mut bench = Bench::new(6, 100_000);
    let before = bench.exchange.total().all_dropped();
    bench.peers.room[5] = 0;
    for _ in 0..1000 {
        if bench.may_send(0) {
            let turn = bench.exchange.turn(Bench::port(0));
            bench.send(0, MacAddr::BROADCAST, turn);
        }
        bench.read(5, 5);
        bench.wait(MS * 4);
    }
    assert_eq!(bench.exchange.total().all_dropped(), before);
    let got = bench.peers.got[5].len();
    assert!(got > 4000, "{got}");
}

#[test]
fn who_reads_slowly_holds_no_flood_up() {
    let mut bench = Bench::new(6, 1_000_000);
    bench.peers.room[5] = 0;
    let before = bench.exchange.total().received;
    let mut paused = 0;
    for _ in 0..1000 {
        if bench.may_send(0) {
            let turn = bench.exchange.turn(Bench::port(0));
            bench.send(0, MacAddr::BROADCAST, turn);
        } else {
            paused += 1;
        }
        bench.read(5, 1);
        bench.wait(MS * 4);
    }
    assert!(paused < 10, "{paused}");
    assert!(bench.exchange.total().received - before > 60_000);
    let slow = bench.exchange.tally(Bench::port(5)).dropped(Drop::Full);
    let all = bench.exchange.total().dropped(Drop::Full);
    assert!(slow > 0 && slow == all, "{slow} {all}");
}

#[test]
fn long_frames_for_some_take_no_room_from_others() {
    const LENGTH: usize = 60_000;
    let mut bench = Bench::new(9, 64);
    bench.peers.room[1..7].fill(0);
    for deaf in 1..7 {
        for _ in 0..10 {
            bench.send_long(0, mac(deaf), 64, LENGTH);
            bench.wait(WAIT);
        }
    }
    assert!(bench.exchange.store.bytes() + LENGTH > store::MAX_BYTES);
    bench.peers.room[8] = 0;
    bench.send(7, mac(8), 64);
    assert_eq!(bench.exchange.lanes[8].queue.len(), 64);
    // They share what there is.
    let lanes = &bench.exchange.lanes[1..7];
    let most = lanes.iter().map(|lane| lane.bytes).max().unwrap();
    let least = lanes.iter().map(|lane| lane.bytes).min().unwrap();
    assert!(least > 0 && most <= store::MAX_BYTES / 2, "{least} {most}");
}

#[test]
fn a_gone_port_is_told_once_and_frees_who_waits() {
    let mut bench = Bench::new(3, 0);
    bench.send(0, mac(1), 64);
    assert!(!bench.may_send(0));
    bench.exchange.remove_port(Bench::port(1));
    bench.check();
    assert!(bench.may_send(0));
    bench.peers.dead = Some(Bench::port(2));
    bench.exchange.writable(Bench::port(2), &mut bench.peers);
    bench.send(0, mac(2), 2);
    bench.send(0, mac(2), 2);
    assert_eq!(bench.exchange.take_gone(), Some(Bench::port(2)));
    assert_eq!(bench.exchange.take_gone(), None);
}

#[test]
fn a_refused_frame_doesnt_stop_the_ones_behind_it() {
    let mut bench = Bench::new(2, 100);
    bench.peers.refuse = Some(Bench::port(1));
    bench.send(0, mac(1), 3);
    assert_eq!(
        bench.exchange.tally(Bench::port(1)).dropped(Drop::Refused),
        3
    );
    assert!(!bench.exchange.is_blocked(Bench::port(1)));
}

#[derive(Debug, Clone)]
enum Step {
    Plug(usize),
    Unplug(usize),
    Send {
        from: usize,
        to: Option<u32>,
        count: usize,
    },
    Runt(usize),
    Read(usize, usize),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0_usize..40).prop_map(Step::Plug),
        1 => any::<usize>().prop_map(Step::Unplug),
        8 => (any::<usize>(), proptest::option::of(0_u32..8), 1_usize..=MAX_BATCH)
            .prop_map(|(from, to, count)| Step::Send { from, to, count }),
        1 => any::<usize>().prop_map(Step::Runt),
        6 => (any::<usize>(), 0_usize..100).prop_map(|(port, count)| Step::Read(port, count)),
        3 => (0_u32..8).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: in + copies = out + dropped + waiting, and each port gets what it gets in
    /// the order in which its sender sent it.
    #[test]
    fn nothing_is_lost_uncounted(steps in proptest::collection::vec(step(), 0..120)) {
        let mut bench = Bench::new(3, 20);
        for step in steps {
            let ports: Vec<_> = bench.exchange.fabric().ports().iter().map(|p| p.index()).collect();
            let pick = |which: usize| ports.get(which % ports.len().max(1)).copied();
            match step {
                Step::Plug(room) if ports.len() < 8 => {
                    let port = bench.plug(room);
                    bench.send(port.index(), mac(port.slot()), 1);
                }
                Step::Unplug(which) => {
                    if let Some(port) = pick(which) {
                        bench.exchange.remove_port(Bench::port(port));
                        bench.check();
                    }
                }
                Step::Send { from, to, count } => {
                    if let Some(from) = pick(from) {
                        bench.send(from, to.map_or(MacAddr::BROADCAST, mac), count);
                    }
                }
                Step::Runt(from) => {
                    if let Some(from) = pick(from) {
                        let short: [&[u8]; 2] = [b"", b"thirteen byte"];
                        let Bench { exchange, peers, now, .. } = &mut bench;
                        exchange.forward(Bench::port(from), short, *now, peers, &mut Nobody);
                        bench.check();
                    }
                }
                Step::Read(which, count) => {
                    if let Some(port) = pick(which) {
                        bench.read(port, count);
                    }
                }
                Step::Wait(time) => bench.wait(MS * time),
                Step::Plug(_) => {}
            }
            while bench.exchange.take_resumed().is_some() {}
        }
        bench.wait(WAIT);
        for port in bench.exchange.fabric().ports().to_vec() {
            if !bench.may_send(port.index()) {
                bench.wait(WAIT);
            }
            prop_assert!(bench.may_send(port.index()), "somebody waits for ever");
        }
    }
}
