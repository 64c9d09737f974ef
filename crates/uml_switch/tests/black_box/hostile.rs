//! Clients that mean harm, or are broken.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{chown, symlink},
        net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    thread,
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use testkit::{
    PATIENCE,
    bins::installed,
    switch::{
        MAGIC, Plug, Switch, Version, bind, connect, fresh_address, path_address, request,
        wait_for_close,
    },
    until,
};

use crate::{BINARY, Lab, broadcast, exchange, say_hello};

#[test]
fn every_truncated_request_is_survived() {
    let mut lab = Lab::new(&[]);
    for version in [Version::V1, Version::V3] {
        let address = fresh_address();
        let _data = bind(&address);
        let whole = request(version, 0, &address);
        for length in 0..122 {
            connect(&lab.control()).write_all(&whole[..length]).unwrap();
        }
    }
    lab.works();
    lab.switch.wait_for_times("EOF from new port", 244);
}

#[test]
fn wrong_requests_are_closed() {
    let lab = Lab::new(&[]);
    let address = fresh_address();
    let _data = bind(&address);
    let mut wrong: Vec<Vec<u8>> = vec![
        vec![0; 124],
        vec![0xff; 124],
        request(Version::V0, 0, &address),
        request(Version::V1, 1, &address),
        request(Version::V3, 1, &address),
        request(Version::V3, 0x100, &address),
        request(Version::V3, u32::MAX, &address),
        vec![b'x'; 64 << 10],
    ];
    for version in [2_u32, 4, 77, u32::MAX] {
        let mut bytes = request(Version::V3, 0, &address);
        bytes[4..8].copy_from_slice(&version.to_ne_bytes());
        wrong.push(bytes);
    }
    let mut family = address;
    family[0] = 0x55;
    wrong.push(request(Version::V3, 0, &family));
    for bytes in wrong {
        let mut stream = connect(&lab.control());
        // It may be closed while the rest is still on its way.
        let _ = stream.write_all(&bytes);
        wait_for_close(&mut stream);
    }
    lab.works();
}

#[test]
fn a_request_may_come_in_pieces_while_others_go_on() {
    let lab = Lab::new(&[]);
    let address = fresh_address();
    let data = bind(&address);
    let whole = request(Version::V3, 0, &address);
    let mut slow = connect(&lab.control());
    for byte in &whole[..121] {
        slow.write_all(&[*byte]).unwrap();
    }
    lab.works();
    slow.write_all(&whole[121..]).unwrap();
    let mut reply = [0; 110];
    slow.read_exact(&mut reply).unwrap();
    drop(data);
}

#[test]
fn rubbish_behind_a_request_changes_nothing() {
    let mut lab = Lab::new(&[]);
    let mut noisy = lab.plug();
    noisy.control.write_all(&vec![0xa5; 64 << 10]).unwrap();
    lab.switch.wait_for("Bad request");
    let other = lab.plug();
    say_hello(&noisy, 1);
    say_hello(&other, 2);
    exchange(&noisy, 1, &other, 2, b"heard");
    exchange(&other, 2, &noisy, 1, b"and back");
}

#[test]
fn a_client_may_die_at_each_step() {
    let lab = Lab::new(&[]);
    for _ in 0..20 {
        // Connected; request sent; reply not read.
        drop(connect(&lab.control()));
        let address = fresh_address();
        let data = bind(&address);
        let mut stream = connect(&lab.control());
        stream
            .write_all(&request(Version::V3, 0, &address))
            .unwrap();
        drop(stream);
        drop(data);
        // Plugged in, with a frame on its way.
        let guest = lab.plug();
        guest.send(&broadcast(9, b"last words"));
        drop(guest);
    }
    lab.works();
}

#[test]
fn a_port_goes_as_soon_as_its_data_socket_turns_out_to_be_gone() {
    let lab = Lab::new(&[]);
    let Plug { control, data, .. } = lab.plug();
    let other = lab.plug();
    drop(data);
    until("the port to go", || {
        // Again and again: a child of another test may have the socket too, until it runs.
        other.send(&broadcast(8, b"for a grave"));
        lab.switch.log().contains("Disconnect").then_some(())
    });
    drop(control);
    lab.works();
}

