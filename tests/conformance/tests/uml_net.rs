//! `uml_net`: what a guest's kernel gets from either, and what the host looks like then.
//!
//! The original runs ifconfig, route, arp and bash: the machine that compares has net-tools.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    io::{IoSliceMut, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            net::{UnixDatagram, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    process::{Command, Stdio},
};

use conformance::{Sandbox, differs, same};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use testkit::{
    PATIENCE, bins,
    cmd::wait_for,
    netns::{empty, ip, isolated, without_ipv6},
};

/// The end of a call, and what came along.
struct Called {
    messages: Vec<Vec<u8>>,
    taps: Vec<OwnedFd>,
    code: i32,
}

/// A host with two network cards, for either tool.
fn on_a_host(test: impl FnOnce() + Send) {
    let _ = bins::installed("ifconfig", "net-tools");
    isolated(|| {
        empty("/run");
        without_ipv6();
        for words in [
            "link add eth0 type veth peer name eth1",
            "link set eth0 up",
            "link set eth1 up",
            "addr add 192.168.5.10/24 dev eth0",
            "addr add 10.8.0.1/16 dev eth1",
            "tuntap add dev mine mode tap user 0",
            "link set mine up",
        ] {
            ip(words);
        }
        test();
    });
}

/// Runs the tool with one end of a pair of sockets as descriptor 1, as a guest's kernel does.
fn call(sandbox: &Sandbox, words: &str, stdout: OwnedFd) -> i32 {
    let mut child = Command::new(sandbox.binary())
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let Some(status) = wait_for(&mut child, PATIENCE) else {
        child.kill().unwrap();
        return -1;
    };
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap()
}

fn up(sandbox: &Sandbox, words: &str) -> Called {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let code = call(sandbox, words, theirs.into());
    let mut called = Called {
        messages: Vec::new(),
        taps: Vec::new(),
        code,
    };
    let mut bytes = [0; 4095];
    let mut control = nix::cmsg_space!([i32; 4]);
    loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let Ok(received) = recvmsg::<()>(ours.as_raw_fd(), &mut parts, Some(&mut control), flags)
        else {
            return called;
        };
        let length = received.bytes;
        for message in received.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                for number in numbers {
                    called
                        .taps
                        .push(uml_core::sys::process::inherited(number).unwrap());
                    nix::unistd::close(number).unwrap();
                }
            }
        }
        called.messages.push(bytes[..length].to_vec());
    }
}

fn change(sandbox: &Sandbox, words: &str) -> Called {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let code = call(sandbox, words, theirs.into());
    let mut bytes = Vec::new();
    ours.read_to_end(&mut bytes).unwrap();
    Called {
        messages: vec![bytes],
        taps: Vec::new(),
        code,
    }
}

/// What calls change on the host, without who changed it.
fn look(sandbox: &mut Sandbox) {
    let mut text = String::new();
    for words in ["-4 route show", "neigh show proxy"] {
        for line in ip(words).lines() {
            let line = line.replace(" proto 117", "").replace(" linkdown", "");
            let _ = writeln!(text, "{}", line.trim());
        }
    }
    for device in ["tap0", "tap1", "mine", "eth0"] {
        let Ok(flags) = fs::read_to_string(format!("/sys/class/net/{device}/flags")) else {
            continue;
        };
        let proxy = format!("/proc/sys/net/ipv4/conf/{device}/proxy_arp");
        let proxy = fs::read_to_string(proxy).unwrap();
        let _ = writeln!(text, "{device} {} proxy_arp {}", flags.trim(), proxy.trim());
        for line in ip(&format!("-4 -o addr show dev {device}")).lines() {
            // Without the device's index, and without the broadcast address that ifconfig makes up
            // for a network of one.
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let words = words.join(" ").replace(" brd 192.168.78.255", "");
            let _ = writeln!(text, "{}", words.replace(" brd 192.168.5.255", ""));
        }
        if let Ok(kind) = fs::read_to_string(format!("/sys/class/net/{device}/tun_flags")) {
            let _ = writeln!(text, "tun_flags {}", kind.trim());
        }
    }
    text.push_str(&fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap());
    sandbox.saw("the host", text);
}

