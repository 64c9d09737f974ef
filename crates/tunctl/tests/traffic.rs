//! Frames through what a network file sets up: guests are plain descriptors on taps, hosts are
//! network namespaces.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    sync::mpsc::channel,
    thread,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use testkit::{
    cmd::run,
    netns::{enter, ip, isolated, wait_until_free},
    until,
};
use uml_core::tuntap::{Device, Existing, Mode};

/// An `EtherType` for experiments.
const TEST_TYPE: [u8; 2] = [0x88, 0xb5];
const ARP_TYPE: [u8; 2] = [0x08, 0x06];
const IPV4_TYPE: [u8; 2] = [0x08, 0x00];
const EVERYBODY: [u8; 6] = [0xff; 6];

fn tunctl(words: &str, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("network.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tunctl"));
    let done = run(command.args(words.split_whitespace()).arg(&file));
    let _ = done.success();
}

fn example(name: &str) -> String {
    let path = format!("{}/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

/// The calling thread's network namespace, as `ip` takes it.
fn own_namespace() -> String {
    let thread = fs::read_link("/proc/thread-self").unwrap();
    format!("/proc/{}/ns/net", thread.display())
}

/// A guest: a hardware address and the descriptor of a tap.
struct Guest {
    mac: [u8; 6],
    tap: Device,
}

impl Guest {
    fn on(tap: &str, number: u8) -> Self {
        let name = tap.parse().unwrap();
        let tap = Device::open(&name, Mode::default(), Existing::Attach).unwrap();
        fcntl(&tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Self {
            mac: [2, 0, 0, 0, 0, number],
            tap,
        }
    }

    fn send(&self, to: [u8; 6], kind: [u8; 2], payload: &[u8]) {
        let frame = [&to[..], &self.mac, &kind, payload].concat();
        match self.tap.file().write(&frame) {
            Ok(length) => assert_eq!(length, frame.len()),
            // The device has only just been brought up.
            Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::EIO)),
        }
    }

    /// The payload of the next frame of this kind, and who sent it; whatever else comes is passed
    /// over.
    fn received(&self, kind: [u8; 2]) -> Option<([u8; 6], Vec<u8>)> {
        loop {
            let frame = self.next()?;
            if frame[12..14] == kind {
                return Some((frame[6..12].try_into().unwrap(), frame[14..].to_vec()));
            }
        }
    }

    /// The next frame, if there is one.
    fn next(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65536];
        match self.tap.file().read(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Some(frame)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("reading from {}: {error}", self.tap.name()),
        }
    }
}

/// Both ways between two guests, the first frame to everybody; frames as large as they get.
fn assert_reach(one: &Guest, other: &Guest) {
    for length in [46_usize, 1500] {
        let question = vec![length.to_le_bytes()[0]; length];
        until("a frame to everybody", || {
            one.send(EVERYBODY, TEST_TYPE, &question);
            let (sender, payload) = other.received(TEST_TYPE)?;
            (sender == one.mac && payload == question).then_some(())
        });
        let answer = vec![0x5a; length];
        until("the answer", || {
            other.send(one.mac, TEST_TYPE, &answer);
            let (sender, payload) = one.received(TEST_TYPE)?;
            (sender == other.mac && payload == answer).then_some(())
        });
        // Repetitions that are still under way must not be taken for the next question.
        while other.received(TEST_TYPE).is_some() {}
    }
}

#[test]
fn guests_of_two_hosts_share_a_segment() {
    isolated(|| {
        let text = example("two-hosts");
        let two_guests = text.replace("ports = [\"tap0\",", "ports = [\"tap0\", \"tap1\",")
            + "[[tap]]\nname = \"tap1\"\n";
        let other_text = text
            .replace("local = \"192.0.2.1\"", "local = \"192.0.2.2\"")
            .replace("remote = \"192.0.2.2\"", "remote = \"192.0.2.1\"");
        ip("link add wire type veth peer name otherwire");
        ip("addr add 192.0.2.1/24 dev wire");
        ip("link set wire up");
        let (namespace_out, namespace) = channel();
        let (wired, has_wire) = channel();
        let (guest_out, guest) = channel();
        let (done, is_done) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                enter();
                namespace_out.send(own_namespace()).unwrap();
                has_wire.recv().unwrap();
                ip("addr add 192.0.2.2/24 dev otherwire");
                ip("link set otherwire up");
                tunctl("--apply", &other_text);
                guest_out.send(Guest::on("tap0", 3)).unwrap();
                // The namespace lives as long as this thread: until the sender is dropped.
                assert!(is_done.recv().is_err());
                wait_until_free("tap0");
                tunctl("--remove", &other_text);
                assert!(!ip("link").contains("vx0"));
            });
            let namespace = namespace.recv().unwrap();
            ip(&format!("link set otherwire netns {namespace}"));
            wired.send(()).unwrap();
            tunctl("--apply", &two_guests);
            let here = [Guest::on("tap0", 1), Guest::on("tap1", 2)];
            let there = guest.recv().unwrap();
            assert_reach(&here[0], &there);
            assert_reach(&there, &here[1]);
            assert_reach(&here[0], &here[1]);
            drop((here, there));
            wait_until_free("tap0");
            wait_until_free("tap1");
            tunctl("--remove", &two_guests);
            drop(done);
        });
    });
}

