//! The other kinds of links: packets (BESS), VDE, inherited descriptors; all in one fabric.

use std::{
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    socketpair, sockopt,
};
use testkit::{
    PATIENCE,
    bins::installed,
    switch::{self, Plug, Switch, Version, frame, fresh_address, request, station},
    until,
};

use crate::{BINARY, Lab, broadcast, say_hello};

/// A guest's end of a connection of packets.
pub(crate) fn packets(path: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let end = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    connect(end.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    limit(&end);
    end
}

fn limit(end: &OwnedFd) {
    let time = nix::sys::time::TimeVal::new(i64::try_from(PATIENCE.as_secs()).unwrap(), 0);
    setsockopt(end, sockopt::ReceiveTimeout, &time).unwrap();
}

#[track_caller]
pub(crate) fn put(end: &OwnedFd, bytes: &[u8]) {
    send(end.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
}

#[track_caller]
pub(crate) fn get(end: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 17];
    let received =
        switch::uninterrupted(|| Ok(recv(end.as_raw_fd(), &mut bytes, MsgFlags::empty())?));
    let length = received.unwrap();
    bytes.truncate(length);
    bytes
}

#[test]
fn packets_are_frames() {
    let mut lab = Lab::new(&["-bess", "bess", "-bess", "more"]);
    let daemon = lab.plug();
    let (one, other) = (packets(&lab.path("bess")), packets(&lab.path("more")));
    lab.switch.wait_for_times("New connection", 3);
    put(&one, &broadcast(1, b"hello"));
    assert_eq!(daemon.recv(), broadcast(1, b"hello"));
    assert_eq!(get(&other), broadcast(1, b"hello"));
    let mut long = frame(station(1), station(2), &[]);
    long.resize(65_535, 7);
    put(&other, &long);
    assert_eq!(get(&one), long);
    // An empty packet is no end, and goes nowhere.
    put(&one, b"");
    put(&one, b"runt");
    put(&one, &broadcast(1, b"again"));
    assert_eq!(get(&other), broadcast(1, b"again"));
    assert_eq!(daemon.recv(), broadcast(1, b"again"));
    // What was sent before the end still arrives.
    put(&one, &broadcast(1, b"last"));
    drop(one);
    assert_eq!(get(&other), broadcast(1, b"last"));
    lab.switch.wait_for("Disconnect");
    daemon.send(&broadcast(9, b"to who is left"));
    assert_eq!(get(&other), broadcast(9, b"to who is left"));
}

#[test]
fn a_packet_guest_that_comes_back_is_a_new_port() {
    let mut lab = Lab::new(&["-bess", "bess"]);
    let daemon = lab.plug();
    for round in 1..=20 {
        let guest = packets(&lab.path("bess"));
        lab.switch.wait_for_times("New connection", round + 1);
        daemon.send(&broadcast(9, b"welcome"));
        assert_eq!(get(&guest), broadcast(9, b"welcome"));
        drop(guest);
        lab.switch.wait_for_times("Disconnect", round);
    }
}

/// Plugs in as VDE's clients do.
fn vde(control: &Path, kind: u32, text: &[u8]) -> Plug {
    let address = fresh_address();
    let data = switch::bind(&address);
    let mut wanted = request(Version::V3, kind, &address);
    wanted.truncate(122);
    wanted.extend(text);
    let plug = Plug::ask(control, data, &wanted);
    plug.data.connect_addr(&plug.switch).unwrap();
    plug
}

#[test]
fn vde_clients_plug_in_with_text_and_a_wish() {
    let mut lab = Lab::new(&["-v", "-vde", "net"]);
    let control = lab.path("net/ctl");
    let one = vde(&control, 0, b"client: user=me\0");
    lab.switch.wait_for("client: user=me");
    let other = vde(&control, 7 << 8, b"");
    lab.switch.wait_for("Port 7:");
    let taken = vde(&control, 7 << 8, b"");
    lab.switch.wait_for("Port 8:");
    let zero = vde(&control, 1, b"");
    let daemon = lab.plug();
    for (sender, source) in [(&one, 1), (&daemon, 2)] {
        sender.send(&broadcast(source, b"hello"));
        for receiver in [&one, &other, &taken, &zero, &daemon] {
            if !std::ptr::eq(sender, receiver) {
                assert_eq!(receiver.recv(), broadcast(source, b"hello"));
            }
        }
    }
    lab.switch.stop(nix::sys::signal::Signal::SIGTERM);
    assert!(!control.exists());
}

#[test]
fn vde_plug_of_debian_plugs_in() {
    let mut lab = Lab::new(&["-vde", "net"]);
    let daemon = lab.plug();
    let mut plug = Command::new(installed("vde_plug", "vde2"))
        .arg(lab.path("net"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = plug.stdin.take().unwrap();
    let mut output = plug.stdout.take().unwrap();
    lab.switch.wait_for_times("New connection", 2);
    // A frame on its pipes has its length before it, two bytes, the higher first.
    let framed = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[..], bytes].concat()
    };
    let hello = broadcast(1, &[0x11; 100]);
    input.write_all(&framed(&hello)).unwrap();
    input.flush().unwrap();
    assert_eq!(daemon.recv(), hello);
    let answer = frame(station(1), station(2), &[0x22; 1500]);
    daemon.send(&answer);
    let mut got = vec![0; framed(&answer).len()];
    output.read_exact(&mut got).unwrap();
    assert_eq!(got, framed(&answer));
    plug.kill().unwrap();
    plug.wait().unwrap();
    lab.switch.wait_for("Disconnect");
}

/// A switch that gets this socket as descriptor 3.
fn with_descriptor(dir: &Path, end: OwnedFd, args: &str) -> Switch {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("exec {BINARY} -unix ctl {args} 3<&0 </dev/null"),
    ]);
    let mut switch = Switch::launch(dir, command, end.into());
    switch.wait_for("attached to");
    switch
}