/// A call of `tuntap up`, and what the guest gets but for the words.
fn saw_up(sandbox: &mut Sandbox, words: &str) -> Vec<OwnedFd> {
    let called = up(sandbox, words);
    let shape: Vec<String> = called
        .messages
        .iter()
        // The original also writes the no bytes that the count announces.
        .filter(|message| !message.is_empty())
        .map(|message| match message.as_slice() {
            [0, 0, 0, 0] => "a count of nothing".to_owned(),
            [name @ .., 0] if name.len() > 16 => {
                format!("{} and a text with its NUL", name[..16].escape_ascii())
            }
            other => other.escape_ascii().to_string(),
        })
        .collect();
    let seen = format!(
        "{shape:?}, {} descriptors, status {}",
        called.taps.len(),
        called.code
    );
    sandbox.saw(words, seen);
    called.taps
}

/// A call of `add` or `del`, and what the guest gets but for the words.
fn saw_change(sandbox: &mut Sandbox, words: &str) {
    let called = change(sandbox, words);
    let bytes = &called.messages[0];
    let (count, text) = bytes.split_at(bytes.len().min(4));
    let is_counted = <[u8; 4]>::try_from(count)
        .is_ok_and(|count| usize::try_from(u32::from_ne_bytes(count)) == Ok(text.len()));
    let seen = format!(
        "counted: {is_counted}, ends in a NUL: {}, status {}",
        text.last() == Some(&0),
        called.code
    );
    sandbox.saw(words, seen);
}

#[test]
fn taps() {
    for words in [
        "4 tuntap up 192.168.78.254",
        "3 tuntap up x 192.168.78.254",
        "4 tuntap up 192.168.5.10",
    ] {
        same("uml_net", &format!("a tap: {words}"), |sandbox| {
            on_a_host(|| {
                let first = saw_up(sandbox, words);
                look(sandbox);
                let second = saw_up(sandbox, words);
                look(sandbox);
                drop((first, second));
            });
        });
    }
}

#[test]
fn addresses() {
    for (add, delete) in [
        (
            "4 add mine 192.168.5.77 255.255.255.0",
            "4 del mine 192.168.5.77 255.255.255.0",
        ),
        (
            "4 tuntap add mine 192.168.5.77 255.255.255.0",
            "4 tuntap del mine 192.168.5.77 255.255.255.0",
        ),
        (
            "4 add mine 10.8.0.77 255.255.0.0",
            "4 del mine 10.8.0.77 255.255.0.0",
        ),
        (
            "4 add mine 10.8.5.77 255.255.255.0",
            "4 del mine 10.8.5.77 255.255.255.0",
        ),
        (
            "4 add mine 192.168.9.1 255.255.255.255",
            "4 del mine 192.168.9.1 255.255.255.255",
        ),
    ] {
        same("uml_net", &format!("an address: {add}"), |sandbox| {
            on_a_host(|| {
                fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
                saw_change(sandbox, add);
                look(sandbox);
                saw_change(sandbox, delete);
                look(sandbox);
            });
        });
    }
}

#[test]
fn the_words_are_those_of_ip() {
    differs(
        "uml_net",
        "the log of a tap",
        "net-words",
        |sandbox| {
            on_a_host(|| {
                let called = up(sandbox, "4 tuntap up 192.168.78.254");
                sandbox.saw("log", called.messages[0][16..].escape_ascii());
            });
        },
        |reference, ours| {
            assert!(
                reference.contains("* ifconfig tap0 192.168.78.254 netmask 255.255.255.255 up")
            );
            assert!(ours.contains("* ip addr add 192.168.78.254/32 dev tap0"));
        },
    );
}

#[test]
fn every_call_is_answered() {
    for words in [
        "5 tuntap up 1.2.3.4",
        "4",
        "4 add",
        "4 tuntap down",
        "4 foo",
    ] {
        differs(
            "uml_net",
            &format!("an answer: {words}"),
            "net-answers",
            |sandbox| {
                on_a_host(|| {
                    let called = change(sandbox, words);
                    sandbox.saw("answer", called.messages[0].escape_ascii());
                    saw_change(sandbox, words);
                });
            },
            |reference, ours| {
                assert!(reference.contains("counted: false"), "{reference}");
                assert!(
                    ours.contains("counted: true, ends in a NUL: true, status 1"),
                    "{ours}"
                );
            },
        );
    }
}

#[test]
fn failures_are_failures() {
    differs(
        "uml_net",
        "status of a failed tap",
        "net-status",
        |sandbox| on_a_host(|| sandbox.saw("status", up(sandbox, "4 tuntap up").code)),
        |reference, ours| {
            assert!(reference.contains("0") && ours.contains("1"));
        },
    );
}

