//! Names, padding, sockets that are not the guest's: the corners of a request.

use std::{io::Write as _, os::unix::net::UnixListener, path::Path};

use testkit::switch::{
    ADDRESS_LEN, Plug, Switch, Version, bind, connect, frame, fresh_address, path_address, request,
    station, wait_for_close,
};

use crate::{BINARY, Lab, broadcast};

/// Sends a request and waits for the switch to refuse it.
#[track_caller]
fn refused(lab: &Lab, address: &[u8; ADDRESS_LEN]) {
    let mut stream = connect(&lab.control());
    stream.write_all(&request(Version::V3, 0, address)).unwrap();
    wait_for_close(&mut stream);
}

#[test]
fn all_bytes_of_a_name_count() {
    let lab = Lab::new(&[]);
    let mut addresses = [fresh_address(); 3];
    // The last byte of 110, which tools that trim names never see, and a NUL in the midst.
    addresses[1][ADDRESS_LEN - 1] = 0;
    addresses[2][20] = 0;
    let guests: Vec<_> = addresses
        .iter()
        .map(|address| {
            let wanted = request(Version::V3, 0, address);
            Plug::ask(&lab.control(), bind(address), &wanted)
        })
        .collect();
    for (number, guest) in (0..).zip(&guests) {
        guest.send(&broadcast(number, b"here"));
        for other in guests.iter().filter(|other| !std::ptr::eq(*other, guest)) {
            assert_eq!(other.recv(), broadcast(number, b"here"));
        }
    }
    guests[0].send(&frame(station(2), station(0), b"for the third"));
    assert_eq!(
        guests[2].recv(),
        frame(station(2), station(0), b"for the third")
    );
    assert!(!guests[1].has_frame());
}

#[test]
fn padding_may_come_late() {
    let lab = Lab::new(&[]);
    let address = fresh_address();
    let wanted = request(Version::V3, 0, &address);
    let (own, padding) = wanted.split_at(122);
    let mut guest = Plug::ask(&lab.control(), bind(&address), own);
    guest.control.write_all(padding).unwrap();
    let other = lab.plug();
    guest.send(&broadcast(1, b"plugged in"));
    assert_eq!(other.recv(), broadcast(1, b"plugged in"));
    other.send(&broadcast(2, b"still"));
    assert_eq!(guest.recv(), broadcast(2, b"still"));
}

#[test]
fn the_switch_cannot_be_aimed_at_itself() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-compat-v0", "-unix", "ctl", "data", "-bess", "bess"];
    let switch = Switch::start(Path::new(BINARY), dir.path(), &args);
    let lab = Lab { switch, dir };
    let victim = lab.plug();
    refused(&lab, &victim.reply.unwrap());
    refused(&lab, &path_address(&lab.control()));
    refused(&lab, &path_address(&lab.path("bess")));
    // The shared data socket takes datagrams from anybody: what a port sends there is nobody's, and
    // doesn't go round.
    let data = path_address(&lab.path("data"));
    let mut ring = connect(&lab.control());
    ring.write_all(&request(Version::V3, 0, &data)).unwrap();
    let other = lab.plug();
    for _ in 0..100 {
        other.send(&broadcast(1, b"round"));
        assert_eq!(victim.recv(), broadcast(1, b"round"));
    }
    assert!(!victim.has_frame() && !other.has_frame());
    // A guest of version 0 under another guest's name gets nothing of what is not its own.
    let address = fresh_address();
    let guest = Plug::ask(
        &lab.control(),
        bind(&address),
        &request(Version::V3, 0, &address),
    );
    let mut twin = connect(&lab.control());
    twin.write_all(&request(Version::V0, 0, &address)).unwrap();
    other.send(&broadcast(1, b"once"));
    assert_eq!(guest.recv(), broadcast(1, b"once"));
    drop(twin);
    lab.works();
}

#[test]
fn a_data_socket_of_another_kind_is_refused() {
    let lab = Lab::new(&[]);
    let path = lab.path("stream");
    let _stream = UnixListener::bind(&path).unwrap();
    refused(&lab, &path_address(&path));
    refused(&lab, &fresh_address());
    let mut nothing = [0; ADDRESS_LEN];
    nothing[0] = 1;
    refused(&lab, &nothing);
    lab.works();
}

#[test]
fn what_a_client_writes_into_the_log_is_harmless() {
    let mut lab = Lab::new(&["-v", "-vde", "net"]);
    let address = fresh_address();
    let mut wanted = request(Version::V3, 0, &address);
    wanted.truncate(122);
    wanted.extend(b"\x1b[2Jclear\nCaught signal 9\r\0rest");
    let _guest = Plug::ask(&lab.path("net/ctl"), bind(&address), &wanted);
    lab.switch.wait_for("clear");
    let log = lab.switch.log();
    assert!(!log.contains('\x1b') && !log.contains("\nCaught"), "{log}");
    // Nor with the path of the socket that frames are to go to.
    let nowhere = path_address(&lab.path("\x1b[2J\nCaught signal 9"));
    refused(&lab, &nowhere);
    let said = lab.switch.errors();
    assert!(said.contains("a guest is refused"), "{said}");
    assert!(
        !said.contains('\x1b') && !said.contains("\nCaught"),
        "{said}"
    );
}
