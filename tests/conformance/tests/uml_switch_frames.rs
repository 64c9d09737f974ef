//! `uml_switch`, the reference and ours: requests, replies, and where frames go.
//!
//! That a frame does not arrive is seen by another one, sent after it by the same guest, that does.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
};

use conformance::{Sandbox, Transcript, differs, same};
use nix::sys::signal::Signal;
use testkit::{
    bins::installed,
    netns::{ip, isolated},
    switch::{
        ADDRESS_LEN, BROADCAST, Plug, Switch, Version, bind, connect, frame, fresh_address,
        path_address, request, station, wait_for_close,
    },
    until,
};

const TOOL: &str = "uml_switch";

fn start(sandbox: &Sandbox, args: &[&str]) -> Switch {
    Switch::start(sandbox.binary(), sandbox.dir(), args)
}

fn plug(sandbox: &Sandbox, version: Version) -> Plug {
    Plug::new(&sandbox.dir().join("ctl"), version)
}

/// Ends an idle switch and records what it said, its ports numbered in the order of their appearance.
fn saw_log(sandbox: &mut Sandbox, switch: &mut Switch) {
    switch.wait_until_idle();
    let code = switch.stop(Signal::SIGINT);
    sandbox.saw("status", code);
    sandbox.saw("said", numbered(&switch.log()));
    sandbox.saw("complained", switch.errors());
}

/// The same text with port numbers as they appear: the reference's are descriptors.
fn numbered(log: &str) -> String {
    let mut ports = Vec::new();
    let mut after_port = false;
    let mut line_of_words = |line: &str| {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                let number = word.parse::<u32>().ok().filter(|_| after_port);
                after_port = word == "port";
                number.map_or_else(
                    || word.to_owned(),
                    |number| {
                        let place = ports.iter().position(|port| *port == number);
                        place
                            .unwrap_or_else(|| {
                                ports.push(number);
                                ports.len() - 1
                            })
                            .to_string()
                    },
                )
            })
            .collect();
        after_port = false;
        words.join(" ")
    };
    log.lines()
        .map(&mut line_of_words)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Waits until the switch has said this on either stream.
fn wait_for_words(switch: &mut Switch, words: &str) {
    until(words, || {
        let said = switch.log() + &switch.errors();
        said.contains(words).then_some(())
    });
}

/// Records the payload of the next frame of a guest.
fn saw_frame(sandbox: &mut Sandbox, who: &str, guest: &Plug) {
    let frame = guest.recv();
    let payload = String::from_utf8_lossy(frame.get(14..).unwrap_or_default()).into_owned();
    sandbox.saw(who, payload);
}

#[test]
fn replies() {
    same(TOOL, "versions 1 and 3", |sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        for (count, version) in [(1, Version::V1), (2, Version::V3)] {
            let guest = plug(sandbox, version);
            let reply = guest.reply.unwrap();
            sandbox.saw("family and first byte", format!("{:?}", &reply[..3]));
            drop(guest);
            switch.wait_for_times("Disconnect", count);
        }
        saw_log(sandbox, &mut switch);
    });
    let by_path = |sandbox: &mut Sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        let address = path_address(&sandbox.dir().join("guest"));
        let guest = Plug::ask(
            &sandbox.dir().join("ctl"),
            bind(&address),
            &request(Version::V3, 0, &address),
        );
        let other = plug(sandbox, Version::V3);
        other.send(&frame(BROADCAST, station(2), b"to a path"));
        saw_frame(sandbox, "the guest with a path", &guest);
        guest.send(&frame(station(2), station(1), b"from a path"));
        saw_frame(sandbox, "the other", &other);
        saw_log(sandbox, &mut switch);
    };
    differs(
        TOOL,
        "a data socket with a path",
        "switch-path-guests",
        by_path,
        |reference, ours| {
            assert!(reference.contains("to a path") && ours.contains("to a path"));
            assert!(reference.contains("from a path") && ours.contains("from a path"));
            assert!(reference.contains("Unknown connection"), "{reference}");
            assert!(ours.contains(" Addr: 02:00:00:00:00:01 New port"), "{ours}");
        },
    );
    let with_text = |sandbox: &mut Sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        let address = fresh_address();
        let mut words = request(Version::V3, 0, &address);
        words.extend(b"a guest's description");
        let guest = Plug::ask(&sandbox.dir().join("ctl"), bind(&address), &words);
        let other = plug(sandbox, Version::V1);
        guest.send(&frame(BROADCAST, station(1), b"hello"));
        saw_frame(sandbox, "the other", &other);
        saw_log(sandbox, &mut switch);
    };
    differs(
        TOOL,
        "text behind a request",
        "switch-text",
        with_text,
        |reference, ours| {
            assert!(reference.contains("Bad request"), "{reference}");
            assert!(!ours.contains("Bad request"), "{ours}");
            assert!(ours.contains("the other\n  hello"), "{ours}");
        },
    );
    same(TOOL, "a request without its padding", |sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        let address = fresh_address();
        let words = request(Version::V3, 0, &address);
        let control = sandbox.dir().join("ctl");
        let guest = Plug::ask(&control, bind(&address), &words[..122]);
        sandbox.saw("a reply of", guest.reply.unwrap().len());
        saw_log(sandbox, &mut switch);
    });
}

