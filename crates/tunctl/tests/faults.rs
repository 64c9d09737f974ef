//! Kills at each system call, too few descriptors, too little memory, no tun driver.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path, process::Command};

use testkit::{
    cmd::{Finished, run},
    faults::{Moment, at_each_moment, mount_tmpfs, starve, was_killed},
    netns::{ip, isolated},
};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tunctl"))
}

fn tunctl(words: &str) -> Finished {
    run(Command::new(binary()).args(words.split_whitespace()))
}

/// Whether a tool with these words was killed at that moment.
fn killed_at(moment: Moment<'_>, words: &str) -> bool {
    let mut command = moment.kills(binary());
    was_killed(&run(command.args(words.split_whitespace())))
}

/// What stands in a file of this device.
fn setting(device: &str, file: &str) -> Option<String> {
    let path = Path::new("/sys/class/net").join(device).join(file);
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

#[test]
fn killed_while_a_device_is_made_it_leaves_a_whole_one_or_none() {
    isolated(|| {
        let kills = at_each_moment("openat ioctl write", |moment| {
            let killed = killed_at(moment, "-u 4711 -g 12 -t tap0");
            if let Some(owner) = setting("tap0", "owner") {
                assert_eq!(owner, "4711", "{moment:?}");
                assert_eq!(setting("tap0", "group").unwrap(), "12", "{moment:?}");
            }
            // The same command is right after both.
            let again = tunctl("-u 4711 -g 12 -t tap0").success();
            assert_eq!(
                again.out(),
                "Set 'tap0' persistent and owned by uid 4711 gid 12\n"
            );
            let _ = tunctl("-d tap0").success();
            assert_eq!(setting("tap0", "owner"), None);
            killed
        });
        assert!(kills > 8, "{kills}");
    });
}

/// A network of some taps and a bridge.
struct Network {
    _dir: tempfile::TempDir,
    /// The words that set it up.
    apply: String,
    /// The words that take it away.
    remove: String,
}

fn network() -> Network {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("network.toml");
    let text = "[[tap]]\nname = \"t%d\"\ncount = 2\nowner = 4711\n\
                [[bridge]]\nname = \"b\"\nports = \"t%d\"\naddresses = [\"10.9.8.1/24\"]\n";
    fs::write(&path, text).unwrap();
    Network {
        _dir: dir,
        apply: format!("--apply {}", path.display()),
        remove: format!("--remove {}", path.display()),
    }
}

/// The devices with their owners, ports and addresses, in order.
fn host() -> Vec<String> {
    let mut lines: Vec<String> = ip("-o addr show").lines().map(words_of).collect();
    let shown = ip("-o link show");
    let names = shown.lines().map(|line| {
        let name = line.split(": ").nth(1).unwrap();
        let name = name.split('@').next().unwrap();
        let master = line.split(" master ").nth(1);
        let master = master.and_then(|rest| rest.split(' ').next());
        let owner = setting(name, "owner");
        format!("{name} {master:?} {owner:?}")
    });
    lines.extend(names);
    lines.sort();
    lines
}

/// An address's line without its device's number.
fn words_of(line: &str) -> String {
    let words = line.split_whitespace().skip(1).take(3);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn killed_while_a_network_is_made_the_next_run_finishes_or_removes_it() {
    isolated(|| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let network = network();
        let before = host();
        let _ = tunctl(&network.apply).success();
        let after = host();
        assert_ne!(before, after);
        let _ = tunctl(&network.remove).success();
        assert_eq!(host(), before);
        let mut odd = false;
        let kills = at_each_moment("ioctl sendto write", |moment| {
            let killed = killed_at(moment, &network.apply);
            odd = !odd;
            if odd {
                let _ = tunctl(&network.apply).success();
                assert_eq!(host(), after, "{moment:?}");
            }
            let _ = tunctl(&network.remove).success();
            assert_eq!(host(), before, "{moment:?}");
            killed
        });
        assert!(kills > 20, "{kills}");
    });
}

#[test]
fn killed_while_a_network_is_removed_the_next_run_finishes() {
    isolated(|| {
        let network = network();
        let before = host();
        let kills = at_each_moment("ioctl write", |moment| {
            let _ = tunctl(&network.apply).success();
            let killed = killed_at(moment, &network.remove);
            let _ = tunctl(&network.remove).success();
            assert_eq!(host(), before, "{moment:?}");
            killed
        });
        assert!(kills > 5, "{kills}");
    });
}

#[test]
fn starved_it_makes_all_or_nothing() {
    isolated(|| {
        let network = network();
        let before = host();
        for (make, undo) in [("-t t0", "-d t0"), (&network.apply, &network.remove)] {
            let mut made = 0;
            starve(
                binary(),
                |command| {
                    command.args(make.split(' '));
                },
                |limit, finished| {
                    if finished.status.success() {
                        assert!(setting("t0", "owner").is_some(), "{limit} {make}");
                        let _ = tunctl(undo).success();
                        made += 1;
                    }
                    assert_eq!(host(), before, "{limit} {make}: {}", finished.err());
                },
            );
            assert!(made >= 2, "{make} {made}");
        }
    });
}

#[test]
fn without_the_tun_driver_nothing_changes() {
    isolated(|| {
        mount_tmpfs(Path::new("/dev/net"), "mode=755");
        let network = network();
        let before = host();
        for words in ["-t tap0", "-d tap0", &network.apply] {
            let refused = tunctl(words);
            assert_eq!(refused.code(), 1, "{words}");
            let error = refused.err();
            assert!(error.contains("/dev/net/tun"), "{words}: {error}");
            assert!(
                error.contains("No such file or directory"),
                "{words}: {error}"
            );
            assert_eq!(host(), before, "{words}");
        }
    });
}
