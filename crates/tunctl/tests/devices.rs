//! The command line beyond the tool of 2007: kinds, modes, the list, and what errors advise.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt},
    process::{Child, Command},
};

use testkit::{
    bins::installed,
    cmd::{Finished, run, until_named},
    netns::{ip, isolated},
};
use uml_core::tuntap::{Device, Existing, Mode};

fn tunctl(words: &str) -> Finished {
    run(Command::new(env!("CARGO_BIN_EXE_tunctl")).args(words.split_whitespace()))
}

/// What it printed; it must not fail.
fn made(words: &str) -> String {
    tunctl(words).success().out()
}

/// A process that is attached to a device.
struct Holder(Child);

impl Holder {
    fn of(name: &str) -> Self {
        let device = Device::open(&name.parse().unwrap(), Mode::default(), Existing::Attach);
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(device.unwrap().into_fd());
        let child = sleep.spawn().unwrap();
        until_named(&child, "sleep");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn modes_are_those_that_ip_tuntap_makes() {
    isolated(|| {
        for (ours, theirs) in [
            ("--multi-queue -t", "mode tap multi_queue"),
            ("--vnet-hdr -t", "mode tap vnet_hdr"),
            (
                "-n --multi-queue --vnet-hdr -t",
                "mode tun multi_queue vnet_hdr",
            ),
            ("-p -t", "mode tap"),
        ] {
            made(&format!("{ours} x -u 7"));
            ip(&format!("tuntap add dev y {theirs} user 7"));
            let kind = |name: &str| {
                let shown = ip(&format!("-d link show dev {name}"));
                let line = shown.lines().find(|line| line.contains("tun type"));
                line.unwrap().to_owned()
            };
            assert_eq!(kind("x"), kind("y"));
            made("-d x");
            made("-d y");
            assert!(!ip("link").contains("x:") && !ip("link").contains("y:"));
        }
    });
}

#[test]
fn the_list_tells_all() {
    isolated(|| {
        assert_eq!(made("--list --json"), "[]\n");
        made("-u root -g 4242 -t tap0");
        made("-n -u 4243 --vnet-hdr -t tun0");
        ip("addr add 192.168.5.254/32 dev tap0");
        ip("addr add 10.0.0.1/8 dev tap0");
        ip("link add br0 type bridge");
        ip("link set tap0 master br0");
        let holder = Holder::of("tap0");
        let list = made("--list");
        let rows: Vec<Vec<&str>> = list
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let user = format!("sleep({})", holder.0.id());
        assert_eq!(
            rows[1],
            [
                "tap0",
                "tap",
                "down",
                "root",
                "4242",
                "yes",
                &user,
                "br0",
                "192.168.5.254/32,10.0.0.1/8"
            ]
        );
        assert_eq!(
            rows[2],
            [
                "tun0",
                "tun,vnet-hdr",
                "down",
                "4243",
                "-",
                "yes",
                "-",
                "-",
                "-"
            ]
        );
        assert_eq!(rows.len(), 3);
        let json: serde_json::Value = serde_json::from_str(&made("--list --json")).unwrap();
        assert_eq!(
            json[0]["owner"],
            serde_json::json!({"id": 0, "name": "root"})
        );
        assert_eq!(json[0]["used_by"][0]["pid"], holder.0.id());
        assert_eq!(json[0]["addresses"][1], "10.0.0.1/8");
        assert_eq!(json[0]["bridge"], "br0");
        assert_eq!(json[1]["kind"], "tun");
        assert_eq!(json[1]["vnet_hdr"], true);
        assert_eq!(json[1]["group"], serde_json::Value::Null);
        drop(holder);
    });
}

#[test]
fn errors_say_what_to_do() {
    isolated(|| {
        made("-t tap0");
        let holder = Holder::of("tap0");
        let error = tunctl("-d tap0").err();
        let user = format!("tap0 is in use by sleep (pid {})", holder.0.id());
        assert!(error.contains(&user), "{error}");
        drop(holder);
        for (words, advice) in [
            ("-f /nonexist", "modprobe tun"),
            ("-t lo", "lo exists and is no tun or tap device"),
            (
                "-n -t tap0",
                "tap0 exists as a tap device: give -p without --multi-queue",
            ),
            ("--multi-queue -t tap0", "tap0 exists as a tap device"),
            ("-t abcdefghijklmnop", "16 bytes long, 15 are allowed"),
            (
                "-t a/b",
                "'/', ':', '%', white space and control characters are not allowed",
            ),
            ("--json", "--list"),
            ("--list -t x", "cannot be used with"),
        ] {
            let finished = tunctl(words);
            assert_eq!(finished.code(), 1, "{words}");
            assert!(
                finished.err().contains(advice),
                "{words}: {}",
                finished.err()
            );
        }
    });
}

#[test]
fn strangers_are_told_whose_right_is_missing() {
    isolated(|| {
        // Neither root nor CAP_NET_ADMIN, with a clone device and a tool that it may open.
        let for_all = |dir: tempfile::TempDir| {
            fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
            dir
        };
        let devices = for_all(tempfile::tempdir_in("/dev").unwrap());
        let tools = for_all(tempfile::tempdir().unwrap());
        let tun = devices.path().join("tun");
        let tool = tools.path().join("tunctl");
        // A process of its own writes the copy: were it this one, a command that another test starts
        // meanwhile could have the file open for writing, and the kernel would not run it.
        let mut install = Command::new(installed("install", "coreutils"));
        install.arg(env!("CARGO_BIN_EXE_tunctl")).arg(&tool);
        let _ = run(&mut install).success();
        let node = run(Command::new("mknod")
            .args(["-m", "666"])
            .arg(&tun)
            .args(["c", "10", "200"]));
        let _ = node.success();
        let stranger = |words: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            command.arg(&tool).arg("-f").arg(&tun);
            run(command.args(words.split_whitespace()))
        };
        let refused = stranger("-t tap0");
        assert_eq!(refused.code(), 1);
        assert!(
            refused
                .err()
                .starts_with("TUNSETIFF: Operation not permitted\n"),
            "{}",
            refused.err()
        );
        assert!(refused.err().contains("CAP_NET_ADMIN"), "{}", refused.err());
        // A device of the stranger's own is another matter.
        made("-u 65534 -t tap0");
        let gone = stranger("-d tap0").success();
        assert_eq!(gone.out(), "Set 'tap0' nonpersistent\n");
    });
}

#[test]
fn control_characters_of_arguments_stay_in_them() {
    isolated(|| {
        for args in [
            ["-t".as_ref(), OsStr::from_bytes(b"\x1b[2J")],
            ["-t".as_ref(), OsStr::from_bytes(b"\xff\x1b[2J")],
            ["-u".as_ref(), OsStr::from_bytes(b"\x1b[2J")],
            ["-f".as_ref(), OsStr::from_bytes(b"/nonexistent\x1b[2J")],
        ] {
            let refused = run(Command::new(env!("CARGO_BIN_EXE_tunctl")).args(args));
            assert_eq!(refused.code(), 1, "{args:?}");
            assert!(!refused.err().contains('\u{1b}'), "{}", refused.err());
        }
    });
}

#[test]
fn a_closed_standard_output_is_an_error() {
    isolated(|| {
        let script = format!("{} -b > /dev/full", env!("CARGO_BIN_EXE_tunctl"));
        let finished = run(Command::new("sh").args(["-c", &script]));
        assert_eq!(finished.code(), 1);
        assert_eq!(
            finished.err(),
            "tunctl: writing to standard output: No space left on device\n"
        );
    });
}

#[test]
fn five_hundred_devices_are_made_listed_and_removed() {
    isolated(|| {
        for number in 0..500 {
            let made = made("-b -u 1000");
            assert_eq!(made, format!("tap{number}\n"));
        }
        let listed = made("--list --json");
        let devices: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        assert_eq!(devices.len(), 500);
        assert!(devices.iter().all(|device| device["owner"]["id"] == 1000));
        assert_eq!(made("--list").lines().count(), 501);
        for number in 0..500 {
            made(&format!("-d tap{number}"));
        }
        assert_eq!(made("--list --json"), "[]\n");
    });
}
