//! How the binary comes by its privilege, and how little of it is there at a time.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{bins::installed, cmd::run, until};

use crate::kit::{As, Kit, NOBODY, Out, Snapshot, Stub, close, on_a_host, owner, sysctl};

const UP: &[&[u8]] = &[b"4", b"tuntap", b"up", b"192.168.78.254"];

fn status(pid: i32) -> HashMap<String, String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(key, value)| (key.to_owned(), value.replace('\t', " ")))
        .collect()
}

/// Takes the lock of all calls, as a call that takes its time.
fn hold_lock() -> Flock<File> {
    fs::create_dir_all("/run/uml_net").unwrap();
    fs::set_permissions("/run/uml_net", Permissions::from_mode(0o700)).unwrap();
    let file = File::create("/run/uml_net/lock").unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

/// Waits until a process waits for the lock: it is asleep, with the lock's file open.
fn wait_for_lock(pid: i32) {
    until("a call that waits for the lock", || {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let has_lock = fds.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|path| path.ends_with("uml_net/lock"))
        });
        let sleeps = status(pid)["State"].starts_with('S');
        (has_lock && sleeps).then_some(())
    });
}

fn pid_of(stub: &Stub) -> i32 {
    i32::try_from(stub.child.id()).unwrap()
}

#[test]
fn a_waiting_call_has_put_down_what_it_can() {
    on_a_host(|kit| {
        let lock = hold_lock();
        let wrapper = "cd /tmp; umask 0; ulimit -c unlimited; exec 5</etc/passwd;";
        let stub = Stub::start(kit.command(As::Setuid, wrapper, UP), Out::Datagrams);
        let pid = pid_of(&stub);
        wait_for_lock(pid);
        let is = status(pid);
        assert_eq!(is["NoNewPrivs"], "1");
        assert_eq!(is["Groups"].trim(), "");
        // Real, effective, saved, file system.
        assert_eq!(is["Gid"], format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}"));
        // CAP_NET_ADMIN and CAP_SETUID at most, and neither counts now.
        let permitted = u64::from_str_radix(&is["CapPrm"], 16).unwrap();
        assert_eq!(permitted, 1 << 12 | 1 << 7);
        assert_eq!(u64::from_str_radix(&is["CapEff"], 16).unwrap(), 0);
        assert_eq!(is["Uid"], format!("0 {NOBODY} 0 {NOBODY}"));
        assert_eq!(is["Umask"], "0077");
        // All signals but SIGKILL and SIGSTOP, which can't be blocked, and two of the C library's.
        let blocked = u64::from_str_radix(&is["SigBlk"], 16).unwrap();
        for signal in Signal::iterator() {
            let bit = 1_u64 << (signal as i32 - 1);
            let expected = !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP);
            assert_eq!(blocked & bit != 0, expected, "{signal}");
        }
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
        assert_eq!(link("cwd"), std::path::Path::new("/"));
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        assert!(
            core.unwrap()
                .split_whitespace()
                .eq("Max core file size 0 0 bytes".split(' '))
        );
        let inherited = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .any(|entry| {
                fs::read_link(entry.unwrap().path()).is_ok_and(|path| path.ends_with("passwd"))
            });
        assert!(!inherited);
        // Not to be dumped or traced: its files below /proc are root's.
        assert_eq!(fs::metadata(format!("/proc/{pid}/fd")).unwrap().uid(), 0);

        // Its own user can't end or stop it now, and no signal that can be blocked does.
        for signal in ["KILL", "STOP", "TERM"] {
            let setpriv = installed("setpriv", "util-linux");
            let sent = run(Command::new(setpriv)
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .args(["sh", "-c", &format!("kill -{signal} {pid}")]));
            assert_ne!(sent.code(), 0, "{signal}");
        }
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGALRM,
            Signal::SIGTSTP,
        ] {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
        drop(lock);
        let called = stub.finish();
        assert_eq!((called.code, called.descriptors.len()), (0, 1));
    });
}

#[test]
fn a_call_that_never_ends_stops_nobody_for_good() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let _lock = hold_lock();
        let called = kit.call_with(As::Setuid, Out::Datagrams, "", UP);
        assert_eq!(
            called.text(),
            "uml_net: another call of uml_net has not ended after 10 s\n"
        );
        assert_eq!(called.code, 1);
        before.assert_holds("");
    });
}

#[test]
fn calls_at_the_same_time_do_not_disturb_each_other() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let lock = hold_lock();
        let stubs: Vec<Stub> = (0..8)
            .map(|_| Stub::start(kit.command(As::Setuid, "", UP), Out::Datagrams))
            .collect();
        for stub in &stubs {
            wait_for_lock(pid_of(stub));
        }
        drop(lock);
        let called: Vec<_> = stubs.into_iter().map(Stub::finish).collect();
        let mut names: Vec<_> = called
            .iter()
            .map(|called| {
                assert_eq!(
                    (called.code, called.descriptors.len()),
                    (0, 1),
                    "{called:?}"
                );
                called.messages[0][..4].to_vec()
            })
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 8);
        close(called);
        let _ = run(&mut kit.command(As::Setuid, "", &[b"--clean"])).success();
        before.assert_holds("");
    });
}

