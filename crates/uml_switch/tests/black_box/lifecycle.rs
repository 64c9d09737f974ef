//! Start, restart, the background, readiness, the end.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, symlink},
            net::{UnixDatagram, UnixListener},
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use testkit::{
    PATIENCE,
    cmd::run,
    switch::{Plug, Switch, Version, uninterrupted},
    until,
};

use crate::{BINARY, Lab};

#[test]
fn a_dead_switchs_sockets_are_replaced_and_a_live_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-unix", "ctl", "-bess", "bess", "-vde", "net"];
    let mut first = Switch::start(Path::new(BINARY), dir.path(), &args);
    assert_eq!(first.stop(Signal::SIGKILL), 128 + 9);
    assert!(dir.path().join("ctl").exists());
    let mut second = Switch::start(Path::new(BINARY), dir.path(), &args);
    for args in [
        &["-unix", "ctl"][..],
        &["-unix", "x", "-bess", "bess"],
        &["-unix", "x", "-vde", "net"],
        &["-daemon", "-unix", "ctl"],
    ] {
        let said = run(Command::new(BINARY).current_dir(dir.path()).args(args));
        assert_eq!(said.code(), 1);
        assert!(
            said.err().contains("has another server attached to it"),
            "{}",
            said.err()
        );
        assert!(!dir.path().join("x").exists(), "what was made is removed");
    }
    let guest = Plug::new(&dir.path().join("ctl"), Version::V3);
    drop(guest);
    assert_eq!(second.stop(Signal::SIGTERM), 128 + 15);
    for name in ["ctl", "bess", "net/ctl"] {
        assert!(!dir.path().join(name).exists(), "{name} stays");
    }
}

#[test]
fn a_socket_that_is_somebody_elses_by_now_stays() {
    let mut lab = Lab::new(&[]);
    fs::remove_file(lab.control()).unwrap();
    let other = UnixListener::bind(lab.control()).unwrap();
    lab.switch.stop(Signal::SIGINT);
    assert!(lab.control().exists());
    drop(other);
}

#[test]
fn a_pipe_in_a_folders_place_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    for option in ["-unix", "-bess"] {
        let said = run(Command::new(BINARY)
            .current_dir(dir.path())
            .args(["-unix", "x", option, "pipe/ctl"]));
        assert_eq!(said.code(), 1);
        assert!(said.err().contains("Not a directory"), "{}", said.err());
    }
}

#[test]
fn a_pidfile_is_written_through_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("precious"), "precious").unwrap();
    for name in ["pid", "pid.new"] {
        symlink("precious", at(name)).unwrap();
    }
    let mut command = Command::new(BINARY);
    command.args(["-unix", "ctl", "--pidfile", "pid"]);
    let mut switch = Switch::launch(dir.path(), command, Stdio::null());
    until("the pidfile", || {
        let found = fs::symlink_metadata(at("pid")).ok()?;
        found.is_file().then_some(())
    });
    let pid = u32::try_from(pid_in(&at("pid")).as_raw());
    assert_eq!(pid, Ok(switch.pid()));
    assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
    switch.stop(Signal::SIGTERM);
    assert!(!at("pid").exists() && !at("pid.new").exists());
}

#[test]
fn only_sockets_are_ever_removed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ctl"), "precious").unwrap();
    for option in ["-unix", "-bess"] {
        let said = run(Command::new(BINARY)
            .current_dir(dir.path())
            .args(["-unix", "x", option, "ctl"]));
        assert_eq!(said.code(), 1);
        assert!(said.err().contains("no socket"), "{}", said.err());
    }
    assert_eq!(fs::read(dir.path().join("ctl")).unwrap(), b"precious");
}

/// The process of that pidfile.
pub(crate) fn pid_in(file: &Path) -> Pid {
    let text = fs::read_to_string(file).unwrap();
    Pid::from_raw(text.trim_end().parse().unwrap())
}

#[test]
fn in_the_background_it_serves_and_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(Command::new(BINARY).current_dir(dir.path()).args([
        "-daemon",
        "--pidfile",
        "pid",
        "-unix",
        "ctl",
    ]))
    .success();
    // The pipes of this test came to their end though it runs.
    assert!(said.out().contains("attached to unix socket 'ctl'"));
    let control = dir.path().join("ctl");
    drop(Plug::new(&control, Version::V3));
    let pidfile = dir.path().join("pid");
    let pid = pid_in(&pidfile);
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
    kill(pid, Signal::SIGHUP).unwrap();
    until("the end of the background switch", || {
        (!control.exists() && !pidfile.exists()).then_some(())
    });
}

#[test]
fn a_background_switch_that_cannot_start_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["-daemon", "-unix", "no/such/folder"][..],
        &["-daemon", "-unix", "ctl", "--pidfile", "no/such/folder"],
        &["-daemon", "-unix", "ctl", "--user", "nobody-of-that-name"],
        &["-daemon", "-unix", "ctl", "-tap", "a/b"],
    ] {
        let said = run(Command::new(BINARY).current_dir(dir.path()).args(args));
        assert_eq!(said.code(), 1, "{args:?}");
        assert!(!said.err().is_empty());
        assert!(!dir.path().join("ctl").exists());
    }
}

#[test]
fn readiness_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(BINARY);
    command
        .args(["-unix", "ctl"])
        .env("NOTIFY_SOCKET", dir.path().join("notify"));
    let switch = Switch::launch(dir.path(), command, Stdio::null());
    let mut text = [0; 256];
    let length = uninterrupted(|| manager.recv(&mut text)).unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    assert!(text.starts_with("READY=1\n"), "{text}");
    assert!(text.contains(&format!("MAINPID={}", switch.pid())));
    drop(Plug::new(&dir.path().join("ctl"), Version::V3));
}

#[test]
fn without_anybody_to_tell_of_readiness_it_serves() {
    for name in ["no/such/folder", "@nobody-listens-there", ""] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(BINARY);
        command.args(["-unix", "ctl"]).env("NOTIFY_SOCKET", name);
        let mut switch = Switch::launch(dir.path(), command, Stdio::null());
        let words = format!("telling the service manager at '{name}': ");
        until("a word about the service manager", || {
            assert_eq!(switch.try_wait(), None, "{}", switch.errors());
            switch.errors().contains(&words).then_some(())
        });
        drop(Plug::new(&dir.path().join("ctl"), Version::V3));
        assert_eq!(switch.stop(Signal::SIGTERM), 128 + 15);
    }
}

#[test]
fn sockets_of_a_service_manager_are_used_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("given")).unwrap();
    let mut command = Command::new("sh");
    let script = format!("LISTEN_PID=$$ LISTEN_FDS=1 exec {BINARY} -unix ctl 3<&0 </dev/null");
    command.args(["-c", &script]);
    let mut switch = Switch::launch(dir.path(), command, OwnedFd::from(listener).into());
    switch.wait_for("given");
    drop(Plug::new(&dir.path().join("given"), Version::V3));
    assert!(!dir.path().join("ctl").exists());
    switch.stop(Signal::SIGTERM);
    let left = fs::symlink_metadata(dir.path().join("given")).unwrap();
    assert!(left.file_type().is_socket());
}
