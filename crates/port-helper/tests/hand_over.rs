//! The built program with a stand-in for the guest's kernel.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{IoSliceMut, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::{
            net::{UnixDatagram, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    process::{Child, Command, Stdio},
};

use nix::{
    cmsg_space,
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
    unistd::Pid,
};
use testkit::{PATIENCE, bins::installed, cmd, fill_queue, pty, until};

/// What the kernel gets: the pid, and what the descriptor is.
fn receive(socket: RawFd) -> (i32, String) {
    let mut bytes = [0; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut control = cmsg_space!([RawFd; 4]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket, &mut parts, Some(&mut control), flags).unwrap();
    let length = received.bytes;
    let descriptors = received
        .cmsgs()
        .unwrap()
        .find_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .unwrap();
    assert_eq!(descriptors.len(), 1);
    let what = fs::read_link(format!("/proc/self/fd/{}", descriptors[0])).unwrap();
    nix::unistd::close(descriptors[0]).unwrap();
    assert_eq!(length, 4);
    let pid = i32::from_ne_bytes(bytes[..4].try_into().unwrap());
    (pid, what.display().to_string())
}

fn helper() -> &'static str {
    env!("CARGO_BIN_EXE_port-helper")
}

/// The line of `/proc/PID/status` that begins so, as a number.
fn status_number(pid: i32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line[name.len()..].trim(), 16).unwrap()
}

/// It waits, whatever hangs up, until it is killed.
fn waits_until_killed(pid: i32, child: &mut Child) {
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    let sighup = 1 << (Signal::SIGHUP as i32 - 1);
    // Either ignored, or held back for good.
    let disarmed = status_number(pid, "SigBlk:") | status_number(pid, "SigIgn:");
    assert_eq!(disarmed & sighup, sighup);
    assert!(child.try_wait().unwrap().is_none());
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let status = cmd::wait_for(child, PATIENCE).unwrap();
    // `setsid --wait` turns the signal into an exit code.
    assert!(
        status.signal() == Some(15) || status.code() == Some(143),
        "{status}"
    );
}

#[test]
fn the_terminal_goes_to_the_kernel_and_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let pty::Terminal {
        mut master,
        slave,
        name,
    } = pty::open();
    let mut child = Command::new(installed("setsid", "util-linux"))
        .args(["--ctty", "--wait", helper(), "-uml-socket"])
        .arg(&path)
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    let (pid, what) = receive(socket.as_raw_fd());
    assert_eq!(what, name.display().to_string());
    // Field 7 of all, the controlling terminal's device: none.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[4], "0", "{stat}");
    waits_until_killed(pid, &mut child);
    // Nothing was said on the terminal.
    nix::fcntl::fcntl(
        &master,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .unwrap();
    assert!(!matches!(master.read(&mut [0; 100]), Ok(1..)));
}

#[test]
fn without_arguments_descriptor_3_leads_to_the_kernel() {
    let (kernel, inherited) = UnixStream::pair().unwrap();
    // A shell puts it where telnetd's caller would.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec 3<&0 0</dev/null; exec \"$0\"", helper()])
        .stdin(OwnedFd::from(inherited))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (pid, what) = receive(kernel.as_raw_fd());
    assert_eq!(what, "/dev/null");
    assert_eq!(u32::try_from(pid), Ok(child.id()));
    waits_until_killed(pid, &mut child);
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(
        said,
        "TIOCNOTTY failed in port-helper, check UML's exec call for xterm or telnetd: \
         Inappropriate ioctl for device\n"
    );
}

#[test]
fn a_kernel_that_is_not_there_is_an_error() {
    let finished = cmd::run(Command::new(helper()).args(["-uml-socket", "/no/such/socket"]));
    assert_eq!(
        finished.err(),
        "port-helper: connect '/no/such/socket': No such file or directory\n"
    );
    assert_eq!(finished.code(), 1);
    // No descriptor 3: the old one waited for ever.
    let finished = cmd::run(&mut Command::new(helper()));
    assert!(
        finished
            .err()
            .contains("port-helper: sending the terminal to 'descriptor 3': "),
        "{}",
        finished.err()
    );
    assert_eq!(finished.code(), 1);
}

#[test]
fn wrong_command_lines_get_the_usage() {
    for args in [&["-uml-socket"][..], &["other"], &["-x"]] {
        let finished = cmd::run(Command::new(helper()).args(args));
        assert_eq!((finished.code(), &*finished.out()), (1, ""), "{args:?}");
        assert!(finished.err().contains("Usage : port-helper"), "{args:?}");
    }
}

#[test]
fn a_kernel_that_is_slow_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let count = fill_queue(&path);
    let mut child = Command::new(helper())
        .arg("-uml-socket")
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    until("the helper to wait", || {
        (cmd::state(child.id()) == Some('S')).then_some(())
    });
    for _ in 0..count {
        socket.recv(&mut [0; 10]).unwrap();
    }
    let (from, _) = receive(socket.as_raw_fd());
    assert_eq!(from, pid);
    waits_until_killed(pid, &mut child);
}
