//! Network namespaces of a test's own.

use std::{fs, process::Command, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{bins::installed, cmd::run, until};

/// Runs `test` in a thread that has a network namespace of its own (its loopback is up) and a
/// mount namespace of its own in which `/sys` shows that network namespace.
///
/// Commands started in it inherit both. All is gone when the thread and its children are.
/// Panics when the test does, or without root.
pub fn isolated<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let outcome = thread::scope(|scope| {
        scope
            .spawn(|| {
                enter();
                test()
            })
            .join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Puts the calling thread, and what it starts from now on, into new namespaces, as [`isolated`].
pub fn enter() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .expect("a network namespace of the test's own (root is needed)");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("mounting /sys");
    // A new network namespace forwards where the machine's first one does, for containers say.
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(forwarding).expect("whether the host forwards") != "0\n" {
        fs::write(forwarding, "0").expect("no forwarding");
    }
    ip("link set lo up");
}

/// Mounts an empty folder in memory over this one, for the calling thread and what it starts; others
/// than root may read it. Panics without a mount namespace of the test's own, as by [`isolated`].
#[track_caller]
pub fn empty(folder: &str) {
    let options = Some("mode=755");
    mount(
        Some("test"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
    .unwrap_or_else(|error| panic!("an empty {folder}: {error}"));
}

/// Waits until nobody is attached to a tap or tun device that is up: a command that another test is
/// just starting has a copy of each descriptor until it runs its program.
///
/// The device's carrier tells it at once; what `ip` shows follows when the kernel comes to it.
#[track_caller]
pub fn wait_until_free(device: &str) {
    let file = format!("/sys/class/net/{device}/carrier");
    until(&format!("nobody to be attached to {device}"), || {
        let carrier = fs::read_to_string(&file).expect("a device that is up");
        (carrier == "0\n").then_some(())
    });
}

/// Waits until a device is in this state (`up`, `down`).
///
/// The kernel comes to it some time after it has brought the device up. What `ip` shows of the
/// device changes with it, and of the routes that are there by then.
#[track_caller]
pub fn wait_for_state(device: &str, state: &str) {
    let file = format!("/sys/class/net/{device}/operstate");
    until(&format!("{device} to be {state}"), || {
        let now = fs::read_to_string(&file).expect("a device");
        (now.trim_end() == state).then_some(())
    });
}

/// Keeps the kernel from making IPv6 addresses of its own in this network namespace, whose comings
/// and goings would be seen among a test's. Panics where the kernel has no IPv6.
pub fn without_ipv6() {
    for group in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{group}/disable_ipv6");
        fs::write(path, "1").expect("no IPv6");
    }
}

/// Runs `ip WORDS…` and returns what it printed. Panics when it fails.
#[track_caller]
#[expect(
    clippy::must_use_candidate,
    reason = "most calls change something and print nothing"
)]
pub fn ip(words: &str) -> String {
    let mut command = Command::new(installed("ip", "iproute2"));
    run(command.args(words.split_whitespace())).success().out()
}