/// A version 0 guest that the switch has plugged in.
fn plug_v0(sandbox: &Sandbox, switch: &mut Switch, count: usize) -> Plug {
    let dir = sandbox.dir();
    let guest = Plug::v0(&dir.join("ctl"), &dir.join("data"));
    switch.wait_for_times("New connection", count);
    guest
}

#[test]
fn version_0() {
    same(TOOL, "guests of versions 0 and 3", |sandbox| {
        let mut switch = start(sandbox, &["-compat-v0", "-unix", "ctl", "data"]);
        let one = plug_v0(sandbox, &mut switch, 1);
        let two = plug_v0(sandbox, &mut switch, 2);
        let new = plug(sandbox, Version::V3);
        one.send(&frame(BROADCAST, station(1), b"to all"));
        saw_frame(sandbox, "two", &two);
        saw_frame(sandbox, "new", &new);
        two.send(&frame(station(1), station(2), b"to one"));
        saw_frame(sandbox, "one", &one);
        two.send(&frame(BROADCAST, station(2), b"to all"));
        saw_frame(sandbox, "new", &new);
        saw_frame(sandbox, "one", &one);
        drop(one);
        switch.wait_for("Disconnect");
        two.send(&frame(BROADCAST, station(2), b"without one"));
        saw_frame(sandbox, "new", &new);
        saw_log(sandbox, &mut switch);
    });
    same(TOOL, "the data socket told to new guests", |sandbox| {
        let _switch = start(sandbox, &["-compat-v0", "-unix", "ctl", "data"]);
        let new = plug(sandbox, Version::V3);
        sandbox.saw("a reply of", new.reply.unwrap().len());
    });
    differs(
        TOOL,
        "a request of version 0 without -compat-v0",
        "switch-v0-unasked",
        |sandbox| {
            let mut switch = start(sandbox, &["-unix", "ctl"]);
            let mut stream = connect(&sandbox.dir().join("ctl"));
            let words = request(Version::V0, 0, &fresh_address());
            stream.write_all(&words).unwrap();
            if sandbox.is_ours() {
                wait_for_close(&mut stream);
            } else {
                switch.wait_for("New connection");
            }
            saw_log(sandbox, &mut switch);
        },
        |reference, ours| {
            assert!(reference.contains("New connection"), "{reference}");
            assert!(!ours.contains("New connection"), "{ours}");
        },
    );
}

/// Four guests; what each of a list of frames led to.
fn traffic(sandbox: &mut Sandbox, args: &[&str]) {
    let mut switch = start(sandbox, args);
    let guests: Vec<Plug> = [Version::V3, Version::V1, Version::V3, Version::V3]
        .into_iter()
        .map(|version| plug(sandbox, version))
        .collect();
    // Each guest says who it is, so that the switch has learned all of them.
    for (from, guest) in guests.iter().enumerate() {
        guest.send(&frame(
            BROADCAST,
            station(from.try_into().unwrap()),
            b"here",
        ));
        for (to, other) in guests.iter().enumerate() {
            if to != from {
                assert!(other.recv().ends_with(b"here"));
            }
        }
    }
    let group = [3, 0, 0, 0, 0, 1];
    let list = [
        (0, station(1), station(0), "known"),
        (1, station(0), station(1), "known, back"),
        (2, BROADCAST, station(2), "broadcast"),
        (3, group, station(3), "group"),
        (3, BROADCAST, group, "from a group address"),
        (2, group, station(2), "a group address is nobody's"),
        (1, BROADCAST, station(0), "moved"),
        (2, station(0), station(2), "to the one that moved"),
    ];
    for (from, destination, source, what) in list {
        guests[from].send(&frame(destination, source, what.as_bytes()));
        // Behind it goes one to everybody, from an address that was known: whoever sees it first
        // did not get the frame before.
        let mark = frame(BROADCAST, source, b"mark");
        guests[from].send(&mark);
        let mut got = Vec::new();
        for (to, guest) in guests.iter().enumerate().filter(|(to, _)| *to != from) {
            let mut frame = guest.recv();
            while frame != mark {
                got.push(format!("{to} ({} bytes)", frame.len()));
                frame = guest.recv();
            }
        }
        sandbox.saw(what, format!("reached {}", got.join(", ")));
        assert!(!guests[from].has_frame(), "a frame came back: {what}");
    }
    switch.wait_until_idle();
    sandbox.saw("said", numbered(&switch.log()));
    sandbox.saw("status", switch.stop(Signal::SIGINT));
}