#[test]
fn only_taps_of_the_callers() {
    differs(
        "uml_net",
        "an address behind a network card",
        "net-owner",
        |sandbox| {
            on_a_host(|| {
                saw_change(sandbox, "4 add eth0 10.9.9.9 255.255.255.0");
                look(sandbox);
            });
        },
        |reference, ours| {
            assert!(reference.contains("10.9.9.9 dev eth0"));
            assert!(!ours.contains("10.9.9.9 dev eth0"));
        },
    );
}

#[test]
fn only_addresses_that_nobody_has() {
    differs(
        "uml_net",
        "the host's own address behind a tap",
        "net-addresses",
        |sandbox| {
            on_a_host(|| {
                saw_change(sandbox, "4 add mine 192.168.5.10 255.255.255.0");
                saw_change(sandbox, "4 add mine 8.8.8.8 255.255.255.0");
                look(sandbox);
            });
        },
        |reference, ours| {
            assert!(
                reference.contains("8.8.8.8 dev mine")
                    && reference.contains("192.168.5.10 dev mine")
            );
            assert!(!ours.contains("8.8.8.8 dev mine") && !ours.contains("192.168.5.10 dev mine"));
        },
    );
}

#[test]
fn only_what_was_added_is_deleted() {
    differs(
        "uml_net",
        "deleting a route that was there before",
        "net-undo",
        |sandbox| {
            on_a_host(|| {
                ip("route add 192.168.5.77/32 dev mine");
                saw_change(sandbox, "4 del mine 192.168.5.77 255.255.255.0");
                look(sandbox);
            });
        },
        |reference, ours| {
            assert!(!reference.contains("192.168.5.77 dev mine"));
            assert!(ours.contains("192.168.5.77 dev mine"));
        },
    );
}

#[test]
fn forwarding_goes_back() {
    differs(
        "uml_net",
        "forwarding when the last guest is gone",
        "net-forwarding",
        |sandbox| {
            on_a_host(|| {
                let tap = up(sandbox, "4 tuntap up 192.168.78.254");
                saw_change(sandbox, "4 add tap0 192.168.5.77 255.255.255.0");
                saw_change(sandbox, "4 del tap0 192.168.5.77 255.255.255.0");
                let forwarding = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
                sandbox.saw("ip_forward", format!("is {forwarding}"));
                drop(tap);
            });
        },
        |reference, ours| {
            assert!(reference.contains("is 1") && ours.contains("is 0"));
        },
    );
}

#[test]
fn old_versions_find_the_card_too() {
    differs(
        "uml_net",
        "version 3 on a host whose card is not eth0",
        "net-eth0",
        |sandbox| {
            on_a_host(|| {
                saw_change(sandbox, "3 tuntap add mine 10.8.0.77");
                look(sandbox);
            });
        },
        |reference, ours| {
            assert!(
                reference.contains("10.8.0.77 dev eth0 proxy"),
                "{reference}"
            );
            assert!(ours.contains("10.8.0.77 dev eth1 proxy"), "{ours}");
        },
    );
    differs(
        "uml_net",
        "version 2 adds an address",
        "net-v2-add",
        |sandbox| {
            on_a_host(|| {
                change(sandbox, "2 tuntap add x mine 192.168.5.77");
                look(sandbox);
            });
        },
        |reference, ours| {
            assert!(!reference.contains("192.168.5.77 dev mine"), "{reference}");
            assert!(ours.contains("192.168.5.77 dev mine"), "{ours}");
        },
    );
}

#[test]
fn slip_leaves_other_devices_alone() {
    differs(
        "uml_net",
        "slip down with a socket as the line",
        "net-slip",
        |sandbox| {
            on_a_host(|| {
                let called = change(sandbox, "4 slip down eth0");
                sandbox.saw("answer", called.messages[0].escape_ascii());
            });
        },
        |reference, ours| {
            assert!(
                reference.contains("Getting slip line discipline"),
                "{reference}"
            );
            assert!(
                ours.contains("descriptor 0 is no terminal of the caller"),
                "{ours}"
            );
        },
    );
}

#[test]
fn ethertap_is_gone() {
    differs(
        "uml_net",
        "ethertap on a kernel of this century",
        "net-ethertap",
        |sandbox| {
            on_a_host(|| {
                let called = change(sandbox, "4 ethertap tap0 5 192.168.78.254");
                sandbox.saw("answer", called.messages[0].escape_ascii());
            });
        },
        |reference, ours| {
            assert!(reference.contains("* modprobe ethertap"), "{reference}");
            assert!(
                ours.contains("no kernel since 2.6 has the ethertap driver"),
                "{ours}"
            );
        },
    );
}
