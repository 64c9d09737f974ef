//! Kills, too little of everything, read-only file systems.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use testkit::{
    cmd::run,
    faults::{make_read_only, mount_tmpfs, starve, unmount},
    netns::isolated,
    until,
};

use crate::{
    fake::{Fake, last, tool},
    notifications::Listening,
};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_uml_mconsole"))
}

#[test]
fn a_killed_listener_makes_room_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    for round in 0..20 {
        let mut victim = tool().arg("--notify").arg(&socket).spawn().unwrap();
        // Killed at once, or when it listens in place of the one before.
        if round % 2 == 1 {
            until("a listener", || {
                let connected = UnixDatagram::unbound().unwrap().connect(&socket);
                connected.is_ok().then_some(())
            });
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    assert!(socket.exists());
    let listening = Listening::start(tool().arg("--notify").arg(&socket), &socket);
    listening.end();
    assert!(!socket.exists());
}

#[test]
fn starved_it_answers_or_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Fake::new(dir.path(), "lab1", |_| vec![last("ok")]);
    let mut answered = 0;
    starve(
        binary(),
        |command| {
            command.env("HOME", "/nonexistent").arg("--uml-dir");
            command.arg(dir.path()).args(["lab1", "version"]);
        },
        |limit, finished| {
            assert_eq!(
                finished.status.success(),
                finished.out() == "OK ok\n",
                "{limit}"
            );
            answered += usize::from(finished.status.success());
        },
    );
    assert!(answered >= 2, "{answered}");
    assert_eq!(guest.heard().len(), answered);
}

#[test]
fn full_and_read_only_file_systems_are_told() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let small = mount_tmpfs(&dir.path().join("small"), "size=64k");
        // A guest's folder there is enough to talk to it.
        let _guest = Fake::new(&small, "lab1", |_| vec![last("ok")]);
        fs::write(small.join("lab1/pid"), "1\n").unwrap();
        make_read_only(&small);
        let asked = run(tool()
            .arg("--uml-dir")
            .arg(&small)
            .args(["lab1", "version"]));
        assert_eq!(asked.success().out(), "OK ok\n");
        let refused = run(tool().arg("--notify").arg(small.join("notify")));
        assert_eq!(refused.code(), 1);
        assert!(
            refused.err().ends_with(": Read-only file system\n"),
            "{}",
            refused.err()
        );
        unmount(&small);
    });
}