#[test]
fn where_frames_go() {
    same(TOOL, "a switch", |sandbox| {
        traffic(sandbox, &["-unix", "ctl"]);
    });
}

#[test]
fn where_frames_go_in_a_hub() {
    let without_addresses = |transcript: &Transcript| {
        let text = transcript.to_string();
        let lines = text.lines().filter(|line| !line.contains(" Addr: "));
        lines.collect::<Vec<_>>().join("\n")
    };
    differs(
        TOOL,
        "a hub",
        "switch-hub-learns",
        |sandbox| traffic(sandbox, &["-hub", "-unix", "ctl"]),
        |reference, ours| {
            assert_eq!(without_addresses(reference), without_addresses(ours));
            assert!(!ours.contains(" Addr: "), "{ours}");
        },
    );
}

#[test]
fn frames_to_nobody() {
    differs(
        TOOL,
        "a frame to an unknown address",
        "switch-unknown",
        |sandbox| {
            let mut switch = start(sandbox, &["-unix", "ctl"]);
            let one = plug(sandbox, Version::V3);
            let two = plug(sandbox, Version::V3);
            one.send(&frame(station(9), station(1), b"to nobody"));
            saw_frame(sandbox, "two", &two);
            saw_log(sandbox, &mut switch);
        },
        |reference, ours| {
            assert!(reference.contains("to nobody") && ours.contains("to nobody"));
            assert!(reference.contains("unknown Addr"), "{reference}");
            assert!(!ours.contains("unknown Addr"), "{ours}");
        },
    );
}

#[test]
fn long_frames() {
    same(TOOL, "frames of 14 to 1514 bytes", |sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        let one = plug(sandbox, Version::V3);
        let two = plug(sandbox, Version::V3);
        for length in [0, 1, 28, 46, 1000, 1500] {
            one.send(&frame(BROADCAST, station(1), &vec![0x55; length]));
            sandbox.saw("a frame of", two.recv().len());
        }
        saw_log(sandbox, &mut switch);
    });
    differs(
        TOOL,
        "frames of 1518 and 9014 bytes",
        "switch-long-frames",
        |sandbox| {
            let _switch = start(sandbox, &["-unix", "ctl"]);
            let one = plug(sandbox, Version::V3);
            let two = plug(sandbox, Version::V3);
            for length in [1504, 9000] {
                one.send(&frame(BROADCAST, station(1), &vec![0x55; length]));
                sandbox.saw("a frame of", two.recv().len());
            }
        },
        |reference, ours| {
            assert!(!reference.contains("1518"), "{reference}");
            assert!(ours.contains("1518") && ours.contains("9014"), "{ours}");
        },
    );
}

#[test]
fn runts() {
    differs(
        TOOL,
        "frames of 0 and 13 bytes",
        "switch-runts",
        |sandbox| {
            let _switch = start(sandbox, &["-unix", "ctl"]);
            let one = plug(sandbox, Version::V3);
            let two = plug(sandbox, Version::V3);
            one.send(&frame(BROADCAST, station(1), b"before"));
            assert!(two.recv().ends_with(b"before"));
            one.send(b"");
            one.send(&[0xff; 13]);
            let mark = frame(BROADCAST, station(1), b"behind");
            one.send(&mark);
            let mut frame = two.recv();
            while frame != mark {
                sandbox.saw("a frame of", frame.len());
                frame = two.recv();
            }
        },
        |reference, ours| {
            assert!(reference.contains("a frame of\n  0\na frame of\n  13\n"));
            assert!(!ours.contains("a frame of"), "{ours}");
        },
    );
}

