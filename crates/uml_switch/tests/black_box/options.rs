//! The options that are new.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{Group, User};
use testkit::{
    cmd::run,
    faults::Moment,
    switch::{Switch, Version, bind, connect, fresh_address, request, wait_for_close},
};

use crate::{BINARY, Lab, broadcast, say_hello};

#[test]
fn modes_and_groups_hold_for_all_sockets() {
    let nogroup = Group::from_name("nogroup").unwrap().unwrap().gid.as_raw();
    let lab = Lab::new(&[
        "-bess", "bess", "-vde", "net", "--mode", "0660", "--group", "nogroup",
    ]);
    for name in ["ctl", "bess", "net/ctl"] {
        let found = fs::metadata(lab.path(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660, "{name}");
        assert_eq!(found.gid(), nogroup, "{name}");
    }
    let folder = fs::metadata(lab.path("net")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o770);
    assert_eq!(folder.gid(), nogroup);
}

#[test]
fn a_group_that_the_sockets_have_already_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let group = nix::unistd::getegid().to_string();
    // As the unit starts it, with more options behind its own.
    let mut command = Moment {
        call: "lchown",
        time: 1,
    }
    .kills(Path::new(BINARY));
    command.args(["--mode", "0777", "--mode", "0660", "--group", &group]);
    command.args(["-vde", "net", "-unix", "ctl"]);
    let mut switch = Switch::launch(dir.path(), command, Stdio::null());
    switch.wait_for(" attached to unix socket");
    for name in ["ctl", "net/ctl"] {
        let found = fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660, "{name}");
        assert_eq!(found.gid().to_string(), group, "{name}");
    }
}

#[test]
fn it_runs_as_another_user() {
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let lab = Lab::new(&["--user", "nobody", "--mode", "777"]);
    lab.works();
    let status = fs::read_to_string(format!("/proc/{}/status", lab.switch.pid())).unwrap();
    let uids = format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", nobody.uid);
    let gids = format!("Gid:\t{0}\t{0}\t{0}\t{0}\n", nobody.gid);
    assert!(status.contains(&uids) && status.contains(&gids), "{status}");
    let groups = status.lines().find(|line| line.starts_with("Groups:"));
    assert!(!groups.unwrap().split_whitespace().any(|group| group == "0"));
}

#[test]
fn only_who_is_allowed_plugs_in() {
    let refused = |lab: &Lab| {
        let address = fresh_address();
        let _data = bind(&address);
        let mut stream = connect(&lab.control());
        // It may be closed before it is asked.
        let wanted = request(Version::V3, 0, &address);
        let _ = std::io::Write::write_all(&mut stream, &wanted);
        wait_for_close(&mut stream);
    };
    for args in [
        &["--allow-uid", "12345"][..],
        &["--allow-gid", "12345"],
        &["--ports", "0"],
    ] {
        refused(&Lab::new(args));
    }
    for args in [
        &["--allow-uid", "12345", "--allow-uid", "0"][..],
        &["--allow-uid", "12345", "--allow-gid", "0"],
    ] {
        Lab::new(args).works();
    }
}

#[test]
fn ports_are_bounded_and_come_free() {
    let mut lab = Lab::new(&["--ports", "2"]);
    let (one, other) = (lab.plug(), lab.plug());
    let address = fresh_address();
    let _data = bind(&address);
    let mut third = connect(&lab.control());
    std::io::Write::write_all(&mut third, &request(Version::V3, 0, &address)).unwrap();
    wait_for_close(&mut third);
    drop(one);
    lab.switch.wait_for("Disconnect");
    let again = lab.plug();
    say_hello(&other, 1);
    crate::exchange(&again, 2, &other, 1, b"room again");
}

#[test]
fn a_full_table_floods_and_goes_on() {
    let lab = Lab::new(&["--mac-table-size", "2"]);
    let (one, other) = (lab.plug(), lab.plug());
    for number in 0..100 {
        one.send(&broadcast(number, b"many"));
        let _ = other.recv();
    }
    lab.works();
}

#[test]
fn spinning_and_no_waiting_change_no_frame() {
    let lab = Lab::new(&["--spin", "--flow-wait", "0"]);
    lab.works();
    let lab = Lab::new(&["--spin=1000", "-hub", "-vv"]);
    lab.works();
}

#[test]
fn quiet_and_verbose() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["-unix", "ctl", "-q"]);
    let mut quiet = Switch::launch(dir.path(), command, std::process::Stdio::null());
    let control = dir.path().join("ctl");
    testkit::until("the control socket", || control.exists().then_some(()));
    testkit::until("a guest", || {
        std::os::unix::net::UnixStream::connect(&control).ok()
    });
    quiet.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(quiet.log(), "");

    let mut loud = Lab::new(&["-vv"]);
    let guest = loud.plug();
    let _other = loud.plug();
    loud.switch.wait_for("of user 0, group 0");
    guest.send(&testkit::switch::frame([2; 6], [4; 6], b""));
    loud.switch
        .wait_for("unknown Addr: 02:02:02:02:02:02 from port 1");
}

#[test]
fn wrong_values_are_wrong_command_lines() {
    for args in [
        &["--mode", "0999"][..],
        &["--mode", "7777"],
        &["--fd", "1"],
        &["--fd", "x"],
        &["--ports"],
        &["--mac-table-size", "0"],
        &["--flow-wait", "-1"],
        &["-q", "-v"],
        &["--spin=0"],
    ] {
        let said = run(Command::new(BINARY).args(args));
        assert_eq!(said.code(), 1, "{args:?}");
        assert!(said.err().contains("Usage : "), "{}", said.err());
    }
}
