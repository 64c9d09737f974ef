//! Guests that go: at any moment, in crowds, with frames on their way.

use std::{fs, net::Shutdown, os::fd::AsRawFd as _, thread};

use nix::sys::{
    signal::Signal,
    socket::{MsgFlags, Shutdown as Ends, recv, send, shutdown},
};
use testkit::{
    switch::{BROADCAST, Plug, Switch, Version, frame, station},
    until,
};

use crate::{
    Lab, broadcast,
    links::{get, packets, put},
};

#[test]
fn a_guest_may_close_its_writing_end_first() {
    let mut lab = Lab::new(&[]);
    let guest = lab.plug();
    guest.control.shutdown(Shutdown::Write).unwrap();
    lab.switch.wait_for("Disconnect");
    lab.works();
}

#[test]
fn what_a_guest_sent_before_it_went_arrives() {
    const COUNT: u8 = 200;
    let mut lab = Lab::new(&["--flow-wait", "10000"]);
    let (guest, other) = (lab.plug(), lab.plug());
    other.send(&frame(station(2), station(2), b"here"));
    lab.switch.wait_for("02:00:00:00:00:02");
    lab.switch.freeze();
    for number in 0..COUNT {
        guest.send(&frame(station(2), station(1), &[number]));
    }
    drop(guest);
    lab.switch.signal(Signal::SIGCONT);
    for number in 0..COUNT {
        assert_eq!(other.recv(), frame(station(2), station(1), &[number]));
    }
}

#[test]
fn what_a_bess_guest_sent_before_it_went_with_frames_unread_arrives() {
    const COUNT: u8 = 100;
    let mut lab = Lab::new(&["-bess", "bess"]);
    let other = lab.plug();
    let guest = packets(&lab.path("bess"));
    lab.switch.wait_for_times("New connection", 2);
    other.send(&broadcast(2, b"unread"));
    until("a frame for the guest", || {
        let peeked = recv(guest.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
        peeked.ok()
    });
    lab.switch.freeze();
    for number in 0..COUNT {
        put(&guest, &broadcast(1, &[number]));
    }
    drop(guest);
    lab.switch.signal(Signal::SIGCONT);
    for number in 0..COUNT {
        assert_eq!(other.recv(), broadcast(1, &[number]));
    }
    lab.switch.wait_for("Disconnect");
    lab.works();
}

#[test]
fn bess_guests_go_without_a_frame() {
    let mut lab = Lab::new(&["-bess", "bess"]);
    drop(packets(&lab.path("bess")));
    lab.switch.wait_for_times("Disconnect", 1);
    let half = packets(&lab.path("bess"));
    shutdown(half.as_raw_fd(), Ends::Write).unwrap();
    lab.switch.wait_for_times("Disconnect", 2);
    let full = packets(&lab.path("bess"));
    shutdown(full.as_raw_fd(), Ends::Both).unwrap();
    lab.switch.wait_for_times("Disconnect", 3);
    // With frames that nobody has read.
    let deaf = packets(&lab.path("bess"));
    lab.switch.wait_for_times("New connection", 4);
    let (sender, other) = (lab.plug(), lab.plug());
    for _ in 0..200 {
        sender.send(&broadcast(1, &[0x55; 1000]));
        let _ = other.recv();
    }
    drop(deaf);
    lab.switch.wait_for_times("Disconnect", 4);
    lab.works();
}

#[test]
fn the_end_of_a_connection_counts_as_no_frame() {
    let mut lab = Lab::new(&["-bess", "bess"]);
    let other = lab.plug();
    for number in 0..50_u8 {
        let guest = packets(&lab.path("bess"));
        put(&guest, b"");
        put(&guest, &broadcast(1, &[number]));
        drop(guest);
        assert_eq!(other.recv(), broadcast(1, &[number]));
        // The next one's frame must not go to this one too.
        lab.switch
            .wait_for_times("Disconnect", usize::from(number) + 1);
    }
    lab.switch.signal(Signal::SIGUSR1);
    lab.switch
        .wait_for("frames: 100 in, 0 copies, 50 out, 50 dropped (50 too short), 0 waiting");
}

#[test]
fn empty_and_short_packets_are_no_end() {
    let mut lab = Lab::new(&["-bess", "bess"]);
    let (guest, other) = (packets(&lab.path("bess")), packets(&lab.path("bess")));
    lab.switch.wait_for_times("New connection", 2);
    for _ in 0..100 {
        put(&guest, b"");
        put(&guest, b"short");
        put(&guest, &broadcast(1, b"whole"));
        assert_eq!(get(&other), broadcast(1, b"whole"));
    }
    // The last thing that is sent counts, an end right behind it or not.
    put(&guest, &broadcast(1, b"last"));
    drop(guest);
    assert_eq!(get(&other), broadcast(1, b"last"));
    let giant = broadcast(2, &vec![0x88; 65_000]);
    let third = packets(&lab.path("bess"));
    put(&third, &giant);
    assert_eq!(get(&other), giant);
}

#[test]
fn a_storm_of_guests_leaves_nothing_behind() {
    const ROUNDS: u32 = 300;
    let mut lab = Lab::new(&["-bess", "bess", "--mac-table-size", "16"]);
    let descriptors = |switch: &Switch| {
        let open = fs::read_dir(format!("/proc/{}/fd", switch.pid()));
        open.unwrap().count()
    };
    let before = descriptors(&lab.switch);
    let (control, bess) = (lab.control(), lab.path("bess"));
    let storm = |seed: u32| {
        // A generator of numbers that look random and are the same in each run.
        let mut state = seed;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..ROUNDS {
            let length = usize::try_from(next(3000)).unwrap();
            let mut bytes = frame(
                [2, 0, 0, 0, 1, u8::try_from(next(256)).unwrap()],
                [2, 0, 0, 0, 1, u8::try_from(next(256)).unwrap()],
                &vec![0x55; length],
            );
            if next(4) == 0 {
                bytes[..6].copy_from_slice(&BROADCAST);
            }
            if next(3) == 0 {
                let guest = packets(&bess);
                for _ in 0..next(20) {
                    // Nobody may read, then there is no room: that is the storm's own affair.
                    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                    let _ = send(guest.as_raw_fd(), &bytes, flags);
                }
            } else {
                let guest = Plug::new(&control, Version::V3);
                guest.data.set_nonblocking(true).unwrap();
                for _ in 0..next(20) {
                    let _ = guest.data.send_to_addr(&bytes, &guest.switch);
                }
                if next(2) == 0 {
                    drop(guest.data);
                }
            }
        }
    };
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || storm(seed));
        }
    });
    lab.works();
    until("all ports to go", || {
        (descriptors(&lab.switch) == before).then_some(())
    });
    assert_eq!(lab.switch.errors(), "");
    assert_eq!(lab.switch.stop(Signal::SIGTERM), 128 + 15);
}
