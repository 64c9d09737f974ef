//! tunctl: every option and message, each run in a network namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{ffi::OsStr, fmt::Write as _, fs, os::unix::ffi::OsStrExt as _, process::Command};

use conformance::{Sandbox, differs, same, same_but_words};
use testkit::{
    bins,
    cmd::run,
    netns::{ip, isolated},
};
use uml_core::{
    hostnet::NamePattern,
    tuntap::{Device, Existing, Mode},
};

/// What the kernel has after a scenario's step: all tun and tap devices.
fn look(sandbox: &mut Sandbox) {
    let mut devices: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    devices.sort();
    let mut text = String::new();
    for device in devices {
        let _ = writeln!(text, "{device}");
        for file in ["owner", "group", "tun_flags"] {
            // Only tun and tap devices have these files.
            if let Ok(value) = fs::read_to_string(format!("/sys/class/net/{device}/{file}")) {
                let _ = writeln!(text, " {file} {}", value.trim());
            }
        }
        // The first line holds an index and flags, the second a random hardware address.
        for line in ip(&format!("-d link show dev {device}")).lines().skip(2) {
            let _ = writeln!(text, " {}", line.trim());
        }
    }
    sandbox.saw("devices", text);
}

/// Command lines one after the other in one namespace, with a look after each.
fn runs(lines: &'static [&'static str]) -> impl Fn(&mut Sandbox) {
    move |sandbox| {
        isolated(|| {
            for line in lines {
                let args: Vec<&str> = line.split_whitespace().collect();
                sandbox.run(&args);
                look(sandbox);
            }
        });
    }
}

#[test]
fn devices_are_made_and_deleted() {
    same("tunctl", "next free name", runs(&["", "", "-d tap0", ""]));
    same(
        "tunctl",
        "a name",
        runs(&["-t foo", "-t foo", "-d foo", "-d foo"]),
    );
    same("tunctl", "brief", runs(&["-b", "-b -t x", "-b -d x"]));
    same(
        "tunctl",
        "a pattern",
        runs(&["-t uml%d", "-t uml%d -b", "-d uml%d"]),
    );
    same("tunctl", "a tun name stays a tap", runs(&["-t tun5"]));
    same(
        "tunctl",
        "15 bytes",
        runs(&["-t abcdefghijklmno", "-d abcdefghijklmno"]),
    );
    same("tunctl", "delete what is not there", runs(&["-d nosuch"]));
    same(
        "tunctl",
        "the later name counts",
        runs(&["-t a", "-t b", "-d a -t b", "-t x -d a"]),
    );
    same(
        "tunctl",
        "an equals sign belongs to the value",
        runs(&[
            "-t=x",
            "-bt=y",
            "-t -u=0",
            "-d=x",
            "-u=0",
            "-b -g=0",
            "-t ==",
            "-t== -t z",
            "-u 0 -t=w=",
        ]),
    );
}

#[test]
fn owners_and_groups() {
    same(
        "tunctl",
        "owner",
        runs(&["-u 1000", "-u nobody", "-u root -t tap0"]),
    );
    same("tunctl", "group", runs(&["-g 1000", "-g nogroup"]));
    same(
        "tunctl",
        "owner and group",
        runs(&["-u 5 -g 7 -t x", "-u nobody -g root -t x", "-t x"]),
    );
    same(
        "tunctl",
        "hexadecimal and octal",
        runs(&["-u 0x10 -g 010", "-u +5"]),
    );
    same(
        "tunctl",
        "the last one counts",
        runs(&["-u 1 -u 2 -g 3 -g 4"]),
    );
    same(
        "tunctl",
        "neither name nor number",
        runs(&["-u nosuch", "-g nosuch", "-u 12abc", "-u 08", "-u 0x"]),
    );
    same(
        "tunctl",
        "owner in a delete",
        runs(&["-d x -u 5", "-d x -u nosuch"]),
    );
}

#[test]
fn letters_are_bundled_and_values_attached() {
    same(
        "tunctl",
        "bundled",
        runs(&["-bt q", "-bu5 -ttt", "-bu5", "-bg7ttap9"]),
    );
    same(
        "tunctl",
        "an option as a value",
        runs(&["-u -b", "-g -z", "-t -b", "-d -t"]),
    );
    same("tunctl", "two dashes", runs(&["-b --", "-- -b"]));
    same(
        "tunctl",
        "the clone device",
        runs(&[
            "-f /dev/net/tun -b",
            "-f/dev/net/tun",
            "-d tap0 -f /dev/net/tun",
        ]),
    );
}

#[test]
fn wrong_command_lines() {
    same(
        "tunctl",
        "unknown letters",
        runs(&["-z", "-h", "-bz", "-V"]),
    );
    same(
        "tunctl",
        "a missing value",
        runs(&["-u", "-g", "-t", "-d", "-f", "-bt"]),
    );
    same(
        "tunctl",
        "words too many",
        runs(&["extra", "-t a extra", "-b extra -t a", "-d a b"]),
    );
    differs(
        "tunctl",
        "help and version",
        "help",
        runs(&["--help", "--version"]),
        |reference, ours| {
            assert!(
                reference.contains("status 1") && !ours.contains("status 1"),
                "{ours}"
            );
        },
    );
    same_but_words("tunctl", "an unknown word", runs(&["--foo"]));
}

