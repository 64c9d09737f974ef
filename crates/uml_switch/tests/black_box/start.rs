//! How the switch is started: at the same moment as others, by shells, with a log that nobody reads.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    fcntl::{Flock, FlockArg, OFlag},
    sys::signal::Signal,
    unistd::pipe2,
};
use testkit::{
    switch::{self, Plug, Switch, Version},
    until,
};

use crate::BINARY;

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut child = Command::new(BINARY)
        .args(["-unix", "ctl"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let control = dir.path().join("ctl");
    until("the control socket", || UnixStream::connect(&control).ok());
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
    // A killed switch's socket: one of this process's own might live on in a child for a moment.
    let mut dead = Switch::start(Path::new(BINARY), dir.path(), &["-unix", "ctl"]);
    assert_eq!(dead.stop(Signal::SIGKILL), 128 + 9);
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