#[test]
fn guests_of_a_private_segment_reach_each_other_and_the_host() {
    isolated(|| {
        let text = example("private");
        tunctl("--apply", &text);
        let guests = [Guest::on("priv0", 1), Guest::on("priv2", 3)];
        assert_reach(&guests[0], &guests[1]);
        // The host answers for its own address on the bridge.
        let question = arp(1, &guests[0], [10, 0, 5, 1], [10, 0, 5, 254]);
        let answer = until("the host's answer", || {
            guests[0].send(EVERYBODY, ARP_TYPE, &question);
            let (_, answer) = guests[0].received(ARP_TYPE)?;
            (answer[7] == 2).then_some(answer)
        });
        assert_eq!(answer[14..18], [10, 0, 5, 254]);
        drop(guests);
        wait_until_free("priv0");
        wait_until_free("priv2");
        tunctl("--remove", &text);
    });
}

/// An ARP packet from a guest: 1 asks, 2 answers.
fn arp(operation: u8, from: &Guest, own: [u8; 4], other: [u8; 4]) -> Vec<u8> {
    let header = [0, 1, 8, 0, 6, 4, 0, operation];
    [&header[..], &from.mac, &own, &[0; 6], &other].concat()
}

#[test]
fn a_routed_guest_is_reached_from_the_lan() {
    isolated(|| {
        ip("link add eth0 type veth peer name lan");
        ip("addr add 192.168.0.254/24 dev eth0");
        ip("link set eth0 up");
        let (namespace_out, namespace) = channel();
        let (wired, has_wire) = channel();
        let (socket_out, socket) = channel();
        let (done, is_done) = channel::<()>();
        thread::scope(|scope| {
            let neighbour = scope.spawn(move || {
                // A machine on the LAN, with no idea of the guest.
                enter();
                namespace_out.send(own_namespace()).unwrap();
                has_wire.recv().unwrap();
                ip("addr add 192.168.0.7/24 dev lan");
                ip("link set lan up");
                let socket = UdpSocket::bind("192.168.0.7:0").unwrap();
                socket_out.send(socket).unwrap();
                // The namespace lives as long as this thread: until the sender is dropped.
                assert!(is_done.recv().is_err());
                ip("neigh show 192.168.0.253")
            });
            ip(&format!("link set lan netns {}", namespace.recv().unwrap()));
            let text = example("routed");
            tunctl("--apply", &text);
            wired.send(()).unwrap();
            let socket = socket.recv().unwrap();
            let guest = Guest::on("tap0", 1);
            let packet = until("a packet for the guest", || {
                // As long as nobody answers for the guest this may be an error.
                let _ = socket.send_to(b"hello", "192.168.0.253:9");
                let frame = guest.next()?;
                let payload = frame[14..].to_vec();
                if frame[12..14] == ARP_TYPE {
                    // The host asks on the tap, where the guest is.
                    assert_eq!(payload[24..28], [192, 168, 0, 253]);
                    let host = payload[14..18].try_into().unwrap();
                    let answer = arp(2, &guest, [192, 168, 0, 253], host);
                    guest.send(payload[8..14].try_into().unwrap(), ARP_TYPE, &answer);
                }
                (frame[12..14] == IPV4_TYPE).then_some(payload)
            });
            assert!(packet.ends_with(b"hello"));
            let from = <[u8; 4]>::try_from(&packet[12..16]).unwrap();
            assert_eq!(Ipv4Addr::from(from), Ipv4Addr::new(192, 168, 0, 7));
            drop(done);
            // The LAN was told the host's own hardware address.
            let known = neighbour.join().unwrap();
            let shown = ip("-o link show eth0");
            let mut words = shown
                .split_whitespace()
                .skip_while(|word| *word != "link/ether");
            let host_mac = words.nth(1).unwrap();
            assert!(known.contains(host_mac), "{known}");
        });
    });
}
