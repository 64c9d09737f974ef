//! Frames under load: nothing is lost for who reads, nobody is held up by who doesn't.

use std::thread;

use testkit::switch::{Plug, frame, station};

use crate::{Lab, broadcast, say_hello};

/// On a loaded machine a reader may not run for longer than senders wait by default.
const PATIENT: [&str; 2] = ["--flow-wait", "5000"];

/// Long enough for a reader to get its turn on a loaded machine, and short enough to wait for those
/// that never read until they count as deaf: a reader loses frames when it takes none for some
/// eight times that long.
const FAIR: [&str; 2] = ["--flow-wait", "200"];

/// The same for who reads broadcasts: those are lost when it takes next to none for four times that
/// long.
const FAIR_TO_ALL: [&str; 2] = ["--flow-wait", "400"];

/// A frame with a number in it.
fn numbered(destination: u8, source: u8, number: u32, length: usize) -> Vec<u8> {
    let mut bytes = frame(station(destination), station(source), &number.to_be_bytes());
    bytes.resize(length, 0);
    bytes
}

/// Reads that many numbered frames, all of them and in order.
#[track_caller]
fn read_all(guest: &Plug, count: u32) {
    for number in 0..count {
        let got = guest.recv();
        assert_eq!(got[14..18], number.to_be_bytes(), "frame {number}");
    }
}

#[test]
fn a_flood_loses_nothing_and_keeps_its_order() {
    const COUNT: u32 = 20_000;
    let lab = Lab::new(&PATIENT);
    let (sender, receiver) = (lab.plug(), lab.plug());
    say_hello(&receiver, 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                sender.send(&numbered(2, 1, number, 60));
            }
        });
        read_all(&receiver, COUNT);
    });
}

#[test]
fn floods_in_both_directions_lose_nothing() {
    const COUNT: u32 = 5000;
    let lab = Lab::new(&PATIENT);
    let (one, other) = (lab.plug(), lab.plug());
    say_hello(&one, 1);
    say_hello(&other, 2);
    thread::scope(|scope| {
        for (guest, own, others) in [(&one, 1, 2), (&other, 2, 1)] {
            scope.spawn(move || {
                for number in 0..COUNT {
                    guest.send(&numbered(others, own, number, 1514));
                }
            });
            scope.spawn(move || read_all(guest, COUNT));
        }
    });
}

#[test]
fn broadcasts_reach_all_who_read_while_some_are_deaf() {
    const COUNT: u32 = 3000;
    let lab = Lab::new(&FAIR_TO_ALL);
    let deaf: Vec<_> = (0..9).map(|_| lab.plug()).collect();
    let (sender, receiver) = (lab.plug(), lab.plug());
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                let mut bytes = broadcast(1, &number.to_be_bytes());
                bytes.resize(1514, 0);
                sender.send(&bytes);
            }
        });
        read_all(&receiver, COUNT);
    });
    drop(deaf);
}

#[test]
fn a_deaf_guest_holds_nobody_up() {
    const COUNT: u32 = 2000;
    let lab = Lab::new(&FAIR);
    let (sender, deaf, receiver) = (lab.plug(), lab.plug(), lab.plug());
    say_hello(&deaf, 3);
    say_hello(&receiver, 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                sender.send(&numbered(3, 1, number, 60));
                sender.send(&numbered(2, 1, number, 60));
            }
        });
        read_all(&receiver, COUNT);
    });
    // What it does get is a run from the start, as far as its queues went.
    for number in 0..200_u32 {
        assert_eq!(deaf.recv()[14..18], number.to_be_bytes());
    }
}

#[test]
fn long_frames_pass_whole_and_short_ones_not_at_all() {
    let lab = Lab::new(&[]);
    let (one, other) = (lab.plug(), lab.plug());
    say_hello(&other, 2);
    for length in 0..14 {
        one.send(&broadcast(1, b"")[..length]);
    }
    for length in [14, 60, 1514, 1515, 1518, 9014, 65_535] {
        let mut bytes = frame(station(2), station(1), &[]);
        bytes.resize(length, 0x5a);
        one.send(&bytes);
        assert_eq!(other.recv(), bytes, "{length} bytes, and none before");
    }
    let giant = vec![0xff; 65_536];
    one.send(&giant);
    let last = frame(station(2), station(1), b"after the giant");
    one.send(&last);
    assert_eq!(other.recv(), last);
}

#[test]
fn counts_are_told_on_request() {
    let mut lab = Lab::new(&[]);
    let (one, other) = (lab.plug(), lab.plug());
    one.send(&broadcast(1, b"x"));
    one.send(b"runt");
    let _ = other.recv();
    one.send(&frame(station(1), station(1), b""));
    one.send(&broadcast(1, b"y"));
    let _ = other.recv();
    lab.switch.signal(nix::sys::signal::Signal::SIGUSR1);
    lab.switch.wait_for(
        "2 ports, 1 addresses, frames: 4 in, 0 copies, 2 out, 2 dropped \
         (1 too short, 1 for the sender's own port), 0 waiting",
    );
}

#[test]
fn a_flood_of_addresses_pushes_nobody_else_out() {
    let lab = Lab::new(&["--mac-table-size", "64"]);
    let (flooder, quiet, third) = (lab.plug(), lab.plug(), lab.plug());
    quiet.send(&broadcast(1, b"here"));
    assert_eq!(flooder.recv(), broadcast(1, b"here"));
    assert_eq!(third.recv(), broadcast(1, b"here"));
    for number in 0..2000_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        flooder.send(&frame(station(1), [2, 1, 1, 1, high, low], b"flood"));
        let _ = quiet.recv();
    }
    flooder.send(&broadcast(9, b"the end"));
    assert_eq!(
        third.recv(),
        broadcast(9, b"the end"),
        "none of the flood before"
    );
}