#[test]
fn refusals() {
    same_but_words(
        "tunctl",
        "no clone device",
        runs(&["-f /nonexist", "-d a -f /nonexist"]),
    );
    same_but_words(
        "tunctl",
        "another clone device",
        runs(&["-f /dev/null", "-d a -f /dev/null"]),
    );
    same_but_words(
        "tunctl",
        "the name of another device",
        runs(&["-t lo", "-d lo"]),
    );
    same_but_words(
        "tunctl",
        "bad names",
        runs(&[
            "-t a/b",
            "-t a:b",
            "-t %s",
            "-t tap%d%d",
            "-t .",
            "-t ..",
            "-t all",
            "-d a/b",
        ]),
    );
}

#[test]
fn every_refusal_begins_with_the_old_line() {
    // What a script may look for on standard error.
    for (args, line) in [
        (
            ["-f", "/nonexist"],
            "Failed to open '/nonexist' : No such file or directory",
        ),
        (
            ["-f", "/dev/null"],
            "TUNSETIFF: Inappropriate ioctl for device",
        ),
        (["-t", "lo"], "TUNSETIFF: Invalid argument"),
        (["-d", "lo"], "TUNSETIFF: Invalid argument"),
    ] {
        for binary in [bins::reference("tunctl"), bins::ours("tunctl")] {
            let finished = isolated(|| run(Command::new(&binary).args(args)));
            assert_eq!(
                finished.err().lines().next(),
                Some(line),
                "{}",
                binary.display()
            );
        }
    }
}

#[test]
fn a_device_in_use() {
    same_but_words("tunctl", "in use", |sandbox| {
        isolated(|| {
            let name: NamePattern = "held".parse().unwrap();
            let held = Device::open(&name, Mode::default(), Existing::Refuse).unwrap();
            sandbox.run(&["-t", "held"]);
            sandbox.run(&["-d", "held"]);
            drop(held);
        });
    });
}

#[test]
fn known_differences() {
    differs(
        "tunctl",
        "16 bytes",
        "tunctl-names",
        runs(&["-t abcdefghijklmnop"]),
        |reference, ours| {
            assert!(reference.contains("Set 'abcdefghijklmno' persistent"));
            assert!(ours.contains("16 bytes long, 15 are allowed"), "{ours}");
            assert!(!ours.contains("tun_flags"));
        },
    );
    differs(
        "tunctl",
        "names that terminals and tools choke on",
        "tunctl-names",
        |sandbox| {
            isolated(|| {
                for name in [&b"a\x1b[2Jb"[..], b"a\xffb"] {
                    let mut command = Command::new(sandbox.binary());
                    command.arg("-t").arg(OsStr::from_bytes(name));
                    sandbox.run_command("a name that is none", &mut command, b"");
                }
            });
        },
        |reference, ours| {
            assert!(!reference.contains("status 1"));
            assert!(!ours.contains("status 0"), "{ours}");
            assert!(ours.contains("is not UTF-8"), "{ours}");
        },
    );
    differs(
        "tunctl",
        "numbers that are no ids",
        "tunctl-ids",
        |sandbox| {
            isolated(|| {
                for text in ["", "-1", "4294967295", "99999999999"] {
                    sandbox.run(&["-u", text]);
                    sandbox.run(&["-g", text]);
                }
            });
        },
        |reference, ours| {
            assert!(!reference.contains("status 1"));
            assert!(!ours.contains("status 0"), "{ours}");
        },
    );
    differs(
        "tunctl",
        "numbers beyond 31 bits",
        "tunctl-ids",
        runs(&["-u 4294967290"]),
        |reference, ours| {
            assert!(reference.contains("owned by uid -6"));
            assert!(ours.contains("owned by uid 4294967290"), "{ours}");
        },
    );
    differs(
        "tunctl",
        "tun devices",
        "tunctl-kinds",
        runs(&["-n", "-n -t foo", "-np -t bar", "-d foo", "-nd tun0"]),
        |reference, ours| {
            assert!(reference.contains("invalid option -- 'n'"));
            assert!(
                ours.contains("tun type tun") && !ours.contains("status 1"),
                "{ours}"
            );
        },
    );
    differs(
        "tunctl",
        "an id without a meaning",
        "tunctl-half-made",
        |sandbox| {
            isolated(|| {
                let script =
                    "unshare -rn sh -c '\"$0\" -u 12345 -t x; ls /proc/sys/net/ipv4/conf' \"$0\"";
                let mut command = Command::new("sh");
                command.args(["-c", script]).arg(sandbox.binary());
                sandbox.run_command("as root of a user namespace", &mut command, b"");
            });
        },
        |reference, ours| {
            assert!(
                reference.contains("TUNSETPERSIST: Invalid argument"),
                "{reference}"
            );
            assert!(ours.contains("TUNSETOWNER: Invalid argument"), "{ours}");
            assert!(reference.contains("\n  x\n"), "{reference}");
            assert!(!ours.contains("\n  x\n"), "{ours}");
        },
    );
}
