//! The built program with a stand-in for the guest.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{Read as _, Write as _},
    os::unix::{net::UnixDatagram, process::ExitStatusExt as _},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    PATIENCE,
    cmd::{run, state, wait_for},
    fill_queue, until,
};
use uml_core::wire::mconsole::{Event, Notification};

fn watchdog() -> Command {
    Command::new(env!("CARGO_BIN_EXE_uml_watchdog"))
}

/// Starts it as a guest's kernel does, and waits until it says that it is ready.
fn ready(command: &mut Command) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [1; 1];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut byte)
        .unwrap();
    child
}

#[track_caller]
fn ends_with(mut child: Child, status: i32) {
    assert_eq!(wait_for(&mut child, PATIENCE).unwrap().code(), Some(status));
}

#[test]
fn the_end_of_its_input_calls_it_off() {
    for args in [
        ["-mconsole", "/nowhere"],
        ["-pid", &std::process::id().to_string()],
    ] {
        let mut child = ready(watchdog().args(args));
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"\n\n").unwrap();
        drop(input);
        ends_with(child, 0);
    }
}

#[test]
fn a_guest_that_ignores_sigint_is_killed() {
    let mut guest = Command::new("/bin/sh")
        .args([
            "-c",
            "trap '' INT; echo ready; while :; do read never; done",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    guest
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    let pid = guest.id().to_string();
    let mut child = ready(watchdog().args(["-pid", &pid, "--timeout", "1"]));
    let _input = child.stdin.take();
    ends_with(child, 1);
    assert_eq!(wait_for(&mut guest, PATIENCE).unwrap().signal(), Some(9));
}

#[test]
fn a_guest_that_obeys_is_asked_once() {
    let mut guest = testkit::cmd::sleeper();
    let pid = guest.id().to_string();
    let mut child = ready(watchdog().args(["-pid", &pid, "--timeout", "1"]));
    let _input = child.stdin.take();
    let status = wait_for(&mut guest, PATIENCE).unwrap();
    assert_eq!(status.signal(), Some(2));
    ends_with(child, 1);
}

#[test]
fn a_silent_guest_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut child = ready(watchdog().args(["--timeout", "1", "-mconsole"]).arg(&path));
    let _input = child.stdin.take();
    ends_with(child, 1);
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    let heard = Notification::decode(&buffer[..length]).unwrap();
    assert_eq!(
        (length, heard.event, heard.text),
        (16, Event::Hang, &b""[..])
    );
}

#[test]
fn a_listener_that_takes_nothing_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let _deaf = UnixDatagram::bind(&path).unwrap();
    assert!(fill_queue(&path) > 0);
    let mut command = watchdog();
    command.args(["--timeout", "1", "-mconsole"]).arg(&path);
    let mut child = ready(command.stderr(Stdio::piped()));
    let _input = child.stdin.take();
    let mut said = String::new();
    let mut errors = child.stderr.take().unwrap();
    // Stopped now and then, it waits no less.
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    while child.try_wait().unwrap().is_none() {
        kill(pid, Signal::SIGSTOP).unwrap();
        until("it to be stopped, or to have ended", || {
            matches!(state(child.id()), Some('T' | 'Z')).then_some(())
        });
        kill(pid, Signal::SIGCONT).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    ends_with(child, 1);
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(
        said,
        format!(
            "uml_watchdog: telling that the guest hangs to '{}': Resource temporarily unavailable\n",
            path.display()
        )
    );
}

#[test]
fn signs_of_life_are_waited_for_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut child = ready(watchdog().args(["--timeout", "10", "-mconsole"]).arg(&path));
    let mut input = child.stdin.take().unwrap();
    // Longer than the limit in all: each of them must count.
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    for _ in 0..12 {
        input.write_all(b"\n").unwrap();
        // The pause between two signs, in which nothing may be told.
        assert!(socket.recv(&mut [0; 100]).is_err());
    }
    drop(input);
    ends_with(child, 0);
}

#[test]
fn wrong_command_lines_get_the_usage() {
    for args in [
        &[][..],
        &["-pid"],
        &["-pid", "x"],
        &["-pid", "0"],
        &["-pid", "-1"],
        &["-mconsole"],
        &["-pid", "1", "-mconsole", "/x"],
        &["-pid", "1", "--timeout", "0"],
        &["-pid", "1", "--timeout", "86401"],
        &["other"],
    ] {
        let finished = run(watchdog().args(args));
        assert_eq!((finished.code(), &*finished.out()), (1, ""), "{args:?}");
        assert!(finished.err().contains("Usage : uml_watchdog"), "{args:?}");
    }
}

#[test]
fn a_process_that_is_not_there_is_said() {
    // The highest process id that Linux can ever give is 4194304.
    let finished = run(watchdog().args(["-pid", "4194305"]));
    assert_eq!((finished.code(), &*finished.out()), (1, ""));
    assert_eq!(
        finished.err(),
        "uml_watchdog: sending a signal to 'process 4194305': No such process\n"
    );
}