#[test]
fn inherited_sockets_are_ports() {
    for kind in [SockType::Datagram, SockType::SeqPacket] {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        limit(&here);
        let switch = with_descriptor(dir.path(), there, "--fd 3");
        let daemon = Plug::new(&dir.path().join("ctl"), Version::V3);
        put(&here, &broadcast(1, b"hello"));
        assert_eq!(daemon.recv(), broadcast(1, b"hello"));
        daemon.send(&broadcast(2, b"answer"));
        assert_eq!(get(&here), broadcast(2, b"answer"));
        drop(here);
        until("the port to go", || {
            // Again and again: a child of another test may have the socket too, until it runs.
            daemon.send(&broadcast(2, b"to nobody"));
            switch.log().contains("Disconnect").then_some(())
        });
    }
}

#[test]
fn a_port_that_is_no_guest_may_go_before_the_first_guest_comes() {
    let dir = tempfile::tempdir().unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let (here, there) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let mut switch = with_descriptor(dir.path(), there, "--fd 3 --ports 2");
    drop(here);
    switch.wait_for("Disconnect");
    let lab = Lab { switch, dir };
    // It isn't counted as a guest, nor is its place.
    lab.works();
}

#[test]
fn descriptors_that_are_no_sockets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (args, words) in [
        ("--fd 3 3</dev/null", "Socket operation on non-socket"),
        ("--fd 3 3<&-", "Bad file descriptor"),
        // Nothing that the switch has opened itself is taken for it.
        ("--fd 3 -daemon 3<&-", "Bad file descriptor"),
        ("--fd 3 --syslog 3<&-", "Bad file descriptor"),
    ] {
        let mut command = Command::new("sh");
        command
            .current_dir(dir.path())
            .args(["-c", &format!("exec {BINARY} -unix ctl {args}")]);
        let said = testkit::cmd::run(&mut command);
        assert_eq!(said.code(), 1, "{args}");
        let words = format!("descriptor 3: {words}");
        assert!(said.err().contains(&words), "{args}: {}", said.err());
        assert!(!dir.path().join("ctl").exists());
    }
}

