//! Corners of the protocols: names, padding, ends of connections, the switch's own sockets, devices
//! that go, logs that nobody reads, starts at the same moment.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs::{self, File},
    io::Write as _,
    net::Shutdown,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        signal::Signal,
        socket::{
            AddressFamily, MsgFlags, Shutdown as Ends, SockFlag, SockType, UnixAddr, recv, send,
            setsockopt, shutdown, socket, sockopt,
        },
        time::TimeVal,
    },
};
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    bins::installed,
    netns::{ip, isolated},
    switch::{
        self, ADDRESS_LEN, BROADCAST, Plug, Switch, Version, bind, connect, frame, fresh_address,
        path_address, request, station, wait_for_close,
    },
    until,
};

/// How long an answer may take before the question is asked again.
const SOON: Duration = Duration::from_millis(500);

const BINARY: &str = env!("CARGO_BIN_EXE_uml_switch");

/// A folder with a switch in it.
struct Lab {
    // Stopped before its folder goes.
    switch: Switch,
    dir: TempDir,
}

impl Lab {
    fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<_> = ["-unix", "ctl"].iter().chain(args).copied().collect();
        let switch = Switch::start(Path::new(BINARY), dir.path(), &args);
        Self { switch, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> PathBuf {
        self.path("ctl")
    }

    fn plug(&self) -> Plug {
        Plug::new(&self.control(), Version::V3)
    }

    /// Two new guests reach each other: the switch is as well as ever.
    #[track_caller]
    fn works(&self) {
        let (one, other) = (self.plug(), self.plug());
        let sent = frame(BROADCAST, station(201), b"still here");
        one.send(&sent);
        while other.recv() != sent {}
    }

    /// Sends a request and waits for the switch to refuse it.
    #[track_caller]
    fn refused(&self, address: &[u8; ADDRESS_LEN]) {
        let mut stream = connect(&self.control());
        stream.write_all(&request(Version::V3, 0, address)).unwrap();
        wait_for_close(&mut stream);
    }
}

/// A guest with `vec0:transport=bess`.
struct Bess(OwnedFd);

impl Bess {
    fn new(path: &Path) -> Self {
        let kind = SockType::SeqPacket;
        let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let address = UnixAddr::new(path).unwrap();
        nix::sys::socket::connect(socket.as_raw_fd(), &address).unwrap();
        let limit = TimeVal::new(PATIENCE.as_secs().try_into().unwrap(), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit).unwrap();
        setsockopt(&socket, sockopt::SendTimeout, &limit).unwrap();
        Self(socket)
    }

    #[track_caller]
    fn send(&self, frame: &[u8]) {
        send(self.0.as_raw_fd(), frame, MsgFlags::MSG_NOSIGNAL).unwrap();
    }

    #[track_caller]
    fn recv(&self) -> Vec<u8> {
        let mut frame = vec![0; 1 << 17];
        let length = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
        frame.truncate(length);
        frame
    }
}

fn broadcast(source: u8, payload: &[u8]) -> Vec<u8> {
    frame(BROADCAST, station(source), payload)
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
    lab.switch.signal(Signal::SIGSTOP);
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
fn the_switch_cannot_be_aimed_at_itself() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-compat-v0", "-unix", "ctl", "data", "-bess", "bess"];
    let switch = Switch::start(Path::new(BINARY), dir.path(), &args);
    let lab = Lab { switch, dir };
    let victim = lab.plug();
    lab.refused(&victim.reply.unwrap());
    lab.refused(&path_address(&lab.control()));
    lab.refused(&path_address(&lab.path("bess")));
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
    lab.refused(&path_address(&path));
    lab.refused(&fresh_address());
    let mut nothing = [0; ADDRESS_LEN];
    nothing[0] = 1;
    lab.refused(&nothing);
    lab.works();
}

#[test]
fn bess_guests_go_without_a_frame() {
    let mut lab = Lab::new(&["-bess", "bess"]);
    drop(Bess::new(&lab.path("bess")));
    lab.switch.wait_for_times("Disconnect", 1);
    let half = Bess::new(&lab.path("bess"));
    shutdown(half.0.as_raw_fd(), Ends::Write).unwrap();
    lab.switch.wait_for_times("Disconnect", 2);
    let full = Bess::new(&lab.path("bess"));
    shutdown(full.0.as_raw_fd(), Ends::Both).unwrap();
    lab.switch.wait_for_times("Disconnect", 3);
    // With frames that nobody has read.
    let deaf = Bess::new(&lab.path("bess"));
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
fn empty_and_short_packets_are_no_end() {
    let lab = Lab::new(&["-bess", "bess"]);
    let (guest, other) = (Bess::new(&lab.path("bess")), Bess::new(&lab.path("bess")));
    for _ in 0..100 {
        guest.send(b"");
        guest.send(b"short");
        guest.send(&broadcast(1, b"whole"));
        assert_eq!(other.recv(), broadcast(1, b"whole"));
    }
    // The last thing that is sent counts, an end right behind it or not.
    guest.send(&broadcast(1, b"last"));
    drop(guest);
    assert_eq!(other.recv(), broadcast(1, b"last"));
    let giant = broadcast(2, &vec![0x88; 65_000]);
    let third = Bess::new(&lab.path("bess"));
    third.send(&giant);
    assert_eq!(other.recv(), giant);
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
    let besses: Vec<_> = (0..100).map(|_| Bess::new(&lab.path("bess"))).collect();
    // A connection is a port as soon as the switch has taken it: the last one's frame says so.
    besses[99].send(&broadcast(2, b"all are in"));
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
            assert_eq!(bess.recv(), broadcast(source, payload));
        }
    }
    assert!(!sender.has_frame());
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

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = Command::new(BINARY)
        .args(["-unix", "ctl"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let control = dir.path().join("ctl");
    until("the control socket", || control.exists().then_some(()));
    // A pipe holds 64 KiB: some 2500 of these pairs of lines.
    for _ in 0..4000 {
        drop(Plug::new(&control, Version::V3));
    }
    drop(reader);
    for _ in 0..100 {
        drop(Plug::new(&control, Version::V3));
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn of_those_who_start_at_the_same_moment_one_serves() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("ctl")).unwrap());
    let mut switches: Vec<_> = (0..8)
        .map(|_| {
            let command = switch::command(Path::new(BINARY), &["-unix", "ctl"]);
            Switch::launch(dir.path(), command, Stdio::null())
        })
        .collect();
    until("all but one to give up", || {
        let ended = switches
            .iter_mut()
            .filter_map(Switch::try_wait)
            .inspect(|status| assert_eq!(status.code(), Some(1)))
            .count();
        (ended >= 7).then_some(())
    });
    let switch = switches
        .iter_mut()
        .find_map(|switch| switch.try_wait().is_none().then_some(switch))
        .unwrap();
    switch.wait_for("attached to");
    drop(Plug::new(&dir.path().join("ctl"), Version::V3));
    switch.wait_for("New connection");
    assert_eq!(switch.stop(Signal::SIGTERM), 128 + 15);
    assert!(!dir.path().join("ctl").exists());
}

#[test]
fn a_lock_on_the_folder_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let folder = File::open(dir.path()).unwrap();
    let _locked = Flock::lock(folder, FlockArg::LockExclusive).unwrap();
    let mut switch = Switch::start(Path::new(BINARY), dir.path(), &["-unix", "ctl"]);
    drop(Plug::new(&dir.path().join("ctl"), Version::V3));
    assert_eq!(switch.stop(Signal::SIGTERM), 128 + 15);
}