#[test]
fn frames_to_where_they_came_from() {
    differs(
        TOOL,
        "a frame to an address behind the sender's own port",
        "switch-back",
        |sandbox| {
            let _switch = start(sandbox, &["-unix", "ctl"]);
            let one = plug(sandbox, Version::V3);
            let two = plug(sandbox, Version::V3);
            one.send(&frame(BROADCAST, station(1), b"here"));
            one.send(&frame(station(1), station(9), b"to itself"));
            one.send(&frame(BROADCAST, station(1), b"behind"));
            for _ in 0..2 {
                saw_frame(sandbox, "two", &two);
            }
            sandbox.saw("a frame came back", one.has_frame());
        },
        |reference, ours| {
            assert!(reference.contains("came back\n  true"), "{reference}");
            assert!(ours.contains("came back\n  false"), "{ours}");
        },
    );
}

#[test]
fn strangers() {
    differs(
        TOOL,
        "a frame from a socket that is not plugged in",
        "switch-spoofing",
        |sandbox| {
            let _switch = start(sandbox, &["-unix", "ctl"]);
            let one = plug(sandbox, Version::V3);
            let two = plug(sandbox, Version::V3);
            let stranger = UnixDatagram::unbound().unwrap();
            let sent = stranger.send_to_addr(&frame(BROADCAST, station(9), b"false"), &one.switch);
            sandbox.saw("sent", sent.is_ok());
            one.send(&frame(BROADCAST, station(1), b"true"));
            saw_frame(sandbox, "two", &two);
        },
        |reference, ours| {
            assert!(reference.contains("false"), "{reference}");
            assert!(ours.contains("two\n  true\n"), "{ours}");
        },
    );
}

#[test]
fn refused_requests() {
    let version = |number: u32| {
        let mut words = request(Version::V3, 0, &fresh_address());
        words[4..8].copy_from_slice(&number.to_ne_bytes());
        words
    };
    let type_7 = request(Version::V3, 7, &fresh_address());
    for (what, words, complaint) in [
        ("version 2", version(2), "Version 2 is not supported"),
        ("version 4", version(4), "Request for a version 4 port"),
        ("version 3, type 7", type_7, "Bad request type"),
    ] {
        differs(
            TOOL,
            what,
            "switch-refusals",
            |sandbox| {
                let mut switch = start(sandbox, &["-unix", "ctl"]);
                let mut stream = connect(&sandbox.dir().join("ctl"));
                stream.write_all(&words).unwrap();
                if sandbox.is_ours() {
                    wait_for_close(&mut stream);
                } else {
                    wait_for_words(&mut switch, complaint);
                }
                let _served = plug(sandbox, Version::V3);
                stream.set_nonblocking(true).unwrap();
                let end = stream.read(&mut [0]);
                sandbox.saw("closed", matches!(end, Ok(0)));
                saw_log(sandbox, &mut switch);
            },
            |reference, ours| {
                assert!(reference.contains(complaint), "{reference}");
                // It stays open, or complaints of other causes follow.
                assert!(
                    reference.contains("closed\n  false\n")
                        || reference.contains("No port associated"),
                    "{reference}"
                );
                assert!(ours.contains("closed\n  true\n"), "{ours}");
                assert!(ours.contains(complaint), "{ours}");
                assert!(!ours.contains("associated"), "{ours}");
                assert!(ours.contains("status\n  130\n"), "{ours}");
            },
        );
    }
}

#[test]
fn requests_in_pieces() {
    differs(
        TOOL,
        "a request in two pieces",
        "switch-pieces",
        |sandbox| {
            let mut switch = start(sandbox, &["-unix", "ctl"]);
            let address = fresh_address();
            let _data = bind(&address);
            let words = request(Version::V3, 0, &address);
            let mut stream = connect(&sandbox.dir().join("ctl"));
            stream.write_all(&words[..10]).unwrap();
            // Another guest is served meanwhile, so the first piece has been read.
            let _other = plug(sandbox, Version::V3);
            stream.write_all(&words[10..]).unwrap();
            if sandbox.is_ours() {
                let mut reply = [0; ADDRESS_LEN];
                stream.read_exact(&mut reply).unwrap();
                let _later = plug(sandbox, Version::V3);
                sandbox.saw("said", switch.log());
            } else {
                // Whether there is a reply depends on what its memory held before.
                switch.wait_for("Bad request");
                sandbox.saw("said", switch.log());
            }
        },
        |reference, ours| {
            assert!(reference.contains("Bad request"), "{reference}");
            assert!(!ours.contains("Bad request"), "{ours}");
        },
    );
}