#[test]
fn a_request_may_name_only_a_socket_that_its_sender_could_have_made() {
    let lab = Lab::new(&[]);
    let ask = |path: &Path| {
        let mut stream = connect(&lab.control());
        let wanted = request(Version::V3, 0, &path_address(path));
        stream.write_all(&wanted).unwrap();
        stream
    };
    let own = lab.path("own");
    let _own = UnixDatagram::bind(&own).unwrap();
    let mut reply = [0; 110];
    ask(&own).read_exact(&mut reply).unwrap();

    let other = lab.path("other");
    let victim = UnixDatagram::bind(&other).unwrap();
    chown(&other, Some(12_345), None).unwrap();
    let link = lab.path("link");
    symlink(&own, &link).unwrap();
    let file = lab.path("file");
    fs::write(&file, "").unwrap();
    for refused in [&other, &link, &file, &lab.path("nothing"), &lab.path(".")] {
        wait_for_close(&mut ask(refused));
    }
    lab.works();
    victim.set_nonblocking(true).unwrap();
    assert!(victim.recv(&mut [0; 64]).is_err(), "not a single frame");
}

#[test]
fn nobody_else_can_send_as_a_guest() {
    let lab = Lab::new(&[]);
    let (guest, other) = (lab.plug(), lab.plug());
    let stranger = UnixDatagram::unbound().unwrap();
    let sent = stranger.send_to_addr(&broadcast(3, b"forged"), &guest.switch);
    assert_eq!(
        sent.unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
    let sent = other
        .data
        .send_to_addr(&broadcast(3, b"forged"), &guest.switch);
    assert!(sent.is_err());
}

#[test]
fn ten_thousand_connections_and_a_crowd_of_silent_ones() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let lab = Lab::new(&[]);
    let control = lab.control();
    let mut first = connect(&control);
    let silent: Vec<_> = (0..1500).map(|_| connect(&control)).collect();
    // The one that has been silent longest makes room.
    wait_for_close(&mut first);
    for _ in 0..10_000 {
        drop(connect(&control));
    }
    lab.works();
    drop(silent);
    lab.works();
}

/// A switch with few descriptors in that folder.
fn poor_switch(dir: &Path) -> Switch {
    let mut command = Command::new(installed("prlimit", "util-linux"));
    command.args(["--nofile=24:24", BINARY, "-unix", "ctl"]);
    let mut switch = Switch::launch(dir, command, Stdio::null());
    switch.wait_for("attached to");
    switch
}

#[test]
fn without_descriptors_the_plugged_go_on_and_it_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = poor_switch(dir.path());
    let control = dir.path().join("ctl");
    let ask = || {
        let address = fresh_address();
        let data = bind(&address);
        let mut stream = UnixStream::connect(&control).unwrap();
        stream
            .write_all(&request(Version::V3, 0, &address))
            .unwrap();
        (stream, data)
    };
    let guests = [
        Plug::new(&control, Version::V3),
        Plug::new(&control, Version::V3),
    ];
    let crowd: Vec<_> = (0..40).map(|_| ask()).collect();
    until("a word about descriptors", || {
        switch.errors().contains("open files").then_some(())
    });
    say_hello(&guests[0], 1);
    say_hello(&guests[1], 2);
    exchange(&guests[0], 1, &guests[1], 2, b"we go on");
    drop(crowd);
    // One that comes while the crowd is still going may be refused.
    let _newcomer = until("room for a new guest", || {
        let (mut stream, data) = ask();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 110]).ok()?;
        Some((stream, data))
    });
    assert_eq!(switch.stop(Signal::SIGTERM), 128 + 15);
    assert!(!control.exists());
}

#[test]
fn a_magic_number_alone_waits_and_is_dropped_in_the_end() {
    let lab = Lab::new(&["-v"]);
    let mut halves: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = connect(&lab.control());
            stream.write_all(&MAGIC.to_ne_bytes()).unwrap();
            stream
        })
        .collect();
    lab.works();
    thread::scope(|scope| {
        for half in &mut halves {
            scope.spawn(|| wait_for_close(half));
        }
    });
    lab.works();
}