/// A switch that `sh` starts after this command.
fn under_shell(dir: &Path, before: &str) -> Switch {
    let mut command = Command::new("sh");
    let script = format!("{before}; exec stdbuf -oL {BINARY} -unix ctl");
    command.args(["-c", &script]);
    let mut switch = Switch::launch(dir, command, Stdio::null());
    switch.wait_for("attached to");
    switch
}

#[test]
fn ignored_signals_stay_ignored_but_sigint() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = under_shell(dir.path(), "trap '' INT TERM HUP");
    switch.signal(Signal::SIGHUP);
    switch.signal(Signal::SIGTERM);
    drop(Plug::new(&dir.path().join("ctl"), Version::V3));
    switch.wait_for("Disconnect");
    assert!(!switch.log().contains("Caught"), "{}", switch.log());
    switch.signal(Signal::SIGINT);
    switch.wait_for("Caught signal 2, cleaning up and exiting");
    assert_eq!(switch.wait(), 128 + 2);
    assert!(!dir.path().join("ctl").exists());
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
}

/// An ARP request of station 1, 10.9.N.2, for 10.9.N.1.
fn arp_request(network: u8) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(station(1));
    arp.extend([10, 9, network, 2]);
    arp.extend([0; 6]);
    arp.extend([10, 9, network, 1]);
    [&BROADCAST[..], &station(1), &[8, 6], &arp].concat()
}

/// Asks for the address of a tap device until it answers.
#[track_caller]
fn reaches(guest: &Plug, network: u8) {
    guest.data.set_read_timeout(Some(SOON)).unwrap();
    until("an answer to ARP", || {
        guest.send(&arp_request(network));
        let mut answer = [0; 2048];
        let length = guest.data.recv(&mut answer).ok()?;
        // The sender's address in it.
        (answer.get(28..32)? == [10, 9, network, 1] && length >= 42).then_some(())
    });
    guest.data.set_read_timeout(Some(PATIENCE)).unwrap();
    while guest.has_frame() {
        let _ = guest.recv();
    }
}

#[test]
fn tap_devices_come_and_go() {
    isolated(|| {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let mut lab = Lab::new(&["-tap", "tap1", "-tap", "tap2"]);
        for network in ["1", "2"] {
            ip(&format!("addr add 10.9.{network}.1/24 dev tap{network}"));
            ip(&format!("link set tap{network} mtu 9000 up"));
        }
        let guest = lab.plug();
        reaches(&guest, 1);
        reaches(&guest, 2);
        ip("link set tap1 down");
        reaches(&guest, 2);
        ip("link set tap1 up");
        reaches(&guest, 1);

        ip("neigh replace 10.9.1.2 lladdr 02:00:00:00:00:01 dev tap1");
        let mut ping = Command::new(installed("busybox", "busybox-static"))
            .args(["ping", "-s", "8000", "10.9.1.2"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // 14 bytes of Ethernet, 20 of IP, 8 of ICMP before what is sent.
        while guest.recv().len() != 8042 {}
        ping.kill().unwrap();
        ping.wait().unwrap();

        ip("link del tap1");
        lab.switch.wait_for("Disconnect");
        while guest.has_frame() {
            let _ = guest.recv();
        }
        reaches(&guest, 2);
        lab.works();
    });
}