#[test]
fn clients_that_are_gone_before_their_reply() {
    differs(
        TOOL,
        "a client that closes before the reply",
        "switch-sigpipe",
        |sandbox| {
            let mut switch = start(sandbox, &["-unix", "ctl"]);
            switch.freeze();
            let mut stream = connect(&sandbox.dir().join("ctl"));
            stream
                .write_all(&request(Version::V3, 0, &fresh_address()))
                .unwrap();
            // Closing it is not enough: a child of another test may have it too, until it runs.
            stream.shutdown(Shutdown::Both).unwrap();
            drop(stream);
            switch.signal(Signal::SIGCONT);
            if sandbox.is_ours() {
                let _served = plug(sandbox, Version::V3);
                switch.signal(Signal::SIGINT);
            }
            let code = switch.wait();
            sandbox.saw("status", code);
        },
        |reference, ours| {
            assert!(reference.contains("141"), "SIGPIPE: {reference}");
            assert!(ours.contains("130"), "SIGINT: {ours}");
        },
    );
}

#[test]
fn no_descriptor_left() {
    differs(
        TOOL,
        "more guests than descriptors",
        "switch-descriptors",
        |sandbox| {
            let mut command = Command::new(installed("prlimit", "util-linux"));
            command
                .args(["--nofile=24", "stdbuf", "-oL"])
                .arg(sandbox.binary())
                .args(["-unix", "ctl"]);
            let mut switch = Switch::launch(sandbox.dir(), command, Stdio::null());
            switch.wait_for("attached to");
            let control = sandbox.dir().join("ctl");
            // Guests with data sockets, or ours would let them go. The kernel holds those that the
            // switch can't accept.
            let guests: Vec<_> = (0..25)
                .map(|_| {
                    let address = fresh_address();
                    let data = bind(&address);
                    let mut stream = connect(&control);
                    let words = request(Version::V3, 0, &address);
                    stream.write_all(&words).unwrap();
                    (stream, data)
                })
                .collect();
            let complaints = |switch: &Switch| {
                let all = switch.log() + &switch.errors();
                all.matches("Too many open files").count()
            };
            until("a complaint", || (complaints(&switch) > 0).then_some(()));
            if sandbox.is_ours() {
                drop(guests);
                // One that comes while they are still going may be refused.
                let _served = until("room for a new guest", || {
                    let address = fresh_address();
                    let data = bind(&address);
                    let mut stream = connect(&control);
                    let words = request(Version::V3, 0, &address);
                    stream.write_all(&words).unwrap();
                    stream.read_exact(&mut [0; ADDRESS_LEN]).ok()?;
                    Some((stream, data))
                });
                sandbox.saw("many complaints", complaints(&switch) > 500);
            } else {
                until("many complaints", || {
                    (complaints(&switch) > 500).then_some(())
                });
                sandbox.saw("many complaints", true);
            }
        },
        |reference, ours| {
            assert!(reference.contains("many complaints\n  true"), "{reference}");
            assert!(ours.contains("many complaints\n  false"), "{ours}");
        },
    );
}

/// An ARP request for 10.9.9.1.
fn who_has_the_tap() -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(station(1));
    arp.extend([10, 9, 9, 2]);
    arp.extend([0; 6]);
    arp.extend([10, 9, 9, 1]);
    let mut frame = [&BROADCAST[..], &station(1), &[8, 6]].concat();
    frame.extend(arp);
    frame
}

#[test]
fn a_tap_device_is_a_port() {
    for (name, made_before) in [("a fresh tap", false), ("a persistent tap", true)] {
        same(TOOL, name, |sandbox| {
            isolated(|| {
                fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
                if made_before {
                    ip("tuntap add tap0 mode tap");
                }
                let mut switch = start(sandbox, &["-tap", "tap0", "-unix", "ctl"]);
                // The reference opens the device after it has said that it is attached to it.
                switch.wait_for("New connection");
                ip("link set tap0 address 02:00:00:00:00:77 up");
                ip("addr add 10.9.9.1/24 dev tap0");
                let guest = plug(sandbox, Version::V3);
                guest.send(&who_has_the_tap());
                let answer = guest.recv();
                sandbox.saw("the answer", format!("{:02x?}", &answer[..22]));
                saw_log(sandbox, &mut switch);
                let left = Path::new("/sys/class/net/tap0").exists();
                sandbox.saw("the device is left", left);
            });
        });
    }
}