#[test]
fn a_descriptor_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let (_here, there) = UnixDatagram::pair().unwrap();
    let mut command = Command::new("sh");
    let script = format!("exec {BINARY} -unix ctl --fd 3 --fd 3 3<&0 </dev/null");
    command.args(["-c", &script]);
    let mut switch = Switch::launch(dir.path(), command, OwnedFd::from(there).into());
    assert_eq!(switch.wait(), 1);
    assert_eq!(switch.errors(), "descriptor 3: it is named twice\n");
    assert!(!dir.path().join("ctl").exists());
}

#[test]
fn guests_of_version_0_share_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-compat-v0", "-unix", "ctl", "data"];
    let mut switch = Switch::start(Path::new(BINARY), dir.path(), &args);
    let at = |name: &str| dir.path().join(name);
    let one = Plug::v0(&at("ctl"), &at("data"));
    switch.wait_for_times("New connection", 1);
    let other = Plug::v0(&at("ctl"), &at("data"));
    switch.wait_for_times("New connection", 2);
    let new = Plug::new(&at("ctl"), Version::V3);
    one.send(&broadcast(1, b"hello"));
    assert_eq!(other.recv(), broadcast(1, b"hello"));
    assert_eq!(new.recv(), broadcast(1, b"hello"));
    say_hello(&other, 2);
    say_hello(&new, 3);
    crate::exchange(&one, 1, &other, 2, b"known");
    crate::exchange(&new, 3, &one, 1, b"to the old one");
    let stranger = UnixDatagram::unbound().unwrap();
    stranger
        .send_to(&broadcast(9, b"forged"), at("data"))
        .unwrap();
    switch.wait_for("Unknown connection for packet");
    assert!(!other.has_frame());
    drop(one);
    switch.wait_for("Disconnect");
    other.send(&broadcast(2, b"left"));
    assert_eq!(new.recv(), broadcast(2, b"left"));
}

#[test]
fn two_switches_are_joined_by_debians_dpipe() {
    let mut labs = [Lab::new(&["-vde", "net"]), Lab::new(&["-vde", "net"])];
    let plug = installed("vde_plug", "vde2");
    let mut dpipe = Command::new(installed("dpipe", "vde2"));
    dpipe
        .arg(&plug)
        .arg(labs[0].path("net"))
        .arg("=")
        .arg(&plug)
        .arg(labs[1].path("net"));
    let cable = Switch::launch(Path::new("/"), dpipe, Stdio::null());
    for lab in &mut labs {
        lab.switch.wait_for("New connection");
    }
    let (here, there) = (labs[0].plug(), labs[1].plug());
    for number in 0..200_u8 {
        here.send(&frame(station(2), station(1), &[number; 1000]));
        assert_eq!(there.recv(), frame(station(2), station(1), &[number; 1000]));
        there.send(&frame(station(1), station(2), &[number; 60]));
        assert_eq!(here.recv(), frame(station(1), station(2), &[number; 60]));
    }
    drop(cable);
    for lab in &mut labs {
        lab.switch.wait_for("Disconnect");
        lab.works();
    }
}

#[test]
fn a_broadcast_reaches_two_hundred_guests_once() {
    let lab = Lab::new(&["-bess", "bess"]);
    let sender = lab.plug();
    let daemons: Vec<_> = (0..100).map(|_| lab.plug()).collect();
    let besses: Vec<_> = (0..100).map(|_| packets(&lab.path("bess"))).collect();
    // A connection is a port as soon as the switch has taken it: the last one's frame says so.
    put(&besses[99], &broadcast(2, b"all are in"));
    assert_eq!(sender.recv(), broadcast(2, b"all are in"));
    for payload in [b"all are in", b"once      ", b"and again "] {
        if payload != b"all are in" {
            sender.send(&broadcast(1, payload));
        }
        let source = if payload == b"all are in" { 2 } else { 1 };
        for daemon in &daemons {
            assert_eq!(daemon.recv(), broadcast(source, payload));
        }
        for bess in besses.iter().take(if source == 2 { 99 } else { 100 }) {
            assert_eq!(get(bess), broadcast(source, payload));
        }
    }
    assert!(!sender.has_frame());
}