fn clean_by_root(kit: &Kit) {
    let _ = run(&mut kit.command(As::Root, "", &[b"--clean"])).success();
}

#[test]
fn a_file_capability_is_enough() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let called = kit.call_with(As::Capability, Out::Datagrams, "", UP);
        assert_eq!(
            (called.code, called.descriptors.len()),
            (0, 1),
            "{called:?}"
        );
        let text = called.text();
        assert!(
            text.contains("* ip addr add 192.168.78.254/32 dev tap0\n")
                && text.contains("uml_net: net.ipv4.ip_forward will stay 1: no state can be kept"),
            "{text}"
        );
        assert_eq!(owner("tap0"), "65534");
        let added = kit.call(
            As::Capability,
            Out::Stream,
            "4 add tap0 192.0.2.99 255.255.255.0",
        );
        assert_eq!(
            added.text(),
            "* ip route add 192.0.2.99/32 dev tap0\n\
             * sysctl -w net.ipv4.conf.tap0.proxy_arp=1\n\
             * ip neigh add proxy 192.0.2.99 dev eth0\n"
        );
        let refused = kit.call(
            As::Capability,
            Out::Stream,
            "4 add theirs 192.0.2.98 255.255.255.0",
        );
        assert_eq!(
            refused.text(),
            "uml_net: theirs is no tap device of uid 65534\n"
        );
        // What carries its mark is undone without any state.
        let deleted = kit.call(
            As::Capability,
            Out::Stream,
            "4 del tap0 192.0.2.99 255.255.255.0",
        );
        assert_eq!(
            deleted.text(),
            "* ip neigh del proxy 192.0.2.99 dev eth0\n* ip route del 192.0.2.99/32 dev tap0\n"
        );
        close([called]);
        assert_eq!(sysctl("ip_forward"), "1");
        crate::kit::set_sysctl("ip_forward", "0");
        before.assert_holds("");
    });
}

#[test]
fn without_privilege_the_guest_is_told_how_to_give_it() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let told = |how, wrapper: &str| {
            let called = kit.call_with(how, Out::Datagrams, wrapper, UP);
            assert_eq!(called.code, 1);
            let text = called.text();
            assert!(
                text.starts_with("uml_net: uml_net has no privilege: install it setuid root"),
                "{text}"
            );
        };
        told(As::Nothing, "");
        // Under no_new_privs neither kind of privilege is given.
        let setpriv = installed("setpriv", "util-linux");
        let wrapper = format!("exec {} --no-new-privs", setpriv.display());
        for how in [As::Setuid, As::Capability] {
            // The wrapper's `exec` is followed by the kit's own.
            told(how, &format!("set -- \"$0\" \"$@\"; {wrapper} \"$@\"; "));
        }
        before.assert_holds("");
    });
}

#[test]
fn root_may_call_too() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let called = kit.call_with(As::Root, Out::Datagrams, "", UP);
        assert_eq!((called.code, called.descriptors.len()), (0, 1));
        assert_eq!(owner("tap0"), "0");
        // Somebody else's tap is somebody else's.
        let refused = kit.call(As::Root, Out::Stream, "4 add mine 192.0.2.99 255.255.255.0");
        assert_eq!(refused.text(), "uml_net: mine is no tap device of uid 0\n");
        close([called]);
        clean_by_root(kit);
        before.assert_holds("");
    });
}

#[test]
fn a_folder_of_state_that_is_not_roots_is_not_trusted() {
    on_a_host(|kit| {
        fs::create_dir("/run/uml_net").unwrap();
        fs::set_permissions("/run/uml_net", Permissions::from_mode(0o777)).unwrap();
        let called = kit.call_with(As::Setuid, Out::Datagrams, "", UP);
        assert_eq!(called.code, 0);
        assert!(called.text().ends_with(
            "uml_net: net.ipv4.ip_forward will stay 1: no state can be kept (/run/uml_net does not \
             belong to root alone)\n"
        ));
    });
}

#[test]
fn people_get_help() {
    on_a_host(|kit| {
        let help = run(&mut kit.command(As::Setuid, "", &[b"--help"])).success();
        assert!(help.out().contains("/etc/uml/uml_net.toml"));
        let version = run(&mut kit.command(As::Setuid, "", &[b"--version"])).success();
        assert_eq!(
            version.out(),
            format!("uml_net {}\n", env!("CARGO_PKG_VERSION"))
        );
        let wrong = run(&mut kit.command(As::Setuid, "", &[b"--nosuch"]));
        assert_eq!(wrong.code(), 1);
        assert!(wrong.err().contains("bad argument list"));
    });
}
